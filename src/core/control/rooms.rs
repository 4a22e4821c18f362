//! The commands on rooms: what is asked and answered. They are carried out by the module whose rooms they are, live
//! ([`crate::module::Hooks::rooms`]) or, when no server runs, on the database.

use std::sync::Arc;

use rookery_xmpp::jid::BareJid;
use serde::{Deserialize, Serialize};

use super::{CommandCondition, CommandError};
use crate::server::Server;

/// A command on rooms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", content = "args")]
pub enum RoomRequest {
    /// Lists rooms.
    #[serde(rename = "room.list")]
    List {
        /// Those of one service; all otherwise.
        #[serde(default)]
        service: Option<String>,
    },
    /// Says what there is to know of a room.
    #[serde(rename = "room.show")]
    Show {
        /// The room's bare JID.
        room: String,
    },
    /// Makes a room.
    #[serde(rename = "room.create")]
    Create {
        /// The room's bare JID.
        room: String,
        /// The bare JID of its owner.
        owner: String,
        /// What differs from the service's defaults.
        #[serde(default)]
        config: Vec<Setting>,
    },
    /// Says how a room is configured, or changes it.
    #[serde(rename = "room.config")]
    Config {
        /// The room's bare JID.
        room: String,
        /// What changes.
        #[serde(default)]
        config: Vec<Setting>,
    },
    /// Says what people are to a room, or makes somebody something else.
    #[serde(rename = "room.affiliation")]
    Affiliation {
        /// The room's bare JID.
        room: String,
        /// One person's bare JID; all otherwise.
        #[serde(default)]
        jid: Option<String>,
        /// What they are to be: owner, admin, member, none or outcast.
        #[serde(default)]
        affiliation: Option<String>,
        /// Why, for those who are told.
        #[serde(default)]
        reason: Option<String>,
    },
    /// Removes a room with all that belongs to it.
    #[serde(rename = "room.destroy")]
    Destroy {
        /// The room's bare JID.
        room: String,
        /// Another room to go to instead.
        #[serde(default)]
        alternate: Option<String>,
        /// Why, for those who are in it.
        #[serde(default)]
        reason: Option<String>,
    },
    /// Puts an occupant out of a room.
    #[serde(rename = "room.kick")]
    Kick {
        /// The room's bare JID.
        room: String,
        /// The occupant's nickname.
        nick: String,
        /// Why, for those who are told.
        #[serde(default)]
        reason: Option<String>,
    },
}

/// The commands' names, in the order of [`RoomRequest`].
pub(super) const COMMANDS: [&str; 7] =
    ["room.list", "room.show", "room.create", "room.config", "room.affiliation", "room.destroy", "room.kick"];

impl RoomRequest {
    /// The room it is about; none for a list.
    pub fn room(&self) -> Option<&str> {
        match self {
            Self::List { .. } => None,
            Self::Show { room }
            | Self::Create { room, .. }
            | Self::Config { room, .. }
            | Self::Affiliation { room, .. }
            | Self::Destroy { room, .. }
            | Self::Kick { room, .. } => Some(room),
        }
    }

    /// Whether it changes nothing.
    pub fn is_question(&self) -> bool {
        match self {
            Self::List { .. } | Self::Show { .. } => true,
            Self::Config { config, .. } => config.is_empty(),
            Self::Affiliation { affiliation, .. } => affiliation.is_none(),
            Self::Create { .. } | Self::Destroy { .. } | Self::Kick { .. } => false,
        }
    }
}

/// A field of a room's configuration (XEP-0045 §15.5.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// The field's name, with or without what all of them begin with: `membersonly`.
    pub name: String,
    /// Its values: one, but for lists.
    pub values: Vec<String>,
    /// What it means.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub label: String,
}

/// What a command on rooms answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RoomReply {
    /// A list.
    Rooms {
        /// The rooms, by address.
        rooms: Vec<ListedRoom>,
    },
    /// What there is to know of a room.
    Room(Box<RoomDetails>),
    /// How a room is configured.
    Config {
        /// The room's bare JID.
        room: String,
        /// All fields.
        config: Vec<Setting>,
    },
    /// What people are to a room.
    People {
        /// The room's bare JID.
        room: String,
        /// Those who are something, by address.
        people: Vec<RoomPerson>,
    },
    /// It is done.
    Done {
        /// The room's bare JID.
        room: String,
    },
}

/// A room in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedRoom {
    /// Its bare JID.
    pub room: String,
    /// What it is called.
    pub name: String,
    /// When it was made (RFC 3339, UTC).
    pub created: String,
    /// How many are in it; not known without a server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occupants: Option<usize>,
}

/// A room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomDetails {
    /// Its bare JID.
    pub room: String,
    /// When it was made (RFC 3339, UTC).
    pub created: String,
    /// The subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// How it is configured.
    pub config: Vec<Setting>,
    /// Who is something to it.
    pub people: Vec<RoomPerson>,
    /// Who is in it; not known without a server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occupants: Option<Vec<RoomOccupant>>,
}

/// What somebody is to a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomPerson {
    /// The bare JID, or a domain.
    pub jid: String,
    /// The affiliation.
    pub affiliation: String,
    /// The nickname that is reserved for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nick: Option<String>,
    /// Why they were given the affiliation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Somebody who is in a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomOccupant {
    /// The nickname.
    pub nick: String,
    /// The sessions' full JIDs.
    pub jids: Vec<String>,
    /// The role.
    pub role: String,
    /// The affiliation.
    pub affiliation: String,
}

