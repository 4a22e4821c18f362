//! The binary: `rookery serve`, `rookery check`, `rookery user ...`, `rookery room ...`.

use std::process::ExitCode;
use std::time::Instant;

mod cli;

/// What one thread takes and another gives back, as every message is, costs a good deal less here than in the C library's.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    cli::run(Instant::now())
}
