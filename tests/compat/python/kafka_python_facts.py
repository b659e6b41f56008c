"""kafka-python. Usage: kafka_python_facts.py BOOTSTRAP TOPIC"""

import re
import sys
from contextlib import contextmanager

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource
from kafka.errors import NoOffsetForPartitionError, for_code
from kafka.structs import OffsetAndMetadata

from scenario import Record, Scenario, gather

ACKS = {"all": "all", "1": 1, "0": 0}
SPECS = {"earliest": -2, "latest": -1}


class KafkaPython:
    null_headers = False  # "All headers items must be (str, bytes) tuples"
    null_records = False  # "Need at least one: key or value"

    def __init__(self, bootstrap):
        self.settings = {"bootstrap_servers": bootstrap}
        self.admin = KafkaAdminClient(**self.settings)

    def cluster(self):
        cluster = self.admin.describe_cluster()
        return cluster["cluster_id"], [b["broker_id"] for b in cluster["brokers"]], cluster["controller_id"]

    def create_topic(self, topic, partitions):
        self.admin.create_topics({topic: {"num_partitions": partitions, "replication_factor": 1}})

    def topic(self, topic):
        [described] = self.admin.describe_topics([topic])
        if described["error_code"]:
            raise for_code(described["error_code"])(topic)
        return {p["partition_index"]: (p["leader_id"], p["isr_nodes"]) for p in described["partitions"]}

    def add_partitions(self, topic, partitions):
        self.admin.create_partitions({topic: partitions})

    def delete_topic(self, topic):
        self.admin.delete_topics([topic])

    def produce(self, topic, records, codec="none", acks="all", idempotent=False):
        producer = KafkaProducer(
            **self.settings, compression_type=None if codec == "none" else codec, acks=ACKS[acks],
            enable_idempotence=idempotent, max_request_size=2_000_000, linger_ms=5)
        try:
            sent = [producer.send(topic, r.value, r.key, r.headers, r.partition, r.timestamp) for r in records]
            for future in sent:
                future.get(30)
        finally:
            producer.close()

    def consumer(self, topic, partitions):
        consumer = KafkaConsumer(**self.settings, group_id=None, auto_offset_reset="none", max_partition_fetch_bytes=2_000_000)
        consumer.assign([TopicPartition(topic, p) for p in partitions])
        return consumer

    def gather(self, consumer, count):
        try:
            return gather(lambda: polled(consumer), count)
        finally:
            consumer.close()

    def read(self, topic, partition, offset, count):
        consumer = self.consumer(topic, [partition])
        consumer.seek(TopicPartition(topic, partition), offset)
        return self.gather(consumer, count)

    def read_beginning(self, topic, partitions, count):
        consumer = self.consumer(topic, partitions)
        consumer.seek_to_beginning()
        return self.gather(consumer, count)

    def read_end(self, topic, partition, then):
        consumer = self.consumer(topic, [partition])
        consumer.seek_to_end()
        consumer.position(TopicPartition(topic, partition))  # looks it up now, before anything is produced
        then()
        return self.gather(consumer, 1)

    def commit(self, group, topic, partition, offset, note):
        tp = TopicPartition(topic, partition)
        consumer = KafkaConsumer(**self.settings, group_id=group, enable_auto_commit=False)
        consumer.assign([tp])
        consumer.commit({tp: OffsetAndMetadata(offset, note, -1)})
        consumer.close()

    def committed(self, group, topic, partition):
        consumer = KafkaConsumer(**self.settings, group_id=group, enable_auto_commit=False)
        seen = consumer.committed(TopicPartition(topic, partition), metadata=True)
        consumer.close()
        return seen.offset, seen.metadata

    @contextmanager
    def member(self, group, topic, reset, at=None):
        consumer = KafkaConsumer(
            topic, **self.settings, group_id=group, enable_auto_commit=False, auto_offset_reset=reset)
        try:
            if at is not None:
                while not consumer.assignment():
                    consumer.poll(200)
                for tp, found in consumer.offsets_for_times({tp: at for tp in consumer.assignment()}).items():
                    consumer.seek(tp, found.offset)
            yield lambda: polled(consumer)
        finally:
            consumer.close()

    def is_no_offset(self, error):
        return isinstance(error, NoOffsetForPartitionError)

    def offset(self, topic, partition, spec):
        tp = TopicPartition(topic, partition)
        offset = self.admin.list_partition_offsets({tp: SPECS.get(spec, spec)})[tp].offset
        return None if offset == -1 else offset

    def delete_before(self, topic, partition, offset):
        tp = TopicPartition(topic, partition)
        return self.admin.delete_records({tp: offset})[tp]["low_watermark"]

    def config(self, topic, key):
        described = self.admin.describe_configs([ConfigResource("TOPIC", topic)], config_filter="all")
        entry = described["topic"][topic][key]
        return entry["value"], entry["config_source"] == "DEFAULT_CONFIG"

    def set_config(self, topic, key, value):
        change = ("DELETE", None) if value is None else ("SET", value)
        # raise_on_unknown=False: the broker shall judge, not the client.
        result = self.admin.alter_configs([ConfigResource("TOPIC", topic, {key: change})], raise_on_unknown=False)
        error = result["topic"][topic]  # "OK" or "[Error 40] …"
        if error != "OK":
            raise for_code(int(re.match(r"\[Error (\d+)\]", error)[1]))(error)

    def close(self):
        self.admin.close()

    def code(self, error):
        return error.errno


def polled(consumer):
    return [Record(r.partition, r.offset, r.timestamp, r.key, r.value, list(r.headers))
            for records in consumer.poll(500).values() for r in records]


if __name__ == "__main__":
    Scenario(KafkaPython(sys.argv[1]), sys.argv[2]).run()
