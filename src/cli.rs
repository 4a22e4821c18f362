//! The command line: what there is to say, which conf is meant, and how commands answer people and programs.

mod ask;
mod check;
mod files;
mod logs;
mod room;
mod s2s;
mod serve;
mod user;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};
use rookery_core::config::{Conf, ConfigError};
use rookery_core::control::{Answer, CommandCondition, CommandError};

/// Where the conf is looked for when none is named.
const CONFS: [&str; 2] = ["conf/rookery.toml", "/etc/rookery/rookery.toml"];

/// An XMPP server: nothing acknowledged is lost.
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_CODES)]
struct Line {
    /// The conf file; otherwise conf/rookery.toml, else /etc/rookery/rookery.toml
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Answers as one JSON object, for programs
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 the command line or what it names makes no sense, \
                          3 there is no such account, room or server, 4 it is there already.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the server (this is what `rookery` alone does)
    Serve,
    /// Judges the conf and what it needs, without starting the server
    Check {
        /// Says nothing of what is in order
        #[arg(long, short)]
        quiet: bool,
    },
    /// Makes, lists, changes and removes accounts, whether the server runs or not
    #[command(subcommand)]
    User(user::UserCommand),
    /// Makes, lists, changes and removes rooms, whether the server runs or not
    #[command(subcommand)]
    Room(room::RoomCommand),
    /// Looks at other servers: what this one has to do with them, and what is wrong with one
    #[command(subcommand)]
    S2s(s2s::S2sCommand),
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done = 0,
    Failed = 1,
    Usage = 2,
    Missing = 3,
    Conflict = 4,
}

impl From<CommandCondition> for Outcome {
    fn from(condition: CommandCondition) -> Self {
        match condition {
            CommandCondition::ItemNotFound => Self::Missing,
            CommandCondition::Conflict => Self::Conflict,
            CommandCondition::BadRequest => Self::Usage,
            CommandCondition::FeatureNotImplemented
            | CommandCondition::ServiceUnavailable
            | CommandCondition::InternalServerError => Self::Failed,
        }
    }
}

/// Does what the command line says.
pub(crate) fn run(started: Instant) -> ExitCode {
    let line = Line::parse();
    let outcome = match line.command {
        None | Some(Command::Serve) => serve::run(line.config.as_deref(), started),
        Some(Command::Check { quiet }) => check::run(line.config.as_deref(), line.json, quiet),
        Some(Command::User(command)) => user::run(line.config.as_deref(), line.json, command),
        Some(Command::Room(command)) => room::run(line.config.as_deref(), line.json, command),
        Some(Command::S2s(command)) => s2s::run(line.config.as_deref(), line.json, command),
    };
    ExitCode::from(outcome as u8)
}

/// The conf that is named, or the first of those in the usual places.
fn find_conf(named: Option<&Path>) -> Result<PathBuf, ConfigError> {
    if let Some(named) = named {
        return Ok(named.to_owned());
    }
    let usual = CONFS.iter().map(Path::new).find(|path| path.exists());
    usual.map(Path::to_owned).ok_or_else(|| {
        let why = format!("there is no conf: neither ./{} nor {}; name one with --config FILE", CONFS[0], CONFS[1]);
        ConfigError::new("", why)
    })
}

fn read_conf(named: Option<&Path>) -> Result<Conf, ConfigError> {
    Conf::read(&find_conf(named)?)
}

/// Answers a command that is not carried out, in the form asked for.
fn fail(json: bool, condition: CommandCondition, text: impl Into<String>) -> Outcome {
    refuse(json, CommandError::new(condition, text))
}

fn refuse(json: bool, error: CommandError) -> Outcome {
    let outcome = error.condition.into();
    if json {
        say_json(&Answer::Error(error));
    } else {
        complain(&error.text);
    }
    outcome
}

/// Writes a line to standard output. Whoever closes it early does not want the rest.
fn say(text: &str) {
    drop(writeln!(std::io::stdout(), "{text}"));
}

fn say_json(value: &impl serde::Serialize) {
    match serde_json::to_string(value) {
        Ok(text) => say(&text),
        Err(error) => complain(&format!("the answer cannot be written: {error}")),
    }
}

fn complain(text: &str) {
    drop(writeln!(std::io::stderr(), "{text}"));
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the system gives no threads: {error}"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_made() {
        Line::command().debug_assert();
        let line = Line::try_parse_from(["rookery", "user", "add", "a@b", "--json", "--config", "x.toml"]).unwrap();
        assert!(line.json && line.config.as_deref() == Some(Path::new("x.toml")));
        assert!(Line::try_parse_from(["rookery"]).unwrap().command.is_none());
        assert!(Line::try_parse_from(["rookery", "user", "add", "a@b", "--password", "p", "--generate"]).is_err());
        assert!(Line::try_parse_from(["rookery", "room", "create", "a@b"]).is_err(), "a room has an owner");
        assert!(
            Line::try_parse_from(["rookery", "room", "config", "a@b", "moderatedroom=true", "whois=anyone"]).is_ok()
        );
    }
}
