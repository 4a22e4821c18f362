//! Made-up journals: each fault must be found, and nothing else.

use super::*;

const AT: Duration = Duration::from_secs(1);

/// One sender, one recipient with two devices, one conversation; the subject has archives.
struct Story {
    ledger: Ledger,
}

const SENDER: u32 = 0;
const PHONE: u32 = 1;
const DESK: u32 = 2;
const ARCHIVES: [u32; 2] = [3, 4];

impl Story {
    fn new(has_archive: bool) -> Self {
        let mut ledger = Ledger::new(7, has_archive);
        for (name, account) in [("s/rig", 0), ("r/phone", 1), ("r/desk", 1), ("s/archive", 0), ("r/archive", 1)] {
            ledger.join(name, account);
        }
        ledger.open(0, 1);
        Self { ledger }
    }

    fn key(seq: u32) -> Key {
        Key { conversation: 0, seq }
    }

    fn sent(&mut self, seq: u32) -> &mut Self {
        self.ledger.note_at(AT, SENDER, What::Sent(Self::key(seq)));
        self
    }

    fn acked(&mut self, seq: u32) -> &mut Self {
        self.ledger.note_at(AT, SENDER, What::Acked(Self::key(seq)));
        self
    }

    fn told(&mut self, seq: u32) -> &mut Self {
        self.ledger.note_at(AT, SENDER, What::Told(Self::key(seq), "wait".into()));
        self
    }

    fn came(&mut self, party: u32, session: u32, seq: u32, path: Path, id: Option<&str>) -> &mut Self {
        let what = What::Received { key: Self::key(seq), path, session, stanza_id: id.map(Into::into) };
        self.ledger.note_at(AT, party, what);
        self
    }

    fn live(&mut self, session: u32, seq: u32) -> &mut Self {
        self.came(PHONE, session, seq, Path::Live, Some(&format!("r{seq}")))
    }

    /// Both archives hold these, in this order.
    fn kept(&mut self, seqs: &[u32]) -> &mut Self {
        for (account, name) in [(0, "s"), (1, "r")] {
            let items = seqs.iter().map(|&seq| (format!("{name}{seq}"), Some(Self::key(seq)))).collect();
            self.ledger.note_archived(ARCHIVES[account], items);
        }
        self
    }

    /// Messages 0 to 2, all well.
    fn good() -> Self {
        let mut story = Self::new(true);
        for seq in 0..3 {
            story.sent(seq).live(0, seq).acked(seq);
        }
        story.kept(&[0, 1, 2]);
        story
    }

    fn verdict(&mut self) -> Vec<(Rule, String)> {
        self.ledger.judge().into_iter().map(|found| (found.rule, found.text)).collect()
    }

    fn rules(&mut self) -> Vec<Rule> {
        self.verdict().into_iter().map(|(rule, _)| rule).collect()
    }
}

#[test]
fn a_good_run_has_no_fault() {
    assert_eq!(Story::good().verdict(), []);
}

#[test]
fn what_was_acknowledged_and_is_nowhere_is_lost() {
    let mut story = Story::new(true);
    story.sent(0).acked(0).sent(1).acked(1).live(0, 1).kept(&[1]);
    let verdict = story.verdict();
    assert_eq!(verdict.iter().map(|(rule, _)| *rule).collect::<Vec<_>>(), [Rule::I1, Rule::I1]);
    assert_eq!(verdict[0].1, "l0007-0-0 was acknowledged, and is lost");
    assert_eq!(verdict[1].1, "l0007-0-0 was acknowledged, and is not in the archive of s and of r");
    let lines = story.ledger.lines_about(&[Story::key(0)]);
    assert_eq!(
        lines,
        ["   1.000000 s/rig          sent     l0007-0-0", "   1.000000 s/rig          acked    l0007-0-0"]
    );
}

#[test]
fn each_archive_is_asked_for() {
    let mut story = Story::new(true);
    story.sent(0).acked(0).live(0, 0);
    story.ledger.note_archived(ARCHIVES[0], vec![("s0".into(), Some(Story::key(0)))]);
    assert_eq!(story.verdict(), [(Rule::I1, "l0007-0-0 was acknowledged, and is not in the archive of r".into())]);
}

