"""The servers that federate: Prosody and ejabberd as Debian packages them, and Rookery, each for a domain of its own on a loopback
address of its own, where all have the same ports.

A peer has `domain` and `rooms` (the domain of its rooms), `address`, `clients` (where clients connect, TLS from the first byte),
`certificate`, `password` (of all its accounts), `process`; and `start()`, `stop()`, `kill()`, `add_users(names)`. Everything lives
below its folder, nothing needs privileges.
"""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from authority import Certificate

PLAIN, CLIENTS, SERVERS, DIRECT = 5222, 5223, 5269, 5270
REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Setting:
    """How the servers find and trust each other. Where a port is not to be used nobody listens on it."""

    name: str
    trusted: bool = True  # certificates of the authority and SASL EXTERNAL, or self-signed ones and dialback
    direct: bool = False  # TLS from the first byte, or STARTTLS
    bidi: bool = False  # both directions on one stream, where the peer can

    @property
    def port(self):
        return DIRECT if self.direct else SERVERS

    @property
    def service(self):
        return "xmpps-server" if self.direct else "xmpp-server"


@dataclass
class World:
    """What all servers of a test have in common; `tweaks` are lines for the conf of a peer, by its name."""

    folder: Path
    setting: Setting
    authority: Path  # its certificate
    tweaks: dict


