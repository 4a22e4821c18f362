"""Runs slixmpp's own integration tests, as they are, against the server that is named: HOST PORT CA MODULE...

The tests are the modules of the folder `itests` of its source distribution, and what is beside this file. Accounts and the domain of the rooms come in the
environment variables that the tests read. Each test that ended is an event `test`: `name`, `failed` if it did.
"""

import sys
import unittest
from functools import partial
from importlib import import_module
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent))

from slixmpp.test.integration import SlixIntegration  # noqa: E402
from wire import emit  # noqa: E402


class Events(unittest.TestResult):
    def addSuccess(self, test):
        self.tell(test)

    def addFailure(self, test, error):
        self.tell(test, error)

    addError = addFailure

    @staticmethod
    def tell(test, error=None):
        emit("test", name=test.id().rsplit(".test_", 1)[1], failed=error and f"{error[0].__name__}: {error[1]}")


def to(host, port, ca):
    """The tests know a server by its domain alone; this tells the clients where it listens and whom to trust."""
    connect_clients = SlixIntegration.connect_clients

    async def connect(self):
        for client in self.clients:
            client.ca_certs = ca
            client.connect = partial(client.connect, host, port)
        await connect_clients(self)

    SlixIntegration.connect_clients = connect


if __name__ == "__main__":
    host, port, ca, *modules = sys.argv[1:]
    to(host, int(port), Path(ca))
    sys.path.insert(0, str(Path(sys.prefix) / "source"))
    unittest.TestSuite(import_module(module).suite for module in modules).run(Events())
