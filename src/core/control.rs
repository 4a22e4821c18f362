//! What an admin's commands say to a running server, and what it answers: one JSON object a line each way, over a socket
//! in the data folder that only the server's own user may open.
//!
//! ```text
//! {"command":"user.add","args":{"jid":"alice@localhost","password":"..."}}
//! {"ok":{"jid":"alice@localhost"}}
//! {"error":{"condition":"conflict","text":"the account alice@localhost is there already"}}
//! ```
//!
//! A new command is a variant of [`Request`], one of [`Reply`] when it answers something new, an arm where the server's
//! [`Commands`] are, and a subcommand of the binary. Sockets are the binary's matter.

mod accounts;
pub mod rooms;
pub mod s2s;

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize, Serializer};

use crate::config::Secret;

pub use self::accounts::AccountCommands;
use self::rooms::{RoomReply, RoomRequest};
use self::s2s::{S2sReply, S2sRequest};

/// The longest command the server reads, in bytes.
pub const REQUEST_BYTES: usize = 64 << 10;

/// The socket's name in the data folder.
pub const SOCKET: &str = "control.sock";

/// A command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", content = "args")]
pub enum Request {
    /// Makes an account.
    #[serde(rename = "user.add")]
    UserAdd {
        /// The account's bare JID.
        jid: String,
        /// Its password.
        #[serde(serialize_with = "exposed")]
        password: Secret,
    },
    /// Lists accounts.
    #[serde(rename = "user.list")]
    UserList {
        /// One host's; all hosts' otherwise.
        #[serde(default)]
        host: Option<String>,
    },
    /// Sets an account's password and ends its sessions.
    #[serde(rename = "user.passwd")]
    UserPasswd {
        /// The account's bare JID.
        jid: String,
        /// The new password.
        #[serde(serialize_with = "exposed")]
        password: Secret,
    },
    /// Removes an account with all that it owns, and ends its sessions.
    #[serde(rename = "user.del")]
    UserDel {
        /// The account's bare JID.
        jid: String,
    },
    /// Says, or sets, how long an account's messages are kept.
    #[serde(rename = "user.archive")]
    UserArchive {
        /// The account's bare JID.
        jid: String,
        /// What to set: `"forever"`, a period such as `"90 days"`, or `"default"`, which is what the conf says.
        #[serde(default)]
        keep: Option<String>,
    },
    /// A command on rooms.
    #[serde(untagged)]
    Room(RoomRequest),
    /// A command on other servers.
    #[serde(untagged)]
    S2s(S2sRequest),
}

fn exposed<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose())
}

/// What a command that succeeded says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Reply {
    /// Accounts, by address.
    Accounts {
        /// The accounts.
        accounts: Vec<ListedAccount>,
    },
    /// How long an account's messages are kept.
    Archive {
        /// Its bare JID.
        jid: String,
        /// `"forever"`, a period, or `"default"`.
        keep: String,
    },
    /// The account that was made, changed or removed, as the server writes it.
    Account {
        /// Its bare JID.
        jid: String,
    },
    /// What a command on rooms says.
    Room(RoomReply),
    /// What a command on other servers says.
    S2s(S2sReply),
}

/// An account in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedAccount {
    /// Its bare JID.
    pub jid: String,
    /// When it was made (RFC 3339, UTC).
    pub created: String,
}

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandError {
    /// For programs.
    pub condition: CommandCondition,
    /// For people; never holds a password.
    pub text: String,
}

impl CommandError {
    /// An error with its text.
    pub fn new(condition: CommandCondition, text: impl Into<String>) -> Self {
        Self { condition, text: text.into() }
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for CommandError {}

/// The kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommandCondition {
    /// There is no such account or room.
    ItemNotFound,
    /// It is there already.
    Conflict,
    /// The request makes no sense: no address, a domain that is not served, a password that cannot be used.
    BadRequest,
    /// The server does not know the command: it is older than the binary that asks.
    FeatureNotImplemented,
    /// The database does not answer.
    ServiceUnavailable,
    /// Something that should not happen.
    InternalServerError,
}

/// A line of answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// It is done.
    Ok(Reply),
    /// It is not.
    Error(CommandError),
}

impl From<Result<Reply, CommandError>> for Answer {
    fn from(result: Result<Reply, CommandError>) -> Self {
        match result {
            Ok(reply) => Self::Ok(reply),
            Err(error) => Self::Error(error),
        }
    }
}

/// Whoever carries out commands: the running server, or the database alone when none runs.
#[async_trait]
pub trait Commands: Send + Sync {
    /// Carries out a command.
    async fn run(&self, request: Request) -> Result<Reply, CommandError>;
}

/// Answers a line with a line (both without their line break).
pub async fn answer(line: &[u8], commands: &dyn Commands) -> String {
    let answer = match read_request(line) {
        Ok(request) => commands.run(request).await.into(),
        Err(error) => Answer::Error(error),
    };
    serde_json::to_string(&answer).unwrap_or_else(|_| {
        r#"{"error":{"condition":"internal-server-error","text":"the answer cannot be written"}}"#.to_owned()
    })
}

