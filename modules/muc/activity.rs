//! XEP-0502: how much is said in a room: messages per hour, over the last full day.

use std::time::{Duration, SystemTime};

use rookery_xmpp::ns;
use rookery_xmpp::stanza::Stanza;

const HOUR: Duration = Duration::from_secs(3600);

/// Messages by hour, the current hour first.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// When the first of them began.
    hour: Option<SystemTime>,
    counts: [u32; 25],
    /// How many full hours are counted.
    full: usize,
}

impl Activity {
    /// Another message was sent to all. Counted are those with a text of their own.
    pub(super) fn note(&mut self, now: SystemTime, message: &Stanza) {
        self.turn(now);
        if message.has("body", ns::CLIENT) && !message.has("replace", ns::CORRECT) {
            let [current, ..] = &mut self.counts;
            *current = current.saturating_add(1);
        }
    }

    /// Messages per hour; `None` before an hour has been counted.
    pub(super) fn per_hour(&mut self, now: SystemTime) -> Option<f64> {
        self.turn(now);
        let sum: u32 = self.counts.iter().skip(1).take(self.full).fold(0, |sum, count| sum.saturating_add(*count));
        (self.full > 0).then(|| f64::from(sum) / self.full as f64)
    }

    fn turn(&mut self, now: SystemTime) {
        let began = *self.hour.get_or_insert(now);
        let hours = now.duration_since(began).map_or(0, |since| since.as_secs() / HOUR.as_secs());
        let hours = u32::try_from(hours).unwrap_or(u32::MAX);
        for _ in 0..hours.min(25) {
            self.counts.rotate_right(1);
            let [current, ..] = &mut self.counts;
            *current = 0;
            self.full = (self.full + 1).min(24);
        }
        self.hour = HOUR.checked_mul(hours).and_then(|since| began.checked_add(since)).or(Some(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_per_hour() {
        let start = SystemTime::UNIX_EPOCH;
        let after = |hours: u32| start + HOUR * hours;
        let message: Stanza = "<message type='groupchat'><body>x</body></message>".parse().unwrap();
        let state: Stanza = "<message type='groupchat'><active xmlns='urn:x'/></message>".parse().unwrap();
        let mut activity = Activity::default();
        assert_eq!(activity.per_hour(start), None);
        for _ in 0..6 {
            activity.note(start, &message);
            activity.note(start, &state);
        }
        assert_eq!(activity.per_hour(after(1)), Some(6.0));
        assert_eq!(activity.per_hour(after(3)), Some(2.0));
        assert_eq!(activity.per_hour(after(24)), Some(0.25));
        assert_eq!(activity.per_hour(after(25)), Some(0.0));
        assert_eq!(activity.per_hour(after(1_000_000)), Some(0.0));
        // A clock that goes back changes nothing.
        assert_eq!(activity.per_hour(start), Some(0.0));
    }
}
