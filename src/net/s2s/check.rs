//! `rookery s2s check`: looks at another domain as a server would that has a message for it, and says what it sees.
//!
//! Nothing is sent but stream headers: no stanza, no proof of who we are. Every address of every server is tried, those too
//! that a server would not get to. What was found is a [`Report`]; what it comes to is [`Report::verdict`]; the words for it
//! are the binary's (`src/cli/s2s`).

mod attempt;
mod report;
mod verdict;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rookery_core::config::{Certificates as Demand, Conf, ListenerKind};
use rookery_xmpp::jid::BareJid;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use tokio::task::JoinSet;
use x509_parser::prelude::{FromDer, X509Certificate};

pub use self::report::{Attempt, Greeting, Lookup, Own, Report, Secured, Speech, Stage, Starttls, Stop};
pub use self::verdict::{At, Denial, Problem, Proof, Verdict, Way};

use self::attempt::Caller;
use self::wire::Asking;
use super::identity::{KeyDigest, Role, Trust, judge};
use super::roots::{Roots, RootsError};
use crate::certificate::CertificateError;
use crate::certs::{Certificates, HostFiles, ascii_host};
use crate::dns::{DnsConf, ResolveError, Resolver, Target};

/// Addresses that are tried, all servers together.
const ADDRESSES: usize = 32;

/// Why nothing could be looked at.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum CheckError {
    #[error("{0}")]
    Roots(#[from] RootsError),
    #[error("{0}")]
    Resolver(#[from] ResolveError),
    #[error("{0} is no domain that TLS can ask for")]
    Name(String),
}

/// Looks at `remote` in the name of `local`, a host of the conf; or, if they are the same, at a domain of ours.
///
/// # Errors
/// What is missing on this side.
pub async fn check(conf: &Conf, local: &BareJid, remote: &BareJid) -> Result<Report, CheckError> {
    let now = SystemTime::now();
    let roots = Roots::load(conf.s2s().authorities.as_deref())?;
    let (ours, own_trouble) = match own_key(conf, local) {
        Ok(ours) => (ours, None),
        Err(error) => (None, Some(error.to_string())),
    };
    let demand = conf.certificates(remote.as_str());
    let pins: Vec<KeyDigest> = conf.remote(remote.as_str()).pin.iter().map(|pin| pin.0).collect();
    let mut report = Report {
        local: local.to_string(),
        remote: remote.to_string(),
        now,
        enabled: conf.s2s().enabled,
        has_port: conf.listeners().iter().any(|listener| listener.kind == ListenerKind::S2s),
        denial: denial(conf, remote.as_str()),
        certificates: demand,
        has_pins: !pins.is_empty(),
        own: ours.as_ref().and_then(|key| own(&key.cert, local.as_str(), &roots, now)),
        own_trouble,
        lookup: Lookup::Skipped,
        attempts: Vec::new(),
    };
    // A look at oneself asks what others see, whom the conf's lists do not bind.
    if !report.enabled || (report.denial.is_some() && !report.is_own()) {
        return Ok(report);
    }
    report.denial = None;
    let resolver = Resolver::new(&DnsConf::of_conf(conf))?;
    let found = match resolver.find(remote.as_str()).await {
        Ok(found) => found,
        Err(error) => {
            report.lookup = Lookup::Failed(error);
            return Ok(report);
        }
    };
    let ascii = ascii_host(remote.as_str()).map_err(|_| CheckError::Name(remote.to_string()))?;
    let asking = Asking::new(&ascii, ours.clone()).ok_or_else(|| CheckError::Name(remote.to_string()))?;
    let caller = Arc::new(Caller {
        local: local.to_string(),
        remote: remote.to_string(),
        asking,
        patience: conf.s2s().connect.get(),
    });
    report.attempts = attempts(&caller, &found.targets).await;
    for attempt in &mut report.attempts {
        let Some(secured) = &attempt.secured else { continue };
        let trust = Trust::new(&roots, Role::Receiving).pinned(&pins);
        let trust = found.targets.get(attempt.target).map_or(trust, |target| trust.found_at(target));
        attempt.judgement = Some(judge(&secured.chain, remote.as_str(), &trust, now));
        if local == remote {
            let same = |key: &Arc<CertifiedKey>| key.cert.first() == secured.chain.first();
            // A service may have nothing to show; a host always has.
            attempt.is_ours = ours.as_ref().map(same).or_else(|| conf.is_host(local.as_str()).then_some(false));
        }
    }
    report.lookup = Lookup::Found(found);
    Ok(report)
}

/// Tries all addresses at once; the answers are in the order of the targets.
async fn attempts(caller: &Arc<Caller>, targets: &[Target]) -> Vec<Attempt> {
    let ways = targets.iter().enumerate().flat_map(|(place, target)| {
        let addresses = target.addresses.iter().map(|address| SocketAddr::new(*address, target.port));
        addresses.map(move |address| (place, address, target.tls))
    });
    let mut running = JoinSet::new();
    for (order, (target, address, mode)) in ways.take(ADDRESSES).enumerate() {
        let caller = caller.clone();
        running.spawn(async move { (order, caller.attempt(target, address, mode).await) });
    }
    let mut done = running.join_all().await;
    done.sort_by_key(|(order, _)| *order);
    done.into_iter().map(|(_, attempt)| attempt).collect()
}

fn denial(conf: &Conf, remote: &str) -> Option<Denial> {
    let s2s = conf.s2s();
    if conf.certificates(remote) == Demand::Refuse {
        Some(Denial::Section)
    } else if s2s.deny.has(remote) {
        Some(Denial::Denied)
    } else if !s2s.allow.has(remote) {
        Some(Denial::NotAllowed)
    } else {
        None
    }
}

/// The certificate that the server would show, if there is one: none is made.
fn own_key(conf: &Conf, local: &BareJid) -> Result<Option<Arc<CertifiedKey>>, CertificateError> {
    let Some(host) = conf.hosts().iter().find(|host| host.domain == *local) else {
        // A service's own, or that of a host which stands in for it.
        let there = |files: &HostFiles| files.certificate.exists() && files.key.exists();
        let files =
            HostFiles::of_conf(conf).into_iter().filter(there).map(|files| HostFiles { generate: false, ..files });
        let certificates = Certificates::open(files.collect(), None)?;
        return Ok(certificates.of_domain(local.as_str()).map(|certificate| certificate.key().clone()));
    };
    let files = host.certificate_files(conf.server());
    if !files.is_named && !files.certificate.exists() && !files.key.exists() {
        return Ok(None);
    }
    let asked = HostFiles {
        host: local.to_string(),
        certificate: files.certificate,
        key: files.key,
        generate: false,
        service: false,
    };
    let certificates = Certificates::open(vec![asked], None)?;
    Ok(certificates.of_host(local.as_str()).map(|certificate| certificate.key().clone()))
}

/// Our certificate as another server judges it that we call.
fn own(chain: &[CertificateDer<'_>], local: &str, roots: &Roots, now: SystemTime) -> Option<Own> {
    let (begins, ends) = dates(chain)?;
    Some(Own { judgement: judge(chain, local, &Trust::new(roots, Role::Initiating), now), begins, ends })
}

/// From when to when the first certificate is good.
fn dates(chain: &[CertificateDer<'_>]) -> Option<(SystemTime, SystemTime)> {
    let (_, leaf) = X509Certificate::from_der(chain.first()?).ok()?;
    let moment = |seconds: i64| UNIX_EPOCH + Duration::from_secs(seconds.max(0).unsigned_abs());
    Some((moment(leaf.validity().not_before.timestamp()), moment(leaf.validity().not_after.timestamp())))
}
