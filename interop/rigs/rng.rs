//! Randomness that a printed seed brings back (splitmix64).

use std::time::Duration;

/// A generator; each part of a rig forks its own, so that one part's draws do not move another's.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A seed nobody chose.
    pub fn seed() -> u64 {
        getrandom::u64().expect("the system has randomness") >> 16
    }

    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.draw() % end
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Between two durations.
    pub fn between(&mut self, low: Duration, high: Duration) -> Duration {
        low + (high - low).mul_f64(self.below(1 << 32) as f64 / (1_u64 << 32) as f64)
    }

    /// A generator of its own for part number `part`.
    pub fn fork(&mut self, part: u64) -> Self {
        Self(self.draw() ^ part.wrapping_mul(0xd134_2543_de82_ef95))
    }
}
