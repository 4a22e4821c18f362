//! XEP-0045 §10.1.3 and §16.5.3: the configuration as a data form, shown to owners, submitted by them, and kept in the
//! database. A field that is not submitted stays as it is.

use std::collections::BTreeSet;

use rookery_xmpp::dataform::{Field, FieldType, Form, FormType, unacceptable};
use rookery_xmpp::element::Element;
use rookery_xmpp::error::StanzaError;
use rookery_xmpp::jid::BareJid;
use rookery_xmpp::ns;

use super::config::{AllowPm, Config, Limits, Registration, Whois};
use super::roles::{Role, Roles};

const HISTORY: &str = "muc#maxhistoryfetch";
const NAME: &str = "muc#roomconfig_roomname";
const DESCRIPTION: &str = "muc#roomconfig_roomdesc";
const LANG: &str = "muc#roomconfig_lang";
const PUBSUB: &str = "muc#roomconfig_pubsub";
const LOGGING: &str = "muc#roomconfig_enablelogging";
/// COMPAT: as Prosody calls it (2024); the XEP has no field for it.
const ARCHIVE: &str = "muc#roomconfig_enablearchiving";
const CHANGE_SUBJECT: &str = "muc#roomconfig_changesubject";
const ALLOW_INVITES: &str = "muc#roomconfig_allowinvites";
const ALLOW_PM: &str = "muc#roomconfig_allowpm";
const MAX_USERS: &str = "muc#roomconfig_maxusers";
const BROADCAST: &str = "muc#roomconfig_presencebroadcast";
const MEMBER_LIST: &str = "muc#roomconfig_getmemberlist";
const PUBLIC: &str = "muc#roomconfig_publicroom";
const PERSISTENT: &str = "muc#roomconfig_persistentroom";
const MODERATED: &str = "muc#roomconfig_moderatedroom";
const MEMBERS_ONLY: &str = "muc#roomconfig_membersonly";
const PROTECTED: &str = "muc#roomconfig_passwordprotectedroom";
const SECRET: &str = "muc#roomconfig_roomsecret";
const WHOIS: &str = "muc#roomconfig_whois";
const SLOW_MODE: &str = "muc#roomconfig_slow_mode_duration";
const ADMINS: &str = "muc#roomconfig_roomadmins";
const OWNERS: &str = "muc#roomconfig_roomowners";
const REGISTRATION: &str = "x-roomconfig_registration";
const LOCK_NICKS: &str = "x-roomconfig_locknicks";

const ALLOW_PM_NAMES: &[(&str, AllowPm)] = &[
    ("anyone", AllowPm::Anyone),
    ("participants", AllowPm::Participants),
    ("moderators", AllowPm::Moderators),
    ("none", AllowPm::Nobody),
];

const WHOIS_NAMES: &[(&str, Whois)] = &[("moderators", Whois::Moderators), ("anyone", Whois::Anyone)];

const REGISTRATION_NAMES: &[(&str, Registration)] =
    &[("none", Registration::Closed), ("approval", Registration::Approval), ("open", Registration::Open)];

/// What is offered for `maxusers`.
const USERS: &[usize] = &[10, 20, 30, 50, 100, 200, 500, 1000, 5000, 10_000];

fn name_of<T: PartialEq>(names: &'static [(&'static str, T)], value: &T) -> &'static str {
    names.iter().find(|(_, named)| named == value).map_or("", |(name, _)| name)
}

/// A submitted form: the new configuration, and the lists that it replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Submitted {
    pub(super) config: Config,
    /// The full list of admins, if the form has one.
    pub(super) admins: Option<BTreeSet<BareJid>>,
    /// The full list of owners, if the form has one.
    pub(super) owners: Option<BTreeSet<BareJid>>,
}