/// Which service is to carry out what: a list of all rooms is asked of each.
pub fn addressed(request: RoomRequest, services: &[BareJid]) -> Result<Vec<(&BareJid, RoomRequest)>, CommandError> {
    if let RoomRequest::List { service: None } = request {
        let list = |service: &BareJid| RoomRequest::List { service: Some(service.to_string()) };
        return Ok(services.iter().map(|service| (service, list(service))).collect());
    }
    Ok(vec![(service_of(&request, services)?, request)])
}

/// What several services say together.
pub fn joined(replies: Vec<RoomReply>) -> RoomReply {
    let mut all = Vec::new();
    for reply in replies {
        match reply {
            RoomReply::Rooms { rooms } => all.extend(rooms),
            // Only lists are asked of more than one.
            one => return one,
        }
    }
    RoomReply::Rooms { rooms: all }
}

/// The service that a command is for.
fn service_of<'a>(request: &RoomRequest, services: &'a [BareJid]) -> Result<&'a BareJid, CommandError> {
    let bad = |text| Err(CommandError::new(CommandCondition::BadRequest, text));
    let example = services.first().map_or("conference.localhost", |service| service.as_str());
    let domain = match request {
        RoomRequest::List { service } => service.as_deref().unwrap_or_default(),
        _ => match BareJid::new(request.room().unwrap_or_default()) {
            Ok(room) if room.localpart().is_some() => return known(room.domainpart(), services),
            Ok(room) => return bad(format!("\"{room}\" has no room name: write one such as lounge@{example}")),
            Err(error) => {
                let text = request.room().unwrap_or_default();
                return bad(format!("\"{text}\" is no room's address, such as lounge@{example}: {error}"));
            }
        },
    };
    match BareJid::new(domain) {
        Ok(domain) => known(domain.as_str(), services),
        Err(error) => bad(format!("\"{domain}\" is no domain: {error}")),
    }
}

fn known<'a>(domain: &str, services: &'a [BareJid]) -> Result<&'a BareJid, CommandError> {
    services.iter().find(|service| service.as_str() == domain).ok_or_else(|| {
        let text = if services.is_empty() {
            "the server has no rooms: the conf has the module \"muc\" off".to_owned()
        } else {
            let names: Vec<&str> = services.iter().map(|service| service.as_str()).collect();
            format!("the server has no rooms at {domain}; it has them at {}", names.join(", "))
        };
        CommandError::new(CommandCondition::BadRequest, text)
    })
}

impl Server {
    /// Has the modules that have rooms carry out a command.
    pub async fn command_rooms(self: &Arc<Self>, request: RoomRequest) -> Result<RoomReply, CommandError> {
        let hosts = self.hosts();
        let doors = || hosts.iter().flat_map(|host| &host.table.rooms);
        let services: Vec<BareJid> = doors().map(|(domain, _)| domain.clone()).collect();
        let mut replies = Vec::new();
        for (service, request) in addressed(request, &services)? {
            let Some((_, door)) = doors().find(|(domain, _)| domain == service) else { continue };
            replies.push(door(self, request).await?);
        }
        Ok(joined(replies))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(request: RoomRequest, services: &[&str]) -> Result<Vec<String>, String> {
        let services: Vec<BareJid> = services.iter().map(|service| BareJid::new(service).unwrap()).collect();
        let asked = addressed(request, &services).map_err(|error| error.text)?;
        Ok(asked.iter().map(|(service, _)| service.to_string()).collect())
    }

    #[test]
    fn lists_are_joined() {
        let listed =
            |room: &str| ListedRoom { room: room.into(), name: "R".into(), created: "2026".into(), occupants: None };
        let list = |rooms: &[&str]| RoomReply::Rooms { rooms: rooms.iter().map(|room| listed(room)).collect() };
        assert_eq!(joined(vec![list(&["a@c", "b@c"]), list(&[]), list(&["a@d"])]), list(&["a@c", "b@c", "a@d"]));
        let done = RoomReply::Done { room: "a@c".into() };
        assert_eq!(joined(vec![done.clone()]), done);
    }

    #[test]
    fn each_service_answers_for_its_rooms() {
        let services = ["conference.localhost", "chat.example.org"];
        let show = |room: &str| asked(RoomRequest::Show { room: room.to_owned() }, &services);
        let list = |service: Option<&str>| asked(RoomRequest::List { service: service.map(str::to_owned) }, &services);
        assert_eq!(list(None).unwrap(), services);
        assert_eq!(list(Some("Chat.Example.org")).unwrap(), ["chat.example.org"]);
        assert_eq!(show("Lounge@chat.example.ORG").unwrap(), ["chat.example.org"]);
        for (room, expected) in [
            ("lounge", "\"lounge\" has no room name: write one such as lounge@conference.localhost"),
            (
                "lounge@example.org",
                "the server has no rooms at example.org; it has them at conference.localhost, chat.example.org",
            ),
        ] {
            assert_eq!(show(room).unwrap_err(), expected);
        }
        assert!(show("@@").unwrap_err().starts_with("\"@@\" is no room's address, such as lounge@"));
        let none = asked(RoomRequest::Show { room: "a@b".to_owned() }, &[]);
        assert_eq!(none.unwrap_err(), "the server has no rooms: the conf has the module \"muc\" off");
        assert_eq!(asked(RoomRequest::List { service: None }, &[]).unwrap(), Vec::<String>::new());
    }
}
