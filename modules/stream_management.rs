//! XEP-0198: Stream Management. The nonzas; counters, queues and what they hold on to are core's (`session/acks.rs`).
//!
//! A stanza counts in `h` when what must be on disk of it is there, so `<a/>` may say less than was received; the rest
//! follows unasked. A session that loses its connection waits as long as `max` says and lives on, reachable.

use std::sync::Arc;
use std::time::Duration;

use rookery_core::module::{Fault, Hooks, Module, Nonza, NonzaOutcome, Offer, Setup, When, Xep};
use rookery_core::server::{ResumeError, Server, random_id};
use rookery_core::session::Session;
use rookery_xmpp::ack::{BadResume, HandledTooHigh, parse_h};
use rookery_xmpp::element::Element;
use rookery_xmpp::error::{Condition, StanzaError, StreamCondition, StreamError};
use rookery_xmpp::ns;

/// Acknowledges and resumes.
pub struct StreamManagement;

impl Module for StreamManagement {
    const NAME: &'static str = "stream_management";
    const XEPS: &'static [Xep] = &[Xep(198, "1.6.3")];
    type Config = ();

    fn new((): (), _: &Setup<'_>) -> Result<Self, Fault> {
        Ok(Self)
    }

    fn hooks(on: &mut Hooks<'_, Self>) {
        on.stream_feature(When::BeforeBind, |_, _: &Offer<'_>| Some(Element::new("sm", ns::SM)))
            .nonza(ns::SM, "enable", Self::enable)
            .nonza(ns::SM, "resume", Self::resume)
            .nonza(ns::SM, "r", Self::request)
            .nonza(ns::SM, "a", Self::answer);
    }
}

impl StreamManagement {
    fn enable(
        self: &Arc<Self>,
        server: &Arc<Server>,
        nonza: &mut Nonza<'_>,
        enable: &Element,
    ) -> Result<(), StreamError> {
        let Some(session) = nonza.session else {
            nonza.reply.push(failed(Condition::UnexpectedRequest, None));
            return Ok(());
        };
        let Ok(id) = random_id() else {
            nonza.reply.push(failed(Condition::InternalServerError, None));
            return Ok(());
        };
        let wanted = matches!(enable.get("resume"), Some("true" | "1"));
        let limit = server.resume_limit();
        // The client may ask for less than we would give (XEP-0198 §5).
        let time =
            enable.get("max").and_then(|max| max.parse().ok()).map_or(limit, |max| limit.min(Duration::from_secs(max)));
        let resumable = (wanted && !time.is_zero()).then_some(time);
        let mut enabled = Element::new("enabled", ns::SM);
        if let Some(time) = resumable {
            enabled = enabled.attr("id", id.as_str()).attr("resume", "true").attr("max", time.as_secs().to_string());
        }
        if !session.enable_acks(id.as_str().into(), resumable, enabled.to_xml().into()) {
            nonza.reply.push(failed(Condition::UnexpectedRequest, None));
        } else if resumable.is_some() {
            server.add_resumable(id.into(), session);
        }
        Ok(())
    }

    fn resume(
        self: &Arc<Self>,
        server: &Arc<Server>,
        nonza: &mut Nonza<'_>,
        resume: &Element,
    ) -> Result<(), StreamError> {
        if nonza.session.is_some() {
            nonza.reply.push(failed(Condition::UnexpectedRequest, None));
            return Ok(());
        }
        let (Some(id), Some(h)) = (resume.get("previd"), resume.get("h").and_then(parse_h)) else {
            nonza.reply.push(failed(Condition::BadRequest, None));
            return Ok(());
        };
        let (server, user, id) = (server.clone(), nonza.user.clone(), id.to_owned());
        nonza.wait = Some(Box::pin(async move {
            let refused = |condition| NonzaOutcome {
                reply: vec![failed(condition, server.handled_before(&user, &id))],
                ..NonzaOutcome::default()
            };
            match server.resumable(&user, &id).await {
                Ok(Some(session)) => finish_resumption(&server, &session, &id, h).await,
                Ok(None) => Ok(refused(Condition::ItemNotFound)),
                Err(error) => Ok(refused(StanzaError::from(error).condition)),
            }
        }));
        Ok(())
    }

    fn request(self: &Arc<Self>, _: &Arc<Server>, nonza: &mut Nonza<'_>, _: &Element) -> Result<(), StreamError> {
        match nonza.session {
            Some(session) if session.resumption_id().is_some() => session.answer_acks(),
            _ => nonza.reply.push(failed(Condition::UnexpectedRequest, None)),
        }
        Ok(())
    }

    fn answer(self: &Arc<Self>, _: &Arc<Server>, nonza: &mut Nonza<'_>, answer: &Element) -> Result<(), StreamError> {
        let Some(session) = nonza.session else { return Ok(()) };
        let h = answer.get("h").and_then(parse_h);
        let h = h.ok_or_else(|| {
            StreamError::new(StreamCondition::PolicyViolation).with_text("<a/> needs a count in 'h'.")
        })?;
        session.acknowledged(h).map_err(too_high)
    }
}

async fn finish_resumption(
    server: &Arc<Server>,
    session: &Arc<Session>,
    id: &str,
    h: u32,
) -> Result<NonzaOutcome, StreamError> {
    let answer = |handled: u32| {
        Element::new("resumed", ns::SM).attr("previd", id).attr("h", handled.to_string()).to_xml().into()
    };
    let refused =
        |condition| NonzaOutcome { reply: vec![failed(condition, session.handled())], ..NonzaOutcome::default() };
    match server.resume(session, h, answer).await {
        Ok(connection) => Ok(NonzaOutcome { resume: Some((session.clone(), connection)), ..NonzaOutcome::default() }),
        Err(ResumeError::Gone | ResumeError::Count(BadResume::Behind { .. })) => Ok(refused(Condition::ItemNotFound)),
        Err(ResumeError::Busy) => Ok(refused(Condition::ResourceConstraint)),
        Err(ResumeError::Count(BadResume::TooHigh(error))) => Err(too_high(error)),
    }
}

/// `<failed/>`, with the count of what was handled when it is known (XEP-0198 §5).
fn failed(condition: Condition, handled: Option<u32>) -> Element {
    Element::new("failed", ns::SM)
        .attr_opt("h", handled.map(|h| h.to_string()))
        .child(Element::new(condition.name(), ns::STANZAS))
}

fn too_high(error: HandledTooHigh) -> StreamError {
    let mut stream_error =
        StreamError::new(StreamCondition::UndefinedCondition).with_text("More was acknowledged than sent.");
    stream_error.app = Some(Box::new(
        Element::new("handled-count-too-high", ns::SM)
            .attr("h", error.h.to_string())
            .attr("send-count", error.sent.to_string()),
    ));
    stream_error
}