impl Config {
    /// The form that an owner fills in.
    pub(super) fn form<'a>(
        &self,
        title: String,
        limits: &Limits,
        admins: impl Iterator<Item = &'a BareJid>,
        owners: impl Iterator<Item = &'a BareJid>,
    ) -> Element {
        let texts = |jids: &mut dyn Iterator<Item = &'a BareJid>| -> Vec<String> {
            jids.map(|jid| jid.as_str().to_owned()).collect()
        };
        let (admins, owners) = (texts(&mut { admins }), texts(&mut { owners }));
        let mut form = Form::new(FormType::Form)
            .title(title)
            .instructions("Complete this form to configure the room.")
            .form_type(ns::MUC_ROOMCONFIG)
            .fields(self.fields(limits))
            .field(Field::new(FieldType::JidMulti, ADMINS).label("Room admins").values(admins))
            .field(Field::new(FieldType::JidMulti, OWNERS).label("Room owners").values(owners))
            .to_element();
        // XEP-0500 §5.1 wants the range of this one said.
        if let Some(slow_mode) = form.elements_mut().find(|field| field.get("var") == Some(SLOW_MODE)) {
            let range = Element::new("range", ns::X_DATA_VALIDATE).attr("min", "0");
            slow_mode.push(Element::new("validate", ns::X_DATA_VALIDATE).attr("datatype", "xs:integer").child(range));
        }
        form
    }

    /// The configuration as it is stored.
    pub fn to_element(&self) -> Element {
        Form::new(FormType::Submit).form_type(ns::MUC_ROOMCONFIG).fields(self.fields(&Limits::default())).to_element()
    }

    /// The configuration as it was stored; what is not in it is as in `self`.
    ///
    /// # Errors
    /// When it was changed by somebody else than [`Config::to_element`].
    pub fn from_element(&self, x: &Element) -> Result<Self, StanzaError> {
        // Whatever the conf allowed when it was stored: a room that cannot be read is shut to all.
        let any = Limits { history: usize::MAX, text: usize::MAX, occupants: usize::MAX, ..Limits::default() };
        Ok(self.submitted(&Form::from_element(x)?, &any)?.config)
    }

    /// All fields but the lists of people.
    pub(super) fn fields(&self, limits: &Limits) -> Vec<Field> {
        let roles = |var, label, roles: Roles| {
            let field = Field::new(FieldType::ListMulti, var).label(label).values(roles.iter().map(Role::name));
            field.option("Moderators", "moderator").option("Participants", "participant").option("Visitors", "visitor")
        };
        let max_users = self.max_users.map_or_else(|| "none".to_owned(), |max| max.to_string());
        let mut users = Field::list(MAX_USERS, max_users.as_str()).label("Most occupants");
        let offered: BTreeSet<usize> =
            USERS.iter().copied().filter(|users| *users <= limits.occupants).chain(self.max_users).collect();
        for number in offered {
            users = users.option(number.to_string(), number.to_string());
        }
        vec![
            Field::text(NAME, self.name.as_str()).label("Name"),
            Field::text(DESCRIPTION, self.description.as_str()).label("Description"),
            Field::text(LANG, self.lang.as_str()).label("Language of the discussions"),
            Field::text(PUBSUB, self.pubsub.as_str()).label("Address of a publish-subscribe node that goes with it"),
            Field::boolean(PUBLIC, self.public).label("List it for everybody to find"),
            Field::boolean(PERSISTENT, self.persistent).label("Keep it when nobody is in it"),
            Field::boolean(MEMBERS_ONLY, self.members_only).label("Only members may enter"),
            Field::boolean(ALLOW_INVITES, self.allow_invites).label("Members may invite others, who become members"),
            Field::list(REGISTRATION, name_of(REGISTRATION_NAMES, &self.registration))
                .label("Who asks to become a member")
                .option("is refused", "none")
                .option("needs an admin's approval", "approval")
                .option("becomes one", "open"),
            Field::boolean(LOCK_NICKS, self.lock_nicks).label("Members must use the nickname reserved for them"),
            Field::boolean(MODERATED, self.moderated).label("Only those with voice may speak"),
            Field::boolean(CHANGE_SUBJECT, self.change_subject).label("Participants may change the subject"),
            Field::list(ALLOW_PM, name_of(ALLOW_PM_NAMES, &self.allow_pm))
                .label("Who may send private messages")
                .option("Anyone", "anyone")
                .option("Anyone with voice", "participants")
                .option("Moderators", "moderators")
                .option("Nobody", "none"),
            Field::text(SLOW_MODE, self.slow_mode.to_string())
                .label("Slow mode")
                .desc("Seconds between two messages of one person; 0 for none"),
            Field::list(WHOIS, name_of(WHOIS_NAMES, &self.whois))
                .label("Who may see real addresses")
                .option("Moderators", "moderators")
                .option("Anyone", "anyone"),
            roles(MEMBER_LIST, "Who may ask for the list of members, where anyone may see addresses", self.member_list),
            roles(BROADCAST, "Whose presence is shown to others", self.presence_broadcast),
            users.option("As many as the service allows", "none"),
            Field::boolean(PROTECTED, self.password.is_some()).label("A password is needed to enter"),
            Field::new(FieldType::TextPrivate, SECRET).label("Password").values(self.password.as_deref()),
            Field::text(HISTORY, self.history.to_string()).label("Messages sent to who enters"),
            Field::boolean(ARCHIVE, self.archive).label("Keep messages for those who may enter to look up"),
            Field::boolean(LOGGING, self.logging).label("Warn that the discussions are published elsewhere"),
        ]
    }

    /// Reads a submitted form.
    ///
    /// # Errors
    /// `not-acceptable`, with the field's name.
    pub(super) fn submitted(&self, form: &Form, limits: &Limits) -> Result<Submitted, StanzaError> {
        let mut config = self.clone();
        for (var, place) in [
            (NAME, &mut config.name),
            (DESCRIPTION, &mut config.description),
            (LANG, &mut config.lang),
            (PUBSUB, &mut config.pubsub),
        ] {
            if form.get(var).is_some() {
                let text = form.lines(var).unwrap_or_default();
                if text.len() > limits.text {
                    return Err(unacceptable(var, "is too long"));
                }
                *place = text;
            }
        }
        for (var, place) in [
            (LOGGING, &mut config.logging),
            (ARCHIVE, &mut config.archive),
            (CHANGE_SUBJECT, &mut config.change_subject),
            (ALLOW_INVITES, &mut config.allow_invites),
            (PUBLIC, &mut config.public),
            (PERSISTENT, &mut config.persistent),
            (MODERATED, &mut config.moderated),
            (MEMBERS_ONLY, &mut config.members_only),
            (LOCK_NICKS, &mut config.lock_nicks),
        ] {
            *place = form.boolean(var)?.unwrap_or(*place);
        }
        for (var, place) in [(BROADCAST, &mut config.presence_broadcast), (MEMBER_LIST, &mut config.member_list)] {
            if form.get(var).is_some() {
                let roles = Roles::from_names(form.values(var));
                *place = roles.ok_or_else(|| unacceptable(var, "must be moderator, participant or visitor"))?;
            }
        }
        config.allow_pm = form.choice(ALLOW_PM, ALLOW_PM_NAMES)?.unwrap_or(config.allow_pm);
        config.whois = form.choice(WHOIS, WHOIS_NAMES)?.unwrap_or(config.whois);
        config.registration = form.choice(REGISTRATION, REGISTRATION_NAMES)?.unwrap_or(config.registration);
        config.slow_mode = form.parsed(SLOW_MODE)?.unwrap_or(config.slow_mode);
        config.history = form.parsed(HISTORY)?.unwrap_or(config.history).min(limits.history);
        match form.text(MAX_USERS)? {
            None => {}
            Some("none") => config.max_users = None,
            Some(_) => {
                // What it was before may be more than the conf allows by now; the form offers it still, and it harms
                // nothing, since whoever enters is counted by both.
                let is_fit = |most: &usize| (1..=limits.occupants).contains(most) || self.max_users == Some(*most);
                let most = form.parsed::<usize>(MAX_USERS)?.filter(is_fit);
                config.max_users = Some(most.ok_or_else(|| unacceptable(MAX_USERS, "is out of range"))?);
            }
        }
        config.password = self.password_of(form)?;
        let list = |var| -> Result<Option<BTreeSet<BareJid>>, StanzaError> {
            let listed = form.get(var).is_some();
            let jids = form.jids(var)?;
            Ok(listed.then(|| jids.iter().map(|jid| jid.bare()).collect()))
        };
        Ok(Submitted { admins: list(ADMINS)?, owners: list(OWNERS)?, config })
    }

    fn password_of(&self, form: &Form) -> Result<Option<String>, StanzaError> {
        let secret = form.text(SECRET)?.map(str::to_owned);
        let new = match form.boolean(PROTECTED)? {
            Some(false) => return Ok(None),
            Some(true) => secret.or_else(|| self.password.clone().filter(|_| form.get(SECRET).is_none())),
            None if secret.is_some() => secret,
            None => return Ok(self.password.clone()),
        };
        // §10.1.3: a room that is protected by nothing is not acceptable.
        new.map(Some).ok_or_else(|| unacceptable(SECRET, "is required for a room that is protected by a password"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_read_again() {
        let config = Config {
            name: "A Dark Cave".to_owned(),
            description: "The place for all\ngood witches!".to_owned(),
            lang: "en".to_owned(),
            logging: true,
            allow_pm: AllowPm::Moderators,
            max_users: Some(77),
            presence_broadcast: Roles { visitor: false, ..Roles::ALL },
            member_list: Roles { moderator: false, participant: false, visitor: false },
            password: Some("cauldronburn".to_owned()),
            whois: Whois::Anyone,
            history: 3,
            slow_mode: 20,
            registration: Registration::Open,
            lock_nicks: true,
            moderated: true,
            members_only: true,
            persistent: true,
            public: false,
            archive: false,
            change_subject: true,
            allow_invites: true,
            pubsub: "xmpp:pubsub.shakespeare.lit?;node=the-coven-node".to_owned(),
        };
        assert_eq!(Config::default().from_element(&config.to_element()), Ok(config));
        assert_eq!(Config::default().from_element(&Config::default().to_element()), Ok(Config::default()));
    }

    /// A conf that allowed more once, or less, is no reason to lose a room.
    #[test]
    fn what_is_stored_is_read_whatever_the_conf_allows() {
        let config = Config { max_users: Some(15_000), ..Config::default() };
        assert_eq!(Config::default().from_element(&config.to_element()), Ok(config));
    }

    #[test]
    fn what_the_form_offers_is_taken() {
        let config = Config { max_users: Some(500), ..Config::default() };
        let limits = Limits { occupants: 100, ..Limits::default() };
        let form = config.form(String::new(), &limits, std::iter::empty(), std::iter::empty());
        let form = Form::from_element(&form).unwrap();
        assert_eq!(config.submitted(&form, &limits).unwrap().config, config);
        // Nothing else that is more than the conf allows is.
        let other = Config { max_users: Some(400), ..config };
        assert!(other.submitted(&form, &limits).is_err());
    }
}
