"""Made-up journals: what is against the rule must be found, and nothing else.

    python3 -m unittest journal_tests
"""

import unittest

from journal import Journal


class Rule(unittest.TestCase):
    def setUp(self):
        self.journal = Journal("j")
        for number in "abc":
            self.journal.said(number)
            self.journal.acknowledged(number)

    def heard(self, numbers, sids=True):
        for at, number in enumerate(numbers):
            self.journal.heard(number, f"sid-{at}" if sids else None)

    def faults(self, **how):
        return " ".join(self.journal.judge(**how))

    def test_all_is_well(self):
        self.heard("ac")
        self.journal.bounced("b", "remote-server-timeout")
        self.assertEqual(self.faults(), "")

    def test_what_was_acknowledged_and_is_gone_is_lost(self):
        self.heard("ab")
        self.assertIn("c was acknowledged, and is lost", self.faults())

    def test_what_was_not_acknowledged_may_be_lost(self):
        self.heard("abc")
        self.journal.said("d")
        self.assertEqual(self.faults(), "")

    def test_delivered_and_bounced_is_a_fault(self):
        self.heard("abc")
        self.journal.bounced("b", "remote-server-timeout")
        self.assertIn("b was delivered, and bounced", self.faults())

    def test_two_errors_are_a_fault(self):
        self.heard("ab")
        self.journal.bounced("c", "remote-server-timeout")
        self.journal.bounced("c", "remote-server-timeout")
        self.assertIn("c was bounced 2 times", self.faults())

    def test_disorder_is_a_fault(self):
        self.heard("acb")
        self.assertIn("b was delivered after a later one", self.faults())

    def test_twice_is_a_fault_unless_it_is_allowed(self):
        for sids in (True, False):
            with self.subTest(sids=sids):
                self.setUp()
                self.heard("abbc", sids)
                self.assertIn("b was handed over 2 times", self.faults())
                self.assertEqual(self.faults(twice=True), "")

    def test_given_out_again_under_the_same_stanza_id_is_no_matter_of_federation(self):
        self.heard("abc")
        self.journal.heard("c", "sid-2")
        self.assertEqual(self.faults(), "")

    def test_what_its_sender_sent_again_comes_once(self):
        self.journal.said("c")
        self.heard("abcc")
        self.assertIn("c was handed over 2 times", self.faults())
        self.assertEqual(self.journal.sum()["twice"], 1)


if __name__ == "__main__":
    unittest.main()
