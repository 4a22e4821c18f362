//! What a server keeps of a password: the salted keys of SCRAM (RFC 5802, section 3; RFC 7677).
//!
//! No password can be computed back from these, and neither can a login: whoever reads the
//! database still has to guess. Where keys are stored is the caller's matter.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use zeroize::{Zeroize, Zeroizing};

use crate::precis::opaque_string;

/// The fewest PBKDF2 iterations new keys are made with, whatever the caller asks for.
/// RFC 7677, section 4, asks for no fewer than 4096; RFC 5802 leaves it open.
pub const MIN_ITERATIONS: u32 = 10_000;

/// Bytes of salt in new keys.
pub const SALT_BYTES: usize = 16;

/// The hash functions SCRAM is used with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// SCRAM-SHA-1 (RFC 5802), for old clients.
    Sha1,
    /// SCRAM-SHA-256 (RFC 7677).
    Sha256,
}

impl Hash {
    /// Length of the hash's output in bytes.
    pub const fn size(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    pub(super) fn digest(self, data: &[u8]) -> Secret {
        match self {
            Self::Sha1 => Secret::new(Sha1::digest(data).as_slice()),
            Self::Sha256 => Secret::new(Sha256::digest(data).as_slice()),
        }
    }

    pub(super) fn hmac(self, key: &[u8], parts: &[&[u8]]) -> Secret {
        fn tag<M: Mac + KeyInit>(key: &[u8], parts: &[&[u8]]) -> Secret {
            // HMAC takes a key of any length (RFC 2104, section 2), so there is no error to meet.
            let Ok(mut mac) = <M as KeyInit>::new_from_slice(key) else {
                return Secret::new(&[]);
            };
            for part in parts {
                mac.update(part);
            }
            Secret::new(mac.finalize().into_bytes().as_slice())
        }
        match self {
            Self::Sha1 => tag::<Hmac<Sha1>>(key, parts),
            Self::Sha256 => tag::<Hmac<Sha256>>(key, parts),
        }
    }

    /// `Hi()` of RFC 5802, section 2.2: PBKDF2 with one block of output.
    pub(super) fn salted_password(self, password: &[u8], salt: &[u8], iterations: u32) -> Secret {
        let mut out = Zeroizing::new(vec![0; self.size()]);
        match self {
            Self::Sha1 => pbkdf2::pbkdf2_hmac::<Sha1>(password, salt, iterations, &mut out),
            Self::Sha256 => pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, iterations, &mut out),
        }
        Secret::new(&out)
    }
}

/// Bytes that must not leak: wiped when dropped, never printed, compared in constant time only.
///
/// It has no `PartialEq` on purpose; [`Secret::matches`] is the one way to compare.
#[derive(Clone)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// Copies `bytes` into a secret of its own.
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The bytes themselves, for storing or for computing with.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Whether the bytes are the same, in a time that depends on the lengths alone.
    pub fn matches(&self, other: &[u8]) -> bool {
        self.ct_matches(other).into()
    }

    pub(super) fn ct_matches(&self, other: &[u8]) -> Choice {
        self.0.ct_eq(other)
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The keys of one account for one hash function.
#[derive(Clone, Debug)]
pub struct ScramKeys {
    /// Salt the password was hashed with.
    pub salt: Vec<u8>,
    /// PBKDF2 iterations.
    pub iterations: u32,
    /// `H(ClientKey)`: what a client's proof is checked against.
    pub stored_key: Secret,
    /// `ServerKey`: what proves the server to the client.
    pub server_key: Secret,
}

impl ScramKeys {
    /// Computes the keys of `password`. This is the expensive step: `iterations` HMACs.
    ///
    /// # Errors
    /// When the password is empty or holds characters no password may hold.
    pub fn derive(hash: Hash, password: &str, salt: &[u8], iterations: u32) -> Result<Self, PasswordError> {
        let password = prepare_password(password)?;
        let salted = hash.salted_password(password.as_bytes(), salt, iterations);
        let client_key = hash.hmac(salted.expose(), &[b"Client Key"]);
        Ok(Self {
            salt: salt.to_vec(),
            iterations,
            stored_key: hash.digest(client_key.expose()),
            server_key: hash.hmac(salted.expose(), &[b"Server Key"]),
        })
    }
}

/// All that is stored of an account's password.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Keys for SCRAM-SHA-256, which PLAIN is checked against too.
    pub sha256: ScramKeys,
    /// Keys for SCRAM-SHA-1.
    pub sha1: ScramKeys,
}

impl Credentials {
    /// Computes the keys of a new password with fresh salts and `iterations` rounds, at least
    /// [`MIN_ITERATIONS`]. Takes tens of milliseconds of CPU.
    ///
    /// # Errors
    /// When the password is empty or holds characters no password may hold, or when the
    /// operating system gives no random bytes.
    pub fn from_password(password: &str, iterations: u32) -> Result<Self, PasswordError> {
        let iterations = iterations.max(MIN_ITERATIONS);
        let mut salts = [0; SALT_BYTES * 2];
        getrandom::fill(&mut salts).map_err(|_| PasswordError::NoRandomness)?;
        let (first, second) = salts.split_at(SALT_BYTES);
        Ok(Self {
            sha256: ScramKeys::derive(Hash::Sha256, password, first, iterations)?,
            sha1: ScramKeys::derive(Hash::Sha1, password, second, iterations)?,
        })
    }

