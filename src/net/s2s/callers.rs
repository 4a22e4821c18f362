//! Whether a server that calls us is who its certificate says, where DNS may name the certificate too (DANE, RFC 7712).
//!
//! The rule is that of our own calls: what the TLSA records of a signed zone say outweighs every authority, for the worse
//! too. The caller may be any of the servers that DNS names for the domain, so it is who it should be if a call to one of them
//! would find that.
//!
//! A stranger makes us ask DNS for a name of its choice. So that takes a TLS handshake with a certificate in it; it is done
//! once for a stream and a domain, so many times at once for all and for one address; what is remembered costs
//! nothing. Who is vouched for by an authority waits only shortly: a DNS that does not answer is no verdict on anybody. One
//! whose answers are forged is.
//!
//! Nobody is believed because there is no turn for the question: a crowd of strangers could take them all, and switch DANE off
//! for everybody. Who has waited for one in vain is to come again (RFC 6120 §4.9.3.17). Nor does a crowd keep everybody away:
//! certificates that nobody vouches for cost nothing, so those who show them have turns of their own; and of a domain with which
//! there are streams, DNS is asked without a turn, by one search at a time as of any domain.

use std::sync::Arc;
use std::time::Duration;

use rookery_xmpp::jid::BareJid;
use rustls::pki_types::CertificateDer;
use tracing::debug;

use super::Common;
use super::identity::Verdict;
use super::settings::Settings;
use super::turns::{Turn, Turns};
use crate::dns::{LookupError, Target};

/// How long DNS may take when nothing else speaks for the caller.
const PATIENCE: Duration = Duration::from_secs(5);

/// The same when an authority does.
const SHORT_PATIENCE: Duration = Duration::from_secs(2);

/// Domains that DNS is asked for at a time because of callers of one kind.
const MOST_LOOKUPS: usize = 64;

/// The same because of one address.
const MOST_LOOKUPS_OF_ONE: usize = 4;

/// Turns at having DNS asked.
pub(super) struct Lookups {
    /// Of callers that an authority vouches for.
    vouched: Turns,
    /// Of the others.
    unvouched: Turns,
}

impl Default for Lookups {
    fn default() -> Self {
        let turns = || Turns::new(MOST_LOOKUPS, MOST_LOOKUPS_OF_ONE);
        Self { vouched: turns(), unvouched: turns() }
    }
}

/// Judges the chain that a caller at `address` has shown for `remote`. `None`: that cannot be said now, since DNS is asked
/// for too many others.
pub(super) async fn judge(
    common: &Arc<Common>,
    settings: &Settings,
    chain: &[CertificateDer<'_>],
    remote: &BareJid,
    address: std::net::IpAddr,
) -> Option<Verdict> {
    if let Some(verdict) = judge_at_once(common, settings, chain, remote) {
        return Some(verdict);
    }
    let by_authority = settings.judge_caller(chain, remote, Ok(&[]));
    let (turns, patience) = match by_authority.is_valid() {
        true => (&common.lookups.vouched, SHORT_PATIENCE),
        false => (&common.lookups.unvouched, PATIENCE),
    };
    let mut ending = common.ending();
    let turn = if common.remotes.has_streams(remote) {
        None
    } else {
        let of = (!settings.is_exempt(address)).then_some(address);
        tokio::select! {
            turn = tokio::time::timeout(PATIENCE, turns.take(of)) => Some(turn.ok().flatten()?),
            () = ending.begun() => return None,
        }
    };
    let found = tokio::select! {
        found = tokio::time::timeout(patience, look_up(common, remote, turn)) => found.ok().flatten(),
        () = ending.begun() => return None,
    };
    Some(match found {
        Some(found) => judge_by(settings, chain, remote, found),
        None => {
            debug!(%remote, %address, "DNS does not say in time what keys a caller has");
            by_authority
        }
    })
}

/// The same as far as DNS need not be asked for it.
pub(super) fn judge_at_once(
    common: &Common,
    settings: &Settings,
    chain: &[CertificateDer<'_>],
    remote: &BareJid,
) -> Option<Verdict> {
    if chain.is_empty() || settings.has_pins(remote) || !common.resolver.validates() {
        return Some(settings.judge_caller(chain, remote, Ok(&[])));
    }
    let found = common.resolver.remembered(remote.as_str())?;
    Some(judge_by(settings, chain, remote, found))
}

fn judge_by(
    settings: &Settings,
    chain: &[CertificateDer<'_>],
    remote: &BareJid,
    found: Result<Vec<Target>, LookupError>,
) -> Verdict {
    match found {
        Ok(targets) => settings.judge_caller(chain, remote, Ok(&targets)),
        Err(LookupError::Bogus(why)) => settings.judge_caller(chain, remote, Err(&why)),
        // There is nothing in DNS, or nothing to be had from it: what authorities say is left.
        Err(error) => {
            debug!(%remote, "nothing is known of a caller's keys in DNS: {error}");
            settings.judge_caller(chain, remote, Ok(&[]))
        }
    }
}

/// Where the domain's servers are; `None` when the search broke off. Who has waited for too long for it goes; what is found is
/// remembered for the next time.
async fn look_up(
    common: &Arc<Common>,
    remote: &BareJid,
    turn: Option<Turn>,
) -> Option<Result<Vec<Target>, LookupError>> {
    let (common, remote) = (common.clone(), remote.clone());
    let search = tokio::spawn(async move {
        // Else, whatever is found, nothing of it says which certificates are right.
        let found = match common.resolver.can_validate().await {
            true => common.resolver.find_servers(remote.as_str()).await,
            false => Ok(Vec::new()),
        };
        drop(turn);
        found
    });
    search.await.ok()
}
