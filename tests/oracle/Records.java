// Asks Kafka's own record classes what is right, as Oracle.java does for messages. Run it with the
// jars of one Kafka version on the class path (kafka-clients, and the libraries of the codecs):
//
//     java -cp 'JARS/*' Records.java draw SEED COUNT > logs
//     java -cp 'JARS/*' Records.java check < logs > answers
//
// `draw` writes COUNT random pieces of a log for every format, codec and level that Kafka has: mostly
// one batch, with some in a row, none at all, and a last one that is cut off.
// `check` says what Java sees in each piece, after it has verified the checksums.
//
// All streams are big-endian, without separators:
//
//     log:     its label (u16 length, UTF-8), what is in it, as below (u32 length), bytes (u32 length)
//     answer:  ok (u8: 1 or 0), what Java sees in it or the error's text (u32 length)
//     what is in it: bytes left over at the end (u32), batches (u32 count)
//     batch:   format (i8), codec (i8), flags (i8), first and last offset, greatest timestamp, delete
//              horizon (i64, -1 if none), producer (i64), its epoch (i16), first sequence number (i32),
//              leader epoch (i32), records (u32 count)
//     record:  offset, timestamp (i64), key and value (i32 length, -1 for null), headers (u32 count)
//     header:  key and value, as in a record
//
// so that what `draw` writes can be given to `check` as it is; what the log is said to hold is not
// looked at. The flags are 1 for LogAppendTime, 2 for transactional, 4 for control, 8 for a horizon.
//
// Since Kafka 4.4 these classes are in packages called `internal`. For an older one, take the word out
// of the imports that are marked.

import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.message.KRaftVersionRecord;
import org.apache.kafka.common.message.LeaderChangeMessage;
import org.apache.kafka.common.message.SnapshotFooterRecord;
import org.apache.kafka.common.message.SnapshotHeaderRecord;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.CompressionType; // marked
import org.apache.kafka.common.record.internal.ControlRecordType; // marked
import org.apache.kafka.common.record.internal.DefaultRecordBatch; // marked
import org.apache.kafka.common.record.internal.EndTransactionMarker; // marked
import org.apache.kafka.common.record.internal.MemoryRecords; // marked
import org.apache.kafka.common.record.internal.MemoryRecordsBuilder; // marked
import org.apache.kafka.common.record.internal.Record; // marked
import org.apache.kafka.common.record.internal.RecordBatch; // marked
import org.apache.kafka.common.utils.internals.ByteBufferOutputStream; // marked

public final class Records {
    public static void main(String[] args) throws IOException {
        String command = args.length == 0 ? "" : args[0];
        DataOutputStream out = new DataOutputStream(new BufferedOutputStream(System.out, 1 << 18));
        if (command.equals("draw") && args.length == 3) {
            drawAll(Long.parseUnsignedLong(args[1]), Integer.parseInt(args[2]), out);
        } else if (command.equals("check") && args.length == 1) {
            check(new DataInputStream(new BufferedInputStream(System.in, 1 << 18)), out);
        } else {
            System.err.println("usage: Records draw SEED COUNT | check");
            System.exit(2);
        }
        out.flush();
    }

    // ---- the two commands

    static void drawAll(long seed, int count, DataOutputStream out) throws IOException {
        for (Shape shape : shapes()) {
            for (int number = 0; number < count; number++) {
                String label = shape.label() + " number " + number;
                Draw draw = new Draw(shape, new SplittableRandom(seed * 31 + label.hashCode()));
                byte[] bytes = draw.log(number);
                byte[] content = describe(bytes);
                if (draw.expected != null && !Arrays.equals(draw.expected.toByteArray(), draw.only(content))) {
                    throw new IllegalStateException("Java reads other records than it wrote: " + label);
                }
                byte[] name = label.getBytes(StandardCharsets.UTF_8);
                out.writeShort(name.length);
                out.write(name);
                writeBlob(out, content);
                writeBlob(out, bytes);
            }
        }
    }

    static void check(DataInputStream in, DataOutputStream out) throws IOException {
        while (true) {
            // Whoever asks one question at a time is waiting for its answer.
            if (in.available() == 0) out.flush();
            try {
                in.skipNBytes(in.readUnsignedShort());
            } catch (EOFException end) {
                return;
            }
            in.skipNBytes(in.readInt());
            byte[] bytes = in.readNBytes(in.readInt());
            boolean ok = false;
            byte[] content;
            try {
                content = describe(bytes);
                ok = true;
            } catch (Exception | OutOfMemoryError | StackOverflowError error) {
                content = error.toString().getBytes(StandardCharsets.UTF_8);
            }
            out.writeByte(ok ? 1 : 0);
            writeBlob(out, content);
        }
    }

