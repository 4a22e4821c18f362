//! The framer: however a stream is cut into pieces, the frames and the error are the same. The first bytes say how it is
//! cut and under which limits. Best run with `-dict=xml.dict`.
#![no_main]

#[path = "../../src/xmpp/tests/invariants/mod.rs"]
#[expect(dead_code, reason = "the parser has a target of its own")]
mod invariants;

use libfuzzer_sys::fuzz_target;
use rookery_xmpp::limits::Limits;

fuzz_target!(|input: (u8, u8, bool, bool, &[u8])| {
    let (one, other, small, inside, rest) = input;
    let limits = if small {
        invariants::LIMITS
    } else {
        Limits::pre_auth()
    };
    let cuts = [usize::from(one), usize::from(other)];
    if inside {
        let whole = [invariants::HEADER.as_bytes(), rest].concat();
        invariants::cuts_do_not_matter(limits, &whole, &cuts);
    } else {
        invariants::cuts_do_not_matter(limits, rest, &cuts);
    }
});
