"""Profanity (C, a terminal program) behind the line protocol of ../wire.py.

It runs in a terminal of its own: commands are typed, events are read from its log, which has each stanza that it sent
and received. It has its home in a temporary folder. The server's certificate is pinned there by its fingerprint, as
`/tls always` would do: the version in Debian 12 does not heed `/tls certpath`. So `ca` must be that certificate itself.
"""

import asyncio
import fcntl
import hashlib
import os
import pty
import re
import signal
import ssl
import struct
import subprocess
import sys
import tempfile
import termios
import xml.etree.ElementTree as ET
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent))

from rooms import Rooms  # noqa: E402
from wire import emit, serve  # noqa: E402

ROSTER, DISCO, DELAY = "{jabber:iq:roster}", "{http://jabber.org/protocol/disco#info}", "{urn:xmpp:delay}delay"
CARBONS, FORWARDED, RECEIPTS = "{urn:xmpp:carbons:2}", "{urn:xmpp:forward:0}forwarded", "{urn:xmpp:receipts}"
PING, BIND, SASL = "{urn:xmpp:ping}ping", "{urn:ietf:params:xml:ns:xmpp-bind}", "{urn:ietf:params:xml:ns:xmpp-sasl}"


class Driver(Rooms):
    process = None

    def __init__(self):
        super().__init__()
        self.home = tempfile.TemporaryDirectory(prefix="profanity-")
        self.log = Path(self.home.name) / "profanity.log"
        self.pings, self.infos, self.carbons, self.contacts = set(), set(), {}, {}
        self.mechanism, self.condition, self.asked = None, "", None
        self.jid, self.online = None, False

    async def do_connect(self, jid, password, host, port, tls, ca, resource="profanity"):
        home, config = Path(self.home.name), Path(self.home.name) / "config" / "profanity"
        config.mkdir(parents=True)
        (config / "profrc").write_text("[notifications]\nmessage=off\n")
        data = home / "data" / "profanity"
        data.mkdir(parents=True)
        fingerprint = hashlib.sha1(ssl.PEM_cert_to_DER_cert(Path(ca).read_text())).hexdigest()
        (data / "tlscerts").write_text(f"[{fingerprint}]\nversion=3\n")
        (data / "accounts").write_text(
            f"[{jid}]\nenabled=true\njid={jid}\npassword={password}\nserver={host}\nport={port}\nresource={resource}\n"
            f"tls.policy={'legacy' if tls == 'direct' else 'force'}\npresence.last=online\npresence.login=online\n"
            "priority.online=0\nmuc.nick=x\n"
        )
        self.log.touch()
        self.terminal, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
        self.process = subprocess.Popen(
            ["profanity", "--log=DEBUG", f"--logfile={self.log}", f"--account={jid}"],
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            env=os.environ | {
                "HOME": str(home), "XDG_CONFIG_HOME": str(home / "config"), "XDG_DATA_HOME": str(home / "data"),
                "TERM": "xterm", "LC_ALL": "C.UTF-8",
            },
        )
        os.close(theirs)
        loop = asyncio.get_running_loop()
        loop.add_reader(self.terminal, self.drain)
        self.following = loop.create_task(self.follow())

    def drain(self):
        try:
            os.read(self.terminal, 65536)
        except OSError:  # the program has ended
            asyncio.get_running_loop().remove_reader(self.terminal)

    def type(self, line):
        os.write(self.terminal, line.encode() + b"\r")

    async def follow(self):
        """Reads the log as it grows. A stanza is one line, or several when there is a newline in it."""
        with self.log.open("rb") as log:
            line = b""
            while True:
                line += log.readline()
                if line.endswith(b"\n"):
                    text, line = line.decode(), b""
                    if found := re.search(r"(SENT|RECV): (<.*)", text):
                        self.stanza(found[1] == "SENT", found[2])
                    elif "Connection failed" in text or "Login failed" in text:
                        emit("error", do="connect", condition=self.condition, text=text.strip())
                else:  # perhaps in the middle of a line, which is written in pieces
                    await asyncio.sleep(0.01)

    def stanza(self, sent, text):
        try:
            element = ET.fromstring(text)
        except ET.ParseError:  # a stream header, or a stanza whose prefix is declared there
            return
        name = element.tag.split("}")[-1]
        if sent:
            self.room_sent(element)
            if name == "auth":
                self.mechanism = element.get("mechanism")
            elif element.find(PING) is not None:
                self.pings.add(element.get("id"))
            elif (change := element.find(CARBONS + "*")) is not None and name == "iq":
                self.carbons[element.get("id")] = change.tag == CARBONS + "enable"
            elif self.asked and self.asked == element.get("to") and self.asks_for_features(element):
                self.asked = None
                self.infos.add(element.get("id"))
        elif name == "failure" and element.tag.startswith(SASL):
            self.condition = element[0].tag.removeprefix(SASL)
        elif received := getattr(self, name, None):
            received(element)

    @staticmethod
    def asks_for_features(iq):
        """Not its own answer to the server, which asks for its features as well (XEP-0115 §6.2)."""
        return iq.get("type") == "get" and iq.find(DISCO + "query") is not None

    def message(self, message):
        account = self.jid.split("/")[0]
        for way in ("received", "sent"):
            carbon = message.find(f"{CARBONS}{way}/{FORWARDED}/{{jabber:client}}message")
            if carbon is not None and message.get("from") == account:
                return self.tell(carbon, account, copy=way)
        if message.get("type") == "error":
            emit("error", do="send", condition="bounced")
        elif message.get("type") == "groupchat":
            self.room_message(message, describe(message, message.get("from").split("/")[0]))
        else:
            self.tell(message, account)

    @staticmethod
    def tell(message, account, **more):
        """A message as event: `mark` if it only says that another one was received."""
        event, receipt = describe(message, account) | more, message.find(RECEIPTS + "received")
        if event["body"]:
            emit("message", **event)
        elif receipt is not None:
            emit("mark", kind="received", ref=receipt.get("id"), **event)

    def presence(self, presence):
        if self.room_presence(presence):
            return
        kind, sender = presence.get("type", "available"), presence.get("from")
        if kind in ("available", "unavailable"):
            emit("presence", type=kind, status=presence.findtext("{*}status") or "", **{"from": sender})
        elif kind in ("subscribe", "subscribed"):
            emit(kind, **{"from": sender.split("/")[0]})

    def iq(self, iq):
        self.room_answer(iq)
        query = iq.find(DISCO + "query")
        if jid := iq.findtext(f"{BIND}bind/{BIND}jid"):
            self.jid = jid
        elif self.jid and not self.online and query is not None and iq.get("type") == "result":
            # It asks the server for its features when it is online, and refuses some commands until it knows them.
            self.online = True
            emit("online", jid=self.jid, mechanism=self.mechanism)
        if iq.get("id") in self.pings:
            emit("pong")
        if iq.get("id") in self.carbons and iq.get("type") == "result":
            emit("carbons", on=self.carbons[iq.get("id")])
        if query is not None and iq.get("id") in self.infos:
            identities = [f"{i.get('category')}/{i.get('type')}" for i in query.findall(DISCO + "identity")]
            emit("disco", features=[f.get("var") for f in query.findall(DISCO + "feature")], identities=identities)
        if (contacts := iq.find(ROSTER + "query")) is not None:
            for item in contacts.findall(ROSTER + "item"):
                self.contacts[item.get("jid")] = item.get("subscription")
            self.roster()

    def roster(self):
        emit("roster", items=[{"jid": j, "subscription": s} for j, s in self.contacts.items()])

    async def do_roster(self):
        self.roster()  # it asks for the roster by itself when it is online

    async def do_roster_add(self, jid):
        self.type(f"/roster add {jid} contact")

    async def do_subscribe(self, jid):
        self.type(f"/sub request {jid}")

    async def do_approve(self, jid):
        self.type(f"/sub allow {jid}")

    async def do_presence(self, status=None):
        self.type(f'/status set online "{status}"' if status else "/status set online")

    async def do_send(self, to, body):
        self.type(f"/msg {to} {body}")

    async def do_carbons(self, on=True):
        self.type(f"/carbons {'on' if on else 'off'}")

    async def do_ping(self, to):
        self.type("/ping" if to == "localhost" else f'/ping "{to}"')

    async def do_disco(self, to):
        """Now and then nothing is sent for the line that is typed, and the log does not say why: then it is typed again."""
        self.asked = to
        for _ in range(3):
            self.type(f"/disco info {to}")
            for _ in range(50):
                await asyncio.sleep(0.1)
                if not self.asked:
                    return

    async def do_quit(self):
        if self.process:
            self.type("/quit")
            await asyncio.to_thread(self.process.wait, 10)
        emit("bye")


def describe(message, by):
    """What is in a message; ids of this account (or room) only."""
    sid = next((i.get("id") for i in message.findall("{urn:xmpp:sid:0}stanza-id") if i.get("by") == by), None)
    event = {name: message.get(name) for name in ("from", "to", "id")} | {"sid": sid}
    return event | {"body": message.findtext("{*}body"), "delayed": None if message.find(DELAY) is None else "delay"}


async def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that the program and its home are cleared away
    driver = Driver()
    try:
        await serve(driver)
    finally:
        if driver.process:
            driver.process.kill()
        driver.home.cleanup()


asyncio.run(main())