#[test]
fn an_archive_alone_is_no_delivery_and_a_delivery_alone_is_enough_without_archives() {
    let mut story = Story::new(true);
    story.sent(0).acked(0).kept(&[0]);
    assert_eq!(story.rules(), [Rule::Delivery]);
    let mut story = Story::new(false);
    story.sent(0).acked(0).live(0, 0);
    assert_eq!(story.verdict(), []);
    // Copies for the sender's other devices are no delivery.
    let mut story = Story::new(false);
    story.sent(0).acked(0).came(SENDER, 0, 0, Path::Carbon, None);
    assert_eq!(story.rules(), [Rule::I1]);
}

#[test]
fn what_was_refused_is_no_loss_unless_it_came_all_the_same() {
    let mut story = Story::new(true);
    story.sent(0).acked(0).told(0);
    assert_eq!(story.verdict(), []);
    story.live(0, 0);
    assert_eq!(story.verdict(), [(Rule::I1, "l0007-0-0 was refused, and came all the same".into())]);
    // Of two attempts one may be refused and the other kept.
    let mut story = Story::new(false);
    story.sent(0).sent(0).told(0).live(0, 0);
    assert_eq!(story.verdict(), []);
}

#[test]
fn a_message_without_acknowledgement_or_error_has_no_fate() {
    let mut story = Story::new(true);
    story.sent(0).live(0, 0).kept(&[0]);
    assert_eq!(story.rules(), [Rule::I5]);
}

#[test]
fn a_fate_is_due_a_minute_after_the_recovery() {
    let late = |recovered: u64| {
        let mut story = Story::new(false);
        story.sent(0).live(0, 0);
        story.ledger.recoveries.push(Duration::from_secs(recovered));
        story.ledger.note_at(Duration::from_secs(100), SENDER, What::Acked(Story::key(0)));
        story.rules()
    };
    assert_eq!(late(50), []);
    assert_eq!(late(20), [Rule::I5]);
    assert_eq!(late(200), [Rule::I5]);
}

#[test]
fn a_second_copy_needs_another_session_and_the_same_stanza_id() {
    let mut story = Story::good();
    story.live(1, 1);
    assert_eq!(story.verdict(), []);
    assert_eq!(story.ledger.counts().redelivered, 1);
    let mut story = Story::good();
    story.live(0, 1);
    assert_eq!(story.verdict(), [(Rule::I2, "l0007-0-1 came to r/phone twice on one session".into())]);
    let mut story = Story::good();
    story.came(PHONE, 1, 1, Path::Delayed, Some("other"));
    assert_eq!(story.verdict(), [(Rule::I2, "l0007-0-1 has the stanza-ids other and r1 at r".into())]);
    let mut story = Story::good();
    story.came(PHONE, 1, 1, Path::Delayed, None);
    assert_eq!(story.verdict(), [(Rule::I2, "l0007-0-1 came to r/phone twice, without a stanza-id".into())]);
}

#[test]
fn what_was_delivered_and_died_with_the_server_is_a_new_message_when_it_is_sent_again() {
    let story = |acked_before: bool, resent: bool| {
        let mut story = Story::new(true);
        story.sent(0).live(0, 0);
        if acked_before {
            story.acked(0);
        }
        story.ledger.crashes.push(2 * AT);
        if resent {
            story.ledger.note_at(3 * AT, SENDER, What::Sent(Story::key(0)));
        }
        let what = What::Received { key: Story::key(0), path: Path::Live, session: 1, stanza_id: Some("new".into()) };
        story.ledger.note_at(4 * AT, PHONE, what);
        story.ledger.note_at(5 * AT, SENDER, What::Acked(Story::key(0)));
        for (account, id) in [(0, "s0"), (1, "new")] {
            story.ledger.note_archived(ARCHIVES[account], vec![(id.into(), Some(Story::key(0)))]);
        }
        (story.rules(), story.ledger.counts().phantoms)
    };
    assert_eq!(story(false, true), (vec![], 1));
    assert_eq!(story(true, true), (vec![Rule::I2], 1));
    assert_eq!(story(false, false), (vec![Rule::I2], 1));
}

