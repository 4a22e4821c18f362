//! `[modules.muc]`.

use std::collections::BTreeSet;

use rookery_core::archive::query::Offer;
use rookery_core::config::{Count, Period};
use rookery_core::module::Fault;
use rookery_core::retention::Keep;
use rookery_xmpp::jid::BareJid;
use serde::Deserialize;

use super::blocklist::{Blocklist, Hashed};
use crate::muc::config::{AllowPm, Config, Limits, NotifyAway, Registration, Whois};

/// Who may make rooms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Creators {
    /// Everybody, people of other servers too.
    Anybody,
    /// The accounts of the host.
    Local,
    /// Those whom `admins` names.
    Admins,
}

/// Who may see real addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhoisConf {
    /// Everybody in the room.
    Anyone,
    /// Moderators.
    Moderators,
}

/// What becomes of those who ask for membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RegistrationConf {
    /// They are refused.
    None,
    /// Admins of the room decide.
    Approval,
    /// They become members.
    Open,
}

/// Which members who are away are told that something is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NotifyConf {
    /// None.
    None,
    /// Those who are mentioned.
    Mentions,
    /// All.
    All,
}

/// Which newcomers are shown to the others in a large room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ThinConf {
    /// Those who are moderators.
    Moderators,
    /// None.
    None,
}

/// `[modules.muc]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MucConf {
    /// The services' domains; a name without a dot stands in front of the host's.
    pub domains: Vec<String>,
    /// What the services are called.
    pub name: String,
    /// Who may make rooms.
    pub create: Creators,
    /// Addresses that may make rooms, reserved ones too, in any case.
    pub admins: Vec<String>,
    /// Names that only admins may give to rooms.
    pub reserved: Vec<String>,
    /// Addresses, domains, or `sha256:` and their hashes, of those who are kept out of all rooms.
    pub blocklist: Vec<String>,
    /// Rooms that one person may have made.
    pub rooms_per_user: Count<1, 1_000_000>,
    /// Whether a new room waits for its maker's configuration, as the specification has it.
    pub lock_new: bool,
    /// Occupants of a room at most.
    pub occupants: Count<1, 1_000_000>,
    /// From so many occupants on, not all newcomers are shown to the others.
    pub thin_from: Count<1, 1_000_000>,
    /// Who of them is.
    pub thin_to: ThinConf,
    /// Messages that a room may be configured to send to those who enter.
    pub history: Count<0, 500>,
    /// Rooms in one answer to who asks for the list.
    pub page: Count<1, 1000>,
    /// Tokens (XEP-0488) of a room at most; 0 is none at all.
    pub tokens: Count<0, 1000>,
    /// For how long a token counts at most.
    pub token_life: Period<60, { 366 * 86_400 }>,
    /// Which members who are not in a room are told, once, that something is said in it.
    pub notify_away: NotifyConf,
    /// Messages, enterings and changes of presence of one person in one room: in the long run, by the second, and at once;
    /// 0 is no limit.
    pub rate: Count<0, 10_000>,
    /// At once.
    pub burst: Count<1, 100_000>,
    /// Messages of all people in one room.
    pub room_rate: Count<0, 100_000>,
    /// At once.
    pub room_burst: Count<1, 1_000_000>,
    /// Messages in an answer to a query to a room's archive that does not say how many.
    pub archive_page: Count<1, 1000>,
    /// Messages in any such answer.
    pub archive_page_most: Count<1, 1000>,
    /// How long messages are kept.
    pub archive_keep: Keep,
    /// Whether messages may be searched for by words.
    pub archive_search: bool,
    /// How long a room stays in memory when nobody is in it.
    pub idle: Period<1, 86_400>,
    /// How new rooms are configured: listed for everybody.
    pub default_public: bool,
    /// They stay when nobody is in them.
    pub default_persistent: bool,
    /// Only members may enter.
    pub default_members_only: bool,
    /// Only those with voice may speak.
    pub default_moderated: bool,
    /// Who may see real addresses.
    pub default_whois: WhoisConf,
    /// Messages are kept for those who may enter to look up.
    pub default_archive: bool,
    /// Messages sent to those who enter.
    pub default_history: Count<0, 500>,
    /// Participants may change the subject.
    pub default_change_subject: bool,
    /// Members may invite others, who become members.
    pub default_allow_invites: bool,
    /// What becomes of those who ask for membership.
    pub default_registration: RegistrationConf,
    /// The language of the discussions.
    pub default_lang: String,
}

