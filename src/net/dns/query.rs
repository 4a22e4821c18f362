//! One question to DNS, and what its answer is worth: signed, unsigned, none, bogus. hickory-resolver asks and validates.
//!
//! Validation (RFC 4033 to 4035) takes nameservers that hand signatures on. Some do not; with them every answer would look
//! bogus. So the root is asked first (`Probe`), and where it comes without its signature, answers are taken unvalidated, which
//! is said once in the log: then there is no DANE, and certificates are judged as if no zone were signed.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::dnssec::{Proof, TrustAnchors};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RData, RecordType};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ProtocolConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use tokio::time::{Instant, timeout};
use tracing::warn;

use super::conf::DnsConf;
use super::resolver::ResolveError;

mod probe;

use probe::Probe;

/// Responses that hickory remembers, beside the cache of whole searches: hosts that serve many domains.
const RESPONSES: u64 = 1024;
/// How long an answer may be believed at most, whatever its TTL says.
pub(super) const LONGEST: Duration = Duration::from_secs(3600);
/// How long the absence of a record may be believed at most (RFC 2308 §5 allows hours; an admin who adds a record waits).
pub(super) const LONGEST_ABSENCE: Duration = Duration::from_secs(15 * 60);
/// How long absence is believed when the answer has no SOA to say it.
const ABSENCE: Duration = Duration::from_secs(60);
/// A chain of CNAMEs is followed so far, as hickory does.
const MAX_ALIASES: usize = 8;

/// Records of a kind.
#[derive(Debug)]
pub(super) struct Answer {
    /// At least one, of the kind that was asked for.
    pub(super) records: Vec<RData>,
    /// Whether all of it, CNAMEs included, is signed by a chain from the trust anchor.
    pub(super) secure: bool,
    /// How long it may be believed.
    pub(super) ttl: Duration,
}

/// There are none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// The name has no such records; `name` says whether it exists at all.
    Absent { name: bool, ttl: Duration },
    /// DNSSEC says that the answer is not the zone's.
    Bogus(String),
    /// The nameservers fail.
    Failing(String),
}

impl NoAnswer {
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent { .. })
    }

    /// What is wrong; nothing, when there is merely no record.
    pub(super) fn why(&self) -> Option<String> {
        match self {
            Self::Absent { .. } => None,
            Self::Bogus(why) | Self::Failing(why) => Some(why.clone()),
        }
    }
}

/// Whom to ask, and how.
#[derive(Debug)]
pub(super) struct Questions {
    plain: TokioResolver,
    validating: Option<TokioResolver>,
    probe: Probe,
    timeout: Duration,
}

impl Questions {
    pub(super) fn new(conf: &DnsConf) -> Result<Self, ResolveError> {
        let (config, mut options) = settings(conf);
        options.cache_size = RESPONSES;
        options.positive_max_ttl = Some(LONGEST);
        options.negative_max_ttl = Some(LONGEST_ABSENCE);
        // What DNSSEC adds does not fit into a UDP answer always.
        options.try_tcp_on_error = true;
        options.timeout = options.timeout.min(conf.timeout / 3).max(Duration::from_millis(200));
        options.attempts = options.attempts.clamp(1, 3);
        let build = |options: ResolverOpts, anchors: Option<Arc<TrustAnchors>>| {
            let provider = TokioRuntimeProvider::default();
            let mut builder = TokioResolver::builder_with_config(config.clone(), provider).with_options(options);
            if let Some(anchors) = anchors {
                builder = builder.with_trust_anchor(anchors);
            }
            builder.build().map_err(|error| ResolveError::Resolver(error.to_string()))
        };
        let validating = match conf.dnssec {
            true => Some(build(options.clone(), Some(Arc::new(anchors(conf)?)))?),
            false => None,
        };
        let nameservers = config.name_servers.iter().map(|server| {
            let port = server.connections.first().map_or(53, |connection| connection.port);
            SocketAddr::new(server.ip, port)
        });
        Ok(Self {
            probe: Probe::new(nameservers.collect()),
            plain: build(options, None)?,
            validating,
            timeout: conf.timeout,
        })
    }

