// @xmpp/client (JavaScript) behind the line protocol of ../../README.md. The certificate to trust comes in
// NODE_EXTRA_CA_CERTS: the library passes no TLS options on.

import { createInterface } from "node:readline";
import { client, xml } from "@xmpp/client";
import { rooms, shownSender } from "./rooms.js";

const ROSTER = "jabber:iq:roster";
const DISCO = "http://jabber.org/protocol/disco#info";
const MAM = "urn:xmpp:mam:2";
const RSM = "http://jabber.org/protocol/rsm";
const CARBONS = "urn:xmpp:carbons:2";
const IDS = "urn:xmpp:sid:0";
const RECEIPTS = "urn:xmpp:receipts";
const MARKERS = "urn:xmpp:chat-markers:0";
const REACTIONS = "urn:xmpp:reactions:0";
const HINTS = "urn:xmpp:hints";

const emit = (ev, fields) => process.stdout.write(JSON.stringify({ ev, ...fields }) + "\n");
const fail = (what, error) =>
  emit("error", { do: what, condition: error.condition ?? "", text: String(error) });

let xmpp;
let account;
const unsent = []; // messages that the library did not take while there was no connection
let results = []; // of the archive's query that is under way
let asked; // the room whose archive that is, if it is not the account's
const contacts = new Map();
const room = rooms({ connection: () => xmpp, emit, fail, describe });

