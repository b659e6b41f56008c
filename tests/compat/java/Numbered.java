import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.atomic.AtomicIntegerArray;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.*;

/**
 * Numbered records, written or read until SIGTERM. Prints what it was told, see ../README.md.
 * Usage: Numbered write BOOTSTRAP TOPIC PARTITIONS PRODUCER RATE
 *        Numbered read BOOTSTRAP TOPIC PARTITIONS
 */
public class Numbered {
    /** Records of a partition that may be on their way, and those sent to it at a time. */
    static final int ROOM = 2000, CHUNK = 8;

    static volatile boolean stopped;

    public static void main(String[] args) throws Exception {
        Thread main = Thread.currentThread();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            stopped = true;
            try {
                main.join();
            } catch (InterruptedException why) {
                return;
            }
        }));
        int partitions = Integer.parseInt(args[3]);
        if (args[0].equals("write")) write(args[1], args[2], partitions, args[4], Integer.parseInt(args[5]));
        else read(args[1], args[2], partitions);
    }

    static void write(String bootstrap, String topic, int partitions, String name, int rate) throws Exception {
        Map<String, Object> settings = Map.of("bootstrap.servers", bootstrap, "acks", "all", "enable.idempotence", "true",
            "linger.ms", "5", "compression.type", "lz4", "delivery.timeout.ms", "1800000", "max.block.ms", "1800000",
            "request.timeout.ms", "10000", "reconnect.backoff.max.ms", "200", "retry.backoff.max.ms", "200");
        Producer<byte[], byte[]> producer =
            new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
        Runs acked = new Runs(partitions);
        AtomicIntegerArray open = new AtomicIntegerArray(partitions);
        long[] next = new long[partitions];
        long started = System.nanoTime(), sent = 0, turn = 0;
        while (!stopped) {
            // A partition without room is passed over: the others go on.
            int full = 0;
            while (sent < (System.nanoTime() - started) / 1000 * rate / 1_000_000 && full < partitions && !stopped) {
                int partition = (int) (turn++ % partitions);
                if (open.get(partition) > ROOM - CHUNK) {
                    full++;
                    continue;
                }
                full = 0;
                sent += CHUNK;
                open.addAndGet(partition, CHUNK);
                for (int i = 0; i < CHUNK; i++) {
                    long number = next[partition]++, invoked = micros();
                    producer.send(new ProducerRecord<>(topic, partition, null, value(name, partition, number)), (at, why) -> {
                        open.decrementAndGet(partition);
                        if (why == null) acked.add(partition, number, at.offset(), invoked, micros());
                        else print("fail " + partition + " " + number + " " + micros() + " " + why);
                    });
                }
            }
            Thread.sleep(5);
            acked.tell();
            // After an outage it goes on at its rate.
            long due = (System.nanoTime() - started) / 1000 * rate / 1_000_000;
            if (due - sent > rate) started += (due - sent) * 1_000_000_000 / rate;
        }
        producer.close();
        acked.tell();
        for (int partition = 0; partition < partitions; partition++) print("sent " + partition + " " + next[partition]);
        print("closed");
        System.out.flush();
    }

    /** Acknowledged neighbours, by partition. */
    static class Runs {
        final long[][] open;

        Runs(int partitions) { open = new long[partitions][]; }

        synchronized void add(int partition, long number, long offset, long invoked, long done) {
            long[] run = open[partition];
            if (run != null && run[0] + run[1] == number && run[2] + run[1] == offset) {
                run[1]++;
                run[4] = done;
                return;
            }
            tell(partition);
            open[partition] = new long[] {number, 1, offset, invoked, done};
        }

        synchronized void tell() {
            for (int partition = 0; partition < open.length; partition++) tell(partition);
        }

        private void tell(int partition) {
            long[] run = open[partition];
            if (run == null) return;
            print("ack " + partition + " " + run[0] + " " + run[1] + " " + run[2] + " " + run[3] + " " + run[4]);
            open[partition] = null;
        }
    }

    static void read(String bootstrap, String topic, int partitions) {
        Map<String, Object> settings = Map.of("bootstrap.servers", bootstrap, "auto.offset.reset", "none",
            "enable.auto.commit", "false", "reconnect.backoff.max.ms", "200", "request.timeout.ms", "10000");
        KafkaConsumer<byte[], byte[]> consumer =
            new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        List<TopicPartition> all = new ArrayList<>();
        for (int partition = 0; partition < partitions; partition++) all.add(new TopicPartition(topic, partition));
        consumer.assign(all);
        for (TopicPartition one : all) consumer.seek(one, 0);
        while (!stopped) {
            try {
                ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(200));
                for (TopicPartition one : records.partitions()) tell(one.partition(), records.records(one));
            } catch (RuntimeException why) {
                print("wrong " + why);
                break;
            }
        }
        consumer.close();
        print("closed");
        System.out.flush();
    }

    static void tell(int partition, List<ConsumerRecord<byte[], byte[]>> records) {
        long first = 0, count = 0, offset = 0;
        String producer = "";
        for (ConsumerRecord<byte[], byte[]> record : records) {
            String[] parts = new String(record.value(), StandardCharsets.US_ASCII).split("/");
            long number = parts.length > 2 ? Long.parseLong(parts[2]) : -1;
            if (number < 0 || !Arrays.equals(record.value(), value(parts[0], partition, number))) {
                print("wrong value in partition " + partition + " at " + record.offset());
                continue;
            }
            if (count > 0 && producer.equals(parts[0]) && first + count == number && offset + count == record.offset()) {
                count++;
                continue;
            }
            if (count > 0) print("read " + partition + " " + offset + " " + count + " " + producer + " " + first);
            first = number;
            count = 1;
            offset = record.offset();
            producer = parts[0];
        }
        if (count > 0) print("read " + partition + " " + offset + " " + count + " " + producer + " " + first);
    }

    static byte[] value(String producer, int partition, long number) {
        return (producer + "/" + partition + "/" + number + "/" + ".".repeat((int) (number % 100)))
            .getBytes(StandardCharsets.US_ASCII);
    }

    static long micros() {
        java.time.Instant now = java.time.Instant.now();
        return now.getEpochSecond() * 1_000_000 + now.getNano() / 1000;
    }

    static synchronized void print(String line) {
        System.out.println(line);
    }
}
