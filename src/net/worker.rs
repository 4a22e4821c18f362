//! Buffers that belong to the worker thread, so that a connection owns none while it has nothing to say.
//!
//! They are taken out for the length of one read or write, never across an await. Code that reads or writes inside
//! such a section (a callback that answers on another connection) finds the place empty and gets a set of its own.

use std::cell::Cell;

/// Room for one read from a socket, with an unfinished TLS record (at most 18 KiB) before it.
pub(crate) const INPUT: usize = 64 * 1024;

/// A buffer that grew beyond this is not kept.
const KEEP: usize = 256 * 1024;

thread_local! {
    static BUFFERS: Cell<Option<Box<Buffers>>> = const { Cell::new(None) };
}

/// One worker's buffers.
pub(crate) struct Buffers {
    /// What the socket gave; always [`INPUT`] bytes long.
    pub(crate) input: Vec<u8>,
    /// What will go to the socket.
    pub(crate) wire: Vec<u8>,
    /// What will be sent, before encryption.
    pub(crate) plain: Vec<u8>,
}

/// Runs `use_them` with this worker's buffers; `wire` and `plain` start empty.
pub(crate) fn with_buffers<T>(use_them: impl FnOnce(&mut Buffers) -> T) -> T {
    let mut buffers = BUFFERS
        .take()
        .unwrap_or_else(|| Box::new(Buffers { input: vec![0; INPUT], wire: Vec::new(), plain: Vec::new() }));
    buffers.wire.clear();
    buffers.plain.clear();
    let result = use_them(&mut buffers);
    for grown in [&mut buffers.wire, &mut buffers.plain] {
        grown.clear();
        grown.shrink_to(KEEP);
    }
    BUFFERS.set(Some(buffers));
    result
}