    /// Whether signatures are checked.
    pub(super) fn validates(&self) -> bool {
        self.validating.is_some()
    }

    /// The same, and the nameservers give them.
    pub(super) async fn can_validate(&self) -> bool {
        self.validates() && self.probe.hands_signatures_on().await
    }

    /// The records of one kind of a name (A-labels, no final dot).
    pub(super) async fn ask(&self, name: &str, kind: RecordType) -> Result<Answer, NoAnswer> {
        let what = Question { name, kind };
        let Ok(mut fqdn) = Name::from_ascii(name) else {
            return Err(NoAnswer::Absent { name: false, ttl: LONGEST_ABSENCE });
        };
        fqdn.set_fqdn(true);
        let begun = Instant::now();
        let asked = timeout(self.timeout, async {
            let resolver = match &self.validating {
                Some(validating) if self.probe.hands_signatures_on().await => validating,
                _ => &self.plain,
            };
            resolver.lookup(fqdn.clone(), kind).await
        });
        let asked = asked.await.unwrap_or(Err(NetError::Timeout));
        let left = self.timeout.saturating_sub(begun.elapsed());
        let refuses = matches!(asked, Err(NetError::Dns(DnsError::ResponseCode(ResponseCode::ServFail))));
        match asked {
            Ok(lookup) => what.answer(&lookup),
            Err(error) => match what.no_answer(error) {
                NoAnswer::Failing(why) if refuses && !left.is_zero() => {
                    // A nameserver that validates says no more than that it failed. With checking switched off
                    // (RFC 4035 §3.2.2) it gives what it has; then it is the signatures that it does not like.
                    match timeout(left, self.probe.has_unchecked(&fqdn, kind)).await {
                        Ok(true) => Err(NoAnswer::Bogus(format!(
                            "the nameserver refuses {what}, since its DNSSEC signatures are not valid"
                        ))),
                        _ => Err(NoAnswer::Failing(why)),
                    }
                }
                other => Err(other),
            },
        }
    }
}

impl Questions {
    /// The SRV records of a name. Behind an alias hickory looks for them at their own target (its "FIXME: for SRV this
    /// evaluation is inadequate"), so aliases are followed here.
    pub(super) async fn ask_srv(&self, name: &str) -> Result<Answer, NoAnswer> {
        let (mut name, mut secure, mut ttl) = (name.to_owned(), true, LONGEST);
        for _ in 0..MAX_ALIASES {
            let absent = match self.ask(&name, RecordType::SRV).await {
                Ok(answer) => {
                    return Ok(Answer { secure: answer.secure && secure, ttl: answer.ttl.min(ttl), ..answer });
                }
                Err(absent) if absent.is_absent() => absent,
                Err(trouble) => return Err(trouble),
            };
            match self.ask(&name, RecordType::CNAME).await {
                Ok(Answer { records, secure: signed, ttl: holds }) => {
                    let Some(RData::CNAME(alias)) = records.first() else { return Err(absent) };
                    (name, secure, ttl) = (super::host::plain_name(&alias.0), secure && signed, ttl.min(holds));
                }
                Err(none) if none.is_absent() => return Err(absent),
                Err(trouble) => return Err(trouble),
            }
        }
        Err(NoAnswer::Failing(format!("{name} is behind more than {MAX_ALIASES} aliases")))
    }
}

struct Question<'a> {
    name: &'a str,
    kind: RecordType,
}

impl fmt::Display for Question<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.kind)
    }
}

