//! XEP-0045: Multi-User Chat. A [`room::Room`] is a state machine: it is given a stanza, and says what goes out and what is
//! to be stored.
//!
//! A stanza's way: `room` looks at its kind; `entering`, `availability`, `leaving` are presence; `speaking`, `private`,
//! `invitations`, `forms` are messages; `queries`, `admin`, `owner`, `registration`, `moderation`, `info`, `avatar`, `hats`
//! are IQs. `people` does what follows from a change of affiliations, `announce` says who is told. Who may do what stands
//! in `permissions` and nowhere else.

mod activity;
mod admin;
pub mod administration;
mod affiliations;
mod announce;
mod availability;
mod avatar;
mod away;
pub mod config;
mod config_form;
mod entering;
mod forms;
mod hats;
mod history;
pub mod image;
mod info;
mod invitations;
mod leaving;
mod moderation;
mod nicks;
mod occupants;
mod orders;
pub mod outcome;
mod owner;
mod payload;
mod people;
pub mod permissions;
mod private;
mod queries;
mod registration;
pub mod roles;
pub mod room;
pub mod service;
mod speaking;
pub mod status;
mod subject;
mod tokens;
mod versions;

pub use self::entering::not_in_the_room;
pub use self::service::{Muc, StoppedRooms};

#[cfg(test)]
mod tests;
