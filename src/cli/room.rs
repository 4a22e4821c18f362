//! `rookery room ...`: rooms.

use std::path::Path;

use clap::Subcommand;
use rookery_core::control::rooms::{RoomDetails, RoomPerson, RoomReply, RoomRequest, Setting};
use rookery_core::control::{Answer, CommandCondition, Reply, Request};

use super::{Outcome, ask, fail, read_conf, refuse, say, say_json};

const SETTINGS: &str = "Settings are the fields of a room's configuration, as `rookery room config ROOM` lists them: \
    roomname, membersonly, moderatedroom, whois and others. Yes and no are true and false; several values are written \
    with commas between them. A password is set by roomsecret=PASSWORD and taken away by \
    passwordprotectedroom=false.";

#[derive(Debug, Subcommand)]
pub(super) enum RoomCommand {
    /// Lists rooms and, if the server runs, how many are in them
    List {
        /// The rooms of one service only, such as conference.localhost
        service: Option<String>,
    },
    /// Says what there is to know of a room: settings, people, and who is in it if the server runs
    Show {
        /// The room, such as lounge@conference.localhost
        room: String,
    },
    /// Makes a room
    #[command(after_help = SETTINGS)]
    Create {
        /// The room, such as lounge@conference.localhost
        room: String,
        /// Its owner, such as alice@localhost
        #[arg(long, value_name = "JID")]
        owner: String,
        /// What differs from the conf's defaults
        #[arg(value_name = "NAME=VALUE", value_parser = setting)]
        settings: Vec<Setting>,
    },
    /// Says how a room is configured, or changes it; those who are in it are told
    #[command(after_help = SETTINGS)]
    Config {
        /// The room, such as lounge@conference.localhost
        room: String,
        /// What changes
        #[arg(value_name = "NAME=VALUE", value_parser = setting)]
        settings: Vec<Setting>,
    },
    /// Says what people are to a room, or makes somebody its owner, admin or member, bans them, or none of these
    Affiliation {
        /// The room, such as lounge@conference.localhost
        room: String,
        /// Who, such as alice@localhost; for a ban also a whole domain
        jid: Option<String>,
        /// owner, admin, member, none or outcast, which is banned
        affiliation: Option<String>,
        /// Why, for those who are told
        #[arg(long, value_name = "TEXT", requires = "affiliation")]
        reason: Option<String>,
    },
    /// Removes a room with its archive; those who are in it are put out
    Destroy {
        /// The room, such as lounge@conference.localhost
        room: String,
        /// Another room that they are told to go to
        #[arg(long, value_name = "ROOM")]
        alternate: Option<String>,
        /// Why, for those who are told
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Puts somebody out of a room, who may come back; only while the server runs
    Kick {
        /// The room, such as lounge@conference.localhost
        room: String,
        /// Their nickname in the room
        nick: String,
        /// Why, for those who are told
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
}

fn setting(text: &str) -> Result<Setting, String> {
    let (name, value) = text.split_once('=').ok_or_else(|| "write NAME=VALUE".to_owned())?;
    let values = if value.is_empty() { Vec::new() } else { vec![value.to_owned()] };
    Ok(Setting { name: name.trim().to_owned(), values, label: String::new() })
}

pub(super) fn run(named: Option<&Path>, json: bool, command: RoomCommand) -> Outcome {
    let conf = match read_conf(named) {
        Ok(conf) => conf,
        Err(error) => return fail(json, CommandCondition::InternalServerError, error.to_string()),
    };
    let (request, done) = match command {
        RoomCommand::List { service } => (RoomRequest::List { service }, ""),
        RoomCommand::Show { room } => (RoomRequest::Show { room }, ""),
        RoomCommand::Create { room, owner, settings } => {
            (RoomRequest::Create { room, owner, config: settings }, "made")
        }
        RoomCommand::Config { room, settings } => (RoomRequest::Config { room, config: settings }, ""),
        RoomCommand::Affiliation { room, jid, affiliation, reason } => {
            (RoomRequest::Affiliation { room, jid, affiliation, reason }, "")
        }
        RoomCommand::Destroy { room, alternate, reason } => {
            (RoomRequest::Destroy { room, alternate, reason }, "removed")
        }
        RoomCommand::Kick { room, nick, reason } => (RoomRequest::Kick { room, nick, reason }, "has one occupant less"),
    };
    match ask::carry_out(&conf, Request::Room(request)) {
        Ok(reply) if json => say_json(&Answer::Ok(reply)),
        Ok(Reply::Room(reply)) => print(done, &reply),
        // Commands on rooms do not answer with accounts.
        Ok(_) => {}
        Err(error) => return refuse(json, error),
    }
    Outcome::Done
}

fn print(done: &str, reply: &RoomReply) {
    match reply {
        RoomReply::Rooms { rooms } => {
            for room in rooms {
                let inside = room.occupants.map_or_else(String::new, |inside| format!("  {inside} in it"));
                let name = if room.name.is_empty() { String::new() } else { format!("  {}", room.name) };
                say(&format!("{}{inside}{name}", room.room));
            }
        }
        RoomReply::Room(details) => print_details(details),
        RoomReply::Config { config, .. } => print_settings("", config),
        RoomReply::People { people, .. } => print_people("", people),
        RoomReply::Done { room } => say(&format!("{room} {done}")),
    }
}

fn print_details(details: &RoomDetails) {
    say(&format!("{}, made {}", details.room, details.created));
    if let Some(subject) = &details.subject {
        say(&format!("subject: {}", one_line(subject)));
    }
    say("settings:");
    print_settings("  ", &details.config);
    say("people:");
    print_people("  ", &details.people);
    match &details.occupants {
        None => say("who is in it is known when the server runs"),
        Some(occupants) if occupants.is_empty() => say("nobody is in it"),
        Some(occupants) => {
            say("in it:");
            for occupant in occupants {
                let (nick, jids) = (one_line(&occupant.nick), occupant.jids.join(", "));
                say(&format!("  {nick}  {} ({})  {jids}", occupant.role, occupant.affiliation));
            }
        }
    }
}

fn print_settings(indent: &str, settings: &[Setting]) {
    let width = settings.iter().map(|setting| setting.name.len()).max().unwrap_or_default();
    for Setting { name, values, label } in settings {
        let values = one_line(&values.join(","));
        say(format!("{indent}{name:width$} = {values:24}  # {label}").trim_end());
    }
}

fn print_people(indent: &str, people: &[RoomPerson]) {
    for RoomPerson { jid, affiliation, nick, reason } in people {
        let nick = nick.as_ref().map_or_else(String::new, |nick| format!("  nickname {}", one_line(nick)));
        let reason = reason.as_ref().map_or_else(String::new, |reason| format!("  ({})", one_line(reason)));
        say(&format!("{indent}{affiliation:8} {jid}{nick}{reason}"));
    }
}

/// What users have written, on one line and without anything that a terminal would obey.
fn one_line(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_names_and_values() {
        let read = |text| setting(text).map(|setting| (setting.name, setting.values));
        assert_eq!(read("roomname=A = B"), Ok(("roomname".to_owned(), vec!["A = B".to_owned()])));
        assert_eq!(read("roomdesc="), Ok(("roomdesc".to_owned(), Vec::new())));
        assert!(read("membersonly").is_err());
    }

    #[test]
    fn what_users_write_does_nothing_to_the_terminal() {
        assert_eq!(one_line("a\u{1b}[2Jb\nc"), "a [2Jb c");
    }
}