impl Question<'_> {
    fn answer(&self, lookup: &Lookup) -> Result<Answer, NoAnswer> {
        let signed = |proof: Proof| proof == Proof::Secure;
        let secure = (lookup.answers().iter())
            .filter(|record| record.record_type() != RecordType::RRSIG)
            .all(|record| signed(record.proof));
        let records: Vec<RData> = (lookup.answers().iter())
            .filter(|record| record.record_type() == self.kind)
            .map(|record| record.data.clone())
            .collect();
        let ttl = lookup.valid_until().saturating_duration_since(std::time::Instant::now()).min(LONGEST);
        if records.is_empty() {
            return Err(NoAnswer::Absent { name: true, ttl: ttl.min(LONGEST_ABSENCE) });
        }
        Ok(Answer { records, secure, ttl })
    }

    fn no_answer(&self, error: NetError) -> NoAnswer {
        match error {
            NetError::Dns(DnsError::NoRecordsFound(none)) => absent(&none),
            NetError::Dns(DnsError::Nsec { proof: Proof::Insecure, response, .. }) => {
                NoAnswer::Absent { name: response.response_code != ResponseCode::NXDomain, ttl: ABSENCE }
            }
            NetError::Dns(DnsError::DnssecBogus | DnsError::Nsec { .. }) => {
                NoAnswer::Bogus(format!("DNSSEC: the answer for {self} does not have the signatures that it must have"))
            }
            NetError::Dns(DnsError::ResponseCode(ResponseCode::ServFail)) => {
                NoAnswer::Failing(format!("the nameserver answers SERVFAIL for {self}"))
            }
            NetError::Dns(DnsError::ResponseCode(code)) => {
                NoAnswer::Failing(format!("the nameserver answers \"{code}\" for {self}"))
            }
            NetError::Timeout | NetError::NoConnections => {
                NoAnswer::Failing(format!("no nameserver answers (asked for {self})"))
            }
            other => NoAnswer::Failing(format!("no answer for {self}: {other}")),
        }
    }
}

fn absent(none: &NoRecords) -> NoAnswer {
    // RFC 2308 §5: the SOA's minimum, or the SOA's own TTL if that is less.
    let from_soa = none.soa.as_ref().map(|soa| soa.ttl.min(soa.data.minimum));
    let ttl = none.negative_ttl.or(from_soa).map_or(ABSENCE, |ttl| Duration::from_secs(u64::from(ttl)));
    NoAnswer::Absent { name: none.response_code != ResponseCode::NXDomain, ttl: ttl.min(LONGEST_ABSENCE) }
}

/// The conf's nameservers, or the system's.
fn settings(conf: &DnsConf) -> (ResolverConfig, ResolverOpts) {
    let mut options = ResolverOpts::default();
    if conf.nameservers.is_empty() {
        match hickory_resolver::system_conf::read_system_conf() {
            Ok((config, options)) => {
                return (ResolverConfig::from_parts(None, Vec::new(), config.name_servers), options);
            }
            Err(error) => {
                warn!("no nameserver in /etc/resolv.conf ({error}); asking 127.0.0.1, as the system does then");
                let local = NameServerConfig::udp_and_tcp(Ipv4Addr::LOCALHOST.into());
                return (ResolverConfig::from_parts(None, Vec::new(), vec![local]), options);
            }
        }
    }
    options.use_hosts_file = ResolveHosts::Never;
    let servers = conf.nameservers.iter().map(|server| {
        let connections = [ProtocolConfig::Udp, ProtocolConfig::Tcp].map(|protocol| {
            let mut connection = ConnectionConfig::new(protocol);
            connection.port = server.port();
            connection
        });
        NameServerConfig::new(server.ip(), true, connections.to_vec())
    });
    (ResolverConfig::from_parts(None, Vec::new(), servers.collect()), options)
}

fn anchors(conf: &DnsConf) -> Result<TrustAnchors, ResolveError> {
    let Some(path) = &conf.trust_anchor else { return Ok(TrustAnchors::default()) };
    let failed = |why| ResolveError::TrustAnchor { path: path.clone(), why };
    let anchors = TrustAnchors::from_file(path).map_err(|error| failed(error.to_string()))?;
    if anchors.is_empty() {
        return Err(failed("it holds no DNSKEY record of the root".to_owned()));
    }
    Ok(anchors)
}
