"""A network between two servers that can be made to fail: a listener that hands on what it gets, until a test wants otherwise."""

import asyncio
import socket
import struct


class Proxy:
    """From `address` to `target`, both with their port. One that is not open refuses connections."""

    def __init__(self, address, target):
        self.address, self.target = address, target
        self.server, self.connections, self.rate = None, set(), None
        self.flows = asyncio.Event()

    async def open(self):
        """All is well: new connections are taken, and bytes pass."""
        self.rate = None
        self.flows.set()
        if not self.server:
            self.server = await asyncio.start_server(self.serve, *self.address, limit=1 << 16)
        return self

    def pause(self):
        """Connections stay, new ones are taken, but no byte passes until it is open again. It goes on where it stopped."""
        self.flows.clear()

    def slow(self, rate):
        """So many bytes a second, each way of each connection."""
        self.rate = rate

    def cut(self):
        """All connections are reset; what was under way is gone."""
        for connection in list(self.connections):
            reset(connection)

    def refuse(self):
        """As cut, and who connects is refused."""
        if self.server:
            self.server.close()
            self.server = None
        self.cut()

    async def serve(self, source, sink):
        connection = {sink}
        self.connections.add(sink)
        try:
            other_source, other_sink = await asyncio.open_connection(*self.target, limit=1 << 16)
            connection.add(other_sink)
            self.connections.add(other_sink)
            await asyncio.gather(self.pump(source, other_sink), self.pump(other_source, sink))
        except OSError:
            for one in connection:
                reset(one)
        finally:
            self.connections -= connection
            for one in connection:
                one.close()

    async def pump(self, source, sink):
        while True:
            await self.flows.wait()
            data = await source.read(1 << 14)
            await self.flows.wait()  # what was read when it stopped has not passed
            if not data:
                break
            if self.rate:
                await asyncio.sleep(len(data) / self.rate)
            sink.write(data)
            await sink.drain()
        if sink.can_write_eof():
            sink.write_eof()


def reset(sink):
    connection = sink.get_extra_info("socket")
    if connection and connection.fileno() >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sink.transport.abort()
