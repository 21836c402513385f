// Asks Kafka's own message classes what is right. Run it with the jars of one Kafka version on the
// class path (kafka-clients, and Jackson from the server's libraries):
//
//     java -cp 'JARS/*' Oracle.java list | headers
//     java -cp 'JARS/*' Oracle.java draw SEED COUNT [NAME VERSION] > messages
//     java -cp 'JARS/*' Oracle.java check [json] < messages > answers
//
// `list` prints a line for each message: kind, name, first and last version, the number of its API
// (-1 if none), and the version that is marked unstable (-1 if none).
// `headers` prints a line for each API and version: its number, the version, and the versions of the
// headers in front of its request and of its response.
// `draw` writes COUNT random messages for every message and version. A message depends on the seed,
// its name, its version and its number only, so one that failed can be drawn again alone. Number 0
// of each pair has all defaults, 1 has everything present, 2 has everything null or empty.
// `check` decodes each message, and writes back what Java makes of it.
//
// All streams are big-endian, without separators:
//
//     message: kind and name (u16 length, UTF-8), version (i16), bytes (u32 length),
//              the hash of its JSON (i64; 0 if not known)
//     answer:  ok (u8: 1 or 0), the bytes it encodes again or the error's text (u32 length),
//              and with `json` the JSON's text (u32 length)
//
// so that what `draw` writes can be given to `check` as it is. It is an error if bytes are left over,
// or if the JSON is not the one that the hash was of.
//
// The hash is over the JSON that Kafka's converters give (the text of toString for headers, which
// have none). The message specs come out of the jar, so this file knows no message by name.

import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.reflect.Field;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.TreeMap;
import java.util.jar.JarEntry;
import java.util.jar.JarFile;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.ObjectSerializationCache;
import org.apache.kafka.common.protocol.types.RawTaggedField;

public final class Oracle {
    static final String PACKAGE = "org.apache.kafka.common.message.";
    static final MethodHandles.Lookup LOOKUP = MethodHandles.lookup();

    public static void main(String[] args) throws Throwable {
        String command = args.length == 0 ? "" : args[0];
        Map<String, Spec> specs = readSpecs();
        DataOutputStream out = new DataOutputStream(new BufferedOutputStream(System.out, 1 << 18));
        if (command.equals("list") && args.length == 1) {
            list(specs, out);
        } else if (command.equals("headers") && args.length == 1) {
            headers(out);
        } else if (command.equals("draw") && (args.length == 3 || args.length == 5)) {
            long seed = Long.parseUnsignedLong(args[1]);
            int count = Integer.parseInt(args[2]);
            String name = args.length == 5 ? args[3] : null;
            short version = args.length == 5 ? Short.parseShort(args[4]) : -1;
            drawAll(specs, seed, count, name, version, out);
        } else if (command.equals("check") && (args.length == 1 || args[1].equals("json"))) {
            check(specs, args.length > 1, new BufferedInputStream(System.in, 1 << 18), out);
        } else {
            System.err.println("usage: Oracle list | headers | draw SEED COUNT [NAME VERSION] | check [json]");
            System.exit(2);
        }
        out.flush();
    }

    // ---- the commands

    static void list(Map<String, Spec> specs, DataOutputStream out) throws IOException {
        for (Spec spec : specs.values()) {
            String line = spec.kind + " " + spec.name + " " + spec.first + " " + spec.last
                + " " + spec.apiKey + " " + spec.unstable + "\n";
            out.write(line.getBytes(StandardCharsets.UTF_8));
        }
    }

    static void headers(DataOutputStream out) throws IOException {
        for (ApiMessageType api : ApiMessageType.values()) {
            for (short v = api.lowestSupportedVersion(); v <= api.highestSupportedVersion(true); v++) {
                String line = api.apiKey() + " " + v + " " + api.requestHeaderVersion(v)
                    + " " + api.responseHeaderVersion(v) + "\n";
                out.write(line.getBytes(StandardCharsets.UTF_8));
            }
        }
    }

