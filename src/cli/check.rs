//! `rookery check`: everything that can go wrong at start, said before the start.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rookery::control::is_running;
use rookery::database;
use rookery_core::config::{Backend, Conf, ConfigError, Durability, Host, ListenerKind, TlsMode};
use rookery_net::certificate::HostCertificate;
use rookery_net::certs::{Certificates, HostFiles};
use rookery_net::s2s::identity::{Role, Trust, judge};
use rookery_net::s2s::roots::Roots;
use serde::Serialize;

use super::{Outcome, complain, find_conf, runtime, say, say_json};

/// How soon a certificate's end is worth a word.
const SOON: Duration = Duration::from_secs(21 * 86_400);

/// What was found about one thing.
#[derive(Debug, Serialize)]
struct Finding {
    /// What was looked at: `conf`, `data`, `store`, `certificate`, `port`.
    about: &'static str,
    level: Level,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<Place>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    Warning,
    Error,
}

/// Where in the conf.
#[derive(Debug, Serialize)]
struct Place {
    file: String,
    line: usize,
    column: usize,
    option: String,
}

#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, about: &'static str, level: Level, text: impl Into<String>) {
        self.0.push(Finding { about, level, text: text.into(), place: None });
    }

    fn conf_error(&mut self, error: ConfigError) {
        let text = error.to_string();
        let place = Place { file: error.file, line: error.line, column: error.column, option: error.option };
        self.0.push(Finding { about: "conf", level: Level::Error, text, place: Some(place) });
    }

    fn worst(&self) -> Level {
        self.0.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
    }
}

pub(super) fn run(named: Option<&Path>, json: bool, quiet: bool) -> Outcome {
    let mut findings = Findings::default();
    let read = find_conf(named).and_then(|path| Conf::read(&path));
    match read.and_then(|conf| rookery::judge(&conf).map(|()| conf)) {
        Err(error) => findings.conf_error(error),
        Ok(conf) => {
            findings.add("conf", Level::Ok, format!("{} is in order", conf.file()));
            match runtime() {
                Ok(runtime) => runtime.block_on(look_around(&conf, &mut findings)),
                Err(error) => findings.add("conf", Level::Error, error),
            }
        }
    }
    let worst = findings.worst();
    print(&findings, json, quiet);
    if worst == Level::Error { Outcome::Failed } else { Outcome::Done }
}

fn print(findings: &Findings, json: bool, quiet: bool) {
    #[derive(Serialize)]
    struct Report<'a> {
        ok: bool,
        findings: &'a [Finding],
    }
    if json {
        return say_json(&Report { ok: findings.worst() < Level::Error, findings: &findings.0 });
    }
    for finding in &findings.0 {
        match finding.level {
            Level::Ok if quiet => {}
            Level::Ok => say(&format!("ok       {}", finding.text)),
            Level::Warning => complain(&format!("warning  {}", finding.text)),
            Level::Error => complain(&format!("error    {}", finding.text)),
        }
    }
}

async fn look_around(conf: &Conf, findings: &mut Findings) {
    let data = &conf.server().data;
    let runs = is_running(data).await;
    if runs {
        findings.add("data", Level::Ok, format!("a server runs with the data folder {}", data.display()));
    } else {
        check_folder(data, findings);
        check_store(conf, findings).await;
    }
    let roots = read_roots(conf, findings);
    for host in conf.hosts() {
        check_certificate(conf, host, roots.as_ref(), findings);
    }
    if let Some(roots) = &roots {
        check_services(conf, roots, findings);
    }
    for listener in conf.listeners() {
        check_port(listener.address, listener.tls, runs, findings);
    }
    check_components(conf, findings);
    if conf.store().durability == Durability::Relaxed {
        findings.add(
            "store",
            Level::Warning,
            "durability is relaxed: a power cut may take messages that were acknowledged",
        );
    }
}

