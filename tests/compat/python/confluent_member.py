"""A member of a group with confluent-kafka. Usage: confluent_member.py BOOTSTRAP GROUP TOPIC PROTOCOL [INSTANCE]"""

from collections import defaultdict

from confluent_kafka import Consumer, KafkaException

from member import HEARTBEAT_MS, Stop, arguments, session_ms, tell

bootstrap, group, topic, protocol, instance = arguments()
settings = {
    "bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False,
    "reconnect.backoff.max.ms": 200,
}
if protocol == "consumer":
    settings["group.protocol"] = "consumer"
else:
    settings["session.timeout.ms"] = session_ms(instance)
    settings["heartbeat.interval.ms"] = HEARTBEAT_MS
    settings["partition.assignment.strategy"] = {"cooperative": "cooperative-sticky"}.get(protocol, protocol)
if instance:
    settings["group.instance.id"] = instance


def changed(event):
    return lambda _, partitions: tell(event, partitions=[tp.partition for tp in partitions])


stop = Stop()
consumer = Consumer(settings)
consumer.subscribe([topic], on_assign=changed("assigned"), on_revoke=changed("revoked"), on_lost=changed("lost"))
while not stop.asked:
    offsets = defaultdict(list)
    for message in consumer.consume(500, 0.2):
        if not message.error():
            offsets[message.partition()].append(message.offset())
    for partition, seen in offsets.items():
        tell("records", partition=partition, offsets=seen)
    if offsets:
        try:
            committed = consumer.commit(asynchronous=False)
            tell("committed", offsets={tp.partition: tp.offset for tp in committed if tp.error is None and tp.offset >= 0})
        except KafkaException as why:
            tell("refused", why=why.args[0].name())
consumer.close()
tell("closed")
