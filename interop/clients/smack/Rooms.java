// What the driver asks of Smack's MultiUserChat, and what that tells.

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.jivesoftware.smack.XMPPConnection;
import org.jivesoftware.smack.packet.Message;
import org.jivesoftware.smack.packet.Presence;
import org.jivesoftware.smackx.muc.MultiUserChat;
import org.jivesoftware.smackx.muc.MultiUserChatManager;
import org.jivesoftware.smackx.muc.ParticipantStatusListener;
import org.jivesoftware.smackx.muc.UserStatusListener;
import org.jivesoftware.smackx.muc.packet.MUCItem;
import org.jivesoftware.smackx.muc.packet.MUCUser;
import org.jxmpp.jid.EntityBareJid;
import org.jxmpp.jid.EntityFullJid;
import org.jxmpp.jid.Jid;
import org.jxmpp.jid.impl.JidCreate;
import org.jxmpp.jid.parts.Resourcepart;

final class Rooms {
    private final MultiUserChatManager manager;
    private final Map<EntityBareJid, MultiUserChat> rooms = new LinkedHashMap<>();
    /** Those one had last: the library forgets them before it tells why one is no longer inside. */
    private final Map<EntityBareJid, String> nicks = new ConcurrentHashMap<>();

    Rooms(XMPPConnection connection) {
        manager = MultiUserChatManager.getInstanceFor(connection);
    }

    void perform(String action, JsonObject command) throws Exception {
        MultiUserChat room = room(JidCreate.entityBareFrom(text(command, "room")));
        switch (action) {
            case "room-join" -> join(room, command);
            case "room-leave" -> {
                String nick = room.getNickname().toString();
                room.leave(); // and hears no more of the room, not even that
                tell("room-gone", room, "nick", nick, "how", "left", "own", true);
            }
            case "room-configure" -> configure(room, command.getAsJsonObject("values"));
            case "room-say" -> room.sendMessage(text(command, "body"));
            case "room-private" -> room.createPrivateChat(occupant(room, text(command, "nick")), null)
                    .sendMessage(text(command, "body"));
            case "room-subject" -> room.changeSubject(text(command, "subject"));
            case "room-nick" -> room.changeNickname(Resourcepart.from(text(command, "nick")));
            case "room-kick" -> room.kickParticipant(Resourcepart.from(text(command, "nick")), text(command, "reason"));
            case "room-affiliation" -> {
                Jid jid = JidCreate.from(text(command, "jid"));
                switch (text(command, "affiliation")) {
                    case "outcast" -> room.banUser(jid, text(command, "reason"));
                    case "none" -> room.revokeMembership(jid);
                    default -> throw new IllegalArgumentException(text(command, "affiliation"));
                }
                tell("room-affiliation", room, "jid", jid.toString());
            }
            default -> throw new IllegalArgumentException(action);
        }
    }

    private void join(MultiUserChat room, JsonObject command) throws Exception {
        var how = room.getEnterConfigurationBuilder(Resourcepart.from(text(command, "nick")));
        if (command.has("history")) {
            how.requestMaxStanzasHistory(command.get("history").getAsInt());
        }
        boolean created = room.createOrJoin(how.build()) != null;
        nicks.put(room.getRoom(), room.getNickname().toString());
        tell("room-joined", room, "nick", room.getNickname().toString(), "created", created);
    }

    private static void configure(MultiUserChat room, JsonObject values) throws Exception {
        var form = room.getConfigurationForm().getFillableForm();
        for (Map.Entry<String, JsonElement> field : values.entrySet()) {
            if (field.getValue().getAsJsonPrimitive().isBoolean()) {
                form.setAnswer(field.getKey(), field.getValue().getAsBoolean());
            } else {
                form.setAnswer(field.getKey(), field.getValue().getAsString());
            }
        }
        room.sendConfigurationForm(form);
        tell("room-configured", room);
    }

    private MultiUserChat room(EntityBareJid jid) {
        return rooms.computeIfAbsent(jid, key -> {
            MultiUserChat room = manager.getMultiUserChat(jid);
            listen(room);
            return room;
        });
    }

    private void listen(MultiUserChat room) {
        room.addMessageListener(message -> {
            if (message.getBody() != null) {
                var event = Messages.describe(message, room.getRoom());
                event.put("room", room.getRoom().toString());
                event.put("nick", nick(message.getFrom()));
                Driver.emit("room-message", event);
            } else if (message.getSubject() != null) {
                tell("room-subject", room, "nick", nick(message.getFrom()), "subject", message.getSubject());
            }
        });
        room.addParticipantListener(presence -> {
            if (presence.getType() == Presence.Type.available) {
                MUCItem occupant = MUCUser.from(presence).getItem();
                tell("room-occupant", room, "nick", nick(presence.getFrom()),
                        "affiliation", occupant.getAffiliation().toString(), "role", occupant.getRole().toString(),
                        "jid", occupant.getJid() == null ? null : occupant.getJid().toString());
            }
        });
        room.addParticipantStatusListener(new ParticipantStatusListener() {
            @Override
            public void left(EntityFullJid occupant) {
                tell("room-gone", room, "nick", nick(occupant), "how", "left");
            }

            @Override
            public void kicked(EntityFullJid occupant, Jid actor, String reason) {
                tell("room-gone", room, "nick", nick(occupant), "how", "kicked", "reason", reason);
            }

            @Override
            public void banned(EntityFullJid occupant, Jid actor, String reason) {
                tell("room-gone", room, "nick", nick(occupant), "how", "banned", "reason", reason);
            }

            @Override
            public void nicknameChanged(EntityFullJid occupant, Resourcepart to) {
                tell("room-renamed", room, "nick", nick(occupant), "to", to.toString());
            }
        });
        room.addUserStatusListener(new UserStatusListener() {
            @Override
            public void kicked(Jid actor, String reason) {
                own("kicked", reason);
            }

            @Override
            public void banned(Jid actor, String reason) {
                own("banned", reason);
            }

            private void own(String how, String reason) {
                tell("room-gone", room, "nick", nicks.get(room.getRoom()), "how", how, "reason", reason, "own", true);
            }
        });
    }

    /** The real JID that a room shows of a message's sender, or null. */
    static String shownSender(Message message) {
        MUCUser user = MUCUser.from(message);
        boolean shown = user != null && user.getItem() != null && user.getItem().getJid() != null;
        return shown ? user.getItem().getJid().toString() : null;
    }

    private static EntityFullJid occupant(MultiUserChat room, String nick) throws Exception {
        return JidCreate.entityFullFrom(room.getRoom(), Resourcepart.from(nick));
    }

    private static String nick(Jid occupant) {
        Resourcepart nick = occupant.getResourceOrNull();
        return nick == null ? "" : nick.toString();
    }

    private static void tell(String event, MultiUserChat room, Object... pairs) {
        Map<String, Object> fields = new LinkedHashMap<>();
        fields.put("room", room.getRoom().toString());
        for (int i = 0; i < pairs.length; i += 2) {
            fields.put((String) pairs[i], pairs[i + 1]);
        }
        Driver.emit(event, fields);
    }

    private static String text(JsonObject command, String key) {
        return command.get(key).getAsString();
    }
}
