//! Certificates of strangers: no bytes make the reading of names, or the verdict, panic; what is told of them can be
//! shown; and no certificate that nobody has issued is valid.
#![no_main]

use std::time::{Duration, UNIX_EPOCH};

use libfuzzer_sys::fuzz_target;
use rookery_net::s2s::identity::names::{MAX_NAMES, Names, Reference};
use rookery_net::s2s::identity::{Role, Trust, judge};
use rookery_net::s2s::roots::Roots;

fuzz_target!(|bytes: &[u8]| {
    let reference = Reference::new("chat.example").unwrap();
    if let Ok(names) = Names::of_extension(bytes) {
        let shown = names.shown();
        assert!(shown.len() <= MAX_NAMES);
        assert!(!shown.iter().any(|name| name.chars().any(char::is_control)));
        let is_there = |name: &String| name.ends_with("chat.example") || name == "*.example";
        assert!(names.prove(&reference).is_none() || shown.iter().any(is_there));
    }
    let roots = Roots::default();
    let chain = [bytes.into()];
    for role in [Role::Initiating, Role::Receiving] {
        let now = UNIX_EPOCH + Duration::from_secs(1_781_481_600);
        let verdict = judge(&chain, "chat.example", &Trust::new(&roots, role), now);
        assert!(!verdict.is_valid());
        assert!(!verdict.to_string().chars().any(char::is_control));
    }
});
