// @xmpp/client (JavaScript) behind the line protocol of ../../README.md. The certificate to trust comes in
// NODE_EXTRA_CA_CERTS: the library passes no TLS options on.

import { createInterface } from "node:readline";
import { client, xml } from "@xmpp/client";

const ROSTER = "jabber:iq:roster";
const DISCO = "http://jabber.org/protocol/disco#info";

const emit = (ev, fields) => process.stdout.write(JSON.stringify({ ev, ...fields }) + "\n");
const fail = (what, error) =>
  emit("error", { do: what, condition: error.condition ?? "", text: String(error) });

let xmpp;
const contacts = new Map();

const commands = {
  async connect({ jid, password, host, port, tls, resource = "xmppjs" }) {
    const [username, domain] = jid.split("@");
    let mechanism;
    xmpp = client({
      service: `${tls === "direct" ? "xmpps" : "xmpp"}://${host}:${port}`,
      domain,
      resource,
      credentials: (authenticate, offered) => {
        mechanism = offered[0];
        return authenticate({ username, password }, mechanism);
      },
    });
    xmpp.reconnect.stop(); // a test decides when
    xmpp.on("error", (error) => process.stderr.write(`${error.stack}\n`));
    xmpp.on("stanza", hear);
    xmpp.iqCallee.set(ROSTER, "query", ({ element }) => {
      update(element);
      return true;
    });
    try {
      const bound = await xmpp.start();
      emit("online", { jid: String(bound), mechanism, tls: xmpp.socket.getProtocol?.() ?? xmpp.socket.socket.getProtocol() });
    } catch (error) {
      await xmpp.stop().catch(() => {});
      throw error;
    }
  },

  presence: ({ status }) => xmpp.send(xml("presence", {}, status && xml("status", {}, status))),

  async roster() {
    update(await xmpp.iqCaller.get(xml("query", ROSTER)));
  },

  "roster-add": ({ jid }) => xmpp.iqCaller.set(xml("query", ROSTER, xml("item", { jid, name: "contact" }))),

  subscribe: ({ jid }) => xmpp.send(xml("presence", { to: jid, type: "subscribe" })),

  approve: ({ jid }) => xmpp.send(xml("presence", { to: jid, type: "subscribed" })),

  send: ({ to, body }) =>
    xmpp.send(xml("message", { to, type: "chat", id: crypto.randomUUID() }, xml("body", {}, body))),

  async ping({ to }) {
    await xmpp.iqCaller.get(xml("ping", "urn:xmpp:ping"), to);
    emit("pong");
  },

  async disco({ to }) {
    const query = await xmpp.iqCaller.get(xml("query", DISCO), to);
    emit("disco", {
      features: query.getChildren("feature").map((f) => f.attrs.var),
      identities: query.getChildren("identity").map((i) => `${i.attrs.category}/${i.attrs.type}`),
    });
  },

  async drop() {
    const down = new Promise((resolve) => xmpp.once("disconnect", resolve));
    (xmpp.socket.socket ?? xmpp.socket).destroy();
    await down;
    emit("dropped");
  },

  async resume() {
    const ended = new Promise((resolve, reject) => {
      xmpp.streamManagement.once("resumed", resolve);
      xmpp.once("online", () => reject(new Error("a new session in place of the old one")));
    });
    await xmpp.reconnect.reconnect();
    await ended;
    emit("resumed");
  },

  async quit() {
    if (xmpp && xmpp.status !== "offline") await xmpp.stop();
    emit("bye");
    process.exit();
  },
};

function update(query) {
  for (const { attrs } of query.getChildren("item")) {
    contacts.set(attrs.jid, { jid: attrs.jid, subscription: attrs.subscription });
  }
  emit("roster", { items: [...contacts.values()] });
}

function hear(stanza) {
  const { from, id, type } = stanza.attrs;
  if (stanza.is("message") && type === "error") {
    emit("error", { do: "send", condition: stanza.getChild("error").children[0].name });
  } else if (stanza.is("message") && stanza.getChild("body")) {
    const delayed = stanza.getChild("delay", "urn:xmpp:delay") && "delay";
    emit("message", { from, id, body: stanza.getChildText("body"), delayed });
  } else if (stanza.is("presence") && type?.startsWith("subscribe")) {
    emit(type, { from: from.split("/")[0] });
  } else if (stanza.is("presence") && (type ?? "unavailable") === "unavailable") {
    emit("presence", { from, type: type ?? "available", status: stanza.getChildText("status") ?? "" });
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  await Promise.resolve(commands[command.do](command)).catch((error) => fail(command.do, error));
}
