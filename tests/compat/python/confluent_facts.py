"""confluent-kafka (librdkafka). Usage: confluent_facts.py BOOTSTRAP TOPIC"""

import sys
from contextlib import contextmanager

from confluent_kafka import (
    OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, Producer, TopicCollection, TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ConfigSource, NewPartitions, NewTopic, OffsetSpec, ResourceType,
)

from scenario import Record, Scenario, gather

SPECS = {"earliest": OffsetSpec.earliest(), "latest": OffsetSpec.latest()}


class Confluent:
    null_headers = True
    null_records = True

    def __init__(self, bootstrap):
        self.settings = {"bootstrap.servers": bootstrap}
        self.admin = AdminClient(self.settings)

    def cluster(self):
        cluster = self.admin.describe_cluster().result()
        return cluster.cluster_id, [node.id for node in cluster.nodes], cluster.controller.id

    def create_topic(self, topic, partitions):
        one(self.admin.create_topics([NewTopic(topic, partitions, 1)]))

    def topic(self, topic):
        described = one(self.admin.describe_topics(TopicCollection([topic])))
        return {p.id: (p.leader.id, [node.id for node in p.isr]) for p in described.partitions}

    def add_partitions(self, topic, partitions):
        one(self.admin.create_partitions([NewPartitions(topic, partitions)]))

    def delete_topic(self, topic):
        one(self.admin.delete_topics([topic]))

    def produce(self, topic, records, codec="none", acks="all", idempotent=False):
        producer = Producer(self.settings | {
            "compression.type": codec, "acks": acks, "enable.idempotence": idempotent, "linger.ms": 5,
            "message.max.bytes": 2_000_000, "message.timeout.ms": 30_000})
        errors = []
        for r in records:
            producer.produce(topic, r.value, r.key, partition=r.partition, timestamp=r.timestamp, headers=r.headers,
                             on_delivery=lambda error, _: errors.append(error) if error else None)
        if producer.flush(30) > 0:
            raise TimeoutError("not delivered in 30 s")
        if errors:
            raise KafkaException(errors[0])

    def consumer(self, topic, partitions, offset):
        # A group id is required to exist; assigned partitions and no commits never use it.
        consumer = Consumer(self.settings | {
            "group.id": "only-a-name", "enable.auto.commit": False, "auto.offset.reset": "error",
            "enable.partition.eof": offset == OFFSET_END})
        consumer.assign([TopicPartition(topic, p, offset) for p in partitions])
        return consumer

    def gather(self, consumer, count):
        def poll():
            return [seen(m) for m in consumer.consume(count, 0.5) if not at_end(m)]
        try:
            return gather(poll, count)
        finally:
            consumer.close()

    def read(self, topic, partition, offset, count):
        return self.gather(self.consumer(topic, [partition], offset), count)

    def read_beginning(self, topic, partitions, count):
        return self.gather(self.consumer(topic, partitions, OFFSET_BEGINNING), count)

    def read_end(self, topic, partition, then):
        consumer = self.consumer(topic, [partition], OFFSET_END)
        message = consumer.poll(30)
        if message is None or not at_end(message):
            raise AssertionError(f"expected the end, seen {message}")
        then()
        return self.gather(consumer, 1)

    def group(self, group, reset="error"):
        return Consumer(self.settings | {
            "group.id": group, "enable.auto.commit": False, "auto.offset.reset": "error" if reset == "none" else reset})

    def commit(self, group, topic, partition, offset, note):
        consumer = self.group(group)
        [done] = consumer.commit(offsets=[TopicPartition(topic, partition, offset, note)], asynchronous=False)
        consumer.close()
        if done.error:
            raise KafkaException(done.error)

    def committed(self, group, topic, partition):
        consumer = self.group(group)
        [seen] = consumer.committed([TopicPartition(topic, partition)], 30)
        consumer.close()
        return seen.offset, seen.metadata

    @contextmanager
    def member(self, group, topic, reset, at=None):
        consumer = self.group(group, reset)

        def assigned(consumer, partitions):
            if at is not None:
                partitions = consumer.offsets_for_times([TopicPartition(topic, p.partition, at) for p in partitions], 30)
            consumer.assign(partitions)
        consumer.subscribe([topic], on_assign=assigned)
        try:
            yield lambda: [seen(m) for m in consumer.consume(1000, 1)]
        finally:
            consumer.close()

    def is_no_offset(self, error):
        return error.args[0].code() == KafkaError._AUTO_OFFSET_RESET

    def offset(self, topic, partition, spec):
        spec = SPECS.get(spec) or OffsetSpec.for_timestamp(spec)
        offset = one(self.admin.list_offsets({TopicPartition(topic, partition): spec})).offset
        return None if offset == -1 else offset

    def delete_before(self, topic, partition, offset):
        return one(self.admin.delete_records([TopicPartition(topic, partition, offset)])).low_watermark

    def config(self, topic, key):
        entry = one(self.admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]))[key]
        return entry.value, entry.source == ConfigSource.DEFAULT_CONFIG.value

    def set_config(self, topic, key, value):
        operation = AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET
        entry = ConfigEntry(key, value, incremental_operation=operation)
        one(self.admin.incremental_alter_configs(
            [ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])]))

    def close(self):
        pass

    def code(self, error):
        return error.args[0].code()


def one(futures):
    [future] = futures.values()
    return future.result(30)


def at_end(message):
    return message.error() is not None and message.error().code() == KafkaError._PARTITION_EOF


def seen(message):
    if message.error():
        raise KafkaException(message.error())
    return Record(message.partition(), message.offset(), message.timestamp()[1],
                  message.key(), message.value(), message.headers() or [])


if __name__ == "__main__":
    Scenario(Confluent(sys.argv[1]), sys.argv[2]).run()
