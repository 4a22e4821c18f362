"""What two servers must do for their users: each scenario is a coroutine about a person here and one there.

`a` and `b` are both online and available, and strangers. A scenario that returns text has something to tell.
"""

import asyncio
import time

from person import Failed, Person, Refused, body, condition, is_message, is_presence

ROSTER = "{jabber:iq:roster}"
DISCO = "{http://jabber.org/protocol/disco#info}"
STREAM = 250  # messages that are under way before the next ones are sent


def expect(truth, complaint):
    if not truth:
        raise Failed(complaint)


async def messages(a, b):
    """Each way, with text that must not be touched; and to the bare address."""
    for sender, receiver in ((a, b), (b, a)):
        for to in (receiver.jid, receiver.bare):
            text = f"<&> \"quoted\" 'too' 😀 to {to}"
            number = sender.message(to, text)
            heard = await receiver.wait(lambda s: is_message(s, number), f"a message of {sender}")
            expect(body(heard) == text, f"{receiver} heard {body(heard)!r} in place of {text!r}")
            expect(heard.get("from") == sender.jid, f"{receiver} heard it from {heard.get('from')}")


async def subscription(a, b):
    """RFC 6121, 3: asked for, approved, presence both ways, and taken back, from one server to the other; and once more with the
    parts swapped."""
    await subscribe(a, b)
    await subscribe(b, a)


async def subscribe(a, b):
    for person in (a, b):
        await person.ask(None, "get", "<query xmlns='jabber:iq:roster'/>")
    for asker, asked in ((a, b), (b, a)):
        asker.presence(asked.bare, "subscribe")
        await asked.wait(lambda s: is_presence(s, asker.bare, "subscribe"), f"the request of {asker}")
        asked.presence(asker.bare, "subscribed")
        await asker.wait(lambda s: is_presence(s, asked.bare, "subscribed"), f"the approval of {asked}")
        await asker.wait(lambda s: is_presence(s, asked.jid), f"the presence of {asked}")
    await rosters(a, b, "both", "both")
    for speaker, listener in ((a, b), (b, a)):
        speaker.presence(inside="<show>away</show><status>tea</status>")
        await listener.wait(lambda s: is_presence(s, speaker.jid) and s.findtext("{jabber:client}status") == "tea",
                            f"the new presence of {speaker}")
    await relogin(a, b)
    a.presence(b.bare, "unsubscribe")
    await b.wait(lambda s: is_presence(s, a.bare, "unsubscribe"), f"that {a} unsubscribes")
    if b.peer.ends_presence:
        await a.wait(lambda s: is_presence(s, b.bare, "unavailable"), f"that {b} is not shown to {a} any more")
    await rosters(a, b, "from", "to")
    a.presence(b.bare, "unsubscribed")
    await b.wait(lambda s: is_presence(s, a.bare, "unsubscribed"), f"that {a} cancels")
    await b.wait(lambda s: is_presence(s, a.bare, "unavailable"), f"that {a} is not shown to {b} any more")
    await rosters(a, b, "none", "none")
    a.heard.clear()
    b.heard.clear()


async def relogin(a, b):
    """Who comes online is told who is there: by a probe to the other server. Who goes is seen to go."""
    other = await Person(a.peer, a.name, "phone").login()
    await other.available()
    await other.wait(lambda s: is_presence(s, b.jid), f"the presence of {b} by a probe")
    await b.wait(lambda s: is_presence(s, other.jid), f"the presence of {other}")
    await other.quit()
    await b.wait(lambda s: is_presence(s, other.jid, "unavailable"), f"that {other} has gone")
    a.heard.clear()


async def rosters(a, b, of_a, of_b):
    for person, contact, state in ((a, b, of_a), (b, a, of_b)):
        end = time.monotonic() + 10
        while True:
            roster = await person.ask(None, "get", "<query xmlns='jabber:iq:roster'/>")
            states = [i.get("subscription") for i in roster.iter(ROSTER + "item") if i.get("jid") == contact.bare]
            if states == [state] or (state == "none" and not states):
                break
            expect(time.monotonic() < end, f"{contact.bare} is {states} in the roster of {person.bare}, not {state}")
            await asyncio.sleep(0.1)  # what changes a roster is pushed before or after it is seen to happen


async def questions(a, b):
    """Disco, ping and version of the other server, and the vCard of somebody there."""
    for here, there in ((a, b), (b, a)):
        info = await here.ask(there.peer.domain, "get", "<query xmlns='http://jabber.org/protocol/disco#info'/>")
        kinds = [(i.get("category"), i.get("type")) for i in info.iter(DISCO + "identity")]
        expect(("server", "im") in kinds, f"{there.peer.domain} is {kinds} to {here}")
        await here.ask(there.peer.domain, "get", "<ping xmlns='urn:xmpp:ping'/>")
        await here.ask(there.jid, "get", "<ping xmlns='urn:xmpp:ping'/>")
        await here.ask(there.peer.domain, "get", "<query xmlns='jabber:iq:version'/>")
        await vcard(here, there)


