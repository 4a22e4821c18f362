//! `rigs limits`: every limit of the server, tried. What comes back is the error that the standards have for it, the server's
//! memory stays flat, and another user, who pings the server all the while from elsewhere, notices nothing.

mod arena;
mod connections;
mod deadlines;
mod elements;
mod sessions;

use crate::{Verdict, process, server};
use arena::Arena;

/// `rigs limits`
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    server: server::Choice,
    /// Only checks whose name holds this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// How many connects that say nothing
    #[arg(long, default_value_t = 20_000)]
    silent: usize,
    /// How long the other user's pings may take, in milliseconds
    #[arg(long, default_value_t = 1000)]
    ping: u64,
}

/// Shorter than the defaults, so that the run is; and no exemption for loopback addresses.
const SHORT: &str = r#"
exempt = []
tls_handshake = "3 seconds"
stream_header = "3 seconds"
authentication = "5 seconds"
write_stall = "4 seconds"
resume = "3 seconds"
offline_messages = 500
connection_rate = "1 MiB"
account_rate = "8 MiB"
roster = 50
"#;

/// As the server is shipped, but for the exemption.
const SHIPPED: &str = "exempt = []\n";

/// What is tried on one server; memory is measured from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Short,
    Plain,
    Tls,
}

/// Tries them all.
pub async fn run(options: &Options) -> Verdict {
    let mut passed = 0;
    let mut failed = 0;
    println!("{:58} {:6} {:>8} {:>9}  what came", "", "", "RSS", "ping");
    for part in [Part::Short, Part::Plain, Part::Tls] {
        let mut choice = options.server.clone();
        let conf = if part == Part::Short { SHORT } else { SHIPPED };
        choice.limits.get_or_insert_with(|| conf.to_owned());
        let mut arena = Arena::open(&choice, options).await?;
        match part {
            Part::Short => {
                println!("{} on {}", arena.server.version(), process::machine());
                elements::try_all(&mut arena).await?;
                deadlines::try_all(&mut arena).await?;
                sessions::try_all(&mut arena).await?;
                connections::try_rates(&mut arena).await?;
            }
            Part::Plain => connections::try_thousands(&mut arena, options.silent).await?,
            Part::Tls => connections::try_thousands_with_tls(&mut arena, options.silent / 4).await?,
        }
        let (ok, bad) = arena.close();
        passed += ok;
        failed += bad;
    }
    println!("{passed} passed, {failed} failed");
    Ok(failed == 0)
}
