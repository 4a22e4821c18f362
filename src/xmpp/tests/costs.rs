//! Memory that a message costs on its way, counted: allocations per stanza, and none where there should be none.
#![expect(unsafe_code, reason = "counting allocations takes an allocator of one's own")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use rookery_xmpp::framer::{Frame, Framer};
use rookery_xmpp::jid::Jid;
use rookery_xmpp::limits::Limits;
use rookery_xmpp::ns;
use rookery_xmpp::parser::{Parsed, parse};

struct Counting;

thread_local! {
    // Tests run in threads of their own: each counts for itself.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
}

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = ALLOCATIONS.get();
    let result = work();
    (ALLOCATIONS.get() - before, result)
}

const HEADER: &str = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
const MESSAGE: &str = "<message to='bob@example.org/phone' type='chat' id='5f4dcc3b'><body>Hello, how are you?</body>\
    <active xmlns='http://jabber.org/protocol/chatstates'/><origin-id xmlns='urn:xmpp:sid:0' id='5f4dcc3b'/></message>";

#[test]
fn a_chat_message_costs_few_allocations() {
    let mut framer = Framer::new(Limits::c2s());
    let Ok(Some(Frame::Header(header))) = framer.next(&mut HEADER.as_bytes()) else { panic!("no header") };

    let (framing, frame) = allocations(|| framer.next(&mut MESSAGE.as_bytes()));
    let Ok(Some(Frame::Element(bytes))) = frame else { panic!("no element") };
    assert_eq!(framing, 1, "the frame itself");

    let (parsing, parsed) = allocations(|| parse(bytes, &header.namespaces));
    let Ok(Parsed::Stanza(mut stanza)) = parsed else { panic!("no stanza") };
    assert!(parsing <= PARSING, "{parsing}");

    let (looking, _) = allocations(|| {
        assert!(stanza.has("body", ns::CLIENT) && stanza.has_ns(ns::SID) && !stanza.has_ns(ns::MAM));
        assert_eq!(stanza.payload_name(), Some((ns::CLIENT, "body")));
        assert_eq!(stanza.strip(&[(ns::MAM, "result"), (ns::SID, "stanza-id")]), 0);
        assert!(stanza.find("result", ns::MAM).is_none());
        stanza.size()
    });
    assert_eq!(looking, 0);

    // A copy for another recipient shares addresses and bytes; only the id is its own.
    let (copying, copy) = allocations(|| stanza.clone());
    assert_eq!(copying, 1);

    let to: Jid = "carol@example.org".parse().unwrap();
    let mut out = Vec::with_capacity(1000);
    let (writing, ()) = allocations(|| {
        copy.write(&mut out, Some(&to));
        copy.write_standalone(&mut out);
    });
    assert_eq!(writing, 0);
}

/// The addressee, the id, and what clones share; the tokeniser's two stacks of open names.
const PARSING: usize = 6;

#[test]
fn elements_made_by_the_server_are_written_without_allocation() {
    let stanza: rookery_xmpp::stanza::Stanza = MESSAGE.parse().unwrap();
    let mut edited = stanza;
    edited.children_mut();
    let mut out = Vec::with_capacity(1000);
    assert_eq!(allocations(|| edited.write(&mut out, None)).0, 0);
    assert_eq!(allocations(|| edited.clone()).0, 1);
}
