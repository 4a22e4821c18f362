//! An admin's commands as what a room understands, and what is answered: the same for rooms that live and for those that are
//! in the database only. Who carries them to the room is in `service`.

use rookery_core::control::rooms::{RoomDetails, RoomOccupant, RoomPerson, RoomReply, RoomRequest, Setting};
use rookery_core::control::{CommandCondition, CommandError};
use rookery_xmpp::dataform::{Field, FieldType, Form, FormType};
use rookery_xmpp::element::Element;
use rookery_xmpp::error::{Condition, ErrorKind, StanzaError};
use rookery_xmpp::jid::{BareJid, Jid};
use rookery_xmpp::ns;
use rookery_xmpp::stanza::{IqType, Stanza};

use super::config::{Config, Limits};
use super::image::Person;
use super::roles::Affiliation;
use super::room::Room;

/// What the names of fields begin with, and what nobody has to write.
const PREFIXES: &[&str] = &["muc#roomconfig_", "x-roomconfig_", "muc#"];

/// The password is not shown; whether there is one is.
const SECRET: &str = "roomsecret";

fn short(var: &str) -> &str {
    PREFIXES.iter().find_map(|prefix| var.strip_prefix(prefix)).unwrap_or(var)
}

pub(super) fn bad(text: impl Into<String>) -> CommandError {
    CommandError::new(CommandCondition::BadRequest, text)
}

/// There is no such room.
pub(super) fn missing(room: &BareJid) -> CommandError {
    CommandError::new(CommandCondition::ItemNotFound, format!("there is no room {room}"))
}

/// What somebody is told who wants to make a room that is there already.
pub(super) fn taken(room: &BareJid) -> CommandError {
    CommandError::new(CommandCondition::Conflict, format!("the room {room} is there already"))
}

/// What is said of an owner without account.
pub(super) fn no_account(owner: &BareJid) -> CommandError {
    CommandError::new(CommandCondition::ItemNotFound, format!("there is no account {owner}"))
}

/// An address of a person.
pub(super) fn person(text: &str) -> Result<BareJid, CommandError> {
    let jid = Jid::new(text).map_err(|error| bad(format!("\"{text}\" is no address: {error}")))?;
    if jid.is_bare() {
        Ok(jid.bare())
    } else {
        Err(bad(format!("\"{jid}\" is the address of one client: write {}", jid.bare())))
    }
}

/// The room that a command names; that its service is one of ours has been seen to.
pub(super) fn room_of(request: &RoomRequest) -> Result<BareJid, CommandError> {
    let text = request.room().unwrap_or_default();
    BareJid::new(text).map_err(|error| bad(format!("\"{text}\" is no room's address: {error}")))
}

// ---- what is asked ------------------------------------------------------------------------------------------------

/// A command as a request to the room; `None` for one that only wants to know something.
pub(super) fn request(command: &RoomRequest, id: &str) -> Result<Option<Stanza>, CommandError> {
    if command.is_question() {
        return Ok(None);
    }
    let payload = match command {
        RoomRequest::Config { config, .. } => Element::new("query", ns::MUC_OWNER).child(form(config)?.to_element()),
        RoomRequest::Affiliation { jid, affiliation, reason, .. } => {
            let jid = person(jid.as_deref().unwrap_or_default())?;
            let affiliation = self::affiliation(affiliation.as_deref().unwrap_or_default())?;
            let item = Element::new("item", ns::MUC_ADMIN)
                .attr("jid", jid.as_str())
                .attr("affiliation", affiliation.name())
                .children(text("reason", ns::MUC_ADMIN, reason));
            Element::new("query", ns::MUC_ADMIN).child(item)
        }
        RoomRequest::Destroy { alternate, reason, .. } => {
            let alternate = alternate.as_deref().map(person).transpose()?;
            let destroy = Element::new("destroy", ns::MUC_OWNER)
                .attr_opt("jid", alternate.as_ref().map(|jid| jid.as_str()))
                .children(text("reason", ns::MUC_OWNER, reason));
            Element::new("query", ns::MUC_OWNER).child(destroy)
        }
        RoomRequest::Kick { nick, reason, .. } => {
            let item = Element::new("item", ns::MUC_ADMIN)
                .attr("nick", nick.as_str())
                .attr("role", "none")
                .children(text("reason", ns::MUC_ADMIN, reason));
            Element::new("query", ns::MUC_ADMIN).child(item)
        }
        RoomRequest::List { .. } | RoomRequest::Show { .. } | RoomRequest::Create { .. } => return Ok(None),
    };
    Ok(Some(Stanza::iq(IqType::Set, id).child(payload)))
}

fn text(name: &'static str, ns: &'static str, text: &Option<String>) -> Option<Element> {
    text.as_deref().filter(|text| !text.is_empty()).map(|text| Element::new(name, ns).text(text))
}

fn affiliation(name: &str) -> Result<Affiliation, CommandError> {
    Affiliation::from_name(name).ok_or_else(|| {
        bad(format!("\"{name}\" is no affiliation: write owner, admin, member, none or outcast (banned)"))
    })
}

/// The configuration of a room that is to be made: the service's default, what is set, and that it stays.
pub(super) fn new_config(default: &Config, limits: &Limits, set: &[Setting]) -> Result<Config, CommandError> {
    let default = Config { persistent: true, ..default.clone() };
    let form = form(set)?;
    let config = default.submitted(&form, limits).map_err(|error| not_acceptable(&error))?.config;
    if config.persistent {
        Ok(config)
    } else {
        Err(bad("a room that nobody is in yet has to stay when it is empty: leave persistentroom as it is"))
    }
}

