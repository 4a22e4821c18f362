//! The server's side of a SASL exchange, for every mechanism.
//!
//! It sees decoded messages and never the network or the account store: when it needs an
//! account's keys it says so and waits for [`Exchange::keys`].

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{
    keys::{Credentials, Hash, ScramKeys, Secret},
    mechanism::{BindingType, Mechanism, Offer},
    message::{BindingFlag, ClientFinal, ClientFirst, Plain},
    random_nonce,
};
use crate::{
    error::{SaslCondition, SaslError},
    jid::{BareJid, Jid},
};

/// What comes next in an exchange.
#[derive(Debug)]
pub enum Step {
    /// Send this to the client and pass its answer to [`Exchange::respond`]. May be empty.
    Challenge(Vec<u8>),
    /// Look up the keys of this account and pass them to [`Exchange::keys`].
    NeedKeys(BareJid),
    /// The client is who it says it is.
    Success {
        /// Who that is: an account, or a domain for a server that logged in by certificate.
        identity: Jid,
        /// Goes to the client with the news.
        data: Option<Vec<u8>>,
    },
}

/// How logins of unknown users are made to look like those of known ones.
#[derive(Clone, Debug)]
pub struct Decoy {
    /// At least 128 random bits that outlive a restart and that no client ever sees.
    pub secret: Secret,
    /// The iteration count of the accounts that do exist.
    pub iterations: u32,
}

/// One attempt of a client to authenticate.
#[derive(Debug)]
pub struct Exchange {
    mechanism: Mechanism,
    offer: Offer,
    host: BareJid,
    pub(super) nonce: String,
    pub(super) announces_hash: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    Begun,
    WantKeys { user: BareJid, pending: Pending },
    WantProof(Box<WantProof>),
    Over,
}

/// Waits for the keys of its account.
enum Pending {
    Plain(Zeroizing<String>),
    Scram { hash: Hash, first: ClientFirst, binding: Vec<u8> },
    External,
}

#[derive(Debug)]
struct WantProof {
    user: BareJid,
    known: bool,
    hash: Hash,
    keys: ScramKeys,
    nonce: String,
    /// The gs2-header and the binding data that the client must repeat.
    binding: Vec<u8>,
    client_first_bare: String,
    server_first: String,
}

impl Exchange {
    /// Begins an exchange for an account of `host`.
    ///
    /// # Errors
    /// `invalid-mechanism` for anything that is not in the offer; `temporary-auth-failure` when
    /// the operating system gives no random bytes.
    pub fn new(offer: &Offer, host: &BareJid, mechanism: &str) -> Result<Self, SaslError> {
        let mechanism = offer.find(mechanism).ok_or(SaslCondition::InvalidMechanism)?;
        Ok(Self {
            mechanism,
            offer: offer.clone(),
            host: host.clone(),
            nonce: random_nonce().ok_or(SaslCondition::TemporaryAuthFailure)?,
            announces_hash: true,
            state: State::Begun,
        })
    }

    /// The mechanism in use.
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// Whether the answer to [`Step::NeedKeys`] will cost a password hash, some milliseconds of CPU.
    pub fn is_expensive(&self) -> bool {
        matches!(&self.state, State::WantKeys { pending: Pending::Plain(_), .. })
    }

