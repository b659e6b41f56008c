"""aiokafka. Usage: aiokafka_facts.py BOOTSTRAP TOPIC"""

import asyncio
import sys
from contextlib import contextmanager

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import NoOffsetForPartitionError, for_code

from scenario import Record, Scenario

ACKS = {"all": "all", "1": 1, "0": 0}
DEFAULT_CONFIG = 5


class AioKafka:
    """Each method runs its coroutine to the end on one event loop."""

    null_headers = True
    null_records = False  # "Need at least one: key or value"

    def __init__(self, bootstrap):
        self.settings = {"bootstrap_servers": bootstrap}
        self.loop = asyncio.new_event_loop()
        self.run = self.loop.run_until_complete
        self.admin = self.run(self.started(AIOKafkaAdminClient))

    async def started(self, kind, **settings):
        client = kind(**self.settings, **settings)
        await client.start()
        return client

    def cluster(self):
        cluster = self.run(self.admin.describe_cluster())
        return cluster["cluster_id"], [b["node_id"] for b in cluster["brokers"]], cluster["controller_id"]

    def create_topic(self, topic, partitions):
        response = self.run(self.admin.create_topics([NewTopic(topic, partitions, 1)]))
        [(_, code, *_)] = response.topic_errors
        checked(code, topic)

    def topic(self, topic):
        [described] = self.run(self.admin.describe_topics([topic]))
        checked(described["error_code"], topic)
        return {p["partition"]: (p["leader"], p["isr"]) for p in described["partitions"]}

    def add_partitions(self, topic, partitions):
        self.run(self.admin.create_partitions({topic: NewPartitions(partitions)}))

    def delete_topic(self, topic):
        response = self.run(self.admin.delete_topics([topic]))
        [(_, code)] = response.topic_error_codes
        checked(code, topic)

    def produce(self, topic, records, codec="none", acks="all", idempotent=False):
        async def send():
            producer = await self.started(
                AIOKafkaProducer, compression_type=None if codec == "none" else codec, acks=ACKS[acks],
                enable_idempotence=idempotent, max_request_size=2_000_000)
            try:
                sent = [await producer.send(topic, r.value, r.key, r.partition, r.timestamp, r.headers) for r in records]
                await asyncio.wait_for(asyncio.gather(*sent), 30)
            finally:
                await producer.stop()
        self.run(send())

    def consumer(self, topic, partitions):
        async def assigned():
            consumer = await self.started(
                AIOKafkaConsumer, group_id=None, auto_offset_reset="none", max_partition_fetch_bytes=2_000_000)
            consumer.assign([TopicPartition(topic, p) for p in partitions])
            return consumer
        return self.run(assigned())

    def gather(self, consumer, count):
        async def receive():
            try:
                return [await consumer.getone() for _ in range(count)]
            finally:
                await consumer.stop()
        return [seen(m) for m in self.run(asyncio.wait_for(receive(), 30))]

    def read(self, topic, partition, offset, count):
        consumer = self.consumer(topic, [partition])
        consumer.seek(TopicPartition(topic, partition), offset)
        return self.gather(consumer, count)

    def read_beginning(self, topic, partitions, count):
        consumer = self.consumer(topic, partitions)
        self.run(consumer.seek_to_beginning())
        return self.gather(consumer, count)

    def read_end(self, topic, partition, then):
        consumer = self.consumer(topic, [partition])
        self.run(consumer.seek_to_end())
        self.run(consumer.position(TopicPartition(topic, partition)))  # looked up now, before anything is produced
        then()
        return self.gather(consumer, 1)

    def commit(self, group, topic, partition, offset, note):
        tp = TopicPartition(topic, partition)

        async def commit():
            consumer = await self.started(AIOKafkaConsumer, group_id=group, enable_auto_commit=False)
            try:
                consumer.assign([tp])
                await consumer.commit({tp: (offset, note)})
            finally:
                await consumer.stop()
        self.run(commit())

    def committed(self, group, topic, partition):
        # The consumer keeps the metadata to itself.
        listed = self.run(self.admin.list_consumer_group_offsets(group))
        seen = listed[TopicPartition(topic, partition)]
        return seen.offset, seen.metadata

    @contextmanager
    def member(self, group, topic, reset, at=None):
        async def started():
            consumer = AIOKafkaConsumer(
                topic, **self.settings, group_id=group, enable_auto_commit=False, auto_offset_reset=reset)
            await consumer.start()
            if at is not None:
                while not consumer.assignment():
                    await consumer.getmany(timeout_ms=200)
                for tp, found in (await consumer.offsets_for_times({tp: at for tp in consumer.assignment()})).items():
                    consumer.seek(tp, found.offset)
            return consumer
        consumer = self.run(asyncio.wait_for(started(), 30))

        def poll():
            batches = self.run(consumer.getmany(timeout_ms=500))
            return [seen(m) for messages in batches.values() for m in messages]
        try:
            yield poll
        finally:
            self.run(consumer.stop())

    def is_no_offset(self, error):
        return isinstance(error, NoOffsetForPartitionError)

    def offset(self, topic, partition, spec):
        async def look():
            consumer = await self.started(AIOKafkaConsumer)
            tp = TopicPartition(topic, partition)
            try:
                if spec == "earliest":
                    return (await consumer.beginning_offsets([tp]))[tp]
                if spec == "latest":
                    return (await consumer.end_offsets([tp]))[tp]
                found = (await consumer.offsets_for_times({tp: spec}))[tp]
                return found and found.offset
            finally:
                await consumer.stop()
        return self.run(look())

    def delete_before(self, topic, partition, offset):
        tp = TopicPartition(topic, partition)
        return self.run(self.admin.delete_records({tp: RecordsToDelete(offset)}))[tp]

    def config(self, topic, key):
        [response] = self.run(self.admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)]))
        [(code, _, _, _, entries)] = response.resources
        checked(code, topic)
        [(value, source)] = [(e[1], e[3]) for e in entries if e[0] == key]
        return value, source == DEFAULT_CONFIG

    def set_config(self, topic, key, value):
        # AlterConfigs (not the incremental form): what is not named goes back to its default.
        changes = {} if value is None else {key: value}
        [response] = self.run(self.admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, changes)]))
        [(code, *_)] = response.resources
        checked(code, topic)

    def close(self):
        self.run(self.admin.close())

    def code(self, error):
        return error.errno


def seen(m):
    return Record(m.partition, m.offset, m.timestamp, m.key, m.value, list(m.headers))


def checked(code, what):
    if code:
        raise for_code(code)(what)


if __name__ == "__main__":
    Scenario(AioKafka(sys.argv[1]), sys.argv[2]).run()
