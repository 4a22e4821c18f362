"""aioxmpp (Python) behind the line protocol of ../wire.py.

aiosasl has SCRAM-PLUS but aioxmpp's own provider does not use it, so a provider on its public interface does; the
binding is tls-exporter, because aiosasl's tls-server-end-point cannot read the hash of an ECDSA certificate. What the
library lacks of XEP-0313 is in mam.py.
"""

import asyncio
import datetime
import socket
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent))

import aioopenssl  # noqa: E402
import aioxmpp  # noqa: E402
import aiosasl  # noqa: E402
import aiosasl.channel_binding  # noqa: E402
import aioxmpp.connector  # noqa: E402
import aioxmpp.dispatcher  # noqa: E402
import aioxmpp.carbons  # noqa: E402
import aioxmpp.mdr.xso as receipts  # noqa: E402
import aioxmpp.misc as misc  # noqa: E402
import aioxmpp.security_layer as security  # noqa: E402
import mam  # noqa: E402
from messages import describe  # noqa: E402
from rooms import Rooms  # noqa: E402
from wire import emit, serve  # noqa: E402


class TLSExporter(aiosasl.channel_binding.ChannelBindingProvider):
    """RFC 9266."""

    cb_name = b"tls-exporter"

    def __init__(self, connection):
        self.connection = connection

    def extract_cb_data(self):
        return self.connection.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")


class Passwords(security.PasswordSASLProvider):
    """The library's provider, preceded by SCRAM-PLUS, noting which mechanism it was."""

    mechanism = None
    transport = None

    def __init__(self, password):
        async def provide(jid, attempt):
            return password

        super().__init__(provide, max_auth_attempts=1)
        self.password = password

    async def execute(self, client_jid, features, xmlstream, tls_transport):
        self.transport = tls_transport
        plus, token = self._find_supported(features, [aiosasl.SCRAMPLUS])
        if not plus:
            return await super().execute(client_jid, features, xmlstream, tls_transport)

        async def credentials():
            return client_jid.localpart, self.password

        binding = TLSExporter(tls_transport.get_extra_info("ssl_object"))
        stream = aioxmpp.sasl.SASLXMPPInterface(xmlstream)
        return await self._execute(stream, plus(credentials, binding), token)

    async def _execute(self, intf, mechanism, token):
        self.mechanism = token[0] if isinstance(token, tuple) else token
        return await super()._execute(intf, mechanism, token)


def gated(connector, gate):
    """A connector that waits: the library reconnects at once, a test decides when."""

    class Gated(connector):
        async def connect(self, *args, **kwargs):
            await gate.wait()
            return await super().connect(*args, **kwargs)

    return Gated()


class Transport(aioopenssl.STARTTLSTransport):
    """Takes what is written when it has closed, as asyncio's own transports do: aioxmpp still answers what it has read before, and
    would not come back after an error there.
    """

    def write(self, data):
        if not self.is_closing():
            super().write(data)


aioopenssl.STARTTLSTransport = Transport


