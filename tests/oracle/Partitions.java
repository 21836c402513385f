// Asks Kafka's own partitioner what is right, as Oracle.java does for messages. Run it with the jars of one
// Kafka version on the class path:
//
//     java -cp 'JARS/*' Partitions.java > vectors.txt
//
// It prints what src/producer/partitioner/vectors.txt holds: lines of words.
//
//     key HEX HASH PARTITION/COUNT...     a key, its murmur2, and the partitions it has of so many
//     load QUEUES OPEN NEAR TABLE         the table to draw from
//
// QUEUES are the lengths of the partitions' queues. OPEN and NEAR have a letter for each partition: y where
// the leader is available, and is in the producer's rack. NEAR is - where racks are not looked at. TABLE has
// the weights as they add up, each behind its partition, or is `even` if all open ones are alike.
//
// Kafka knows racks here since 4.2; an older one prints all lines but those that need it.

import java.lang.reflect.Constructor;
import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;
import org.apache.kafka.common.utils.Utils;

public final class Partitions {
    static final int[] COUNTS = {1, 2, 3, 7, 12, 100, 1000};

    public static void main(String[] args) throws ReflectiveOperationException {
        keys(new SplittableRandom(1));
        loads(new SplittableRandom(2));
    }

    static void keys(SplittableRandom random) {
        for (int length = 0; length < 64; length++) {
            byte[] key = new byte[length % 35];
            random.nextBytes(key);
            StringBuilder line = new StringBuilder("key ");
            for (byte one : key) {
                line.append(String.format("%02x", one));
            }
            line.append(key.length == 0 ? "-" : "").append(' ').append(String.format("%08x", Utils.murmur2(key)));
            for (int count : COUNTS) {
                line.append(' ').append(BuiltInPartitioner.partitionForKey(key, count)).append('/').append(count);
            }
            System.out.println(line);
        }
    }

    static void loads(SplittableRandom random) throws ReflectiveOperationException {
        for (int number = 0; number < 150; number++) {
            int count = 2 + random.nextInt(number < 60 ? 4 : 12);
            int longest = 1 + random.nextInt(random.nextInt(3) == 0 ? 1 : 20);
            int closed = random.nextInt(3);
            boolean racks = random.nextBoolean();
            int[] queues = new int[count];
            boolean[] open = new boolean[count];
            boolean[] near = new boolean[count];
            int rack = random.nextInt(4);
            for (int i = 0; i < count; i++) {
                queues[i] = random.nextInt(longest);
                open[i] = closed == 0 || random.nextInt(closed == 1 ? 4 : 2) != 0;
                near[i] = rack != 0 && random.nextInt(rack) == 0;
            }
            if (number == 0) {
                // The example of KIP-794.
                count = 3;
                queues = new int[] {0, 3, 1};
                open = new boolean[] {true, true, true};
                near = new boolean[3];
                racks = false;
            }
            String table = table(queues, open, racks ? near : null);
            if (table != null) {
                System.out.println("load " + words(queues) + " " + letters(open) + " "
                    + (racks ? letters(near) : "-") + " " + table);
            }
        }
    }

    /** What the partitioner would draw from, or null if this Kafka does not know of racks. */
    static String table(int[] queues, boolean[] open, boolean[] near) throws ReflectiveOperationException {
        Constructor<?> make = BuiltInPartitioner.class.getConstructors()[0];
        boolean knowsRacks = make.getParameterCount() == 5;
        if (near != null && !knowsRacks) {
            return null;
        }
        Object log = make.getParameterTypes()[0].getConstructor().newInstance();
        Object partitioner = knowsRacks
            ? make.newInstance(log, "topic", 1, near != null, "here")
            : make.newInstance(log, "topic", 1);
        // As RecordAccumulator does: the open ones in front, in arrays for all.
        int[] lengths = new int[queues.length];
        int[] ids = new int[queues.length];
        String[] where = new String[queues.length];
        int used = 0;
        for (int i = 0; i < queues.length; i++) {
            if (open[i]) {
                lengths[used] = queues[i];
                ids[used] = i;
                where[used++] = near != null && near[i] ? "here" : "there";
            }
        }
        for (Method method : BuiltInPartitioner.class.getMethods()) {
            if (method.getName().equals("updatePartitionLoadStats")) {
                Object[] arguments = knowsRacks
                    ? new Object[] {lengths, ids, where, used}
                    : new Object[] {lengths, ids, used};
                method.invoke(partitioner, arguments);
            }
        }
        Object stats = field(partitioner, knowsRacks ? "partitionLoadStatsHolder" : "partitionLoadStats");
        if (stats == null) {
            return "even";
        }
        if (knowsRacks) {
            Object here = field(stats, "inThisRack");
            boolean use = here != null && (Integer) field(here, "length") > 0;
            stats = use ? here : field(stats, "total");
        }
        int[] sums = (int[]) field(stats, "cumulativeFrequencyTable");
        int[] chosen = (int[]) field(stats, "partitionIds");
        List<String> table = new ArrayList<>();
        for (int i = 0; i < (Integer) field(stats, "length"); i++) {
            table.add(chosen[i] + ":" + sums[i]);
        }
        return String.join(",", table);
    }

    static Object field(Object of, String name) throws ReflectiveOperationException {
        Field field = of.getClass().getDeclaredField(name);
        field.setAccessible(true);
        return field.get(of);
    }

    static String words(int[] numbers) {
        return String.join(",", Arrays.stream(numbers).mapToObj(Integer::toString).toList());
    }

    static String letters(boolean[] yes) {
        StringBuilder letters = new StringBuilder();
        for (boolean one : yes) {
            letters.append(one ? 'y' : 'n');
        }
        return letters.toString();
    }
}
