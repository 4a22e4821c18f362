"""What is tried: features of one client, each in a conversation with a second one, and chats of each pair.

A feature is a function of a `Bench`; it raises `Failed` or returns a short remark for the report. No test sleeps:
"nothing came" is asked after a ping, because a server answers it after all that it had to say before.
"""

from contextlib import ExitStack, suppress
from itertools import permutations

from archives import archive, carbons, catch_up, marks
from bench import PASSWORD, account, expect, has, sender
from clients import Driver, Failed
from histories import devices, restart, tunnel


def login(bench, tls):
    with bench.driver() as driver:
        online = driver.login(bench.account("login"), PASSWORD, tls)
        expect(online["jid"].split("/")[0] == driver.jid, f"bound as {online['jid']}")
        strongest = bench.client.strongest(bench.server)
        expect(online["mechanism"] == strongest, f"logged in by {online['mechanism']}, not {strongest}")
        driver.available()
        driver.quit()
        return " ".join(filter(None, (online["mechanism"], online.get("tls"))))


def starttls(bench):
    return login(bench, "starttls")


def direct(bench):
    return login(bench, "direct")


def refused(bench):
    """A wrong password is told to the client as such, and the account still works with the right one."""
    with bench.driver() as driver:
        driver.connect(bench.account("login"), "wrong " + PASSWORD)
        error = driver.wait("error", do="connect")
        expect(error["condition"] == "not-authorized", f"the condition was {error['condition']}: {error.get('text')}")


def roster(bench):
    """Add a contact, then subscribe both ways; both rosters end with `both`."""
    with bench.pair("roster") as (mine, theirs):
        mine.do("roster-add", jid=theirs.jid)
        mine.wait("roster", has(theirs.jid, "none"))
        for asks, grants in ((mine, theirs), (theirs, mine)):
            asks.do("subscribe", jid=grants.jid)
            grants.wait("subscribe", sender(asks.jid))
            grants.do("approve", jid=asks.jid)
            asks.wait("subscribed", sender(grants.jid))
        mine.wait("roster", has(theirs.jid, "both"))
        theirs.wait("roster", has(mine.jid, "both"))
        mine.do("roster")
        mine.wait("roster", has(theirs.jid, "both"))


def presence(bench):
    """After mutual subscription: status both ways, and unavailable when one leaves."""
    with bench.pair("presence") as (mine, theirs):
        befriend(mine, theirs)
        mine.available("at my desk")
        theirs.wait("presence", sender(mine.jid), type="available", status="at my desk")
        theirs.available("on the train")
        mine.wait("presence", sender(theirs.jid), type="available", status="on the train")
        theirs.quit()
        mine.wait("presence", sender(theirs.jid), type="unavailable")
    with bench.driver() as mine, bench.driver(bench.other) as theirs:
        mine.login(bench.account("presence"), PASSWORD)
        mine.available("back again")
        theirs.login(bench.account("presence-other"), PASSWORD)
        theirs.available()
        theirs.wait("presence", sender(mine.jid), type="available", status="back again")
        mine.quit()
        theirs.wait("presence", sender(mine.jid), type="unavailable")


def befriend(a, b):
    a.do("subscribe", jid=b.jid)
    b.wait("subscribe", sender(a.jid))
    b.do("approve", jid=a.jid)
    a.wait("subscribed", sender(b.jid))
    b.do("subscribe", jid=a.jid)
    a.wait("subscribe", sender(b.jid))
    a.do("approve", jid=b.jid)
    b.wait("subscribed", sender(a.jid))


def chat(bench):
    """Ten messages each way with what must be escaped and what is not ASCII; in order, once, over direct TLS."""
    bodies = [f"{n} <&>\"' näh ☃ 😀" for n in range(10)]
    tls = "starttls" if "direct" in bench.client.lacks else "direct"
    with bench.pair("chat", tls) as (mine, theirs):
        for a, b in ((mine, theirs), (theirs, mine)):
            for body in bodies:
                a.do("send", to=b.jid, body=body)
            for body in bodies:
                expect(b.wait("message", sender(a.jid))["body"] == body, f"{body!r} did not come in its turn")
            b.ping()
            expect(not b.seen("message"), "a message came twice")


def offline(bench):
    """Messages to one who is away: in order, once, marked as delayed."""
    bodies = [f"while you were out {n}" for n in range(3)]
    with bench.driver() as mine, bench.driver(bench.other) as theirs:
        mine.jid = bench.account("offline") + "@localhost"
        theirs.login(bench.account("offline-other"), PASSWORD)
        theirs.available()
        for body in bodies:
            theirs.do("send", to=mine.jid, body=body)
        theirs.ping()
        mine.login(bench.account("offline"), PASSWORD)
        mine.do("presence")
        for body in bodies:
            message = mine.wait("message", sender(theirs.jid))
            expect(message["body"] == body, f"{message['body']!r} came in place of {body!r}")
            expect(message.get("delayed"), "an offline message has no delay stamp")
        mine.ping()
        expect(not mine.seen("message"), "a message came twice")


