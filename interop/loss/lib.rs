//! The proof that nothing acknowledged is lost: clients that keep a journal, a checker that judges it, and scenarios in which
//! servers lose messages. See `README.md` in this folder. Built on the rigs' client, which shares no code with Rookery.

pub mod archive;
pub mod ci;
pub mod cli;
pub mod device;
pub mod ledger;
pub mod outage;
pub mod people;
pub mod report;
pub mod rooms;
pub mod t1;
pub mod t11;
pub mod t14;
pub mod t2;
pub mod t3;
pub mod t4;
pub mod t5;
pub mod t6;
pub mod t7;
pub mod t8;
pub mod t9;
pub mod trace;
pub mod world;
