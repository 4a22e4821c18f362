"""A component with slixmpp (Python), behind the line protocol of README.md. It answers no pings of its own: whatever asks it
gets what the library says to requests that it does not know."""

import asyncio
import json
import sys

from slixmpp import ComponentXMPP
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath

DOMAIN, SECRET, PORT, JOURNAL = sys.argv[1:]


def emit(ev, **fields):
    sys.stdout.write(json.dumps({"ev": ev} | fields) + "\n")
    sys.stdout.flush()


class Component(ComponentXMPP):
    def __init__(self, journal):
        super().__init__(DOMAIN, SECRET, "127.0.0.1", int(PORT))
        self.journal = journal
        self.register_plugin("xep_0030")
        self.plugin["xep_0030"].add_identity(category="gateway", itype="irc", name="Python", jid=DOMAIN)
        self.register_handler(Callback("every message", MatchXPath(f"{{{self.default_ns}}}message"), self.take))
        self.add_event_handler("session_start", lambda _: emit("online"))
        self.add_event_handler("disconnected", self.again)
        self.add_event_handler("stream_error", lambda error: emit("refused", condition=error["condition"]))
        self.add_event_handler("presence_subscribe", self.subscribed)
        for kind in ("available", "unavailable"):
            self.add_event_handler(f"presence_{kind}", lambda p, kind=kind: emit(
                "presence", **{"from": p["from"].full, "to": p["to"].full, "type": kind}))

    def take(self, message):
        body = message["body"]
        if message["type"] == "error":
            emit("bounced", body=body, condition=message["error"]["condition"])
        elif body:
            # Whoever kills this process finds in the journal what it has taken.
            self.journal.write(body + "\n")
            self.journal.flush()
            if body.startswith("echo "):
                self.send_message(mfrom=message["to"], mto=message["from"], mtype="chat", mbody=body[5:])

    def subscribed(self, presence):
        self.send_presence(pfrom=presence["to"], pto=presence["from"], ptype="subscribed")
        self.send_presence(pfrom=presence["to"], pto=presence["from"], ptype="subscribe")
        self.send_presence(pfrom=f"{presence['to'].bare}/gateway", pto=presence["from"], pstatus="at your service")

    def again(self, _):
        emit("offline")
        asyncio.get_running_loop().call_later(0.2, self.connect)


async def main():
    with open(JOURNAL, "a", encoding="utf-8") as journal:
        component = Component(journal)
        component.connect()
        stdin = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
        while line := await stdin.readline():
            command = json.loads(line)
            component.send_message(mfrom=command["from"], mto=command["to"], mtype="chat", mbody=command["body"])


asyncio.run(main())
