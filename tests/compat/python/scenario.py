"""The scenario of ../README.md, once for all Python clients.

A client is an adapter: a class with the methods called on `client` below, in the client's own words.
"""

import random
import sys
import time
from typing import NamedTuple

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
BASE = int(time.time()) * 1000 - 3_600_000
DAY_7 = "604800000"
NOTE = "a note, ümlaut"

UNKNOWN_TOPIC_OR_PARTITION, MESSAGE_TOO_LARGE = 3, 10
TOPIC_ALREADY_EXISTS, INVALID_PARTITIONS, INVALID_CONFIG = 36, 37, 40


class Record(NamedTuple):
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list = []


class NotAvailable(Exception):
    """The client cannot do this; says why."""


class Scenario:
    def __init__(self, client, topic):
        self.client, self.topic, self.edge = client, topic, topic + "-edge"
        self.failed = False

    def run(self):
        c, t = self.client, self.topic
        self.fact("cluster-described", self.cluster_described)
        self.fact("topic-created", self.topic_created)
        self.fact("topic-exists-refused", lambda: self.refused(TOPIC_ALREADY_EXISTS, lambda: c.create_topic(t, 6)))
        self.fact("topic-described", lambda: eventually(lambda: self.described(6)))
        self.fact("unknown-topic-refused",
                  lambda: self.refused(UNKNOWN_TOPIC_OR_PARTITION, lambda: c.topic(t + "-unknown")))
        for codec in CODECS:
            self.fact("produced-" + codec, lambda: self.produced(codec))
        self.fact("idempotent", self.idempotent)
        self.fact("from-beginning", self.from_beginning)
        self.fact("from-end", self.from_end)
        self.fact("from-timestamp", self.from_timestamp)
        self.fact("earliest-and-latest", lambda: equal((0, 60), (c.offset(t, 0, "earliest"), c.offset(t, 0, "latest"))))
        self.fact("offset-for-timestamp", lambda: equal(
            (30, None), (c.offset(t, 0, BASE + 30_000), c.offset(t, 0, BASE + 3_000_000))))
        self.fact("committed-with-metadata", self.committed_with_metadata)
        self.fact("reset-earliest", self.reset_earliest)
        self.fact("reset-latest", self.reset_latest)
        self.fact("reset-none", self.reset_none)
        self.fact("group-seeks-to-time", self.group_seeks_to_time)
        self.fact("large-record", self.large_record)
        self.fact("too-large-refused", self.too_large_refused)
        self.fact("headers", self.headers)
        self.fact("nulls-and-empties", self.nulls_and_empties)
        self.fact("records-deleted", self.records_deleted)
        self.fact("configs-described", lambda: equal((DAY_7, True), c.config(t, "retention.ms")))
        self.fact("config-altered", self.config_altered)
        self.fact("wrong-config-refused", self.wrong_config_refused)
        self.fact("partitions-added", self.partitions_added)
        self.fact("topic-deleted", self.topic_deleted)
        c.close()
        sys.exit(1 if self.failed else 0)

    def cluster_described(self):
        cluster_id, brokers, controller = self.client.cluster()
        equal(True, bool(cluster_id))
        equal([controller], brokers)

    def topic_created(self):
        self.client.create_topic(self.topic, 6)
        self.client.create_topic(self.edge, 1)
        eventually(lambda: equal(1, len(self.client.topic(self.edge))))

    def described(self, partitions):
        described = self.client.topic(self.topic)
        equal(list(range(partitions)), sorted(described))
        for leader, isr in described.values():
            equal([leader], isr)

    def produced(self, codec):
        partition, every = CODECS.index(codec), []
        for acks in ("all", "1", "0"):
            start = len(every)
            sent = [record(partition, n, f"key-{n}", f"{codec}-{acks}-{n};" * 20) for n in range(start, start + 20)]
            self.client.produce(self.topic, sent, codec=codec, acks=acks)
            every += sent
        equal(every, self.client.read(self.topic, partition, 0, 60))

    def idempotent(self):
        sent = [record(5, n, f"key-{n % 7}", f"idempotent-{n}") for n in range(100)]
        self.client.produce(self.topic, sent, idempotent=True)
        equal(sent, self.client.read(self.topic, 5, 0, 100))

    def from_beginning(self):
        offsets = [[] for _ in range(6)]
        for seen in self.client.read_beginning(self.topic, range(6), 400):
            offsets[seen.partition].append(seen.offset)
        equal([list(range(n)) for n in (60, 60, 60, 60, 60, 100)], offsets)

    def from_end(self):
        tail = record(5, 100, "tail", "tail")
        seen = self.client.read_end(self.topic, 5, lambda: self.client.produce(self.topic, [tail]))
        equal([tail], seen)

    def from_timestamp(self):
        offset = self.client.offset(self.topic, 0, BASE + 29_500)
        seen = self.client.read(self.topic, 0, offset, 30)
        equal((30, BASE + 30_000), (seen[0].offset, seen[0].timestamp))

    def committed_with_metadata(self):
        group = self.topic + "-notes"
        self.client.commit(group, self.topic, 1, 7, NOTE)
        equal((7, NOTE), self.client.committed(group, self.topic, 1))

    def reset_earliest(self):
        with self.client.member(self.topic + "-earliest", self.topic, "earliest") as poll:
            equal([0] * 6, first_of_each(poll))

    def reset_latest(self):
        end = self.client.offset(self.topic, 5, "latest")
        with self.client.member(self.topic + "-latest", self.topic, "latest") as poll:
            def produce_and_poll():
                self.client.produce(self.topic, [record(5, 0, "late", "late")])
                return poll()
            seen = at_least(produce_and_poll, lambda seen: len(seen) > 0)
        equal([], [r for r in seen if r.partition != 5 or r.offset < end])

    def reset_none(self):
        with self.client.member(self.topic + "-none", self.topic, "none") as poll:
            try:
                seen = at_least(poll, lambda seen: len(seen) > 0)
            except Exception as error:
                equal(True, self.client.is_no_offset(error))
            else:
                raise AssertionError(f"expected no offset, seen {str(seen):.300}")

    def group_seeks_to_time(self):
        with self.client.member(self.topic + "-seeks", self.topic, "latest", BASE + 29_500) as poll:
            equal([30] * 6, first_of_each(poll))

    def large_record(self):
        sent = Record(0, 0, BASE, None, random.Random(7).randbytes(900_000))
        self.client.produce(self.edge, [sent])
        equal(True, [sent] == self.client.read(self.edge, 0, 0, 1))

    def too_large_refused(self):
        sent = Record(0, 1, BASE, None, random.Random(8).randbytes(1_100_000))
        self.refused(MESSAGE_TOO_LARGE, lambda: self.client.produce(self.edge, [sent]))
        equal(1, self.client.offset(self.edge, 0, "latest"))

    def headers(self):
        headers = [("a", b"1"), ("a", b"2"), ("empty", b""), ("bytes", b"\x00\xff\n")]
        if self.client.null_headers:
            headers.append(("null", None))
        sent = Record(0, 1, BASE, b"h", b"v", headers)
        self.client.produce(self.edge, [sent])
        equal([sent], self.client.read(self.edge, 0, 1, 1))

    def nulls_and_empties(self):
        pairs = [(None, b"v"), (b"k", None), (b"", b"")]
        if self.client.null_records:
            pairs.append((None, None))
        sent = [Record(0, 2 + n, BASE, key, value) for n, (key, value) in enumerate(pairs)]
        self.client.produce(self.edge, sent)
        equal(sent, self.client.read(self.edge, 0, 2, len(sent)))

    def records_deleted(self):
        equal(10, self.client.delete_before(self.topic, 0, 10))
        equal(10, self.client.offset(self.topic, 0, "earliest"))
        equal(10, self.client.read_beginning(self.topic, [0], 50)[0].offset)

    def config_altered(self):
        self.client.set_config(self.topic, "retention.ms", "3600000")
        eventually(lambda: equal(("3600000", False), self.client.config(self.topic, "retention.ms")))
        self.client.set_config(self.topic, "retention.ms", None)
        eventually(lambda: equal((DAY_7, True), self.client.config(self.topic, "retention.ms")))

    def wrong_config_refused(self):
        self.refused(INVALID_CONFIG, lambda: self.client.set_config(self.topic, "retention.sm", "1"))
        self.refused(INVALID_CONFIG, lambda: self.client.set_config(self.topic, "retention.ms", "long"))
        equal((DAY_7, True), self.client.config(self.topic, "retention.ms"))

    def partitions_added(self):
        self.refused(INVALID_PARTITIONS, lambda: self.client.add_partitions(self.topic, 3))
        self.client.add_partitions(self.topic, 8)
        eventually(lambda: self.described(8))

    def topic_deleted(self):
        for topic in (self.topic, self.edge):
            self.client.delete_topic(topic)
        eventually(lambda: self.refused(UNKNOWN_TOPIC_OR_PARTITION, lambda: self.client.topic(self.topic)))

    def fact(self, name, check):
        try:
            check()
            print("ok", name, flush=True)
        except NotAvailable as why:
            print(f"n/a {name}: {why}", flush=True)
        except Exception as why:  # whatever a client raises is the finding
            self.failed = True
            print(f"FAIL {name}: {type(why).__name__}: {str(why)[:2000]}", flush=True)

    def refused(self, code, call):
        try:
            call()
        except Exception as error:
            equal(code, self.client.code(error))
        else:
            raise AssertionError(f"expected error {code}, it succeeded")


def record(partition, n, key, value):
    return Record(partition, n, BASE + 1000 * n, key.encode(), value.encode())


def equal(expected, seen):
    if expected != seen:
        raise AssertionError(f"expected {expected!r:.900}, seen {seen!r:.900}")


def eventually(check):
    """Metadata may arrive a moment after the change is acknowledged: 10 s at most."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return check()
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def at_least(poll, is_enough):
    """What `poll()` returns, until it is enough; 30 s at most."""
    records, deadline = [], time.monotonic() + 30
    while not is_enough(records):
        if time.monotonic() > deadline:
            raise AssertionError(f"not enough in 30 s: {str(records):.300}")
        records += poll()
    return records


def first_of_each(poll):
    """The first offset seen of each of the six partitions."""
    first = {}
    for r in at_least(poll, lambda seen: len({r.partition for r in seen}) == 6):
        first.setdefault(r.partition, r.offset)
    return [first[p] for p in range(6)]


def gather(poll, count):
    """The first `count` records of `poll()`, which returns some after at most a second; 30 s in all."""
    records, deadline = [], time.monotonic() + 30
    while len(records) < count and time.monotonic() < deadline:
        records += poll()
    equal(count, len(records))
    return records
