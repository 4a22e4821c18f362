//! A script in the format of scansion, read into steps. The format, and what is ours in it, is in `README.md`.

use std::collections::BTreeMap;

/// A whole `.scs` file.
pub(crate) struct Script {
    /// Options of the conf, as TOML with dotted keys: of all servers under "", of one under its name.
    pub(crate) confs: BTreeMap<String, String>,
    pub(crate) characters: Vec<Character>,
    pub(crate) steps: Vec<Step>,
}

/// Who takes part.
pub(crate) struct Character {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    properties: BTreeMap<String, String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An XMPP client that logs in.
    Client,
    /// A connection that sends what the script says, from the first byte.
    Stream,
}

/// One action of one character.
pub(crate) struct Step {
    /// Where it is in the file.
    pub(crate) line: usize,
    /// Its place among the characters; `None` for what happens between the servers.
    pub(crate) who: Option<usize>,
    pub(crate) action: Action,
}

pub(crate) enum Action {
    Connects,
    /// Logs in and leaves it there: a session may be resumed instead of a resource bound.
    ConnectsUnbound,
    Binds,
    Sends(String),
    Receives(String),
    ReceivesInAnyOrder(String),
    ReceivesNothing,
    Disconnects,
    /// The network goes away.
    Cuts,
    /// The server ends the stream.
    IsDisconnected,
    /// Nothing gets from one server to the other any more.
    CutOff,
    /// It does again.
    Joined,
}

impl Character {
    /// A property such as `jid`.
    pub(crate) fn property(&self, name: &str) -> Option<&str> {
        self.properties.get(name).map(String::as_str)
    }

    /// The name of its server; "" where there is only one.
    pub(crate) fn server(&self) -> &str {
        self.property("server").unwrap_or_default()
    }
}

impl Script {
    /// Reads a script.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut script = Self { confs: BTreeMap::new(), characters: Vec::new(), steps: Vec::new() };
        let mut lines = text.lines().enumerate().map(|(number, line)| (number + 1, line)).peekable();
        let mut server: Option<String> = None;
        for (number, line) in lines.by_ref() {
            if line.starts_with("---") {
                break;
            }
            let trimmed = line.trim();
            if trimmed.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some((kind, name)) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
                server = (kind == "Server").then(|| name.trim().to_owned());
                let kind = match kind {
                    "Server" => continue,
                    "Client" => Kind::Client,
                    "Stream" => Kind::Stream,
                    _ => return Err(format!("line {number}: [{kind}] is not known to this runner")),
                };
                let name = name.trim().to_owned();
                script.characters.push(Character { name, kind, properties: BTreeMap::new() });
            } else if let Some(server) = &server {
                let conf = script.confs.entry(server.clone()).or_default();
                conf.push_str(trimmed);
                conf.push('\n');
            } else {
                let (Some(character), Some((key, value))) = (script.characters.last_mut(), trimmed.split_once(':'))
                else {
                    return Err(format!("line {number}: expected a property such as \"jid: romeo@localhost\""));
                };
                character.properties.insert(key.trim().to_owned(), value.trim().to_owned());
            }
        }
        while let Some((line, text)) = lines.next() {
            if text.trim().is_empty() || text.starts_with('#') {
                continue;
            }
            let mut body = String::new();
            while let Some((_, more)) =
                lines.next_if(|(_, more)| more.trim().is_empty() || more.starts_with([' ', '\t', '#']))
            {
                if !more.starts_with('#') {
                    body.push_str(more);
                    body.push('\n');
                }
            }
            script.steps.push(script.step(line, text.trim(), body.trim().to_owned())?);
        }
        Ok(script)
    }

    fn step(&self, line: usize, text: &str, body: String) -> Result<Step, String> {
        let text = text.strip_prefix("Then ").unwrap_or(text);
        match text {
            "The servers are cut off" => return Ok(Step { line, who: None, action: Action::CutOff }),
            "The servers are joined" => return Ok(Step { line, who: None, action: Action::Joined }),
            _ => {}
        }
        let speaks = |(_, character): &(usize, &Character)| {
            text.strip_prefix(character.name.as_str()).is_some_and(|rest| rest.starts_with(' '))
        };
        let who = self.characters.iter().enumerate().filter(speaks).max_by_key(|(_, character)| character.name.len());
        let (who, character) = who.ok_or_else(|| format!("line {line}: nobody of this name takes part: {text}"))?;
        let verb = text.strip_prefix(character.name.as_str()).unwrap_or(text).trim();
        let action = match verb {
            "connects" => Action::Connects,
            "connects without a resource" => Action::ConnectsUnbound,
            "binds" => Action::Binds,
            "sends:" => Action::Sends(body),
            "receives: nothing" | "receives nothing" => Action::ReceivesNothing,
            "receives:" if body == "nothing" => Action::ReceivesNothing,
            "receives:" => Action::Receives(body),
            "receives in any order:" => Action::ReceivesInAnyOrder(body),
            "disconnects" => Action::Disconnects,
            "cuts the connection" => Action::Cuts,
            "is disconnected" => Action::IsDisconnected,
            _ => return Err(format!("line {line}: unknown action \"{verb}\"")),
        };
        Ok(Step { line, who: Some(who), action })
    }
}
