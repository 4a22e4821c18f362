// Smack (Java) behind the line protocol of ../../README.md.

import com.google.gson.Gson;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.BufferedReader;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.net.InetAddress;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import javax.net.SocketFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManager;
import javax.net.ssl.TrustManagerFactory;
import javax.net.ssl.X509TrustManager;
import org.jivesoftware.smack.ConnectionListener;
import org.jivesoftware.smack.ConnectionConfiguration.SecurityMode;
import org.jivesoftware.smack.XMPPException.XMPPErrorException;
import org.jivesoftware.smack.filter.StanzaTypeFilter;
import org.jivesoftware.smack.packet.Message;
import org.jivesoftware.smack.packet.Presence;
import org.jivesoftware.smack.packet.PresenceBuilder;
import org.jivesoftware.smack.packet.StanzaBuilder;
import org.jivesoftware.smack.roster.AbstractRosterListener;
import org.jivesoftware.smack.roster.Roster;
import org.jivesoftware.smack.sasl.SASLErrorException;
import org.jivesoftware.smack.tcp.XMPPTCPConnection;
import org.jivesoftware.smack.tcp.XMPPTCPConnectionConfiguration;
import org.jivesoftware.smackx.carbons.CarbonManager;
import org.jivesoftware.smackx.disco.ServiceDiscoveryManager;
import org.jivesoftware.smackx.disco.packet.DiscoverInfo;
import org.jivesoftware.smackx.ping.PingManager;
import org.jivesoftware.smackx.receipts.DeliveryReceiptManager;
import org.jivesoftware.smackx.receipts.DeliveryReceiptManager.AutoReceiptMode;
import org.jxmpp.jid.BareJid;
import org.jxmpp.jid.Jid;
import org.jxmpp.jid.impl.JidCreate;

