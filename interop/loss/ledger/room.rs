//! What holds in a room beyond what holds for each message: all occupants see one order, which is that of the room's archive.
//!
//! * **I3** On a session, messages come in the order of the archive. Those that died with the server before they were on disk
//!   are in no archive: two sessions that saw the same two of them saw them in the same order.
//! * **Delivery** From the first message to the last that comes to a session, none is left out; nor is one that was sent after
//!   the session's occupant had entered; and who is in the room at the end has all. Who also reads in the archive what it
//!   missed while it was away has all from the first that it ever saw.

//!
//! Who sends again what the room has already gets it back under the id that it has: such an echo comes when it comes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::{Archived, Key, Ledger, Path, Rule, Violation};

/// The room, the party and its session.
pub(super) type Stream = (u32, u32, u32);

/// A message as it was seen.
type Seen = (Box<str>, Key);

/// What is known of rooms.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    /// What came and was not judged yet.
    live: BTreeMap<Stream, Vec<Seen>>,
    read: BTreeMap<Stream, Vec<Seen>>,
    /// The place in the archive of the newest that came.
    newest: HashMap<Stream, usize>,
    newest_read: HashMap<Stream, usize>,
    /// Since when a session's occupant is in the room.
    entered: HashMap<Stream, Duration>,
    /// By room and party: the places in the archive of all that it has seen.
    known: BTreeMap<(u32, u32), BTreeSet<usize>>,
    /// By room: of two messages that are in no archive, who saw the one before the other.
    before: HashMap<(u32, Box<str>, Box<str>), u32>,
    /// Said in a room, and without its stanza-id.
    nameless: Vec<(u32, Key)>,
}

impl Rooms {
    pub(super) fn received(&mut self, stream: Stream, path: Path, id: Option<&str>, key: Key) {
        let Some(id) = id else { return self.nameless.push((stream.1, key)) };
        let streams = if path == Path::Archive { &mut self.read } else { &mut self.live };
        streams.entry(stream).or_default().push((id.into(), key));
    }
}

/// A room's archive: the messages of this run, in order.
struct Archive {
    items: Vec<Seen>,
    places: HashMap<Box<str>, usize>,
}

impl Archive {
    fn new(items: &[Archived]) -> Self {
        let items: Vec<Seen> = items.iter().filter_map(|(id, key)| Some((id.clone(), (*key)?))).collect();
        let places = items.iter().enumerate().map(|(place, (id, _))| (id.clone(), place)).collect();
        Self { items, places }
    }
}

impl Ledger {
    /// A session has entered a room.
    pub fn entered(&mut self, room: u32, party: u32, session: u32) {
        let at = self.start.elapsed();
        self.rooms.entered.insert((room, party, session), at);
    }

    /// How many of the sessions in a room have not got the newest message of its archive, though others came to them.
    pub fn awaited(&self, room: u32, present: &[(u32, u32, bool)]) -> usize {
        let Some(newest) = self.archives.get(&room).and_then(|items| items.iter().rfind(|(_, key)| key.is_some()))
        else {
            return 0;
        };
        let lacks = |&&(party, session, _): &&(u32, u32, bool)| {
            let stream = (room, party, session);
            let seen = self.rooms.live.get(&stream).map(Vec::as_slice).unwrap_or_default();
            let newest_seen =
                seen.iter().rfind(|(id, key)| *id == newest.0 || !self.is_echo(&self.rooms, stream, *key));
            newest_seen.is_some_and(|(id, _)| *id != newest.0)
        };
        present.iter().filter(lacks).count()
    }