impl Default for MucConf {
    fn default() -> Self {
        Self {
            domains: vec!["conference".to_owned()],
            name: "Rooms".to_owned(),
            create: Creators::Local,
            admins: Vec::new(),
            reserved: Vec::new(),
            blocklist: Vec::new(),
            rooms_per_user: Count::new(100),
            lock_new: true,
            occupants: Count::new(10_000),
            thin_from: Count::new(1000),
            thin_to: ThinConf::Moderators,
            history: Count::new(100),
            page: Count::new(100),
            tokens: Count::new(100),
            token_life: Period::days(30),
            notify_away: NotifyConf::None,
            rate: Count::new(10),
            burst: Count::new(100),
            room_rate: Count::new(500),
            room_burst: Count::new(1000),
            archive_page: Count::new(50),
            archive_page_most: Count::new(250),
            archive_keep: Keep::Forever,
            archive_search: true,
            idle: Period::minutes(10),
            default_public: true,
            default_persistent: false,
            default_members_only: false,
            default_moderated: false,
            default_whois: WhoisConf::Moderators,
            default_archive: true,
            default_history: Count::new(20),
            default_change_subject: false,
            default_allow_invites: false,
            default_registration: RegistrationConf::Approval,
            default_lang: String::new(),
        }
    }
}

fn fault(option: &'static str, why: String) -> Fault {
    Fault { option, why }
}

impl MucConf {
    /// What does not depend on the host.
    pub(super) fn judge(&self) -> Result<(), Fault> {
        if self.domains.is_empty() {
            return Err(fault("domains", "write one at least, or switch the module off".to_owned()));
        }
        self.admins()?;
        self.reserved()?;
        self.blocklist()?;
        if self.default_history.get() > self.history.get() {
            return Err(fault("default_history", "this is more than \"history\"".to_owned()));
        }
        if self.archive_page.get() > self.archive_page_most.get() {
            let why = format!("this is more than \"archive_page_most\" allows, which is {}", self.archive_page_most);
            return Err(fault("archive_page", why));
        }
        Ok(())
    }

    /// The services' domains for a host.
    pub(super) fn domains(&self, host: &BareJid) -> Result<Vec<BareJid>, Fault> {
        let mut domains: Vec<BareJid> = Vec::new();
        for name in &self.domains {
            let whole = if name.contains('.') { name.clone() } else { format!("{name}.{host}") };
            let domain = BareJid::new(&whole).map_err(|error| fault("domains", format!("\"{name}\": {error}")))?;
            if domain.localpart().is_some() || domain == *host {
                return Err(fault("domains", format!("\"{name}\" is no domain for rooms")));
            }
            if !domains.contains(&domain) {
                domains.push(domain);
            }
        }
        Ok(domains)
    }

    pub(super) fn admins(&self) -> Result<BTreeSet<BareJid>, Fault> {
        let read = |text: &String| BareJid::new(text).map_err(|error| fault("admins", format!("\"{text}\": {error}")));
        self.admins.iter().map(read).collect()
    }

    pub(super) fn reserved(&self) -> Result<BTreeSet<Box<str>>, Fault> {
        let read = |name: &String| {
            let jid = BareJid::from_parts(Some(name), "rooms.invalid");
            let jid = jid.map_err(|error| fault("reserved", format!("\"{name}\": {error}")))?;
            Ok(jid.localpart().unwrap_or_default().into())
        };
        self.reserved.iter().map(read).collect()
    }

    pub(super) fn blocklist(&self) -> Result<Blocklist, Fault> {
        self.blocklist.iter().map(|text| Hashed::read(text).map_err(|why| fault("blocklist", why))).collect()
    }

    /// How new rooms are configured.
    pub(super) fn room(&self) -> Config {
        Config {
            lang: self.default_lang.clone(),
            archive: self.default_archive,
            change_subject: self.default_change_subject,
            allow_invites: self.default_allow_invites,
            allow_pm: AllowPm::Anyone,
            public: self.default_public,
            persistent: self.default_persistent,
            moderated: self.default_moderated,
            members_only: self.default_members_only,
            whois: match self.default_whois {
                WhoisConf::Anyone => Whois::Anyone,
                WhoisConf::Moderators => Whois::Moderators,
            },
            history: self.default_history.len(),
            registration: match self.default_registration {
                RegistrationConf::None => Registration::Closed,
                RegistrationConf::Approval => Registration::Approval,
                RegistrationConf::Open => Registration::Open,
            },
            ..Config::default()
        }
    }

    /// What may be asked of archives.
    pub(super) fn archives(&self) -> Offer {
        let (page, most) = (self.archive_page.len(), self.archive_page_most.len());
        Offer { page, most, search: self.archive_search, groupchat: false }
    }

    pub(super) fn limits(&self) -> Limits {
        Limits {
            occupants: self.occupants.len(),
            thin_from: self.thin_from.len(),
            thin_to_moderators: self.thin_to == ThinConf::Moderators,
            history: self.history.len(),
            notify_away: match self.notify_away {
                NotifyConf::None => NotifyAway::Nobody,
                NotifyConf::Mentions => NotifyAway::Mentioned,
                NotifyConf::All => NotifyAway::All,
            },
            tokens: self.tokens.len(),
            token_life: self.token_life.get(),
            search: self.archive_search,
            ..Limits::default()
        }
    }
}
