//! Addresses: no text makes the parser panic, and what it accepts, whole or in parts, it accepts again unchanged.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rookery_xmpp::jid::Jid;
use rookery_xmpp::precis;

fuzz_target!(|text: &str| {
    if let Ok(jid) = Jid::new(text) {
        assert_eq!(Jid::new(jid.as_str()).as_ref(), Ok(&jid));
        let parts = Jid::from_parts(jid.localpart(), jid.domainpart(), jid.resourcepart());
        assert_eq!(parts.as_ref(), Ok(&jid));
        assert!(jid.as_str().len() <= 3 * 1023 + 2);
        assert_eq!(jid.bare().as_str(), jid.bare_str());
        assert_eq!(Jid::new(jid.bare_str()).as_ref(), Ok(&*jid.bare()));
    }
    for prepare in [precis::username_case_mapped, precis::opaque_string] {
        if let Ok(once) = prepare(text) {
            assert_eq!(prepare(&once).as_deref(), Ok(&*once));
        }
    }
});
