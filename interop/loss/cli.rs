//! The command line, and what it starts.

use std::future::Future;
use std::pin::Pin;

use clap::{Parser, Subcommand};
use rookery_rigs::Failure;

use crate::report::Report;
use crate::{ci, rooms, t1, t2, t3, t4, t5, t6, t7, t8, t9, t11, t14};

/// Proves that a server loses nothing it acknowledged, or shows what it lost.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    /// Which
    #[command(subcommand)]
    pub scenario: Scenario,
}

/// The scenarios, by their numbers in the plan that they come from.
#[derive(Debug, Subcommand)]
pub enum Scenario {
    /// kill -9 under traffic, again and again
    T1(t1::Kill),
    /// No acknowledgement before the disk has what it covers
    T2(t2::Order),
    /// Power cuts
    T3(t3::Power),
    /// Connections that are cut again and again
    T4(t4::Flapping),
    /// Sessions that are never resumed
    T5(t5::Expiry),
    /// Clients that stop reading
    T6(t6::Slow),
    /// A database that is slow or gone
    T7(t7::Database),
    /// A disk that is full or fails
    T8(t8::Disk),
    /// A clock that jumps
    T9(t9::Clock),
    /// Restarts under load
    T11(t11::Restart),
    /// Counters that come round
    T14(t14::Counters),
    /// kill -9 while everybody talks in rooms
    Rooms(rooms::Rooms),
    /// All of them, each short: what the project's tests run
    Ci(ci::Short),
}

impl Scenario {
    /// Plays it.
    pub fn play(&self) -> Pin<Box<dyn Future<Output = Result<Report, Failure>> + '_>> {
        match self {
            Self::T1(options) => Box::pin(t1::run(options)),
            Self::T2(options) => Box::pin(t2::run(options)),
            Self::T3(options) => Box::pin(t3::run(options)),
            Self::T4(options) => Box::pin(t4::run(options)),
            Self::T5(options) => Box::pin(t5::run(options)),
            Self::T6(options) => Box::pin(t6::run(options)),
            Self::T7(options) => Box::pin(t7::run(options)),
            Self::T8(options) => Box::pin(t8::run(options)),
            Self::T9(options) => Box::pin(t9::run(options)),
            Self::T11(options) => Box::pin(t11::run(options)),
            Self::T14(options) => Box::pin(t14::run(options)),
            Self::Rooms(options) => Box::pin(rooms::run(options)),
            Self::Ci(options) => Box::pin(ci::run(options)),
        }
    }
}
