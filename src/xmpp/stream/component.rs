//! External components (XEP-0114, "accept"): a header without version, a handshake in place of SASL, and then stanzas.
//!
//! The component proves that it knows the secret by the SHA-1 of stream id and secret, in hexadecimal. Nothing else is heard
//! before. Whether the component may come in at all, and how long a wrong proof waits for its answer, is for the driver to say.

use sha1::{Digest, Sha1};

use crate::{
    error::{StreamCondition, StreamError},
    ns,
    parser::Parsed,
    sasl::Secret,
};

use super::{Event, Outcome, Step, Stream};

impl Stream {
    /// The answer to [`Event::Opened`] on a component's stream: the secret that it must know, or why it must go.
    pub fn handle_component(&mut self, answer: Result<Secret, StreamError>) {
        if self.state != super::State::Negotiating(Step::Host) {
            return;
        }
        let outcome = answer.and_then(|secret| {
            let negotiation = self.negotiation.as_mut().ok_or(StreamCondition::BadFormat)?;
            negotiation.secret = Some(secret);
            self.send_response_header();
            self.proceed_to(Step::Proof);
            Ok(())
        });
        self.settle(outcome);
    }

    /// The answer to [`Event::Handshake`]: whether the component may come in. A wrong proof is refused whatever the answer is.
    pub fn handle_handshake(&mut self, answer: Result<(), StreamError>) {
        if self.state != super::State::Negotiating(Step::Judgement) {
            return;
        }
        let proven = self.negotiation.as_ref().is_some_and(|negotiation| negotiation.proven);
        let outcome = match answer {
            Ok(()) if proven => {
                self.out.extend_from_slice(b"<handshake/>");
                self.open();
                Ok(())
            }
            Err(error) if proven => Err(error),
            _ => Err(StreamError::new(StreamCondition::NotAuthorized).with_text("The handshake is wrong.")),
        };
        self.settle(outcome);
    }

    /// The first element of a component, which is its handshake.
    pub(super) fn handle_proof(&mut self, parsed: Parsed) -> Outcome {
        let negotiation = self.negotiation.as_mut().ok_or(StreamCondition::BadFormat)?;
        let Parsed::Nonza(element) = parsed else {
            return Err(StreamError::new(StreamCondition::NotAuthorized).with_text("The handshake comes first."));
        };
        if !element.is("handshake", ns::COMPONENT) {
            return Err(StreamError::new(StreamCondition::NotAuthorized).with_text("The handshake comes first."));
        }
        let secret = negotiation.secret.take().ok_or(StreamCondition::InternalServerError)?;
        let id = self.id.as_deref().ok_or(StreamCondition::InternalServerError)?;
        // Some components write the digits in capitals; their case says nothing about the secret.
        let proof = element.content().trim_ascii().to_ascii_lowercase();
        let right = handshake(id, &secret).matches(proof.as_bytes());
        negotiation.proven = right;
        self.event = Some(Event::Handshake { right });
        self.proceed_to(Step::Judgement);
        Ok(())
    }
}

/// What a component that knows the secret writes into its handshake.
fn handshake(id: &str, secret: &Secret) -> Secret {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digest = Sha1::new().chain_update(id.as_bytes()).chain_update(secret.expose()).finalize();
    let digits: Vec<u8> = digest
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| DIGITS.get(usize::from(digit)).copied())
        .collect();
    Secret::new(&digits)
}
