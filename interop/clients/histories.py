"""Histories: what a person's devices know of a conversation, each from what it sent, heard, was copied and fetched from
the archive after the last message that it knew. Features, as scenarios.py explains them; in the end the devices must
agree.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from random import Random

from archives import ids, query
from bench import PASSWORD, account, expect

PAGE = 20


@dataclass
class Entry:
    """A message. Its stanza-id is not known of what the device sent itself, until the archive tells."""

    sender: str
    body: str
    names: set
    sid: str | None = None
    own: bool = False


class History:
    """As clients do it: a stanza-id names a message; what comes back of what one sent is known by the id one gave it."""

    def __init__(self, jid):
        self.jid, self.entries, self.place, self.ends = jid, [], -1, {}
        self.wrong, self.twice, self.again, self.fetched = [], [], 0, 0

    def known(self, sid):
        return next((e for e in reversed(self.entries) if e.sid == sid), None)

    def last(self):
        return next((e for e in reversed(self.entries) if e.sid), None)

    def read(self, driver):
        """Takes in what the driver has told since the last time."""
        told = driver.journal[self.ends.get(driver, 0) :]
        self.ends[driver] = len(driver.journal)
        for event in told:
            if event.get("body") and event["ev"] in ("sent", "message", "archived"):
                self.take(event["ev"], event)

    def take(self, ev, event):
        sender = self.jid if ev == "sent" else event["from"].split("/")[0]
        entry = Entry(sender, event["body"], {event["id"], event.get("origin")} - {None}, event.get("sid"), ev == "sent")
        same = self.known(entry.sid) if entry.sid else None
        named = next((e for e in reversed(self.entries) if e.sender == sender and e.names & entry.names), None)
        if ev == "sent":
            self.entries.append(entry)
        elif not entry.sid:
            self.wrong.append(f"{entry.body!r} has no stanza-id")
        elif ev == "message" and same:
            self.twice.append(entry.body)
        elif ev == "message" and named:
            self.wrong.append(f"{entry.body!r} came with two ids")
        elif ev == "message":
            self.entries.append(entry)
        elif same:
            self.again += 1
            self.place = self.entries.index(same)
        elif named and named.own and not named.sid:
            named.sid = entry.sid
            self.place = self.entries.index(named)
        elif named:
            self.wrong.append(f"{entry.body!r} is in the archive twice")
        else:
            self.fetched += 1
            self.place += 1
            self.entries.insert(self.place, entry)

    def fetch(self, driver, after, meanwhile=lambda: None):
        """The archive behind this entry, or all of it; what is new is put behind it. Returns the ids."""
        self.read(driver)
        self.place = self.entries.index(after) if after else -1
        found, _ = query(driver, meanwhile, pages="forward", max=PAGE, **({"after": after.sid} if after else {}))
        self.read(driver)
        return ids(found)

    def settle(self, driver, after):
        """Several spoke at once since then: the archive says in which order. Others' were heard in that same order."""
        self.read(driver)
        begin, fetched, again = self.entries.index(after) + 1 if after else 0, self.fetched, self.again
        archived = self.fetch(driver, after)
        self.again = again
        recent = self.entries[begin:]
        expect(self.fetched == fetched, f"{driver.client.name} has not heard all that its archive has")
        lost = [e.body for e in recent if e.sid not in archived]
        expect(not lost, f"{driver.client.name} has {lost}, the archive has not")
        for own in (True, False):
            order = [e for e in recent if e.own == own]
            inverted = [e.body for e, f in zip(order, order[1:]) if archived.index(e.sid) > archived.index(f.sid)]
            fine = not inverted or own and "order" in driver.client.lacks
            expect(fine, f"{driver.client.name} {'said' if own else 'heard'} {inverted} too early")
        self.entries[begin:] = sorted(recent, key=lambda e: archived.index(e.sid))

    def said(self):
        return [(e.sender, e.body) for e in self.entries]


@dataclass
class Device:
    """One client of a person, its history and, when it is there, its driver."""

    bench: object
    client: object
    role: str
    stack: ExitStack
    logins: int = 1
    driver: object = None
    count: int = 0

    def __post_init__(self):
        """The programs are started together, because each takes its time."""
        self.history = History(f"{self.bench.account(self.role)}@localhost")
        self.drivers = [self.stack.enter_context(self.bench.driver(self.client)) for _ in range(self.logins)]

    def connect(self):
        self.driver = self.drivers.pop()
        self.driver.connect(self.bench.account(self.role), PASSWORD)

    def come(self, meanwhile=lambda: None):
        """As a client begins: copies on, then the archive after the last message that it knows, then presence."""
        self.driver.online()
        self.driver.do("carbons")
        self.driver.wait("carbons")
        self.history.fetch(self.driver, self.history.last(), meanwhile)
        self.driver.available()

    def leave(self):
        self.driver.quit()
        self.history.read(self.driver)
        self.driver = None

    def last(self):
        self.history.read(self.driver)
        return self.history.last()

    def say(self, to, count):
        """Says so much, and returns it."""
        bodies = [f"{self.client.name} {self.role} {self.count + n}" for n in range(count)]
        self.count += count
        for body in bodies:
            self.driver.do("send", to=to.history.jid, body=body)
        return [(self.history.jid, body) for body in bodies]

    def hears(self, said):
        """Waits for the last of it; what came before is seen in the history."""
        for _, body in said[-1:]:
            self.driver.wait("message", body=body)


