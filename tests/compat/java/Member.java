import java.time.Duration;
import java.util.*;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * A member of a group, until SIGTERM. Prints its life as JSON lines, see ../README.md.
 * Usage: Member BOOTSTRAP GROUP TOPIC PROTOCOL [INSTANCE]
 */
public class Member {
    static final Map<String, String> ASSIGNORS = Map.of(
        "range", "RangeAssignor", "roundrobin", "RoundRobinAssignor", "sticky", "StickyAssignor",
        "cooperative", "CooperativeStickyAssignor");

    public static void main(String[] args) throws Exception {
        Map<String, Object> settings = new HashMap<>(Map.of("bootstrap.servers", args[0], "group.id", args[1],
            "auto.offset.reset", "earliest", "enable.auto.commit", "false",
            "reconnect.backoff.max.ms", "200", "retry.backoff.max.ms", "200"));
        if (args[3].equals("consumer")) {
            settings.put("group.protocol", "consumer");
        } else {
            settings.put("session.timeout.ms", args.length > 4 ? "30000" : "10000");
            settings.put("heartbeat.interval.ms", "500");
            settings.put("partition.assignment.strategy", "org.apache.kafka.clients.consumer." + ASSIGNORS.get(args[3]));
        }
        if (args.length > 4) settings.put("group.instance.id", args[4]);
        KafkaConsumer<byte[], byte[]> consumer =
            new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        Thread main = Thread.currentThread();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            consumer.wakeup();
            try {
                main.join();
            } catch (InterruptedException why) {
                return;
            }
        }));
        consumer.subscribe(List.of(args[2]), new ConsumerRebalanceListener() {
            @Override public void onPartitionsAssigned(Collection<TopicPartition> them) {
                changed("assigned", them, consumer.groupMetadata().generationId());
            }
            @Override public void onPartitionsRevoked(Collection<TopicPartition> them) { changed("revoked", them, -1); }
            @Override public void onPartitionsLost(Collection<TopicPartition> them) { changed("lost", them, -1); }
        });
        try {
            while (true) consume(consumer, consumer.poll(Duration.ofMillis(200)));
        } catch (WakeupException stop) {
            consumer.close();
            print("closed", "");
        }
    }

    static void consume(KafkaConsumer<byte[], byte[]> consumer, ConsumerRecords<byte[], byte[]> records) {
        if (records.isEmpty()) return;
        for (TopicPartition tp : records.partitions())
            print("records", ",\"partition\":" + tp.partition() + ",\"offsets\":" + records.records(tp).stream()
                .map(record -> Long.toString(record.offset())).collect(Collectors.joining(",", "[", "]")));
        try {
            consumer.commitSync();
        } catch (CommitFailedException | RebalanceInProgressException | RetriableException why) {
            // Beside a rebalance that keeps its partitions it goes on by polling, and commits more the next time.
            print("refused", ",\"why\":\"" + why.getClass().getSimpleName() + "\"");
            return;
        }
        print("committed", ",\"offsets\":" + records.partitions().stream()
            .map(tp -> "\"" + tp.partition() + "\":" + consumer.position(tp)).collect(Collectors.joining(",", "{", "}")));
    }

    static void changed(String event, Collection<TopicPartition> them, int generation) {
        print(event, ",\"generation\":" + generation + ",\"partitions\":" + them.stream()
            .map(tp -> Integer.toString(tp.partition())).collect(Collectors.joining(",", "[", "]")));
    }

    static void print(String event, String more) {
        java.time.Instant now = java.time.Instant.now();
        System.out.println("{\"at\":" + (now.getEpochSecond() * 1_000_000 + now.getNano() / 1000)
            + ",\"event\":\"" + event + "\"" + more + "}");
    }
}
