//! From a domain to its servers: SRV of both kinds, or the domain's own addresses; then each host's addresses and TLSA records.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hickory_proto::rr::RData;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::cache::Cache;
use super::conf::{DnsConf, Override};
use super::host::{self, HostAnswer};
use super::private::is_private;
use super::query::{Answer, LONGEST, NoAnswer, Questions};
use super::srv;
use super::target::{DEFAULT_PORT, Finding, LookupError, Source, SrvRecord, Target, TlsMode};

/// Domains that are remembered.
const DOMAINS: usize = 4096;
/// SRV records of a domain that are looked at, those of the best priorities.
const MAX_RECORDS: usize = 16;
/// How long a failure is believed: long enough that a crowd who asks at once costs one search.
const FAILURE: Duration = Duration::from_secs(1);
/// How long an answer is believed that lacks what some nameserver did not say.
const PARTLY: Duration = Duration::from_secs(60);

/// The resolver cannot be made of this conf.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// `s2s.trust_anchor` is not what it should be.
    #[error("cannot read the DNSSEC trust anchor {}: {why}", path.display())]
    TrustAnchor {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// hickory does not like it.
    #[error("cannot prepare the DNS resolver: {0}")]
    Resolver(String),
}

/// Finds the servers of domains, and remembers them. One for the whole process; cheap to ask again.
#[derive(Debug)]
pub struct Resolver {
    state: ArcSwap<State>,
}

#[derive(Debug)]
struct State {
    questions: Arc<Questions>,
    cache: Cache<Result<Arc<Found>, LookupError>>,
    overrides: HashMap<String, Override>,
    private_addresses: bool,
    /// How long a whole search may take.
    patience: Duration,
}

/// What is remembered of a domain: everything but the order, which is drawn anew each time.
#[derive(Debug)]
struct Found {
    source: Source,
    records: Arc<[SrvRecord]>,
    /// Targets, each with the record that it is of.
    targets: Vec<Candidate>,
    notes: Vec<String>,
    /// Some question had no answer.
    is_partial: bool,
}

impl Found {
    /// In an order that is drawn anew.
    fn targets(&self) -> Vec<Target> {
        let ordered: Vec<&Candidate> = match self.source {
            Source::Srv => srv::order(self.targets.iter().collect(), srv::draw),
            _ => self.targets.iter().collect(),
        };
        ordered.into_iter().map(|candidate| candidate.target.clone()).collect()
    }
}

#[derive(Debug, Clone)]
struct Candidate {
    record: SrvRecord,
    target: Target,
    /// Why it has no addresses.
    fault: Option<NoAnswer>,
}

impl AsRef<SrvRecord> for &Candidate {
    fn as_ref(&self) -> &SrvRecord {
        &self.record
    }
}

impl Resolver {
    /// A resolver by this conf. Must be called within a tokio runtime; asks nobody yet.
    pub fn new(conf: &DnsConf) -> Result<Self, ResolveError> {
        Ok(Self { state: ArcSwap::from_pointee(State::new(conf)?) })
    }

    /// Another conf from now on (SIGHUP); what was remembered is forgotten. On an error all stays as it is.
    pub fn reload(&self, conf: &DnsConf) -> Result<(), ResolveError> {
        self.state.store(Arc::new(State::new(conf)?));
        Ok(())
    }

    /// Whether signatures are checked at all (`s2s.dnssec`).
    pub fn validates(&self) -> bool {
        self.state.load().questions.validates()
    }

    /// Whether the nameservers give any, too. Asks them now and then.
    pub async fn can_validate(&self) -> bool {
        self.state.load_full().questions.can_validate().await
    }

    /// What [`find_servers`](Self::find_servers) would say, if it can without asking anybody.
    pub fn remembered(&self, domain: &str) -> Option<Result<Vec<Target>, LookupError>> {
        let found = self.state.load().cache.remembered(&ascii_domain(domain).ok()?)?;
        Some(found.map(|found| found.targets()))
    }

    /// The servers of a domain (as in JIDs), in the order in which they are to be tried; at least one has an address.
    pub async fn find_servers(&self, domain: &str) -> Result<Vec<Target>, LookupError> {
        Ok(self.find(domain).await?.targets)
    }

