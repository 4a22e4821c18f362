"""What a feature is tried with: a client, the one that it talks to, accounts; and small words for what is expected."""

from contextlib import contextmanager
from dataclasses import dataclass

from clients import CLIENTS, Client, Driver, Failed

PASSWORD = "correct horse: bätterie & staple"


@dataclass
class Bench:
    """A client, the one that it talks to, and accounts of their own."""

    server: object
    client: Client
    other: Client
    folder: object

    def account(self, role):
        return account(self.client, role)

    def friends(self, *features):
        """The other clients that have these features, the quick ones first."""
        others = [c for c in CLIENTS if c is not self.client and not c.lacks.keys() & set(features)]
        return sorted(others, key=lambda client: client.start)

    def driver(self, client=None):
        client = client or self.client
        return Driver(client, self.server, self.folder / f"{client.name}.log")

    @contextmanager
    def pair(self, role, tls="starttls", other=None):
        """Both online and available, as strangers: (the client under test, the other)."""
        with self.driver() as mine, self.driver(other or self.other) as theirs:
            theirs.connect(self.account(role + "-other"), PASSWORD)
            mine.connect(self.account(role), PASSWORD, tls)
            theirs.online()
            mine.online()
            theirs.available()
            mine.available()
            yield mine, theirs


def account(client, role):
    return f"{client.name}-{role}".lower()


def expect(truth, complaint):
    if not truth:
        raise Failed(complaint)


def sender(jid):
    return lambda event: event["from"].split("/")[0] == jid


def has(jid, subscription):
    return lambda event: any(i["jid"] == jid and i["subscription"] == subscription for i in event["items"])