def resume(bench):
    """The network goes in the middle of a sentence, messages come meanwhile, the stream is resumed: nothing lost,
    nothing twice, and nobody is told that the client was away.
    """
    with bench.pair("resume") as (mine, theirs):
        befriend(mine, theirs)
        mine.available("here")
        theirs.wait("presence", sender(mine.jid), type="available", status="here")
        mine.do("send", to=theirs.jid, body="before")
        theirs.wait("message", body="before")
        theirs.forget()
        for turn in range(2):
            bodies = [f"in the tunnel {turn}.{n}" for n in range(3)]
            mine.do("send", to=theirs.jid, body=f"into the dark {turn}")
            mine.do("drop")
            mine.wait("dropped")
            for body in bodies:
                theirs.do("send", to=mine.jid, body=body)
            theirs.ping()
            mine.do("resume")
            mine.wait("resumed")
            for body in bodies:
                expect(mine.wait("message", sender(theirs.jid))["body"] == body, f"{body!r} did not come in its turn")
            theirs.wait("message", body=f"into the dark {turn}")
            mine.do("send", to=theirs.jid, body=f"after {turn}")
            theirs.wait("message", body=f"after {turn}")
            mine.ping()
            theirs.ping()
            expect(not mine.seen("message") and not theirs.seen("message"), "a message came twice")
        expect(not theirs.seen("presence", type="unavailable"), "the others were told that the client left")


def ping(bench):
    with bench.driver() as driver:
        driver.login(bench.account("login"), PASSWORD)
        driver.ping()


def disco(bench):
    with bench.driver() as driver:
        driver.login(bench.account("login"), PASSWORD)
        driver.do("disco", to="localhost")
        info = driver.wait("disco")
        expect("server/im" in info["identities"], f"the identities are {info['identities']}")
        for namespace in ("http://jabber.org/protocol/disco#info", "urn:xmpp:ping"):
            expect(namespace in info["features"], f"{namespace} is not among the features")
        return f"{len(info['features'])} features"


FEATURES = {
    "starttls": starttls, "direct": direct, "refused": refused, "roster": roster, "presence": presence,
    "chat": chat, "offline": offline, "resume": resume, "ping": ping, "disco": disco,
    "archive": archive, "marks": marks, "carbons": carbons, "catch-up": catch_up,
    "devices": devices, "tunnel": tunnel, "restart": restart,
}
TWO = ["roster", "presence", "chat", "offline", "resume", "archive", "marks", "carbons", "catch-up", "devices", "tunnel", "restart"]
ROLES = ["login", "pairs", "rooms", "archive-third"] + [role + other for role in TWO for other in ("", "-other")]


class Company:
    """All clients at once, each on its own account; one that did not get online fails whenever it is asked for."""

    def __init__(self, clients, server, folder, role="pairs"):
        self.server, self.folder, self.role, self.stack = server, folder, role, ExitStack()
        self.drivers = {client.name: self.enter(client) for client in clients}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stack.close()

    def enter(self, client):
        try:
            driver = self.stack.enter_context(Driver(client, self.server, self.folder / f"{client.name}.log"))
            driver.login(account(client, self.role), PASSWORD)
            driver.do("presence")
            return driver
        except Failed as failure:
            return failure

    def __getitem__(self, client):
        driver = self.drivers[client.name]
        if isinstance(driver, Failed):
            raise driver
        return driver

    def leave_and_come_back(self, client, others):
        """The others write to the one who left; what one of them could not send is missed later, by `heard`."""
        self[client].quit()
        for other in others:
            with suppress(Failed):
                self[other].do("send", to=self[client].jid, body=f"{other.name} to {client.name}")
                self[other].ping()
        self.drivers[client.name] = self.enter(client)


def pairs_online(clients, server, folder, report):
    """Each says one thing to each other one, and each hears it once."""
    with Company(clients, server, folder) as company:
        for a, b in permutations(clients, 2):
            report(a, b, "online", lambda: say(company[a], company[b], f"{a.name} to {b.name}"))


def say(a, b, body):
    a.do("send", to=b.jid, body=body)
    b.wait("message", sender(a.jid), body=body)
    b.ping()
    expect(not b.seen("message", body=body), "a message came twice")


def pairs_offline(clients, server, folder, report):
    """Each client in turn leaves, all others write to it, and it comes back."""
    with Company(clients, server, folder) as company:
        for b in clients:
            others = [a for a in clients if a is not b]
            with suppress(Failed):
                company.leave_and_come_back(b, others)
            for a in others:
                report(a, b, "offline", lambda: heard(company[b], a, f"{a.name} to {b.name}"))


def heard(driver, client, body):
    message = driver.wait("message", sender(f"{account(client, 'pairs')}@localhost"))
    expect(message["body"] == body, f"heard {message['body']!r}")
    expect(message.get("delayed"), "an offline message has no delay stamp")
