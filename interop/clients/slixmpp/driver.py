"""slixmpp (Python) behind the line protocol of ../wire.py."""

import asyncio
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent))

import slixmpp  # noqa: E402
from slixmpp.plugins.xep_0082 import format_datetime, parse  # noqa: E402
from slixmpp.xmlstream.handler import Callback, Collector  # noqa: E402
from slixmpp.xmlstream.matcher import MatchXPath, StanzaPath  # noqa: E402
from messages import describe  # noqa: E402
from rooms import Rooms  # noqa: E402
from wire import emit, serve  # noqa: E402

PLUGINS = {
    "xep_0030": {}, "xep_0059": {}, "xep_0184": {"auto_ack": False}, "xep_0198": {}, "xep_0199": {}, "xep_0203": {},
    "xep_0280": {}, "xep_0308": {}, "xep_0313": {}, "xep_0333": {}, "xep_0334": {}, "xep_0359": {}, "xep_0441": {},
    "xep_0444": {},
}


class Driver(Rooms):
    def __init__(self):
        self.xmpp = None
        self.quitting = False

    async def do_connect(self, jid, password, host, port, tls, ca, resource="slixmpp"):
        self.xmpp = xmpp = slixmpp.ClientXMPP(f"{jid}/{resource}", password)
        self.address = (host, port)
        for plugin, options in PLUGINS.items():
            xmpp.register_plugin(plugin, options)
        xmpp.ca_certs = Path(ca)
        xmpp.enable_direct_tls = tls == "direct"
        xmpp.enable_starttls = tls == "starttls"
        xmpp.roster.auto_authorize = None
        xmpp.roster.auto_subscribe = False
        self.listen()
        await self.until_online("session_start")
        emit(
            "online",
            jid=xmpp.boundjid.full,
            mechanism=xmpp.plugin["feature_mechanisms"].mech.name,
            tls=xmpp.transport.get_extra_info("ssl_object").version(),
        )

    async def until_online(self, event):
        xmpp = self.xmpp
        up = asyncio.get_running_loop().create_future()

        def fail(condition):
            xmpp.cancel_connection_attempt()
            if not up.done():
                up.set_exception(Refused(condition))

        handlers = {
            event: lambda _: up.done() or up.set_result(None),
            "failed_auth": lambda stanza: fail(stanza["condition"]),
            "sm_failed": lambda _: fail("resumption failed"),
            "ssl_invalid_cert": lambda _: fail("invalid certificate"),
        }
        for name, handler in handlers.items():
            xmpp.add_event_handler(name, handler)
        xmpp.connect(*self.address)
        try:
            await up
        finally:
            for name, handler in handlers.items():
                xmpp.del_event_handler(name, handler)

    def listen(self):
        on = self.xmpp.add_event_handler
        every = Callback("every message", MatchXPath("{jabber:client}message"), self.message)
        self.xmpp.register_handler(every)
        for way in ("received", "sent"):
            on(f"carbon_{way}", lambda message, way=way: self.tell(message[f"carbon_{way}"], copy=way))
        for name in ("available", "unavailable"):
            on(f"presence_{name}", self.presence)
        on("presence_subscribe", lambda p: emit("subscribe", **{"from": p["from"].bare}))
        on("presence_subscribed", lambda p: emit("subscribed", **{"from": p["from"].bare}))
        on("roster_update", self.roster)
        on("disconnected", lambda _: self.quitting or emit("dropped"))

    def message(self, stanza):
        if stanza["type"] == "error":
            emit("error", do="send", condition=stanza["error"]["condition"])
        elif stanza["type"] != "groupchat" and not any(stanza.get_plugin(wrapped, check=True) for wrapped in WRAPPED):
            self.tell(stanza)

    def tell(self, stanza, ev=None, **more):
        """A message as event: `mark` if it only says something about another one, unless `ev` says what it is."""
        event = describe(stanza, self.xmpp.boundjid.bare) | more
        if ev or "body" in event or "kind" in event:
            emit(ev or ("message" if "body" in event else "mark"), **event)

    @staticmethod
    def presence(stanza):
        kind = "unavailable" if stanza["type"] == "unavailable" else "available"
        emit("presence", type=kind, status=stanza["status"], **{"from": str(stanza["from"])})

    def roster(self, _):
        """The whole roster as the library knows it: with versioning, the server's answer may be empty."""
        contacts = self.xmpp.client_roster
        emit("roster", items=[{"jid": jid, "subscription": contacts[jid]["subscription"]} for jid in contacts])

    async def do_presence(self, status=None):
        self.xmpp.send_presence(pstatus=status)

    async def do_roster(self):
        await self.xmpp.get_roster()

    async def do_roster_add(self, jid):
        await self.xmpp.update_roster(jid, name="contact")

    async def do_subscribe(self, jid):
        self.xmpp.send_presence_subscription(pto=jid)

    async def do_approve(self, jid):
        self.xmpp.send_presence_subscription(pto=jid, ptype="subscribed")

    async def do_send(self, to, body, receipt=False, markable=False, replaces=None, private=False):
        message = self.xmpp.make_message(mto=to, mbody=body, mtype="chat")
        if receipt:
            message["request_receipt"] = True
        if markable:
            message.enable("markable")
        if replaces:
            message["replace"]["id"] = replaces
        if private:
            message.enable("carbon_private")
            message.enable("no-copy")
        self.send(message)

    async def do_mark(self, to, kind, ref, emojis=()):
        """Says of the message `ref` that it was received (XEP-0184), displayed (XEP-0333) or makes one react to it."""
        message = self.xmpp.make_message(mto=to, mtype="chat")
        if kind == "received":
            message["receipt"] = ref
        elif kind == "displayed":
            message["displayed"]["id"] = ref
        else:
            self.xmpp.plugin["xep_0444"].set_reactions(message, ref, emojis)
        message.enable("store")
        self.send(message)

    @staticmethod
    def send(message):
        message.send()
        emit("sent", **describe(message))

    async def do_carbons(self, on=True):
        carbons = self.xmpp.plugin["xep_0280"]
        await (carbons.enable() if on else carbons.disable())
        emit("carbons", on=on)

    async def do_archive(self, max=None, after=None, before=None, pages=None, room=None, **filters):
        """One page, or with `pages` ("forward", "backward") as many as there are; the oldest message first."""
        filters = {"with_jid" if name == "with" else name: value for name, value in filters.items()}
        for name in {"start", "end"} & filters.keys():
            filters[name] = parse(filters[name])
        if pages:
            mam = self.xmpp.plugin["xep_0313"]
            rsm = {"max": max} | ({"after": after} if after else {})
            messages = [m async for m in mam.iterate(jid=room, reverse=pages == "backward", rsm=rsm, **filters)]
            for message in reversed(messages) if pages == "backward" else messages:
                self.result(message)
            emit("archive")
        else:
            await self.page(room, max, after, before, filters)

    async def page(self, room, max, after, before, filters):
        """What `retrieve` does, with the fields that it does not know."""
        iq = self.xmpp.make_iq_set(ito=room)
        iq["mam"]["queryid"] = iq["id"]
        for name, value in filters.items():
            iq["mam"][{"with_jid": "with"}.get(name, name)] = value
        if max is not None:
            iq["mam"]["rsm"]["max"] = str(max)
        if after is not None:
            iq["mam"]["rsm"]["after"] = after
        if before is not None:
            iq["mam"]["rsm"]["before"] = before or True
        results = Collector(f"results {iq['id']}", StanzaPath(f"message/mam_result@queryid={iq['id']}"))
        self.xmpp.register_handler(results)
        try:
            fin = (await iq.send())["mam_fin"]
        finally:
            messages = results.stop()
        for message in messages:
            self.result(message)
        rsm = fin["rsm"]
        emit(
            "archive",
            complete=fin["complete"] == "true",
            first=rsm["first"] or None,
            last=rsm["last"] or None,
            count=int(rsm["count"]) if rsm["count"] else None,
        )

    def result(self, message):
        result = message["mam_result"]
        forwarded = result["forwarded"]
        stamp = format_datetime(forwarded["delay"]["stamp"])
        self.tell(forwarded["stanza"], "archived", sid=result["id"], stamp=stamp)

    async def do_archive_metadata(self):
        metadata = (await self.xmpp.plugin["xep_0313"].get_archive_metadata())["mam_metadata"]
        ends = {name: metadata[name] for name in ("start", "end") if metadata.get_plugin(name, check=True)}
        emit("archive-metadata", **{name: end["id"] for name, end in ends.items()})

    async def do_archive_prefs(self, default=None, always=(), never=()):
        """Asks for them, or sets them when there is a default."""
        prefs = self.xmpp.plugin["xep_0441"]
        if default:
            jids = {"always": map(slixmpp.JID, always), "never": map(slixmpp.JID, never)}
            await prefs.set_preferences(default, **jids)
        default, always, never = await prefs.get_preferences()
        emit("archive-prefs", default=default, always=sorted(map(str, always)), never=sorted(map(str, never)))

    async def do_ping(self, to):
        await self.xmpp.plugin["xep_0199"].ping(jid=to, timeout=10)
        emit("pong")

    async def do_disco(self, to):
        info = (await self.xmpp.plugin["xep_0030"].get_info(jid=to))["disco_info"]
        emit("disco", features=sorted(info["features"]), identities=[f"{i[0]}/{i[1]}" for i in info["identities"]])

    async def do_drop(self):
        self.xmpp.abort()

    async def do_resume(self):
        await self.until_online("session_resumed")
        emit("resumed")

    async def do_quit(self):
        self.quitting = True
        if self.xmpp and self.xmpp.transport:
            await self.xmpp.disconnect()
        emit("bye")


WRAPPED = ("carbon_received", "carbon_sent", "mam_result")


class Refused(Exception):
    def __init__(self, condition):
        super().__init__(condition)
        self.condition = condition


async def main():
    await serve(Driver())


asyncio.run(main())