class Peer:
    password = "correct horse"

    resolves_hosts = True  # or it leaves that to the system
    bidi = True  # it knows XEP-0288
    ends_presence = True  # who unsubscribes sees his contact go (RFC 6121, 3.3.3)

    def __init__(self, world, name, address, certificate: Certificate, view):
        self.world, self.view, self.name, self.address, self.certificate = world, view, name, address, certificate
        self.domain, self.rooms, self.clients = f"{name}.example", f"rooms.{name}.example", (address, CLIENTS)
        self.folder = world.folder / name
        self.folder.mkdir(parents=True)
        self.log = self.folder / f"{name}.log"
        self.process = None
        self.configure()

    def __str__(self):
        return self.name

    async def start(self, seconds=40):
        command, environment = self.command()
        with (self.folder / "output.log").open("ab") as output:
            self.process = subprocess.Popen(command, env=os.environ | environment, cwd=self.folder, stdin=subprocess.DEVNULL,
                                            stdout=output, stderr=output, start_new_session=True)
        deadline = time.monotonic() + seconds
        for port in (CLIENTS, self.world.setting.port):
            while not await listens(self.address, port):
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{self.name} did not start:\n{(self.folder / 'output.log').read_text()[-3000:]}")
                await asyncio.sleep(0.05)  # not all of them have another way to say so

    async def stop(self, seconds=20):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                await asyncio.to_thread(self.process.wait, seconds)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def memory(self):
        """Bytes: the proportional share of its process and of those that it started."""
        total = 0
        for process in processes(self.process.pid):
            try:
                rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
            except OSError:
                continue
            total += next(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:"))
        return total


class Prosody(Peer):
    ends_presence = False

    def configure(self):
        setting, (address, port) = self.world.setting, self.view.address
        modules = ["roster", "saslauth", "tls", "disco", "ping", "smacks", "carbons", "vcard", "version", "uptime"]
        modules += ["s2s_bidi"] * setting.bidi + ["dialback"] * (not setting.trusted)
        (self.folder / "data").mkdir()
        self.conf = self.folder / "prosody.cfg.lua"
        self.conf.write_text(f"""\
run_as_root = true
daemonize = false
pidfile = "{self.folder}/prosody.pid"
data_path = "{self.folder}/data"
log = {{ info = "{self.log}" }}
interfaces = {{ "{self.address}" }}
c2s_ports = {{ }}
c2s_direct_tls_ports = {{ {CLIENTS} }}
s2s_ports = {{ {"" if setting.direct else SERVERS} }}
s2s_direct_tls_ports = {{ {DIRECT if setting.direct else ""} }}
http_ports = {{ }}
https_ports = {{ }}
unbound = {{ resolvconf = false, forward = "{address}@{port}", options = {{ ["do-not-query-localhost:"] = "no" }} }}
modules_enabled = {{ {", ".join(f'"{module}"' for module in modules)} }}
authentication = "internal_plain"
storage = "internal"
s2s_require_encryption = true
s2s_secure_auth = {str(setting.trusted).lower()}
limits = {{ }}
ssl = {{ certificate = "{self.certificate.crt}", key = "{self.certificate.key}", cafile = "{self.world.authority}" }}
c2s_direct_tls_ssl = {{ certificate = "{self.certificate.crt}", key = "{self.certificate.key}" }}
s2s_direct_tls_ssl = {{ certificate = "{self.certificate.crt}", key = "{self.certificate.key}" }}
{self.world.tweaks.get(self.name, "")}
VirtualHost "{self.domain}"
Component "{self.rooms}" "muc"
    modules_enabled = {{ "muc_mam" }}
    restrict_room_creation = false
    muc_log_by_default = true
    muc_log_expires_after = "never"
""")

    def command(self):
        return ["prosody", "-F", "--config", self.conf], {}

    async def add_users(self, names):
        accounts = self.folder / "data" / encoded(self.domain) / "accounts"
        accounts.mkdir(parents=True, exist_ok=True)
        for name in names:
            (accounts / f"{encoded(name)}.dat").write_text(f'return {{ ["password"] = "{self.password}" }};\n')


def encoded(name):
    """As its store spells names of files."""
    return "".join(c if c.isalnum() else f"%{ord(c):02x}" for c in name)


class Ejabberd(Peer):
    resolves_hosts = bidi = False

    def configure(self):
        setting, (address, port) = self.world.setting, self.view.address
        ip = "{" + address.replace(".", ",") + "}"
        (self.folder / "inetrc").write_text(f"{{resolv_conf, \"\"}}.\n{{nameserver, {ip}, {port}}}.\n{{cache_size, 0}}.\n")
        listen = f"{{ port: {DIRECT}, tls: true" if setting.direct else f"{{ port: {SERVERS}"
        tweaks = self.world.tweaks.get(self.name, "")
        self.conf = self.folder / "ejabberd.yml"
        self.conf.write_text(f"""\
loglevel: info
hosts: ["{self.domain}"]
certfiles: ["{self.certificate.both}"]
ca_file: "{self.world.authority}"
s2s_cafile: "{self.world.authority}"
s2s_use_starttls: required
listen:
  - {{ port: {PLAIN}, ip: "{self.address}", module: ejabberd_c2s, shaper: none, access: all }}
  - {{ port: {CLIENTS}, ip: "{self.address}", module: ejabberd_c2s, shaper: none, access: all, tls: true }}
  - {listen}, ip: "{self.address}", module: ejabberd_s2s_in, shaper: none }}
registration_timeout: infinity
access_rules:
  register: {{ allow: all }}
  anybody: {{ allow: all }}
shaper_rules:
  max_user_sessions: 20
  max_user_offline_messages: infinity
modules:
  mod_disco: {{}}
  mod_ping: {{}}
  mod_register: {{ access: register, ip_access: anybody }}
  mod_roster: {{}}
  mod_offline: {{ access_max_user_messages: max_user_offline_messages }}
  mod_vcard: {{}}
  mod_version: {{}}
  mod_carboncopy: {{}}
  mod_mam: {{ default: never }}
  mod_muc: {{ host: "{self.rooms}", access_create: all, default_room_options: {{ mam: true }} }}
  mod_stream_mgmt: {{ resend_on_timeout: if_offline }}
{"" if setting.trusted else "  mod_s2s_dialback: {}"}
{tweaks}
""")

    def command(self):
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        # Its node is no member of anything: no cookie, no epmd.
        return (["erl", "+K", "true", "-noinput", "-boot", "start_clean", "-mnesia", "dir", f'"{data}"', "-s", "ejabberd"],
                {"EJABBERD_CONFIG_PATH": str(self.conf), "EJABBERD_LOG_PATH": str(self.log),
                 "ERL_CRASH_DUMP": str(self.folder / "crash.dump"), "ERL_INETRC": str(self.folder / "inetrc"),
                 "ERL_LIBS": "/usr/lib/x86_64-linux-gnu", "HOME": str(self.folder)})

    async def add_users(self, names):
        """As a client would (XEP-0077)."""
        for name in names:
            source, sink = await asyncio.open_connection(self.address, PLAIN)
            sink.write(f"<stream:stream to='{self.domain}' version='1.0' xmlns='jabber:client' "
                       "xmlns:stream='http://etherx.jabber.org/streams'>".encode())
            await source.readuntil(b"</stream:features>")
            sink.write(f"<iq type='set' id='register' to='{self.domain}'><query xmlns='jabber:iq:register'><username>{name}"
                       f"</username><password>{self.password}</password></query></iq>".encode())
            answer = await source.readuntil(b">")
            sink.close()
            if b"result" not in answer:
                raise SystemExit(f"ejabberd makes no account for {name}: {answer.decode()}")


class Rookery(Peer):
    def configure(self):
        self.program = os.environ.get("ROOKERY_BIN") or build()
        setting, (address, port) = self.world.setting, self.view.address
        self.conf = self.folder / "rookery.toml"
        self.conf.write_text(f"""\
[server]
data = "{self.folder}/data"
certs = "{self.folder}/certs"

[[listen]]
kind = "c2s"
address = "{self.address}:{CLIENTS}"
tls = "direct"

[[listen]]
kind = "s2s"
address = "{self.address}:{setting.port}"
tls = "{"direct" if setting.direct else "starttls"}"

[s2s]
certificates = "{"valid" if setting.trusted else "dialback"}"
authorities = "{self.world.authority}"
nameservers = ["{address}:{port}"]
dnssec = false
private_addresses = true
{self.world.tweaks.get(self.name, "")}

[limits]
connection_rate = "1 GiB"
connection_burst = "1 GiB"
account_rate = "1 GiB"
account_burst = "1 GiB"

[host."{self.domain}"]
certificate = "{self.certificate.crt}"
key = "{self.certificate.key}"

[modules.muc]
domains = ["rooms"]
""")

    def command(self):
        return [self.program, "serve", "--config", self.conf], {}

    async def add_users(self, names):
        for name in names:
            await asyncio.to_thread(subprocess.run, [
                self.program, "user", "add", f"{name}@{self.domain}", "--password", self.password, "--config", self.conf,
            ], check=True, stdout=subprocess.DEVNULL)

    async def look(self, *command):
        """What `rookery s2s` says."""
        process = await asyncio.create_subprocess_exec(self.program, "s2s", *command, "--json", "--config", self.conf,
                                                       stdout=subprocess.PIPE)
        output, _ = await process.communicate()
        return json.loads(output)

    async def waiting(self, domain):
        """Stanzas and bytes that wait for another domain."""
        links = (await self.look("show", domain)).get("ok", {}).get("links", [])
        return sum(link["stanzas"] for link in links), sum(link["bytes"] for link in links)


KINDS = {"prosody": Prosody, "ejabberd": Ejabberd, "rookery": Rookery, "second": Rookery, "third": Prosody}


def build():
    subprocess.run(["cargo", "build", "--release", "--locked", "--quiet", "--bin", "rookery"], cwd=REPOSITORY, check=True)
    return Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")) / "release" / "rookery"


def missing(names):
    programs = {"prosody": "prosody", "ejabberd": "erl"}
    return [name for name in names if name in programs and not shutil.which(programs[name])]


async def listens(address, port):
    try:
        _, sink = await asyncio.open_connection(address, port)
    except OSError:
        return False
    sink.close()
    return True


def processes(first):
    """A process and all that it started."""
    found = [first]
    for process in found:
        for children in Path(f"/proc/{process}/task").glob("*/children"):
            found += map(int, children.read_text().split())
    return found
