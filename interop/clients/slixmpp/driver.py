"""slixmpp (Python) behind the line protocol of ../wire.py."""

import asyncio
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent))

import slixmpp  # noqa: E402
from wire import emit, serve  # noqa: E402


class Driver:
    def __init__(self):
        self.xmpp = None
        self.failure = None

    async def do_connect(self, jid, password, host, port, tls, ca, resource="slixmpp"):
        self.xmpp = xmpp = slixmpp.ClientXMPP(f"{jid}/{resource}", password)
        self.address = (host, port)
        for plugin in ("xep_0030", "xep_0198", "xep_0199", "xep_0203"):
            xmpp.register_plugin(plugin)
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
        on("message", self.message)
        for name in ("available", "unavailable"):
            on(f"presence_{name}", self.presence)
        on("presence_subscribe", lambda p: emit("subscribe", **{"from": p["from"].bare}))
        on("presence_subscribed", lambda p: emit("subscribed", **{"from": p["from"].bare}))
        on("roster_update", self.roster)

    @staticmethod
    def message(stanza):
        if stanza["type"] == "error":
            emit("error", do="send", condition=stanza["error"]["condition"])
        elif stanza["body"]:
            delayed = "delay" if stanza.get_plugin("delay", check=True) else None
            emit("message", body=stanza["body"], id=stanza["id"], delayed=delayed, **{"from": str(stanza["from"])})

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

    async def do_send(self, to, body):
        self.xmpp.send_message(mto=to, mbody=body, mtype="chat")

    async def do_ping(self, to):
        await self.xmpp.plugin["xep_0199"].ping(jid=to, timeout=10)
        emit("pong")

    async def do_disco(self, to):
        info = (await self.xmpp.plugin["xep_0030"].get_info(jid=to))["disco_info"]
        emit("disco", features=sorted(info["features"]), identities=[f"{i[0]}/{i[1]}" for i in info["identities"]])

    async def do_drop(self):
        down = self.xmpp.wait_until("disconnected", 10)
        self.xmpp.abort()
        await down
        emit("dropped")

    async def do_resume(self):
        await self.until_online("session_resumed")
        emit("resumed")

    async def do_quit(self):
        if self.xmpp and self.xmpp.transport:
            await self.xmpp.disconnect()
        emit("bye")


class Refused(Exception):
    def __init__(self, condition):
        super().__init__(condition)
        self.condition = condition


async def main():
    await serve(Driver())


asyncio.run(main())
