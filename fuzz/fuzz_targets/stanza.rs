//! The parser: what is accepted means the same as the sender's bytes, as elements and after being written, and is one
//! element. Best run with `-dict=xml.dict`.
#![no_main]

#[path = "../../src/xmpp/tests/invariants/mod.rs"]
#[expect(dead_code, reason = "the framer has a target of its own")]
mod invariants;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    invariants::both_paths_agree(input);
});
