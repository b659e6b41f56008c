// The scenario of ../README.md with kafkajs. Usage: facts.js BOOTSTRAP TOPIC
//
// The consumer of kafkajs only reads in groups, so records are read with its own broker connection
// (Fetch and ListOffsets as it encodes and decodes them), which it does not document.
const assert = require('node:assert/strict')
const crypto = require('node:crypto')
const { Kafka, CompressionTypes, CompressionCodecs, ConfigResourceTypes, ConfigSource, logLevel } = require('kafkajs')
const lz4 = require('lz4-napi')
const snappy = require('kafkajs-snappy')
const zstd = require('@bokuweb/zstd-wasm')

const [bootstrap, topic] = process.argv.slice(2)
const edge = `${topic}-edge`
const base = Math.floor(Date.now() / 1000) * 1000 - 3_600_000
const codecs = ['none', 'gzip', 'snappy', 'lz4', 'zstd']
const acksNumber = { all: -1, 1: 1, 0: 0 }
const EARLIEST = -2, LATEST = -1

CompressionCodecs[CompressionTypes.Snappy] = snappy
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: (encoder) => lz4.compressFrame(encoder.buffer),
  decompress: (buffer) => lz4.decompressFrame(buffer),
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async (encoder) => Buffer.from(zstd.compress(encoder.buffer)),
  decompress: async (buffer) => Buffer.from(zstd.decompress(buffer)),
})

const kafka = new Kafka({ brokers: [bootstrap], logLevel: logLevel.NOTHING, retry: { retries: 3 } })
const admin = kafka.admin()
const createCluster = Object.getOwnPropertySymbols(kafka).find((s) => s.description === 'private:Kafka:createCluster')
const cluster = kafka[createCluster]({ allowAutoTopicCreation: false, isolationLevel: 0, metadataMaxAge: 0 })
let failed = false

async function main() {
  await zstd.init()
  await admin.connect()
  await cluster.connect()
  await fact('cluster-described', clusterDescribed)
  await fact('topic-created', topicCreated)
  await fact('topic-exists-refused', () => refused(36, async () => {
    // admin.createTopics answers false for this error alone
    if (!(await admin.createTopics({ topics: [{ topic, numPartitions: 6 }] }))) throw Object.assign(new Error(), { code: 36 })
  }))
  await fact('topic-described', () => described(6))
  await fact('unknown-topic-refused', () => refused(3, () => admin.fetchTopicMetadata({ topics: [`${topic}-unknown`] })))
  for (const codec of codecs) await fact(`produced-${codec}`, () => produced(codec))
  await fact('idempotent', idempotent)
  await fact('from-beginning', fromBeginning)
  await fact('from-end', fromEnd)
  await fact('from-timestamp', async () => {
    const [first] = await read(topic, 0, await offset(topic, 0, base + 29_500), 30)
    assert.deepEqual([first.offset, first.timestamp], ['30', String(base + 30_000)])
  })
  await fact('earliest-and-latest', async () => {
    const [zero] = (await admin.fetchTopicOffsets(topic)).filter((p) => p.partition === 0)
    assert.deepEqual([zero.low, zero.high], ['0', '60'])
  })
  await fact('offset-for-timestamp', async () => {
    assert.equal(await offset(topic, 0, base + 30_000), 30)
    assert.equal(await offset(topic, 0, base + 3_000_000), -1)
  })
  await fact('committed-with-metadata', committedWithMetadata)
  await fact('reset-earliest', () => firstOfEach('0', { fromBeginning: true }))
  await fact('reset-latest', resetLatest)
  console.log('n/a reset-none: where nothing is committed, a group begins at one end or the other')
  await fact('group-seeks-to-time', () => firstOfEach('30', { fromBeginning: false, at: base + 29_500 }))
  await fact('large-record', async () => {
    const sent = [message(0, base, null, crypto.randomBytes(900_000))]
    await produce(edge, sent)
    same(await read(edge, 0, 0, 1), 0, sent)
  })
  await fact('too-large-refused', async () => {
    await refused(10, () => produce(edge, [message(0, base, null, crypto.randomBytes(1_100_000))]))
    assert.equal(await offset(edge, 0, LATEST), 1)
  })
  await fact('headers', headers)
  await fact('nulls-and-empties', async () => {
    const empty = Buffer.alloc(0)
    const sent = [[null, Buffer.from('v')], [Buffer.from('k'), null], [empty, empty], [null, null]]
      .map(([key, value]) => message(0, base, key, value))
    await produce(edge, sent)
    same(await read(edge, 0, 2, 4), 2, sent)
  })
  await fact('records-deleted', async () => {
    await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '10' }] })
    assert.equal(await offset(topic, 0, EARLIEST), 10)
    assert.equal((await read(topic, 0, 10, 50))[0].offset, '10')
    await refused(1, () => read(topic, 0, 3, 1))
  })
  await fact('configs-described', () => configIs('604800000', true))
  await fact('config-altered', async () => {
    await alter([{ name: 'retention.ms', value: '3600000' }])
    await eventually(() => configIs('3600000', false))
    await alter([])
    await eventually(() => configIs('604800000', true))
  })
  await fact('wrong-config-refused', async () => {
    await refused(40, () => alter([{ name: 'retention.sm', value: '1' }]))
    await refused(40, () => alter([{ name: 'retention.ms', value: 'long' }]))
    await configIs('604800000', true)
  })
  await fact('partitions-added', async () => {
    await refused(37, () => admin.createPartitions({ topicPartitions: [{ topic, count: 3 }] }))
    await admin.createPartitions({ topicPartitions: [{ topic, count: 8 }] })
    await eventually(() => described(8))
  })
  await fact('topic-deleted', async () => {
    await admin.deleteTopics({ topics: [topic, edge] })
    await eventually(() => refused(3, () => admin.fetchTopicMetadata({ topics: [topic] })))
    assert.equal((await admin.listTopics()).includes(topic), false)
  })
  await admin.disconnect()
  await cluster.disconnect()
  process.exit(failed ? 1 : 0)
}

