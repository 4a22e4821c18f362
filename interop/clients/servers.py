"""The server under test: Rookery, Prosody (to see whether a failure is the client's) or one that already runs.

Each has `host`, `starttls` and `direct` (ports), `ca` (a PEM file), `binds` (its TLS channel binding types), `rooms` (the
domain of its rooms),
`add_user(name, password)`, `restart()` and `stop()`; accounts are NAME@localhost. `keeps_sessions` says that they can be
resumed after a restart, `found_is_delivered` that what a client found in its archive is not sent to it as an offline
message besides; `lacks` maps features that cannot be tried to the reason. Everything lives below the folder given.
"""

import hashlib
import os
import select
import shutil
import socket
import ssl
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

DOMAIN = "localhost"
ROOMS = "conference.localhost"
REPOSITORY = Path(__file__).resolve().parents[2]


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def end(process, timeout=10):
    process.terminate()
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def ended_if_this_fails(process):
    try:
        yield
    except BaseException:
        end(process)
        raise


def write_rookery_conf(folder, ports):
    """Writes the conf file and returns its path and that of the certificate that the server will generate."""
    certs = folder / "certs"
    conf = folder / "rookery.toml"
    conf.write_text(f"""\
[server]
data = "{folder / "data"}"
certs = "{certs}"

[[listen]]
kind = "c2s"
address = "127.0.0.1:{ports["starttls"]}"
tls = "starttls"

[[listen]]
kind = "c2s"
address = "127.0.0.1:{ports["direct"]}"
tls = "direct"

[host."{DOMAIN}"]
""")
    return conf, certs / f"{DOMAIN}.crt"


class Rookery:
    host = "127.0.0.1"
    rooms = ROOMS
    keeps_sessions = found_is_delivered = True
    lacks = {}
    binds = ("tls-exporter", "tls-server-end-point")

    def __init__(self, folder):
        self.starttls, self.direct = free_ports(2)
        self.conf, self.ca = write_rookery_conf(folder, {"starttls": self.starttls, "direct": self.direct})
        self.program = os.environ.get("ROOKERY_BIN") or self.build()
        self.log = folder / "rookery.log"
        self.start()

    def start(self):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [self.program, "serve", "--config", self.conf],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=self.log.parent,
            )
            with ended_if_this_fails(self.process):
                self.wait_ready(log)

    @staticmethod
    def build():
        subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=REPOSITORY, check=True)
        return REPOSITORY / "target" / "release" / "rookery"

    def wait_ready(self, log, seconds=30):
        """Reads the output up to the line with "ready"; a child then keeps copying it to the log file."""
        deadline, seen, pipe = time.monotonic() + seconds, b"", self.process.stdout.fileno()
        while b"ready" not in seen:
            if not select.select([pipe], [], [], max(0, deadline - time.monotonic()))[0]:
                raise SystemExit(f"rookery was not ready after {seconds} s:\n{seen.decode()}")
            chunk = os.read(pipe, 65536)
            if not chunk:
                raise SystemExit(f"rookery ended before it was ready:\n{seen.decode()}")
            seen += chunk
        log.write(seen)
        log.flush()
        self.copier = subprocess.Popen(["cat"], stdin=self.process.stdout, stdout=log)

    def add_user(self, name, password):
        command = [self.program, "user", "add", f"{name}@{DOMAIN}", "--password", password, "--config", self.conf]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def restart(self):
        self.stop()
        self.start()

    def stop(self):
        end(self.process)
        self.copier.wait()


class Prosody:
    """PROSODY and PROSODYCTL name other programs than the ones in PATH."""

    host = "127.0.0.1"
    rooms = ROOMS
    keeps_sessions = found_is_delivered = False
    lacks = {
        "moderation": "the version in Debian 12 has no XEP-0425",
        "refusal": "to one who is banned it does not say what it was that he may not",
    }

    def __init__(self, folder):
        self.starttls, self.direct = free_ports(2)
        self.program = os.environ.get("PROSODY", "prosody")
        self.control = os.environ.get("PROSODYCTL", "prosodyctl")
        if not shutil.which(self.program):
            raise SystemExit("no prosody here: run interop/clients/install --prosody")
        self.ca, key = folder / "localhost.crt", folder / "localhost.key"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
             "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-addext",
             "basicConstraints=critical,CA:FALSE", "-keyout", key, "-out", self.ca],
            check=True, stderr=subprocess.DEVNULL,
        )
        fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.ca.read_text())).hexdigest()
        self.conf, self.log = folder / "prosody.cfg.lua", folder / "prosody.log"
        (folder / "data").mkdir()
        self.conf.write_text(f"""\
run_as_root = true
pidfile = "{folder}/prosody.pid"
data_path = "{folder}/data"
log = {{ debug = "{self.log}" }}
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {self.starttls} }}
c2s_direct_tls_ports = {{ {self.direct} }}
modules_enabled = {{ "roster", "saslauth", "tls", "disco", "ping", "smacks", "blocklist", "uptime", "version",
    "carbons", "mam" }}
modules_disabled = {{ "s2s" }}
authentication = "internal_plain"
storage = "internal"
archive_expires_after = "never"
c2s_require_encryption = true
tls_server_end_point_hash = "{fingerprint}"
limits = {{ }}
ssl = {{ certificate = "{self.ca}", key = "{key}" }}
c2s_direct_tls_ssl = {{ certificate = "{self.ca}", key = "{key}" }}
VirtualHost "{DOMAIN}"
Component "{ROOMS}" "muc"
    modules_enabled = {{ "muc_mam" }}
""")
        self.start()
        modern = "Prosody version 0." not in self.log.read_text()
        self.binds = ("tls-exporter", "tls-server-end-point") if modern else ()

    def start(self):
        self.process = subprocess.Popen([self.program, "-F", "--config", self.conf], stdout=subprocess.DEVNULL)
        with ended_if_this_fails(self.process):
            self.wait_ready()

    def wait_ready(self, seconds=30):
        deadline = time.monotonic() + seconds
        while not self.listening():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"prosody did not start:\n{self.log.read_text()}")
            time.sleep(0.05)  # it has no other way to say so

    def listening(self):
        with socket.socket() as s:
            return s.connect_ex((self.host, self.direct)) == 0

    def add_user(self, name, password):
        command = [self.control, "--root", "--config", self.conf, "register", name, DOMAIN, password]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def restart(self):
        self.stop()
        self.start()

    def stop(self):
        end(self.process)


class External:
    """A server that somebody else started and gave the accounts of `run --list-accounts`."""

    keeps_sessions = found_is_delivered = False
    lacks = {"restart": "it is not ours to restart"}

    def __init__(self, host, starttls, direct, ca, binds, rooms):
        self.host, self.starttls, self.direct, self.ca, self.rooms = host, starttls, direct, ca, rooms
        self.binds = tuple(binds.split(",")) if binds else ()

    def add_user(self, name, password):
        pass

    def stop(self):
        pass
