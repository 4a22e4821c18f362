//! The certificate a domain gets when the admin has installed none: self-signed, made once, never replaced.

use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, OtherNameValue,
    SanType,
};

use crate::certificate::CertificateError;

/// Ten years: those who trust such a certificate do so by its digest, and each new one is a new question to them.
const LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A clock that runs a little late must not call it "not yet valid".
const BACKDATED: Duration = Duration::from_secs(24 * 3600);

/// id-on-xmppAddr (RFC 6120 section 13.7.1.4).
const XMPP_ADDR: [u64; 9] = [1, 3, 6, 1, 5, 5, 7, 8, 5];

/// Writes a new key (mode 0600) and certificate for `host` (in ASCII form; `unicode` is the same in Unicode).
/// Neither file may exist.
pub(crate) fn generate(
    host: &str,
    unicode: &str,
    certificate: &Path,
    key: &Path,
    now: SystemTime,
) -> Result<(), CertificateError> {
    let failed = |error: rcgen::Error| CertificateError::Generate { host: host.to_owned(), why: error.to_string() };
    let pair = KeyPair::generate().map_err(failed)?;
    let mut params = CertificateParams::default();
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + LIFE).into();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, host);
    params.subject_alt_names = vec![
        match host.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(host.try_into().map_err(failed)?),
        },
        SanType::OtherName((XMPP_ADDR.to_vec(), OtherNameValue::from(unicode))),
    ];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        // As a server that calls other servers it is TLS's client.
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let signed = params.self_signed(&pair).map_err(failed)?;

    for (path, pem, mode) in [(key, pair.serialize_pem(), 0o600), (certificate, signed.pem(), 0o644)] {
        write_new(path, pem.as_bytes(), mode)
            .map_err(|error| CertificateError::Write { path: path.to_owned(), error })?;
    }
    Ok(())
}

/// `create_new`: whatever is there already, a race or a link included, stays as it is.
fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::certificate::tests::{Scratch, read};

    #[test]
    fn is_usable_private_and_never_overwritten() {
        let dir = Scratch::new("selfsigned");
        let (crt, key) = (dir.path("sub/x.crt"), dir.path("sub/x.key"));
        generate("xn--bcher-kva.example", "bücher.example", &crt, &key, SystemTime::now()).expect("written");
        let made = read("xn--bcher-kva.example", &crt, &key).expect("usable");
        assert!(made.covers_host());
        assert!(made.end_point().is_some());
        assert!(!made.expired(SystemTime::now()));
        let mode = fs::metadata(&key).expect("key").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let before = fs::read(&key).expect("key");
        assert!(generate("x.example", "x.example", &crt, &key, SystemTime::now()).is_err());
        assert_eq!(fs::read(&key).expect("key"), before);
    }

    #[test]
    fn an_address_is_a_host_too() {
        let dir = Scratch::new("selfsigned-ip");
        let (crt, key) = (dir.path("x.crt"), dir.path("x.key"));
        generate("127.0.0.1", "127.0.0.1", &crt, &key, SystemTime::now()).expect("written");
        assert!(read("127.0.0.1", &crt, &key).expect("usable").covers_host());
    }
}