#[test]
fn other_devices_get_copies_under_the_same_stanza_id() {
    let mut story = Story::good();
    story.came(DESK, 0, 1, Path::Carbon, Some("r1"));
    assert_eq!(story.verdict(), []);
    story.came(DESK, 1, 2, Path::Carbon, Some("x"));
    assert_eq!(story.rules(), [Rule::I2]);
}

#[test]
fn what_a_session_took_from_the_archive_does_not_come_again() {
    let mut story = Story::good();
    story.sent(3).acked(3).kept(&[3]).came(DESK, 0, 3, Path::Archive, Some("r3"));
    assert_eq!(story.verdict(), []);
    story.came(DESK, 0, 3, Path::Delayed, Some("r3"));
    assert_eq!(story.rules(), [Rule::I2]);
    // The other way round it asked for it.
    let mut story = Story::good();
    story.came(PHONE, 0, 1, Path::Archive, Some("r1"));
    assert_eq!(story.verdict(), []);
}

#[test]
fn an_archive_holds_a_message_once() {
    let mut story = Story::good();
    story.ledger.note_archived(ARCHIVES[1], vec![("r9".into(), Some(Story::key(1)))]);
    let verdict = story.verdict();
    assert_eq!(verdict[0], (Rule::I2, "l0007-0-1 is 2 times in the archive of r".into()));
    assert_eq!(verdict[1], (Rule::I2, "l0007-0-1 has the stanza-ids r1 and r9 at r".into()));
    let mut story = Story::good();
    story.sent(3).acked(3).live(0, 3);
    story.ledger.note_archived(ARCHIVES[0], vec![("s3".into(), Some(Story::key(3)))]);
    story.ledger.note_archived(ARCHIVES[1], vec![("r2".into(), Some(Story::key(3)))]);
    assert!(story.verdict().contains(&(Rule::I2, "two messages have the archive id r2 in the archive of r".into())));
}

#[test]
fn a_stanza_id_is_given_once() {
    let mut story = Story::good();
    story.sent(3).acked(3).came(PHONE, 0, 3, Path::Live, Some("r1"));
    let expected = "l0007-0-1 and l0007-0-3 have one stanza-id, r1, at r";
    assert!(story.verdict().contains(&(Rule::I2, expected.into())));
}

#[test]
fn an_archive_read_as_a_whole_is_what_it_was() {
    let item = |seq: u32| (format!("r{seq}"), Some(Story::key(seq)));
    let mut story = Story::good();
    story.ledger.compare_archive(1, &[item(0), item(1), item(2)]);
    assert_eq!(story.verdict(), []);
    story.ledger.compare_archive(1, &[item(0), item(2)]);
    let expected = "item 1 in the archive of r was r1, and is r2 when the archive is read as a whole (3 items, then 2)";
    assert_eq!(story.verdict(), [(Rule::I2, expected.into())]);
}

#[test]
fn disorder_is_found_in_archives_and_on_sessions() {
    let mut story = Story::new(true);
    for seq in 0..3 {
        story.sent(seq).acked(seq);
    }
    story.live(0, 0).live(0, 2).live(0, 1).kept(&[0, 1, 2]);
    assert_eq!(story.verdict(), [(Rule::I3, "l0007-0-1 comes after l0007-0-2 at r/phone, session 0".into())]);
    let mut story = Story::new(true);
    for seq in 0..3 {
        story.sent(seq).acked(seq).live(0, seq);
    }
    story.kept(&[1, 0, 2]);
    let places = ["s", "r"].map(|name| (Rule::I3, format!("l0007-0-0 comes after l0007-0-1 in the archive of {name}")));
    assert_eq!(story.verdict(), places);
    // A new session begins with what was not confirmed.
    let mut story = Story::good();
    story.live(1, 1).live(1, 2);
    assert_eq!(story.verdict(), []);
}

#[test]
fn what_nobody_sent_is_no_message_of_ours() {
    let story = Story::good();
    assert_eq!(story.ledger.key("l0007-0-1"), Some(Story::key(1)));
    for id in ["l0008-0-1", "l0007-1-1", "l0007-0", "l0007-0-1-2", "x0007-0-1", ""] {
        assert_eq!(story.ledger.key(id), None, "{id}");
    }
    let mut story = story;
    story.live(0, 9).kept(&[9]);
    assert_eq!(story.verdict(), [(Rule::I2, "l0007-0-9 came, and was never sent".into())]);
}