fn form(settings: &[Setting]) -> Result<Form, CommandError> {
    let mut form = Form::new(FormType::Submit).form_type(ns::MUC_ROOMCONFIG);
    let known = Config::default().fields(&Limits::default());
    for setting in settings {
        let field = known.iter().find(|field| field.var() == setting.name || short(field.var()) == setting.name);
        let field = field.ok_or_else(|| {
            let names: Vec<&str> = known.iter().map(|field| short(field.var())).collect();
            bad(format!("a room has no setting \"{}\"; it has {}", setting.name, names.join(", ")))
        })?;
        if form.get(field.var()).is_some() {
            return Err(bad(format!("\"{}\" is set twice", setting.name)));
        }
        let split = |value: &String| value.split(',').map(|one| one.trim().to_owned()).collect::<Vec<_>>();
        let values: Vec<String> = match field.kind() {
            Some(FieldType::ListMulti) => setting.values.iter().flat_map(split).filter(|one| !one.is_empty()).collect(),
            _ => setting.values.clone(),
        };
        form = form.field(Field::new(field.kind().unwrap_or(FieldType::TextSingle), field.var()).values(values));
    }
    Ok(form)
}

// ---- what is answered ---------------------------------------------------------------------------------------------

/// What a room's refusal of a command means to an admin.
pub(super) fn refused(command: &RoomRequest, error: &StanzaError) -> CommandError {
    let room = command.room().unwrap_or_default();
    match (error.condition, command) {
        (Condition::ItemNotFound, RoomRequest::Kick { nick, .. }) => {
            let text =
                format!("nobody in {room} has the nickname \"{nick}\"; `rookery room show {room}` says who is in it");
            CommandError::new(CommandCondition::ItemNotFound, text)
        }
        (Condition::ItemNotFound, _) => {
            CommandError::new(CommandCondition::ItemNotFound, format!("there is no room {room}"))
        }
        (Condition::Conflict, RoomRequest::Affiliation { .. }) => {
            let text = format!("{room} has no other owner: make somebody else one first");
            CommandError::new(CommandCondition::Conflict, text)
        }
        (Condition::NotAcceptable, RoomRequest::Affiliation { .. }) => bad("a domain as a whole can only be banned"),
        (Condition::NotAcceptable, _) => not_acceptable(error),
        _ => {
            let condition = match error.kind {
                ErrorKind::Wait => CommandCondition::ServiceUnavailable,
                _ => CommandCondition::BadRequest,
            };
            let text = error.text.as_deref().map_or_else(|| error.condition.to_string(), str::to_owned);
            CommandError::new(condition, format!("{room} refuses: {text}"))
        }
    }
}

fn not_acceptable(error: &StanzaError) -> CommandError {
    let mut text = error.text.as_deref().unwrap_or("the room cannot be configured so").to_owned();
    for prefix in PREFIXES {
        text = text.replace(prefix, "");
    }
    bad(text)
}

/// What there is to say when a command is carried out. `is_live`: who is in the room is known.
pub(super) fn reply(command: &RoomRequest, room: &Room, is_live: bool) -> Result<RoomReply, CommandError> {
    let jid = room.jid().to_string();
    Ok(match command {
        RoomRequest::Show { .. } => RoomReply::Room(Box::new(details(room, is_live))),
        RoomRequest::Config { .. } => RoomReply::Config { room: jid, config: settings(room.config()) },
        RoomRequest::Affiliation { jid: who, .. } => {
            let one = |who: BareJid| {
                let known = room.people.person(who.as_str()).cloned();
                listed(&who, &known.unwrap_or(Person::new(Affiliation::None)))
            };
            let people = match who {
                Some(who) => vec![one(person(who)?)],
                None => people(room),
            };
            RoomReply::People { room: jid, people }
        }
        _ => RoomReply::Done { room: jid },
    })
}

fn settings(config: &Config) -> Vec<Setting> {
    let fields = config.fields(&Limits::default());
    let values = |field: &Field| match (field.kind(), field.raw()) {
        (Some(FieldType::Boolean), raw) => {
            vec![if raw.first().is_some_and(|value| value == "1") { "true" } else { "false" }.to_owned()]
        }
        (_, raw) => raw.to_vec(),
    };
    let setting = |field: &Field| Setting {
        name: short(field.var()).to_owned(),
        values: values(field),
        label: field.shown().unwrap_or_default().to_owned(),
    };
    fields.iter().map(setting).filter(|setting| setting.name != SECRET).collect()
}

fn listed(who: &BareJid, person: &Person) -> RoomPerson {
    RoomPerson {
        jid: who.to_string(),
        affiliation: person.affiliation.name().to_owned(),
        nick: person.nick.as_deref().map(str::to_owned),
        reason: person.reason.as_deref().map(str::to_owned),
    }
}

/// Owners first, and by address then.
fn people(room: &Room) -> Vec<RoomPerson> {
    let of = |affiliation: &Affiliation| room.people.list(*affiliation).map(|(who, person)| listed(who, person));
    let known = Affiliation::ALL.iter().rev().filter(|affiliation| **affiliation != Affiliation::None);
    known.flat_map(of).collect()
}

fn details(room: &Room, is_live: bool) -> RoomDetails {
    let occupants = room.occupants.iter().map(|(_, occupant)| RoomOccupant {
        nick: occupant.nick().to_owned(),
        jids: occupant.sessions().map(|jid| jid.to_string()).collect(),
        role: occupant.role.name().to_owned(),
        affiliation: room.affiliation_of(occupant).name().to_owned(),
    });
    RoomDetails {
        room: room.jid().to_string(),
        created: humantime::format_rfc3339_seconds(room.created).to_string(),
        subject: room.subject.as_ref().map(|subject| subject.text()).filter(|text| !text.is_empty()),
        config: settings(room.config()),
        people: people(room),
        occupants: is_live.then(|| occupants.collect()),
    }
}
