//! SASL exchanges without I/O (RFC 4422), the server's side and the client's: SCRAM with SHA-256
//! and SHA-1, bound to the TLS channel and unbound (RFC 5802, RFC 7677, RFC 9266), PLAIN
//! (RFC 4616) and EXTERNAL (XEP-0178).
//!
//! Carrying the messages in XML is `stream`'s matter; so is the count of failed attempts.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};

mod client;
mod keys;
mod mechanism;
mod message;
mod server;
#[cfg(test)]
mod tests;

pub use client::{ClientError, ClientExchange, Login, Server};
pub use keys::{Credentials, Hash, MIN_ITERATIONS, PasswordError, SALT_BYTES, ScramKeys, Secret};
pub use mechanism::{BindingType, ChannelBindings, Mechanism, Offer, Policy};
pub use server::{Decoy, Exchange, Step};

use crate::error::{SaslCondition, SaslError};

/// Reads the text of `<auth/>` (RFC 6120, section 6.4.2): nothing means that there is no initial
/// response, `=` that it is empty.
///
/// # Errors
/// `incorrect-encoding`.
pub fn decode_initial(text: &str) -> Result<Option<Vec<u8>>, SaslError> {
    match text.trim_ascii() {
        "" => Ok(None),
        "=" => Ok(Some(Vec::new())),
        text => decode(text).map(Some),
    }
}

/// Reads the text of `<response/>` or `<challenge/>`.
///
/// # Errors
/// `incorrect-encoding`.
pub fn decode(text: &str) -> Result<Vec<u8>, SaslError> {
    match text.trim_ascii() {
        // COMPAT: some clients write an empty response as they would an empty initial response.
        "=" => Ok(Vec::new()),
        text => BASE64.decode(text).map_err(|_| SaslCondition::IncorrectEncoding.into()),
    }
}

/// Writes the text of a challenge or a response.
pub fn encode(data: &[u8]) -> String {
    BASE64.encode(data)
}

/// 144 random bits, as printable characters without a comma.
pub(crate) fn random_nonce() -> Option<String> {
    let mut bytes = [0; 18];
    getrandom::fill(&mut bytes).ok()?;
    Some(BASE64.encode(bytes))
}
