//! The conf file: TOML, read whole before the server starts, and again on SIGHUP.
//!
//! Unknown options, wrong types and values out of bounds are errors that name file, line, column and what to write
//! instead. The server's own sections have types here; a module brings the type of its section and reads it with
//! [`Conf::module`]. What the options mean is said in `conf/rookery.toml`.

mod domains;
mod error;
mod limits;
mod reader;
mod s2s;
mod sections;
mod tree;
mod types;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rookery_xmpp::jid::BareJid;
use serde::de::DeserializeOwned;

pub use error::{ConfigError, nearest};
pub use limits::Limits;
pub use s2s::{Certificates, Component, Domains, Pin, RemoteConf, S2sConf};
pub use sections::{
    Backend, CertificateFiles, Durability, Host, Listener, ListenerKind, LogConf, LogFormat, LogLevel, ServerConf,
    StoreConf, TlsMode,
};
pub use types::{Count, Period, Secret, Size};

use error::{Source, remedy};
use tree::{Entry, Table, Value};

/// What a module's section is read into: `#[derive(Deserialize)] #[serde(default, deny_unknown_fields)]` with a
/// [`Default`] that holds the defaults. `()` for a module without options.
pub trait Section: DeserializeOwned + Default {}

impl<T: DeserializeOwned + Default> Section for T {}

/// A whole conf, judged.
#[derive(Debug, Clone)]
pub struct Conf {
    source: Source,
    server: ServerConf,
    log: LogConf,
    store: StoreConf,
    limits: Limits,
    s2s: S2sConf,
    /// `[s2s.domain.X]` by normalised domain.
    remotes: BTreeMap<String, RemoteConf>,
    components: Vec<Component>,
    listeners: Vec<Listener>,
    hosts: Vec<Host>,
    /// `[modules.NAME]`.
    modules: Table,
    /// `[host.X.modules.NAME]` by normalised domain.
    host_modules: BTreeMap<String, Table>,
}

