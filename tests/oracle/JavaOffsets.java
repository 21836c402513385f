// What a consumer group has committed, as Kafka's own admin client sees it.
//
//   java -cp 'JARS/*' JavaOffsets.java BOOTSTRAP GROUP
//
// A line for each partition, in order: TOPIC PARTITION OFFSET METADATA.

import java.util.Map;
import java.util.TreeMap;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;

public final class JavaOffsets {
    public static void main(String[] args) throws Exception {
        System.setProperty("org.slf4j.simpleLogger.defaultLogLevel", "warn");
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", args[0]))) {
            Map<TopicPartition, OffsetAndMetadata> offsets =
                admin.listConsumerGroupOffsets(args[1]).partitionsToOffsetAndMetadata().get();
            Map<String, String> lines = new TreeMap<>();
            offsets.forEach((at, next) -> lines.put(at.toString(), String.format("%s %d %d %s",
                at.topic(), at.partition(), next.offset(), next.metadata())));
            lines.values().forEach(System.out::println);
        }
    }
}
