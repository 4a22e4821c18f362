"""slixmpp's own case of a message that a moderator retracts (XEP-0425), but for its last line: that one looks for an element
of XEP-0425 before 0.3, which the library itself does not read any more.
"""

import asyncio
import unittest

from itests.test_moderate import TestModerate


class Moderate(TestModerate):
    async def test_moderate_msg(self):
        await self.setup_muc()
        owner, other = self.clients
        other.make_message(mto=self.muc, mtype="groupchat", mbody="Coucou").send()
        sid = (await owner.wait_until("groupchat_message"))["stanza_id"]["id"]
        _, notice = await asyncio.gather(
            owner["xep_0425"].moderate(self.muc, id=sid, reason="Your message is bad."),
            other.wait_until("moderated_message"),
        )
        self.assertEqual(notice["retract"]["id"], sid)
        self.assertEqual(notice["retract"]["reason"], "Your message is bad.")


suite = unittest.TestLoader().loadTestsFromTestCase(Moderate)
