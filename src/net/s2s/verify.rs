//! Dialback as the receiving server: asking the server that answers for a domain whether a key is right (XEP-0220, steps 2
//! and 3), on a stream of ours that is there already, or on one that is opened for it and closed again.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rookery_core::remote::Pair;
use rookery_xmpp::dialback::{Packet, Says};
use rookery_xmpp::error::{Condition, StanzaError};
use rustls::pki_types::CertificateDer;
use tokio::sync::oneshot;
use tracing::info;

use super::Common;
use super::call;
use super::callers;
use super::identity::Verdict;
use super::opened::Goal;
use super::remotes::{Order, Question};
use super::settings::Settings;

/// How long the other server may think about it.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a caller is told whose certificate cannot be judged now.
pub(super) const TOO_MANY: &str =
    "The domain's keys cannot be looked up in DNS now, since too many others are; please try again later.";

/// A peer that leaves more questions than these without an answer: those that nobody waits for any more are forgotten.
const MOST_OPEN: usize = 100;

/// What a peer was asked on one stream, and has not answered.
#[derive(Default)]
pub(super) struct OpenQuestions(Vec<Question>);

impl OpenQuestions {
    /// One more has been asked.
    pub(super) fn add(&mut self, question: Question) {
        if self.0.len() >= MOST_OPEN {
            self.0.retain(|question| !question.answer.is_closed());
        }
        self.0.push(question);
    }

    /// Passes an answer on. `false` if nothing of the kind was asked.
    pub(super) fn answered(&mut self, answer: &Packet) -> bool {
        let asked = self.0.iter().position(|question| {
            let request = &question.request;
            request.matter == answer.matter && request.from == answer.to && request.to == answer.from
        });
        if let Some(at) = asked {
            // Whoever wanted to know may have given up.
            let _ = self.0.swap_remove(at).answer.send(answer.says.clone());
        }
        asked.is_some()
    }

    /// There will be no answers.
    pub(super) fn drop_all(&mut self) {
        self.0.clear();
    }
}

/// Whether a caller at `address` that has shown `chain` may speak for the domain that it has sent a key for: by its
/// certificate, of which something may be `known` already, or by what `question`, a `<db:verify/>`, brings, where the conf
/// is content with that. Says what it is to be told, and how that is known.
pub(super) async fn prove(
    common: &Arc<Common>,
    settings: &Settings,
    known: Option<Verdict>,
    chain: &[CertificateDer<'_>],
    question: Packet,
    address: IpAddr,
) -> (Says, &'static str) {
    let remote = &question.to;
    let verdict = match known {
        Some(verdict) => Some(verdict),
        None => callers::judge(common, settings, chain, remote, address).await,
    };
    match verdict {
        Some(verdict) if verdict.is_valid() => (Says::Valid, verdict.by()),
        _ if settings.allows_dialback(remote) => {
            let because_of = (!settings.is_exempt(address)).then_some(address);
            (ask(common, question, because_of).await, "dialback")
        }
        Some(verdict) => {
            info!(%remote, %address, "no dialback, since the certificate {verdict}");
            (refusal(), "certificate")
        }
        None => {
            info!(%remote, %address, "no dialback: {TOO_MANY}");
            (Says::Error(StanzaError::new(Condition::ResourceConstraint).with_text(TOO_MANY)), "certificate")
        }
    }
}

/// What they are told whose certificate has to be valid, and is not.
pub(super) fn refusal() -> Says {
    let text = "A certificate is needed that is valid for the domain.";
    Says::Error(StanzaError::new(Condition::NotAuthorized).with_text(text))
}

/// Asks what `request`, a `<db:verify/>`, wants to know; says what the peer is to be told that has sent the key.
///
/// `because_of` is the address that the key came from, unless it is exempt: one stranger has not all turns.
async fn ask(common: &Arc<Common>, request: Packet, because_of: Option<IpAddr>) -> Says {
    let remote = common.remotes.get(&request.to);
    if let Some(handle) = remote.asking() {
        let (question, answer) = asked(&request);
        if handle.orders.send(Order::Verify(question)).is_ok()
            && let Some(says) = hear(answer).await
        {
            return says;
        }
        // That stream has just ended: one more is opened.
    }
    let pair = Pair { local: request.from.clone(), remote: request.to.clone() };
    let turns = common.questions.take_after(because_of, async { remote.questions.acquire().await.ok() });
    let Ok(Some(turn)) = tokio::time::timeout(PATIENCE, turns).await else { return timeout() };
    let dialled = call::dial(common, &pair, Goal::Ask, &mut None, false).await;
    drop(turn);
    let mut driver = match dialled {
        Ok(driver) => driver,
        Err(missed) => {
            info!(remote = %pair.remote, local = %pair.local, "a dialback key cannot be verified: {}", missed.failure.text);
            let condition = match missed.failure.condition {
                Condition::RemoteServerNotFound => Condition::RemoteServerNotFound,
                _ => Condition::RemoteServerTimeout,
            };
            return Says::Error(StanzaError::new(condition));
        }
    };
    let (question, answer) = asked(&request);
    driver.ask(question);
    let orders = driver.handle.orders.clone();
    tokio::spawn(async move {
        if let Err(gone) = driver.drive(false).await {
            driver.part(gone).await;
        }
    });
    let says = hear(answer).await;
    // It may have ended by itself.
    let _ = orders.send(Order::Close);
    says.unwrap_or_else(timeout)
}

fn asked(request: &Packet) -> (Question, oneshot::Receiver<Says>) {
    let (answer, answered) = oneshot::channel();
    (Question { request: request.clone(), answer }, answered)
}

/// What the authority says; what went wrong there is not the peer's to know in detail (XEP-0220 §2.5).
async fn hear(answer: oneshot::Receiver<Says>) -> Option<Says> {
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(Says::Valid)) => Some(Says::Valid),
        Ok(Ok(Says::Invalid | Says::Key(_))) => Some(Says::Invalid),
        Ok(Ok(Says::Error(_))) => Some(Says::Error(StanzaError::new(Condition::RemoteServerNotFound))),
        Ok(Err(_)) => None,
        Err(_) => Some(timeout()),
    }
}

fn timeout() -> Says {
    Says::Error(StanzaError::new(Condition::RemoteServerTimeout))
}

#[cfg(test)]
mod tests {
    use rookery_xmpp::jid::BareJid;

    use super::*;

    fn question(n: usize) -> (Question, oneshot::Receiver<Says>) {
        let [from, to] = ["a.example", "b.example"].map(|domain| BareJid::new(domain).unwrap());
        asked(&Packet::verify(from, to, &format!("id{n}"), "key"))
    }

    #[test]
    fn b15_questions_that_nobody_waits_for_are_forgotten_and_no_others() {
        let mut open = OpenQuestions::default();
        let mut waiting = Vec::new();
        for n in 0..50 * MOST_OPEN {
            let (question, answer) = question(n);
            if n % 100 == 0 {
                waiting.push((question.request.clone(), answer));
            }
            open.add(question);
            assert!(open.0.len() <= MOST_OPEN + waiting.len());
        }
        for (request, mut answer) in waiting {
            let valid = request.answer(Says::Valid);
            assert!(open.answered(&valid) && answer.try_recv() == Ok(Says::Valid));
            assert!(!open.answered(&valid), "once");
        }
    }
}
