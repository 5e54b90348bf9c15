import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.TreeMap;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.zip.CRC32;
import java.util.zip.Deflater;

/** Threads, direct buffers and compression, which are outside the collected heap. */
public class Work {
    static long work(int seed) {
        CRC32 sum = new CRC32();
        List<ByteBuffer> kept = new ArrayList<>();
        for (int i = 0; i < 400; i++) {
            ByteBuffer buffer = ByteBuffer.allocateDirect(1 + (seed * i * 7919) % 50000);
            while (buffer.hasRemaining()) {
                buffer.put((byte) (i * seed));
            }
            kept.add(buffer.flip());
        }
        kept.forEach(sum::update);
        byte[] text = "antifreeze ".repeat(20000 + seed).getBytes();
        byte[] packed = new byte[text.length];
        for (int i = 0; i < 5; i++) {
            Deflater deflater = new Deflater();
            deflater.setInput(text);
            deflater.finish();
            sum.update(packed, 0, deflater.deflate(packed));
            deflater.end();
        }
        return sum.getValue();
    }

    public static void main(String[] arguments) throws Exception {
        TreeMap<String, Integer> map = new TreeMap<>();
        for (int i = 0; i < 200000; i++) {
            map.merge("key" + i % 7919, i % 13, Integer::sum);
        }
        System.out.println(map.size() + " " + map.firstEntry() + " " + map.hashCode());
        var pool = Executors.newFixedThreadPool(4);
        List<Future<Long>> answers = new ArrayList<>();
        for (int seed = 1; seed < 9; seed++) {
            int own = seed;
            answers.add(pool.submit(() -> work(own)));
        }
        for (Future<Long> answer : answers) {
            System.out.println(answer.get());
        }
        pool.shutdown();
    }
}
