//! SASL from the client's side (RFC 4616, RFC 5802, RFC 7677), without channel binding. The slow part of SCRAM is remembered
//! per password and salt, so that thousands of logins cost their client little.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::Failure;

/// A mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Mechanism {
    /// SCRAM-SHA-256
    Sha256,
    /// SCRAM-SHA-1
    Sha1,
    /// PLAIN
    Plain,
}

impl Mechanism {
    /// By name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "SCRAM-SHA-256",
            Self::Sha1 => "SCRAM-SHA-1",
            Self::Plain => "PLAIN",
        }
    }

    /// The strongest of those that `<mechanisms/>` lists.
    pub fn strongest(features: &[u8]) -> Option<Self> {
        [Self::Sha256, Self::Sha1, Self::Plain]
            .into_iter()
            .find(|mechanism| crate::xml::holds(features, &format!(">{}<", mechanism.name())))
    }
}

type Keys = Arc<(Vec<u8>, Vec<u8>)>;
type CacheKey = (Mechanism, String, Vec<u8>, u32);
static CACHE: LazyLock<Mutex<HashMap<CacheKey, Keys>>> = LazyLock::new(Mutex::default);

/// One attempt.
#[derive(Debug)]
pub struct Exchange {
    mechanism: Mechanism,
    user: String,
    password: String,
    nonce: String,
    server_signature: Vec<u8>,
}

impl Exchange {
    /// Prepares one.
    pub fn new(mechanism: Mechanism, user: &str, password: &str) -> Self {
        let mut nonce = [0; 18];
        getrandom::fill(&mut nonce).expect("the system has randomness");
        Self {
            mechanism,
            user: user.to_owned(),
            password: password.to_owned(),
            nonce: BASE64.encode(nonce),
            server_signature: Vec::new(),
        }
    }

    /// What goes into `<auth/>`, in base64.
    pub fn initial(&self) -> String {
        BASE64.encode(match self.mechanism {
            Mechanism::Plain => format!("\0{}\0{}", self.user, self.password),
            _ => format!("n,,{}", self.first_bare()),
        })
    }

    /// The answer to `<challenge/>`, both in base64.
    pub fn respond(&mut self, challenge: &str) -> Result<String, Failure> {
        let bad = |what: &str| Failure::Sasl(format!("challenge without {what}"));
        let first = decode(challenge)?;
        let field = |name: char| first.split(',').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        let nonce = field('r').ok_or_else(|| bad("nonce"))?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(bad("a nonce of its own"));
        }
        let salt = field('s').and_then(|salt| BASE64.decode(salt).ok()).ok_or_else(|| bad("salt"))?;
        let iterations = field('i').and_then(|count| count.parse().ok()).ok_or_else(|| bad("iterations"))?;
        let keys = self.keys(salt, iterations);
        let last = format!("c=biws,r={nonce}");
        let message = format!("{},{first},{last}", self.first_bare());
        let signature = match self.mechanism {
            Mechanism::Sha1 => mac::<Hmac<Sha1>>(&Sha1::digest(&keys.0), message.as_bytes()),
            _ => mac::<Hmac<Sha256>>(&Sha256::digest(&keys.0), message.as_bytes()),
        };
        self.server_signature = self.hmac(&keys.1, message.as_bytes());
        let proof: Vec<u8> = keys.0.iter().zip(signature).map(|(key, byte)| key ^ byte).collect();
        Ok(BASE64.encode(format!("{last},p={}", BASE64.encode(proof))))
    }

    /// Checks what came in `<success/>`: the server knows the password too.
    pub fn verify(&self, success: &str) -> Result<(), Failure> {
        let expected = format!("v={}", BASE64.encode(&self.server_signature));
        if self.mechanism == Mechanism::Plain || decode(success)?.split(',').any(|field| field == expected) {
            Ok(())
        } else {
            Err(Failure::Sasl("the server does not know the password".into()))
        }
    }

    fn first_bare(&self) -> String {
        format!("n={},r={}", self.user.replace('=', "=3D").replace(',', "=2C"), self.nonce)
    }

    fn keys(&self, salt: Vec<u8>, iterations: u32) -> Keys {
        let key = (self.mechanism, self.password.clone(), salt, iterations);
        if let Some(keys) = CACHE.lock().expect("no panic while locked").get(&key) {
            return keys.clone();
        }
        let salted = salted(self.mechanism, &self.password, &key.2, iterations);
        let keys = Arc::new((self.hmac(&salted, b"Client Key"), self.hmac(&salted, b"Server Key")));
        CACHE.lock().expect("no panic while locked").insert(key, Arc::clone(&keys));
        keys
    }

    fn hmac(&self, key: &[u8], message: &[u8]) -> Vec<u8> {
        match self.mechanism {
            Mechanism::Sha1 => mac::<Hmac<Sha1>>(key, message),
            _ => mac::<Hmac<Sha256>>(key, message),
        }
    }
}

/// StoredKey and ServerKey for SCRAM-SHA-256, as a server keeps them.
pub fn stored_keys(password: &str, salt: &[u8], iterations: u32) -> (Vec<u8>, Vec<u8>) {
    let salted = salted(Mechanism::Sha256, password, salt, iterations);
    let stored = Sha256::digest(mac::<Hmac<Sha256>>(&salted, b"Client Key")).to_vec();
    (stored, mac::<Hmac<Sha256>>(&salted, b"Server Key"))
}

fn salted(mechanism: Mechanism, password: &str, salt: &[u8], iterations: u32) -> Vec<u8> {
    match mechanism {
        Mechanism::Sha1 => pbkdf2::pbkdf2_hmac_array::<Sha1, 20>(password.as_bytes(), salt, iterations).to_vec(),
        _ => pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password.as_bytes(), salt, iterations).to_vec(),
    }
}

fn mac<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

fn decode(text: &str) -> Result<String, Failure> {
    let bytes = BASE64.decode(text.trim()).map_err(|error| Failure::Sasl(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| Failure::Sasl(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exchange_of_rfc_7677_comes_out() {
        let mut exchange = Exchange::new(Mechanism::Sha256, "user", "pencil");
        exchange.nonce = "rOprNGfwEbeRWgbNEkqO".into();
        assert_eq!(decode(&exchange.initial()).unwrap(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let challenge = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        assert_eq!(
            decode(&exchange.respond(&BASE64.encode(challenge)).unwrap()).unwrap(),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        let success = BASE64.encode("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        exchange.verify(&success).unwrap();
        assert!(exchange.verify(&BASE64.encode("v=AAAA")).is_err());
    }
}
