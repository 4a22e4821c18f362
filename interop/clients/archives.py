"""Archives (XEP-0313), copies (XEP-0280), and what is said about messages: features, as scenarios.py explains them."""

import math
import time
from contextlib import ExitStack
from datetime import datetime, timezone

from bench import PASSWORD, account, expect, sender

EMOJIS = ["🐢", "👋"]
EXTENDED = "urn:xmpp:mam:2#extended"


def query(driver, meanwhile=lambda: None, **arguments):
    """What the archive answers: the messages, and what is said of them."""
    driver.do("archive", **arguments)
    meanwhile()
    fin = driver.wait("archive")
    found = [e for e in driver.events if e["ev"] == "archived"]
    driver.events = [e for e in driver.events if e["ev"] != "archived"]
    return found, fin


def ids(found):
    return [message["sid"] for message in found]


def finds(driver, wanted, **arguments):
    """Expects these messages and no others."""
    found, fin = query(driver, **arguments)
    expect(ids(found) == wanted, f"{arguments} found {[m.get('body') for m in found]}")
    return fin


def archive(bench):
    """Thirty messages with two contacts, read in every way that there is; then preferences; then by time."""
    with bench.pair("archive", other=bench.friends()[0]) as (mine, theirs):
        third = account(bench.client, "archive-third") + "@localhost"
        said = [body for turn in range(2) for body in talk(mine, theirs, third, turn)]
        found, _ = query(mine, pages="forward", max=7)
        everything = ids(found)
        expect([m["body"] for m in found] == said, f"{len(said)} messages were said, {[m['body'] for m in found]} found")
        expect(len(set(everything)) == len(said), "an id is there twice")
        finds(mine, everything, pages="backward", max=7)
        by_pages(bench, mine, everything)
        for jid in (theirs.jid, third):
            finds(mine, [m["sid"] for m in found if jid in (m["from"].split("/")[0], m["to"])], pages="forward", max=50, **{"with": jid})
        extended = by_ids(bench, mine, everything)
        preferences(mine, theirs, third, everything[-1])
        by_time(mine, theirs)
        return f"{len(said)} messages" + (", extended" if extended else "")


def talk(mine, theirs, third, turn):
    """Six each way and three to the third; returned in the order of the archive."""
    bodies = [f"{turn}.{n} <&> ☃" for n in range(15)]
    for a, b, some in ((mine, theirs, bodies[:6]), (theirs, mine, bodies[6:12])):
        for body in some:
            a.do("send", to=b.jid, body=body)
        for body in some:
            b.wait("message", body=body)
    for body in bodies[12:]:
        mine.do("send", to=third, body=body)
    mine.ping()
    return bodies


def by_pages(bench, mine, everything):
    fin = finds(mine, everything[:5], max=5)
    expect((fin["complete"], fin["first"], fin["last"]) == (False, everything[0], everything[4]), f"a page ends with {fin}")
    fin = finds(mine, everything[-5:], max=5, before="")
    expect((fin["complete"], fin["first"], fin["last"]) == (False, *everything[-5::4]), f"the last page ends with {fin}")
    fin = finds(mine, everything[10:], max=50, after=everything[9])
    expect(fin["complete"], "the rest is not complete")
    finds(mine, everything[7:10], max=3, before=everything[10])
    fin = finds(mine, [], max=50, after=everything[-1])
    expect(fin["complete"], "nothing is not complete")
    if "count" not in bench.client.lacks:
        fin = finds(mine, [], max=0)
        expect(fin.get("count") == len(everything), f"the count is {fin.get('count')}")
    if "errors" not in bench.client.lacks:
        mine.do("archive", after="no-such-id", max=5)
        error = mine.wait("error", do="archive")
        expect("item-not-found" in error["condition"] + error.get("text", ""), f"an unknown id gives {error}")


