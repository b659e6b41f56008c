"""A member of a group with kafka-python. Usage: kafka_python_member.py BOOTSTRAP GROUP TOPIC PROTOCOL [INSTANCE]"""

from kafka import ConsumerRebalanceListener, KafkaConsumer
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from kafka.errors import KafkaError

from member import HEARTBEAT_MS, Stop, arguments, session_ms, tell

ASSIGNORS = {
    "range": RangePartitionAssignor, "roundrobin": RoundRobinPartitionAssignor, "cooperative": CooperativeStickyAssignor,
}
bootstrap, group, topic, protocol, instance = arguments()
stop = Stop()
consumer = KafkaConsumer(
    bootstrap_servers=bootstrap, group_id=group, group_instance_id=instance, enable_auto_commit=False,
    auto_offset_reset="earliest", session_timeout_ms=session_ms(instance), heartbeat_interval_ms=HEARTBEAT_MS,
    reconnect_backoff_max_ms=200, partition_assignment_strategy=[ASSIGNORS[protocol]])


class Listener(ConsumerRebalanceListener):
    def on_partitions_assigned(self, assigned):
        generation = consumer._coordinator.generation_if_stable()
        tell("assigned", partitions=[tp.partition for tp in assigned],
             generation=generation.generation_id if generation else -1)

    def on_partitions_revoked(self, revoked):
        tell("revoked", partitions=[tp.partition for tp in revoked])


consumer.subscribe([topic], listener=Listener())
while not stop.asked:
    records = consumer.poll(timeout_ms=200)
    for tp, batch in records.items():
        tell("records", partition=tp.partition, offsets=[record.offset for record in batch])
    if records:
        try:
            consumer.commit()
            tell("committed", offsets={tp.partition: batch[-1].offset + 1 for tp, batch in records.items()})
        except KafkaError as why:
            tell("refused", why=type(why).__name__)
consumer.close()
tell("closed")
