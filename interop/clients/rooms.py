"""Rooms (XEP-0045): all clients that know them are in one room at once, once in a room of each. What is said must come
to all of them in one order, by one id, in the room as in its history and its archive (XEP-0313).

The steps of a room follow upon each other; when one fails, the rest of that room is not tried.
"""

import archives
from archives import ids, query
from bench import account, expect
from clients import Failed
from scenarios import Company

CONFIGURATION = {
    "muc#roomconfig_roomname": "A room <&> more",
    "muc#roomconfig_persistentroom": True,
    "muc#roomconfig_changesubject": True,
}
FEATURES = ("http://jabber.org/protocol/muc", "muc_persistent", "muc_semianonymous", "urn:xmpp:mam:2")
EACH = 5  # messages of each when all talk at once
HISTORY = 6  # messages that are asked for when somebody comes back


class Room:
    """The room of one client; `heard` is what was said there, in order: of whom, what, by which id."""

    def __init__(self, server, owner, others):
        self.server, self.owner, self.others = server, owner, others
        self.jid = f"{owner.client.name}-room@{server.rooms}"
        self.everybody, self.heard, self.failed = [owner, *others], [], None
        self.nicks = {driver: driver.client.name for driver in self.everybody}

    def step(self, name):
        if self.failed:
            raise Failed(f"not tried, since {self.failed} failed")
        self.failed = name
        for driver in self.everybody:
            driver.forget()
        remark = STEPS[name](self)
        self.failed = None
        return remark

    def join(self, driver, **how):
        driver.do("room-join", room=self.jid, nick=driver.client.name, **how)

    def joined(self, driver):
        """Waits for the end of a join: after whoever is there and what was said comes the subject, always."""
        joined = driver.wait("room-joined", room=self.jid)
        expect(joined["nick"] == driver.client.name, f"{driver.client.name} is in the room as {joined['nick']}")
        driver.wait("room-subject", room=self.jid)
        return joined

    def all_hear(self, count, among=None):
        """So many messages, the same ones in the same order to all, and no others."""
        lists = []
        for driver in among or self.everybody:
            said = [driver.wait("room-message", room=self.jid) for _ in range(count)]
            expect(not any(m.get("delayed") for m in said), f"{driver.client.name} hears a message as if it were old")
            self.hides(driver, said)
            lists.append((driver, [entry(message) for message in said]))
            self.ping(driver)
            expect(not driver.seen("room-message", room=self.jid), f"{driver.client.name} hears more than was said")
        for driver, said in lists:
            expect(said == lists[0][1], f"{driver.client.name} hears {said}, {lists[0][0].client.name} {lists[0][1]}")
        self.heard += lists[0][1]
        sids = [sid for *_, sid in self.heard]
        expect(all(sids) and len(set(sids)) == len(sids), f"the ids are {sids}")

    def hides(self, driver, messages):
        """Nobody but the owner is shown who the others are."""
        shown = [m for m in messages if driver is not self.owner and bare(m.get("jid", driver.jid)) != driver.jid]
        expect(not shown, f"{driver.client.name} is shown who is who: {shown[:1]}")

    def ping(self, driver):
        """A client pings itself through the room (XEP-0410), which comes back after all that the room had to say."""
        driver.do("ping", to="localhost" if "self-ping" in driver.client.lacks else f"{self.jid}/{self.nicks[driver]}")
        driver.wait("pong")

    def all_see(self, event, among=None, **fields):
        for driver in among or self.everybody:
            driver.wait(event, room=self.jid, **fields)


def entry(message):
    return message["from"].split("/", 1)[1], message["body"], message.get("sid")


def bare(jid):
    return jid.split("/")[0]