async def vcard(here, there):
    name = f"Name of {there.name} <&>"
    try:
        await there.ask(None, "set", "<vCard xmlns='vcard-temp'><FN>" + name.replace("&", "&amp;").replace("<", "&lt;") +
                        "</FN></vCard>")
    except Refused as refused:
        # A server without vCards (XEP-0054): then the question across must be refused in the same way.
        try:
            await here.ask(there.bare, "get", "<vCard xmlns='vcard-temp'/>")
        except Refused as across:
            expect(across.condition == refused.condition, f"{across}, and within the server {refused}")
            return
        raise Failed(f"{there.peer} has no vCards for its own, but for {here}") from None
    card = await here.ask(there.bare, "get", "<vCard xmlns='vcard-temp'/>")
    expect(card.findtext(".//{vcard-temp}FN") == name, f"{here} sees another vCard of {there} than it made")


async def errors(a, b):
    """To nobody there, and to a domain that is not: an error, one, and of the right kind."""
    for here, there in ((a, b), (b, a)):
        stranger = f"nobody-of-{here.name}@{there.peer.domain}"
        await refused(here, stranger, "service-unavailable", "item-not-found")
        try:
            await here.ask(stranger + "/desk", "get", "<ping xmlns='urn:xmpp:ping'/>")
        except Refused:
            pass
        else:
            raise Failed(f"{here} gets an answer of {stranger}")
        await refused(here, "somebody@nowhere.example", "remote-server-not-found")


async def refused(here, to, *conditions):
    number = here.message(to, "Is anybody there?")
    error = await here.wait(lambda s: is_message(s, number), f"an error of {to}")
    expect(error.get("type") == "error" and condition(error) in conditions,
           f"a message to {to} comes back as {error.get('type')} {condition(error)}")
    expect(error.get("from") == to, f"an error about {to} comes from {error.get('from')}")


async def many(a, b, count):
    """So many each way at once, in order, each once."""
    started = time.monotonic()
    await asyncio.gather(flow(a, b, count), flow(b, a, count))
    return f"{2 * count / (time.monotonic() - started):.0f} a second"


async def flow(sender, receiver, count):
    """At most STREAM are under way, so that it is the servers' order that is seen, and not their limits."""
    heard, wrong, news = 0, [], asyncio.Event()

    def tap(stanza):
        nonlocal heard
        if not is_message(stanza, sender=sender.bare):
            return False
        if stanza.get("id") != f"flow-{heard}" or stanza.get("type") == "error":
            wrong.append((heard, stanza.get("id"), stanza.get("type")))
        heard += 1
        news.set()
        return True

    receiver.taps.append(tap)
    try:
        sent = 0
        while heard < count:
            while sent < min(count, heard + STREAM):
                sender.message(receiver.jid, f"number {sent}", number=f"flow-{sent}")
                sent += 1
            await sender.output.drain()
            news.clear()
            try:
                await asyncio.wait_for(news.wait(), 30)
            except asyncio.TimeoutError:
                raise Failed(f"{receiver} heard {heard} of {sent} messages of {sender}, and then nothing for 30 s") from None
            expect(not wrong, f"{receiver} heard out of order (expected, got): {wrong[:5]}")
        await receiver.ask(sender.peer.domain, "get", "<ping xmlns='urn:xmpp:ping'/>")
        expect(heard == count, f"{receiver} heard {heard} messages, {count} were sent")
    finally:
        receiver.taps.remove(tap)


async def one_stream(a, b):
    """Both directions on the stream that `a` has opened (XEP-0288): for the server of `b`, that of `a` has no DNS."""
    b.peer.view.hidden.add(a.peer.domain)
    try:
        await messages(a, b)
    finally:
        b.peer.view.hidden.remove(a.peer.domain)


async def streams(peer, other):
    """What Rookery says of its streams with another server: who is who by certificates or by dialback, nothing without TLS."""
    setting, known = peer.world.setting, (await peer.look("show", other.domain)).get("ok", {})
    wanted, seen = "certificate" if setting.trusted else "dialback", known.get("streams", [])
    pairs = [pair for stream in seen for pair in stream["pairs"]]
    # What may go back on a stream for both directions is not said beside.
    ways = {(pair["from"], pair["to"]) for pair in pairs}
    ways |= {(pair["to"], pair["from"]) for stream in seen if stream["bidi"] for pair in stream["pairs"]}
    for way in ((peer.domain, other.domain), (other.domain, peer.domain)):
        expect(way in ways, f"nothing may go from {way[0]} to {way[1]}: {known}")
    expect(all(pair["by"] == wanted for pair in pairs), f"not all is by {wanted}: {pairs}")
    expect(all(stream["tls"] for stream in seen), f"not all is encrypted: {seen}")
    if setting.bidi and other.bidi:
        expect(any(stream["bidi"] for stream in seen), f"no stream goes both ways: {seen}")
    return f"{len(seen)} streams, {wanted}, {seen[0]['tls']}" + (", acks" if any(s["acks"] for s in seen) else "")


async def check(peer, other):
    """`rookery s2s check` finds nothing wrong with a server that one can talk to."""
    report = await peer.look("check", other.domain)
    expect("error" not in report, f"it says {report}")


PAIRS = {"messages": messages, "subscription": subscription, "questions": questions, "errors": errors}