async function clusterDescribed() {
  const described = await admin.describeCluster()
  assert.notEqual(described.clusterId, '')
  assert.deepEqual(described.brokers.map((b) => b.nodeId), [described.controller])
}

async function topicCreated() {
  const topics = [{ topic, numPartitions: 6, replicationFactor: 1 }, { topic: edge, numPartitions: 1, replicationFactor: 1 }]
  assert.equal(await admin.createTopics({ topics }), true)
  for (const one of [topic, edge]) await eventually(() => cluster.addTargetTopic(one))
}

async function described(partitions) {
  const { topics: [{ partitions: seen }] } = await admin.fetchTopicMetadata({ topics: [topic] })
  seen.sort((a, b) => a.partitionId - b.partitionId)
  assert.deepEqual(seen.map((p) => p.partitionId), [...Array(partitions).keys()])
  for (const p of seen) assert.deepEqual(p.isr, [p.leader])
}

async function produced(codec) {
  const partition = codecs.indexOf(codec)
  const every = []
  for (const acks of ['all', '1', '0']) {
    const sent = []
    for (let n = every.length; n < every.length + 20; n++) {
      sent.push(message(partition, base + 1000 * n, Buffer.from(`key-${n}`), Buffer.from(`${codec}-${acks}-${n};`.repeat(20))))
    }
    await produce(topic, sent, { acks: acksNumber[acks], compression: codecs.indexOf(codec) })
    every.push(...sent)
  }
  same(await read(topic, partition, 0, 60), 0, every)
}

async function idempotent() {
  const sent = [...Array(100).keys()].map((n) =>
    message(5, base + 1000 * n, Buffer.from(`key-${n % 7}`), Buffer.from(`idempotent-${n}`)))
  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  for (let n = 0; n < 100; n += 10) await producer.send({ topic, acks: -1, messages: sent.slice(n, n + 10) })
  await producer.disconnect()
  same(await read(topic, 5, 0, 100), 0, sent)
}

async function fromBeginning() {
  for (const [partition, count] of [60, 60, 60, 60, 60, 100].entries()) {
    const seen = await read(topic, partition, await offset(topic, partition, EARLIEST), count)
    assert.deepEqual(seen.map((m) => Number(m.offset)), [...Array(count).keys()])
  }
}

async function fromEnd() {
  const end = await offset(topic, 5, LATEST)
  const sent = [message(5, base + 100_000, Buffer.from('tail'), Buffer.from('tail'))]
  const reading = read(topic, 5, end, 1) // the fetch waits at the end while the record is produced
  await produce(topic, sent)
  same(await reading, 100, sent)
}

async function committedWithMetadata() {
  const groupId = `${topic}-notes`
  const consumer = await member(groupId, { fromBeginning: true }, async () => {})
  try {
    await consumer.commitOffsets([{ topic, partition: 1, offset: '7', metadata: 'a note, ümlaut' }])
  } finally {
    await consumer.disconnect()
  }
  const [{ partitions }] = await admin.fetchOffsets({ groupId, topics: [topic] })
  const { offset, metadata } = partitions.find((p) => p.partition === 1)
  assert.deepEqual([offset, metadata], ['7', 'a note, ümlaut'])
}

// A new group, in which each partition begins at the offset.
async function firstOfEach(offset, how) {
  const first = {}
  const consumer = await member(`${topic}-${offset}`, how, async ({ batch }) => {
    first[batch.partition] ??= batch.messages[0].offset
  })
  try {
    await eventually(async () => assert.deepEqual(first, Object.fromEntries([...Array(6).keys()].map((p) => [p, offset]))))
  } finally {
    await consumer.disconnect()
  }
}

async function resetLatest() {
  const end = await offset(topic, 5, LATEST)
  const seen = []
  const consumer = await member(`${topic}-latest`, { fromBeginning: false }, async ({ batch }) => { seen.push(batch) })
  try {
    await eventually(async () => {
      await produce(topic, [message(5, base, Buffer.from('late'), Buffer.from('late'))])
      assert.notEqual(seen.length, 0)
    })
  } finally {
    await consumer.disconnect()
  }
  for (const batch of seen) assert.equal(batch.partition === 5 && Number(batch.messages[0].offset) >= end, true)
}