def create(room):
    """The owner makes and configures the room, all others come at once; only the owner is shown who they are."""
    owner = room.owner
    room.join(owner)
    expect(room.joined(owner).get("created"), "the room was there already")
    owner.do("room-configure", room=room.jid, values=CONFIGURATION)
    owner.wait("room-configured", room=room.jid)
    owner.do("disco", to=room.jid)
    info = owner.wait("disco")
    missing = set(FEATURES) - set(info["features"])
    expect(not missing, f"the room does not say {missing}")
    expect("conference/text" in info["identities"], f"the identities are {info['identities']}")
    for driver in room.others:
        room.join(driver)
    for driver in room.others:
        expect(not room.joined(driver).get("created"), f"{driver.client.name} has made the room anew")
    for driver in room.everybody:
        for other in room.everybody:
            seen = driver.wait("room-occupant", room=room.jid, nick=other.client.name)
            wanted = ("owner", "moderator") if other is owner else ("none", "participant")
            expect((seen["affiliation"], seen["role"]) == wanted, f"{driver.client.name} sees {seen}")
            room.hides(driver, [seen])
            expect(driver is not owner or bare(seen.get("jid", "")) == other.jid, f"the owner is not shown who is who: {seen}")
    return f"{len(room.everybody)} in the room"


def talk(room):
    """All talk at once."""
    for n in range(EACH):
        for driver in room.everybody:
            driver.do("room-say", room=room.jid, body=f"{driver.client.name} {n} <&> ☃")
    room.all_hear(EACH * len(room.everybody))
    for driver in room.everybody:
        own = [body for nick, body, _ in room.heard if nick == driver.client.name]
        expect(own == [f"{driver.client.name} {n} <&> ☃" for n in range(EACH)], f"{own} was said")
    return f"{len(room.heard)} messages in one order"


def private(room):
    """The owner and each other one, under four eyes."""
    for other in room.others:
        for a, b in ((room.owner, other), (other, room.owner)):
            body = f"between {a.client.name} and {b.client.name}"
            a.do("room-private", room=room.jid, nick=b.client.name, body=body)
            b.wait("message", **{"from": f"{room.jid}/{a.client.name}"}, body=body)
    for driver in room.everybody:
        room.ping(driver)
        expect(not driver.seen("message") and not driver.seen("room-message"), f"{driver.client.name} hears what is private")


def subject(room):
    for driver in (room.others[0], room.owner):
        text = f"Of <&> by {driver.client.name}"
        driver.do("room-subject", room=room.jid, subject=text)
        room.all_see("room-subject", nick=driver.client.name, subject=text)


def nick(room):
    """A new name, under which the owner goes on talking, then the old one; that of another one is refused."""
    mine, owner = room.owner.client.name, room.owner
    owner.do("room-nick", room=room.jid, nick=room.others[0].client.name)
    error = owner.wait("error", do="room-nick")
    expect(error["condition"] == "conflict", f"the name of another one gives {error}")
    for new in (f"{mine} the 2nd", mine):
        owner.do("room-nick", room=room.jid, nick=new)
        room.all_see("room-renamed", nick=room.nicks[owner], to=new)
        room.nicks[owner] = new
        owner.do("room-say", room=room.jid, body=f"I am {new}")
        room.all_hear(1)
        expect(room.heard[-1][:2] == (new, f"I am {new}"), f"all hear {room.heard[-1]}")


def kick(room):
    """Who is kicked is told why, and may come back."""
    victim = room.others[0]
    room.owner.do("room-kick", room=room.jid, nick=victim.client.name, reason="not <&> now")
    room.all_see("room-gone", nick=victim.client.name, how="kicked", reason="not <&> now")
    room.join(victim)
    room.joined(victim)
    room.all_see("room-occupant", nick=victim.client.name)


