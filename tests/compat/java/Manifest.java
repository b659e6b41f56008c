import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.zip.CRC32;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** Reads a whole topic and writes its manifest (see ../real_input.rs). Usage: Manifest BOOTSTRAP TOPIC FILE */
public class Manifest {
    static final class Digest {
        int partition, count;
        long bytes;
        final CRC32 crc = new CRC32();
    }

    public static void main(String[] args) throws Exception {
        Map<String, Digest> keys = new HashMap<>();
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(
            Map.of("bootstrap.servers", args[0], "enable.auto.commit", "false", "auto.offset.reset", "none"),
            new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            List<TopicPartition> partitions = consumer.partitionsFor(args[1]).stream()
                .map(p -> new TopicPartition(p.topic(), p.partition())).toList();
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            long left = consumer.endOffsets(partitions).values().stream().mapToLong(Long::longValue).sum();
            while (left > 0) {
                ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofSeconds(30));
                if (records.isEmpty()) throw new AssertionError(left + " records are missing after 30 s");
                for (ConsumerRecord<byte[], byte[]> record : records) add(keys, record);
                left -= records.count();
            }
        }
        List<String> lines = keys.entrySet().stream().map(e -> String.format("%s\t%d\t%d\t%d\t%08x", e.getKey(),
            e.getValue().partition, e.getValue().count, e.getValue().bytes, e.getValue().crc.getValue())).sorted().toList();
        Files.write(Path.of(args[2]), lines);
    }

    static void add(Map<String, Digest> keys, ConsumerRecord<byte[], byte[]> record) {
        Digest digest = keys.computeIfAbsent(new String(record.key(), StandardCharsets.UTF_8), key -> {
            Digest first = new Digest();
            first.partition = record.partition();
            return first;
        });
        if (digest.partition != record.partition())
            throw new AssertionError("key " + new String(record.key(), StandardCharsets.UTF_8) + " in two partitions");
        digest.count++;
        digest.bytes += record.value().length;
        digest.crc.update(ByteBuffer.allocate(4).putInt(record.value().length).flip());
        digest.crc.update(record.value());
    }
}
