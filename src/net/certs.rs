//! The certificates of all domains: found at start, chosen by name, replaced while the server runs.
//!
//! A set that changed (SIGHUP, or new files seen by the poll) serves new handshakes; connections keep what they have.
//! A file that is broken, or does not fit its key, or is expired, leaves the old certificate in place and a line in
//! the log that names file, reason and remedy.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rookery_core::config::{Conf, Host};
use rustls::crypto::CryptoProvider;
use tracing::{error, info, warn};

use crate::certificate::{CertificateError, HostCertificate};
use crate::selfsigned;

/// Days before the end at which the log warns, each once.
const WARN_DAYS: [u64; 3] = [21, 7, 1];

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Where a domain's certificate is to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFiles {
    /// The domain as the conf names it.
    pub host: String,
    /// PEM: the certificate and those that link it to its root.
    pub certificate: PathBuf,
    /// PEM: its private key.
    pub key: PathBuf,
    /// When neither file exists, make a self-signed certificate there (not for paths that the conf names).
    pub generate: bool,
    /// It is no host, but a service below one (rooms, a component): other servers may ask for it, clients may not.
    pub service: bool,
}

impl HostFiles {
    /// What the conf says, for each of its hosts: the files it names, else `<host>.crt` and `<host>.key` in the folder
    /// of certificates. Behind them the services that have files of their own there, as `rooms.<host>.crt`.
    pub fn of_conf(conf: &Conf) -> Vec<Self> {
        let of_host = |host: &Host| {
            let files = host.certificate_files(conf.server());
            let (generate, service) = (!files.is_named, false);
            Self { host: host.domain.to_string(), certificate: files.certificate, key: files.key, generate, service }
        };
        let mut files: Vec<_> = conf.hosts().iter().map(of_host).collect();
        files.extend(Self::of_services(conf));
        files
    }

    fn of_services(conf: &Conf) -> Vec<Self> {
        let folder = &conf.server().certs;
        let is_below = |name: &str, host: &Host| {
            name.strip_suffix(host.domain.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        };
        let of_file = |path: PathBuf| {
            let name = path.file_name()?.to_str()?.strip_suffix(".crt")?.to_owned();
            let key = folder.join(format!("{name}.key"));
            let is_host = conf.hosts().iter().any(|host| host.domain.as_str() == name);
            let is_service = conf.component(&name).is_some() || conf.hosts().iter().any(|host| is_below(&name, host));
            (is_service && !is_host && key.exists()).then_some(Self {
                host: name,
                certificate: path,
                key,
                generate: false,
                service: true,
            })
        };
        // A folder that is not there yet has none.
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut services: Vec<_> = entries.filter_map(|entry| of_file(entry.path())).collect();
        services.sort_by(|a, b| a.host.cmp(&b.host));
        services
    }
}

/// All domains' certificates.
#[derive(Debug)]
pub struct Certificates {
    provider: Arc<CryptoProvider>,
    current: ArcSwap<Set>,
    sources: Mutex<Vec<Source>>,
}

/// What is served now.
#[derive(Debug, Default)]
struct Set {
    by_host: HashMap<Box<str>, Arc<HostCertificate>>,
    /// Those among them that are no hosts.
    services: HashSet<Box<str>>,
    /// For a client that names no host on direct TLS.
    default: Option<Arc<HostCertificate>>,
}

#[derive(Debug)]
struct Source {
    files: HostFiles,
    ascii: Box<str>,
    /// The files as they were when last tried, whatever came of it.
    tried: Stamp,
    /// The files as the last poll saw them: they are read when two polls agree, so that none is read half written.
    seen: Stamp,
    /// The fewest days for which a warning was given; `None` before the first.
    warned: Option<u64>,
}

/// What tells one version of the two files from the next: length, time and inode (a renewal may swap a link).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp([Option<(u64, i64, i64, u64)>; 2]);

impl Stamp {
    fn of(files: &HostFiles) -> Self {
        Self([&files.certificate, &files.key].map(|path| {
            let meta = fs::metadata(path).ok()?;
            Some((meta.len(), meta.mtime(), meta.mtime_nsec(), meta.ino()))
        }))
    }
}

/// What a reload did.
#[derive(Debug, Default)]
pub struct Reloaded {
    /// Domains with a new certificate.
    pub changed: Vec<String>,
    /// Domains whose files cannot be used; they keep the certificate they had.
    pub kept: Vec<(String, CertificateError)>,
}

impl Certificates {
    /// Finds a certificate for each domain, making self-signed ones where that is asked for. `default` is the domain
    /// whose certificate a client gets that names none on direct TLS; a server with one domain has it by nature.
    pub fn open(hosts: Vec<HostFiles>, default: Option<&str>) -> Result<Self, CertificateError> {
        let this = Self {
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
            current: ArcSwap::default(),
            sources: Mutex::default(),
        };
        let (mut sources, mut by_host) = (Vec::new(), HashMap::new());
        for files in hosts {
            let mut source = Source::new(files)?;
            source.make_if_missing(SystemTime::now())?;
            let loaded = match source.load(&this.provider) {
                Ok(loaded) => loaded,
                // The host's own will do; that a host has none is another matter.
                Err(error) if source.files.service => {
                    error!(service = source.files.host, "its own certificate is not used: {error}");
                    sources.push(source);
                    continue;
                }
                Err(error) => return Err(error),
            };
            loaded.report();
            by_host.insert(source.ascii.clone(), Arc::new(loaded));
            sources.push(source);
        }
        this.publish(by_host, default, &sources);
        *this.sources.lock() = sources;
        this.warn_of_expiry(SystemTime::now());
        Ok(this)
    }