/// The errors of serde may quote the line, a password with it: they stay here.
fn read_request(line: &[u8]) -> Result<Request, CommandError> {
    #[derive(Deserialize)]
    struct Named {
        command: String,
    }
    if let Ok(request) = serde_json::from_slice(line) {
        return Ok(request);
    }
    let named: Named = serde_json::from_slice(line).map_err(|_| {
        CommandError::new(CommandCondition::BadRequest, "this is no command: a JSON object with a \"command\"")
    })?;
    let known = COMMANDS.iter().chain(&rooms::COMMANDS).chain(&s2s::COMMANDS).any(|known| *known == named.command);
    Err(if known {
        CommandError::new(CommandCondition::BadRequest, format!("the \"args\" of {} are wrong", named.command))
    } else {
        CommandError::new(
            CommandCondition::FeatureNotImplemented,
            "the running server does not know this command: is it an older version?",
        )
    })
}

const COMMANDS: [&str; 5] = ["user.add", "user.list", "user.passwd", "user.del", "user.archive"];

/// Writes a request as a line, without its line break.
pub fn write_request(request: &Request) -> Result<String, CommandError> {
    serde_json::to_string(request)
        .map_err(|_| CommandError::new(CommandCondition::InternalServerError, "the command cannot be written as JSON"))
}