    /// Judges what came in a room since the last time. The room is at rest, its archive was read, and `present` are the
    /// sessions in it: of which party, which one, and whether it reads what it missed.
    pub fn judge_room(&mut self, room: u32, present: &[(u32, u32, bool)]) {
        let mut rooms = std::mem::take(&mut self.rooms);
        let archive = Archive::new(self.archives.get(&room).map(Vec::as_slice).unwrap_or_default());
        let mut found = Vec::new();
        for (party, key) in rooms.nameless.drain(..) {
            let text = format!("{} came to {} without a stanza-id of the room", self.id(key), self.name(party));
            found.push(Violation { rule: Rule::I2, text, keys: vec![key] });
        }
        for (stream, seen) in of_room(&mut rooms.live, room) {
            self.judge_live(&mut rooms, &archive, stream, &seen, &mut found);
        }
        for (stream, seen) in of_room(&mut rooms.read, room) {
            self.judge_read(&mut rooms, &archive, stream, &seen, &mut found);
        }
        for &(party, session, reads) in present {
            self.judge_present(&mut rooms, &archive, (room, party, session), reads, &mut found);
        }
        self.rooms = rooms;
        self.found.append(&mut found);
    }

    fn judge_live(&self, rooms: &mut Rooms, archive: &Archive, at: Stream, seen: &[Seen], found: &mut Vec<Violation>) {
        let (room, party, session) = at;
        let name = self.name(party);
        let mut lost: Vec<&Seen> = Vec::new();
        for one in seen {
            let echo = self.is_echo(rooms, at, one.1);
            let Some(&place) = archive.places.get(&one.0) else {
                lost.extend(Some(one).filter(|_| !echo));
                continue;
            };
            rooms.known.entry((room, party)).or_default().insert(place);
            if echo && rooms.newest.get(&at).is_none_or(|last| place <= *last) {
                continue;
            }
            let last = rooms.newest.insert(at, place);
            match last {
                Some(last) if place < last => {
                    let before = archive.items[last].1;
                    let text = format!(
                        "{} comes after {} at {name}, session {session}, and before it in the archive of {}",
                        self.id(one.1),
                        self.id(before),
                        self.account_name(room)
                    );
                    found.push(Violation { rule: Rule::I3, text, keys: vec![before, one.1] });
                    rooms.newest.insert(at, last);
                }
                Some(last) if place > last + 1 => {
                    self.left_out(archive, last + 1..place, &format!("{name}, session {session},"), found);
                }
                Some(_) => {}
                None => self.before_first(rooms, archive, at, place, found),
            }
        }
        for (at, later) in lost.iter().enumerate() {
            for earlier in lost.iter().take(at) {
                let other = rooms.before.get(&(room, later.0.clone(), earlier.0.clone()));
                if let Some(other) = other.map(|party| self.name(*party)) {
                    let (one, two) = (self.id(earlier.1), self.id(later.1));
                    let text = format!("{one} comes before {two} at {name}, and after it at {other}");
                    found.push(Violation { rule: Rule::I3, text, keys: vec![earlier.1, later.1] });
                } else {
                    rooms.before.entry((room, earlier.0.clone(), later.0.clone())).or_insert(party);
                }
            }
        }
    }

    /// Whether a message on a session may be an echo: its account has sent it before it entered, and again.
    fn is_echo(&self, rooms: &Rooms, at: Stream, key: Key) -> bool {
        let sender = self.conversations[key.conversation as usize].from;
        let before = |sent: &Duration| rooms.entered.get(&at).is_none_or(|entered| sent <= entered);
        let sent = self.messages.get(&key).map(|message| message.sent.as_slice()).unwrap_or_default();
        self.parties[at.1 as usize].account == sender && sent.len() > 1 && sent.first().is_some_and(before)
    }

    /// What was sent after the occupant had entered is not missing before the first that came.
    fn before_first(&self, rooms: &Rooms, archive: &Archive, at: Stream, first: usize, found: &mut Vec<Violation>) {
        let Some(&entered) = rooms.entered.get(&at) else { return };
        let sent_since = |place: &usize| {
            let message = archive.items.get(*place).and_then(|(_, key)| self.messages.get(key));
            message.and_then(|message| message.sent.first()).is_some_and(|sent| *sent > entered)
        };
        if let Some(begin) = (0..first).find(sent_since) {
            self.left_out(archive, begin..first, &format!("{}, session {},", self.name(at.1), at.2), found);
        }
    }

