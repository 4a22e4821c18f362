//! `rookery s2s ...`: other servers.

mod certificates;
mod findings;
mod servers;
mod words;

use std::path::Path;

use clap::Subcommand;
use rookery_core::config::Conf;
use rookery_core::control::s2s::S2sRequest;
use rookery_core::control::{Answer, CommandCondition, Reply, Request};
use rookery_net::s2s::check::{Proof, Report, check};
use rookery_xmpp::jid::BareJid;
use serde::Serialize;

use self::findings::{Finding, Level, findings};
use self::words::{Whose, Words, place, words};
use super::{Outcome, ask, fail, read_conf, refuse, runtime, say, say_json};

/// Where the words are explained.
const PAGE: &str = "docs/troubleshooting-federation.md";

#[derive(Debug, Subcommand)]
pub(super) enum S2sCommand {
    /// Lists the servers that have streams or for which something waits; only while the server runs
    List,
    /// Says what there is to know of one: streams, certificates, what waits, what failed; only while the server runs
    Show {
        /// Its domain, such as partner.example
        domain: String,
    },
    /// Closes the streams to and from one; what waits goes over new ones; only while the server runs
    Close {
        /// Its domain, such as partner.example
        domain: String,
    },
    /// Looks at a domain as this server would that has a message for it, and says what is wrong and what ends it
    Check {
        /// The domain, such as partner.example; also one of your own, to see it as others do
        domain: String,
        /// In whose name to ask; otherwise the first host of the conf
        #[arg(long, value_name = "HOST")]
        from: Option<String>,
    },
}

pub(super) fn run(named: Option<&Path>, json: bool, command: S2sCommand) -> Outcome {
    let conf = match read_conf(named) {
        Ok(conf) => conf,
        Err(error) => return fail(json, CommandCondition::InternalServerError, error.to_string()),
    };
    let request = match command {
        S2sCommand::Check { domain, from } => return look(&conf, json, &domain, from.as_deref()),
        S2sCommand::List => S2sRequest::List {},
        S2sCommand::Show { domain } => S2sRequest::Show { domain },
        S2sCommand::Close { domain } => S2sRequest::Close { domain },
    };
    match ask::carry_out(&conf, Request::S2s(request)) {
        Ok(reply) if json => say_json(&Answer::Ok(reply)),
        Ok(Reply::S2s(reply)) => servers::print(&reply),
        // Commands on servers do not answer with accounts or rooms.
        Ok(_) => {}
        Err(error) => return refuse(json, error),
    }
    Outcome::Done
}

fn look(conf: &Conf, json: bool, domain: &str, from: Option<&str>) -> Outcome {
    let (local, remote) = match pair(conf, domain, from) {
        Ok(pair) => pair,
        Err(text) => return fail(json, CommandCondition::BadRequest, text),
    };
    let report =
        runtime().and_then(|runtime| runtime.block_on(check(conf, &local, &remote)).map_err(|error| error.to_string()));
    match report {
        Ok(report) => print(&report, json),
        Err(text) => fail(json, CommandCondition::InternalServerError, text),
    }
}

/// Who asks whom.
fn pair(conf: &Conf, domain: &str, from: Option<&str>) -> Result<(BareJid, BareJid), String> {
    let remote = domain_of(domain)?;
    if rookery::serves(conf, &remote).map_err(|error| error.to_string())? {
        // Nobody here has a message for it that other servers see: it is looked at from outside.
        return Ok((remote.clone(), remote));
    }
    let local = match from {
        Some(from) => domain_of(from)?,
        None => {
            let first = conf.hosts().first();
            first.map(|host| host.domain.clone()).ok_or_else(|| "the conf has no host".to_owned())?
        }
    };
    if !conf.is_host(local.as_str()) {
        return Err(format!("{local} is no host of the conf"));
    }
    Ok((local, remote))
}

fn domain_of(text: &str) -> Result<BareJid, String> {
    match BareJid::new(text) {
        Ok(domain) if domain.localpart().is_none() => Ok(domain),
        _ => Err(format!("\"{text}\" is no domain: write one such as partner.example")),
    }
}

/// What a check comes to, for programs.
#[derive(Serialize)]
struct Checked<'a> {
    ok: bool,
    domain: &'a str,
    from: &'a str,
    findings: &'a [Finding],
    /// How messages get there, or why they do not.
    verdict: String,
    /// What is in the way, if anything is.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<&'a Words>,
    /// What is wrong besides.
    others: &'a [Words],
}

fn print(report: &Report, json: bool) -> Outcome {
    let verdict = report.verdict();
    let (local, remote) = (report.local.as_str(), report.remote.as_str());
    let findings = findings(report, &verdict);
    let fault = verdict.problem.as_ref().map(|problem| words(problem, local, remote));
    let mut others: Vec<Words> = Vec::new();
    for other in verdict.others.iter().map(|problem| words(problem, local, remote)) {
        // Several addresses may have the same fault.
        if fault.as_ref() != Some(&other) && !others.contains(&other) {
            others.push(other);
        }
    }
    let text = match (&fault, verdict.way) {
        (Some(fault), _) => format!("{}: {}", failing(report), fault.text),
        (None, Some(way)) => works(report, way.attempt, way.proof),
        // Nobody is there to be asked only where that is the problem.
        (None, None) => failing(report),
    };
    let is_fine = verdict.way.is_some();
    if json {
        let fault = fault.as_ref();
        say_json(&Checked {
            ok: is_fine,
            domain: remote,
            from: local,
            findings: &findings,
            verdict: text,
            fault,
            others: &others,
        });
    } else {
        print_findings(&findings);
        say("");
        say(&format!("verdict  {text}"));
        if let Some(fault) = &fault {
            say(&format!("whose    {}", whose(fault.whose, remote)));
            say(&format!("remedy   {}", fault.remedy));
            say(&format!("details  {PAGE}, {}", fault.code));
        }
        for other in &others {
            say("");
            say(&format!("besides  {}", other.text));
            say(&format!("whose    {}", whose(other.whose, remote)));
            say(&format!("remedy   {}", other.remedy));
            say(&format!("details  {PAGE}, {}", other.code));
        }
    }
    if is_fine { Outcome::Done } else { Outcome::Failed }
}

fn print_findings(findings: &[Finding]) {
    for Finding { about, level, text } in findings {
        let level = match level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        say(&format!("{level:8} {about:12} {text}"));
    }
}

fn failing(report: &Report) -> String {
    if report.is_own() {
        format!("other servers do not reach {}", report.remote)
    } else {
        format!("no message gets to {}", report.remote)
    }
}

fn works(report: &Report, attempt: usize, proof: Proof) -> String {
    let way = report.attempts.get(attempt).map(|attempt| {
        let tls = attempt.secured.as_ref().map_or("no encryption", |secured| secured.version);
        format!("{}, {tls}", place(&report.at(attempt)))
    });
    let way = way.unwrap_or_default();
    if report.is_own() {
        return format!("other servers find and reach {}: {way}", report.remote);
    }
    let proof = match proof {
        Proof::External => "we prove who we are by our certificate (EXTERNAL)",
        Proof::Dialback => "we prove who we are by being called back (dialback)",
    };
    format!("messages get to {}: {way}; {proof}", report.remote)
}

fn whose(whose: Whose, remote: &str) -> String {
    match whose {
        Whose::Ours => "ours: it is for you to act".to_owned(),
        Whose::Theirs => format!("theirs: the admins of {remote} have to act"),
        Whose::Network => "the network's, or that of one of the two servers: it cannot be seen from here".to_owned(),
    }
}
