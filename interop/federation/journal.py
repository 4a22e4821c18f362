"""What was said between servers while one of them, or the network, was failing, and what became of it.

The rule: a message that its sender's server has acknowledged (XEP-0198) is delivered or its sender is told by an error; one of the
two, and the error once. What is delivered is in the order in which it was said. A message that comes twice was handed over twice by
the sender's server (another stanza-id), or given out twice by the recipient's (the same): the first is counted and may be
forbidden, the second is no matter of federation.
"""

import time
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Entry:
    said: float
    acknowledged: bool = False
    bounced: list = field(default_factory=list)  # conditions
    heard: list = field(default_factory=list)  # (when, the recipient's stanza-id)


class Journal:
    """Of one conversation, one way."""

    def __init__(self, name):
        self.name, self.entries, self.order = name, {}, []

    def said(self, number):
        self.entries.setdefault(number, Entry(time.monotonic()))

    def acknowledged(self, number):
        self.entries[number].acknowledged = True

    def bounced(self, number, condition):
        self.entries[number].bounced.append(condition)

    def heard(self, number, sid):
        entry = self.entries[number]
        if not entry.heard:
            self.order.append(number)
        entry.heard.append((time.monotonic(), sid))

    def open(self):
        """Acknowledged, and nothing is known of it yet."""
        return [number for number, e in self.entries.items() if e.acknowledged and not e.heard and not e.bounced]

    def judge(self, twice=False):
        """What is against the rule, in words; `twice` allows what was handed over twice."""
        numbers = {number: at for at, number in enumerate(self.entries)}
        faults = [f"{self.name}: {number} was acknowledged, and is lost" for number in self.open()]
        for number, entry in self.entries.items():
            if entry.bounced and entry.heard:
                faults.append(f"{self.name}: {number} was delivered, and bounced as {entry.bounced[0]}")
            if len(entry.bounced) > 1:
                faults.append(f"{self.name}: {number} was bounced {len(entry.bounced)} times")
            if not twice and handed(entry) > 1:
                faults.append(f"{self.name}: {number} was handed over {handed(entry)} times")
        last = -1
        for number in self.order:
            if numbers[number] < last:
                faults.append(f"{self.name}: {number} was delivered after a later one")
            last = max(last, numbers[number])
        return faults

    def sum(self):
        """The figures, to be added up."""
        entries = self.entries.values()
        return Counter(
            said=len(entries), acknowledged=sum(e.acknowledged for e in entries), delivered=sum(bool(e.heard) for e in entries),
            bounced=sum(bool(e.bounced) for e in entries), twice=sum(handed(e) > 1 for e in entries))

    def conditions(self):
        return Counter(condition for e in self.entries.values() for condition in e.bounced)


def handed(entry):
    """How often the recipient's server got it; without stanza-ids each time it came counts."""
    sids = [sid for _, sid in entry.heard]
    return len(set(sids)) if all(sids) else len(sids)