const commands = {
  ...room.commands,

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
    xmpp.timeout = 15_000; // two seconds would be little for a busy machine
    xmpp.on("error", (error) => process.stderr.write(`${error.stack}\n`));
    xmpp.on("stanza", hear);
    xmpp.on("disconnect", () => emit("dropped"));
    xmpp.iqCallee.set(ROSTER, "query", ({ element }) => {
      update(element);
      return true;
    });
    try {
      const bound = await xmpp.start();
      account = String(bound.bare());
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

  send: ({ to, body, receipt, markable, replaces, private: hidden }) =>
    send(to, [
      xml("body", {}, body),
      receipt && xml("request", RECEIPTS),
      markable && xml("markable", MARKERS),
      replaces && xml("replace", { xmlns: "urn:xmpp:message-correct:0", id: replaces }),
      hidden && xml("private", CARBONS),
      hidden && xml("no-copy", HINTS),
    ]),

  mark: ({ to, kind, ref, emojis }) =>
    send(to, [
      kind === "received" && xml("received", { xmlns: RECEIPTS, id: ref }),
      kind === "displayed" && xml("displayed", { xmlns: MARKERS, id: ref }),
      kind === "reactions" && xml("reactions", { xmlns: REACTIONS, id: ref }, emojis.map((e) => xml("reaction", {}, e))),
      xml("store", HINTS),
    ]),

  async carbons({ on = true }) {
    await xmpp.iqCaller.set(xml(on ? "enable" : "disable", CARBONS));
    emit("carbons", { on });
  },

  async archive({ do: _, room: of, max, after, before, pages, ...filters }) {
    let found = [];
    let fin;
    asked = of;
    if (pages === "backward") before = "";
    do {
      results = [];
      const answer = await xmpp.iqCaller.request(xml("iq", { type: "set", to: of }, query(filters, { max, after, before })));
      fin = answer.getChild("fin", MAM);
      found = pages === "backward" ? [...results, ...found] : [...found, ...results];
      const set = fin.getChild("set", RSM);
      if (pages === "backward") before = set.getChildText("first");
      else after = set.getChildText("last");
    } while (pages && results.length && fin.attrs.complete !== "true");
    for (const result of found) {
      const forwarded = result.getChild("forwarded", "urn:xmpp:forward:0");
      const { stamp } = forwarded.getChild("delay", "urn:xmpp:delay").attrs;
      emit("archived", { ...describe(forwarded.getChild("message")), sid: result.attrs.id, stamp });
    }
    const set = fin.getChild("set", RSM);
    const [first, last, count] = ["first", "last", "count"].map((name) => set.getChildText(name) ?? undefined);
    emit("archive", { complete: fin.attrs.complete === "true", first, last, count: count && Number(count) });
  },

  async "archive-metadata"() {
    const metadata = await xmpp.iqCaller.get(xml("metadata", MAM));
    emit("archive-metadata", { start: metadata.getChild("start")?.attrs.id, end: metadata.getChild("end")?.attrs.id });
  },

  async "archive-prefs"({ default: policy, always = [], never = [] }) {
    const list = (name, jids) => xml(name, {}, jids.map((jid) => xml("jid", {}, jid)));
    if (policy) {
      await xmpp.iqCaller.set(xml("prefs", { xmlns: MAM, default: policy }, list("always", always), list("never", never)));
    }
    const prefs = await xmpp.iqCaller.get(xml("prefs", MAM));
    const jids = (name) => (prefs.getChild(name)?.getChildren("jid") ?? []).map((jid) => jid.text()).sort();
    emit("archive-prefs", { default: prefs.attrs.default, always: jids("always"), never: jids("never") });
  },

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
    (xmpp.socket.socket ?? xmpp.socket).destroy();
  },

  async resume() {
    const ended = new Promise((resolve, reject) => {
      xmpp.streamManagement.once("resumed", resolve);
      xmpp.once("online", () => reject(new Error("a new session in place of the old one")));
    });
    await xmpp.reconnect.reconnect();
    await ended;
    emit("resumed");
    for (const message of unsent.splice(0)) await xmpp.send(message);
  },

  async quit() {
    xmpp?.removeAllListeners("disconnect");
    if (xmpp && !["offline", "disconnect"].includes(xmpp.status)) await xmpp.stop();
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

async function send(to, children) {
  const id = crypto.randomUUID();
  const message = xml("message", { to, type: "chat", id }, ...children, xml("origin-id", { xmlns: IDS, id }));
  emit("sent", describe(message));
  await xmpp.send(message).catch(() => unsent.push(message));
}

function query(filters, { max, after, before }) {
  const field = (name, value, type) =>
    xml("field", { var: name, type }, [value].flat().map((v) => xml("value", {}, v)));
  const paged = [max, after, before].some((value) => value !== undefined);
  return xml("query", { xmlns: MAM },
    xml("x", { xmlns: "jabber:x:data", type: "submit" },
      field("FORM_TYPE", MAM, "hidden"), ...Object.entries(filters).map(([name, value]) => field(name.replace("_", "-"), value))),
    paged && xml("set", RSM,
      max !== undefined && xml("max", {}, String(max)),
      after !== undefined && xml("after", {}, after),
      before !== undefined && xml("before", {}, before)));
}

// What is in a message; ids of this account (or room) only.
function describe(message, by = account) {
  const { from = "", to, id } = message.attrs;
  const found = (name, xmlns) => message.getChild(name, xmlns)?.attrs;
  const event = {
    from, to, id,
    body: message.getChildText("body") ?? undefined,
    origin: found("origin-id", IDS)?.id,
    replaces: found("replace", "urn:xmpp:message-correct:0")?.id,
    jid: shownSender(message),
    delayed: message.getChild("delay", "urn:xmpp:delay") && "delay",
    sid: message.getChildren("stanza-id", IDS).find(({ attrs }) => attrs.by === by)?.attrs.id,
  };
  const marks = { received: RECEIPTS, displayed: MARKERS, reactions: REACTIONS };
  for (const [kind, xmlns] of Object.entries(marks)) {
    const mark = message.getChild(kind, xmlns);
    if (mark) Object.assign(event, { kind, ref: mark.attrs.id });
    if (mark && kind === "reactions") event.emojis = mark.getChildren("reaction").map((r) => r.text()).sort();
  }
  return event;
}

function tell(message, more) {
  const event = { ...describe(message), ...more };
  if (event.body !== undefined || event.kind) emit(event.body !== undefined ? "message" : "mark", event);
}

function hearMessage(message) {
  const own = [undefined, account].includes(message.attrs.from);
  const carbon = message.getChild("received", CARBONS) ?? message.getChild("sent", CARBONS);
  const result = message.getChild("result", MAM);
  if (message.attrs.type === "error") {
    emit("error", { do: "send", condition: message.getChild("error").children[0].name });
  } else if (own && carbon) {
    tell(carbon.getChild("forwarded", "urn:xmpp:forward:0").getChild("message"), { copy: carbon.name });
  } else if (result && (own || message.attrs.from === asked)) {
    results.push(result);
  } else if (message.attrs.type === "groupchat") {
    room.hearMessage(message);
  } else {
    tell(message);
  }
}

function hear(stanza) {
  const { from, type } = stanza.attrs;
  if (stanza.is("message")) {
    hearMessage(stanza);
  } else if (stanza.is("presence") && room.hearPresence(stanza)) {
    return;
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
