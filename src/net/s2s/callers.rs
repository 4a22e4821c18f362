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

use std::sync::Arc;
use std::time::Duration;

use rookery_xmpp::jid::BareJid;
use rustls::pki_types::CertificateDer;
use tracing::debug;

use super::Common;
use super::identity::Verdict;
use super::settings::Settings;
use super::turns::Turn;
use crate::dns::{LookupError, Target};

/// How long DNS may take when nothing else speaks for the caller.
const PATIENCE: Duration = Duration::from_secs(5);

/// The same when an authority does.
const SHORT_PATIENCE: Duration = Duration::from_secs(2);

/// Why a caller is not believed whose address has DNS asked for too much.
const BUSY: &str = "it could not be asked, since its address has it asked for too many domains at once";

/// Domains that DNS is asked for at a time because of callers.
pub(super) const MOST_LOOKUPS: usize = 64;

/// The same because of one address.
pub(super) const MOST_LOOKUPS_OF_ONE: usize = 4;

/// Judges the chain that a caller at `address` has shown for `remote`.
pub(super) async fn judge(
    common: &Arc<Common>,
    settings: &Settings,
    chain: &[CertificateDer<'_>],
    remote: &BareJid,
    address: std::net::IpAddr,
) -> Verdict {
    if let Some(verdict) = judge_at_once(common, settings, chain, remote) {
        return verdict;
    }
    let vouched = settings.judge_caller(chain, remote, Ok(&[]));
    let patience = if vouched.is_valid() { SHORT_PATIENCE } else { PATIENCE };
    let mut ending = common.ending();
    let of = (!settings.is_exempt(address)).then_some(address);
    let turn = tokio::select! {
        turn = tokio::time::timeout(PATIENCE, common.lookups.take(of)) => turn.ok().flatten(),
        () = ending.begun() => None,
    };
    let Some(turn) = turn else {
        // Whoever takes all of its address's turns for something else must not be spared the question for it.
        let is_its_doing = of.is_some_and(|address| common.lookups.are_taken(address));
        return if is_its_doing { settings.judge_caller(chain, remote, Err(BUSY)) } else { vouched };
    };
    let found = tokio::select! {
        found = tokio::time::timeout(patience, look_up(common, remote, turn)) => found.ok().flatten(),
        () = ending.begun() => None,
    };
    match found {
        Some(found) => judge_by(settings, chain, remote, found),
        None => {
            debug!(%remote, %address, "DNS does not say in time what keys a caller has");
            vouched
        }
    }
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
async fn look_up(common: &Arc<Common>, remote: &BareJid, turn: Turn) -> Option<Result<Vec<Target>, LookupError>> {
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