    static void drawAll(Map<String, Spec> specs, long seed, int count, String name, short version,
                        DataOutputStream out) throws Throwable {
        for (Spec spec : specs.values()) {
            if (name != null && !name.equals(spec.name)) continue;
            for (int v = spec.first; v <= spec.last; v++) {
                if (name != null && v != version) continue;
                for (int number = 0; number < count; number++) {
                    Message message = new Draw(spec, (short) v, seed, number).message();
                    out.write(spec.prefix((short) v));
                    byte[] bytes = encode(message, (short) v);
                    out.writeInt(bytes.length);
                    out.write(bytes);
                    out.writeLong(hash(spec.json(message, (short) v)));
                }
            }
        }
    }

    static void check(Map<String, Spec> specs, boolean json, InputStream stdin, DataOutputStream out)
            throws IOException {
        DataInputStream in = new DataInputStream(stdin);
        while (true) {
            // Whoever asks one question at a time is waiting for its answer.
            if (in.available() == 0) out.flush();
            String kind;
            try {
                kind = readString(in);
            } catch (EOFException end) {
                return;
            }
            String name = readString(in);
            short version = in.readShort();
            byte[] bytes = in.readNBytes(in.readInt());
            long hash = in.readLong();
            Spec spec = specs.get(name);
            if (spec == null || !spec.kind.equals(kind) || version < spec.first || version > spec.last) spec = null;
            answer(spec, version, bytes, hash, json, out);
        }
    }

    /** Says what Java makes of the bytes; no spec means that this Kafka has no such message. */
    static void answer(Spec spec, short version, byte[] bytes, long hash, boolean json, DataOutputStream out)
            throws IOException {
        byte[] again;
        String text = "";
        boolean ok = false;
        try {
            if (spec == null) throw new IllegalArgumentException("no such message or version");
            ByteBufferAccessor from = new ByteBufferAccessor(ByteBuffer.wrap(bytes));
            Message message = (Message) spec.root.create.invoke();
            message.read(from, version);
            if (from.remaining() != 0) {
                throw new IllegalArgumentException(from.remaining() + " bytes were left over");
            }
            again = encode(message, version);
            text = spec.json(message, version);
            if (hash != 0 && hash != hash(text)) {
                throw new IllegalArgumentException("the JSON is another: " + text);
            }
            ok = true;
        } catch (Throwable error) {
            again = error.toString().getBytes(StandardCharsets.UTF_8);
        }
        out.writeByte(ok ? 1 : 0);
        out.writeInt(again.length);
        out.write(again);
        if (json) {
            byte[] utf8 = text.getBytes(StandardCharsets.UTF_8);
            out.writeInt(utf8.length);
            out.write(utf8);
        }
    }

    static String readString(DataInputStream in) throws IOException {
        return new String(in.readNBytes(in.readUnsignedShort()), StandardCharsets.UTF_8);
    }

    static byte[] encode(Message message, short version) {
        ObjectSerializationCache cache = new ObjectSerializationCache();
        ByteBuffer to = ByteBuffer.allocate(message.size(cache, version));
        message.write(new ByteBufferAccessor(to), cache, version);
        if (to.hasRemaining()) throw new IllegalStateException("Java announced more bytes than it wrote");
        return to.array();
    }

    static long hash(String text) {
        long hash = 0xcbf29ce484222325L;
        for (int i = 0; i < text.length(); i++) hash = (hash ^ text.charAt(i)) * 0x100000001b3L;
        return hash;
    }

    // ---- the specs, and the Java classes that were generated from them

    static Map<String, Spec> readSpecs() throws Throwable {
        ObjectMapper mapper = new ObjectMapper().enable(JsonParser.Feature.ALLOW_COMMENTS);
        Path path = Path.of(ApiMessageType.class.getProtectionDomain().getCodeSource().getLocation().toURI());
        Map<String, Spec> specs = new TreeMap<>();
        Map<Integer, Integer> unstable = new HashMap<>();
        try (JarFile jar = new JarFile(path.toFile())) {
            for (JarEntry entry : Collections.list(jar.entries())) {
                if (!entry.getName().matches("common/message/[^/]*\\.json")) continue;
                JsonNode node = mapper.readTree(jar.getInputStream(entry));
                Range valid = Range.parse(node.path("validVersions").asText("none"));
                if (valid.empty()) continue;
                Spec spec = new Spec(node, valid);
                specs.put(spec.name, spec);
                if (node.path("latestVersionUnstable").asBoolean()) unstable.put(spec.apiKey, spec.last);
            }
        }
        // The mark stands in the request's spec only, and holds for the response as well.
        for (Spec spec : specs.values()) spec.unstable = unstable.getOrDefault(spec.apiKey, -1);
        return specs;
    }