/// Components and their port are of no use without each other.
fn check_components(conf: &Conf, findings: &mut Findings) {
    let has_port = conf.listeners().iter().any(|listener| listener.kind == ListenerKind::Component);
    let text = match (conf.components().first(), has_port) {
        (Some(component), false) => {
            format!("{} cannot connect: there is no [[listen]] of the kind \"component\" in the conf", component.domain)
        }
        (None, true) => "there is a port for components, and no [component.\"...\"] in the conf".to_owned(),
        _ => return,
    };
    findings.add("component", Level::Warning, text);
}

/// Nothing is made that was not there: the folder that would have to be written is the nearest that exists.
fn check_folder(folder: &Path, findings: &mut Findings) {
    let shown = folder.display();
    let full = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let Some(nearest) = full.ancestors().find(|ancestor| ancestor.exists()) else {
        return findings.add("data", Level::Error, format!("the data folder {shown} cannot be made"));
    };
    let probe = nearest.join(format!(".rookery-check-{}", std::process::id()));
    match std::fs::File::create_new(&probe) {
        Ok(_) => {
            drop(std::fs::remove_file(&probe));
            let is_there = if folder.exists() { "can be written" } else { "will be made" };
            findings.add("data", Level::Ok, format!("the data folder {shown} {is_there}"));
        }
        Err(error) => {
            let text = format!("the data folder {shown} cannot be written: {error} ({})", nearest.display());
            findings.add("data", Level::Error, text);
        }
    }
    let mode = std::fs::metadata(folder).map(|metadata| metadata.permissions().mode()).unwrap_or_default();
    if mode & 0o007 != 0 {
        let text = format!("other users of this machine may look into the data folder {shown}: chmod 0700 {shown}");
        findings.add("data", Level::Warning, text);
    }
}

async fn check_store(conf: &Conf, findings: &mut Findings) {
    let store = conf.store();
    if store.backend == Backend::Sqlite && !store.path.exists() {
        return findings.add("store", Level::Ok, format!("the database {} will be made", store.path.display()));
    }
    match database::look(store).await {
        Ok(in_use) => {
            let name = match store.backend {
                Backend::Sqlite => store.path.display().to_string(),
                Backend::Postgres => "on PostgreSQL".to_owned(),
            };
            findings.add(
                "store",
                Level::Ok,
                format!("the database {name} opens{}", if in_use { "; a server uses it" } else { "" }),
            );
        }
        Err(error) => findings.add("store", Level::Error, error.to_string()),
    }
}

/// Those whom other servers most likely believe, too; `None` when there are no other servers.
fn read_roots(conf: &Conf, findings: &mut Findings) -> Option<Roots> {
    if !conf.s2s().enabled {
        return None;
    }
    match Roots::load(conf.s2s().authorities.as_deref()) {
        Ok(roots) if roots.is_empty() => {
            let text = "this system has no certificate authorities, so that no other server's certificate is valid: \
                        install the package ca-certificates, or name a file of them (s2s.authorities)";
            findings.add("certificate", Level::Warning, text);
            None
        }
        Ok(roots) => Some(roots),
        Err(error) => {
            findings.add("certificate", Level::Error, error.to_string());
            None
        }
    }
}

/// Says what other servers will think of our certificate for one of our domains.
fn check_as_peer(certificate: &HostCertificate, domain: &str, shown: &str, roots: &Roots, findings: &mut Findings) {
    let verdict = judge(certificate.chain(), domain, &Trust::new(roots, Role::Receiving), SystemTime::now());
    if !verdict.is_valid() {
        let text = format!("{domain}: other servers that want a valid certificate will refuse {shown}: it {verdict}");
        findings.add("certificate", Level::Warning, text);
    }
}

