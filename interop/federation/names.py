"""The tests' DNS: a server for the domains of the tests, which fails when a test wants it to.

It speaks as much of RFC 1035 as resolvers ask: A and SRV over UDP, NXDOMAIN, no data, SERVFAIL. Each peer asks a port of its own, so
that a test decides what each of them sees: its View.
"""

import asyncio
import ipaddress
import struct

A, SOA, SRV = 1, 6, 33
NO_ERROR, SERVER_FAILURE, NO_SUCH_NAME = 0, 2, 3
TTL = 1  # seconds: what a test changes is soon seen


class Names:
    """The records, which are the same for all who ask."""

    def __init__(self):
        self.records = {}

    def host(self, name, address):
        self.records[name, A] = [ipaddress.ip_address(address)]

    def server(self, domain, service, host, port, priority=0, weight=0):
        """`service` is xmpp-server or xmpps-server."""
        self.records.setdefault((f"_{service}._tcp.{domain}", SRV), []).append((priority, weight, port, host))

    async def serve(self, address, literal=False):
        """Somebody's view of them, on a free port of this address."""
        view = View(self, literal)
        await asyncio.get_running_loop().create_datagram_endpoint(lambda: view, local_addr=(address, 0))
        return view


class View(asyncio.DatagramProtocol):
    """What one who asks is told. `failing` are domains that are answered SERVFAIL with all below them, `silent` are not answered,
    `hidden` are not there; `elsewhere` are hosts that have another address. `port` is where it is asked. `literal` is for who
    looks up hosts with the system's resolver, which a test cannot set: targets of SRV records are addresses, written as names.
    """

    def __init__(self, names, literal):
        self.names, self.literal = names, literal
        self.failing, self.silent, self.hidden, self.elsewhere = set(), set(), set(), {}

    def connection_made(self, transport):
        self.transport = transport
        self.address = transport.get_extra_info("sockname")

    def datagram_received(self, data, addr):
        if answer := self.answer(data):
            self.transport.sendto(answer, addr)

    def close(self):
        self.transport.close()

    def answer(self, query):
        """The packet that answers a packet, or nothing."""
        number, flags = struct.unpack("!HH", query[:4])
        name, end = read_name(query, 12)
        kind, _ = struct.unpack("!HH", query[end : end + 4])
        if below_any(name, self.silent):
            return None
        found, code = self.names.records.get((name, kind), []), NO_ERROR
        if below_any(name, self.failing):
            found, code = [], SERVER_FAILURE
        elif below_any(name, self.hidden) or not (found or any(below(known, name) for known, _ in self.names.records)):
            found, code = [], NO_SUCH_NAME
        answers = [record(query[12:end], kind, self.data(name, kind, value)) for value in found]
        # Without an SOA record resolvers may not remember that there is nothing (RFC 2308).
        soa = write_name("example") + write_name("example") + struct.pack("!IIIII", 1, 1, 1, 1, TTL)
        authority = [] if found or code == SERVER_FAILURE else [record(write_name("example"), SOA, soa)]
        head = struct.pack("!HHHHHH", number, 0x8480 | (flags & 0x0100) | code, 1, len(answers), len(authority), 0)
        return head + query[12 : end + 4] + b"".join(answers + authority)

    def data(self, name, kind, value):
        if kind == A:
            return ipaddress.ip_address(self.elsewhere.get(name, value)).packed
        priority, weight, port, host = value
        if self.literal:
            host = str(self.elsewhere.get(host) or self.names.records[host, A][0])
        return struct.pack("!HHH", priority, weight, port) + write_name(host)


def below(name, domain):
    return name == domain or name.endswith("." + domain)


def below_any(name, domains):
    return any(below(name, domain) for domain in domains)


def record(name, kind, data):
    return name + struct.pack("!HHIH", kind, 1, TTL, len(data)) + data


def write_name(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def read_name(packet, at):
    """A name of a question, which is never compressed; and where it ends."""
    labels = []
    while length := packet[at]:
        labels.append(packet[at + 1 : at + 1 + length].decode("ascii", "replace").lower())
        at += 1 + length
    return ".".join(labels), at + 1
