import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import org.rocksdb.*;

/** Drops the ephemeral keys that a killed broker left in its metadata, then starts the broker. */
public class PulsarTest {
    public static void main(String[] args) throws Exception {
        for (int i = 0; i + 1 < args.length; i++)
            if (args[i].equals("--metadata-dir") && Files.exists(Path.of(args[i + 1], "CURRENT")))
                clean(args[i + 1]);
        org.apache.pulsar.PulsarStandaloneStarter.main(args);
    }

    static void clean(String folder) throws Exception {
        RocksDB.loadLibrary();
        try (Options options = new Options(); RocksDB db = RocksDB.open(options, folder);
             RocksIterator at = db.newIterator(); WriteOptions sync = new WriteOptions().setSync(true)) {
            for (at.seekToFirst(); at.isValid(); at.next()) {
                byte[] key = at.key(), value = at.value();
                // A header: its size (41), a version, four longs, whether it is ephemeral.
                if (key[0] == '/' && value.length >= 41 && ByteBuffer.wrap(value).getInt() == 41
                        && value[40] == 1)
                    db.delete(sync, key);
            }
        }
    }
}