class Driver(Rooms):
    client = None

    async def do_connect(self, jid, password, host, port, tls, ca, resource="aioxmpp"):
        def context():
            made = security.default_ssl_context()
            made.load_verify_locations(ca)
            return made

        self.passwords = Passwords(password)
        self.gate = asyncio.Event()
        self.gate.set()
        kind = {"direct": aioxmpp.connector.XMPPOverTLSConnector, "starttls": aioxmpp.connector.STARTTLSConnector}[tls]
        self.client = client = aioxmpp.Client(
            aioxmpp.JID.fromstr(f"{jid}/{resource}"),
            security.SecurityLayer(context, security.PKIXCertificateVerifier, True, (self.passwords,)),
            override_peer=[(host, port, gated(kind, self.gate))],
            negotiation_timeout=datetime.timedelta(seconds=10),
            max_initial_attempts=1,
        )
        client.backoff_start = datetime.timedelta(milliseconds=10)
        self.listen()
        await self.until(client.on_stream_established, client.start)
        self.gate.clear()
        emit(
            "online",
            jid=str(client.local_jid),
            mechanism=self.passwords.mechanism,
            tls=self.passwords.transport.get_extra_info("ssl_object").get_protocol_version_name(),
        )

    async def until(self, signal, action):
        """Does the action and waits for the signal, or raises what made the client fail."""
        done = asyncio.get_running_loop().create_future()
        failed = self.client.on_failure.connect(done, self.client.on_failure.AUTO_FUTURE)
        signalled = signal.connect(lambda *_: done.done() or done.set_result(None))
        try:
            action()
            await done
        finally:
            signal.disconnect(signalled)
            self.client.on_failure.disconnect(failed)

    def listen(self):
        self.contacts = self.client.summon(aioxmpp.RosterClient)
        for signal in ("entry_added", "entry_subscription_state_changed"):
            getattr(self.contacts, f"on_{signal}").connect(self.roster)
        self.contacts.on_subscribe.connect(lambda st: emit("subscribe", **{"from": str(st.from_.bare())}))
        self.contacts.on_subscribed.connect(lambda st: emit("subscribed", **{"from": str(st.from_.bare())}))
        messages = self.client.summon(aioxmpp.dispatcher.SimpleMessageDispatcher)
        for kind in (aioxmpp.MessageType.CHAT, aioxmpp.MessageType.NORMAL, aioxmpp.MessageType.ERROR):
            messages.register_callback(kind, None, self.message)
        presences = self.client.summon(aioxmpp.dispatcher.SimplePresenceDispatcher)
        for kind in (aioxmpp.PresenceType.AVAILABLE, aioxmpp.PresenceType.UNAVAILABLE):
            presences.register_callback(kind, None, self.presence)
        self.pinger = self.client.summon(aioxmpp.PingService)
        self.disco = self.client.summon(aioxmpp.DiscoClient)
        self.carbons = self.client.summon(aioxmpp.CarbonsClient)
        self.client.on_stream_suspended.connect(self.suspended)
        self.client.on_stream_destroyed.connect(self.lost)

    def suspended(self, *_):
        self.destroyed = False
        emit("dropped")

    def lost(self, *_):
        self.destroyed = True

    def message(self, stanza):
        account = self.client.local_jid.bare()
        carbon = stanza.xep0280_received or stanza.xep0280_sent
        if stanza.type_ == aioxmpp.MessageType.ERROR:
            emit("error", do="send", condition=stanza.error.condition.value[1])
        elif carbon and stanza.from_ in (None, account):
            self.tell(carbon.stanza, copy="received" if stanza.xep0280_received else "sent")
        elif result := stanza.xep0313_result:
            self.results.append(result)
        else:
            self.tell(stanza)

    def tell(self, stanza, ev=None, **more):
        """A message as event: `mark` if it only says something about another one, unless `ev` says what it is."""
        event = describe(stanza, self.client.local_jid.bare()) | more
        if ev or "body" in event or "kind" in event:
            emit(ev or ("message" if "body" in event else "mark"), **event)

    @staticmethod
    def presence(stanza):
        kind = "unavailable" if stanza.type_ == aioxmpp.PresenceType.UNAVAILABLE else "available"
        status = stanza.status.any() if stanza.status else ""
        emit("presence", type=kind, status=status, **{"from": str(stanza.from_)})

    def roster(self, *_, **__):
        items = [{"jid": str(jid), "subscription": item.subscription} for jid, item in self.contacts.items.items()]
        emit("roster", items=items)

    async def do_roster(self):
        self.roster()  # the library has fetched it before it called the stream established

    async def do_roster_add(self, jid):
        await self.contacts.set_entry(aioxmpp.JID.fromstr(jid), name="contact")

    async def do_subscribe(self, jid):
        self.contacts.subscribe(aioxmpp.JID.fromstr(jid))

    async def do_approve(self, jid):
        self.contacts.approve(aioxmpp.JID.fromstr(jid))

    async def do_presence(self, status=None):
        presence = aioxmpp.Presence()
        if status:
            presence.status[None] = status
        self.client.enqueue(presence)

    async def do_send(self, to, body, receipt=False, markable=False, replaces=None, private=False):
        message = aioxmpp.Message(type_=aioxmpp.MessageType.CHAT, to=aioxmpp.JID.fromstr(to))
        message.body[None] = body
        message.xep0184_request_receipt = receipt
        message.xep0333_markable = markable
        message.xep0280_private = message.xep0334_no_copy = private
        if replaces:
            message.xep0308_replace = misc.Replace()
            message.xep0308_replace.id_ = replaces
        await self.send(message)

    async def do_mark(self, to, kind, ref, emojis=()):
        """Says of the message `ref` that it was received (XEP-0184), displayed (XEP-0333) or makes one react to it."""
        message = aioxmpp.Message(type_=aioxmpp.MessageType.CHAT, to=aioxmpp.JID.fromstr(to))
        if kind == "received":
            message.xep0184_received = receipts.Received(ref)
        elif kind == "displayed":
            message.xep0333_marker = misc.DisplayedMarker()
            message.xep0333_marker.id_ = ref
        else:
            message.xep0444_reactions = mam.reactions(ref, emojis)
        message.xep0334_store = True
        await self.send(message)

    async def send(self, message):
        message.autoset_id()
        message.xep0359_origin_id = misc.OriginID(message.id_)
        written = asyncio.get_running_loop().create_future()

        def changed(token, state):
            if state != aioxmpp.stream.StanzaState.ACTIVE and not written.done():
                written.set_result(state)

        self.client.enqueue(message, on_state_change=changed)
        await written  # the library fails when the connection goes before it has written what it was given
        emit("sent", **describe(message))

    async def do_carbons(self, on=True):
        await (self.carbons.enable() if on else self.carbons.disable())
        emit("carbons", on=on)

    async def do_archive(self, max=None, after=None, before=None, pages=None, room=None, **filters):
        """One page, or with `pages` ("forward", "backward") as many as there are; the oldest message first."""
        if pages == "backward":
            before = ""
        query, results = mam.query("q", max, after, before, **filters), []
        while True:
            self.results = []
            fin = await self.ask(aioxmpp.IQType.SET, query, room)
            results = self.results + results if pages == "backward" else results + self.results
            if not pages or fin.complete or not self.results:
                break
            query.page = fin.page.next_page(max) if pages == "forward" else fin.page.previous_page(max)
        for result in results:
            stamp = result.forwarded.delay.stamp.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            self.tell(result.forwarded.stanza, "archived", sid=result.id_, stamp=stamp)
        emit(
            "archive",
            complete=fin.complete,
            first=fin.page.first and fin.page.first.value,
            last=fin.page.last and fin.page.last.value,
            count=fin.page.count,
        )

    async def ask(self, kind, payload, of=None):
        """Asks the account, or whom else."""
        return await self.client.send(aioxmpp.IQ(type_=kind, payload=payload, to=of and aioxmpp.JID.fromstr(of)))

    async def do_archive_metadata(self):
        metadata = await self.ask(aioxmpp.IQType.GET, mam.Metadata())
        emit("archive-metadata", start=metadata.start and metadata.start.id_, end=metadata.end and metadata.end.id_)

    async def do_archive_prefs(self, default=None, always=(), never=()):
        """Asks for them, or sets them when there is a default."""
        if default:
            await self.ask(aioxmpp.IQType.SET, mam.preferences(default, always, never))
        prefs = await self.ask(aioxmpp.IQType.GET, mam.Preferences())
        lists = {name: getattr(prefs, name) for name in ("always", "never")}
        jids = {name: sorted(str(jid.value) for jid in listed.jids) if listed else [] for name, listed in lists.items()}
        emit("archive-prefs", default=prefs.default, **jids)

    async def do_ping(self, to):
        await self.pinger.ping(aioxmpp.JID.fromstr(to))
        emit("pong")

    async def do_disco(self, to):
        info = await self.disco.query_info(aioxmpp.JID.fromstr(to))
        emit("disco", features=sorted(info.features), identities=[f"{i.category}/{i.type_}" for i in info.identities])

    async def do_drop(self):
        raw = self.passwords.transport.get_extra_info("socket")
        await self.until(self.client.on_stream_suspended, lambda: raw.shutdown(socket.SHUT_RDWR))

    async def do_resume(self):
        await self.until(self.client.on_stream_resumed, self.gate.set)  # which it says of new sessions, too
        self.gate.clear()
        if self.destroyed:
            emit("error", do="resume", condition="resumption failed")
        else:
            emit("resumed")

    async def do_quit(self):
        if self.client and self.client.running:
            await self.until(self.client.on_stopped, self.client.stop)
        emit("bye")


async def main():
    await serve(Driver())


asyncio.run(main())
