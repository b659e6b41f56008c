// A member of a group with kafkajs, until SIGTERM. Prints its life as JSON lines, see ../README.md.
// Usage: member.js BOOTSTRAP GROUP TOPIC PROTOCOL
//
// kafkajs has one assignor, and tells neither what is revoked nor its generation in one place: the join
// tells the assignment, the heartbeats the generation.
const { Kafka, logLevel } = require('kafkajs')

const [bootstrap, groupId, topic] = process.argv.slice(2)
const kafka = new Kafka({
  brokers: [bootstrap],
  logLevel: logLevel.NOTHING,
  retry: { retries: 1000, initialRetryTime: 100, maxRetryTime: 300 },
})
const consumer = kafka.consumer({
  groupId, sessionTimeout: 6000, heartbeatInterval: 500, rebalanceTimeout: 20000, maxWaitTimeInMs: 200,
})
let owned = []

function tell(event, more) {
  const at = BigInt(Math.round((performance.timeOrigin + performance.now()) * 1000))
  process.stdout.write(`{"at":${at},"event":"${event}"${more ? ',' + JSON.stringify(more).slice(1, -1) : ''}}\n`)
}

function giveUp() {
  if (owned.length) tell('revoked', { partitions: owned })
  owned = []
}

consumer.on(consumer.events.REBALANCING, giveUp)
consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
  giveUp()
  owned = payload.memberAssignment[topic] ?? []
  tell('assigned', { partitions: owned })
})

async function main() {
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  await consumer.run({
    autoCommit: false,
    eachBatch: async ({ batch, commitOffsetsIfNecessary }) => {
      const offsets = batch.messages.map((message) => Number(message.offset))
      tell('records', { partition: batch.partition, offsets })
      const next = offsets.at(-1) + 1
      // Not consumer.commitOffsets: that wraps a refusal, the runner does not see that the member is
      // unknown, and ends instead of joining again.
      await commitOffsetsIfNecessary({ topics: [{ topic, partitions: [{ partition: batch.partition, offset: String(next) }] }] })
      tell('committed', { offsets: { [batch.partition]: next } })
    },
  })
}

process.on('SIGTERM', async () => {
  await consumer.disconnect()
  tell('closed')
  process.exit(0)
})
main()
