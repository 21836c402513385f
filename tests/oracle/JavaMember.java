// Shares a topic with the other members of a group, with Kafka's own consumer, and says what happens.
//
//   java -cp 'JARS/*' JavaMember.java BOOTSTRAP TOPIC GROUP [CONSUMER_PROPERTY=VALUE...]
//
// A line for each event: `assigned` or `revoked` with the partitions' numbers behind it, and `record PARTITION OFFSET
// VALUE`. What was polled is committed at once. It leaves the group and ends when its standard input does.

import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.serialization.StringDeserializer;

public final class JavaMember {
    public static void main(String[] args) {
        System.setProperty("org.slf4j.simpleLogger.defaultLogLevel", "warn");
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", args[0]);
        config.put("group.id", args[2]);
        config.put("key.deserializer", StringDeserializer.class);
        config.put("value.deserializer", StringDeserializer.class);
        config.put("enable.auto.commit", false);
        config.put("auto.offset.reset", "earliest");
        for (int i = 3; i < args.length; i++) {
            int equals = args[i].indexOf('=');
            config.put(args[i].substring(0, equals), args[i].substring(equals + 1));
        }
        AtomicBoolean ended = new AtomicBoolean();
        Thread waiter = new Thread(() -> {
            try {
                while (System.in.read() >= 0) {
                    // Until there is no more.
                }
            } catch (java.io.IOException e) {
                // The same.
            }
            ended.set(true);
        });
        waiter.setDaemon(true);
        waiter.start();
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(config)) {
            consumer.subscribe(List.of(args[1]), new ConsumerRebalanceListener() {
                @Override
                public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                    say("assigned", partitions);
                }

                @Override
                public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                    say("revoked", partitions);
                }
            });
            while (!ended.get()) {
                ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(100));
                for (ConsumerRecord<String, String> record : records) {
                    System.out.println("record " + record.partition() + " " + record.offset() + " " + record.value());
                }
                if (!records.isEmpty()) {
                    try {
                        consumer.commitSync();
                    } catch (RebalanceInProgressException e) {
                        // The next poll takes part in it, and what was read is still ours to commit.
                    }
                }
                System.out.flush();
            }
        }
        System.out.flush();
    }

    private static void say(String what, Collection<TopicPartition> partitions) {
        System.out.println(what + partitions.stream().map(TopicPartition::partition).sorted()
            .map(number -> " " + number).collect(Collectors.joining()));
        System.out.flush();
    }
}