impl Conf {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, &name),
            Err(error) => {
                let why = match error.kind() {
                    std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
                    std::io::ErrorKind::InvalidData => "the file is not UTF-8".to_owned(),
                    _ => format!("the file cannot be read: {error}"),
                };
                Err(ConfigError { file: name, why, ..ConfigError::default() })
            }
        }
    }

    /// Reads a text; `name` is the file's name for messages. An empty text is the defaults: `localhost` on
    /// 5222 and 5223, and on 5269 and 5270 for other servers.
    pub fn parse(text: &str, name: &str) -> Result<Self, ConfigError> {
        let source = Source::new(name, text);
        let mut conf = Self {
            server: ServerConf::default(),
            log: LogConf::default(),
            store: StoreConf::default(),
            limits: Limits::default(),
            s2s: S2sConf::default(),
            remotes: BTreeMap::new(),
            components: Vec::new(),
            listeners: vec![
                Listener::new(ListenerKind::C2s, 5222, TlsMode::Starttls),
                Listener::new(ListenerKind::C2s, 5223, TlsMode::Direct),
                Listener::new(ListenerKind::S2s, 5269, TlsMode::Starttls),
                Listener::new(ListenerKind::S2s, 5270, TlsMode::Direct),
            ],
            hosts: Vec::new(),
            modules: Table::new(),
            host_modules: BTreeMap::new(),
            source,
        };
        let mut entries: Vec<(String, Entry)> = tree::parse(&conf.source, text)?.into_iter().collect();
        entries.sort_by_key(|(_, entry)| entry.at);
        let mut store = None;
        for (key, entry) in entries {
            match key.as_str() {
                "server" => conf.server = conf.section("[server]", &entry)?,
                "log" => conf.log = conf.section("[log]", &entry)?,
                "store" => {
                    conf.store = conf.section("[store]", &entry)?;
                    store = Some(entry);
                }
                "limits" => conf.limits = conf.section("[limits]", &entry)?,
                "s2s" => conf.read_s2s(&entry)?,
                "component" => conf.read_components(&entry)?,
                "listen" => conf.listeners = conf.read_listeners(&entry)?,
                "modules" => conf.modules = conf.read_modules("[modules]", entry)?,
                "host" => conf.read_hosts(entry)?,
                unknown => {
                    let remedy = remedy(unknown, &SECTIONS, "the sections are");
                    let why = format!("unknown section \"{unknown}\"{remedy}");
                    return Err(ConfigError::at(&conf.source, entry.at, unknown, why));
                }
            }
        }
        if conf.hosts.is_empty() {
            conf.add_host("localhost", &Entry::default())?;
        }
        conf.complete_store(store.as_ref())?;
        conf.check_domains()?;
        Ok(conf)
    }

    /// The file's name.
    pub fn file(&self) -> &str {
        &self.source.name
    }

    /// `[server]`.
    pub fn server(&self) -> &ServerConf {
        &self.server
    }

    /// `[log]`.
    pub fn log(&self) -> &LogConf {
        &self.log
    }

    /// `[store]`.
    pub fn store(&self) -> &StoreConf {
        &self.store
    }

    /// `[limits]`.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The `[[listen]]` sections, in their order.
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// The hosts, in their order; never none.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// Whether a domain is one of the hosts.
    pub fn is_host(&self, domain: &str) -> bool {
        self.hosts.iter().any(|host| host.domain.as_str() == domain)
    }

    /// A module's section for a host: `[host.X.modules.NAME]` laid over `[modules.NAME]`, key by key. `None` when it is
    /// switched off: by `enabled = false`, or by silence when it is not `on_by_default`. A section that is switched off
    /// is judged all the same.
    pub fn module<C: Section>(&self, host: &str, name: &str, on_by_default: bool) -> Result<Option<C>, ConfigError> {
        let mut merged = Table::new();
        let mut place: Option<&Entry> = None;
        for modules in [Some(&self.modules), self.host_modules.get(host)].into_iter().flatten() {
            if let Some(entry) = modules.get(name) {
                tree::overlay(&mut merged, self.table(entry, name)?);
                place = Some(entry);
            }
        }
        let enabled = match merged.remove("enabled") {
            None => on_by_default,
            Some(Entry { node: tree::Node { value: Value::Boolean(enabled), .. }, .. }) => enabled,
            Some(entry) => {
                let why = format!("\"enabled\" in {} takes true or false, not {}", entry.section, entry.node.kind());
                return Err(ConfigError::at(&self.source, entry.node.at, entry.path("enabled"), why));
            }
        };
        if merged.is_empty() {
            return Ok(enabled.then(C::default));
        }
        let (section, at) = place
            .map_or_else(|| (format!("[modules.{name}]"), 0), |entry| (format!("[{}]", entry.path(name)), entry.at));
        let read = reader::read::<C>(&self.source, &merged, &section, at)?;
        Ok(enabled.then_some(read))
    }

    /// Refuses sections of modules that do not exist.
    pub fn check_modules(&self, known: &[&str]) -> Result<(), ConfigError> {
        let sections = std::iter::once(&self.modules).chain(self.host_modules.values());
        let unknown = sections.flatten().filter(|(name, _)| !known.contains(&name.as_str()));
        let Some((name, entry)) = unknown.min_by_key(|(_, entry)| entry.at) else { return Ok(()) };
        let remedy = remedy(name, known, "the modules are");
        let why = format!("unknown module \"{name}\" in [{}]{remedy}", entry.path(name));
        Err(ConfigError::at(&self.source, entry.at, entry.path(name), why))
    }

    /// A fault that a module finds in its own section after it was read, placed at the option (or the section, or the
    /// file, whichever is there). `why` is a sentence without the option's name.
    pub fn fault(&self, host: &str, module: &str, option: &str, why: &str) -> ConfigError {
        let sections = [self.host_modules.get(host), Some(&self.modules)];
        let sections: Vec<&Entry> = sections.into_iter().flatten().filter_map(|modules| modules.get(module)).collect();
        let found = sections.iter().find_map(|entry| match &entry.node.value {
            Value::Table(table) => table.get(option),
            _ => None,
        });
        match (found, sections.first()) {
            (Some(found), _) => {
                let why = format!("\"{option}\" in {}: {why}", found.section);
                ConfigError::at(&self.source, found.node.at, found.path(option), why)
            }
            (None, Some(section)) => {
                let path = section.path(module);
                let why = format!("\"{option}\" in [{path}]: {why}");
                ConfigError::at(&self.source, section.at, format!("{path}.{option}"), why)
            }
            (None, None) => ConfigError {
                file: self.file().to_owned(),
                option: format!("modules.{module}.{option}"),
                why: format!("\"{option}\" in [modules.{module}]: {why}"),
                ..ConfigError::default()
            },
        }
    }

    /// The options that differ in `new` and that a running server cannot take up: what to say after a reload.
    pub fn needs_restart(&self, new: &Self) -> Vec<&'static str> {
        let changed = [
            ("server.data", self.server.data != new.server.data),
            ("store", self.store != new.store),
            ("log.format", self.log.format != new.log.format),
            ("listen", self.listeners != new.listeners),
            // What runs goes on without other servers at once, but whoever talks to them is made at the start.
            ("s2s.enabled", !self.s2s.enabled && new.s2s.enabled),
        ];
        changed.into_iter().filter(|(_, changed)| *changed).map(|(option, _)| option).collect()
    }

    fn table<'a>(&self, entry: &'a Entry, key: &str) -> Result<&'a Table, ConfigError> {
        match &entry.node.value {
            Value::Table(table) => Ok(table),
            _ => {
                let path = entry.path(key);
                let why = format!("\"{key}\" is a section: write [{path}] on a line of its own, and its options below");
                Err(ConfigError::at(&self.source, entry.at, path, why))
            }
        }
    }

    fn section<T: DeserializeOwned>(&self, section: &str, entry: &Entry) -> Result<T, ConfigError> {
        let key = tree::dotted(section, "");
        reader::read(&self.source, self.table(entry, &key)?, section, entry.at)
    }

    fn read_listeners(&self, entry: &Entry) -> Result<Vec<Listener>, ConfigError> {
        let wrong = || {
            let why = "\"listen\" is a list of sections: write [[listen]] on a line of its own, and its options below";
            ConfigError::at(&self.source, entry.at, "listen", why)
        };
        let Value::Array(items) = &entry.node.value else { return Err(wrong()) };
        let mut listeners = Vec::with_capacity(items.len());
        let mut addresses = BTreeSet::new();
        for item in items {
            let Value::Table(table) = &item.value else { return Err(wrong()) };
            let mut listener: Listener = reader::read(&self.source, table, "[[listen]]", item.at)?;
            if listener.kind == ListenerKind::Component && !table.contains_key("tls") {
                listener.tls = TlsMode::Plain;
            }
            let place = |key: &str| table.get(key).map_or(item.at, |entry| entry.node.at);
            let fault = |key: &str, why: &str| {
                Err(ConfigError::at(
                    &self.source,
                    place(key),
                    format!("listen.{key}"),
                    format!("\"{key}\" in [[listen]]: {why}"),
                ))
            };
            if !table.contains_key("address") {
                let why =
                    "the option \"address\" is missing in [[listen]]: write address and port such as \"[::]:5222\"";
                return Err(ConfigError::at(&self.source, item.at, "listen.address", why));
            }
            match (listener.kind, listener.tls) {
                (ListenerKind::S2s, TlsMode::Plain) => {
                    return fault("tls", "other servers connect with TLS: set it to \"starttls\" or \"direct\"");
                }
                (ListenerKind::Component, TlsMode::Starttls) => {
                    return fault("tls", "components know no STARTTLS: set it to \"plain\" or \"direct\"");
                }
                (ListenerKind::Component, TlsMode::Plain) if !listener.address.ip().to_canonical().is_loopback() => {
                    return fault(
                        "address",
                        "components send their handshake in the clear: name an address of this machine \
                         (\"127.0.0.1:5347\"), or set tls to \"direct\"",
                    );
                }
                _ => {}
            }
            if listener.tls == TlsMode::Plain && !sections::is_private(listener.address.ip()) {
                return fault(
                    "address",
                    "a listener without TLS is for the own machine or a private network: name such an address \
                     (\"127.0.0.1:5222\"), or set tls to \"starttls\" or \"direct\"",
                );
            }
            if listener.kind != ListenerKind::C2s && listener.allow_plain_passwords {
                return fault("allow_plain_passwords", "this is for listeners of the kind \"c2s\" alone");
            }
            if listener.tls != TlsMode::Plain && listener.allow_plain_passwords {
                return fault(
                    "allow_plain_passwords",
                    "this is for tls = \"plain\" alone; inside TLS it needs no leave",
                );
            }
            if listener.address.port() != 0 && !addresses.insert(listener.address) {
                return fault("address", "another [[listen]] has this address already");
            }
            listeners.push(listener);
        }
        Ok(listeners)
    }

    fn read_modules(&self, section: &str, entry: Entry) -> Result<Table, ConfigError> {
        let key = section.trim_matches(['[', ']']).rsplit('.').next().unwrap_or_default();
        for (name, module) in self.table(&entry, key)? {
            self.table(module, name)?;
        }
        match entry.node.value {
            Value::Table(table) => Ok(table),
            _ => Ok(Table::new()),
        }
    }

    fn read_hosts(&mut self, entry: Entry) -> Result<(), ConfigError> {
        let mut hosts: Vec<(&String, &Entry)> = self.table(&entry, "host")?.iter().collect();
        hosts.sort_by_key(|(_, entry)| entry.at);
        for (name, host) in hosts {
            self.add_host(name, host)?;
        }
        Ok(())
    }

    fn add_host(&mut self, name: &str, entry: &Entry) -> Result<(), ConfigError> {
        let section = format!("[host.\"{name}\"]");
        let path = format!("host.\"{name}\"");
        let fault = |why: String| Err(ConfigError::at(&self.source, entry.at, path.clone(), why));
        let domain = match BareJid::new(name) {
            Ok(domain) if domain.localpart().is_none() => domain,
            _ => return fault(format!("{section}: this is no domain; write one such as [host.\"example.org\"]")),
        };
        if self.is_host(domain.as_str()) {
            return fault(format!("{section}: this is the same domain as another section's"));
        }
        let Value::Table(table) = &entry.node.value else {
            return fault(format!("a host is a section: write {section} on a line of its own, and its options below"));
        };
        let read: sections::HostConf = reader::read(&self.source, table, &section, entry.at)?;
        if read.certificate.is_some() != read.key.is_some() {
            return fault(format!("{section}: \"certificate\" and \"key\" go together; name both files or none"));
        }
        if let Some(modules) = table.get("modules") {
            let modules = self.read_modules(&format!("[{path}.modules]"), modules.clone())?;
            self.host_modules.insert(domain.as_str().to_owned(), modules);
        }
        self.hosts.push(Host { domain, certificate: read.certificate, key: read.key });
        Ok(())
    }

    fn complete_store(&mut self, entry: Option<&Entry>) -> Result<(), ConfigError> {
        if self.store.path.as_os_str().is_empty() {
            self.store.path = self.server.data.join("rookery.sqlite");
        }
        let url = self.store.url.expose();
        let is_address = url.starts_with("postgres://") || url.starts_with("postgresql://");
        if is_address || (url.is_empty() && self.store.backend == Backend::Sqlite) {
            return Ok(());
        }
        let at = entry.map_or(0, |entry| match &entry.node.value {
            Value::Table(table) => table.get("url").map_or(entry.at, |url| url.node.at),
            _ => entry.at,
        });
        let why = "\"url\" in [store] takes the address of PostgreSQL: \"postgres://user:password@host/database\"";
        Err(ConfigError::at(&self.source, at, "store.url", why))
    }
}

const SECTIONS: [&str; 9] = ["server", "log", "store", "limits", "s2s", "component", "listen", "modules", "host"];