    record Range(int first, int last) {
        static Range parse(String text) {
            text = text.trim();
            if (text.isEmpty() || text.equals("none")) return new Range(1, 0);
            if (text.endsWith("+")) {
                return new Range(Integer.parseInt(text.substring(0, text.length() - 1)), Short.MAX_VALUE);
            }
            String[] ends = text.split("-");
            return new Range(Integer.parseInt(ends[0]), Integer.parseInt(ends[ends.length - 1]));
        }

        boolean empty() {
            return first > last;
        }

        boolean contains(int version) {
            return first <= version && version <= last;
        }
    }

    static final class Spec {
        final String kind;
        final String name;
        final int apiKey;
        final int first;
        final int last;
        final Range flexible;
        final Struct root;
        int unstable = -1;
        private final MethodHandle toJson;
        private final String className;
        private final Map<String, JsonNode> common = new HashMap<>();

        Spec(JsonNode node, Range valid) throws Throwable {
            kind = node.path("type").asText();
            name = node.path("name").asText();
            apiKey = node.path("apiKey").asInt(-1);
            first = valid.first;
            last = valid.last;
            flexible = Range.parse(node.path("flexibleVersions").asText("none"));
            className = PACKAGE + name + (kind.equals("data") ? "" : "Data");
            for (JsonNode struct : node.path("commonStructs")) {
                common.put(struct.path("name").asText(), struct.path("fields"));
            }
            root = new Struct(this, Class.forName(className), node.path("fields"));
            toJson = converter();
        }

        private MethodHandle converter() throws IllegalAccessException {
            if (kind.equals("header")) return null;
            try {
                return LOOKUP.unreflect(Class.forName(className + "JsonConverter")
                    .getMethod("write", Class.forName(className), short.class));
            } catch (ReflectiveOperationException error) {
                throw new IllegalStateException("no JSON converter for " + name, error);
            }
        }

        String json(Message message, short version) throws Throwable {
            return (toJson == null ? message : toJson.invoke(message, version)).toString();
        }

        byte[] prefix(short version) {
            byte[] kindBytes = kind.getBytes(StandardCharsets.UTF_8);
            byte[] nameBytes = name.getBytes(StandardCharsets.UTF_8);
            return ByteBuffer.allocate(6 + kindBytes.length + nameBytes.length)
                .putShort((short) kindBytes.length).put(kindBytes)
                .putShort((short) nameBytes.length).put(nameBytes)
                .putShort(version).array();
        }

        Struct struct(String type, JsonNode field) throws Throwable {
            JsonNode fields = common.getOrDefault(type, field.path("fields"));
            return new Struct(this, Class.forName(className + "$" + type), fields);
        }
    }

    static final class Struct {
        final MethodHandle create;
        final List<Member> members = new ArrayList<>();
        final Set<Integer> tags = new HashSet<>();

        Struct(Spec spec, Class<?> type, JsonNode fields) throws Throwable {
            create = LOOKUP.unreflectConstructor(type.getConstructor());
            for (JsonNode field : fields) {
                members.add(new Member(spec, type, field));
                if (field.has("tag")) tags.add(field.path("tag").asInt());
            }
        }
    }

    static final class Member {
        final Field field;
        final String type;
        final boolean array;
        final Range versions;
        final Range nullable;
        final Range tagged;
        /** What it takes to make the struct, or the elements of the array, if they are structs. */
        final Struct struct;
        /** Makes the collection, if it is not a plain list (arrays with map keys are sets of Kafka's). */
        final MethodHandle collection;