    fn judge_read(&self, rooms: &mut Rooms, archive: &Archive, at: Stream, seen: &[Seen], found: &mut Vec<Violation>) {
        let (room, party, _) = at;
        for (id, key) in seen {
            let text = match archive.places.get(id) {
                None => format!("{} is in the archive that {} reads, and not in ours", self.id(*key), self.name(party)),
                Some(&place) => {
                    rooms.known.entry((room, party)).or_default().insert(place);
                    match rooms.newest_read.insert(at, place) {
                        Some(last) if place <= last => {
                            let before = self.id(archive.items[last].1);
                            format!(
                                "{} comes after {before} in the archive that {} reads",
                                self.id(*key),
                                self.name(party)
                            )
                        }
                        _ => continue,
                    }
                }
            };
            found.push(Violation { rule: Rule::I3, text, keys: vec![*key] });
        }
    }

    fn judge_present(&self, rooms: &mut Rooms, archive: &Archive, at: Stream, reads: bool, found: &mut Vec<Violation>) {
        let Some(newest) = archive.items.len().checked_sub(1) else { return };
        let (room, party, session) = at;
        let name = format!("{}, session {session}, which is in the room,", self.name(party));
        match rooms.newest.insert(at, newest) {
            Some(last) if last < newest => self.left_out(archive, last + 1..newest + 1, &name, found),
            Some(_) => {}
            None => self.before_first(rooms, archive, at, newest + 1, found),
        }
        let known = rooms.known.entry((room, party)).or_default();
        if let Some(&first) = known.first().filter(|_| reads)
            && let Some(hole) = (first..newest + 1).find(|place| !known.contains(place))
        {
            let end = (hole..newest + 1).find(|place| known.contains(place)).unwrap_or(newest + 1);
            known.extend(first..newest + 1);
            self.left_out(archive, hole..end, &format!("{}, which reads what it missed,", self.name(party)), found);
        }
    }

    fn left_out(&self, archive: &Archive, places: std::ops::Range<usize>, by: &str, found: &mut Vec<Violation>) {
        let count = places.len();
        let Some((_, key)) = archive.items.get(places.start) else { return };
        let more = if count > 1 { format!(" ({} more after it)", count - 1) } else { String::new() };
        let text = format!("{} is in the archive, and {by} has not got it{more}", self.id(*key));
        found.push(Violation { rule: Rule::Delivery, text, keys: vec![*key] });
    }

    fn name(&self, party: u32) -> &str {
        &self.parties[party as usize].name
    }
}