    /// The same, with all that DNS says.
    pub async fn find(&self, domain: &str) -> Result<Finding, LookupError> {
        let state = self.state.load_full();
        let ascii = ascii_domain(domain)?;
        let found = state.cache.get(&ascii, async || {
            let (found, ttl) = state.search_in_time(&ascii).await;
            (found.map(Arc::new), ttl)
        });
        let found = found.await?;
        Ok(Finding {
            source: found.source,
            records: found.records.clone(),
            targets: found.targets(),
            notes: found.notes.clone(),
        })
    }
}

/// The domain as DNS has it: A-labels, small letters, no final dot; an address without brackets.
fn ascii_domain(domain: &str) -> Result<String, LookupError> {
    let bare = domain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(domain);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    match idna::domain_to_ascii(domain) {
        // 253 bytes is the longest name (RFC 1035 §2.3.4); the services' names are longer, and simply do not exist then.
        Ok(ascii) if !ascii.is_empty() && ascii.len() <= 253 => Ok(ascii),
        _ => Err(LookupError::NoSuchDomain(format!("\"{domain}\" is not a name that DNS can hold"))),
    }
}

impl State {
    fn new(conf: &DnsConf) -> Result<Self, ResolveError> {
        let overrides = (conf.overrides.iter())
            .filter(|(_, named)| !named.addresses.is_empty())
            .filter_map(|(domain, named)| Some((ascii_domain(domain).ok()?, named.clone())));
        Ok(Self {
            questions: Arc::new(Questions::new(conf)?),
            cache: Cache::new(DOMAINS),
            overrides: overrides.collect(),
            private_addresses: conf.private_addresses,
            patience: conf.timeout * 2,
        })
    }

    /// The same as `search`, in bounded time: a search is several questions, one after the other.
    async fn search_in_time(&self, domain: &str) -> (Result<Found, LookupError>, Duration) {
        let patience = self.patience;
        match timeout(patience, self.search(domain)).await {
            Ok(sought) => sought,
            Err(_) => {
                let why =
                    format!("the nameservers have not answered all questions within {} seconds", patience.as_secs());
                (Err(LookupError::Failing(why)), FAILURE)
            }
        }
    }

    /// What there is of a domain, and how long that holds.
    async fn search(&self, domain: &str) -> (Result<Found, LookupError>, Duration) {
        let mut ttl = LONGEST;
        let sought = match self.candidates(domain, &mut ttl).await {
            Ok(mut found) => {
                self.resolve_hosts(&mut found, &mut ttl).await;
                if found.is_partial {
                    ttl = ttl.min(PARTLY);
                }
                if found.targets.iter().any(|candidate| !candidate.target.addresses.is_empty()) {
                    Ok(found)
                } else {
                    Err(nowhere(domain, &found))
                }
            }
            Err(error) => Err(error),
        };
        if sought.as_ref().is_err_and(|error| !error.is_definite()) {
            ttl = FAILURE;
        }
        (sought, ttl)
    }

    /// The hosts and ports of a domain, as yet without addresses.
    async fn candidates(&self, domain: &str, ttl: &mut Duration) -> Result<Found, LookupError> {
        let found = |source, targets: Vec<Candidate>| {
            let mut records: Vec<_> = targets.iter().map(|candidate| candidate.record.clone()).collect();
            records.sort_by_key(|record| record.priority);
            let records = if source == Source::Srv { records.into() } else { Arc::default() };
            Found { source, records, targets, notes: Vec::new(), is_partial: false }
        };
        if let Some(named) = self.overrides.get(domain) {
            let candidates =
                named.addresses.iter().map(|address| Candidate::of_address(address.ip(), address.port(), named.tls));
            return Ok(found(Source::Conf, candidates.collect()));
        }
        if let Ok(address) = domain.parse() {
            let candidate = Candidate::of_address(address, DEFAULT_PORT, TlsMode::Starttls);
            return Ok(found(Source::Literal, vec![candidate]));
        }
        let (direct, starttls) = (format!("_xmpps-server._tcp.{domain}"), format!("_xmpp-server._tcp.{domain}"));
        let (direct, starttls) = tokio::join!(self.questions.ask_srv(&direct), self.questions.ask_srv(&starttls));
        let mut services = Services { ttl: *ttl, ..Services::default() };
        services.add(TlsMode::Direct, direct);
        services.add(TlsMode::Starttls, starttls);
        *ttl = services.ttl;
        if services.candidates.is_empty() {
            if let Some(trouble) =
                services.troubles.into_iter().max_by_key(|trouble| matches!(trouble, NoAnswer::Bogus(_)))
            {
                return Err(trouble.into());
            }
            return match services.refusal {
                Some(refusal) => Err(refusal),
                // RFC 6120 §3.2.2: only without any SRV record.
                None => {
                    Ok(found(Source::Domain, vec![Candidate::of_host(domain, DEFAULT_PORT, TlsMode::Starttls, true)]))
                }
            };
        }
        let is_partial = !services.troubles.is_empty();
        let notes = services.troubles.iter().filter_map(NoAnswer::why).chain(services.notes).collect();
        Ok(Found { notes, is_partial, ..found(Source::Srv, services.candidates) })
    }