// A member that has begun to read; at a time, it has moved there before that.
async function member(groupId, { fromBeginning, at }, eachBatch) {
  const consumer = kafka.consumer({ groupId, maxWaitTimeInMs: 200 })
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning })
  const offsets = at && await admin.fetchTopicOffsetsByTimestamp(topic, at)
  consumer.on(consumer.events.GROUP_JOIN, () => {
    for (const { partition, offset } of offsets ?? []) consumer.seek({ topic, partition, offset })
  })
  // Before that, commits are not sent, and nobody is told.
  const reads = new Promise((resolve) => consumer.on(consumer.events.FETCH_START, resolve))
  await consumer.run({ autoCommit: false, eachBatch })
  await reads
  return consumer
}

async function headers() {
  // kafkajs cannot send a null header, and keeps the order only within one name
  const sent = { a: ['1', '2'], empty: '', bytes: Buffer.from([0, 255, 10]) }
  await produce(edge, [{ ...message(0, base, Buffer.from('h'), Buffer.from('v')), headers: sent }])
  const [seen] = await read(edge, 0, 1, 1)
  assert.deepEqual(seen.headers, { a: [Buffer.from('1'), Buffer.from('2')], empty: Buffer.alloc(0), bytes: Buffer.from([0, 255, 10]) })
}

async function configIs(value, isDefault) {
  const { resources: [{ configEntries }] } = await admin.describeConfigs({
    includeSynonyms: false, resources: [{ type: ConfigResourceTypes.TOPIC, name: topic, configNames: ['retention.ms'] }] })
  assert.deepEqual(configEntries.map((c) => [c.configName, c.configValue, c.configSource === ConfigSource.DEFAULT_CONFIG]),
    [['retention.ms', value, isDefault]])
}

// AlterConfigs (not the incremental form): what is not named goes back to its default.
async function alter(configEntries) {
  await admin.alterConfigs({ resources: [{ type: ConfigResourceTypes.TOPIC, name: topic, configEntries }] })
}

// What the facts are made of.

async function fact(name, check) {
  try {
    await check()
    console.log(`ok ${name}`)
  } catch (why) {
    failed = true
    console.log(`FAIL ${name}: ${String(why.message).replaceAll('\n', ' ').slice(0, 2000)}`)
  }
}

async function refused(code, call) {
  try {
    await call()
  } catch (error) {
    const seen = error.code ?? error.cause?.code ?? error.errors?.[0]?.code ?? String(error)
    assert.equal(seen, code)
    return
  }
  assert.fail(`expected error ${code}, it succeeded`)
}

// Metadata may arrive a moment after the change is acknowledged: 10 s at most.
async function eventually(check) {
  for (const deadline = Date.now() + 10_000; ;) {
    try {
      return await check()
    } catch (why) {
      if (Date.now() > deadline) throw why
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }
}

function message(partition, timestamp, key, value) {
  return { partition, timestamp: String(timestamp), key, value }
}

async function produce(topic, messages, { acks = -1, compression = CompressionTypes.None } = {}) {
  const producer = kafka.producer({ allowAutoTopicCreation: false, retry: { retries: 1 } })
  await producer.connect()
  try {
    await producer.send({ topic, acks, compression, messages })
  } finally {
    await producer.disconnect()
  }
}

async function leader(topic, partition) {
  const [nodeId] = Object.keys(cluster.findLeaderForPartitions(topic, [partition]))
  return cluster.findBroker({ nodeId })
}

async function read(topic, partition, from, count) {
  const broker = await leader(topic, partition)
  const records = []
  for (const deadline = Date.now() + 30_000; records.length < count && Date.now() < deadline;) {
    const next = records.length === 0 ? from : Number(records.at(-1).offset) + 1
    const { responses } = await broker.fetch({
      maxWaitTime: 500, minBytes: 1, maxBytes: 4_000_000, isolationLevel: 0,
      topics: [{ topic, partitions: [{ partition, fetchOffset: String(next), maxBytes: 2_000_000 }] }],
    })
    records.push(...responses[0].partitions[0].messages.filter((m) => Number(m.offset) >= next))
  }
  assert.equal(records.length, count)
  return records
}

async function offset(topic, partition, when) {
  const broker = await leader(topic, partition)
  const { responses } = await broker.listOffsets({
    isolationLevel: 0, topics: [{ topic, partitions: [{ partition, timestamp: when }] }] })
  return Number(responses[0].partitions[0].offset)
}

function same(seen, offset, sent) {
  assert.deepEqual(
    seen.map(({ offset, timestamp, key, value }) => ({ offset, timestamp, key, value })),
    sent.map(({ timestamp, key, value }, n) => ({ offset: String(offset + n), timestamp, key, value })))
}

main()
