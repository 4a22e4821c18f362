//! Requests that the server itself makes of a client: an IQ with an id that nobody can guess, and the answer to it.
//!
//! An answer counts when it comes over the session that was asked, is addressed to who asked, has the id, and is a result
//! or an error (RFC 6120 §8.2.3, security.md C2). It goes no further: no module sees it.

use std::sync::Arc;
use std::time::Duration;

use rookery_xmpp::element::Element;
use rookery_xmpp::error::{Condition, StanzaError};
use rookery_xmpp::ns;
use rookery_xmpp::stanza::{IqType, Kind, Stanza};
use tokio::sync::oneshot;

use crate::module::{BoxFuture, IqResult};
use crate::server::{Server, random_id};
use crate::session::{Pushed, Session};

/// A request that a client has not answered yet.
pub(crate) struct Request {
    id: Box<str>,
    answer: oneshot::Sender<IqResult>,
}

impl Server {
    /// Asks a client in the name of its domain. Its error is the client's, or `remote-server-timeout` when it says
    /// nothing for so long, or `recipient-unavailable` when the session ends.
    pub fn ask_client(
        self: &Arc<Self>,
        session: &Arc<Session>,
        kind: IqType,
        payload: Element,
        patience: Duration,
    ) -> BoxFuture<IqResult> {
        let session = session.clone();
        Box::pin(async move {
            let id: Box<str> = random_id().map_err(|_| StanzaError::new(Condition::InternalServerError))?.into();
            let (answer, answered) = oneshot::channel();
            session.expect(Request { id: id.clone(), answer });
            let request =
                Stanza::iq(kind, id.clone()).from(session.jid.domain()).to(session.jid.clone()).child(payload);
            let gone = || StanzaError::new(Condition::RecipientUnavailable);
            if session.send(request) == Pushed::Refused {
                session.forget(&id);
                return Err(gone());
            }
            match tokio::time::timeout(patience, answered).await {
                Ok(answer) => answer.unwrap_or_else(|_| Err(gone())),
                Err(_) => {
                    session.forget(&id);
                    Err(StanzaError::new(Condition::RemoteServerTimeout))
                }
            }
        })
    }
}

/// Gives the answer to whoever waits for it. `false` when the stanza is no answer to a request of the server.
pub(crate) fn answered(session: &Session, stanza: &Stanza) -> bool {
    let Kind::Iq(kind @ (IqType::Result | IqType::Error)) = stanza.head.kind else { return false };
    let (Some(id), Some(to)) = (&stanza.head.id, &stanza.head.to) else { return false };
    if to.as_str() != session.jid.domainpart() {
        return false;
    }
    let Some(request) = session.expected(id) else { return false };
    let answer = match kind {
        IqType::Result => Ok(stanza.payload().cloned()),
        _ => {
            let error = stanza.find("error", ns::CLIENT).and_then(StanzaError::from_element);
            Err(error.unwrap_or_else(|| StanzaError::new(Condition::UndefinedCondition)))
        }
    };
    // Whoever asked may have given up meanwhile.
    let _ = request.answer.send(answer);
    true
}

impl Request {
    pub(crate) fn id(&self) -> &str {
        &self.id
    }
}
