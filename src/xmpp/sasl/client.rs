//! The client's side of a SASL exchange: chooses the strongest mechanism and makes the server
//! prove that it knows the account (RFC 5802, section 5; XEP-0440; XEP-0474).

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use zeroize::Zeroizing;

use super::{
    keys::{Hash, Secret, prepare_password},
    mechanism::{BindingType, ChannelBindings, Mechanism, downgrade_hash},
    message::{ServerFirst, escape},
    random_nonce,
};

/// The most PBKDF2 iterations we do for a server; more would be an attack on our CPU.
const MAX_ITERATIONS: u32 = 10_000_000;

/// What a client logs in with.
#[derive(Clone)]
pub struct Login {
    /// The localpart of the account.
    pub user: String,
    /// The password; ignored by EXTERNAL.
    pub password: Zeroizing<String>,
    /// Send the password itself when the server offers nothing better and TLS is on.
    pub plain: bool,
    /// Use EXTERNAL when it is offered, because a certificate was shown.
    pub external: bool,
    /// Use this mechanism or fail; for tests and for telling servers' faults.
    pub only: Option<Mechanism>,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// What a server announces in its stream features.
#[derive(Clone, Debug, Default)]
pub struct Server {
    /// Names of mechanisms, known to us or not.
    pub mechanisms: Vec<String>,
    /// Names of channel binding types; none when the server does not know XEP-0440.
    pub binding_types: Vec<String>,
}

/// Why a client breaks off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// No mechanism is both offered and allowed.
    #[error("the server offers no SASL mechanism that we may use")]
    NoMechanism,
    /// The password or the server's message breaks the grammar.
    #[error("the server's SASL message is malformed")]
    Malformed,
    /// The password holds characters a password cannot hold.
    #[error("the password holds characters a password cannot hold")]
    Password,
    /// The server does not know the account's keys, or somebody stands between us and it.
    #[error("the server failed to prove that it knows the account")]
    ServerNotProven,
    /// Somebody between us and the server changed the mechanisms it announced.
    #[error("the announced SASL mechanisms or channel bindings were tampered with")]
    Downgraded,
    /// The operating system gave no random bytes.
    #[error("the operating system gives no random bytes")]
    NoRandomness,
}

/// One attempt to authenticate to a server.
pub struct ClientExchange {
    mechanism: Mechanism,
    login: Login,
    server: Server,
    /// The gs2-header and the binding data.
    binding: Vec<u8>,
    gs2_header: String,
    pub(super) nonce: String,
    state: State,
}

impl std::fmt::Debug for ClientExchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientExchange").field("mechanism", &self.mechanism).finish_non_exhaustive()
    }
}

enum State {
    Begun,
    WantFirst { bare: String },
    WantLast { signature: Secret },
    Proven,
}

impl ClientExchange {
    /// Chooses the strongest mechanism that the server announces, `login` allows and the channel
    /// carries. `tls` says whether the stream is inside TLS.
    ///
    /// # Errors
    /// When there is none, or the announcement was visibly tampered with.
    pub fn new(login: Login, server: Server, tls: bool, bindings: &ChannelBindings) -> Result<Self, ClientError> {
        let offered = |mechanism: Mechanism| server.mechanisms.iter().any(|name| name == mechanism.name());
        // COMPAT: a server without XEP-0440 that offers -PLUS will know tls-server-end-point.
        let binding = bindings.types().find(|kind| {
            server.binding_types.iter().any(|name| name == kind.name())
                || (server.binding_types.is_empty() && *kind == BindingType::TlsServerEndPoint)
        });
        let mechanism = Mechanism::ALL
            .into_iter()
            .filter(|mechanism| offered(*mechanism))
            .filter(|mechanism| login.only.is_none_or(|only| only == *mechanism))
            .find(|mechanism| match mechanism {
                Mechanism::External => login.external && tls,
                Mechanism::Plain => login.plain && tls,
                mechanism => !mechanism.binds_channel() || binding.is_some(),
            })
            .ok_or(ClientError::NoMechanism)?;
        let offers_binding =
            Mechanism::ALL.into_iter().any(|mechanism| mechanism.binds_channel() && offered(mechanism));
        if !offers_binding && !server.binding_types.is_empty() {
            return Err(ClientError::Downgraded);
        }
        let (gs2_header, data) = match binding {
            Some(kind) if mechanism.binds_channel() => (format!("p={},,", kind.name()), bindings.get(kind)),
            _ if bindings.is_empty() || offers_binding => ("n,,".to_owned(), None),
            _ => ("y,,".to_owned(), None),
        };
        let mut binding = gs2_header.clone().into_bytes();
        binding.extend_from_slice(data.map(Secret::expose).unwrap_or_default());
        let nonce = random_nonce().ok_or(ClientError::NoRandomness)?;
        Ok(Self { mechanism, login, server, binding, gs2_header, nonce, state: State::Begun })
    }

