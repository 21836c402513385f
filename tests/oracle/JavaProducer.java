// Sends records from standard input with Kafka's own producer: what weir then reads was written by Java.
//
//   java -cp 'JARS/*' JavaProducer.java BOOTSTRAP TOPIC CODEC [PRODUCER_PROPERTY=VALUE...]
//
// CODEC is Kafka's word: none, gzip, snappy, lz4, zstd. The topic must exist, unless create.partitions=N is
// among the properties: then it is made first, with N partitions.
//
// Standard input has the format that is told at the top of JavaConsumer.java, its end mark included. The
// offset of a record is not looked at. A partition of -1 leaves the choice to Java's partitioner, a
// timestamp of -1 leaves it to the producer's clock.
//
// Standard output has one line of text for each partition that took records, in order:
// PARTITION FIRST_OFFSET END_OFFSET RECORDS, where END_OFFSET is one past the last record. Records of one
// partition keep their order. Any record that fails ends the program with exit code 1; standard error says why.

import java.io.BufferedInputStream;
import java.io.DataInputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public final class JavaProducer {
    /** What came back from the broker; the producer's one I/O thread writes, main reads after close. */
    private static final class Outcome {
        final Map<Integer, long[]> partitions = new TreeMap<>();
        Exception failure;

        synchronized void done(RecordMetadata at, Exception exception) {
            if (exception != null) {
                failure = failure == null ? exception : failure;
                return;
            }
            long[] span = partitions.computeIfAbsent(at.partition(), p -> new long[] {Long.MAX_VALUE, 0, 0});
            span[0] = Math.min(span[0], at.offset());
            span[1] = Math.max(span[1], at.offset() + 1);
            span[2]++;
        }

        synchronized void check() throws IOException {
            if (failure != null) {
                throw new IOException("a record was refused", failure);
            }
        }
    }

    public static void main(String[] args) throws Exception {
        System.setProperty("org.slf4j.simpleLogger.defaultLogLevel", "warn");
        if (args.length < 3) {
            System.err.println("usage: JavaProducer BOOTSTRAP TOPIC CODEC [PROPERTY=VALUE...]");
            System.exit(2);
        }
        Outcome outcome = new Outcome();
        Map<String, Object> config = config(args);
        Object partitions = config.remove("create.partitions");
        if (partitions != null) {
            createTopic(args[0], args[1], Integer.parseInt(partitions.toString()));
        }
        DataInputStream in = new DataInputStream(new BufferedInputStream(System.in, 1 << 16));
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(config)) {
            while (in.readInt() >= 0) {
                producer.send(record(args[1], in), outcome::done);
                outcome.check();
            }
            producer.flush();
        }
        outcome.check();
        outcome.partitions.forEach((partition, span) ->
            System.out.printf("%d %d %d %d\n", partition, span[0], span[1], span[2]));
        System.out.flush();
    }

    private static void createTopic(String bootstrap, String topic, int partitions) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1))).all().get();
        }
    }

    private static Map<String, Object> config(String[] args) {
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", args[0]);
        config.put("key.serializer", ByteArraySerializer.class);
        config.put("value.serializer", ByteArraySerializer.class);
        config.put("compression.type", args[2]);
        config.put("linger.ms", 5);
        for (int i = 3; i < args.length; i++) {
            int equals = args[i].indexOf('=');
            config.put(args[i].substring(0, equals), args[i].substring(equals + 1));
        }
        return config;
    }

    /** One record without its size, which the caller has read. */
    private static ProducerRecord<byte[], byte[]> record(String topic, DataInputStream in) throws IOException {
        int partition = in.readInt();
        in.readLong();
        long timestamp = in.readLong();
        byte[] key = blob(in);
        byte[] value = blob(in);
        List<Header> headers = new ArrayList<>();
        for (int left = in.readInt(); left > 0; left--) {
            headers.add(new RecordHeader(new String(blob(in), StandardCharsets.UTF_8), blob(in)));
        }
        return new ProducerRecord<>(topic, partition < 0 ? null : partition, timestamp < 0 ? null : timestamp,
            key, value, headers);
    }

    private static byte[] blob(DataInputStream in) throws IOException {
        int length = in.readInt();
        return length < 0 ? null : in.readNBytes(length);
    }
}