    /// Finds the addresses and TLSA records of all hosts, side by side.
    async fn resolve_hosts(&self, found: &mut Found, ttl: &mut Duration) {
        let allowed = self.private_addresses || found.source == Source::Conf;
        let mut asking = JoinSet::new();
        let mut asked: Vec<&str> = Vec::new();
        for Candidate { target, .. } in found.targets.iter().filter(|candidate| candidate.target.addresses.is_empty()) {
            if !asked.contains(&target.host.as_str()) {
                asked.push(&target.host);
                let (questions, host) = (self.questions.clone(), target.host.clone());
                asking.spawn(async move { (host::addresses(&questions, &host).await, host) });
            }
        }
        let mut hosts = HashMap::new();
        while let Some(asked) = asking.join_next().await {
            // One that broke off is one without an answer.
            hosts.extend(asked.ok().map(|(answer, host)| (host, answer)));
        }
        for candidate in &mut found.targets {
            candidate.take(hosts.get(&candidate.record.host), allowed);
        }
        *ttl = hosts.values().map(|answer| answer.ttl).fold(*ttl, Duration::min);
        found.is_partial |= hosts.values().any(|answer| !answer.notes.is_empty());
        let mut keys = JoinSet::new();
        for (index, Candidate { target, fault, .. }) in found.targets.iter_mut().enumerate() {
            if target.secure && !target.addresses.is_empty() {
                // Until they are there: without an answer, whatever the reason, there is no connection.
                *fault =
                    Some(NoAnswer::Failing(format!("the search for the TLSA records of {} broke off", target.host)));
                let (questions, host, port) = (self.questions.clone(), target.host.clone(), target.port);
                keys.spawn(async move { (index, host::tlsa(&questions, &host, port).await) });
            }
        }
        while let Some(asked) = keys.join_next().await {
            let Ok((index, (records, holds))) = asked else { continue };
            *ttl = holds.min(*ttl);
            let Some(Candidate { target, fault, .. }) = found.targets.get_mut(index) else { continue };
            match records {
                Ok(records) => (target.tlsa, *fault) = (records, None),
                Err(trouble) => {
                    target.notes.extend(trouble.why().map(|why| format!("its TLSA records cannot be had: {why}")));
                    *fault = Some(trouble);
                }
            }
        }
        for Candidate { target, fault, .. } in &mut found.targets {
            // RFC 7673 §3: a host whose TLSA records are kept from us is not to be used.
            if fault.is_some() {
                target.addresses.clear();
            }
            found.is_partial |= fault.as_ref().is_some_and(|fault| !fault.is_absent());
        }
    }
}

/// The SRV records of both services, brought together.
#[derive(Default)]
struct Services {
    candidates: Vec<Candidate>,
    troubles: Vec<NoAnswer>,
    notes: Vec<String>,
    /// What the records that name no server say; "." says it for certain.
    refusal: Option<LookupError>,
    ttl: Duration,
}

impl Services {
    fn add(&mut self, tls: TlsMode, asked: Result<Answer, NoAnswer>) {
        let answer = match asked {
            Ok(answer) => answer,
            Err(NoAnswer::Absent { ttl, .. }) => {
                self.ttl = self.ttl.min(ttl);
                return;
            }
            Err(trouble) => return self.troubles.push(trouble),
        };
        self.ttl = self.ttl.min(answer.ttl);
        let mut candidates = Vec::new();
        for record in answer.records {
            let RData::SRV(srv) = record else { continue };
            let host = host::plain_name(&srv.target);
            if host.is_empty() {
                self.refusal = Some(LookupError::NotOffered);
            } else if srv.port == 0 {
                let why = format!("an SRV record names port 0 of {host}, where nobody can listen");
                self.refusal.get_or_insert(LookupError::NoSuchDomain(why.clone()));
                self.notes.push(why);
            } else {
                let target = Candidate::of_host(&host, srv.port, tls, answer.secure);
                let record = SrvRecord { priority: srv.priority, weight: srv.weight, ..target.record };
                let target = Target { priority: srv.priority, ..target.target };
                candidates.push(Candidate { record, target, fault: None });
            }
        }
        candidates.sort_by_key(|candidate| candidate.record.priority);
        if candidates.len() > MAX_RECORDS {
            self.notes.push(format!("there are {} SRV records; the first {MAX_RECORDS} are used", candidates.len()));
            candidates.truncate(MAX_RECORDS);
        }
        self.candidates.append(&mut candidates);
    }
}