    /// Keys for a user who does not exist, so that a login cannot tell. The same name always
    /// gets the same salts, of the size and with the iteration count that real keys have, and
    /// no password fits.
    ///
    /// `server_secret` is at least 128 random bits that outlive a restart: salts that change
    /// would tell an unknown user from a known one.
    pub fn fake(server_secret: &[u8], user: &str, iterations: u32) -> Self {
        let derive = |hash: Hash, purpose: &[u8]| {
            let mut salt = Hash::Sha256.hmac(server_secret, &[purpose, b" salt\0", user.as_bytes()]).expose().to_vec();
            salt.truncate(SALT_BYTES);
            let key = |name: &[u8]| {
                let long = Hash::Sha256.hmac(server_secret, &[purpose, name, user.as_bytes()]);
                Secret::new(long.expose().get(..hash.size()).unwrap_or_default())
            };
            ScramKeys {
                salt,
                iterations: iterations.max(MIN_ITERATIONS),
                stored_key: key(b" stored\0"),
                server_key: key(b" server\0"),
            }
        };
        Self { sha256: derive(Hash::Sha256, b"SHA-256"), sha1: derive(Hash::Sha1, b"SHA-1") }
    }

    /// Whether this is the password the keys were made of. As expensive as making them; takes
    /// the same time for a right and a wrong password.
    pub fn verify_password(&self, password: &str) -> bool {
        let keys = &self.sha256;
        let derived = ScramKeys::derive(Hash::Sha256, password, &keys.salt, keys.iterations);
        derived.is_ok_and(|derived| keys.stored_key.matches(derived.stored_key.expose()))
    }

    pub(super) fn for_hash(&self, hash: Hash) -> &ScramKeys {
        match hash {
            Hash::Sha1 => &self.sha1,
            Hash::Sha256 => &self.sha256,
        }
    }
}

/// Why a string cannot be a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Empty, or of characters that RFC 8265, section 4, forbids (control characters and such).
    #[error("the password is empty or holds characters a password cannot hold")]
    Forbidden,
    /// The operating system gave no random bytes for the salt.
    #[error("the operating system gives no random bytes")]
    NoRandomness,
}

/// OpaqueString of RFC 8265, section 4.2: what both sides do to a password before hashing it.
pub(super) fn prepare_password(password: &str) -> Result<Zeroizing<String>, PasswordError> {
    // COMPAT: clients still speak the SASLprep of RFC 5802. The two agree wherever NFC and NFKC
    // do, which is all but compatibility characters such as ligatures.
    opaque_string(password).map(|prepared| Zeroizing::new(prepared.into_owned())).map_err(|_| PasswordError::Forbidden)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a20_keys_show_no_password_and_no_key() {
        let credentials = Credentials {
            sha256: ScramKeys::derive(Hash::Sha256, "canary-pw", b"salt", 2).unwrap(),
            sha1: ScramKeys::derive(Hash::Sha1, "canary-pw", b"salt", 2).unwrap(),
        };
        let shown = format!("{credentials:?}");
        assert!(!shown.contains("canary-pw"));
        assert!(shown.contains("stored_key: Secret(..)"));
        for secret in [&credentials.sha256.stored_key, &credentials.sha1.server_key] {
            assert!(!shown.contains(&format!("{:?}", secret.expose())));
        }
    }

    #[test]
    fn a20_new_keys_take_at_least_ten_thousand_rounds() {
        let credentials = Credentials::from_password("pencil", 1).unwrap();
        assert_eq!(credentials.sha256.iterations, 10_000);
        assert_eq!(credentials.sha256.salt.len(), SALT_BYTES);
        assert_ne!(credentials.sha256.salt, credentials.sha1.salt);
        assert!(credentials.verify_password("pencil"));
        assert!(!credentials.verify_password("Pencil"));
        assert!(!credentials.verify_password(""));
    }

    #[test]
    fn a5_fake_keys_look_like_real_ones() {
        let fake = Credentials::fake(b"secret", "nobody@localhost", 12_345);
        let again = Credentials::fake(b"secret", "nobody@localhost", 12_345);
        let other = Credentials::fake(b"secret", "noone@localhost", 12_345);
        let elsewhere = Credentials::fake(b"other secret", "nobody@localhost", 12_345);
        assert_eq!(fake.sha256.salt, again.sha256.salt);
        assert_ne!(fake.sha256.salt, other.sha256.salt);
        assert_ne!(fake.sha256.salt, elsewhere.sha256.salt);
        assert_ne!(fake.sha256.salt, fake.sha1.salt);
        for keys in [&fake.sha256, &fake.sha1] {
            assert_eq!(keys.salt.len(), SALT_BYTES);
            assert_eq!(keys.iterations, 12_345);
        }
        assert_eq!(fake.sha256.stored_key.expose().len(), 32);
        assert_eq!(fake.sha1.stored_key.expose().len(), 20);
    }

    #[test]
    fn passwords_are_prepared_alike() {
        let composed = ScramKeys::derive(Hash::Sha256, "caf\u{e9}", b"salt", 2).unwrap();
        let decomposed = ScramKeys::derive(Hash::Sha256, "cafe\u{301}", b"salt", 2).unwrap();
        assert!(composed.stored_key.matches(decomposed.stored_key.expose()));
        for bad in ["", "\0", "pass\u{7}word"] {
            assert!(ScramKeys::derive(Hash::Sha256, bad, b"salt", 2).is_err());
        }
    }
}