def by_ids(bench, mine, everything):
    """What `urn:xmpp:mam:2#extended` adds, where the account has it."""
    mine.do("disco", to=mine.jid)
    if EXTENDED not in mine.wait("disco")["features"]:
        return False
    finds(mine, everything[4:9], after_id=everything[3], before_id=everything[9], max=50)
    finds(mine, [everything[2], everything[20]], ids=[everything[2], everything[20]])
    if "metadata" not in bench.client.lacks:
        mine.do("archive-metadata")
        ends = mine.wait("archive-metadata")
        expect((ends["start"], ends["end"]) == (everything[0], everything[-1]), f"the archive's ends are {ends}")
    return True


def preferences(mine, theirs, third, last):
    mine.do("archive-prefs")
    before = mine.wait("archive-prefs")
    wanted = {"default": "never", "always": [theirs.jid], "never": [third]}
    for change in (wanted, {"default": "always", "always": [], "never": [third]}):
        mine.do("archive-prefs", **change)
        now = mine.wait("archive-prefs")
        expect({key: now[key] for key in change} == change, f"the preferences are {now}")
        for jid in (third, theirs.jid):
            mine.do("send", to=jid, body=f"to {jid} if {change['default']}")
        theirs.wait("message", body=f"to {theirs.jid} if {change['default']}")
    found, _ = query(mine, after=last, max=50)
    expect([m["to"] for m in found] == [theirs.jid] * 2, f"{[m['body'] for m in found]} were archived")
    mine.do("archive-prefs", **{key: before[key] for key in wanted})
    mine.wait("archive-prefs")


def by_time(mine, theirs):
    """Messages of two seconds that do not touch: there are clients and servers that know of nothing smaller."""
    earlier, _ = query(mine, pages="forward", max=50)
    middle = math.floor(datetime.fromisoformat(earlier[-1]["stamp"]).timestamp()) + 1
    while time.time() < middle + 1:
        time.sleep(0.01)  # it is the clock that is waited for
    talk(mine, theirs, theirs.jid, "later")
    found, _ = query(mine, pages="forward", max=50)
    later = ids(found)[len(earlier) :]
    stamp = datetime.fromtimestamp(middle, timezone.utc).isoformat().replace("+00:00", "Z")
    finds(mine, later, pages="forward", max=50, start=stamp)
    finds(mine, ids(earlier), pages="forward", max=50, end=stamp)
    finds(mine, later[:6], max=6, start=stamp)
    finds(mine, [], start=stamp.replace("20", "21", 1))


def marks(bench):
    """Receipts, markers, reactions and corrections, both ways: heard, and in both archives."""
    with bench.pair("marks", other=bench.friends("marks")[0]) as (mine, theirs):
        expected = []
        for a, b in ((mine, theirs), (theirs, mine)):
            a.do("send", to=b.jid, body="hallo", receipt=True, markable=True)
            ref = a.wait("sent", body="hallo")["id"]
            expected.append((a.jid, "hallo", ref))
            b.wait("message", body="hallo", id=ref)
            for kind in ("received", "displayed", "reactions"):
                b.do("mark", to=a.jid, kind=kind, ref=ref, emojis=EMOJIS)
                mark = a.wait("mark", kind=kind, ref=ref)
                expect(kind != "reactions" or mark["emojis"] == EMOJIS, f"the reactions are {mark}")
                expected.append((b.jid, kind, ref))
            a.do("send", to=b.jid, body="hello", replaces=ref)
            b.wait("message", body="hello", replaces=ref)
            expected.append((a.jid, "hello", ref))
        for driver in (mine, theirs):
            found, _ = query(driver, max=50)
            what = [(m["from"].split("/")[0], m.get("body") or m["kind"], m.get("ref") or m.get("replaces") or m["id"]) for m in found]
            expect(what == expected, f"{driver.client.name} finds {what}")
            emojis = [m["emojis"] for m in found if m.get("kind") == "reactions"]
            expect(emojis == [EMOJIS] * 2, f"the archived reactions are {emojis}")
        return f"{len(expected)} messages"