impl Candidate {
    fn of_host(host: &str, port: u16, tls: TlsMode, secure: bool) -> Self {
        Self {
            record: SrvRecord { tls, priority: 0, weight: 0, port, host: host.to_owned() },
            target: Target {
                host: host.to_owned(),
                port,
                tls,
                priority: 0,
                addresses: Vec::new(),
                refused: Vec::new(),
                secure,
                tlsa: Vec::new(),
                notes: Vec::new(),
            },
            fault: None,
        }
    }

    fn of_address(address: IpAddr, port: u16, tls: TlsMode) -> Self {
        let mut candidate = Self::of_host(&address.to_string(), port, tls, false);
        candidate.target.addresses.push(address);
        candidate
    }

    /// Takes over what was found of its host, and leaves out addresses that are not allowed.
    fn take(&mut self, found: Option<&HostAnswer>, allowed: bool) {
        let target = &mut self.target;
        if let Some(HostAnswer { addresses, secure, fault, notes, .. }) = found {
            target.addresses.clone_from(addresses);
            target.secure &= secure;
            target.notes.clone_from(notes);
            self.fault.clone_from(fault);
        } else if target.addresses.is_empty() {
            self.fault = Some(NoAnswer::Failing(format!("the search for {} broke off", target.host)));
        }
        if !allowed {
            let addresses = std::mem::take(&mut target.addresses);
            (target.refused, target.addresses) = addresses.into_iter().partition(|address| is_private(*address));
            if target.addresses.is_empty() && !target.refused.is_empty() {
                let refused: Vec<_> = target.refused.iter().map(ToString::to_string).collect();
                target.notes.push(format!(
                    "its address {} is not public (s2s.private_addresses = true allows it)",
                    refused.join(", ")
                ));
            }
        }
    }
}

/// None of the targets has an address: the reason that counts most.
fn nowhere(domain: &str, found: &Found) -> LookupError {
    let of_kind =
        |kind: fn(&NoAnswer) -> bool| found.targets.iter().filter_map(|candidate| candidate.fault.clone()).find(kind);
    if let Some(trouble) =
        of_kind(|fault| matches!(fault, NoAnswer::Bogus(_))).or_else(|| of_kind(|fault| !fault.is_absent()))
    {
        return trouble.into();
    }
    if found.source == Source::Domain {
        if let Some(NoAnswer::Absent { name: false, .. }) = of_kind(NoAnswer::is_absent) {
            return LookupError::NoSuchDomain(format!("the domain {domain} does not exist in DNS"));
        }
        if of_kind(NoAnswer::is_absent).is_some() {
            return LookupError::NoSuchDomain(format!("{domain} has no SRV record for XMPP servers, and no address"));
        }
    }
    let mut targets: Vec<String> = (found.targets.iter())
        .map(|Candidate { target, .. }| match target.notes.first() {
            Some(note) => format!("{}:{} ({note})", target.host, target.port),
            None => format!("{}:{} (no such host)", target.host, target.port),
        })
        .collect();
    targets.dedup();
    let whose = match found.source {
        Source::Conf => "the conf names",
        Source::Srv => "its SRV records lead nowhere: they name",
        Source::Domain | Source::Literal => "its server would be",
    };
    LookupError::NoSuchDomain(format!("{whose} {}", targets.join(", ")))
}

impl From<NoAnswer> for LookupError {
    fn from(trouble: NoAnswer) -> Self {
        match trouble {
            NoAnswer::Bogus(why) => Self::Bogus(why),
            NoAnswer::Failing(why) => Self::Failing(why),
            NoAnswer::Absent { .. } => Self::NoSuchDomain("there is no such record".to_owned()),
        }
    }
}
