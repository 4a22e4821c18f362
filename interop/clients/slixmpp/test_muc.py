"""slixmpp's own cases of rooms, but that the one who leaves waits until the other has seen the new nick: else the presence
by which the old nick goes may be taken for the one that is waited for, since nothing says who of the two hears first.
"""

import asyncio
import unittest

from itests.test_muc import TestMUC


class Muc(TestMUC):
    async def test_nick_change_leave(self):
        await self.test_join_after_config()
        leaver, other = self.clients
        gone = f"muc::{self.muc}::got_offline"
        nick, _ = await asyncio.gather(leaver["xep_0045"].set_self_nick(self.muc, "coucoucou2"), other.wait_until(gone))
        self.assertEqual(nick, "coucoucou2")
        leaver["xep_0045"].leave_muc(self.muc, "client1", "boooring")
        presence = await other.wait_until(gone)
        self.assertEqual((presence["type"], presence["status"]), ("unavailable", "boooring"))


suite = unittest.TestLoader().loadTestsFromTestCase(Muc)
