// Reads a whole topic with Kafka's own consumer and says what it saw: what weir wrote, as Java reads it.
//
//   java -cp 'JARS/*' JavaConsumer.java BOOTSTRAP TOPIC records|digest [CONSUMER_PROPERTY=VALUE...]
//
// Every partition is read from its earliest offset to the end it had when the program began. Standard error
// has the words; the exit code is 0 only if all was read. Sixty seconds without a record end the program.
//
// `records` writes binary to standard output, numbers big-endian. JavaProducer reads the same format:
//
//   record  := i32 size of the rest
//              i32 partition
//              i64 offset
//              i64 timestamp in milliseconds
//              key, value: blob
//              i32 number of headers, each: name (blob, UTF-8), value (blob)
//   blob    := i32 length, -1 for null; the bytes
//   the end := i32 -1, where a size would stand; a stream without it was cut short
//
// Records of one partition stand in the order of their offsets; partitions are mixed as they arrive.
//
// `digest` writes one line of text for each partition, in order, so that a million records need not pass a
// pipe: PARTITION FIRST_OFFSET END_OFFSET RECORDS CRC32C. END_OFFSET is the position after the last record,
// CRC32C (eight hexadecimal digits) is over the partition's records in the format above, sizes included.
// A partition without records says 0 for its first offset.

import java.io.BufferedOutputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.zip.CRC32C;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

public final class JavaConsumer {
    private static final Duration PATIENCE = Duration.ofSeconds(60);

    /** What becomes of each record. */
    private interface Sink {
        void record(int partition, long offset, byte[] encoded) throws IOException;
    }

    private static final class Digest {
        final CRC32C crc = new CRC32C();
        long first;
        long count;
    }

    public static void main(String[] args) throws Exception {
        System.setProperty("org.slf4j.simpleLogger.defaultLogLevel", "warn");
        if (args.length < 3 || !List.of("records", "digest").contains(args[2])) {
            System.err.println("usage: JavaConsumer BOOTSTRAP TOPIC records|digest [PROPERTY=VALUE...]");
            System.exit(2);
        }
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(config(args))) {
            List<TopicPartition> partitions = consumer.partitionsFor(args[1], PATIENCE).stream()
                .map(info -> new TopicPartition(info.topic(), info.partition()))
                .toList();
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            if (args[2].equals("records")) {
                writeRecords(consumer, partitions);
            } else {
                writeDigests(consumer, partitions);
            }
        }
    }

    private static Map<String, Object> config(String[] args) {
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", args[0]);
        config.put("key.deserializer", ByteArrayDeserializer.class);
        config.put("value.deserializer", ByteArrayDeserializer.class);
        config.put("enable.auto.commit", false);
        config.put("auto.offset.reset", "none");
        config.put("max.poll.records", 10_000);
        for (int i = 3; i < args.length; i++) {
            int equals = args[i].indexOf('=');
            config.put(args[i].substring(0, equals), args[i].substring(equals + 1));
        }
        return config;
    }

    private static void writeRecords(KafkaConsumer<byte[], byte[]> consumer, List<TopicPartition> partitions)
            throws IOException {
        DataOutputStream out = new DataOutputStream(new BufferedOutputStream(System.out, 1 << 16));
        readAll(consumer, partitions, (partition, offset, encoded) -> out.write(encoded));
        out.writeInt(-1);
        out.flush();
    }

    private static void writeDigests(KafkaConsumer<byte[], byte[]> consumer, List<TopicPartition> partitions)
            throws IOException {
        Map<Integer, Digest> digests = new TreeMap<>();
        partitions.forEach(partition -> digests.put(partition.partition(), new Digest()));
        Map<Integer, Long> ends = readAll(consumer, partitions, (partition, offset, encoded) -> {
            Digest digest = digests.get(partition);
            if (digest.count == 0) {
                digest.first = offset;
            }
            digest.count++;
            digest.crc.update(encoded);
        });
        PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        digests.forEach((partition, digest) -> out.printf("%d %d %d %d %08x\n", partition, digest.first,
            ends.get(partition), digest.count, digest.crc.getValue()));
        out.flush();
    }

    /** Feeds every record to the sink and returns the position in which each partition ended. */
    private static Map<Integer, Long> readAll(KafkaConsumer<byte[], byte[]> consumer,
            List<TopicPartition> partitions, Sink sink) throws IOException {
        Map<TopicPartition, Long> ends = consumer.endOffsets(partitions, PATIENCE);
        long deadline = System.nanoTime() + PATIENCE.toNanos();
        while (!partitions.stream().allMatch(p -> consumer.position(p, PATIENCE) >= ends.get(p))) {
            if (System.nanoTime() > deadline) {
                throw new IOException("no record for " + PATIENCE + "; wanted to reach " + ends);
            }
            for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(500))) {
                deadline = System.nanoTime() + PATIENCE.toNanos();
                // What came after the program began is not part of what it was asked for.
                if (record.offset() < ends.get(new TopicPartition(record.topic(), record.partition()))) {
                    sink.record(record.partition(), record.offset(), encode(record));
                }
            }
        }
        Map<Integer, Long> reached = new HashMap<>();
        ends.forEach((partition, end) -> reached.put(partition.partition(), end));
        return reached;
    }

    private static byte[] encode(ConsumerRecord<byte[], byte[]> record) throws IOException {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        DataOutputStream out = new DataOutputStream(bytes);
        out.writeInt(record.partition());
        out.writeLong(record.offset());
        out.writeLong(record.timestamp());
        blob(out, record.key());
        blob(out, record.value());
        Header[] headers = record.headers().toArray();
        out.writeInt(headers.length);
        for (Header header : headers) {
            blob(out, header.key().getBytes(StandardCharsets.UTF_8));
            blob(out, header.value());
        }
        ByteArrayOutputStream sized = new ByteArrayOutputStream(bytes.size() + 4);
        new DataOutputStream(sized).writeInt(bytes.size());
        bytes.writeTo(sized);
        return sized.toByteArray();
    }

    private static void blob(DataOutputStream out, byte[] bytes) throws IOException {
        out.writeInt(bytes == null ? -1 : bytes.length);
        if (bytes != null) {
            out.write(bytes);
        }
    }
}