/// The streams of a room, which are judged now.
fn of_room(streams: &mut BTreeMap<Stream, Vec<Seen>>, room: u32) -> BTreeMap<Stream, Vec<Seen>> {
    let mut here = streams.split_off(&(room, 0, 0));
    let mut others = here.split_off(&(room + 1, 0, 0));
    streams.append(&mut others);
    here
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Care, What};

    const ROOM: u32 = 2;
    const AUDIT: u32 = 2;

    /// Two people in a room, each with a device; `messages` of the first are said, acknowledged and archived.
    fn room(messages: u32) -> Ledger {
        let mut ledger = Ledger::new(7, false);
        for (name, account) in [("a/phone", 0), ("b/phone", 1), ("room/archive", ROOM)] {
            ledger.join(name, account);
        }
        ledger.open_with(0, ROOM, Care::Room);
        (0..2).for_each(|party| ledger.entered(ROOM, party, 0));
        (0..messages).for_each(|seq| said(&mut ledger, seq));
        ledger
    }

    fn key(seq: u32) -> Key {
        Key { conversation: 0, seq }
    }

    fn said(ledger: &mut Ledger, seq: u32) {
        ledger.note(0, What::Sent(key(seq)));
        ledger.note(0, What::Acked(key(seq)));
        ledger.note_archived(AUDIT, vec![(format!("id{seq}"), Some(key(seq)))]);
    }

    fn came(ledger: &mut Ledger, party: u32, session: u32, path: Path, seqs: &[u32]) {
        for &seq in seqs {
            let stanza_id = Some(format!("id{seq}").into());
            ledger.note(party, What::Received { key: key(seq), path, session, stanza_id });
        }
    }

    fn verdict(ledger: &mut Ledger, present: &[(u32, u32, bool)]) -> Vec<(Rule, String)> {
        ledger.judge_room(ROOM, present);
        ledger.judge().into_iter().map(|found| (found.rule, found.text)).collect()
    }

    const BOTH: [(u32, u32, bool); 2] = [(0, 0, false), (1, 0, false)];

    #[test]
    fn a_room_in_which_all_see_the_same_has_no_fault() {
        let mut ledger = room(3);
        (0..2).for_each(|party| came(&mut ledger, party, 0, Path::Live, &[0, 1, 2]));
        assert_eq!(verdict(&mut ledger, &BOTH), []);
        // Nor has what is judged later, and goes on.
        said(&mut ledger, 3);
        assert_eq!(ledger.awaited(ROOM, &BOTH), 0);
        came(&mut ledger, 0, 0, Path::Live, &[3]);
        came(&mut ledger, 1, 0, Path::Live, &[3]);
        assert_eq!(verdict(&mut ledger, &BOTH), []);
    }

    #[test]
    fn what_the_archive_has_not_is_lost_and_what_it_has_twice_is_twice() {
        let mut ledger = room(1);
        ledger.note(0, What::Sent(key(1)));
        ledger.note(0, What::Acked(key(1)));
        let rules: Vec<Rule> = verdict(&mut ledger, &[]).into_iter().map(|(rule, _)| rule).collect();
        assert_eq!(rules, [Rule::I1, Rule::I1]);
        let mut ledger = room(1);
        ledger.note_archived(AUDIT, vec![("other".into(), Some(key(0)))]);
        let texts: Vec<String> = verdict(&mut ledger, &[]).into_iter().map(|(_, text)| text).collect();
        let expected = ["is 2 times in the archive of room", "has the stanza-ids id0 and other at room"];
        assert_eq!(texts, expected.map(|text| format!("l0007-0-0 {text}")));
    }

    #[test]
    fn one_stanza_id_counts_for_all_occupants() {
        let mut ledger = room(1);
        came(&mut ledger, 0, 0, Path::Live, &[0]);
        let what = What::Received { key: key(0), path: Path::Live, session: 0, stanza_id: Some("id7".into()) };
        ledger.note(1, what);
        let text = "l0007-0-0 has the stanza-ids id0 and id7 at room";
        assert_eq!(verdict(&mut ledger, &[]), [(Rule::I2, text.into())]);
        let mut ledger = room(1);
        ledger.note(1, What::Received { key: key(0), path: Path::Live, session: 0, stanza_id: None });
        let text = "l0007-0-0 came to b/phone without a stanza-id of the room";
        assert_eq!(verdict(&mut ledger, &[]), [(Rule::I2, text.into())]);
    }

    #[test]
    fn another_order_than_the_archives_is_found() {
        let mut ledger = room(3);
        came(&mut ledger, 0, 0, Path::Live, &[0, 1, 2]);
        came(&mut ledger, 1, 0, Path::Live, &[0, 2, 1]);
        let found = verdict(&mut ledger, &[]);
        let text = "l0007-0-1 comes after l0007-0-2 at b/phone, session 0, and before it in the archive of room";
        assert!(found.contains(&(Rule::I3, text.into())), "{found:?}");
        let mut ledger = room(2);
        came(&mut ledger, 1, 0, Path::Archive, &[1, 0]);
        let found = verdict(&mut ledger, &[]);
        let text = "l0007-0-0 comes after l0007-0-1 in the archive that b/phone reads";
        assert!(found.contains(&(Rule::I3, text.into())), "{found:?}");
    }

    #[test]
    fn gaps_are_found_at_the_beginning_within_and_at_the_end() {
        for (seqs, present, missing) in [
            (&[0, 2][..], false, "l0007-0-1 is in the archive, and b/phone, session 0, has not got it"),
            (&[2], false, "l0007-0-0 is in the archive, and b/phone, session 0, has not got it (1 more after it)"),
            (
                &[0],
                true,
                "l0007-0-1 is in the archive, and b/phone, session 0, which is in the room, has not got it (1 more after it)",
            ),
            (&[0], false, ""),
        ] {
            let mut ledger = room(3);
            came(&mut ledger, 1, 0, Path::Live, seqs);
            let present = if present { &BOTH[1..] } else { &[] };
            assert_eq!(ledger.awaited(ROOM, present), present.len());
            let texts: Vec<String> = verdict(&mut ledger, present).into_iter().map(|(_, text)| text).collect();
            assert_eq!(texts, Vec::from_iter((!missing.is_empty()).then(|| missing.to_owned())));
            assert_eq!(verdict(&mut ledger, present), [], "found once");
        }
    }

    #[test]
    fn an_echo_of_what_was_sent_again_comes_late_and_to_its_sender_alone() {
        let story = |party: u32, again: bool| {
            let mut ledger = room(1);
            ledger.open_with(1, ROOM, Care::Room);
            let answer = Key { conversation: 1, seq: 0 };
            ledger.note(1, What::Sent(answer));
            ledger.note(1, What::Acked(answer));
            ledger.note_archived(AUDIT, vec![("answer".into(), Some(answer))]);
            if again {
                ledger.note(0, What::Sent(key(0)));
            }
            let stanza_id = Some("answer".into());
            ledger.note(party, What::Received { key: answer, path: Path::Live, session: 1, stanza_id });
            came(&mut ledger, party, 1, Path::Live, &[0]);
            !verdict(&mut ledger, &[]).is_empty()
        };
        assert!(!story(0, true));
        assert!(story(0, false) && story(1, true));
    }

    #[test]
    fn who_reads_what_it_missed_has_all() {
        let story = |read: &[u32]| {
            let mut ledger = room(4);
            came(&mut ledger, 1, 0, Path::Live, &[0]);
            ledger.entered(ROOM, 1, 1);
            came(&mut ledger, 1, 1, Path::Archive, read);
            said(&mut ledger, 4);
            came(&mut ledger, 1, 1, Path::Live, &[4]);
            verdict(&mut ledger, &[(1, 1, true)])
        };
        assert_eq!(story(&[1, 2, 3, 4]), []);
        let text = "l0007-0-3 is in the archive, and b/phone, which reads what it missed, has not got it";
        assert_eq!(story(&[1, 2]), [(Rule::Delivery, text.into())]);
    }

    #[test]
    fn two_messages_that_no_archive_has_were_in_one_order_for_all() {
        let mut ledger = room(0);
        (0..2).for_each(|seq| ledger.note(0, What::Sent(key(seq))));
        came(&mut ledger, 0, 0, Path::Live, &[0, 1]);
        came(&mut ledger, 1, 0, Path::Live, &[1, 0]);
        let found = verdict(&mut ledger, &[]);
        let text = "l0007-0-1 comes before l0007-0-0 at b/phone, and after it at a/phone";
        assert!(found.contains(&(Rule::I3, text.into())), "{found:?}");
    }

    #[test]
    fn messages_of_those_who_are_away_are_judged_when_they_are_back() {
        let mut ledger = room(0);
        ledger.note(0, What::Sent(key(0)));
        ledger.stay_away([0]);
        assert_eq!(verdict(&mut ledger, &[]), []);
        ledger.stay_away([]);
        let text = "l0007-0-0 is neither acknowledged nor refused";
        assert_eq!(verdict(&mut ledger, &[]), [(Rule::I5, text.into())]);
    }
}
