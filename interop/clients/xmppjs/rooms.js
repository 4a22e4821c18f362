// The driver's rooms. The library has no XEP-0045: its elements are the driver's, the rest is the library's.

import { xml } from "@xmpp/client";

const MUC = "http://jabber.org/protocol/muc";
const USER = `${MUC}#user`;
const ADMIN = `${MUC}#admin`;
const OWNER = `${MUC}#owner`;
const FORM = "jabber:x:data";
const HOW = { 301: "banned", 307: "kicked" };

// `connection()` is the client, `emit` writes an event, `describe` says what is in a message.
export function rooms({ connection, emit, fail, describe }) {
  const inside = new Map(); // the rooms one is in or about to enter: nick, and what is known of the join
  const entering = (room) => inside.get(room)?.join;

  const administer = (room, attrs, reason) =>
    connection().iqCaller.set(xml("query", ADMIN, xml("item", attrs, reason && xml("reason", {}, reason))), room);

  const commands = {
    async "room-join"({ room, nick, history }) {
      inside.set(room, { nick, join: {} });
      await connection().send(xml("presence", { to: `${room}/${nick}` },
        xml("x", MUC, history !== undefined && xml("history", { maxstanzas: String(history) }))));
    },

    "room-leave": ({ room }) =>
      connection().send(xml("presence", { to: `${room}/${inside.get(room).nick}`, type: "unavailable" })),

    async "room-configure"({ room, values }) {
      const form = (await connection().iqCaller.get(xml("query", OWNER), room)).getChild("x", FORM);
      const fields = form.getChildren("field").filter(({ attrs }) => attrs.var && attrs.type !== "fixed");
      await connection().iqCaller.set(xml("query", OWNER, xml("x", { xmlns: FORM, type: "submit" },
        fields.map((field) => {
          const name = field.attrs.var;
          const set = name in values ? [String(values[name])] : field.getChildren("value").map((value) => value.text());
          return xml("field", { var: name }, set.map((value) => xml("value", {}, value)));
        }))), room);
      emit("room-configured", { room });
    },

    "room-say": ({ room, body }) =>
      connection().send(xml("message", { to: room, type: "groupchat", id: crypto.randomUUID() }, xml("body", {}, body))),

    "room-private": ({ room, nick, body }) =>
      connection().send(xml("message", { to: `${room}/${nick}`, type: "chat", id: crypto.randomUUID() },
        xml("body", {}, body), xml("x", USER))),

    "room-subject": ({ room, subject }) =>
      connection().send(xml("message", { to: room, type: "groupchat" }, xml("subject", {}, subject))),

    "room-nick": ({ room, nick }) => connection().send(xml("presence", { to: `${room}/${nick}` })),

    "room-kick": ({ room, nick, reason }) => administer(room, { nick, role: "none" }, reason),

    async "room-affiliation"({ room, jid, affiliation, reason }) {
      await administer(room, { jid, affiliation }, reason);
      emit("room-affiliation", { room, jid });
    },
  };

  const split = (from) => {
    const at = from.indexOf("/");
    return at < 0 ? [from, ""] : [from.slice(0, at), from.slice(at + 1)];
  };

  // True when the presence was of a room.
  function hearPresence(presence) {
    const [room, nick] = split(presence.attrs.from);
    const x = presence.getChild("x", USER);
    if (presence.attrs.type === "error" && inside.has(room)) {
      const condition = presence.getChild("error").children[0].name;
      const what = entering(room) ? "room-join" : "room-nick";
      if (entering(room)) inside.delete(room);
      fail(what, { condition, toString: () => String(presence) });
      return true;
    }
    if (!x) return false;
    const codes = x.getChildren("status").map(({ attrs }) => attrs.code);
    const item = x.getChild("item");
    const { affiliation, role, jid, nick: to } = item?.attrs ?? {};
    const event = { room, nick, own: codes.includes("110") || undefined };
    if (presence.attrs.type !== "unavailable") {
      emit("room-occupant", { ...event, affiliation, role, jid });
      if (event.own && entering(room)) Object.assign(inside.get(room), { nick, join: { here: true, created: codes.includes("201") } });
    } else if (codes.includes("303")) {
      emit("room-renamed", { ...event, to });
      if (event.own) inside.get(room).nick = to;
    } else {
      const how = HOW[codes.find((code) => code in HOW)] ?? "left";
      emit("room-gone", { ...event, how, reason: item?.getChildText("reason") ?? undefined });
    }
    return true;
  }

  function hearMessage(message) {
    const [room, nick] = split(message.attrs.from);
    const subject = message.getChildText("subject");
    if (message.getChild("body")) {
      emit("room-message", { room, nick, ...describe(message, room) });
    } else if (subject !== null) {
      emit("room-subject", { room, nick, subject });
      const joined = entering(room);
      if (joined?.here) {
        inside.get(room).join = undefined;
        emit("room-joined", { room, nick: inside.get(room).nick, created: joined.created });
      }
    }
  }

  return { commands, hearPresence, hearMessage };
}

// The real JID that a room shows of a message's sender.
export const shownSender = (message) => message.getChild("x", USER)?.getChild("item")?.attrs.jid;
