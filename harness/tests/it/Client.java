// Kafka's own client at a listener: for each properties file given, one line: "in" with the number of nodes, or
// "out" with the reason. Run as a single file with the jars of a release.
import java.io.FileInputStream;
import java.util.Properties;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.AdminClient;

public class Client {
    public static void main(String[] files) throws Exception {
        for (String file : files) {
            Properties properties = new Properties();
            try (FileInputStream in = new FileInputStream(file)) {
                properties.load(in);
            }
            System.out.println(answer(properties).replace('\n', ' '));
        }
        System.exit(0);
    }

    private static String answer(Properties properties) {
        try (AdminClient client = AdminClient.create(properties)) {
            return "in " + client.describeCluster().nodes().get(30, TimeUnit.SECONDS).size();
        } catch (Exception e) {
            StringBuilder why = new StringBuilder("out");
            for (Throwable t = e; t != null; t = t.getCause()) {
                why.append(' ').append(t);
            }
            return why.toString();
        }
    }
}