        Member(Spec spec, Class<?> owner, JsonNode node) throws Throwable {
            String name = node.path("name").asText();
            field = owner.getDeclaredField(Character.toLowerCase(name.charAt(0)) + name.substring(1));
            field.setAccessible(true);
            String full = node.path("type").asText();
            array = full.startsWith("[]");
            type = array ? full.substring(2) : full;
            versions = Range.parse(node.path("versions").asText());
            nullable = Range.parse(node.path("nullableVersions").asText("none"));
            tagged = Range.parse(node.path("taggedVersions").asText("none"));
            struct = Character.isUpperCase(type.charAt(0)) ? spec.struct(type, node) : null;
            boolean plain = !array || field.getType() == List.class;
            collection = plain ? null : LOOKUP.unreflectConstructor(field.getType().getConstructor());
        }
    }

    // ---- drawing one message

    enum Mood { DEFAULTS, FULL, EMPTY, ANY }

    static final class Draw {
        static final MethodHandle RECORDS = records();
        static final int[] LENGTHS = {126, 127, 128, 129, 255, 256};
        static final int[] LONG_LENGTHS = {16382, 16383, 16384, 16385, 32766, 32767};

        private final Spec spec;
        private final short version;
        private final Mood mood;
        private final SplittableRandom random;
        /** Values that may still be drawn: keeps arrays of arrays from growing without end. */
        private int room = 2000;

        Draw(Spec spec, short version, long seed, int number) {
            this.spec = spec;
            this.version = version;
            mood = Mood.values()[Math.min(number, 3)];
            random = new SplittableRandom(hash(spec.name + " " + version + " " + number + " " + seed));
        }

        /** MemoryRecords.readableRecords, wherever this Kafka keeps it. */
        private static MethodHandle records() {
            for (String where : new String[] {"record.internal.", "record."}) {
                try {
                    return LOOKUP.unreflect(Class.forName("org.apache.kafka.common." + where + "MemoryRecords")
                        .getMethod("readableRecords", ByteBuffer.class));
                } catch (ReflectiveOperationException elsewhere) {
                    continue;
                }
            }
            throw new IllegalStateException("no MemoryRecords");
        }

        Message message() throws Throwable {
            return struct(spec.root, 0);
        }

        private boolean chance(int outOf) {
            return random.nextInt(outOf) == 0;
        }

        private Message struct(Struct struct, int depth) throws Throwable {
            Message message = (Message) struct.create.invoke();
            for (Member member : struct.members) {
                // What a version cannot carry stays at its default, or Java would refuse to write it.
                if (!member.versions.contains(version)) continue;
                boolean nullable = member.nullable.contains(version);
                boolean tagged = member.tagged.contains(version);
                if (mood == Mood.DEFAULTS || tagged && mood == Mood.ANY && chance(3)) {
                    if (nullable || member.field.get(message) != null) continue;
                }
                boolean none = nullable && (mood == Mood.EMPTY || mood == Mood.ANY && chance(4));
                member.field.set(message, none ? null : value(member, depth));
            }
            if (spec.flexible.contains(version) && (mood == Mood.FULL || mood == Mood.ANY && chance(6))) {
                unknownTags(message.unknownTaggedFields(), struct.tags);
            }
            return message;
        }

        private void unknownTags(List<RawTaggedField> fields, Set<Integer> known) {
            int tag = random.nextInt(8);
            for (int left = 1 + random.nextInt(3); left > 0; left--) {
                while (known.contains(tag)) tag++;
                fields.add(new RawTaggedField(tag, bytes()));
                tag += 1 + random.nextInt(1 << random.nextInt(1, 28));
            }
            // The writer takes the largest number itself to mean the end of the tags.
            if (chance(4)) fields.add(new RawTaggedField(Integer.MAX_VALUE - 1, bytes()));
        }

        private Object value(Member member, int depth) throws Throwable {
            if (!member.array) return scalar(member, depth);
            int length = arrayLength(member, depth);
            @SuppressWarnings("unchecked")
            Collection<Object> to = member.collection == null
                ? new ArrayList<>(length) : (Collection<Object>) member.collection.invoke();
            for (int i = 0; i < length; i++) to.add(scalar(member, depth + 1));
            return to;
        }