fn check_certificate(conf: &Conf, host: &Host, roots: Option<&Roots>, findings: &mut Findings) {
    let files = host.certificate_files(conf.server());
    let domain = host.domain.as_str();
    if !files.is_named && !files.certificate.exists() && !files.key.exists() {
        let text = format!(
            "{domain} has no certificate: a self-signed one will be made, which no client and no server trusts by itself; \
             put one at {} and its key at {}",
            files.certificate.display(),
            files.key.display()
        );
        return findings.add("certificate", Level::Warning, text);
    }
    let shown = files.certificate.display().to_string();
    let asked = HostFiles {
        host: domain.to_owned(),
        certificate: files.certificate,
        key: files.key,
        generate: false,
        service: false,
    };
    let certificate = match Certificates::open(vec![asked], None) {
        Ok(certificates) => certificates.of_host(domain),
        Err(error) => return findings.add("certificate", Level::Error, format!("{domain}: {error}")),
    };
    let Some(certificate) = certificate else {
        return findings.add("certificate", Level::Error, format!("{domain}: no certificate in {shown}"));
    };
    let now = SystemTime::now();
    let end = humantime::format_rfc3339_seconds(certificate.not_after());
    if certificate.not_after() < now {
        findings.add(
            "certificate",
            Level::Error,
            format!("{domain}: the certificate {shown} ended on {end}; renew it"),
        );
        return;
    }
    if !certificate.covers_host() {
        let text = format!("{domain}: the certificate {shown} is for other domains, clients will refuse it");
        findings.add("certificate", Level::Error, text);
        return;
    }
    if certificate.not_after() < now + SOON {
        findings.add("certificate", Level::Warning, format!("{domain}: the certificate {shown} ends on {end}"));
    } else {
        findings.add("certificate", Level::Ok, format!("{domain}: the certificate {shown} is good until {end}"));
    }
    let Some(roots) = roots else { return };
    check_as_peer(&certificate, domain, &format!("the certificate {shown}"), roots, findings);
}

/// The same for the services that have a certificate of their own, and for components, which may have to do with a host's.
fn check_services(conf: &Conf, roots: &Roots, findings: &mut Findings) {
    // Whether those of hosts can be read has been said.
    let there = |files: &HostFiles| files.certificate.exists() && files.key.exists();
    let files = HostFiles::of_conf(conf).into_iter().filter(there).map(|files| HostFiles { generate: false, ..files });
    let (services, hosts): (Vec<_>, Vec<_>) = files.partition(|files| files.service);
    let mut domains: Vec<_> = conf.components().iter().map(|component| component.domain.to_string()).collect();
    domains.extend(services.iter().map(|files| files.host.clone()));
    domains.sort_unstable();
    domains.dedup();
    for files in &services {
        let alone = HostFiles { service: false, ..files.clone() };
        if let Err(error) = Certificates::open(vec![alone], None) {
            findings.add("certificate", Level::Error, format!("{}: {error}", files.host));
        }
    }
    let Ok(certificates) = Certificates::open(hosts.into_iter().chain(services).collect(), None) else {
        return;
    };
    for domain in domains {
        match certificates.of_domain(&domain) {
            Some(certificate) => {
                let shown = format!("the certificate that it has or shares, that of {}", certificate.host());
                check_as_peer(&certificate, &domain, &shown, roots, findings);
            }
            None => {
                let folder = conf.server().certs.display();
                let text = format!(
                    "{domain} has no certificate: other servers that want a valid one will refuse it; \
                     put one at {folder}/{domain}.crt and its key at {folder}/{domain}.key"
                );
                findings.add("certificate", Level::Warning, text);
            }
        }
    }
}

fn check_port(address: std::net::SocketAddr, tls: TlsMode, runs: bool, findings: &mut Findings) {
    let tls = tls.as_str();
    match rookery_net::listen::bind(address) {
        Ok(_) if runs => {
            let text = format!("the running server does not have {address} ({tls}): restart it to take up the change");
            findings.add("port", Level::Warning, text);
        }
        Ok(_) => findings.add("port", Level::Ok, format!("{address} ({tls}) is free")),
        Err(_) if runs => findings.add("port", Level::Ok, format!("{address} ({tls}) is in use while the server runs")),
        Err(error) => findings.add("port", Level::Error, error.to_string()),
    }
}
