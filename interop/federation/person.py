"""A client that knows no more than it must: direct TLS, PLAIN, a resource, and stanzas as they are; stream management, if it is
asked for, so far that it knows what its server has taken over. It shares no code with any of the servers.
"""

import asyncio
import base64
import itertools
import ssl
from collections import deque
from xml.etree.ElementTree import XMLPullParser
from xml.sax.saxutils import escape, quoteattr

PATIENCE = 20  # seconds for what must come
CLIENT = "{jabber:client}"
SASL = "{urn:ietf:params:xml:ns:xmpp-sasl}"
SM = "{urn:xmpp:sm:3}"
STANZAS = "{urn:ietf:params:xml:ns:xmpp-stanzas}"


class Failed(Exception):
    """What was expected has not happened."""


class Refused(Failed):
    """A question was answered by an error."""

    def __init__(self, stanza):
        self.condition = condition(stanza)
        super().__init__(f"refused by {stanza.get('from')}: {self.condition}")


class Person:
    """One session. `heard` are stanzas that nobody has waited for yet, in the order they came; `taps` are called with each
    stanza, and keep it from there by saying True."""

    ids = itertools.count(1)

    def __init__(self, peer, name, resource="desk"):
        self.peer, self.name, self.resource = peer, name, resource
        self.bare = f"{name}@{peer.domain}"
        self.jid = f"{self.bare}/{resource}"
        self.heard, self.taps, self.news = deque(), [], asyncio.Event()
        self.managed, self.sent, self.got, self.acked = False, 0, 0, 0
        self.gone, self.reader, self.on_ack = None, None, lambda handled: None

    def __str__(self):
        return self.jid

    async def login(self, managed=False):
        context = ssl.create_default_context(cafile=self.peer.certificate.trust)
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        address = self.peer.clients
        self.input, self.output = await asyncio.wait_for(
            asyncio.open_connection(*address, ssl=context, server_hostname=self.peer.domain, limit=1 << 20), PATIENCE)
        await self.open()
        token = base64.b64encode(f"\0{self.name}\0{self.peer.password}".encode()).decode()
        self.write(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{token}</auth>")
        answer = await self.element()
        if answer.tag != SASL + "success":
            raise Failed(f"{self.bare} cannot log in: {[child.tag for child in answer]}")
        await self.open()
        self.reader = asyncio.create_task(self.read())
        bound = await self.ask(None, "set", "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>"
                               f"<resource>{self.resource}</resource></bind>")
        self.jid = bound.findtext(".//{urn:ietf:params:xml:ns:xmpp-bind}jid")
        if managed:
            self.write("<enable xmlns='urn:xmpp:sm:3'/>")
            await self.wait(lambda stanza: stanza.tag == SM + "enabled", "stream management")
            self.managed, self.sent, self.got, self.acked = True, 0, 0, 0
        return self

    async def open(self):
        self.parser, self.depth, self.root, self.ready = XMLPullParser(("start", "end")), 0, None, deque()
        self.write(f"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0' "
                   f"to='{self.peer.domain}'>")
        await self.element()

    async def element(self):
        """The next element of the stream; the stream's own errors are failures."""
        while not self.ready:
            data = await asyncio.wait_for(self.input.read(1 << 16), None if self.reader else PATIENCE)
            if not data:
                raise ConnectionResetError("the stream has ended")
            self.parse(data)
        return self.ready.popleft()

    def parse(self, data):
        self.parser.feed(data)
        for event, element in self.parser.read_events():
            if event == "start":
                self.depth += 1
                self.root = element if self.depth == 1 else self.root
            else:
                self.depth -= 1
                if self.depth == 1:
                    self.root.clear()
                    self.ready.append(element)

    async def read(self):
        try:
            while True:
                self.take(await self.element())
        except (OSError, ssl.SSLError, ValueError, SyntaxError) as error:
            self.gone = error
            self.news.set()

    def take(self, element):
        if self.managed and element.tag == SM + "r":
            self.write(f"<a xmlns='urn:xmpp:sm:3' h='{self.got}'/>")
            return
        if self.managed and element.tag == SM + "a":
            self.acked = int(element.get("h"))
            self.news.set()
            self.on_ack(self.acked)
            return
        if element.tag.startswith(CLIENT):
            self.got += 1
        if element.get("type") == "get" and element.tag == CLIENT + "iq":
            self.answer(element)
        if not any([tap(element) for tap in self.taps]):
            self.heard.append(element)
            self.news.set()

    def answer(self, question):
        """Pings of others are answered, and what else a client may be asked is refused."""
        to, number = quoteattr(question.get("from") or self.peer.domain), quoteattr(question.get("id"))
        if question.find("{urn:xmpp:ping}ping") is not None:
            self.send(f"<iq type='result' to={to} id={number}/>")
        else:
            self.send(f"<iq type='error' to={to} id={number}><error type='cancel'><service-unavailable "
                      "xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>")

    def write(self, text):
        self.output.write(text.encode())

    def send(self, stanza):
        self.write(stanza)
        self.sent += 1

    def message(self, to, body, kind="chat", number=None, more=""):
        number = number or self.number()
        self.send(f"<message to={quoteattr(str(to))} type='{kind}' id='{number}'><body>{escape(body)}</body>{more}</message>")
        return number

    def presence(self, to=None, kind=None, inside=""):
        attributes = (f" to={quoteattr(str(to))}" if to else "") + (f" type='{kind}'" if kind else "")
        self.send(f"<presence{attributes}>{inside}</presence>")

    async def ask(self, to, kind, payload, seconds=PATIENCE):
        number = self.number()
        self.send(f"<iq type='{kind}' id='{number}'" + (f" to={quoteattr(str(to))}" if to else "") + f">{payload}</iq>")
        answer = await self.wait(
            lambda stanza: stanza.tag == CLIENT + "iq" and stanza.get("id") == number and
            stanza.get("type") in ("result", "error"), f"the answer of {to or 'the server'} to {payload[:60]}", seconds)
        if answer.get("type") == "error":
            raise Refused(answer)
        return answer

    async def wait(self, test, what, seconds=PATIENCE):
        """The first stanza that passes, of those that came and that will come; it is taken away."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while True:
            for at in range(len(self.heard)):
                if test(self.heard[at]):
                    found = self.heard[at]
                    del self.heard[at]
                    return found
            if self.gone:
                raise Failed(f"{self} lost its connection while it waited for {what}: {self.gone}")
            self.news.clear()
            try:
                await asyncio.wait_for(self.news.wait(), end - loop.time())
            except asyncio.TimeoutError:
                rest = "; ".join(describe(stanza) for stanza in self.heard)
                raise Failed(f"{self} waited in vain for {what}; it heard: {rest[-1500:] or 'nothing'}") from None

    async def acknowledged(self, seconds=PATIENCE):
        """Until the server has taken over all that was sent."""
        self.write("<r xmlns='urn:xmpp:sm:3'/>")
        await asyncio.wait_for(self.until(lambda: self.acked == self.sent % 2**32 or self.gone), seconds)

    async def until(self, test):
        while not test():
            self.news.clear()
            await self.news.wait()

    async def available(self):
        self.presence()
        await self.wait(lambda s: is_presence(s) and s.get("from") == self.jid, "its own presence")
        return self

    async def quit(self):
        if self.reader and not self.gone:
            self.write("</stream:stream>")
        await self.drop()

    async def drop(self):
        """The connection ends without a word."""
        if self.reader:
            self.reader.cancel()
            await asyncio.gather(self.reader, return_exceptions=True)
            self.output.close()

    @classmethod
    def number(cls):
        return f"n{next(cls.ids)}"


def bare(jid):
    return jid.split("/")[0] if jid else jid


def is_presence(stanza, sender=None, kind=None):
    """Of this full or bare address, and of this type; available ones have none."""
    return stanza.tag == CLIENT + "presence" and stanza.get("type") == kind and (
        sender is None or sender in (stanza.get("from"), bare(stanza.get("from"))))


def is_message(stanza, number=None, sender=None):
    return stanza.tag == CLIENT + "message" and (number is None or stanza.get("id") == number) and (
        sender is None or sender in (stanza.get("from"), bare(stanza.get("from"))))


def body(stanza):
    return stanza.findtext(CLIENT + "body")


def condition(stanza):
    error = stanza.find(CLIENT + "error")
    for child in error if error is not None else ():
        if child.tag.startswith(STANZAS) and not child.tag.endswith("}text"):
            return child.tag.removeprefix(STANZAS)
    return None


def describe(stanza):
    attributes = " ".join(f"{key}={stanza.get(key)}" for key in ("type", "from", "id") if stanza.get(key))
    text = body(stanza) or condition(stanza) or " ".join(child.tag.split("}")[-1] for child in stanza)
    return f"{stanza.tag.split('}')[-1]} {attributes} [{text[:60]}]"
