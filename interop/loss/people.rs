//! Devices for scenarios in which many are alike.

use std::sync::Arc;

use rookery_rigs::rng::Rng;

use crate::device::{Device, Spec};
use crate::world::{World, names};

/// Accounts for so many dialogues: `a0` talks with `b0`.
pub fn users(dialogues: usize) -> Vec<String> {
    [names("a", dialogues), names("b", dialogues)].concat()
}

/// A device for each of these accounts, each pair talking both ways; `tune` says what they are otherwise.
pub fn dialogues(world: &Arc<World>, count: usize, rng: &mut Rng, tune: impl Fn(Spec) -> Spec) -> Vec<Device> {
    let mut devices = Vec::new();
    for number in 0..count as u32 {
        let other = number + count as u32;
        for (from, to) in [(number, other), (other, number)] {
            let talk = world.ledger().open(from, to);
            let spec = tune(Spec::new(from, "phone").talking(vec![talk]));
            devices.push(Device::new(world, spec, rng.fork(u64::from(from))));
        }
    }
    devices
}