    /// Takes a message of the client: the initial response, or `None` when there was none, then
    /// the answer to each challenge.
    ///
    /// # Errors
    /// The failure to send; the exchange is over then.
    pub fn respond(&mut self, message: Option<&[u8]>) -> Result<Step, SaslError> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Begun => match message {
                Some(message) => self.begin(message),
                None => {
                    self.state = State::Begun;
                    Ok(Step::Challenge(Vec::new()))
                }
            },
            State::WantProof(want) => want.check(text(message.unwrap_or_default())?),
            State::WantKeys { .. } | State::Over => Err(SaslCondition::MalformedRequest.into()),
        }
    }

    /// The answer to [`Step::NeedKeys`]; `None` when there is no such account. For PLAIN this
    /// call hashes the password.
    ///
    /// # Errors
    /// The failure to send; the exchange is over then.
    pub fn keys(&mut self, keys: Option<Credentials>, decoy: &Decoy) -> Result<Step, SaslError> {
        let State::WantKeys { user, pending } = std::mem::replace(&mut self.state, State::Over) else {
            return Err(SaslCondition::TemporaryAuthFailure.into());
        };
        let known = keys.is_some();
        let keys = keys.unwrap_or_else(|| Credentials::fake(decoy.secret.expose(), user.as_str(), decoy.iterations));
        match pending {
            Pending::External if known => success(user, None),
            Pending::External => Err(SaslCondition::NotAuthorized.into()),
            // The password is hashed whether or not the account exists.
            Pending::Plain(password) if keys.verify_password(&password) & known => success(user, None),
            Pending::Plain(_) => Err(SaslCondition::NotAuthorized.into()),
            Pending::Scram { hash, first, binding } => {
                let keys = keys.for_hash(hash).clone();
                let nonce = format!("{}{}", first.nonce, self.nonce);
                let salt = BASE64.encode(&keys.salt);
                let mut server_first = format!("r={nonce},s={salt},i={}", keys.iterations);
                if self.announces_hash {
                    server_first.push_str(",h=");
                    server_first.push_str(&self.offer.downgrade_hash(hash));
                }
                let challenge = server_first.clone().into_bytes();
                self.state = State::WantProof(Box::new(WantProof {
                    user,
                    known,
                    hash,
                    keys,
                    nonce,
                    binding,
                    client_first_bare: first.bare,
                    server_first,
                }));
                Ok(Step::Challenge(challenge))
            }
        }
    }

    fn begin(&mut self, message: &[u8]) -> Result<Step, SaslError> {
        let text = text(message)?;
        let (user, pending) = match self.mechanism.hash() {
            Some(hash) => self.begin_scram(hash, text)?,
            None if self.mechanism == Mechanism::Plain => self.begin_plain(text)?,
            None => match self.certified(text)? {
                user if user.localpart().is_some() => (user, Pending::External),
                server => return success(server, None),
            },
        };
        self.state = State::WantKeys { user: user.clone(), pending };
        Ok(Step::NeedKeys(user))
    }

    fn begin_plain(&self, text: &str) -> Result<(BareJid, Pending), SaslError> {
        let plain = Plain::parse(text).ok_or(SaslCondition::MalformedRequest)?;
        let user = self.account(&plain.user, plain.authzid.as_deref())?;
        Ok((user, Pending::Plain(plain.password)))
    }

    fn begin_scram(&self, hash: Hash, text: &str) -> Result<(BareJid, Pending), SaslError> {
        let first = ClientFirst::parse(text).ok_or(SaslCondition::MalformedRequest)?;
        let mut binding = first.header.clone().into_bytes();
        match (&first.flag, self.mechanism.binds_channel()) {
            (BindingFlag::Used(kind), true) => {
                let kind = BindingType::from_name(kind);
                let data = kind.and_then(|kind| self.offer.binding(kind)).ok_or_else(|| {
                    SaslError::from(SaslCondition::MalformedRequest)
                        .with_text("This type of channel binding was not offered.")
                })?;
                binding.extend_from_slice(data.expose());
            }
            (BindingFlag::Unsupported, false) => {}
            (BindingFlag::NotOffered, false) if !self.offer.binds_channel() => {}
            // Somebody between us took the mechanisms with channel binding out of our offer
            // (RFC 5802, section 6).
            (BindingFlag::NotOffered, false) => {
                return Err(SaslError::from(SaslCondition::NotAuthorized)
                    .with_text("Channel binding was offered, yet the client did not see it."));
            }
            (BindingFlag::Used(_), false) | (_, true) => {
                return Err(SaslError::from(SaslCondition::MalformedRequest)
                    .with_text("The channel binding flag does not fit the mechanism."));
            }
        }
        let user = self.account(&first.user, first.authzid.as_deref())?;
        Ok((user, Pending::Scram { hash, first, binding }))
    }

    /// The account that authenticates, when it asks to act as itself and as nobody else.
    fn account(&self, user: &str, authzid: Option<&str>) -> Result<BareJid, SaslError> {
        // A name that no account can have gets the answer of a wrong password.
        let user =
            Jid::from_parts(Some(user), self.host.domainpart(), None).map_err(|_| SaslCondition::NotAuthorized)?.bare();
        match authzid {
            None => Ok(user),
            Some(authzid) if BareJid::new(authzid).is_ok_and(|authzid| authzid == user) => Ok(user),
            Some(_) => Err(SaslCondition::InvalidAuthzid.into()),
        }
    }

    /// The identity, out of those that the certificate proves, to act as (XEP-0178).
    fn certified(&self, authzid: &str) -> Result<BareJid, SaslError> {
        let proven = self.offer.external();
        let identity = if authzid.is_empty() {
            match proven {
                [only] => Some(only.clone()),
                _ => None,
            }
        } else {
            BareJid::new(authzid).ok().filter(|authzid| proven.contains(authzid))
        };
        identity
            .filter(|jid| jid.localpart().is_none() || jid.domainpart() == self.host.domainpart())
            .ok_or_else(|| SaslCondition::InvalidAuthzid.into())
    }
}

impl WantProof {
    fn check(self, text: &str) -> Result<Step, SaslError> {
        let last = ClientFinal::parse(text).ok_or(SaslCondition::MalformedRequest)?;
        let auth_message = [
            self.client_first_bare.as_bytes(),
            b",",
            self.server_first.as_bytes(),
            b",",
            last.without_proof.as_bytes(),
        ];
        let signature = self.hash.hmac(self.keys.stored_key.expose(), &auth_message);
        let client_key: Zeroizing<Vec<u8>> =
            Zeroizing::new(signature.expose().iter().zip(&last.proof).map(|(a, b)| a ^ b).collect());
        // All four are computed whatever the others say, so that the time tells nothing.
        let proven = self.keys.stored_key.ct_matches(self.hash.digest(&client_key).expose())
            & last.proof.len().ct_eq(&self.hash.size());
        let same_stream = last.binding.ct_eq(&self.binding) & last.nonce.as_bytes().ct_eq(self.nonce.as_bytes());
        if bool::from(proven & same_stream) & self.known {
            let signature = self.hash.hmac(self.keys.server_key.expose(), &auth_message);
            let data = format!("v={}", BASE64.encode(signature.expose()));
            success(self.user, Some(data.into_bytes()))
        } else {
            Err(SaslCondition::NotAuthorized.into())
        }
    }
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain(..)",
            Self::Scram { .. } => "Scram(..)",
            Self::External => "External",
        })
    }
}

fn text(message: &[u8]) -> Result<&str, SaslError> {
    std::str::from_utf8(message).map_err(|_| SaslCondition::MalformedRequest.into())
}

fn success(identity: BareJid, data: Option<Vec<u8>>) -> Result<Step, SaslError> {
    Ok(Step::Success { identity: identity.into(), data })
}
