//! What the findings of a check come to: whether messages get there and how, or the one fault that is in the way.
//!
//! Pure. Each attempt is judged by itself; the first that a server would succeed with decides, and where none does, the one
//! that came furthest: that is the server which was nearly right.

use std::net::SocketAddr;
use std::time::SystemTime;

use rookery_core::config::Certificates;

use super::report::{Attempt, Greeting, Lookup, Report, Stop};
use crate::dns::{LookupError, TlsMode};
use crate::s2s::identity::{Fault, Verdict as Judgement};

/// What a check comes to.
#[derive(Debug)]
pub struct Verdict {
    /// How messages get there, if they do.
    pub way: Option<Way>,
    /// What is in the way, if they do not.
    pub problem: Option<Problem>,
    /// What is wrong besides, without being in the way.
    pub others: Vec<Problem>,
}

/// The attempt that a server succeeds with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// Its place in [`Report::attempts`].
    pub attempt: usize,
    /// How we say there who we are.
    pub proof: Proof,
}

/// How a server proves to another who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// By its certificate (XEP-0178).
    External,
    /// By being called back (XEP-0220).
    Dialback,
}

/// Whom a fault is about: where it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At {
    /// The host that DNS names.
    pub host: String,
    /// The address.
    pub address: SocketAddr,
    /// How TLS begins there.
    pub mode: TlsMode,
}

/// A fault, as exactly as it is known.
#[derive(Debug, Clone)]
pub enum Problem {
    /// The conf has federation off.
    Off,
    /// The conf has no port for other servers: they cannot call us, not even to ask whether it was us who called (dialback).
    NoPort,
    /// The conf's lists, or the domain's own section, keep the server from talking to the domain.
    Denied(Denial),
    /// DNS names no server.
    Lookup(LookupError),
    /// There are IPv6 addresses only, and no way to any of them.
    OnlyIpv6,
    /// An attempt ended before its goal.
    Stopped {
        /// Where.
        at: At,
        /// Why.
        stop: Stop,
    },
    /// The other server's certificate does not prove that it may speak for its domain.
    Certificate {
        /// Where it was shown.
        at: At,
        /// Why.
        faults: Vec<Fault>,
    },
    /// The other server offers no way to say who we are.
    NoProof {
        /// Where.
        at: At,
    },
    /// Our own certificate is one that others refuse.
    OwnCertificate {
        /// Why.
        faults: Vec<Fault>,
    },
    /// Our clock is behind: our own certificate has not begun.
    Clock {
        /// When it begins.
        begins: SystemTime,
        /// What our clock says.
        now: SystemTime,
    },
    /// We look at a domain of ours, and what answers shows another certificate than ours.
    OtherServer {
        /// Where.
        at: At,
    },
}

/// Which part of the conf keeps the server from talking to a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// `s2s.deny` has it.
    Denied,
    /// `s2s.allow` does not have it.
    NotAllowed,
    /// Its own section says `certificates = "refuse"`.
    Section,
}

impl Report {
    /// Says what it comes to.
    pub fn verdict(&self) -> Verdict {
        let mut verdict = Verdict { way: None, problem: self.before_connecting(), others: Vec::new() };
        if verdict.problem.is_some() {
            return verdict;
        }
        let judged: Vec<_> = self.attempts.iter().map(|attempt| self.judge(attempt)).collect();
        verdict.way = judged.iter().enumerate().find_map(|(place, judged)| {
            let proof = *judged.as_ref().ok()?;
            Some(Way { attempt: place, proof })
        });
        let mut faults: Vec<(u8, Problem)> = Vec::new();
        for (attempt, judged) in self.attempts.iter().zip(judged) {
            if let Err(problem) = judged {
                faults.push((attempt.progress(), problem));
            }
        }
        if verdict.way.is_none() {
            let furthest = faults.iter().map(|(progress, _)| *progress).max();
            let place = faults.iter().position(|(progress, _)| Some(*progress) == furthest);
            verdict.problem = place.map(|place| faults.remove(place).1);
            if self.reaches_no_ipv6() {
                verdict.problem = Some(Problem::OnlyIpv6);
            }
        }
        verdict.others = faults.into_iter().map(|(_, problem)| problem).collect();
        let ours = self.own_problem();
        match &verdict.problem {
            // Whoever refuses our certificate offers no EXTERNAL; and a clock that is wrong makes all certificates look wrong.
            Some(Problem::NoProof { .. }) if ours.is_some() => verdict.problem = ours,
            Some(Problem::Certificate { .. }) if matches!(ours, Some(Problem::Clock { .. })) => verdict.problem = ours,
            // We have looked at ourselves, and seen just that.
            Some(Problem::OwnCertificate { .. }) => verdict.problem = ours.or(verdict.problem),
            _ => verdict.others.extend(ours),
        }
        verdict.others.extend((!self.has_port).then_some(Problem::NoPort));
        verdict
    }

