import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.*;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.*;

/** The scenario of ../README.md with the Java client. Usage: Facts BOOTSTRAP TOPIC */
public class Facts {
    static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");
    static final long BASE = System.currentTimeMillis() / 1000 * 1000 - 3_600_000;
    static final String RETENTION = "retention.ms";

    static String bootstrap, topic, edge;
    static Admin admin;
    static boolean failed;

    interface Fact { void check() throws Exception; }

    public static void main(String[] args) throws Exception {
        bootstrap = args[0];
        topic = args[1];
        edge = topic + "-edge";
        admin = Admin.create(Map.of("bootstrap.servers", (Object) bootstrap));
        fact("cluster-described", Facts::clusterDescribed);
        fact("topic-created", Facts::topicCreated);
        fact("topic-exists-refused", () -> refused(TopicExistsException.class,
            admin.createTopics(List.of(new NewTopic(topic, 6, (short) 1))).all()));
        fact("topic-described", () -> eventually(() -> topicDescribed(6)));
        fact("unknown-topic-refused", () -> refused(UnknownTopicOrPartitionException.class,
            admin.describeTopics(List.of(topic + "-unknown")).allTopicNames()));
        for (String codec : CODECS) fact("produced-" + codec, () -> produced(codec));
        fact("idempotent", Facts::idempotent);
        fact("from-beginning", Facts::fromBeginning);
        fact("from-end", Facts::fromEnd);
        fact("from-timestamp", Facts::fromTimestamp);
        fact("earliest-and-latest", () -> {
            equal(0L, listed(0, OffsetSpec.earliest()).offset());
            equal(60L, listed(0, OffsetSpec.latest()).offset());
        });
        fact("offset-for-timestamp", () -> {
            equal(30L, listed(0, OffsetSpec.forTimestamp(BASE + 30_000)).offset());
            equal(BASE + 30_000, listed(0, OffsetSpec.forTimestamp(BASE + 30_000)).timestamp());
            equal(-1L, listed(0, OffsetSpec.forTimestamp(BASE + 3_000_000)).offset());
            equal(59L, listed(0, OffsetSpec.maxTimestamp()).offset());
        });
        fact("committed-with-metadata", Facts::committedWithMetadata);
        fact("reset-earliest", () -> firstOfEach(0, "earliest", null));
        fact("reset-latest", Facts::resetLatest);
        fact("reset-none", Facts::resetNone);
        fact("group-seeks-to-time", () -> firstOfEach(30, "latest", BASE + 29_500));
        fact("large-record", Facts::largeRecord);
        fact("too-large-refused", Facts::tooLargeRefused);
        fact("headers", Facts::headers);
        fact("nulls-and-empties", Facts::nullsAndEmpties);
        fact("records-deleted", Facts::recordsDeleted);
        fact("configs-described", () -> {
            equal("604800000", config().value());
            equal(ConfigEntry.ConfigSource.DEFAULT_CONFIG, config().source());
        });
        fact("config-altered", Facts::configAltered);
        fact("wrong-config-refused", Facts::wrongConfigRefused);
        fact("partitions-added", () -> {
            refused(InvalidPartitionsException.class,
                admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(3))).all());
            admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(8))).all().get();
            eventually(() -> topicDescribed(8));
        });
        fact("topic-deleted", Facts::topicDeleted);
        admin.close();
        System.exit(failed ? 1 : 0);
    }

    static void clusterDescribed() throws Exception {
        DescribeClusterResult cluster = admin.describeCluster();
        equal(false, cluster.clusterId().get().isEmpty());
        equal(1, cluster.nodes().get().size());
        equal(cluster.nodes().get().iterator().next().id(), cluster.controller().get().id());
    }

    static void topicCreated() throws Exception {
        CreateTopicsResult created = admin.createTopics(
            List.of(new NewTopic(topic, 6, (short) 1), new NewTopic(edge, 1, (short) 1)));
        created.all().get();
        equal(6, created.numPartitions(topic).get());
        equal(1, created.numPartitions(edge).get());
        equal(false, created.topicId(topic).get().equals(org.apache.kafka.common.Uuid.ZERO_UUID));
    }

    static void topicDescribed(int partitions) throws Exception {
        TopicDescription described =
            admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
        equal(partitions, described.partitions().size());
        for (int p = 0; p < partitions; p++) {
            equal(p, described.partitions().get(p).partition());
            equal(List.of(described.partitions().get(p).leader()), described.partitions().get(p).isr());
        }
    }

    static void produced(String codec) throws Exception {
        int partition = CODECS.indexOf(codec);
        List<ProducerRecord<byte[], byte[]>> all = new ArrayList<>();
        for (String acks : List.of("all", "1", "0")) {
            List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
            for (int i = 0; i < 20; i++) {
                int n = all.size() + i;
                records.add(record(partition, n, "key-" + n, (codec + "-" + acks + "-" + n + ";").repeat(20)));
            }
            produce(records, "acks", acks, "compression.type", codec, "enable.idempotence", "false");
            all.addAll(records);
        }
        same(all, 0, read(topic, partition, 0, 60));
    }

    static void idempotent() throws Exception {
        List<ProducerRecord<byte[], byte[]>> records = IntStream.range(0, 100)
            .mapToObj(i -> record(5, i, "key-" + i % 7, "idempotent-" + i)).toList();
        produce(records, "enable.idempotence", "true", "batch.size", "500");
        same(records, 0, read(topic, 5, 0, 100));
    }

    static void fromBeginning() {
        try (Consumer<byte[], byte[]> consumer = consumer()) {
            List<TopicPartition> all =
                IntStream.range(0, 6).mapToObj(p -> new TopicPartition(topic, p)).toList();
            consumer.assign(all);
            consumer.seekToBeginning(all);
            long[] next = new long[6];
            for (ConsumerRecord<byte[], byte[]> r : poll(consumer, 400)) equal(next[r.partition()]++, r.offset());
            equal("[60, 60, 60, 60, 60, 100]", Arrays.toString(next));
        }
    }

    static void fromEnd() throws Exception {
        try (Consumer<byte[], byte[]> consumer = consumer()) {
            TopicPartition five = new TopicPartition(topic, 5);
            consumer.assign(List.of(five));
            consumer.seekToEnd(List.of(five));
            equal(100L, consumer.position(five));
            ProducerRecord<byte[], byte[]> tail = record(5, 100, "tail", "tail");
            produce(List.of(tail));
            same(List.of(tail), 100, poll(consumer, 1));
        }
    }

    static void fromTimestamp() {
        try (Consumer<byte[], byte[]> consumer = consumer()) {
            TopicPartition zero = new TopicPartition(topic, 0);
            consumer.assign(List.of(zero));
            OffsetAndTimestamp found = consumer.offsetsForTimes(Map.of(zero, BASE + 29_500)).get(zero);
            consumer.seek(zero, found.offset());
            ConsumerRecord<byte[], byte[]> first = poll(consumer, 30).get(0);
            equal(30L, first.offset());
            equal(BASE + 30_000, first.timestamp());
        }
    }

    static void committedWithMetadata() {
        TopicPartition one = new TopicPartition(topic, 1);
        OffsetAndMetadata sent = new OffsetAndMetadata(7, "a note, ümlaut");
        try (Consumer<byte[], byte[]> consumer = member("notes", "none")) {
            consumer.assign(List.of(one));
            consumer.commitSync(Map.of(one, sent));
        }
        try (Consumer<byte[], byte[]> consumer = member("notes", "none")) {
            equal(sent, consumer.committed(Set.of(one)).get(one));
        }
    }

    /** A new group with this policy; at a time, where there is one. Each partition begins at the offset. */
    static void firstOfEach(long offset, String reset, Long at) {
        try (Consumer<byte[], byte[]> consumer = member(reset + at, reset)) {
            consumer.subscribe(List.of(topic), new ConsumerRebalanceListener() {
                @Override public void onPartitionsRevoked(Collection<TopicPartition> partitions) {}

                @Override public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                    if (at == null) return;
                    Map<TopicPartition, Long> wanted = new HashMap<>();
                    partitions.forEach(tp -> wanted.put(tp, at));
                    consumer.offsetsForTimes(wanted).forEach((tp, found) -> consumer.seek(tp, found.offset()));
                }
            });
            Map<Integer, Long> first = new HashMap<>();
            long deadline = System.currentTimeMillis() + 30_000;
            while (first.size() < 6 && System.currentTimeMillis() < deadline)
                consumer.poll(Duration.ofMillis(500)).forEach(r -> first.putIfAbsent(r.partition(), r.offset()));
            Map<Integer, Long> expected = new HashMap<>();
            for (int p = 0; p < 6; p++) expected.put(p, offset);
            equal(expected, first);
        }
    }

    static void resetLatest() throws Exception {
        long end = listed(5, OffsetSpec.latest()).offset();
        try (Consumer<byte[], byte[]> consumer = member("latest", "latest")) {
            consumer.subscribe(List.of(topic));
            List<ConsumerRecord<byte[], byte[]>> seen = new ArrayList<>();
            long deadline = System.currentTimeMillis() + 30_000;
            while (seen.isEmpty() && System.currentTimeMillis() < deadline) {
                produce(List.of(record(5, 0, "late", "late")));
                consumer.poll(Duration.ofMillis(500)).forEach(seen::add);
            }
            equal(false, seen.isEmpty());
            for (ConsumerRecord<byte[], byte[]> r : seen) equal(true, r.partition() == 5 && r.offset() >= end);
        }
    }

    static void resetNone() {
        try (Consumer<byte[], byte[]> consumer = member("none", "none")) {
            consumer.subscribe(List.of(topic));
            long deadline = System.currentTimeMillis() + 30_000;
            while (System.currentTimeMillis() < deadline) consumer.poll(Duration.ofMillis(500));
            throw new AssertionError("expected NoOffsetForPartitionException");
        } catch (NoOffsetForPartitionException expected) {
            equal(6, expected.partitions().size());
        }
    }

    static void largeRecord() throws Exception {
        byte[] value = new byte[900_000];
        new Random(7).nextBytes(value);
        produce(List.of(new ProducerRecord<>(edge, 0, null, value)));
        equal(true, Arrays.equals(value, read(edge, 0, 0, 1).get(0).value()));
    }

    static void tooLargeRefused() throws Exception {
        byte[] value = new byte[1_100_000];
        new Random(8).nextBytes(value);
        try (Producer<byte[], byte[]> producer = producer("max.request.size", "2000000")) {
            refused(RecordTooLargeException.class, producer.send(new ProducerRecord<>(edge, 0, null, value)));
        }
        equal(1L, admin.listOffsets(Map.of(new TopicPartition(edge, 0), OffsetSpec.latest()))
            .partitionResult(new TopicPartition(edge, 0)).get().offset());
    }

    static void headers() throws Exception {
        List<Header> headers = List.of(new RecordHeader("a", bytes("1")), new RecordHeader("a", bytes("2")),
            new RecordHeader("empty", new byte[0]), new RecordHeader("null", (byte[]) null),
            new RecordHeader("bytes", new byte[] {0, -1, 10}));
        ProducerRecord<byte[], byte[]> sent = new ProducerRecord<>(edge, 0, BASE, bytes("h"), bytes("v"), headers);
        produce(List.of(sent));
        ConsumerRecord<byte[], byte[]> seen = read(edge, 0, 1, 1).get(0);
        equal(headers, Arrays.asList(seen.headers().toArray()));
    }

    static void nullsAndEmpties() throws Exception {
        List<ProducerRecord<byte[], byte[]>> records = List.of(
            edgeRecord(null, bytes("v")), edgeRecord(bytes("k"), null),
            edgeRecord(bytes(""), bytes("")), edgeRecord(null, null));
        produce(records);
        same(records, 2, read(edge, 0, 2, 4));
    }

    static void recordsDeleted() throws Exception {
        TopicPartition zero = new TopicPartition(topic, 0);
        equal(10L, admin.deleteRecords(Map.of(zero, RecordsToDelete.beforeOffset(10)))
            .lowWatermarks().get(zero).get().lowWatermark());
        equal(10L, listed(0, OffsetSpec.earliest()).offset());
        try (Consumer<byte[], byte[]> consumer = consumer()) { // offset 3 is gone: reset to earliest
            consumer.assign(List.of(zero));
            consumer.seek(zero, 3);
            equal(10L, poll(consumer, 50).get(0).offset());
        }
    }

    static void configAltered() throws Exception {
        alter(RETENTION, "3600000", AlterConfigOp.OpType.SET).get();
        eventually(() -> equal("3600000", config().value()));
        equal(ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, config().source());
        alter(RETENTION, "", AlterConfigOp.OpType.DELETE).get();
        eventually(() -> equal("604800000", config().value()));
    }

    static void wrongConfigRefused() throws Exception {
        refused(InvalidConfigurationException.class, alter("retention.sm", "1", AlterConfigOp.OpType.SET));
        refused(InvalidConfigurationException.class, alter(RETENTION, "long", AlterConfigOp.OpType.SET));
        equal("604800000", config().value());
    }

    static void topicDeleted() throws Exception {
        admin.deleteTopics(List.of(topic, edge)).all().get();
        eventually(() -> refused(UnknownTopicOrPartitionException.class,
            admin.describeTopics(List.of(topic)).allTopicNames()));
        equal(false, admin.listTopics().names().get().contains(topic));
    }

    // What the facts are made of.

    static void fact(String name, Fact fact) {
        try {
            fact.check();
            System.out.println("ok " + name);
        } catch (Throwable why) {
            failed = true;
            System.out.println("FAIL " + name + ": " + why);
        }
    }

    /** Metadata may arrive a moment after the change is acknowledged: 10 s at most. */
    static void eventually(Fact fact) throws Exception {
        long deadline = System.currentTimeMillis() + 10_000;
        while (true) {
            try {
                fact.check();
                return;
            } catch (AssertionError | ExecutionException why) {
                if (System.currentTimeMillis() > deadline) throw why;
                Thread.sleep(50);
            }
        }
    }

    static void equal(Object expected, Object seen) {
        if (!expected.equals(seen)) throw new AssertionError("expected " + expected + ", seen " + seen);
    }

    static void refused(Class<? extends Exception> expected, Future<?> result) throws Exception {
        try {
            result.get();
        } catch (ExecutionException error) {
            if (expected.isInstance(error.getCause())) return;
            throw new AssertionError("expected " + expected.getSimpleName(), error.getCause());
        }
        throw new AssertionError("expected " + expected.getSimpleName() + ", it succeeded");
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static ProducerRecord<byte[], byte[]> record(int partition, int n, String key, String value) {
        return new ProducerRecord<>(topic, partition, BASE + 1000L * n, bytes(key), bytes(value));
    }

    static ProducerRecord<byte[], byte[]> edgeRecord(byte[] key, byte[] value) {
        return new ProducerRecord<>(edge, 0, (Long) BASE, key, value);
    }

    static Producer<byte[], byte[]> producer(String... settings) {
        Properties all = new Properties();
        all.put("bootstrap.servers", bootstrap);
        all.put("delivery.timeout.ms", "30000");
        all.put("request.timeout.ms", "20000");
        for (int i = 0; i < settings.length; i += 2) all.put(settings[i], settings[i + 1]);
        return new KafkaProducer<>(all, new ByteArraySerializer(), new ByteArraySerializer());
    }

    static void produce(List<ProducerRecord<byte[], byte[]>> records, String... settings) throws Exception {
        try (Producer<byte[], byte[]> producer = producer(settings)) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (ProducerRecord<byte[], byte[]> record : records) sent.add(producer.send(record));
            for (Future<RecordMetadata> one : sent) one.get();
        }
    }

    static Consumer<byte[], byte[]> consumer() {
        return new KafkaConsumer<>(
            Map.of("bootstrap.servers", (Object) bootstrap, "auto.offset.reset", "earliest", "enable.auto.commit", "false"),
            new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    static Consumer<byte[], byte[]> member(String group, String reset) {
        return new KafkaConsumer<>(
            Map.of("bootstrap.servers", (Object) bootstrap, "group.id", topic + "-" + group, "auto.offset.reset", reset,
                "enable.auto.commit", "false"),
            new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    /** The next {@code count} records of what is assigned; fewer after 30 s is an error. */
    static List<ConsumerRecord<byte[], byte[]>> poll(Consumer<byte[], byte[]> consumer, int count) {
        List<ConsumerRecord<byte[], byte[]>> records = new ArrayList<>();
        long deadline = System.currentTimeMillis() + 30_000;
        while (records.size() < count && System.currentTimeMillis() < deadline)
            consumer.poll(Duration.ofMillis(500)).forEach(records::add);
        equal(count, records.size());
        return records;
    }

    static List<ConsumerRecord<byte[], byte[]>> read(String topic, int partition, long offset, int count) {
        try (Consumer<byte[], byte[]> consumer = consumer()) {
            consumer.assign(List.of(new TopicPartition(topic, partition)));
            consumer.seek(new TopicPartition(topic, partition), offset);
            return poll(consumer, count);
        }
    }

    static void same(List<ProducerRecord<byte[], byte[]>> sent, long offset, List<ConsumerRecord<byte[], byte[]>> seen) {
        equal(sent.size(), seen.size());
        for (int i = 0; i < sent.size(); i++) {
            equal(offset + i, seen.get(i).offset());
            equal(sent.get(i).timestamp(), seen.get(i).timestamp());
            equal(Arrays.toString(sent.get(i).key()), Arrays.toString(seen.get(i).key()));
            equal(Arrays.toString(sent.get(i).value()), Arrays.toString(seen.get(i).value()));
        }
    }

    static ListOffsetsResult.ListOffsetsResultInfo listed(int partition, OffsetSpec spec) throws Exception {
        TopicPartition tp = new TopicPartition(topic, partition);
        return admin.listOffsets(Map.of(tp, spec)).partitionResult(tp).get();
    }

    static ConfigEntry config() throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        return admin.describeConfigs(List.of(resource)).all().get().get(resource).get(RETENTION);
    }

    static Future<Void> alter(String key, String value, AlterConfigOp.OpType operation) {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        Collection<AlterConfigOp> ops = Set.of(new AlterConfigOp(new ConfigEntry(key, value), operation));
        return admin.incrementalAlterConfigs(Map.of(resource, ops)).all();
    }
}
