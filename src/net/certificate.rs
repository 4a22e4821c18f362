//! One domain's certificate and key: read from PEM, checked, and digested for channel binding.
//!
//! `tls-server-end-point` is RFC 5929 section 4. Where the files come from and when they are read again is `certs`'.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ProducesTickets;
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use x509_parser::signature_algorithm::RsaSsaPssParams;
use x509_parser::x509::AlgorithmIdentifier;

use crate::s2s::identity::names::{Names, Reference};

/// Why a domain has no usable certificate. The text names the file and the remedy.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum CertificateError {
    #[error("cannot read {}: {error}", path.display())]
    Read { path: PathBuf, error: std::io::Error },
    #[error("cannot write {}: {error}; make the directory writable for Rookery or install a certificate there", path.display())]
    Write { path: PathBuf, error: std::io::Error },
    #[error(
        "{} exists but {} does not; put the missing file beside it, or remove both to get a self-signed certificate",
        present.display(),
        missing.display()
    )]
    HalfAPair { present: PathBuf, missing: PathBuf },
    #[error("{} is not a PEM file ({why}); it must hold -----BEGIN {wanted}-----", path.display())]
    Pem { path: PathBuf, why: String, wanted: &'static str },
    #[error("the certificate in {} cannot be used: {why}; ask its issuer for a new one", path.display())]
    Unusable { path: PathBuf, why: String },
    #[error("the key in {} does not belong to the certificate in {}; install both from the same renewal", key.display(), certificate.display())]
    Mismatch { certificate: PathBuf, key: PathBuf },
    #[error("the certificate in {} is not valid since {since}; renew it", path.display())]
    Expired { path: PathBuf, since: String },
    #[error("\"{host}\" is no domain that a certificate can name: {why}")]
    Host { host: String, why: String },
    #[error("cannot make a self-signed certificate for {host}: {why}")]
    Generate { host: String, why: String },
}

/// A domain's certificate chain and key, ready for handshakes. Connections keep the one they began with.
pub struct HostCertificate {
    host: Box<str>,
    key: Arc<CertifiedKey>,
    end_point: Option<Box<[u8]>>,
    tickets: Arc<dyn ProducesTickets>,
    not_after: SystemTime,
    not_after_text: String,
    covers_host: bool,
    names: Names,
}

impl HostCertificate {
    /// Reads and checks what the two PEM files hold; the paths are for the error's text.
    ///
    /// `host` is the domain in ASCII form. An expired certificate is returned all the same: at start it is better
    /// than none, at a reload the caller refuses it ([`Self::expired`]).
    pub(crate) fn from_pem(
        host: &str,
        (certificate_path, certificate_pem): (&Path, &[u8]),
        (key_path, key_pem): (&Path, &[u8]),
        provider: &CryptoProvider,
    ) -> Result<Self, CertificateError> {
        let bad_pem = |path: &Path, wanted, error: pem::Error| CertificateError::Pem {
            path: path.to_owned(),
            why: match error {
                pem::Error::NoItemsFound => "nothing of that kind in it".to_owned(),
                other => other.to_string(),
            },
            wanted,
        };
        let unusable = |why: String| CertificateError::Unusable { path: certificate_path.to_owned(), why };

        let chain = CertificateDer::pem_slice_iter(certificate_pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| bad_pem(certificate_path, "CERTIFICATE", error))?;
        let leaf =
            chain.first().ok_or_else(|| bad_pem(certificate_path, "CERTIFICATE", pem::Error::NoItemsFound))?.clone();
        let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|error| bad_pem(key_path, "PRIVATE KEY", error))?;
        let key = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                CertificateError::Mismatch { certificate: certificate_path.to_owned(), key: key_path.to_owned() }
            }
            other => unusable(other.to_string()),
        })?;

        let (_, parsed) = X509Certificate::from_der(&leaf).map_err(|error| unusable(error.to_string()))?;
        let not_after = parsed.validity().not_after;
        Ok(Self {
            host: host.into(),
            key: Arc::new(key),
            end_point: end_point(&leaf, &parsed),
            // The tickets' key lives and dies with the certificate: a resumed session has the certificate of the
            // session it resumes, and both sides must still agree on it for tls-server-end-point.
            tickets: Ticketer::new().map_err(|error| unusable(error.to_string()))?,
            not_after: UNIX_EPOCH + Duration::from_secs(not_after.timestamp().max(0).unsigned_abs()),
            not_after_text: not_after.to_string(),
            covers_host: names(&parsed).any(|name| name.covers(host)),
            // One that no server would take is served all the same.
            names: Names::of(&parsed).unwrap_or_default(),
        })
    }

    /// The domain, in ASCII form.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// `tls-server-end-point` (RFC 5929): the certificate's digest; `None` where the RFC leaves it undefined (EdDSA).
    pub fn end_point(&self) -> Option<&[u8]> {
        self.end_point.as_deref()
    }

    /// The last second at which clients accept the certificate.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Whether one of the certificate's names is this domain. Where it is not, clients will refuse it.
    pub fn covers_host(&self) -> bool {
        self.covers_host
    }

    /// The certificate, and those that link it to its root, as they are shown.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.key.cert
    }

    /// Whether it names this domain, in ASCII form, so that another server takes it.
    pub(crate) fn covers(&self, domain: &str) -> bool {
        Reference::new(domain).is_some_and(|reference| self.names.prove(&reference).is_some())
    }

    pub(crate) fn key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }

    pub(crate) fn tickets(&self) -> &dyn ProducesTickets {
        &*self.tickets
    }

    pub(crate) fn not_after_text(&self) -> &str {
        &self.not_after_text
    }

    pub(crate) fn expired(&self, now: SystemTime) -> bool {
        now > self.not_after
    }
}