    /// What ends a check before anybody is called.
    fn before_connecting(&self) -> Option<Problem> {
        if !self.enabled {
            return Some(Problem::Off);
        }
        if let Some(denial) = self.denial {
            return Some(Problem::Denied(denial));
        }
        if self.is_own() && !self.has_port {
            return Some(Problem::NoPort);
        }
        match &self.lookup {
            Lookup::Failed(error) => Some(Problem::Lookup(error.clone())),
            Lookup::Found(_) | Lookup::Skipped => None,
        }
    }

    /// How a server would prove itself there, or what would stop it.
    fn judge(&self, attempt: &Attempt) -> Result<Proof, Problem> {
        let at = self.at(attempt);
        let without_tls = self.certificates == Certificates::Plain
            && matches!(attempt.stop, Some(Stop::NoStarttls | Stop::OldStream))
            && attempt.secured.is_none();
        let greeting = match &attempt.stop {
            Some(_) if without_tls => attempt.plain.as_ref(),
            Some(stop) => return Err(Problem::Stopped { at, stop: stop.clone() }),
            None => attempt.secret.as_ref(),
        };
        if self.is_own() && attempt.is_ours == Some(false) {
            return Err(Problem::OtherServer { at });
        }
        let must_be_valid = self.certificates == Certificates::Valid || self.has_pins;
        match &attempt.judgement {
            Some(Judgement::Invalid(faults)) if self.is_own() => {
                return Err(Problem::OwnCertificate { faults: faults.clone() });
            }
            Some(Judgement::Invalid(faults)) if must_be_valid => {
                return Err(Problem::Certificate { at, faults: faults.clone() });
            }
            _ => {}
        }
        greeting.and_then(Greeting::proof).ok_or(Problem::NoProof { at })
    }

    /// What is wrong with how others see us.
    fn own_problem(&self) -> Option<Problem> {
        let own = self.own.as_ref()?;
        let Judgement::Invalid(faults) = &own.judgement else { return None };
        if own.begins > self.now {
            return Some(Problem::Clock { begins: own.begins, now: self.now });
        }
        Some(Problem::OwnCertificate { faults: faults.clone() })
    }

    fn reaches_no_ipv6(&self) -> bool {
        !self.attempts.is_empty()
            && self.attempts.iter().all(|attempt| attempt.address.is_ipv6() && attempt.connected.is_none())
    }

    /// Where an attempt was made.
    pub fn at(&self, attempt: &Attempt) -> At {
        let host = match &self.lookup {
            Lookup::Found(finding) => finding.targets.get(attempt.target).map(|target| target.host.clone()),
            Lookup::Failed(_) | Lookup::Skipped => None,
        };
        At { host: host.unwrap_or_default(), address: attempt.address, mode: attempt.mode }
    }
}

impl Greeting {
    const fn proof(&self) -> Option<Proof> {
        if self.has_external {
            Some(Proof::External)
        } else if self.has_dialback {
            Some(Proof::Dialback)
        } else {
            None
        }
    }
}