    static void writeBlob(DataOutputStream out, byte[] bytes) throws IOException {
        out.writeInt(bytes.length);
        out.write(bytes);
    }

    // ---- what Java sees

    static byte[] describe(byte[] bytes) throws IOException {
        ByteArrayOutputStream batches = new ByteArrayOutputStream();
        DataOutputStream out = new DataOutputStream(batches);
        int count = 0;
        int left = bytes.length;
        for (RecordBatch batch : MemoryRecords.readableRecords(ByteBuffer.wrap(bytes)).batches()) {
            batch.ensureValid();
            describe(batch, out);
            left -= batch.sizeInBytes();
            count++;
        }
        ByteBuffer head = ByteBuffer.allocate(8 + batches.size());
        return head.putInt(left).putInt(count).put(batches.toByteArray()).array();
    }

    static void describe(RecordBatch batch, DataOutputStream out) throws IOException {
        List<Record> records = new ArrayList<>();
        for (Record record : batch) {
            record.ensureValid();
            records.add(record);
        }
        int flags = (batch.timestampType() == TimestampType.LOG_APPEND_TIME ? 1 : 0)
            | (batch.isTransactional() ? 2 : 0) | (batch.isControlBatch() ? 4 : 0)
            | (batch.deleteHorizonMs().isPresent() ? 8 : 0);
        out.writeByte(batch.magic());
        out.writeByte(batch.compressionType().id);
        out.writeByte(flags);
        out.writeLong(batch.baseOffset());
        out.writeLong(batch.lastOffset());
        out.writeLong(batch.maxTimestamp());
        out.writeLong(batch.deleteHorizonMs().orElse(-1));
        out.writeLong(batch.producerId());
        out.writeShort(batch.producerEpoch());
        out.writeInt(batch.baseSequence());
        out.writeInt(batch.partitionLeaderEpoch());
        out.writeInt(records.size());
        for (Record record : records) {
            describe(out, record.offset(), record.timestamp(), array(record.key()), array(record.value()),
                record.headers());
        }
    }

    static void describe(DataOutputStream out, long offset, long timestamp, byte[] key, byte[] value,
                         Header[] headers) throws IOException {
        out.writeLong(offset);
        out.writeLong(timestamp);
        writeNullable(out, key);
        writeNullable(out, value);
        out.writeInt(headers.length);
        for (Header header : headers) {
            writeNullable(out, header.key().getBytes(StandardCharsets.UTF_8));
            writeNullable(out, header.value());
        }
    }

    static byte[] array(ByteBuffer buffer) {
        if (buffer == null) return null;
        byte[] bytes = new byte[buffer.remaining()];
        buffer.duplicate().get(bytes);
        return bytes;
    }

    static void writeNullable(DataOutputStream out, byte[] bytes) throws IOException {
        out.writeInt(bytes == null ? -1 : bytes.length);
        if (bytes != null) out.write(bytes);
    }

    // ---- what there is to draw

    record Shape(byte magic, CompressionType codec, Integer level) {
        String label() {
            return "format " + magic + " " + codec.name + (level == null ? "" : " level " + level);
        }

        Compression compression() {
            if (level == null) return Compression.of(codec).build();
            return switch (codec) {
                case GZIP -> Compression.gzip().level(level).build();
                case LZ4 -> Compression.lz4().level(level).build();
                case ZSTD -> Compression.zstd().level(level).build();
                default -> throw new IllegalStateException(codec + " has no levels");
            };
        }
    }

    static List<Shape> shapes() {
        List<Shape> shapes = new ArrayList<>();
        for (byte magic = 0; magic <= 2; magic++) {
            for (CompressionType codec : CompressionType.values()) {
                // zstd came after the formats 0 and 1, and Kafka refuses it there.
                if (codec == CompressionType.ZSTD && magic < 2) continue;
                shapes.add(new Shape(magic, codec, null));
                if (codec == CompressionType.GZIP) levels(shapes, magic, codec, 1, 9);
                if (codec == CompressionType.LZ4) levels(shapes, magic, codec, 1, 17);
                if (codec == CompressionType.ZSTD) {
                    levels(shapes, magic, codec, -131072, -131072);
                    levels(shapes, magic, codec, -100, -100);
                    levels(shapes, magic, codec, -7, 22);
                }
            }
        }
        return shapes;
    }

