// Messages as the driver's events, and its commands as messages.

import com.google.gson.JsonObject;
import java.util.LinkedHashMap;
import java.util.Map;
import org.jivesoftware.smack.XMPPConnection;
import org.jivesoftware.smack.packet.Message;
import org.jivesoftware.smack.packet.MessageBuilder;
import org.jivesoftware.smack.packet.StandardExtensionElement;
import org.jivesoftware.smackx.carbons.packet.CarbonExtension;
import org.jivesoftware.smackx.chat_markers.element.ChatMarkersElements.DisplayedExtension;
import org.jivesoftware.smackx.chat_markers.element.ChatMarkersElements.MarkableExtension;
import org.jivesoftware.smackx.delay.packet.DelayInformation;
import org.jivesoftware.smackx.hints.element.NoCopyHint;
import org.jivesoftware.smackx.hints.element.StoreHint;
import org.jivesoftware.smackx.mam.element.MamElements.MamResultExtension;
import org.jivesoftware.smackx.message_correct.element.MessageCorrectExtension;
import org.jivesoftware.smackx.receipts.DeliveryReceipt;
import org.jivesoftware.smackx.receipts.DeliveryReceiptRequest;
import org.jivesoftware.smackx.sid.element.OriginIdElement;
import org.jivesoftware.smackx.sid.element.StanzaIdElement;
import org.jxmpp.jid.BareJid;
import org.jxmpp.jid.impl.JidCreate;

final class Messages {
    /** The library has no class for XEP-0444. */
    private static final String REACTIONS = "urn:xmpp:reactions:0";

    private Messages() { }

    static void hear(Message message, XMPPConnection connection) {
        BareJid account = connection.getUser().asBareJid();
        boolean own = message.getFrom() == null || message.getFrom().equals(account);
        CarbonExtension carbon = CarbonExtension.from(message);
        if (message.getType() == Message.Type.error) {
            Driver.emit("error", "do", "send", "condition", message.getError().getCondition().toString());
        } else if (own && carbon != null) {
            var event = describe(carbon.getForwarded().getForwardedStanza(), account);
            event.put("copy", carbon.getDirection().toString());
            tell(event);
        } else if (MamResultExtension.from(message) == null && message.getType() != Message.Type.groupchat) {
            tell(describe(message, account));
        }
    }

    private static void tell(Map<String, Object> event) {
        if (event.get("body") != null || event.containsKey("kind")) {
            Driver.emit(event.get("body") != null ? "message" : "mark", event);
        }
    }

    /** What the library finds in a message; ids of this account (or room) only. */
    static Map<String, Object> describe(Message message, BareJid account) {
        Map<String, Object> event = new LinkedHashMap<>();
        event.put("from", message.getFrom() == null ? "" : message.getFrom().toString());
        event.put("to", message.getTo() == null ? null : message.getTo().toString());
        event.put("id", message.getStanzaId());
        event.put("body", message.getBody());
        OriginIdElement origin = OriginIdElement.getOriginId(message);
        event.put("origin", origin == null ? null : origin.getId());
        MessageCorrectExtension correction = MessageCorrectExtension.from(message);
        event.put("replaces", correction == null ? null : correction.getIdInitialMessage());
        event.put("jid", Rooms.shownSender(message));
        event.put("delayed", DelayInformation.from(message) == null ? null : "delay");
        StanzaIdElement id = StanzaIdElement.getStanzaId(message);
        event.put("sid", id == null || !id.getBy().equals(account.toString()) ? null : id.getId());
        DeliveryReceipt receipt = DeliveryReceipt.from(message);
        if (receipt != null) {
            mark(event, "received", receipt.getId());
        }
        DisplayedExtension displayed = DisplayedExtension.from(message);
        if (displayed != null) {
            mark(event, "displayed", displayed.getId());
        }
        if (message.getExtensionElement("reactions", REACTIONS) instanceof StandardExtensionElement reactions) {
            mark(event, "reactions", reactions.getAttributeValue("id"));
            event.put("emojis", reactions.getElements("reaction").stream()
                    .map(StandardExtensionElement::getText).sorted().toList());
        }
        return event;
    }

    private static void mark(Map<String, Object> event, String kind, String ref) {
        event.put("kind", kind);
        event.put("ref", ref);
    }

    static void send(JsonObject command, XMPPConnection connection) throws Exception {
        MessageBuilder message = to(command, connection).setBody(command.get("body").getAsString());
        if (command.has("receipt")) {
            DeliveryReceiptRequest.addTo(message);
        }
        if (command.has("markable")) {
            message.addExtension(MarkableExtension.INSTANCE);
        }
        if (command.has("replaces")) {
            message.addExtension(new MessageCorrectExtension(command.get("replaces").getAsString()));
        }
        if (command.has("private")) {
            CarbonExtension.Private.addTo(message);
            message.addExtension(NoCopyHint.INSTANCE);
        }
        send(message, connection);
    }

    /** Says of a message that it was received (XEP-0184), displayed (XEP-0333) or makes one react to it. */
    static void mark(JsonObject command, XMPPConnection connection) throws Exception {
        MessageBuilder message = to(command, connection);
        String ref = command.get("ref").getAsString();
        switch (command.get("kind").getAsString()) {
            case "received" -> message.addExtension(new DeliveryReceipt(ref));
            case "displayed" -> message.addExtension(new DisplayedExtension(ref));
            default -> {
                var reactions = StandardExtensionElement.builder("reactions", REACTIONS).addAttribute("id", ref);
                for (var emoji : command.getAsJsonArray("emojis")) {
                    reactions.addElement("reaction", emoji.getAsString());
                }
                message.addExtension(reactions.build());
            }
        }
        StoreHint.set(message);
        send(message, connection);
    }

    private static MessageBuilder to(JsonObject command, XMPPConnection connection) throws Exception {
        MessageBuilder message = connection.getStanzaFactory().buildMessageStanza();
        return message.to(JidCreate.from(command.get("to").getAsString())).ofType(Message.Type.chat);
    }

    private static void send(MessageBuilder builder, XMPPConnection connection) throws Exception {
        OriginIdElement.addTo(builder);
        Message message = builder.build();
        Driver.emit("sent", describe(message, connection.getUser().asBareJid()));
        connection.sendStanza(message);
    }
}