def carbons(bench):
    """Copies of what another resource receives and sends, each once; none of what is private, nor when switched off."""
    sibling, contact = bench.friends("carbons", "marks")[:2]
    with bench.pair("carbons", other=contact) as (mine, theirs), bench.driver(sibling) as second:
        full = second.login(bench.account("carbons"), PASSWORD)["jid"]
        second.available()
        mine.do("carbons")
        mine.wait("carbons", on=True)

        theirs.do("send", to=full, body="to the other resource")
        heard = second.wait("message", body="to the other resource")
        copy = mine.wait("message", body="to the other resource", copy="received")
        expect(copy["to"] == full and copy["from"] == heard["from"], f"the copy is {copy}")
        expect(copy.get("sid") and copy["sid"] == heard.get("sid"), f"the ids are {copy.get('sid')} and {heard.get('sid')}")
        theirs.do("mark", to=full, kind="received", ref="some-id")
        mine.wait("mark", kind="received", ref="some-id", copy="received")

        second.do("send", to=theirs.jid, body="from the other resource")
        theirs.wait("message", body="from the other resource")
        copy = mine.wait("message", body="from the other resource", copy="sent")
        expect(copy["from"] == full and copy["to"] == theirs.jid, f"the copy is {copy}")

        second.do("send", to=theirs.jid, body="between us", private=True)
        theirs.wait("message", body="between us")
        theirs.do("send", to=mine.jid, body="to all")
        for driver in (mine, second):
            expect("copy" not in driver.wait("message", body="to all"), "a message for all came as a copy")
        mine.do("send", to=theirs.jid, body="from here")
        theirs.wait("message", body="from here")

        mine.do("carbons", on=False)
        mine.wait("carbons", on=False)
        theirs.do("send", to=full, body="no copies now")
        second.wait("message", body="no copies now")
        for driver in (mine, second):
            driver.ping()
            left = [e.get("body") for e in driver.events if e["ev"] == "message"]
            expect(not left, f"{driver.client.name} heard {left} besides")


def catch_up(bench):
    """A client that reads its archive before its first presence: what waited for it comes once, from there."""
    bodies = [f"while you were out {n}" for n in range(5)]
    logins = 0 if "handled" in bench.client.lacks else 2 if bench.server.found_is_delivered else 1
    with ExitStack() as stack:
        clients = [bench.friends()[0], bench.client, *[bench.client] * logins]  # started together, because it takes its time
        theirs, mine, *others = [stack.enter_context(bench.driver(client)) for client in clients]
        theirs.login(bench.account("catch-up-other"), PASSWORD)
        theirs.available()
        mine.jid = bench.account("catch-up") + "@localhost"
        for body in bodies:
            theirs.do("send", to=mine.jid, body=body)
        theirs.ping()
        mine.login(bench.account("catch-up"), PASSWORD)
        found, _ = query(mine, pages="forward", max=2)
        expect([m["body"] for m in found] == bodies, f"the archive has {[m['body'] for m in found]}")
        theirs.do("send", to=mine.jid, body="one more")
        theirs.ping()
        mine.available()
        late, _ = query(mine, pages="forward", max=2, after=found[-1]["sid"])
        expect([m["body"] for m in late] == ["one more"], f"the archive has {[m['body'] for m in late]} after that")
        mine.do("send", to=theirs.jid, body="I am back")
        theirs.wait("message", sender(mine.jid), body="I am back")
        mine.ping()
        came = [e["body"] for e in mine.events if e["ev"] == "message"]
        expect(came in ([], ["one more"]), f"{came} came besides")
        mine.quit()
        comes_back(bench, others, late[-1]["sid"])
        return f"what came in between was {'sent' if came else 'only archived'}"


def comes_back(bench, drivers, last):
    """Nothing waits any more, whether one asks the archive first or not."""
    for driver, asks in zip(drivers, (True, False)):
        driver.login(bench.account("catch-up"), PASSWORD)
        if asks:
            found, _ = query(driver, pages="forward", max=10, after=last)
            expect([m["body"] for m in found] == ["I am back"], f"the archive has {[m['body'] for m in found]}")
        driver.available()
        driver.ping()
        came = [e["body"] for e in driver.events if e["ev"] == "message"]
        expect(not came, f"{came} came again, after it was found in the archive")
        driver.quit()
