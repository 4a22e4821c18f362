"""What the projects of the clients test servers with themselves: slixmpp's integration tests about rooms."""

import json
import os
import subprocess

from bench import PASSWORD
from clients import CACHE, HERE, Failed

TESTS = {
    "muc": ("initial_join", "setup_muc", "join_after_config", "nick_change_leave", "kick"),
    "selfping": ("presence_monitor",),
    "moderate": ("moderate_msg",),
}
MODULES = {"muc": "test_muc", "selfping": "itests.test_selfping", "moderate": "test_moderate"}
NEEDS = {"moderate": "moderation"}  # what a server may lack
ACCOUNTS = [f"slixmpp-{test}-{n}" for test in TESTS for n in (1, 2)]


class Suites:
    """They run beside what else is tried, because they wait a lot; `report` waits for their end."""

    def __init__(self, server, folder):
        self.server = server
        self.running = {test: self.start(test, folder) for test in TESTS if NEEDS.get(test) not in server.lacks}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.running.values():
            process.kill()
            process.wait()

    def start(self, test, folder):
        environment = {"CI_MUC_SERVER": self.server.rooms}
        for n in (1, 2):
            environment |= {f"CI_ACCOUNT{n}": f"slixmpp-{test}-{n}@localhost", f"CI_ACCOUNT{n}_PASSWORD": PASSWORD}
        command = [CACHE / "slixmpp/bin/python", HERE / "slixmpp/own.py", self.server.host, self.server.starttls, self.server.ca, MODULES[test]]
        with (folder / f"slixmpp-{test}.log").open("w") as log:
            return subprocess.Popen(
                [str(part) for part in command], stdout=subprocess.PIPE, stderr=log, text=True, env=os.environ | environment
            )

    def report(self, report):
        for test, cases in TESTS.items():
            ended = self.end(test) if test in self.running else {}
            for case in cases:
                if test in self.running:
                    report.run("slixmpp", f"{test}/{case}", lambda: judge(ended, case))
                else:
                    report.without("slixmpp", f"{test}/{case}", self.server.lacks[NEEDS[test]])

    def end(self, test, seconds=120):
        try:
            output, _ = self.running[test].communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.running[test].kill()
            output, _ = self.running[test].communicate()
        return {event["name"]: event.get("failed") for event in map(json.loads, output.splitlines())}


def judge(ended, case):
    if case not in ended:
        raise Failed("did not end")
    if ended[case]:
        raise Failed(ended[case])
