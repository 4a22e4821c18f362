//! Sections that are named by domains: `[s2s.domain."..."]` and `[component."..."]`, read and judged.

use rookery_xmpp::jid::BareJid;

use super::s2s::{Certificates, Component, ComponentConf, RemoteConf, S2sConf};
use super::tree::{Entry, Value};
use super::{Conf, ConfigError, Host, TlsMode, reader};

impl Conf {
    pub(super) fn read_s2s(&mut self, entry: &Entry) -> Result<(), ConfigError> {
        let s2s: S2sConf = self.section("[s2s]", entry)?;
        let table = self.table(entry, "s2s")?;
        if matches!(s2s.certificates, Certificates::Plain | Certificates::Refuse) {
            let at = table.get("certificates").map_or(entry.at, |certificates| certificates.node.at);
            let why = "\"certificates\" in [s2s] takes \"valid\" or \"dialback\"; what is for one domain goes into \
                       [s2s.domain.\"example.org\"]";
            return Err(ConfigError::at(&self.source, at, "s2s.certificates", why));
        }
        if let Some(domains) = table.get("domain") {
            let mut sections: Vec<(&String, &Entry)> = self.table(domains, "domain")?.iter().collect();
            sections.sort_by_key(|(_, entry)| entry.at);
            let mut remotes = std::mem::take(&mut self.remotes);
            for (name, entry) in sections {
                let (domain, remote) = self.read_remote(name, entry)?;
                if remotes.insert(domain.as_str().to_owned(), remote).is_some() {
                    return Err(self.same_domain(&format!("s2s.domain.\"{name}\""), entry));
                }
            }
            self.remotes = remotes;
        }
        self.s2s = s2s;
        Ok(())
    }

    fn read_remote(&self, name: &str, entry: &Entry) -> Result<(BareJid, RemoteConf), ConfigError> {
        let path = format!("s2s.domain.\"{name}\"");
        let domain = self.domain(&path, name, entry)?;
        let remote: RemoteConf = self.named_section(&path, entry)?;
        let fault = |option: &str, why: &str| {
            let why = format!("\"{option}\" in [{path}]: {why}");
            Err(ConfigError::at(&self.source, entry.at, format!("{path}.{option}"), why))
        };
        if remote.tls == TlsMode::Plain {
            return fault("tls", "takes \"starttls\" or \"direct\"; what may go without TLS says \"certificates\"");
        }
        if remote.certificates == Some(Certificates::Plain) && !remote.pin.is_empty() {
            return fault("pin", "without TLS there is no key to be pinned");
        }
        Ok((domain, remote))
    }

    pub(super) fn read_components(&mut self, entry: &Entry) -> Result<(), ConfigError> {
        let mut sections: Vec<(&String, &Entry)> = self.table(entry, "component")?.iter().collect();
        sections.sort_by_key(|(_, entry)| entry.at);
        let mut components = Vec::new();
        for (name, entry) in sections {
            let path = format!("component.\"{name}\"");
            let domain = self.domain(&path, name, entry)?;
            let read: ComponentConf = self.named_section(&path, entry)?;
            if read.secret.expose().is_empty() {
                let why = format!("the option \"secret\" is missing in [{path}]: write what the component knows, too");
                return Err(ConfigError::at(&self.source, entry.at, format!("{path}.secret"), why));
            }
            let is_double = |other: &Component| other.domain == domain;
            if components.iter().any(is_double) {
                return Err(self.same_domain(&path, entry));
            }
            components.push(Component { domain, secret: read.secret, wait: read.wait });
        }
        self.components = components;
        Ok(())
    }

    /// The host that an external component belongs to: the one that it is a part of by its name, or else the first.
    pub fn host_of_component(&self, component: &BareJid) -> Option<&Host> {
        let above = |host: &&Host| {
            let below = component.as_str().strip_suffix(host.domain.as_str());
            below.is_some_and(|below| below.ends_with('.'))
        };
        let nearest = self.hosts().iter().filter(above).max_by_key(|host| host.domain.as_str().len());
        nearest.or(self.hosts().first())
    }

    /// No domain is served in two ways.
    pub(super) fn check_domains(&self) -> Result<(), ConfigError> {
        match self.components.iter().find(|component| self.is_host(component.domain.as_str())) {
            None => Ok(()),
            Some(component) => {
                let path = format!("component.\"{}\"", component.domain);
                let why = format!("[{path}]: this domain is one of the hosts");
                Err(ConfigError { file: self.file().to_owned(), option: path, why, ..ConfigError::default() })
            }
        }
    }

    fn domain(&self, path: &str, name: &str, entry: &Entry) -> Result<BareJid, ConfigError> {
        match BareJid::new(name) {
            Ok(domain) if domain.localpart().is_none() => Ok(domain),
            _ => {
                let why = format!("[{path}]: this is no domain; write one such as \"example.org\"");
                Err(ConfigError::at(&self.source, entry.at, path, why))
            }
        }
    }

    fn named_section<T: super::Section>(&self, path: &str, entry: &Entry) -> Result<T, ConfigError> {
        let section = format!("[{path}]");
        let Value::Table(table) = &entry.node.value else {
            let why = format!("this is a section: write {section} on a line of its own, and its options below");
            return Err(ConfigError::at(&self.source, entry.at, path, why));
        };
        reader::read(&self.source, table, &section, entry.at)
    }

    fn same_domain(&self, path: &str, entry: &Entry) -> ConfigError {
        let why = format!("[{path}]: this is the same domain as another section's");
        ConfigError::at(&self.source, entry.at, path, why)
    }
}