def ban(room):
    """Who is banned is told why, and may not come back until he is forgiven."""
    able = [driver for driver in room.others if not {"refusal"} & driver.client.lacks.keys() & room.server.lacks.keys()]
    victim = able[1 % len(able)]
    room.owner.do("room-affiliation", room=room.jid, jid=victim.jid, affiliation="outcast", reason="not <&> ever")
    room.all_see("room-gone", nick=victim.client.name, how="banned", reason="not <&> ever")
    room.owner.wait("room-affiliation", room=room.jid, jid=victim.jid)
    room.join(victim)
    error = victim.wait("error", do="room-join")
    expect(error["condition"] == "forbidden", f"coming back gives {error}")
    room.owner.do("room-affiliation", room=room.jid, jid=victim.jid, affiliation="none")
    room.owner.wait("room-affiliation", room=room.jid, jid=victim.jid)
    room.join(victim)
    room.joined(victim)
    room.all_see("room-occupant", nick=victim.client.name)


def history(room):
    """All others leave, the owner goes on, and they come back: they are told what they asked for, and then the subject."""
    for driver in room.others:
        driver.do("room-leave", room=room.jid)
    for driver in room.others:
        room.all_see("room-gone", [driver, room.owner], nick=driver.client.name, how="left")
    for n in range(2):
        room.owner.do("room-say", room=room.jid, body=f"alone {n}")
    room.all_hear(2, [room.owner])
    for driver in room.others:
        driver.forget()
        begin = len(driver.journal)
        room.join(driver, **({} if "history" in driver.client.lacks else {"history": HISTORY}))
        room.joined(driver)
        told = [e for e in driver.journal[begin:] if e.get("room") == room.jid and e["ev"] in ("room-message", "room-subject")]
        *old, last = told
        expect(last["ev"] == "room-subject" and last["subject"] == f"Of <&> by {room.owner.client.name}", f"at last comes {last}")
        expect(all(message.get("delayed") for message in old), f"{driver.client.name} hears old messages as new ones")
        room.hides(driver, old)
        count = len(old) if "history" in driver.client.lacks else HISTORY
        expect(count > 0, f"{driver.client.name} is told no history")
        was = [entry(message) for message in old]
        expect(was == room.heard[-count:], f"{driver.client.name} is told {was}, but {room.heard[-count:]} was said")


def archive(room):
    """All read the room's archive by pages and find what was said; the owner reads it in every way."""
    readers = [driver for driver in room.everybody if "archive" not in driver.client.lacks]
    found = [query(driver, room=room.jid, pages="forward", max=7)[0] for driver in readers]
    for driver, messages in zip(readers, found):
        said = [entry(message) for message in messages if message.get("body")]  # subjects may be there besides
        expect(said == room.heard, f"{driver.client.name} finds {said}, but {room.heard} was said")
        expect(ids(messages) == ids(found[0]), f"{driver.client.name} finds more than {readers[0].client.name}")
        room.hides(driver, messages)
    everything = ids(found[0])
    if room.owner in readers:
        pages(room, everything)
    return f"{len(everything)} messages, read by {len(readers)}"


def pages(room, everything):
    def finds(wanted, **arguments):
        return archives.finds(room.owner, wanted, room=room.jid, **arguments)

    finds(everything, pages="backward", max=7)
    fin = finds(everything[-4:], max=4, before="")
    expect((fin["first"], fin["last"]) == (everything[-4], everything[-1]), f"the last page ends with {fin}")
    fin = finds(everything[10:], max=50, after=everything[9])
    expect(fin["complete"], "the rest is not complete")
    finds(everything[7:10], max=3, before=everything[10])


STEPS = {
    "create": create, "talk": talk, "private": private, "subject": subject, "nick": nick, "kick": kick, "ban": ban,
    "history": history, "archive": archive,
}


def rooms(clients, server, folder, report):
    """Each client in turn has a room, in which all others are."""
    with Company(clients, server, folder, "rooms") as company:
        for n, owner in enumerate(clients):
            others = clients[n + 1 :] + clients[:n]
            room = None
            for name in STEPS:
                def step():
                    nonlocal room
                    room = room or Room(server, company[owner], [company[other] for other in others])
                    return room.step(name)

                if reason := owner.lacks.get("room-" + name):
                    report.without(owner.name, name, reason)
                else:
                    report.run(owner.name, name, step)
