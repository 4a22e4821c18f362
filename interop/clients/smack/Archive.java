// What the driver asks of Smack's MamManager.

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.util.ArrayList;
import java.util.List;
import org.jivesoftware.smack.XMPPConnection;
import org.jivesoftware.smackx.mam.MamManager;
import org.jivesoftware.smackx.mam.MamManager.MamQuery;
import org.jivesoftware.smackx.mam.MamManager.MamQueryArgs;
import org.jivesoftware.smackx.mam.element.MamElements.MamResultExtension;
import org.jivesoftware.smackx.mam.element.MamPrefsIQ.DefaultBehavior;
import org.jivesoftware.smackx.xdata.FormField;
import org.jxmpp.jid.Jid;
import org.jxmpp.jid.impl.JidCreate;
import org.jxmpp.util.XmppDateTime;

final class Archive {
    private final XMPPConnection connection;
    private final MamManager mam;

    /** That of the account, or of the room that the command names. */
    Archive(XMPPConnection connection, JsonObject command) throws Exception {
        this.connection = connection;
        mam = command.has("room")
                ? MamManager.getInstanceFor(connection, JidCreate.from(text(command, "room")))
                : MamManager.getInstanceFor(connection);
    }

    /** One page, or with `pages` ("forward", "backward") as many as there are; the oldest message first. */
    void query(JsonObject command) throws Exception {
        String pages = command.has("pages") ? text(command, "pages") : "";
        int max = command.has("max") ? command.get("max").getAsInt() : -1;
        MamQueryArgs.Builder arguments = MamQueryArgs.builder();
        if (max == 0) {
            arguments.onlyReturnMessageCount();
        } else if (max > 0) {
            arguments.setResultPageSizeTo(max);
        }
        if (pages.equals("backward")) {
            arguments.queryLastPage();
        }
        for (var argument : command.entrySet()) {
            narrow(arguments, argument.getKey(), argument.getValue());
        }
        MamQuery query = mam.queryArchive(arguments.build());
        List<MamResultExtension> results = new ArrayList<>(query.getMamResultExtensions());
        while (!pages.isEmpty() && !query.isComplete() && query.getMessageCount() > 0) {
            if (pages.equals("backward")) {
                query.pagePrevious(max);
                results.addAll(0, query.getMamResultExtensions());
            } else {
                query.pageNext(max);
                results.addAll(query.getMamResultExtensions());
            }
        }
        for (MamResultExtension result : results) {
            var forwarded = result.getForwarded();
            var event = Messages.describe(forwarded.getForwardedStanza(), connection.getUser().asBareJid());
            event.put("sid", result.getId());
            event.put("stamp", XmppDateTime.formatXEP0082Date(forwarded.getDelayInformation().getStamp()));
            Driver.emit("archived", event);
        }
        var set = query.getPage().getMamFinIq().getRSMSet();
        Driver.emit("archive",
                "complete", query.isComplete(),
                "first", set.getFirst(),
                "last", set.getLast(),
                "count", set.getCount() < 0 ? null : set.getCount());
    }

    private static void narrow(MamQueryArgs.Builder arguments, String name, JsonElement value) throws Exception {
        switch (name) {
            case "with" -> arguments.limitResultsToJid(JidCreate.from(value.getAsString()));
            case "start" -> arguments.limitResultsSince(XmppDateTime.parseXEP0082Date(value.getAsString()));
            case "end" -> arguments.limitResultsBefore(XmppDateTime.parseXEP0082Date(value.getAsString()));
            case "after" -> arguments.afterUid(value.getAsString());
            case "before" -> {
                if (value.getAsString().isEmpty()) {
                    arguments.queryLastPage();
                } else {
                    arguments.beforeUid(value.getAsString());
                }
            }
            case "before_id", "after_id" -> arguments.withAdditionalFormField(
                    FormField.textSingleBuilder(name.replace('_', '-')).setValue(value.getAsString()).build());
            case "ids" -> {
                var field = FormField.listMultiBuilder("ids");
                value.getAsJsonArray().forEach(id -> field.addValue(id.getAsString()));
                arguments.withAdditionalFormField(field.build());
            }
            default -> { }
        }
    }

    /** Asks for the preferences, or sets them when there is a default. */
    void preferences(JsonObject command) throws Exception {
        if (command.has("default")) {
            var prefs = mam.retrieveArchivingPreferences().asMamPrefs();
            prefs.setDefaultBehavior(DefaultBehavior.valueOf(text(command, "default")));
            replace(prefs.getAlwaysJids(), command, "always");
            replace(prefs.getNeverJids(), command, "never");
            mam.updateArchivingPreferences(prefs);
        }
        var prefs = mam.retrieveArchivingPreferences().asMamPrefs();
        Driver.emit("archive-prefs",
                "default", prefs.getDefaultBehavior().toString(),
                "always", prefs.getAlwaysJids().stream().map(Jid::toString).sorted().toList(),
                "never", prefs.getNeverJids().stream().map(Jid::toString).sorted().toList());
    }

    private static void replace(List<Jid> jids, JsonObject command, String name) throws Exception {
        jids.clear();
        if (command.has(name)) {
            for (JsonElement jid : command.getAsJsonArray(name)) {
                jids.add(JidCreate.from(jid.getAsString()));
            }
        }
    }

    private static String text(JsonObject command, String key) {
        return command.get(key).getAsString();
    }
}
