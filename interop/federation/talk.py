"""People who talk from server to server whatever happens, and write it down: who speaks sends again what was not acknowledged when
the connection was lost, who listens comes back.
"""

import asyncio
import statistics
import time
from collections import deque

from journal import Journal
from person import CLIENT, Failed, Person, body, condition, is_presence

SID = "{urn:xmpp:sid:0}stanza-id"


class Seat:
    """A session that is there again when it was lost, as soon as its server is."""

    def __init__(self, peer, name):
        self.peer, self.name, self.person, self.task = peer, name, None, None
        self.here = asyncio.Event()

    async def start(self):
        self.task = asyncio.create_task(self.live())
        await asyncio.wait_for(self.here.wait(), 20)

    async def stop(self):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        if self.person:
            await self.person.quit()

    async def live(self):
        while True:
            person = Person(self.peer, self.name)
            person.taps.append(self.tap)
            try:
                await person.login(managed=True)
                person.on_ack = self.acknowledged
                self.person = person
                self.begin(person)
                person.presence()
                await person.until(lambda: person.gone)  # noqa: B023
            except (OSError, Failed, asyncio.TimeoutError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.2)
            finally:
                self.here.clear()
                await person.drop()

    def begin(self, person):
        pass

    def tap(self, stanza):
        if is_presence(stanza, f"{self.name}@{self.peer.domain}"):
            self.here.set()  # its server knows that it is available
        return stanza.tag in (CLIENT + "message", CLIENT + "presence")

    def acknowledged(self, handled):
        pass


class Listener(Seat):
    """Writes down what it hears, whoever said it."""

    def __init__(self, peer, name):
        super().__init__(peer, name)
        self.journals = {}

    def tap(self, stanza):
        if stanza.tag == CLIENT + "message" and stanza.get("type") != "error" and body(stanza):
            journal = self.journals.get(stanza.get("from", "").split("/")[0])
            sids = [s.get("id") for s in stanza.findall(SID) if s.get("by") == f"{self.name}@{self.peer.domain}"]
            if journal and stanza.get("id") in journal.entries:
                journal.heard(stanza.get("id"), sids[0] if sids else None)
        return super().tap(stanza)


class Talker(Seat):
    """Says something each `pause` seconds to a listener while `talking`."""

    def __init__(self, peer, name, listener, pause):
        super().__init__(peer, name)
        self.listener, self.pause = listener, pause
        self.journal = Journal(f"{peer.name}/{name}->{listener.peer.name}")
        listener.journals[f"{name}@{peer.domain}"] = self.journal
        self.unacknowledged, self.count, self.speech = deque(), 0, None

    async def start(self):
        await super().start()
        self.speech = asyncio.create_task(self.speak())

    async def stop(self):
        await self.hush()
        await super().stop()

    async def hush(self):
        if self.speech:
            self.speech.cancel()
            await asyncio.gather(self.speech, return_exceptions=True)
            self.speech = None

    async def speak(self):
        while True:
            await self.here.wait()
            self.count += 1
            number = f"{self.name}-{self.count}"
            self.say(number)
            await asyncio.sleep(self.pause)

    async def fill(self, count):
        """So many at once; returns when they are acknowledged or refused."""
        for _ in range(count):
            await self.here.wait()
            self.count += 1
            self.say(f"{self.name}-{self.count}")
            if self.count % 50 == 0:
                await self.person.output.drain()
        await self.settled()

    async def settled(self, seconds=30):
        """Until all that was said is acknowledged."""
        end = time.monotonic() + seconds
        while self.unacknowledged and time.monotonic() < end:
            if self.here.is_set():
                self.person.write("<r xmlns='urn:xmpp:sm:3'/>")
            await asyncio.sleep(0.1)
        if self.unacknowledged:
            raise Failed(f"{self.journal.name}: {len(self.unacknowledged)} messages are not acknowledged after {seconds} s")

    def say(self, number):
        self.journal.said(number)
        self.unacknowledged.append([None, number])
        self.hand(self.unacknowledged[-1])

    def hand(self, entry):
        person = self.person
        more = f"<origin-id xmlns='urn:xmpp:sid:0' id='{entry[1]}'/>"
        person.message(f"{self.listener.name}@{self.listener.peer.domain}", entry[1], number=entry[1], more=more)
        entry[0] = person.sent
        person.write("<r xmlns='urn:xmpp:sm:3'/>")

    def begin(self, person):
        for entry in self.unacknowledged:
            self.journal.said(entry[1])
            self.hand(entry)

    def acknowledged(self, handled):
        while self.unacknowledged and self.unacknowledged[0][0] is not None and self.unacknowledged[0][0] <= handled:
            self.journal.acknowledged(self.unacknowledged.popleft()[1])

    def tap(self, stanza):
        if stanza.tag == CLIENT + "message" and stanza.get("type") == "error" and stanza.get("id") in self.journal.entries:
            self.journal.bounced(stanza.get("id"), condition(stanza))
        return super().tap(stanza)


class Metronome(Seat):
    """Asks somebody on a healthy server for a ping again and again: how long the answers take, in milliseconds."""

    def __init__(self, peer, name, to, pause=0.1):
        super().__init__(peer, name)
        self.to, self.pause, self.times, self.beat, self.missed = to, pause, [], None, 0

    async def start(self):
        await super().start()
        self.beat = asyncio.create_task(self.measure())

    async def stop(self):
        self.beat.cancel()
        await asyncio.gather(self.beat, return_exceptions=True)
        await super().stop()

    async def measure(self):
        while True:
            await self.here.wait()
            started = time.monotonic()
            try:
                await self.person.ask(self.to, "get", "<ping xmlns='urn:xmpp:ping'/>", 10)
                self.times.append((time.monotonic() - started) * 1000)
            except Failed:
                self.missed += self.here.is_set()
            await asyncio.sleep(self.pause)

    def take(self):
        """The median and the worst since it was last asked, and how many were not answered."""
        times, missed, self.times, self.missed = self.times, self.missed, [], 0
        return (round(statistics.median(times)), round(max(times)), missed) if times else (None, None, missed)