    /// Reads everything anew, for the domains that the conf names now (SIGHUP).
    pub fn reload(&self, hosts: Vec<HostFiles>, default: Option<&str>) -> Reloaded {
        let mut sources = self.sources.lock();
        let old = self.current.load_full();
        let (mut by_host, mut next, mut done) = (HashMap::new(), Vec::new(), Reloaded::default());
        for files in hosts {
            let host = files.host.clone();
            let mut source = match Source::new(files) {
                Ok(source) => source,
                Err(error) => {
                    done.refuse(host, error);
                    continue;
                }
            };
            let before = old.by_host.get(&source.ascii);
            if before.is_none()
                && let Err(error) = source.make_if_missing(SystemTime::now())
            {
                done.refuse(host, error);
                next.push(source);
                continue;
            }
            let certificate = self.replace(&source, before, &mut done);
            if let Some(certificate) = certificate {
                by_host.insert(source.ascii.clone(), certificate);
            }
            next.push(source);
        }
        self.publish(by_host, default, &next);
        *sources = next;
        drop(sources);
        self.warn_of_expiry(SystemTime::now());
        done
    }

    /// Looks whether files have changed and reads those; call it every few seconds. Cheap: a `stat` per file.
    pub fn poll(&self) -> Reloaded {
        let mut done = Reloaded::default();
        let mut sources = self.sources.lock();
        let mut by_host = None;
        for source in sources.iter_mut() {
            let stamp = Stamp::of(&source.files);
            let settled = stamp == source.seen;
            source.seen = stamp;
            if !settled || stamp == source.tried {
                continue;
            }
            source.tried = stamp;
            source.warned = None;
            let by_host = by_host.get_or_insert_with(|| self.current.load().by_host.clone());
            let before = by_host.get(&source.ascii).cloned();
            if let Some(certificate) = self.replace(source, before.as_ref(), &mut done) {
                by_host.insert(source.ascii.clone(), certificate);
            }
        }
        if let Some(by_host) = by_host {
            let default = self.current.load().default.as_ref().map(|d| d.host().to_owned());
            self.publish(by_host, default.as_deref(), &sources);
        }
        drop(sources);
        self.warn_of_expiry(SystemTime::now());
        done
    }

