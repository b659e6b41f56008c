"""Numbered records with confluent-kafka, written or read until SIGTERM. Prints what it was told, see ../README.md.

Usage: confluent_numbered.py write BOOTSTRAP TOPIC PARTITIONS PRODUCER RATE
       confluent_numbered.py read BOOTSTRAP TOPIC PARTITIONS
"""

import sys
import time
from functools import partial

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from member import Stop

# Records of a partition that may be on their way, and those sent to it at a time.
ROOM = 2000
CHUNK = 8
stop = Stop()


def say(*words):
    print(*words, flush=True)


def micros():
    return time.time_ns() // 1000


def value(producer, partition, number):
    return f"{producer}/{partition}/{number}/{'.' * (number % 100)}".encode()


class Runs:
    """Acknowledged neighbours, by partition."""

    def __init__(self, partitions):
        self.open = {}
        self.done = [0] * partitions

    def delivered(self, number, invoked, error, message):
        partition = message.partition()
        self.done[partition] += 1
        if error is not None:
            say("fail", partition, number, micros(), error)
            return
        run = self.open.get(partition)
        if run and run[0] + run[1] == number and run[2] + run[1] == message.offset():
            run[1] += 1
            run[4] = micros()
            return
        self.tell(partition)
        self.open[partition] = [number, 1, message.offset(), invoked, micros()]

    def tell(self, partition):
        run = self.open.pop(partition, None)
        if run:
            print("ack", partition, *run)

    def tell_all(self):
        for partition in list(self.open):
            self.tell(partition)
        sys.stdout.flush()


def write(bootstrap, topic, partitions, name, rate):
    producer = Producer({
        "bootstrap.servers": bootstrap, "enable.idempotence": True, "acks": "all", "linger.ms": 5,
        "compression.type": "zstd", "message.timeout.ms": 1_800_000, "socket.timeout.ms": 10_000,
        "reconnect.backoff.max.ms": 200, "retry.backoff.max.ms": 200,
        "error_cb": lambda error: say("fail -1 -1", micros(), error) if error.fatal() else None,
    })
    runs, following, sent, turn = Runs(partitions), [0] * partitions, 0, 0
    started = time.monotonic()
    while not stop.asked:
        due = int((time.monotonic() - started) * rate)
        # A partition without room is passed over: the others go on.
        full = 0
        while sent < due and full < partitions:
            partition = turn % partitions
            turn += 1
            if following[partition] - runs.done[partition] > ROOM - CHUNK:
                full += 1
                continue
            full = 0
            sent += CHUNK
            for number in range(following[partition], following[partition] + CHUNK):
                producer.produce(topic, value(name, partition, number), partition=partition,
                                 on_delivery=partial(runs.delivered, number, micros()))
            following[partition] += CHUNK
        producer.poll(0.005)
        runs.tell_all()
        # After an outage it goes on at its rate.
        if due - sent > rate:
            started += (due - sent) / rate
    while producer.flush(0.2):
        runs.tell_all()
    runs.tell_all()
    for partition, total in enumerate(following):
        say("sent", partition, total)
    say("closed")


def read(bootstrap, topic, partitions):
    consumer = Consumer({
        "bootstrap.servers": bootstrap, "group.id": "no group", "enable.auto.commit": False,
        "auto.offset.reset": "error", "reconnect.backoff.max.ms": 200, "socket.timeout.ms": 10_000,
    })
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
    open_runs = {}
    while not stop.asked:
        for message in consumer.consume(1000, 0.2):
            if message.error() is None:
                see(open_runs, message)
            elif message.error().code() == KafkaError._AUTO_OFFSET_RESET:
                say("wrong", message.error())
            else:
                print(message.error(), file=sys.stderr)
        for partition in list(open_runs):
            print("read", partition, *open_runs.pop(partition))
        sys.stdout.flush()
    consumer.close()
    say("closed")


def see(open_runs, message):
    partition, offset = message.partition(), message.offset()
    producer, _, number = message.value().split(b"/")[:3]
    producer, number = int(producer), int(number)
    if message.value() != value(producer, partition, number):
        say("wrong value in partition", partition, "at", offset)
        return
    run = open_runs.get(partition)
    if run and run[0] + run[1] == offset and run[2] == producer and run[3] + run[1] == number:
        run[1] += 1
        return
    if run:
        print("read", partition, *run)
    open_runs[partition] = [offset, 1, producer, number]


mode, bootstrap, topic, partitions, *more = sys.argv[1:]
if mode == "write":
    write(bootstrap, topic, int(partitions), more[0], int(more[1]))
else:
    read(bootstrap, topic, int(partitions))