impl fmt::Debug for HostCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostCertificate")
            .field("host", &self.host)
            .field("not_after", &self.not_after_text)
            .finish_non_exhaustive()
    }
}

/// RFC 5929 section 4.1: the hash is that of the certificate's signature, but never a weaker one than SHA-256.
fn end_point(der: &[u8], certificate: &X509Certificate<'_>) -> Option<Box<[u8]>> {
    let algorithm = signature_hash(&certificate.signature_algorithm)?;
    Some(digest::digest(algorithm, der).as_ref().into())
}

fn signature_hash(signature: &AlgorithmIdentifier<'_>) -> Option<&'static digest::Algorithm> {
    let of_pss;
    let oid = match signature.algorithm.to_id_string().as_str() {
        // RSASSA-PSS names its hash in the parameters (RFC 4055 section 3.1).
        "1.2.840.113549.1.1.10" => {
            let parameters = RsaSsaPssParams::try_from(signature.parameters.as_ref()?).ok()?;
            of_pss = parameters.hash_algorithm_oid().to_id_string();
            of_pss
        }
        other => other.to_owned(),
    };
    match oid.as_str() {
        // md5, sha1 as hashes and with RSA, ECDSA and RSA: replaced by SHA-256.
        "1.2.840.113549.2.5"
        | "1.3.14.3.2.26"
        | "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.10045.4.1" => Some(&digest::SHA256),
        "2.16.840.1.101.3.4.2.1" | "1.2.840.113549.1.1.11" | "1.2.840.10045.4.3.2" => Some(&digest::SHA256),
        "2.16.840.1.101.3.4.2.2" | "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => Some(&digest::SHA384),
        "2.16.840.1.101.3.4.2.3" | "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => Some(&digest::SHA512),
        "2.16.840.1.101.3.4.2.4" | "1.2.840.113549.1.1.14" | "1.2.840.10045.4.3.1" => Some(&digest::SHA224),
        _ => None,
    }
}

enum Name<'a> {
    Dns(&'a str),
    Address(&'a [u8]),
    /// The raw otherName: an XmppAddr or SRVName (RFC 6120 section 13.7.1.4).
    Other(&'a [u8]),
}

fn names<'a>(certificate: &'a X509Certificate<'_>) -> impl Iterator<Item = Name<'a>> {
    certificate
        .subject_alternative_name()
        .ok()
        .flatten()
        .into_iter()
        .flat_map(|extension| extension.value.general_names.iter())
        .filter_map(|name| match name {
            GeneralName::DNSName(dns) => Some(Name::Dns(dns)),
            GeneralName::IPAddress(octets) => Some(Name::Address(octets)),
            GeneralName::OtherName(_, raw) => Some(Name::Other(raw)),
            _ => None,
        })
}

impl Name<'_> {
    /// For a warning, not for trust: checking is the client's business.
    fn covers(&self, host: &str) -> bool {
        match self {
            Self::Dns(dns) => {
                let wildcard = dns.strip_prefix("*.").and_then(|parent| Some((parent, host.split_once('.')?.1)));
                dns.eq_ignore_ascii_case(host)
                    || wildcard.is_some_and(|(parent, rest)| parent.eq_ignore_ascii_case(rest))
            }
            Self::Address(octets) => match host.parse() {
                Ok(std::net::IpAddr::V4(ip)) => ip.octets() == *octets,
                Ok(std::net::IpAddr::V6(ip)) => ip.octets() == *octets,
                Err(_) => false,
            },
            Self::Other(raw) => raw.ends_with(format!("_xmpp-client.{host}").as_bytes()),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::process::Command;

    use super::*;

    /// A directory under the target directory, removed at the end.
    pub(crate) struct Scratch(pub(crate) PathBuf);

    impl Scratch {
        pub(crate) fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("rookery-net-{}-{name}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path).expect("a scratch directory");
            Self(path)
        }

        pub(crate) fn path(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// A certificate for `host` made by OpenSSL, so that not one program both writes and reads it.
    pub(crate) fn openssl(dir: &Scratch, host: &str, key: &[&str], sign: &[&str]) -> (PathBuf, PathBuf) {
        let (crt, pem) = (dir.path(&format!("{host}.crt")), dir.path(&format!("{host}.key")));
        let done = Command::new("openssl")
            .args(["req", "-x509", "-nodes", "-subj", "/CN=x", "-days", "90", "-addext"])
            .arg(format!("subjectAltName=DNS:{host}"))
            .args(key)
            .args(sign)
            .arg("-keyout")
            .arg(&pem)
            .arg("-out")
            .arg(&crt)
            .output()
            .expect("openssl runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        (crt, pem)
    }

    pub(crate) fn read(host: &str, crt: &Path, key: &Path) -> Result<HostCertificate, CertificateError> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let (c, k) = (std::fs::read(crt).expect("certificate"), std::fs::read(key).expect("key"));
        HostCertificate::from_pem(host, (crt, &c), (key, &k), &provider)
    }

    /// The certificate's digest as OpenSSL counts it.
    fn fingerprint(crt: &Path, hash: &str) -> Vec<u8> {
        let out = Command::new("openssl")
            .args(["x509", "-noout", "-fingerprint", &format!("-{hash}"), "-in"])
            .arg(crt)
            .output()
            .expect("openssl runs");
        let text = String::from_utf8(out.stdout).expect("text");
        let hex = text.trim().split_once('=').expect("a fingerprint").1;
        hex.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("hex")).collect()
    }

    #[test]
    fn end_point_uses_the_hash_of_the_signature() {
        let dir = Scratch::new("end-point");
        let p256 = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
        let p384 = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp384r1"];
        let rsa = ["-newkey", "rsa:2048"];
        let pss = ["-sha384", "-sigopt", "rsa_padding_mode:pss"];
        let cases: [(&str, &[&str], &[&str], &str); 9] = [
            ("a.example", &p256, &["-sha256"], "sha256"),
            ("b.example", &p384, &["-sha384"], "sha384"),
            ("c.example", &p256, &["-sha512"], "sha512"),
            ("d.example", &p256, &["-sha224"], "sha224"),
            ("e.example", &rsa, &["-sha256"], "sha256"),
            ("f.example", &rsa, &["-sha512"], "sha512"),
            ("g.example", &rsa, &["-sha1"], "sha256"),
            ("h.example", &p256, &["-sha1"], "sha256"),
            ("i.example", &rsa, &pss, "sha384"),
        ];
        for (host, key, sign, hash) in cases {
            let (crt, key) = openssl(&dir, host, key, sign);
            let read = read(host, &crt, &key).expect("usable");
            assert_eq!(read.end_point(), Some(&*fingerprint(&crt, hash)), "{host} {hash}");
            assert!(read.covers_host());
        }
    }

    #[test]
    fn end_point_is_undefined_for_eddsa() {
        let dir = Scratch::new("eddsa");
        let (crt, key) = openssl(&dir, "ed.example", &["-newkey", "ed25519"], &[]);
        assert_eq!(read("ed.example", &crt, &key).expect("usable").end_point(), None);
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let dir = Scratch::new("mismatch");
        let p256 = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
        let (crt, _) = openssl(&dir, "one.example", &p256, &[]);
        let (_, key) = openssl(&dir, "two.example", &p256, &[]);
        let error = read("one.example", &crt, &key).expect_err("mismatch");
        assert!(matches!(error, CertificateError::Mismatch { .. }), "{error}");
        let swapped = read("one.example", &key, &crt).expect_err("swapped");
        assert!(matches!(swapped, CertificateError::Pem { .. }), "{swapped}");
    }

    #[test]
    fn names_cover_what_clients_would_accept() {
        let dns = |name, host| Name::Dns(name).covers(host);
        assert!(dns("chat.example", "chat.example"));
        assert!(dns("Chat.Example", "chat.example"));
        assert!(dns("*.example", "chat.example"));
        assert!(!dns("*.example", "a.chat.example"));
        assert!(!dns("*.example", "example"));
        assert!(!dns("example", "chat.example"));
        assert!(Name::Address(&[127, 0, 0, 1]).covers("127.0.0.1"));
        assert!(Name::Other(b"\xa0\x1a\x16\x18_xmpp-client.chat.example").covers("chat.example"));
    }
}