    /// Logs which certificates end within 21, 7 and 1 days, once for each mark; returns those it warned of, with the
    /// days that are left.
    pub fn warn_of_expiry(&self, now: SystemTime) -> Vec<(String, u64)> {
        let mut warned = Vec::new();
        let set = self.current.load();
        for source in self.sources.lock().iter_mut() {
            let Some(certificate) = set.by_host.get(&source.ascii) else {
                continue;
            };
            let left = certificate.not_after().duration_since(now).unwrap_or_default();
            let days = left.as_secs() / DAY.as_secs();
            // The smallest mark that the rest of its life is below.
            let Some(mark) = WARN_DAYS.into_iter().rev().find(|mark| left <= DAY * *mark as u32) else {
                continue;
            };
            let mark = if left.is_zero() { 0 } else { mark };
            if source.warned.is_some_and(|last| last <= mark) {
                continue;
            }
            source.warned = Some(mark);
            warned.push((source.files.host.clone(), days));
            let (host, file, until) =
                (&source.files.host, source.files.certificate.display(), certificate.not_after_text());
            if mark == 0 {
                error!(host, %file, until, "the certificate has expired: clients and servers refuse it; renew it, Rookery takes the new file by itself");
            } else {
                warn!(host, %file, until, days, "the certificate ends soon; renew it, Rookery takes the new file by itself");
            }
        }
        warned
    }

    /// The certificate of a domain, named in Unicode or in ASCII form.
    pub fn of_host(&self, host: &str) -> Option<Arc<HostCertificate>> {
        let set = self.current.load();
        let of = |name: &str| set.by_host.get(name).filter(|_| !set.services.contains(name)).cloned();
        of(host).or_else(|| of(&ascii_host(host).ok()?))
    }

    /// The certificate for a domain that may be a service of ours (a room service, a component): its own; else
    /// one that names it, `*.example.org` included; else that of the nearest domain above it, which does not name it
    /// but has the same owner, and that is all there is to show to a server that goes on with dialback.
    pub fn of_domain(&self, domain: &str) -> Option<Arc<HostCertificate>> {
        let ascii = ascii_host(domain).ok()?;
        let set = self.current.load();
        if let Some(found) = set.by_host.get(&ascii) {
            return Some(found.clone());
        }
        let mut hosts: Vec<_> = set.by_host.values().collect();
        // One answer, whatever the order of a map.
        hosts.sort_unstable_by(|a, b| b.host().len().cmp(&a.host().len()).then_with(|| a.host().cmp(b.host())));
        let above = |host: &str| ascii.strip_suffix(host).is_some_and(|rest| rest.ends_with('.'));
        let naming = hosts.iter().find(|certificate| certificate.covers(&ascii));
        naming.or_else(|| hosts.iter().find(|certificate| above(certificate.host()))).map(|found| (*found).clone())
    }

    /// The certificate for a client that names no domain.
    pub fn default(&self) -> Option<Arc<HostCertificate>> {
        self.current.load().default.clone()
    }

    pub(crate) fn provider(&self) -> &Arc<CryptoProvider> {
        &self.provider
    }

    /// The certificate to serve from now on: the new one, or what was `before` if the files are no good.
    fn replace(
        &self,
        source: &Source,
        before: Option<&Arc<HostCertificate>>,
        done: &mut Reloaded,
    ) -> Option<Arc<HostCertificate>> {
        let now = SystemTime::now();
        let loaded = source.load(&self.provider).and_then(|loaded| {
            let improves = before.is_none_or(|before| before.expired(now));
            if loaded.expired(now) && !improves {
                return Err(CertificateError::Expired {
                    path: source.files.certificate.clone(),
                    since: loaded.not_after_text().to_owned(),
                });
            }
            Ok(loaded)
        });
        match loaded {
            // The same again: keeping the object keeps its session tickets good.
            Ok(loaded) if before.is_some_and(|before| before.key().cert == loaded.key().cert) => before.cloned(),
            Ok(loaded) => {
                loaded.report();
                info!(host = source.files.host, until = loaded.not_after_text(), "certificate replaced");
                done.changed.push(source.files.host.clone());
                Some(Arc::new(loaded))
            }
            Err(error) => {
                done.refuse(source.files.host.clone(), error);
                before.cloned()
            }
        }
    }

