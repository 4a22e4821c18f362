//! RFC 2782: the order in which the targets of SRV records are tried. Pure: who draws the numbers is the caller's affair.

use super::target::SrvRecord;

/// Orders records: by priority, and within one priority drawn by weight, so that each is first as often as its weight says
/// (RFC 2782, "Weight"). `below(n)` draws a number from 0 to n, n included, each as likely as the others.
///
/// Both services are one set (XEP-0368 §3): direct TLS is not better than STARTTLS unless its priority says so.
pub fn order<T: AsRef<SrvRecord>>(mut records: Vec<T>, mut below: impl FnMut(u32) -> u32) -> Vec<T> {
    // Stable: within a priority, the records of weight 0 come first, as the RFC has it, so that they have a small chance.
    records.sort_by_key(|record| (record.as_ref().priority, record.as_ref().weight != 0));
    let mut ordered = Vec::with_capacity(records.len());
    while let Some(priority) = records.first().map(|record| record.as_ref().priority) {
        let alike = || records.iter().take_while(|record| record.as_ref().priority == priority);
        let sum = alike().map(|record| u32::from(record.as_ref().weight)).sum();
        let drawn = below(sum);
        let mut running = 0;
        let chosen = alike().position(|record| {
            running += u32::from(record.as_ref().weight);
            running >= drawn
        });
        ordered.push(records.remove(chosen.unwrap_or(0)));
    }
    ordered
}

impl AsRef<Self> for SrvRecord {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// Draws from 0 to `max` by the operating system's generator.
pub(crate) fn draw(max: u32) -> u32 {
    // Without randomness the order is still one of priority.
    let random = getrandom::u32().unwrap_or_default();
    // Multiplying instead of a remainder: even but for one part in 2^32 / max, which no weight of 16 bits can show.
    ((u64::from(random) * (u64::from(max) + 1)) >> 32) as u32
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "tests")]

    use std::collections::HashMap;

    use super::*;
    use crate::dns::target::TlsMode;

    fn record(priority: u16, weight: u16, host: &str) -> SrvRecord {
        SrvRecord { tls: TlsMode::Starttls, priority, weight, port: 5269, host: host.to_owned() }
    }

    /// xorshift64*, seeded: the same numbers in each run.
    fn seeded(seed: u64) -> impl FnMut(u32) -> u32 {
        let mut state = seed;
        move |max| {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            let random = state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32;
            ((random * (u64::from(max) + 1)) >> 32) as u32
        }
    }

    #[test]
    fn lower_priorities_come_first_and_nothing_is_lost() {
        let mut below = seeded(1);
        for _ in 0..100 {
            let records = vec![record(20, 9, "c"), record(10, 0, "a"), record(30, 0, "d"), record(10, 5, "b")];
            let hosts: Vec<_> = order(records, &mut below).into_iter().map(|record| record.host).collect();
            assert_eq!(hosts.len(), 4);
            assert_eq!(hosts[2..], ["c", "d"]);
        }
    }

    #[test]
    fn the_first_is_drawn_by_weight() {
        const ROUNDS: u32 = 100_000;
        let mut below = seeded(2);
        let mut first: HashMap<String, u32> = HashMap::new();
        let mut second_of_a = 0;
        for _ in 0..ROUNDS {
            let ordered = order(vec![record(1, 60, "a"), record(1, 30, "b"), record(1, 10, "c")], &mut below);
            *first.entry(ordered[0].host.clone()).or_default() += 1;
            second_of_a += u32::from(ordered[0].host == "a" && ordered[1].host == "b");
        }
        // The RFC draws from 0 to the sum, both included: the first in the list has 61 of 101 chances.
        let close = |count: u32, share: f64| (f64::from(count) / f64::from(ROUNDS) - share).abs() < 0.01;
        assert!(close(first["a"], 61.0 / 101.0), "{first:?}");
        assert!(close(first["b"], 30.0 / 101.0), "{first:?}");
        assert!(close(first["c"], 10.0 / 101.0), "{first:?}");
        assert!(close(second_of_a, 61.0 / 101.0 * 31.0 / 41.0), "{second_of_a}");
    }

    #[test]
    fn weight_zero_has_a_small_chance_and_no_more() {
        const ROUNDS: u32 = 100_000;
        let mut below = seeded(3);
        let first = (0..ROUNDS)
            .filter(|_| order(vec![record(1, 99, "a"), record(1, 0, "b")], &mut below)[0].host == "b")
            .count();
        assert!((500..2000).contains(&first), "{first}");
    }

    #[test]
    fn the_system_draws_evenly() {
        let mut counts = [0_u32; 4];
        for _ in 0..40_000 {
            counts[draw(3) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (9_400..10_600).contains(count)), "{counts:?}");
        assert_eq!(draw(0), 0);
    }
}