    static void levels(List<Shape> shapes, byte magic, CompressionType codec, int first, int last) {
        for (int level = first; level <= last; level++) shapes.add(new Shape(magic, codec, level));
    }

    // ---- drawing one piece of a log

    static final class Draw {
        private static final Header[] NONE = {};
        /** The records that were drawn; null if Java alone knows what it writes (control records). */
        ByteArrayOutputStream expected = new ByteArrayOutputStream();
        private final Shape shape;
        private final SplittableRandom random;
        private final ByteBufferOutputStream bytes = new ByteBufferOutputStream(1 << 12);
        private long nextOffset;

        Draw(Shape shape, SplittableRandom random) {
            this.shape = shape;
            this.random = random;
            nextOffset = switch (random.nextInt(4)) {
                case 0 -> 0;
                case 1 -> Long.MAX_VALUE - (1L << 40);
                default -> random.nextLong(1L << 48);
            };
        }

        private boolean chance(int outOf) {
            return random.nextInt(outOf) == 0;
        }

        byte[] log(int number) throws IOException {
            int start = 0;
            // The first of each shape is one batch, so that a count of one covers it.
            int batches = number > 0 && chance(8) ? random.nextInt(4) : 1;
            for (; batches > 0; batches--) {
                start = bytes.position();
                batch(number);
            }
            int end = bytes.position();
            if (number > 0 && end > start && chance(10)) {
                // What a fetch returns ends anywhere; the batch that is cut off is none.
                int cut = start + random.nextInt(end - start);
                expected = null;
                return Arrays.copyOf(bytes.buffer().array(), cut);
            }
            return Arrays.copyOf(bytes.buffer().array(), end);
        }

        private void batch(int number) throws IOException {
            boolean modern = shape.magic == 2;
            if (modern && number > 0 && chance(12)) {
                empty();
                return;
            }
            boolean control = modern && number > 0 && chance(12);
            boolean producer = modern && (control || chance(2));
            boolean transactional = control || producer && chance(2);
            boolean appendTime = shape.magic > 0 && chance(4);
            long horizon = modern && !appendTime && chance(8) ? timestamp() : RecordBatch.NO_TIMESTAMP;
            long appended = appendTime ? timestamp() : RecordBatch.NO_TIMESTAMP;
            int sequence = chance(4) ? Integer.MAX_VALUE - random.nextInt(3) : random.nextInt(Integer.MAX_VALUE);
            MemoryRecordsBuilder builder = new MemoryRecordsBuilder(bytes, shape.magic, shape.compression(),
                appendTime ? TimestampType.LOG_APPEND_TIME : TimestampType.CREATE_TIME, nextOffset, appended,
                producer ? random.nextLong(Long.MAX_VALUE) : RecordBatch.NO_PRODUCER_ID,
                producer ? (short) random.nextInt(1 << 15) : RecordBatch.NO_PRODUCER_EPOCH,
                producer && !control ? sequence : RecordBatch.NO_SEQUENCE, transactional, control,
                control || chance(2) ? random.nextInt(Integer.MAX_VALUE) : RecordBatch.NO_PARTITION_LEADER_EPOCH,
                Integer.MAX_VALUE, horizon);
            if (control) {
                control(builder);
                expected = null;
                nextOffset += builder.numRecords();
            } else {
                records(builder, appendTime ? appended : null);
            }
            builder.close();
        }

        /** What compaction leaves of a batch when the producer's state must be kept. */
        private void empty() {
            long last = nextOffset + random.nextInt(1000);
            ByteBuffer header = ByteBuffer.allocate(DefaultRecordBatch.RECORD_BATCH_OVERHEAD);
            DefaultRecordBatch.writeEmptyHeader(header, shape.magic, random.nextLong(1L << 40),
                (short) random.nextInt(1 << 15), random.nextInt(1 << 20), nextOffset, last, random.nextInt(1 << 20),
                chance(2) ? TimestampType.CREATE_TIME : TimestampType.LOG_APPEND_TIME, timestamp(), chance(2),
                chance(2));
            header.flip();
            bytes.write(header);
            nextOffset = last + 1;
        }

