"""Reads a whole topic with confluent-kafka and writes its manifest (see ../real_input.rs).

Usage: confluent_manifest.py BOOTSTRAP TOPIC FILE
"""

import sys
import zlib

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition


def main(bootstrap, topic, file):
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "only-a-name", "enable.auto.commit": False})
    partitions = [TopicPartition(topic, p, OFFSET_BEGINNING) for p in consumer.list_topics(topic, 30).topics[topic].partitions]
    left = sum(consumer.get_watermark_offsets(p, 30)[1] for p in partitions)
    consumer.assign(partitions)
    keys = {}  # key: [partition, values, bytes, crc]
    while left > 0:
        messages = consumer.consume(min(left, 10_000), 30)  # returns when there are as many
        if not messages:
            sys.exit(f"{left} records are missing after 30 s")
        for message in messages:
            if message.error():
                raise KafkaException(message.error())
            left -= 1
            add(keys, message)
    consumer.close()
    lines = [b"%s\t%d\t%d\t%d\t%08x\n" % (key, *digest) for key, digest in keys.items()]
    with open(file, "wb") as out:
        out.writelines(sorted(lines))


def add(keys, message):
    key, value = message.key(), message.value()
    digest = keys.setdefault(key, [message.partition(), 0, 0, 0])
    if digest[0] != message.partition():
        sys.exit(f"key {key} in partitions {digest[0]} and {message.partition()}")
    digest[1] += 1
    digest[2] += len(value)
    digest[3] = zlib.crc32(value, zlib.crc32(len(value).to_bytes(4), digest[3]))


if __name__ == "__main__":
    main(*sys.argv[1:])
