// Asks Kafka's own assignors who gets what, as Oracle.java does for messages. Run it with the jars of one Kafka
// version on the class path:
//
//     java -cp 'JARS/*' Assignors.java < questions > answers
//
// All streams are big-endian, without separators. A text has a u16 length, a blob and a list a u32.
//
//     question:  its kind (u8), and
//        A       an assignor's name (text), topics (list), members (list)
//        U       an assignor's name (text), has it an assignment (u8), that (blob), generation (i32)
//        S       a subscription (blob)
//        T       an assignment (blob)
//     topic:     its name (text), partitions (list of: the racks of its replicas (list of text, empty for none))
//     member:    its id (text), has it an instance id (u8), that (text), its subscription (blob)
//     answer:    ok (u8: 1 or 0), and blobs (list):
//        A       the assignment of each member, as it is sent, in the order of the members
//        U       the user data with which such a member joins; none if there is none
//        S, T    the same written again, in the newest version
//                or, where it is not ok, the error's text
//
// What is asked is done as the leader of a group does it: with a new assignor, and the members in a HashMap. Java's
// sticky assignors do not come to an end for some groups; after five seconds, that is the answer.

import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.FutureTask;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.Assignment;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.GroupSubscription;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.Subscription;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.clients.consumer.RoundRobinAssignor;
import org.apache.kafka.clients.consumer.StickyAssignor;
import org.apache.kafka.clients.consumer.internals.ConsumerProtocol;
import org.apache.kafka.common.Cluster;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.PartitionInfo;

public final class Assignors {
    public static void main(String[] args) throws IOException {
        DataInputStream in = new DataInputStream(new BufferedInputStream(System.in, 1 << 18));
        DataOutputStream out = new DataOutputStream(new BufferedOutputStream(System.out, 1 << 18));
        for (int kind = in.read(); kind >= 0; kind = in.read()) {
            Question question = read(in, (char) kind);
            List<ByteBuffer> answer;
            try {
                answer = inTime(question);
                out.writeByte(1);
            } catch (RuntimeException error) {
                out.writeByte(0);
                answer = List.of(ByteBuffer.wrap(error.toString().getBytes(StandardCharsets.UTF_8)));
            }
            out.writeInt(answer.size());
            for (ByteBuffer blob : answer) {
                byte[] bytes = new byte[blob.remaining()];
                blob.duplicate().get(bytes);
                out.writeInt(bytes.length);
                out.write(bytes);
            }
            out.flush();
        }
        // With whatever has not come to an end.
        System.exit(0);
    }

    static List<ByteBuffer> inTime(Question question) {
        FutureTask<List<ByteBuffer>> task = new FutureTask<>(question::answer);
        Thread thread = new Thread(task);
        thread.setDaemon(true);
        thread.start();
        try {
            return task.get(5, TimeUnit.SECONDS);
        } catch (ExecutionException error) {
            throw new IllegalStateException(error.getCause());
        } catch (TimeoutException | InterruptedException error) {
            thread.setPriority(Thread.MIN_PRIORITY);
            throw new IllegalStateException("it does not end");
        }
    }

    interface Question {
        List<ByteBuffer> answer();
    }

    static Question read(DataInputStream in, char kind) throws IOException {
        switch (kind) {
            case 'A':
                return readGroup(in);
            case 'U': {
                ConsumerPartitionAssignor assignor = assignor(text(in));
                boolean received = in.readByte() == 1;
                ByteBuffer blob = blob(in);
                int generation = in.readInt();
                return () -> {
                    if (received) {
                        ConsumerGroupMetadata metadata =
                            new ConsumerGroupMetadata("group", generation, "member", Optional.empty());
                        assignor.onAssignment(ConsumerProtocol.deserializeAssignment(blob), metadata);
                    }
                    ByteBuffer data = assignor.subscriptionUserData(Set.of());
                    return data == null ? List.of() : List.of(data);
                };
            }
            case 'S': {
                ByteBuffer blob = blob(in);
                return () -> List.of(ConsumerProtocol.serializeSubscription(
                    ConsumerProtocol.deserializeSubscription(blob)));
            }
            case 'T': {
                ByteBuffer blob = blob(in);
                return () -> List.of(ConsumerProtocol.serializeAssignment(
                    ConsumerProtocol.deserializeAssignment(blob)));
            }
            default:
                throw new IOException("no such question: " + kind);
        }
    }

    static Question readGroup(DataInputStream in) throws IOException {
        ConsumerPartitionAssignor assignor = assignor(text(in));
        List<PartitionInfo> partitions = new ArrayList<>();
        List<Node> nodes = new ArrayList<>();
        for (int topics = in.readInt(); topics > 0; topics--) {
            String topic = text(in);
            int count = in.readInt();
            for (int partition = 0; partition < count; partition++) {
                Node[] replicas = new Node[in.readInt()];
                for (int i = 0; i < replicas.length; i++) {
                    String rack = text(in);
                    replicas[i] = new Node(nodes.size(), "localhost", 9092, rack.isEmpty() ? null : rack);
                    nodes.add(replicas[i]);
                }
                partitions.add(new PartitionInfo(topic, partition, Node.noNode(), replicas, replicas));
            }
        }
        List<String> ids = new ArrayList<>();
        List<Optional<String>> instances = new ArrayList<>();
        List<ByteBuffer> blobs = new ArrayList<>();
        for (int members = in.readInt(); members > 0; members--) {
            ids.add(text(in));
            boolean isStatic = in.readByte() == 1;
            String instance = text(in);
            instances.add(isStatic ? Optional.of(instance) : Optional.empty());
            blobs.add(blob(in));
        }
        return () -> {
            Map<String, Subscription> subscriptions = new HashMap<>();
            for (int i = 0; i < ids.size(); i++) {
                Subscription subscription = ConsumerProtocol.deserializeSubscription(blobs.get(i));
                subscription.setGroupInstanceId(instances.get(i));
                subscriptions.put(ids.get(i), subscription);
            }
            Cluster cluster =
                new Cluster("cluster", nodes, partitions, Collections.emptySet(), Collections.emptySet());
            Map<String, Assignment> said =
                assignor.assign(cluster, new GroupSubscription(subscriptions)).groupAssignment();
            if (said.size() != ids.size()) {
                throw new IllegalStateException(said.size() + " assignments for " + ids.size() + " members");
            }
            List<ByteBuffer> answer = new ArrayList<>();
            for (String id : ids) {
                answer.add(ConsumerProtocol.serializeAssignment(said.get(id)));
            }
            return answer;
        };
    }

    static ConsumerPartitionAssignor assignor(String name) throws IOException {
        for (ConsumerPartitionAssignor one : List.of(new RangeAssignor(), new RoundRobinAssignor(),
            new StickyAssignor(), new CooperativeStickyAssignor())) {
            if (one.name().equals(name)) {
                return one;
            }
        }
        throw new IOException("no such assignor: " + name);
    }

    static String text(DataInputStream in) throws IOException {
        byte[] bytes = new byte[in.readUnsignedShort()];
        in.readFully(bytes);
        return new String(bytes, StandardCharsets.UTF_8);
    }

    static ByteBuffer blob(DataInputStream in) throws IOException {
        byte[] bytes = new byte[in.readInt()];
        in.readFully(bytes);
        return ByteBuffer.wrap(bytes);
    }
}