    /// The mechanism chosen.
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// The initial response.
    pub fn initial(&mut self) -> Vec<u8> {
        match self.mechanism {
            Mechanism::External => {
                self.state = State::Proven;
                Vec::new()
            }
            Mechanism::Plain => {
                self.state = State::Proven;
                format!("\0{}\0{}", self.login.user, self.login.password.as_str()).into_bytes()
            }
            _ => {
                let bare = format!("n={},r={}", escape(&self.login.user), self.nonce);
                let message = format!("{}{bare}", self.gs2_header).into_bytes();
                self.state = State::WantFirst { bare };
                message
            }
        }
    }

    /// Answers a challenge. For SCRAM this hashes the password.
    ///
    /// # Errors
    /// When the exchange must be aborted.
    pub fn challenge(&mut self, message: &[u8]) -> Result<Vec<u8>, ClientError> {
        match std::mem::replace(&mut self.state, State::Begun) {
            State::Begun if message.is_empty() => Ok(self.initial()),
            State::WantFirst { bare } => self.answer(&bare, message),
            // The server may send its signature as a challenge, to be answered by nothing.
            State::WantLast { signature } => {
                check_signature(&signature, message)?;
                self.state = State::Proven;
                Ok(Vec::new())
            }
            State::Begun | State::Proven => Err(ClientError::Malformed),
        }
    }

    /// Takes the news of success with what came along.
    ///
    /// # Errors
    /// When the server has not proved itself: such a success is worth nothing.
    pub fn success(self, message: Option<&[u8]>) -> Result<(), ClientError> {
        match self.state {
            State::Proven => Ok(()),
            State::WantLast { signature } => check_signature(&signature, message.unwrap_or_default()),
            State::Begun | State::WantFirst { .. } => Err(ClientError::ServerNotProven),
        }
    }

    fn answer(&mut self, bare: &str, message: &[u8]) -> Result<Vec<u8>, ClientError> {
        let hash = self.mechanism.hash().ok_or(ClientError::Malformed)?;
        let text = std::str::from_utf8(message).map_err(|_| ClientError::Malformed)?;
        let first = ServerFirst::parse(text).ok_or(ClientError::Malformed)?;
        let ours = first.nonce.strip_prefix(&self.nonce).is_some_and(|rest| !rest.is_empty());
        if !ours || first.salt.is_empty() || !(1..=MAX_ITERATIONS).contains(&first.iterations) {
            return Err(ClientError::Malformed);
        }
        if first.downgrade_hash.is_some_and(|sent| sent != self.downgrade_hash(hash)) {
            return Err(ClientError::Downgraded);
        }
        let password = prepare_password(&self.login.password).map_err(|_| ClientError::Password)?;
        let salted = hash.salted_password(password.as_bytes(), &first.salt, first.iterations);
        let client_key = hash.hmac(salted.expose(), &[b"Client Key"]);
        let stored_key = hash.digest(client_key.expose());
        let server_key = hash.hmac(salted.expose(), &[b"Server Key"]);
        let without_proof = format!("c={},r={}", BASE64.encode(&self.binding), first.nonce);
        let auth_message = [bare.as_bytes(), b",", message, b",", without_proof.as_bytes()];
        let signature = hash.hmac(stored_key.expose(), &auth_message);
        let proof: Vec<u8> = client_key.expose().iter().zip(signature.expose()).map(|(a, b)| a ^ b).collect();
        self.state = State::WantLast { signature: hash.hmac(server_key.expose(), &auth_message) };
        Ok(format!("{without_proof},p={}", BASE64.encode(proof)).into_bytes())
    }

    fn downgrade_hash(&self, hash: Hash) -> String {
        let Server { mechanisms, binding_types } = &self.server;
        downgrade_hash(hash, mechanisms.iter().map(String::as_str), binding_types.iter().map(String::as_str))
    }
}

fn check_signature(expected: &Secret, message: &[u8]) -> Result<(), ClientError> {
    let signature = std::str::from_utf8(message)
        .ok()
        .and_then(|text| text.split(',').next()?.strip_prefix("v="))
        .and_then(|text| BASE64.decode(text).ok())
        .ok_or(ClientError::ServerNotProven)?;
    if expected.matches(&signature) { Ok(()) } else { Err(ClientError::ServerNotProven) }
}
