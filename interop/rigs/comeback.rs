//! Coming back to a session whose connection was lost (XEP-0198 §5): by one connection, or by two at the same time.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::client::{Connection, Resumption, Target};
use crate::server::PASSWORD;
use crate::{Failure, within};

const ANSWER: Duration = Duration::from_secs(15);

/// What two connections at once led to.
pub struct Rivals {
    /// The one that has the session, or an authenticated one where it was refused.
    pub connection: Connection,
    /// What it was told.
    pub resumption: Resumption,
    /// What arrived on it already.
    pub arrived: Vec<Vec<u8>>,
    /// Both were told that they had it.
    pub both: bool,
    /// And both kept it.
    pub twins: bool,
}

/// Logs in and asks for the session with this id, of whose stanzas `h` were handled.
pub async fn resume(target: &Target, user: &str, id: &str, h: u32) -> Result<(Connection, Resumption), Failure> {
    within(ANSWER, async {
        let mut connection = Connection::log_in(target, user, PASSWORD).await?;
        let resumption = connection.resume(id, h).await?;
        Ok((connection, resumption))
    })
    .await
}

/// Two connections at the same time, as when a client changes networks: the one that lives in the end has the session.
pub async fn resume_twice(target: &Target, user: &str, id: &str, h: u32) -> Result<Rivals, Failure> {
    let alone =
        |(connection, resumption)| Rivals { connection, resumption, arrived: vec![], both: false, twins: false };
    let (one, other) = tokio::join!(resume(target, user, id, h), resume(target, user, id, h));
    match (one, other) {
        (Ok((one, Resumption::Resumed(h))), Ok((other, Resumption::Resumed(other_h)))) => {
            Ok(survivor([(one, h), (other, other_h)]).await)
        }
        (Ok((connection, Resumption::Resumed(h))), _) | (_, Ok((connection, Resumption::Resumed(h)))) => {
            Ok(alone((connection, Resumption::Resumed(h))))
        }
        (Ok(refused), _) | (_, Ok(refused)) => Ok(alone(refused)),
        (Err(failure), Err(_)) => Err(failure),
    }
}

/// Of two connections that both have the session, the one that the server does not close.
async fn survivor(rivals: [(Connection, u32); 2]) -> Rivals {
    let [(mut one, one_h), (mut other, other_h)] = rivals;
    let (mut of_one, mut of_other) = (Vec::new(), Vec::new());
    let end = Instant::now() + ANSWER;
    let mut twins = false;
    loop {
        let other_lives = tokio::select! {
            token = one.element() => match token {
                Ok(token) => { of_one.push(one.bytes(token).to_vec()); continue }
                Err(_) => true,
            },
            token = other.element() => match token {
                Ok(token) => { of_other.push(other.bytes(token).to_vec()); continue }
                Err(_) => false,
            },
            () = sleep_until(end) => {
                twins = true;
                true
            }
        };
        let (connection, h, arrived) = if other_lives { (other, other_h, of_other) } else { (one, one_h, of_one) };
        return Rivals { connection, resumption: Resumption::Resumed(h), arrived, both: true, twins };
    }
}