        private void control(MemoryRecordsBuilder builder) {
            long now = timestamp();
            switch (random.nextInt(5)) {
                case 0 -> builder.appendLeaderChangeMessage(now, new LeaderChangeMessage().setLeaderId(7));
                case 1 -> builder.appendSnapshotHeaderMessage(now, new SnapshotHeaderRecord());
                case 2 -> builder.appendSnapshotFooterMessage(now, new SnapshotFooterRecord());
                case 3 -> builder.appendKRaftVersionMessage(now, new KRaftVersionRecord());
                default -> builder.appendEndTxnMarker(now, new EndTransactionMarker(
                    chance(2) ? ControlRecordType.COMMIT : ControlRecordType.ABORT, random.nextInt()));
            }
        }

        private void records(MemoryRecordsBuilder builder, Long appended) throws IOException {
            int count = switch (random.nextInt(16)) {
                case 0 -> 100 + random.nextInt(1 << random.nextInt(7, 13));
                case 1, 2, 3, 4 -> 1 + random.nextInt(3);
                default -> 1 + random.nextInt(30);
            };
            boolean gaps = chance(3);
            // Large values span several of the blocks that snappy and lz4 cut the data into.
            int longest = count > 50 ? 60 : count < 4 && chance(4) ? 300_000 : 500;
            DataOutputStream out = expected == null ? null : new DataOutputStream(expected);
            for (int i = 0; i < count; i++) {
                if (gaps) nextOffset += random.nextInt(1 << random.nextInt(1, 14));
                long timestamp = shape.magic == 0 ? RecordBatch.NO_TIMESTAMP : timestamp();
                byte[] key = nullable(Math.min(longest, 40));
                byte[] value = nullable(longest);
                Header[] headers = shape.magic == 2 ? headers() : NONE;
                builder.appendWithOffset(nextOffset, timestamp, key, value, headers);
                long seen = appended == null ? timestamp : appended;
                if (out != null) describe(out, nextOffset, seen, key, value, headers);
                nextOffset++;
            }
            // Compaction may have taken the last records too; the batch keeps the offset they had.
            if (gaps && shape.magic == 2) {
                nextOffset += random.nextInt(100);
                builder.overrideLastOffset(nextOffset - 1);
            }
        }

        private long timestamp() {
            return switch (random.nextInt(12)) {
                case 0 -> 0;
                case 1 -> Long.MAX_VALUE - 1;
                case 2 -> RecordBatch.NO_TIMESTAMP;
                default -> 1_700_000_000_000L + random.nextInt(1 << random.nextInt(1, 31));
            };
        }

        /** Bytes that half compress, as real ones do; of lengths where a varint grows, at times. */
        private byte[] nullable(int longest) {
            if (chance(8)) return null;
            int length = chance(8) ? 0 : chance(20) ? 62 + random.nextInt(4) : random.nextInt(longest + 1);
            byte[] to = new byte[length];
            if (chance(4)) {
                random.nextBytes(to);
                return to;
            }
            byte[] word = new byte[1 + random.nextInt(12)];
            for (int i = 0; i < length; i++) {
                if (i % word.length == 0 && chance(4)) random.nextBytes(word);
                to[i] = word[i % word.length];
            }
            return to;
        }

        private Header[] headers() {
            if (!chance(3)) return NONE;
            Header[] headers = new Header[random.nextInt(5)];
            String[] keys = {"", "trace", "trace", "ключ", "鍵\uD83D\uDD11", "k".repeat(130)};
            for (int i = 0; i < headers.length; i++) {
                headers[i] = new RecordHeader(keys[random.nextInt(keys.length)], nullable(80));
            }
            return headers;
        }

        /** The records alone out of what a log holds, without what is said of its batches. */
        byte[] only(byte[] content) {
            ByteArrayOutputStream records = new ByteArrayOutputStream();
            ByteBuffer from = ByteBuffer.wrap(content);
            from.getInt();
            for (int batches = from.getInt(); batches > 0; batches--) {
                from.position(from.position() + 3 + 5 * 8 + 2 + 4 + 4);
                for (int count = from.getInt(); count > 0; count--) {
                    int start = from.position();
                    from.position(start + 16);
                    skip(from);
                    skip(from);
                    for (int left = from.getInt(); left > 0; left--) {
                        skip(from);
                        skip(from);
                    }
                    records.write(content, start, from.position() - start);
                }
            }
            return records.toByteArray();
        }

        private void skip(ByteBuffer from) {
            int length = from.getInt();
            from.position(from.position() + Math.max(length, 0));
        }
    }
}
