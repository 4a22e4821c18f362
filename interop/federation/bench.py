"""Servers of one setting, running, each on a loopback address of its own, with names and certificates."""

import asyncio
import itertools
import random

from authority import Authority
from names import Names
from peers import KINDS, World


class Net:
    """The loopback addresses of one run, which nobody else on this machine is likely to have."""

    def __init__(self):
        self.base = f"127.{random.randint(64, 250)}.{random.randint(1, 250)}"
        self.next = itertools.count(2)

    def address(self):
        return f"{self.base}.{next(self.next)}"


class Bench:
    """`peers` run while it is entered, each with accounts for `users`. `tweaks` are lines of conf by the name of a peer."""

    def __init__(self, folder, setting, wanted, users, tweaks=None):
        self.folder, self.setting, self.wanted, self.users, self.tweaks = folder, setting, wanted, users, tweaks or {}
        self.net, self.names, self.peers = Net(), Names(), []

    async def __aenter__(self):
        self.authority = Authority(self.folder / "authority")
        world, nameserver = World(self.folder, self.setting, self.authority.crt, self.tweaks), self.net.address()
        for name in self.wanted:
            view = await self.names.serve(nameserver, literal=not KINDS[name].resolves_hosts)
            domains = (f"{name}.example", f"rooms.{name}.example")
            issue = self.authority.valid if self.setting.trusted else self.authority.self_signed
            peer = KINDS[name](world, name, self.net.address(), issue(*domains), view)
            self.peers.append(peer)
            self.publish(peer)
        try:
            await asyncio.gather(*(peer.start() for peer in self.peers))
            await asyncio.gather(*(peer.add_users(self.users) for peer in self.peers))
        except BaseException:
            await self.__aexit__()
            raise
        return self

    def publish(self, peer):
        for domain in (peer.domain, peer.rooms):
            self.names.host(domain, peer.address)
            self.names.server(domain, self.setting.service, peer.domain, self.setting.port)

    async def __aexit__(self, *_):
        await asyncio.gather(*(peer.stop() for peer in self.peers))
        for peer in self.peers:
            peer.view.close()

    def pairs(self):
        return itertools.combinations(self.peers, 2)

    def __getitem__(self, name):
        return next(peer for peer in self.peers if peer.name == name)