    fn publish(&self, by_host: HashMap<Box<str>, Arc<HostCertificate>>, default: Option<&str>, sources: &[Source]) {
        let of_services = sources.iter().filter(|source| source.files.service);
        let services: HashSet<_> = of_services.map(|source| source.ascii.clone()).collect();
        let mut hosts = by_host.iter().filter(|(host, _)| !services.contains(*host)).map(|(_, found)| found);
        let default = match default {
            Some(host) => ascii_host(host).ok().and_then(|host| by_host.get(&host).cloned()),
            None => hosts.next().filter(|_| hosts.next().is_none()).cloned(),
        };
        self.current.store(Arc::new(Set { by_host, services, default }));
    }
}

impl Reloaded {
    fn refuse(&mut self, host: String, error: CertificateError) {
        error!(host, "the certificate in use stays: {error}");
        self.kept.push((host, error));
    }
}

impl Source {
    fn new(files: HostFiles) -> Result<Self, CertificateError> {
        Ok(Self {
            ascii: ascii_host(&files.host)?,
            tried: Stamp::of(&files),
            seen: Stamp::of(&files),
            files,
            warned: None,
        })
    }

    /// Makes a certificate for a domain that has none yet, where that is wanted. Files that vanish later are an error:
    /// a new certificate would be a surprise to everyone who trusted the old one.
    fn make_if_missing(&mut self, now: SystemTime) -> Result<(), CertificateError> {
        let HostFiles { host, certificate, key, generate, .. } = &self.files;
        if !generate {
            return Ok(());
        }
        let half = |present: &Path, missing: &Path| CertificateError::HalfAPair {
            present: present.to_owned(),
            missing: missing.to_owned(),
        };
        match (exists(certificate)?, exists(key)?) {
            (true, true) => return Ok(()),
            (true, false) => return Err(half(certificate, key)),
            (false, true) => return Err(half(key, certificate)),
            (false, false) => {}
        }
        selfsigned::generate(&self.ascii, host, certificate, key, now)?;
        warn!(
            host,
            certificate = %certificate.display(),
            key = %key.display(),
            "made a self-signed certificate: clients will warn; put one from a certificate authority (chain and key, PEM) into these files, Rookery takes it by itself"
        );
        self.tried = Stamp::of(&self.files);
        self.seen = self.tried;
        Ok(())
    }

    fn load(&self, provider: &CryptoProvider) -> Result<HostCertificate, CertificateError> {
        let HostFiles { host, certificate, key, .. } = &self.files;
        let read =
            |path: &PathBuf| fs::read(path).map_err(|error| CertificateError::Read { path: path.clone(), error });
        let (chain_pem, key_pem) = (read(certificate)?, read(key)?);
        if fs::metadata(key).is_ok_and(|meta| meta.mode() & 0o007 != 0) {
            warn!(host, key = %key.display(), "everyone on this machine can read the key; make it mode 0600");
        }
        HostCertificate::from_pem(&self.ascii, (certificate, &chain_pem), (key, &key_pem), provider)
    }
}

impl HostCertificate {
    /// Says what clients will not like.
    fn report(&self) {
        if !self.covers_host() {
            warn!(
                host = self.host(),
                "the certificate does not name this domain: clients will refuse it; ask for one that has it as DNS name"
            );
        }
    }
}

fn exists(path: &Path) -> Result<bool, CertificateError> {
    path.try_exists().map_err(|error: io::Error| CertificateError::Read { path: path.to_owned(), error })
}

/// The domain as certificates and SNI write it: ASCII, small letters.
pub(crate) fn ascii_host(host: &str) -> Result<Box<str>, CertificateError> {
    if host.parse::<std::net::IpAddr>().is_ok() {
        return Ok(host.into());
    }
    match idna::domain_to_ascii(host) {
        Ok(ascii) if !ascii.is_empty() => Ok(ascii.into()),
        Ok(_) => Err(CertificateError::Host { host: host.to_owned(), why: "it is empty".to_owned() }),
        Err(error) => Err(CertificateError::Host { host: host.to_owned(), why: error.to_string() }),
    }
}

#[cfg(test)]
mod tests;
