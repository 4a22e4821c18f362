// A component with @xmpp/component (JavaScript), behind the line protocol of ../README.md.

import { appendFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { component, xml } from "@xmpp/component";

const [domain, secret, port, journal] = process.argv.slice(2);
const emit = (ev, fields) => process.stdout.write(JSON.stringify({ ev, ...fields }) + "\n");

const xmpp = component({ service: `xmpp://127.0.0.1:${port}`, domain, password: secret });
xmpp.timeout = 15_000; // two seconds would be little for a busy machine
xmpp.reconnect.delay = 200;

xmpp.on("online", () => emit("online"));
xmpp.on("disconnect", () => emit("offline"));
xmpp.on("error", (error) => emit("refused", { condition: error.condition ?? String(error) }));

xmpp.on("stanza", (stanza) => {
  const { from, to, type } = stanza.attrs;
  if (stanza.is("message")) {
    const body = stanza.getChildText("body");
    if (type === "error") {
      emit("bounced", { body, condition: stanza.getChild("error").children[0].name });
    } else if (body !== null) {
      // Whoever kills this process finds in the journal what it has taken.
      appendFileSync(journal, body + "\n");
      if (body.startsWith("echo ")) {
        xmpp.send(xml("message", { from: to, to: from, type: "chat" }, xml("body", {}, body.slice(5))));
      }
    }
  } else if (stanza.is("presence") && type === "subscribe") {
    xmpp.send(xml("presence", { from: to, to: from, type: "subscribed" }));
    xmpp.send(xml("presence", { from: to, to: from, type: "subscribe" }));
    xmpp.send(xml("presence", { from: `${to}/gateway`, to: from }, xml("status", {}, "at your service")));
  } else if (stanza.is("presence") && (type ?? "unavailable") === "unavailable") {
    emit("presence", { from, to, type: type ?? "available" });
  }
});

xmpp.iqCallee.get("http://jabber.org/protocol/disco#info", "query", () =>
  xml("query", { xmlns: "http://jabber.org/protocol/disco#info" },
    xml("identity", { category: "gateway", type: "irc", name: "JavaScript" }),
    xml("feature", { var: "urn:xmpp:ping" })));
xmpp.iqCallee.get("urn:xmpp:ping", "ping", () => true);

createInterface({ input: process.stdin }).on("line", (line) => {
  const { from, to, body } = JSON.parse(line);
  xmpp.send(xml("message", { from, to, type: "chat" }, xml("body", {}, body)));
});

xmpp.start().catch((error) => emit("refused", { condition: error.condition ?? String(error) }));