/// Reads a line of answer.
pub fn read_answer(line: &[u8]) -> Result<Reply, CommandError> {
    match serde_json::from_slice(line) {
        Ok(Answer::Ok(reply)) => Ok(reply),
        Ok(Answer::Error(error)) => Err(error),
        Err(_) => Err(CommandError::new(
            CommandCondition::InternalServerError,
            "the running server gave an answer that this version does not understand",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::rooms::{ListedRoom, RoomDetails, RoomPerson, Setting};
    use super::*;
    use crate::remote::{FailureStatus, LinkStatus, PairStatus, RemoteStatus, StreamStatus};

    struct Echo;

    #[async_trait]
    impl Commands for Echo {
        async fn run(&self, request: Request) -> Result<Reply, CommandError> {
            match request {
                Request::UserAdd { jid, password } if password.expose() == "right" => Ok(Reply::Account { jid }),
                Request::UserList { .. } => Ok(Reply::Accounts { accounts: Vec::new() }),
                other => Err(CommandError::new(CommandCondition::Conflict, format!("{other:?}"))),
            }
        }
    }

    #[tokio::test]
    async fn a_line_is_answered_with_a_line() {
        for (line, expected) in [
            (r#"{"command":"user.add","args":{"jid":"a@b","password":"right"}}"#, r#"{"ok":{"jid":"a@b"}}"#),
            (r#"{"command":"user.list","args":{}}"#, r#"{"ok":{"accounts":[]}}"#),
            (
                r#"{"command":"user.add","args":{"jid":"a@b","password":"canary"}}"#,
                r#"{"error":{"condition":"conflict","text":"UserAdd { jid: \"a@b\", password: Secret(..) }"}}"#,
            ),
            (
                r#"{"command":"user.add","args":{"jid":"a@b","passwort":"canary"}}"#,
                r#"{"error":{"condition":"bad-request","text":"the \"args\" of user.add are wrong"}}"#,
            ),
            (
                r#"{"command":"room.kick","args":{"room":"a@b"}}"#,
                r#"{"error":{"condition":"bad-request","text":"the \"args\" of room.kick are wrong"}}"#,
            ),
            (
                r#"{"command":"room.canary"}"#,
                r#"{"error":{"condition":"feature-not-implemented","text":"the running server does not know this command: is it an older version?"}}"#,
            ),
            (
                r#"canary"#,
                r#"{"error":{"condition":"bad-request","text":"this is no command: a JSON object with a \"command\""}}"#,
            ),
        ] {
            assert_eq!(answer(line.as_bytes(), &Echo).await, expected, "for {line}");
        }
    }

    #[test]
    fn requests_and_answers_about_rooms_come_back_as_they_were() {
        let (room, reason) = ("r@c".to_owned(), Some("because".to_owned()));
        let setting = Setting { name: "whois".into(), values: vec!["anyone".into()], label: String::new() };
        let requests = [
            RoomRequest::List { service: Some("c".into()) },
            RoomRequest::Show { room: room.clone() },
            RoomRequest::Create { room: room.clone(), owner: "a@b".into(), config: vec![setting.clone()] },
            RoomRequest::Config { room: room.clone(), config: vec![setting.clone()] },
            RoomRequest::Affiliation {
                room: room.clone(),
                jid: Some("a@b".into()),
                affiliation: Some("member".into()),
                reason: reason.clone(),
            },
            RoomRequest::Destroy { room: room.clone(), alternate: Some("s@c".into()), reason: reason.clone() },
            RoomRequest::Kick { room: room.clone(), nick: "third".into(), reason },
        ];
        assert_eq!(requests.len(), rooms::COMMANDS.len());
        for (request, name) in requests.into_iter().zip(rooms::COMMANDS) {
            let request = Request::Room(request);
            let line = write_request(&request).unwrap();
            assert!(line.contains(&format!("\"{name}\"")) && !line.contains('\n'), "{line}");
            assert_eq!(read_request(line.as_bytes()).unwrap(), request);
        }
        let listed = ListedRoom { room: room.clone(), name: "R".into(), created: "2026".into(), occupants: None };
        let person = RoomPerson { jid: "a@b".into(), affiliation: "owner".into(), nick: None, reason: None };
        let details = RoomDetails {
            room: room.clone(),
            created: "2026".into(),
            subject: Some("s".into()),
            config: vec![setting.clone()],
            people: vec![person.clone()],
            occupants: Some(Vec::new()),
        };
        for reply in [
            RoomReply::Rooms { rooms: vec![listed] },
            RoomReply::Rooms { rooms: Vec::new() },
            RoomReply::Room(Box::new(details)),
            RoomReply::Config { room: room.clone(), config: vec![setting] },
            RoomReply::People { room: room.clone(), people: vec![person] },
            RoomReply::Done { room },
        ] {
            let line = serde_json::to_vec(&Answer::Ok(Reply::Room(reply.clone()))).unwrap();
            assert_eq!(read_answer(&line).unwrap(), Reply::Room(reply));
        }
    }

    #[test]
    fn requests_and_answers_about_other_servers_come_back_as_they_were() {
        let domain = "far.example".to_owned();
        let requests = [
            S2sRequest::List {},
            S2sRequest::Show { domain: domain.clone() },
            S2sRequest::Close { domain: domain.clone() },
        ];
        for (request, name) in requests.into_iter().zip(s2s::COMMANDS) {
            let request = Request::S2s(request);
            let line = write_request(&request).unwrap();
            assert!(line.contains(&format!("\"{name}\"")) && !line.contains('\n'), "{line}");
            assert_eq!(read_request(line.as_bytes()).unwrap(), request);
        }
        let wrong = read_request(br#"{"command":"s2s.show","args":{}}"#).unwrap_err();
        assert_eq!(wrong.text, "the \"args\" of s2s.show are wrong");
        let failure = FailureStatus {
            text: "no".into(),
            condition: "remote-server-not-found".into(),
            definite: true,
            at: "2026-01-01T00:00:00Z".into(),
        };
        let remote = RemoteStatus {
            streams: vec![StreamStatus {
                id: 7,
                direction: "out".into(),
                address: "192.0.2.1:5269".into(),
                since: "2026-01-01T00:00:00Z".into(),
                silent: 3,
                tls: Some("TLSv1.3".into()),
                certificate: None,
                pairs: vec![PairStatus { from: "x.example".into(), to: domain.clone(), by: "dialback".into() }],
                bidi: false,
                acks: true,
                resumable: true,
            }],
            links: vec![LinkStatus {
                local: "x.example".into(),
                carried: true,
                stanzas: 2,
                bytes: 300,
                oldest: Some(1),
                failure: Some(failure.clone()),
            }],
            failure: Some(failure),
            ..RemoteStatus::new(domain.clone())
        };
        for reply in [
            S2sReply::Servers { servers: vec![remote.clone()] },
            S2sReply::Servers { servers: Vec::new() },
            S2sReply::Server(Box::new(remote)),
            S2sReply::Closed { domain, closed: 2 },
        ] {
            let line = serde_json::to_vec(&Answer::Ok(Reply::S2s(reply.clone()))).unwrap();
            assert_eq!(read_answer(&line).unwrap(), Reply::S2s(reply));
        }
    }

    #[test]
    fn requests_and_answers_come_back_as_they_were() {
        let requests = [
            Request::UserAdd { jid: "a@b".into(), password: Secret::new("p\n\"") },
            Request::UserList { host: Some("b".into()) },
            Request::UserPasswd { jid: "a@b".into(), password: Secret::new("p") },
            Request::UserDel { jid: "a@b".into() },
            Request::UserArchive { jid: "a@b".into(), keep: Some("30 days".into()) },
        ];
        assert_eq!(requests.len(), COMMANDS.len());
        for (request, name) in requests.iter().zip(COMMANDS) {
            let line = write_request(request).unwrap();
            assert!(line.contains(&format!("\"{name}\"")) && !line.contains('\n'), "{line}");
            assert_eq!(&read_request(line.as_bytes()).unwrap(), request);
        }
        let account = ListedAccount { jid: "a@b".into(), created: "2026-01-01T00:00:00Z".into() };
        for reply in [
            Reply::Account { jid: "a@b".into() },
            Reply::Accounts { accounts: vec![account] },
            Reply::Archive { jid: "a@b".into(), keep: "forever".into() },
        ] {
            let line = serde_json::to_vec(&Answer::Ok(reply.clone())).unwrap();
            assert_eq!(read_answer(&line).unwrap(), reply);
        }
    }
}
