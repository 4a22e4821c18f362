//! What a scenario says: checks that passed or failed, figures, counter-examples.

use std::fmt::Display;

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::device::Device;
use crate::ledger::{Rule, Violation};
use crate::world::{Options, World};

/// How many counter-examples of a rule are shown, and how many lines of each.
const EXAMPLES: usize = 3;
const LINES: usize = 40;

/// A scenario's checks.
#[derive(Debug)]
pub struct Report {
    name: String,
    /// How many passed.
    pub passed: u32,
    /// How many failed.
    pub failed: u32,
    broken: Vec<(Rule, usize)>,
    silent: bool,
}

impl Report {
    /// An empty one.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), passed: 0, failed: 0, broken: Rule::ALL.map(|rule| (rule, 0)).into(), silent: false }
    }

    /// One that counts and says nothing.
    pub fn silent(name: &str) -> Self {
        Self { silent: true, ..Self::new(name) }
    }

    /// A line that is no check.
    pub fn say(&self, text: impl Display) {
        if !self.silent {
            println!("      {}: {text}", self.name);
        }
    }

    /// A check, and what is to be known of it.
    pub fn check(&mut self, passed: bool, what: impl Display, detail: impl Display) {
        let word = if passed { "ok  " } else { "FAIL" };
        let detail = detail.to_string();
        let detail = if detail.is_empty() { detail } else { format!(": {detail}") };
        if !self.silent {
            println!("{word}  {}: {what}{detail}", self.name);
        }
        if passed {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
    }

    /// Judges what is at rest now; shows counter-examples at once.
    pub fn judge(&mut self, world: &World) -> usize {
        let mut ledger = world.ledger();
        let found = ledger.judge();
        for violation in &found {
            let count = &mut self.broken.iter_mut().find(|(rule, _)| *rule == violation.rule).expect("all rules").1;
            *count += 1;
            if *count <= EXAMPLES && !self.silent {
                show(violation, &ledger.lines_about(&violation.keys));
            }
        }
        found.len()
    }

    /// One check for each rule, over all that was judged.
    pub fn rules(&mut self, world: &World, options: &Options) {
        let counts = world.ledger().counts();
        let broken = self.broken.clone();
        for (rule, times) in broken {
            let text = format!("{rule} {}", rule.text());
            if times == 0 {
                self.check(true, text, "");
            } else {
                self.check(false, text, format!("broken {times} times"));
            }
        }
        self.check(counts.acked > 0, "messages were acknowledged", format!("{} of {}", counts.acked, counts.sent));
        self.say(format!(
            "{} sent, {} acknowledged, {} refused, {} sent again; {} delivered again, {} of these under a new stanza-id{}",
            counts.sent,
            counts.acked,
            counts.told,
            counts.resent,
            counts.redelivered,
            counts.phantoms,
            if world.ledger().has_archive { "" } else { "; no archives here" }
        ));
        if let Some(path) = &options.journal {
            let lines: Vec<String> = world.ledger().lines().collect();
            match std::fs::write(path, lines.join("\n") + "\n") {
                Ok(()) => self.say(format!("journal in {}", path.display())),
                Err(error) => self.say(format!("no journal: {error}")),
            }
        }
    }

    /// What the devices complain of. An ended stream is no complaint where the server was told to end.
    pub fn protocol(&mut self, devices: &[Device], ends: bool) {
        let complaints = devices.iter().flat_map(|device| device.state.complaints.lock().expect("no panic").clone());
        let complaints: Vec<String> = complaints.filter(|text| !(ends && text.contains("system-shutdown"))).collect();
        self.check(complaints.is_empty(), "the server kept to the protocol", complaints.join("; "));
    }

    /// No connection was closed by the server.
    pub fn connections(&mut self, devices: &[Device]) {
        let dropped: u64 = devices.iter().map(|device| device.state.dropped.load(Ordering::SeqCst)).sum();
        self.check(dropped == 0, "no connection was lost", format!("{dropped} were"));
    }

    /// Pings were answered all the while.
    pub fn pings(&mut self, pings: &[Option<Duration>], p95: Duration) {
        let mut took: Vec<Duration> = pings.iter().flatten().copied().collect();
        took.sort();
        let at = |part: usize| took.get(took.len() * part / 100).or(took.last()).copied().unwrap_or_default();
        let missing = pings.len() - took.len();
        let fit = missing == 0 && !took.is_empty() && at(95) <= p95 && at(100) <= Duration::from_secs(1);
        let text = format!(
            "{} pings, {missing} unanswered, p50 {:.1?}, p95 {:.1?}, longest {:.1?}",
            pings.len(),
            at(50),
            at(95),
            at(100)
        );
        self.check(fit, format!("pings are answered: p95 within {p95:?}, all within 1 s"), text);
    }

    /// Adds another's counts.
    pub fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }

    /// How often a rule was broken so far.
    pub fn broken(&self, rule: Rule) -> usize {
        self.broken.iter().find(|(other, _)| *other == rule).map_or(0, |(_, count)| *count)
    }
}

fn show(violation: &Violation, lines: &[String]) {
    println!("      {}: {}", violation.rule, violation.text);
    for line in lines.iter().take(LINES) {
        println!("        | {line}");
    }
    if lines.len() > LINES {
        println!("        | ... {} more", lines.len() - LINES);
    }
}