class Conversation:
    """Devices of a person, and of a contact that has one; who is there, and what was said."""

    def __init__(self, bench, stack, role, clients, logins):
        self.devices = [Device(bench, client, role, stack, logins[0]) for client in clients[:1]]
        self.devices += [Device(bench, client, role, stack, logins[1]) for client in clients[1:-1]]
        self.contact = Device(bench, clients[-1], role + "-other", stack, logins[1])
        self.random, self.said = Random(role + bench.client.name), []
        self.everybody = [*self.devices, self.contact]
        for device in self.everybody:
            device.connect()
        for device in self.everybody:
            device.come()

    def present(self):
        return [device for device in self.everybody if device.driver]

    def says(self, device, count):
        return device.say(self.devices[0] if device is self.contact else self.contact, count)

    def talk(self, count):
        """So many messages, by turns: a few of one, which all others hear before the next one speaks."""
        while count > 0:
            speaker = self.contact if self.random.random() < 0.5 else self.random.choice(self.present())
            some = self.says(speaker, min(count, self.random.randint(1, 6)))
            self.heard(speaker, some)
            self.said += some
            count -= len(some)

    def heard(self, speaker, said):
        for device in self.present():
            if device is not speaker:
                device.hears(said)

    def at_once(self, speakers, count):
        """All of them speak at the same time. Returns what each said, when their clients have taken it."""
        said = [(device, self.says(device, count)) for device in speakers]
        for device, some in said:
            device.driver.wait("sent", body=some[-1][1])
        return said

    def at_once_and_heard(self, speakers, count):
        said = self.at_once(speakers, count)
        for speaker, some in said:
            self.heard(speaker, some)
        return said

    def marks(self):
        """What each knows to be the last so far."""
        return [(device, device.last()) for device in self.present()]

    def agree(self, marks, together):
        """All have the same, in one order: first what was said by turns, then what was said together."""
        for device, mark in marks:
            device.driver.ping()
            device.history.settle(device.driver, mark)
            expect(not device.history.wrong, f"{device.client.name}: {device.history.wrong}")
            fine = not device.history.twice or "handled" in device.client.lacks
            expect(fine, f"{device.client.name} heard twice: {device.history.twice}")
        first, *others = [device.history.said() for device in self.devices]
        turns = len(self.said)
        for device in self.everybody:
            differs(device, device.history.said()[:turns], self.said)
            differs(device, sorted(device.history.said()[turns:]), sorted(message for _, some in together for message in some))
        for device, other in zip(self.devices[1:], others):
            differs(device, other, first)
        for device in (self.devices[0], self.contact):
            found, _ = query(device.driver, pages="forward", max=PAGE)
            differs(device, device.history.said(), [(m["from"].split("/")[0], m["body"]) for m in found])
            for message, entry in zip(found, device.history.entries):
                expect(entry.sid in (message["sid"], None), f"{entry.body!r} is archived by another id than it was heard")
        twice = sum(len(device.history.twice) for device in self.everybody)
        again = sum(device.history.again for device in self.everybody)
        return f"{len(first)} messages, {twice} heard twice, {again} fetched though heard"


def differs(device, has, wanted):
    for n, (a, b) in enumerate(zip(has, wanted)):
        expect(a == b, f"{device.client.name} has {a} as message {n}, not {b}")
    expect(len(has) == len(wanted), f"{device.client.name} has {len(has)} messages, not {len(wanted)}")


def devices(bench):
    """Three devices of three families; one is away for the middle third, and messages come while it catches up."""
    with ExitStack() as stack:
        conversation = Conversation(bench, stack, "devices", [bench.client, *bench.friends("devices")[:3]], (2, 1))
        away, contact = conversation.devices[0], conversation.contact
        conversation.talk(34)
        away.leave()
        conversation.talk(34)
        meanwhile = []
        away.connect()
        away.come(lambda: meanwhile.extend(conversation.says(contact, 5)))
        conversation.heard(contact, meanwhile)
        conversation.said += meanwhile
        conversation.talk(25)
        marks = conversation.marks()
        return conversation.agree(marks, conversation.at_once_and_heard(conversation.present(), 3))


def tunnel(bench):
    """The network goes twice while all talk; after resumption nothing is missing, nothing is there twice."""
    with ExitStack() as stack:
        conversation = Conversation(bench, stack, "tunnel", [bench.client, *bench.friends("tunnel")[:2]], (1, 1))
        mine, second = conversation.devices
        contact = conversation.contact
        conversation.talk(6)
        marks, together = conversation.marks(), []
        for _ in range(2):
            together += conversation.at_once((contact, mine, second), 5)
            mine.driver.do("drop")
            together += conversation.at_once((contact, second), 5)
            mine.driver.wait("dropped")
            contact.driver.ping()
            mine.driver.do("resume")
            mine.driver.wait("resumed")
            together += conversation.at_once_and_heard((contact, mine, second), 3)
        return conversation.agree(marks, together)


def restart(bench):
    """The server ends and starts again while all talk. Where it keeps sessions they are resumed, and what was on its
    way both ways arrives; elsewhere all log in anew and catch up.
    """
    with ExitStack() as stack:
        logins = 1 if bench.server.keeps_sessions else 2
        clients = [bench.client, *bench.friends("restart")[:2]]
        conversation = Conversation(bench, stack, "restart", clients, (logins, logins))
        conversation.talk(6)
        marks, together = conversation.marks(), []
        if bench.server.keeps_sessions and "flight" not in bench.client.lacks:
            together = conversation.at_once(conversation.present(), 5)
        bench.server.restart()
        for device in conversation.present():
            device.driver.wait("dropped")
            if bench.server.keeps_sessions:
                device.driver.do("resume")
            else:
                device.leave()
                device.connect()
        for device in conversation.present():
            if bench.server.keeps_sessions:
                device.driver.wait("resumed")
            else:
                device.come()
        together += conversation.at_once_and_heard(conversation.present(), 3)
        return conversation.agree(marks, together)
