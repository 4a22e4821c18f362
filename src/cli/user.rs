//! `rookery user ...`: accounts.

use std::io::{BufRead, IsTerminal, Read};
use std::path::Path;

use clap::{Args, Subcommand};
use rookery_core::config::Secret;
use rookery_core::control::{Answer, CommandCondition, CommandError, Reply, Request};
use serde::Serialize;

use super::{Outcome, ask, fail, read_conf, refuse, say, say_json};

#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// Makes an account
    Add {
        /// The account, such as alice@localhost
        jid: String,
        #[command(flatten)]
        password: PasswordArgs,
    },
    /// Lists accounts
    List {
        /// One host's accounts only
        host: Option<String>,
    },
    /// Sets an account's password and ends its sessions
    Passwd {
        /// The account, such as alice@localhost
        jid: String,
        #[command(flatten)]
        password: PasswordArgs,
    },
    /// Removes an account with its contacts, messages and archive, and ends its sessions
    Del {
        /// The account, such as alice@localhost
        jid: String,
    },
    /// Says how long an account's messages are kept in its archive, or sets it
    Archive {
        /// The account, such as alice@localhost
        jid: String,
        /// "forever", a period such as "90 days", or "default", which is what the conf says. What is older goes within
        /// the hour
        #[arg(long, value_name = "TIME")]
        keep: Option<String>,
    },
}

/// Without any of these, the password is asked for twice on the terminal.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(super) struct PasswordArgs {
    /// The password; other users of the machine may see it in the list of processes
    #[arg(long, value_name = "PASSWORD")]
    password: Option<String>,
    /// Reads the password from the first line of standard input
    #[arg(long)]
    password_stdin: bool,
    /// Makes a password and prints it
    #[arg(long)]
    generate: bool,
}

/// The longest password that is read, in bytes.
const PASSWORD_BYTES: u64 = 4096;

/// Characters of a generated password: 24 out of 57 are 139 bits.
const GENERATED_LENGTH: usize = 24;

/// Letters and digits that nobody takes for one another.
const ALPHABET: &[u8; 57] = b"23456789abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ";

pub(super) fn run(named: Option<&Path>, json: bool, command: UserCommand) -> Outcome {
    let conf = match read_conf(named) {
        Ok(conf) => conf,
        Err(error) => return fail(json, CommandCondition::InternalServerError, error.to_string()),
    };
    let mut generated = None;
    let mut choose = |args| match choose_password(args)? {
        Chosen::Given(password) => Ok(password),
        Chosen::Generated(password) => {
            generated = Some(password.clone());
            Ok(password)
        }
    };
    let request = match command {
        UserCommand::Add { jid, password } => choose(password).map(|password| Request::UserAdd { jid, password }),
        UserCommand::Passwd { jid, password } => choose(password).map(|password| Request::UserPasswd { jid, password }),
        UserCommand::List { host } => Ok(Request::UserList { host }),
        UserCommand::Del { jid } => Ok(Request::UserDel { jid }),
        UserCommand::Archive { jid, keep } => Ok(Request::UserArchive { jid, keep }),
    };
    let request = match request {
        Ok(request) => request,
        Err(error) => return refuse(json, error),
    };
    let done = match request {
        Request::UserAdd { .. } => "made",
        Request::UserPasswd { .. } => "has its new password",
        _ => "removed",
    };
    match ask::carry_out(&conf, request) {
        Ok(reply) => {
            print(json, done, reply, generated);
            Outcome::Done
        }
        Err(error) => refuse(json, error),
    }
}

enum Chosen {
    Given(Secret),
    Generated(Secret),
}

fn choose_password(args: PasswordArgs) -> Result<Chosen, CommandError> {
    let failed = |text: &str| CommandError::new(CommandCondition::BadRequest, text);
    if let Some(password) = args.password {
        return Ok(Chosen::Given(Secret::new(password)));
    }
    if args.generate {
        return generate().map(Chosen::Generated);
    }
    if args.password_stdin {
        let mut line = String::new();
        let mut input = std::io::stdin().lock().take(PASSWORD_BYTES);
        return match input.read_line(&mut line) {
            Ok(0) => Err(failed("standard input holds no password")),
            Ok(_) => Ok(Chosen::Given(Secret::new(line.trim_end_matches(['\n', '\r'])))),
            Err(_) => Err(failed("standard input holds no text")),
        };
    }
    if !std::io::stdin().is_terminal() {
        return Err(failed(
            "no terminal to ask for the password: give --password-stdin, --generate or --password PASSWORD",
        ));
    }
    let read = |prompt| rpassword::prompt_password(prompt).map_err(|_| failed("the terminal gave no password"));
    let first = read("Password: ")?;
    if first.is_empty() {
        return Err(failed("an empty password is none"));
    }
    if first != read("Once more: ")? {
        return Err(failed("the two passwords are not the same"));
    }
    Ok(Chosen::Given(Secret::new(first)))
}

fn generate() -> Result<Secret, CommandError> {
    let mut password = String::with_capacity(GENERATED_LENGTH);
    while password.len() < GENERATED_LENGTH {
        let mut bytes = [0_u8; 64];
        getrandom::fill(&mut bytes).map_err(|_| {
            CommandError::new(CommandCondition::InternalServerError, "the system gives no random bytes")
        })?;
        // Six bits each; those beyond the alphabet are thrown away, so that each character is as likely as any other.
        let characters = bytes.iter().filter_map(|byte| ALPHABET.get(usize::from(byte & 63)));
        password.extend(characters.take(GENERATED_LENGTH - password.len()).map(|&byte| char::from(byte)));
    }
    Ok(Secret::new(password))
}

fn print(json: bool, done: &str, reply: Reply, generated: Option<Secret>) {
    #[derive(Serialize)]
    struct WithPassword<'a> {
        ok: AccountWithPassword<'a>,
    }
    #[derive(Serialize)]
    struct AccountWithPassword<'a> {
        jid: &'a str,
        password: &'a str,
    }
    match (reply, generated) {
        (Reply::Account { jid }, Some(password)) if json => {
            say_json(&WithPassword { ok: AccountWithPassword { jid: &jid, password: password.expose() } });
        }
        (reply, _) if json => say_json(&Answer::Ok(reply)),
        (Reply::Account { jid }, Some(password)) => say(&format!("{jid} {done}; password: {}", password.expose())),
        (Reply::Account { jid }, None) => say(&format!("{jid} {done}")),
        (Reply::Archive { jid, keep }, _) => say(&format!("{jid} {keep}")),
        (Reply::Accounts { accounts }, _) => accounts.iter().for_each(|account| say(&account.jid)),
        // Commands on accounts do not answer with rooms.
        (Reply::Room(_) | Reply::S2s(_), _) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_passwords_are_long_and_differ() {
        let (first, second) = (generate().unwrap(), generate().unwrap());
        assert_eq!(first.expose().len(), GENERATED_LENGTH);
        assert!(first.expose().bytes().all(|byte| ALPHABET.contains(&byte)));
        assert_ne!(first, second);
    }

    #[test]
    fn a21_passwords_of_the_command_line_are_not_shown() {
        let chosen = choose_password(PasswordArgs {
            password: Some("canary".to_owned()),
            password_stdin: false,
            generate: false,
        });
        let Ok(Chosen::Given(password)) = chosen else { panic!("no password") };
        let request = Request::UserAdd { jid: "a@b".into(), password };
        assert!(!format!("{request:?}").contains("canary"));
    }
}
