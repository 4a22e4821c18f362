//! The features of the server, one file or folder each. Each lists its doors in its `hooks()`.
//!
//! A module meets others only in `rookery-core`: a hook, a store, a slot. It reads no socket and writes no SQL.

pub mod archive;
pub mod blocking;
pub mod caps;
pub mod carbons;
pub mod disco;
pub mod flexible_offline;
pub mod last;
pub mod muc;
pub mod offline;
pub mod ping;
pub mod presence;
pub mod register;
pub mod roster;
pub mod stanza_id;
pub mod stream_limits;
pub mod stream_management;
pub mod time;
pub mod version;

use rookery_core::module::Entry;

/// All modules, in the order in which they see a stanza inside a stage.
pub const ALL: &[Entry] = &[
    Entry::of::<blocking::Blocking>(),
    Entry::of::<carbons::Carbons>(),
    Entry::of::<stanza_id::StanzaId>(),
    Entry::of::<archive::Archive>(),
    Entry::of::<offline::Offline>(),
    Entry::of::<flexible_offline::FlexibleOffline>(),
    Entry::of::<stream_management::StreamManagement>(),
    Entry::of::<roster::Roster>(),
    Entry::of::<caps::Caps>(),
    Entry::of::<presence::Presence>(),
    Entry::of::<disco::Disco>(),
    Entry::of::<ping::Ping>(),
    Entry::of::<version::Version>(),
    Entry::of::<time::Time>(),
    Entry::of::<last::Last>(),
    Entry::of::<stream_limits::StreamLimits>(),
    Entry::of::<register::Register>(),
    Entry::of::<muc::Muc>(),
];

/// The code in ARCHITECTURE.md must compile.
#[cfg(doctest)]
#[doc = include_str!("../ARCHITECTURE.md")]
pub struct Architecture;
