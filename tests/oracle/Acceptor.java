import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.security.PrivilegedExceptionAction;
import java.util.Map;
import javax.security.auth.Subject;
import javax.security.auth.callback.CallbackHandler;
import javax.security.auth.login.AppConfigurationEntry;
import javax.security.auth.login.Configuration;
import javax.security.auth.login.LoginContext;
import javax.security.sasl.AuthorizeCallback;
import javax.security.sasl.Sasl;
import javax.security.sasl.SaslException;
import javax.security.sasl.SaslServer;

/**
 * The broker's side of SASL/GSSAPI as Kafka's broker does it, by Java's own Kerberos, over standard input and output.
 *
 * Arguments: keytab, principal of the service, its service name, its host. Reads tokens with a length of four bytes in front;
 * answers each with a byte (0 go on, 1 done, 2 refused), a length and a token; after "done" comes the authorized name
 * in the same form.
 */
public final class Acceptor {
    public static void main(String[] arguments) throws Exception {
        Configuration.setConfiguration(new Configuration() {
            @Override
            public AppConfigurationEntry[] getAppConfigurationEntry(String name) {
                return new AppConfigurationEntry[] {new AppConfigurationEntry(
                    "com.sun.security.auth.module.Krb5LoginModule",
                    AppConfigurationEntry.LoginModuleControlFlag.REQUIRED,
                    Map.of("useKeyTab", "true", "storeKey", "true", "isInitiator", "false", "keyTab", arguments[0],
                        "principal", arguments[1]))};
            }
        });
        LoginContext login = new LoginContext("KafkaServer");
        login.login();
        Subject.doAs(login.getSubject(), (PrivilegedExceptionAction<Void>) () -> {
            serve(arguments[2], arguments[3]);
            return null;
        });
    }

    private static void serve(String service, String host) throws Exception {
        CallbackHandler authorize = callbacks -> {
            for (var callback : callbacks) {
                if (callback instanceof AuthorizeCallback asked) {
                    asked.setAuthorized(asked.getAuthenticationID().equals(asked.getAuthorizationID()));
                    asked.setAuthorizedID(asked.getAuthorizationID());
                }
            }
        };
        DataInputStream from = new DataInputStream(System.in);
        DataOutputStream to = new DataOutputStream(System.out);
        while (true) {
            SaslServer server = Sasl.createSaslServer("GSSAPI", service, host, Map.of(), authorize);
            try {
                while (!server.isComplete()) {
                    int length = from.read();
                    if (length < 0) {
                        return;
                    }
                    length = length << 24 | from.readUnsignedByte() << 16 | from.readUnsignedShort();
                    byte[] answer = server.evaluateResponse(from.readNBytes(length));
                    say(to, server.isComplete() ? 1 : 0, answer == null ? new byte[0] : answer);
                }
                say(to, 1, server.getAuthorizationID().getBytes("UTF-8"));
            } catch (SaslException refused) {
                say(to, 2, (refused + " " + refused.getCause()).getBytes("UTF-8"));
            }
        }
    }

    private static void say(DataOutputStream to, int kind, byte[] token) throws Exception {
        to.writeByte(kind);
        to.writeInt(token.length);
        to.write(token);
        to.flush();
    }
}
