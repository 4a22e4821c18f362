"""A room (XEP-0045) on one server, with an occupant from each: all must see and hear the same, and find it in the archive."""

from person import Failed, Refused, body, is_message, is_presence
from scenarios import expect

MUC = "{http://jabber.org/protocol/muc#user}"
MAM = "{urn:xmpp:mam:2}"
EACH = 5  # messages of each occupant


async def room(owner, guests):
    """The owner is of the room's server, the guests are of the others."""
    jid = f"room-of-{owner.peer.name}@{owner.peer.rooms}"
    everybody = [owner, *guests]
    await enter(owner, jid)
    await owner.ask(jid, "set", "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'/>"
                    "</query>")
    for guest in guests:
        await enter(guest, jid)
    for person in everybody:
        for other in everybody[everybody.index(person) + 1 :]:
            await person.wait(lambda s: is_presence(s, nick(jid, other)), f"{other} in the room")
    said = await talk(jid, everybody)
    await private(jid, everybody)
    await subject(jid, owner, everybody)
    for person in everybody:
        await archive(jid, person, said)
    await leave(jid, everybody)
    return f"{len(everybody)} servers, {len(said)} messages"


def nick(jid, person):
    return f"{jid}/{person.peer.name}"


async def enter(person, jid):
    person.presence(nick(jid, person), inside="<x xmlns='http://jabber.org/protocol/muc'/>")
    entered = await person.wait(
        lambda s: s.tag.endswith("}presence") and s.get("from") == nick(jid, person), f"its place in {jid}")
    expect(entered.get("type") is None, f"{person} may not enter {jid}: {entered.get('type')}")
    expect(110 in codes(entered), f"{person} is not told that it is itself who enters {jid}")
    await person.wait(lambda s: is_message(s, sender=jid) and s.find("{jabber:client}subject") is not None,
                      f"the subject of {jid}")


async def talk(jid, everybody):
    """All at once: one order for all."""
    for number in range(EACH):
        for person in everybody:
            person.message(jid, f"{person.peer.name} says {number}", "groupchat")
    heard = []
    for person in everybody:
        mine = [await person.wait(lambda s: is_message(s, sender=jid) and body(s), f"what is said in {jid}")
                for _ in range(EACH * len(everybody))]
        heard.append([(s.get("from"), body(s)) for s in mine])
    for person, list_ in zip(everybody, heard):
        expect(list_ == heard[0], f"{person} hears {list_}, {everybody[0]} {heard[0]}")
    for person in everybody:
        own = [text for sender, text in heard[0] if sender == nick(jid, person)]
        expect(own == [f"{person.peer.name} says {n}" for n in range(EACH)], f"{person} is heard as {own}")
    return heard[0]


async def private(jid, everybody):
    """Through the room, around the circle."""
    for person, other in zip(everybody, everybody[1:] + everybody[:1]):
        number = person.message(nick(jid, other), f"for {other.peer.name} alone", more="<x xmlns='http://jabber.org/protocol/muc#user'/>")
        heard = await other.wait(lambda s: is_message(s, number), f"a private message of {person}")
        expect(heard.get("from") == nick(jid, person), f"{other} hears a private message from {heard.get('from')}")


async def subject(jid, owner, everybody):
    owner.send(f"<message to='{jid}' type='groupchat'><subject>Federation &amp; more</subject></message>")
    for person in everybody:
        told = await person.wait(lambda s: is_message(s, sender=jid) and s.find("{jabber:client}subject") is not None,
                                 f"the subject of {jid}")
        expect(told.findtext("{jabber:client}subject") == "Federation & more", f"{person} is told another subject")


async def archive(jid, person, said):
    """XEP-0313, as an occupant from elsewhere asks for it."""
    found = []

    def tap(stanza):
        result = stanza.find(MAM + "result")
        if result is None or stanza.get("from") != jid:
            return False
        message = result.find(".//{jabber:client}message")
        if body(message):
            found.append((message.get("from"), body(message)))
        return True

    person.taps.append(tap)
    try:
        end = await person.ask(jid, "set", "<query xmlns='urn:xmpp:mam:2' queryid='all'><set "
                               "xmlns='http://jabber.org/protocol/rsm'><max>100</max></set></query>")
    except Refused as refused:
        raise Failed(f"{person} may not read the archive of {jid}: {refused}") from None
    finally:
        person.taps.remove(tap)
    expect(end.find(MAM + "fin") is not None, "the archive's answer has no end")
    expect(found == said, f"{person} finds {found} in the archive of {jid}, and {said} was said")


async def leave(jid, everybody):
    """The guests one after the other; who stays sees them go."""
    for person in reversed(everybody[1:]):
        person.presence(nick(jid, person), "unavailable")
        for other in everybody[: everybody.index(person) + 1]:
            await other.wait(lambda s: is_presence(s, nick(jid, person), "unavailable"), f"that {person} leaves {jid}")
    everybody[0].presence(nick(jid, everybody[0]), "unavailable")


def codes(stanza):
    return {int(status.get("code")) for status in stanza.iter(MUC + "status")}
