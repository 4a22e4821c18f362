//! More than the server can do: first what it can, then shares of that, up to twice as much, at a fixed rate.

use std::time::Duration;

use super::super::Figure;
use super::Options;
use super::pace::{Pace, Pairs, connect};
use crate::server::Server;

/// In hundredths of what it can do.
const SHARES: [u32; 4] = [50, 100, 150, 200];

/// What waits at the end of a step arrives before the next.
pub(super) async fn measure(
    server: &Server,
    options: &Options,
    figures: &mut Vec<Figure>,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut people = connect(server, options.pairs).await?;
    let time = Duration::from_secs(options.seconds);
    let settle = time / 4;

    let pairs = Pairs::begin(people, Pace::Closed(10), 0);
    pairs.look(settle).await;
    let most = pairs.look(time).await;
    people = pairs.end().await?;
    Figure {
        what: "edge: 10 in flight, as fast as it goes".into(),
        values: vec![most.rate],
        unit: "a second",
        note: format!("p50 {:.1?} p99 {:.1?}", most.p50, most.p99),
    }
    .done(figures);
    for (series, share) in (1..).zip(SHARES) {
        let pairs = Pairs::begin(people, Pace::Open(most.rate * f64::from(share) / 100.0), series);
        pairs.look(settle).await;
        let early = pairs.look(time / 2).await;
        let late = pairs.look(time / 2).await;
        people = pairs.end().await?;
        Figure {
            what: format!("edge: {share} % of that is asked for, delivered"),
            values: vec![(early.rate + late.rate) / 2.0 / most.rate * 100.0],
            unit: "%",
            note: format!(
                "p50 {:.1?} then {:.1?}, p99 {:.1?} then {:.1?}, the slowest pair {:.0} % of the fastest",
                early.p50,
                late.p50,
                early.p99,
                late.p99,
                late.evenness * 100.0
            ),
        }
        .done(figures);
    }
    Ok(())
}
