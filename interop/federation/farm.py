"""Many domains in one process, each with an address, a certificate and a listener of its own: they take streams of servers
(EXTERNAL, both directions on one stream, stream management) and send back each message that they get.

    farm.py FILE    where each line is: DOMAIN ADDRESS CERTIFICATE KEY AUTHORITY KIND, of the kinds starttls, direct, silent

It says "ready" in a line, then for each message a line of its id and of when it came (the clock is CLOCK_MONOTONIC), and at the end of
its input how many streams were opened and how many of them were wrong.
"""

import asyncio
import itertools
import os
import resource
import ssl
import sys
import time
from pathlib import Path
from xml.etree.ElementTree import XMLPullParser
from xml.sax.saxutils import escape, quoteattr

from peers import DIRECT, SERVERS

SERVER = "{jabber:server}"
SM = "{urn:xmpp:sm:3}"
HEADER = ("<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' xmlns:db='jabber:server:dialback' "
          "version='1.0' id='{id}' from='{domain}'{to}>")


class Farm:
    def __init__(self):
        self.opened, self.wrong, self.ids = 0, [], itertools.count(1)


class Domain:
    def __init__(self, farm, line):
        self.farm = farm
        self.name, self.address, crt, key, authority, self.kind = line.split()
        if self.kind == "silent":
            return
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority)
        self.context.load_cert_chain(crt, key)
        self.context.verify_mode = ssl.CERT_REQUIRED
        self.context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        self.context.sni_callback = self.named
        if self.kind == "direct":
            self.context.set_alpn_protocols(["xmpp-server"])

    def named(self, _connection, name, _context):
        if name != self.name:
            self.farm.wrong.append(f"{self.name} is called {name}")

    async def listen(self):
        if self.kind == "silent":
            await asyncio.start_server(self.hold, self.address, SERVERS)
        elif self.kind == "direct":
            await asyncio.start_server(self.serve, self.address, DIRECT, ssl=self.context)
        else:
            await asyncio.start_server(self.serve, self.address, SERVERS)

    async def hold(self, source, sink):
        """Takes the connection, and never says a word."""
        try:
            while await source.read(1 << 12):
                pass
        except OSError:
            pass
        sink.close()

    async def serve(self, source, sink):
        self.farm.opened += 1
        try:
            await Stream(self, source, sink).run()
        except (OSError, SyntaxError, ValueError) as error:
            if not isinstance(error, ConnectionError):
                self.farm.wrong.append(f"{self.name}: {type(error).__name__} {error}")
        sink.close()


class Stream:
    def __init__(self, domain, source, sink):
        self.domain, self.source, self.sink = domain, source, sink
        self.secure, self.peer, self.bidi, self.managed, self.count = domain.kind == "direct", None, False, False, 0
        self.restart()

    def restart(self):
        self.parser, self.depth, self.root = XMLPullParser(("start", "end")), 0, None

    def write(self, text):
        self.sink.write(text.encode())

    async def run(self):
        while data := await self.source.read(1 << 16):
            self.parser.feed(data)
            for event, element in self.parser.read_events():
                if event == "start":
                    self.depth += 1
                    if self.depth == 1:
                        self.root = element
                        self.greet(element)
                    continue
                self.depth -= 1
                if self.depth == 0:
                    self.write("</stream:stream>")
                    return
                if self.depth == 1:
                    self.root.clear()
                    await self.take(element)

    def greet(self, header):
        to = f" to={quoteattr(header.get('from'))}" if header.get("from") else ""
        self.write(HEADER.format(id=next(self.domain.farm.ids), domain=self.domain.name, to=to))
        features = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>"
        if self.peer:
            features = "<sm xmlns='urn:xmpp:sm:3'/>"
        elif self.secure:
            self.asker = header.get("from")
            features = ("<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism></mechanisms>"
                        "<bidi xmlns='urn:xmpp:features:bidi'/>")
        self.write(f"<stream:features>{features}</stream:features>")

    async def take(self, element):
        name = element.tag.split("}")[-1]
        if name == "starttls":
            self.write("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
            await self.sink.drain()
            await self.sink.start_tls(self.domain.context)
            self.secure = True
            self.restart()
        elif name == "auth":
            names = [value for kind, value in self.sink.get_extra_info("peercert")["subjectAltName"] if kind == "DNS"]
            if self.asker not in names:
                self.domain.farm.wrong.append(f"{self.asker} shows a certificate for {names}")
                return
            self.peer = self.asker
            self.write("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>")
            self.restart()
        elif name == "bidi":
            self.bidi = True
        elif element.tag == SM + "enable":
            self.managed, self.count = True, 0
            self.write("<enabled xmlns='urn:xmpp:sm:3'/>")
        elif element.tag == SM + "r":
            self.write(f"<a xmlns='urn:xmpp:sm:3' h='{self.count}'/>")
        elif element.tag.startswith(SERVER):
            self.count += 1
            self.stanza(element, name)

    def stanza(self, element, name):
        if not self.peer:
            self.domain.farm.wrong.append(f"{self.domain.name} hears a stanza of nobody")
        addresses = f"from={quoteattr(element.get('to', ''))} to={quoteattr(element.get('from', ''))}"
        number = quoteattr(element.get("id", ""))
        if name == "message":
            print(element.get("id"), time.monotonic(), flush=True)
            if self.bidi:
                body = escape(element.findtext(SERVER + "body") or "")
                self.write(f"<message {addresses} id={number} type='chat'><body>{body}</body></message>")
        elif name == "iq" and element.get("type") == "get" and self.bidi:
            self.write(f"<iq {addresses} id={number} type='result'/>")


async def main():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    farm = Farm()
    for line in Path(sys.argv[1]).read_text().splitlines():
        await Domain(farm, line).listen()
    print("ready", flush=True)
    loop, end = asyncio.get_running_loop(), asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(end), sys.stdin)
    await end.read()
    print("end", farm.opened, len(farm.wrong), *farm.wrong[:3], flush=True)
    os._exit(0)  # streams that are open need no goodbye


if __name__ == "__main__":
    asyncio.run(main())
