// Kafka's own SASL servers, as brokers run them, over lines of text.
//
//     begin MECHANISM     a new server of that mechanism; answered by "ok"
//     token HEX           what the client says; answered by "more HEX" or "done HEX" with what the server says,
//                         or by "error WORDS"
//
// The users are the arguments, in hex, since they may have any character: name and password for PLAIN and SCRAM,
// id and HMAC of a delegation token, and the token that OAUTHBEARER takes.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Set;
import javax.security.auth.callback.Callback;
import javax.security.auth.callback.NameCallback;
import javax.security.auth.login.AppConfigurationEntry;
import javax.security.sasl.SaslServer;
import org.apache.kafka.common.security.auth.AuthenticateCallbackHandler;
import org.apache.kafka.common.security.oauthbearer.OAuthBearerExtensionsValidatorCallback;
import org.apache.kafka.common.security.oauthbearer.OAuthBearerToken;
import org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallback;
import org.apache.kafka.common.security.oauthbearer.internals.OAuthBearerSaslServer;
import org.apache.kafka.common.security.plain.PlainAuthenticateCallback;
import org.apache.kafka.common.security.plain.internals.PlainSaslServer;
import org.apache.kafka.common.security.scram.ScramCredentialCallback;
import org.apache.kafka.common.security.scram.internals.ScramFormatter;
import org.apache.kafka.common.security.scram.internals.ScramMechanism;
import org.apache.kafka.common.security.scram.internals.ScramSaslServer;
import org.apache.kafka.common.security.token.delegation.internals.DelegationTokenCredentialCallback;

public class Sasl {
    public static void main(String[] arguments) throws Exception {
        String[] users = Arrays.stream(arguments).map(Sasl::text).toArray(String[]::new);
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        SaslServer server = null;
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] words = line.split(" ", -1);
            if (words[0].equals("begin")) {
                server = server(words[1], new Users(users, words[1]));
                System.out.println("ok");
            } else {
                System.out.println(answer(server, HexFormat.of().parseHex(words[1])));
            }
        }
    }

    static String text(String hex) {
        return new String(HexFormat.of().parseHex(hex), StandardCharsets.UTF_8);
    }

    static String answer(SaslServer server, byte[] token) {
        try {
            byte[] said = server.evaluateResponse(token);
            String hex = said == null ? "" : HexFormat.of().formatHex(said);
            return (server.isComplete() ? "done " : "more ") + hex;
        } catch (Exception e) {
            return "error " + e;
        }
    }

    static SaslServer server(String mechanism, Users users) throws Exception {
        switch (mechanism) {
            case "PLAIN":
                return new PlainSaslServer(users);
            case "OAUTHBEARER":
                return new OAuthBearerSaslServer(users);
            default:
                return new ScramSaslServer(ScramMechanism.forMechanismName(mechanism), Map.of(), users);
        }
    }

    // What a broker's callback handlers would look up.
    record Users(String[] known, String mechanism) implements AuthenticateCallbackHandler {
        @Override
        public void configure(Map<String, ?> configs, String name, List<AppConfigurationEntry> entries) {
        }

        @Override
        public void close() {
        }

        @Override
        public void handle(Callback[] callbacks) {
            try {
                String name = null;
                for (Callback callback : callbacks) {
                    if (callback instanceof NameCallback asked) {
                        name = asked.getDefaultName();
                    } else if (callback instanceof PlainAuthenticateCallback asked) {
                        boolean right = new String(asked.password()).equals(known[1]);
                        asked.authenticated(name.equals(known[0]) && right);
                    } else if (callback instanceof ScramCredentialCallback asked) {
                        scram(asked, name);
                    } else if (callback instanceof OAuthBearerValidatorCallback asked) {
                        bearer(asked);
                    } else if (callback instanceof OAuthBearerExtensionsValidatorCallback asked) {
                        asked.inputExtensions().map().keySet().forEach(asked::valid);
                    }
                }
            } catch (Exception e) {
                throw new IllegalStateException(e);
            }
        }

        void scram(ScramCredentialCallback asked, String name) throws Exception {
            boolean token = asked instanceof DelegationTokenCredentialCallback;
            if (token) {
                ((DelegationTokenCredentialCallback) asked).tokenOwner("owner");
                ((DelegationTokenCredentialCallback) asked).tokenExpiryTimestamp(Long.MAX_VALUE);
            }
            int user = token ? 2 : 0;
            if (name.equals(known[user])) {
                ScramFormatter formatter = new ScramFormatter(ScramMechanism.forMechanismName(mechanism));
                asked.scramCredential(formatter.generateCredential(known[user + 1], 4096));
            }
        }

        void bearer(OAuthBearerValidatorCallback asked) {
            if (!asked.tokenValue().equals(known[4])) {
                asked.error("invalid_token", "scope", null);
                return;
            }
            asked.token(new OAuthBearerToken() {
                @Override
                public String value() {
                    return asked.tokenValue();
                }

                @Override
                public Set<String> scope() {
                    return Set.of();
                }

                @Override
                public long lifetimeMs() {
                    return Long.MAX_VALUE;
                }

                @Override
                public String principalName() {
                    return "owner";
                }

                @Override
                public Long startTimeMs() {
                    return null;
                }
            });
        }
    }
}