        private int arrayLength(Member member, int depth) {
            if (mood == Mood.EMPTY) return 0;
            if (mood == Mood.FULL) return depth > 3 ? 1 : 2;
            if (room <= 0) return 0;
            boolean small = member.struct == null || member.struct.members.size() < 4;
            if (small && chance(60)) return LENGTHS[random.nextInt(LENGTHS.length)];
            boolean number = member.type.startsWith("int");
            if (number && chance(500)) return LONG_LENGTHS[random.nextInt(LONG_LENGTHS.length)];
            return chance(12) ? random.nextInt(20) : random.nextInt(4);
        }

        private Object scalar(Member member, int depth) throws Throwable {
            room--;
            if (member.struct != null) return struct(member.struct, depth + 1);
            return switch (member.type) {
                case "bool" -> random.nextBoolean();
                case "int8" -> (byte) integer(8);
                case "int16" -> (short) integer(16);
                case "uint16" -> (int) integer(16) & 0xffff;
                case "int32" -> (int) integer(32);
                case "uint32" -> integer(32) & 0xffffffffL;
                case "int64" -> integer(64);
                case "float64" -> number();
                case "uuid" -> uuid();
                case "string" -> string();
                case "bytes" -> member.field.getType() == byte[].class ? bytes() : ByteBuffer.wrap(bytes());
                case "records" -> RECORDS.invoke(ByteBuffer.wrap(bytes()));
                default -> throw new IllegalStateException("no way to draw a " + member.type);
            };
        }

        /** An integer that fills up to so many bits: an edge, or anything of any magnitude. */
        private long integer(int bits) {
            long min = -1L << (bits - 1);
            return switch (random.nextInt(mood == Mood.FULL ? 4 : 9)) {
                case 0 -> min;
                case 1 -> ~min;
                case 2 -> -1;
                case 3 -> 1L << random.nextInt(bits);
                case 4 -> 0;
                case 5 -> min + 1;
                default -> random.nextLong() >> (64 - random.nextInt(1, bits + 1));
            };
        }

        private double number() {
            return switch (random.nextInt(9)) {
                case 0 -> Double.NaN;
                case 1 -> Double.NEGATIVE_INFINITY;
                case 2 -> Double.POSITIVE_INFINITY;
                case 3 -> -0.0;
                case 4 -> Double.MIN_VALUE;
                case 5 -> Double.MAX_VALUE;
                // A quiet NaN that carries bits of its own.
                case 6 -> Double.longBitsToDouble(0xfff8_0000_0000_0000L | random.nextLong() >>> 13);
                default -> Double.longBitsToDouble(random.nextLong() & 0x7fef_ffff_ffff_ffffL);
            };
        }

        private Uuid uuid() {
            return switch (random.nextInt(8)) {
                case 0 -> Uuid.ZERO_UUID;
                case 1 -> new Uuid(-1, -1);
                case 2 -> new Uuid(0, 1);
                default -> new Uuid(random.nextLong(), random.nextLong());
            };
        }

        /** Lengths around those where the length itself needs one byte more. */
        private int length() {
            if (mood == Mood.EMPTY) return 0;
            if (chance(40)) return LENGTHS[random.nextInt(LENGTHS.length)];
            if (chance(400)) return LONG_LENGTHS[random.nextInt(LONG_LENGTHS.length)];
            return chance(8) ? 0 : random.nextInt(1, 24);
        }

        private byte[] bytes() {
            byte[] bytes = new byte[length()];
            random.nextBytes(bytes);
            return bytes;
        }

        /** A string of so many bytes of UTF-8: Kafka's limit and its length prefix count those. */
        private String string() {
            int left = length();
            int alphabet = random.nextInt(6);
            StringBuilder text = new StringBuilder(left);
            while (left > 0) {
                int width = Math.min(left, alphabet < 3 ? 1 : alphabet == 3 ? 4 : random.nextInt(1, 5));
                left -= width;
                switch (width) {
                    case 1 -> text.append((char) (alphabet == 0 ? random.nextInt(0x80) : random.nextInt('-', '{')));
                    case 2 -> text.append((char) random.nextInt(0x80, 0x800));
                    case 3 -> text.append((char) (random.nextBoolean()
                        ? random.nextInt(0x800, 0xd800) : random.nextInt(0xe000, 0x10000)));
                    default -> text.appendCodePoint(random.nextInt(0x10000, 0x110000));
                }
            }
            return text.toString();
        }
    }
}