public final class Driver {
    private static final Gson GSON = new Gson();
    private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);

    private XMPPTCPConnection connection;
    private Roster roster;
    private CarbonManager carbons;
    private Rooms rooms;

    static void emit(String event, Object... pairs) {
        Map<String, Object> fields = new LinkedHashMap<>();
        for (int i = 0; i < pairs.length; i += 2) {
            fields.put((String) pairs[i], pairs[i + 1]);
        }
        emit(event, fields);
    }

    static void emit(String event, Map<String, Object> more) {
        Map<String, Object> fields = new LinkedHashMap<>();
        fields.put("ev", event);
        fields.putAll(more);
        synchronized (OUT) {
            OUT.println(GSON.toJson(fields));
        }
    }

    private void connect(JsonObject command) throws Exception {
        Jid jid = JidCreate.from(text(command, "jid"));
        boolean direct = text(command, "tls").equals("direct");
        X509TrustManager trust = trusting(text(command, "ca"));
        var builder = XMPPTCPConnectionConfiguration.builder()
                .setXmppDomain(jid.asDomainBareJid())
                .setUsernameAndPassword(jid.getLocalpartOrNull(), text(command, "password"))
                .setResource("smack")
                .setHost(text(command, "host"))
                .setPort(command.get("port").getAsInt())
                .setCustomX509TrustManager(trust)
                .setSendPresence(false);
        if (direct) {
            builder.setSecurityMode(SecurityMode.disabled).setSocketFactory(new DirectTls(trust));
        } else {
            builder.setSecurityMode(SecurityMode.required);
        }
        connection = new XMPPTCPConnection(builder.build());
        connection.addSyncStanzaListener(s -> Messages.hear((Message) s, connection), StanzaTypeFilter.MESSAGE);
        connection.addSyncStanzaListener(s -> hear((Presence) s), StanzaTypeFilter.PRESENCE);
        connection.addConnectionListener(new ConnectionListener() {
            @Override
            public void connectionClosedOnError(Exception error) {
                emit("dropped");
            }
        });
        rooms = new Rooms(connection);
        carbons = CarbonManager.getInstanceFor(connection);
        roster = Roster.getInstanceFor(connection);
        roster.setSubscriptionMode(Roster.SubscriptionMode.manual);
        roster.addRosterListener(new AbstractRosterListener() {
            @Override
            public void entriesAdded(Collection<Jid> addresses) {
                tellRoster();
            }

            @Override
            public void entriesUpdated(Collection<Jid> addresses) {
                tellRoster();
            }
        });
        connection.connect();
        connection.login();
        emit("online", "jid", connection.getUser().toString(), "mechanism", connection.getUsedSaslMechansism());
    }

    private static X509TrustManager trusting(String file) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (FileInputStream pem = new FileInputStream(file)) {
            store.setCertificateEntry("server", CertificateFactory.getInstance("X.509").generateCertificate(pem));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        return (X509TrustManager) trust.getTrustManagers()[0];
    }

    /** Sockets that speak TLS from the first byte and check the certificate's name. */
    private static final class DirectTls extends SocketFactory {
        private final SocketFactory factory;

        DirectTls(X509TrustManager trust) throws GeneralSecurityException {
            SSLContext context = SSLContext.getInstance("TLS");
            context.init(null, new TrustManager[] {trust}, null);
            factory = context.getSocketFactory();
        }

        @Override
        public Socket createSocket() throws IOException {
            SSLSocket socket = (SSLSocket) factory.createSocket();
            var parameters = socket.getSSLParameters();
            parameters.setEndpointIdentificationAlgorithm("HTTPS");
            parameters.setApplicationProtocols(new String[] {"xmpp-client"});
            socket.setSSLParameters(parameters);
            return socket;
        }

        @Override
        public Socket createSocket(String host, int port) {
            throw new UnsupportedOperationException();
        }

        @Override
        public Socket createSocket(String host, int port, InetAddress from, int fromPort) {
            throw new UnsupportedOperationException();
        }

        @Override
        public Socket createSocket(InetAddress host, int port) {
            throw new UnsupportedOperationException();
        }

        @Override
        public Socket createSocket(InetAddress host, int port, InetAddress from, int fromPort) {
            throw new UnsupportedOperationException();
        }
    }

    private static void hear(Presence presence) {
        String from = presence.getFrom().toString();
        switch (presence.getType()) {
            case available, unavailable -> emit("presence", "from", from, "type", presence.getType().toString(),
                    "status", presence.getStatus() == null ? "" : presence.getStatus());
            case subscribe, subscribed ->
                emit(presence.getType().toString(), "from", presence.getFrom().asBareJid().toString());
            default -> { }
        }
    }

    private void tellRoster() {
        List<Map<String, String>> items = roster.getEntries().stream()
                .map(e -> Map.of("jid", e.getJid().toString(), "subscription", e.getType().toString()))
                .toList();
        emit("roster", "items", items);
    }

    private void send(PresenceBuilder presence) throws Exception {
        connection.sendStanza(presence.build());
    }

    private void perform(JsonObject command) throws Exception {
        String action = text(command, "do");
        BareJid contact = command.has("jid") ? JidCreate.bareFrom(text(command, "jid")) : null;
        Jid to = command.has("to") ? JidCreate.from(text(command, "to")) : null;
        switch (action) {
            case "connect" -> connect(command);
            case "presence" -> send(StanzaBuilder.buildPresence()
                    .ofType(Presence.Type.available)
                    .setStatus(command.has("status") ? text(command, "status") : null));
            case "roster" -> {
                roster.reloadAndWait();
                tellRoster();
            }
            case "roster-add" -> roster.createItem(contact, "contact", null);
            case "subscribe" -> send(StanzaBuilder.buildPresence().ofType(Presence.Type.subscribe).to(contact));
            case "approve" -> send(StanzaBuilder.buildPresence().ofType(Presence.Type.subscribed).to(contact));
            case "send" -> Messages.send(command, connection);
            case "mark" -> Messages.mark(command, connection);
            case "carbons" -> {
                boolean on = !command.has("on") || command.get("on").getAsBoolean();
                carbons.setCarbonsEnabled(on);
                emit("carbons", "on", on);
            }
            case "archive" -> new Archive(connection, command).query(command);
            case "archive-prefs" -> new Archive(connection, command).preferences(command);
            case "ping" -> {
                if (!PingManager.getInstanceFor(connection).ping(to)) {
                    throw new IOException("no pong");
                }
                emit("pong");
            }
            case "disco" -> {
                DiscoverInfo info = ServiceDiscoveryManager.getInstanceFor(connection).discoverInfo(to);
                emit("disco",
                        "features", info.getFeatures().stream().map(DiscoverInfo.Feature::getVar).toList(),
                        "identities", info.getIdentities().stream()
                                .map(i -> i.getCategory() + "/" + i.getType()).toList());
            }
            case "drop" -> {
                connection.instantShutdown();
                emit("dropped");
            }
            case "resume" -> {
                connection.connect();
                connection.login();
                if (!connection.streamWasResumed()) {
                    throw new IOException("a new session in place of the old one");
                }
                emit("resumed");
            }
            case "quit" -> {
                if (connection != null) {
                    connection.disconnect();
                }
                emit("bye");
                System.exit(0);
            }
            default -> rooms.perform(action, command);
        }
    }

    private static String text(JsonObject command, String key) {
        return command.get(key).getAsString();
    }

    public static void main(String[] arguments) throws IOException {
        DeliveryReceiptManager.setDefaultAutoReceiptMode(AutoReceiptMode.disabled);
        Driver driver = new Driver();
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            JsonObject command = JsonParser.parseString(line).getAsJsonObject();
            try {
                driver.perform(command);
            } catch (SASLErrorException refused) {
                emit("error", "do", text(command, "do"), "text", refused.toString(),
                        "condition", refused.getSASLFailure().getSASLErrorString());
            } catch (XMPPErrorException refused) {
                emit("error", "do", text(command, "do"), "text", refused.toString(),
                        "condition", refused.getStanzaError().getCondition().toString());
            } catch (Exception error) {
                emit("error", "do", text(command, "do"), "condition", "", "text", error.toString());
            }
        }
    }
}
