"""A member of a group with aiokafka. Usage: aiokafka_member.py BOOTSTRAP GROUP TOPIC PROTOCOL [INSTANCE]"""

import asyncio

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import KafkaError

from member import HEARTBEAT_MS, Stop, arguments, session_ms, tell

ASSIGNORS = {"range": RangePartitionAssignor, "roundrobin": RoundRobinPartitionAssignor}


class Listener(ConsumerRebalanceListener):
    def __init__(self, consumer):
        self.consumer = consumer

    async def on_partitions_assigned(self, assigned):
        tell("assigned", partitions=[tp.partition for tp in assigned],
             generation=self.consumer._coordinator.generation)

    async def on_partitions_revoked(self, revoked):
        tell("revoked", partitions=[tp.partition for tp in revoked])


async def main():
    bootstrap, group, topic, protocol, instance = arguments()
    stop = Stop()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, group_id=group, group_instance_id=instance, enable_auto_commit=False,
        auto_offset_reset="earliest", session_timeout_ms=session_ms(instance), heartbeat_interval_ms=HEARTBEAT_MS,
        partition_assignment_strategy=[ASSIGNORS[protocol]])
    consumer.subscribe([topic], listener=Listener(consumer))
    await consumer.start()
    while not stop.asked:
        records = await consumer.getmany(timeout_ms=200)
        for tp, batch in records.items():
            tell("records", partition=tp.partition, offsets=[record.offset for record in batch])
        if records:
            offsets = {tp: batch[-1].offset + 1 for tp, batch in records.items()}
            try:
                await consumer.commit(offsets)
                tell("committed", offsets={tp.partition: offset for tp, offset in offsets.items()})
            except KafkaError as why:
                tell("refused", why=type(why).__name__)
    await consumer.stop()
    tell("closed")


asyncio.run(main())
