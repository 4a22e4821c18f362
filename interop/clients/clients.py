"""The clients: how each driver is started, what it can do, and the process behind the line protocol."""

import json
import os
import queue
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("ROOKERY_CACHE") or Path.home() / ".cache" / "rookery") / "interop-clients"
PATIENCE = float(os.environ.get("INTEROP_PATIENCE", "20"))  # seconds that any one event may take


@dataclass(frozen=True)
class Client:
    """`start` is what it takes to start, in seconds of CPU: quick ones are chosen to talk to.
    `binding` is the channel binding it uses for `plus`; `plain` is its best mechanism without one.
    `host` is given where the library must be told a name in place of an address. `lacks` maps a feature, or a part of one, that the library does
    not have to the reason.
    """

    name: str
    command: tuple
    start: float
    plain: str
    plus: str | None = None
    binding: str | None = None
    host: str | None = None
    lacks: dict = field(default_factory=dict)

    def strongest(self, server):
        return self.plus if self.plus and self.binding in server.binds else self.plain


REFUSAL = "does not see that it may not enter, unless it is told so with what it has sent"
NO_ROOMS = "its driver has no rooms"
NO_RESUME = "the library has no XEP-0198"
ARCHIVE = ("archive", "marks", "catch-up", "devices", "tunnel", "restart")  # features for which one must be read

CLIENTS = [
    Client(
        "slixmpp",
        (CACHE / "slixmpp/bin/python", HERE / "slixmpp/driver.py"),
        start=0.4,
        plain="SCRAM-SHA-256",
        lacks={"refusal": REFUSAL},
    ),
    Client(
        "aioxmpp",
        (CACHE / "aioxmpp/bin/python", HERE / "aioxmpp/driver.py"),
        start=0.9,
        plain="SCRAM-SHA-256",
        plus="SCRAM-SHA-256-PLUS",
        binding="tls-exporter",
        lacks={
            "order": "sends again in reverse what was not acknowledged before a resumption",
            "flight": "fails when it has something to write as the connection goes",
        },
    ),
    Client(
        "xmppjs",
        ("node", CACHE / "xmppjs/driver.js"),
        start=0.6,
        plain="SCRAM-SHA-1",
        host="localhost",  # direct TLS checks the certificate for the name that was dialled
        lacks={"handled": "does not count answers to its own questions as handled, so that a server repeats itself"},
    ),
    Client(
        "mellium",
        (CACHE / "mellium/driver",),
        start=0.1,
        plain="SCRAM-SHA-256",
        plus="SCRAM-SHA-256-PLUS",
        binding="tls-exporter",
        lacks=dict.fromkeys(("resume", "tunnel", "restart"), NO_RESUME)
        | {"count": "asks for no page when it asks for an empty one", "errors": "does not tell of a query that failed"}
        | {"rooms": NO_ROOMS},
    ),
    Client(
        "smack",
        ("java", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-cp", f"{CACHE}/smack/lib/*:{CACHE}/smack/classes", "Driver"),
        start=0.8,
        plain="SCRAM-SHA-1",
        host="localhost",  # direct TLS checks the certificate for the name that was dialled
        lacks={"count": "asks for no page when it asks for an empty one", "metadata": "does not know them",
               "room-nick": "takes its own change of name for its leaving, and waits for itself"},
    ),
    Client(
        "strophe",
        (CACHE / "strophe/driver",),
        start=0.1,
        plain="SCRAM-SHA-256",
        lacks=dict.fromkeys(("carbons", *ARCHIVE), "the library has no XEP-0280 and no XEP-0313")
        | {"rooms": "the library has no XEP-0045"},
    ),
    Client(
        "profanity",
        ("python3", HERE / "profanity/driver.py"),
        start=0.3,
        plain="SCRAM-SHA-256",
        lacks=dict.fromkeys(ARCHIVE, "it asks the server for XEP-0313, not the account, and does not find it")
        | {"resume": "a terminal program: no command of it cuts the network"}
        | {"refusal": REFUSAL, "history": "cannot say how much of a room's history it wants", "self-ping": "pings only whose features it knows"},
    ),
]


class Failed(Exception):
    """What a test says when the conversation did not go as it should."""


class Driver:
    """One running client. Events are kept in order; a wait takes the first that fits and leaves the others. All that
    were ever read stay in the journal.
    """

    def __init__(self, client, server, log):
        self.client, self.server, self.events, self.journal = client, server, [], []
        self.queue = queue.SimpleQueue()
        self.log = log.open("a", buffering=1)
        self.process = subprocess.Popen(
            [str(part) for part in client.command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, bufsize=1,
            env=os.environ | {"NODE_EXTRA_CA_CERTS": str(server.ca)},
        )
        threading.Thread(target=self.read, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def read(self):
        for line in self.process.stdout:
            try:
                event = json.loads(line)
            except ValueError:
                event = {"ev": "noise", "line": line.strip()}
            self.queue.put(event)
        self.queue.put(None)

    def note(self, arrow, what):
        self.log.write(f"{time.time()%1000:.3f} {arrow} {json.dumps(what)}\n")

    def do(self, name, **arguments):
        command = {"do": name} | arguments
        self.note(">>", command)
        try:
            self.process.stdin.write(json.dumps(command) + "\n")
        except OSError:
            raise Failed(f"{self.client.name} is gone") from None

    def wait(self, ev, matches=lambda event: True, patience=PATIENCE, **fields):
        """The first event `ev` with these fields; an `error` that nobody waits for fails the test at once."""
        deadline, at = time.monotonic() + patience, 0
        wanted = f"{ev} {fields}" if fields else ev
        while True:
            while at == len(self.events):
                try:
                    event = self.queue.get(timeout=max(0, deadline - time.monotonic()))
                except queue.Empty:
                    raise Failed(f"{self.client.name}: no {wanted} in {patience:g} s") from None
                if event is None:
                    self.queue.put(None)
                    raise Failed(f"{self.client.name} ended while {wanted} was awaited")
                self.note("<<", event)
                self.events.append(event)
                self.journal.append(event)
            event = self.events[at]
            if event["ev"] == ev and all(event.get(k) == v for k, v in fields.items()) and matches(event):
                return self.events.pop(at)
            if event["ev"] == "error":
                raise Failed(f"{self.client.name}: {event.get('do')} failed: {event.get('condition')} {event.get('text', '')}")
            at += 1

    def seen(self, ev, **fields):
        """How many such events came so far; ask after a `ping`, which comes after all that was sent before."""
        return sum(e["ev"] == ev and all(e.get(k) == v for k, v in fields.items()) for e in self.events)

    def forget(self):
        self.events.clear()

    def connect(self, account, password, tls="starttls"):
        self.jid = f"{account}@localhost"
        port = self.server.direct if tls == "direct" else self.server.starttls
        host = self.client.host or self.server.host
        self.do("connect", jid=self.jid, password=password, host=host, port=port, tls=tls, ca=str(self.server.ca))

    def login(self, account, password, tls="starttls"):
        self.connect(account, password, tls)
        return self.online()

    def online(self):
        """Waits for the login and asks for the roster, which makes the resource an interested one (RFC 6121, 2.2)."""
        online = self.wait("online")
        self.do("roster")
        self.wait("roster")
        return online

    def available(self, status=None):
        """Sends presence and waits until the server has taken it."""
        self.do("presence", **({"status": status} if status else {}))
        self.ping()

    def ping(self):
        self.do("ping", to="localhost")
        self.wait("pong")

    def quit(self):
        self.do("quit")
        self.wait("bye")
        self.process.wait(PATIENCE)
