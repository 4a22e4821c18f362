//! The words for certificates that prove nothing: theirs, and our own.

use rookery_net::s2s::identity::Fault;

use super::words::{Whose, Words, one_line};

/// The other server's certificate is refused.
pub(super) fn refused(place: &str, faults: &[Fault], remote: &str) -> Words {
    let code = faults.first().map_or("certificate-path", code);
    let mut remedies: Vec<String> = Vec::new();
    for remedy in faults.iter().map(|fault| remedy(fault, remote)) {
        if !remedies.contains(&remedy) {
            remedies.push(remedy);
        }
    }
    let text = format!("the certificate at {place} {}", listed(faults));
    Words { code, whose: Whose::Theirs, text, remedy: remedies.join(" ") }
}

/// Others refuse ours.
pub(super) fn own(faults: &[Fault], local: &str) -> Words {
    Words {
        code: "own-certificate",
        whose: Whose::Ours,
        text: format!("our own certificate for {local} {}", listed(faults)),
        remedy: format!(
            "Put a valid certificate for {local} with its whole chain, and its key, where this server looks for them \
             (certs/{local}.crt and certs/{local}.key, or what [host.\"{local}\"] names). They are taken up without a restart."
        ),
    }
}

fn listed(faults: &[Fault]) -> String {
    faults.iter().map(|fault| one_line(&fault.to_string())).collect::<Vec<_>>().join("; it ")
}

const fn code(fault: &Fault) -> &'static str {
    match fault {
        Fault::NoCertificate => "certificate-missing",
        Fault::Expired { .. } => "certificate-expired",
        Fault::NotYetValid { .. } => "certificate-not-yet-valid",
        Fault::OtherNames { .. } | Fault::NoNames { .. } => "certificate-other-name",
        Fault::CommonNameOnly { .. } => "certificate-cn-only",
        Fault::SelfSigned => "certificate-self-signed",
        Fault::UnknownIssuer { .. } => "certificate-unknown-issuer",
        Fault::IntermediateMissing { .. } => "certificate-chain",
        Fault::IssuerExpired { .. } | Fault::IssuerNotYetValid { .. } => "certificate-issuer-dates",
        Fault::WrongSignature => "certificate-signature",
        Fault::WeakKey { .. } | Fault::WeakSignature { .. } => "certificate-weak",
        Fault::Purpose | Fault::Authority => "certificate-purpose",
        Fault::IssuerNoAuthority | Fault::NameConstraints => "certificate-issuer",
        Fault::PinMismatch { .. } => "certificate-pin",
        Fault::DaneMismatch | Fault::Bogus(_) => "certificate-dane",
        Fault::Unreadable(_) | Fault::TooMany { .. } | Fault::Path(_) => "certificate-path",
    }
}

fn remedy(fault: &Fault, remote: &str) -> String {
    match fault {
        Fault::NoCertificate => format!("The admins of {remote} give their server a certificate."),
        Fault::Expired { .. } => {
            format!("The admins of {remote} renew the certificate, and have their server read the new one.")
        }
        Fault::NotYetValid { .. } => format!(
            "If the date is past, this machine's clock is behind: set it. If it is to come, the admins of {remote} show a \
             certificate that has begun."
        ),
        Fault::OtherNames { .. } | Fault::NoNames { .. } => format!(
            "The admins of {remote} get a certificate for {remote} itself: the name of the host that the SRV record names is \
             not enough."
        ),
        Fault::CommonNameOnly { .. } => {
            format!("The admins of {remote} get a certificate that has {remote} as a DNS name (subjectAltName).")
        }
        Fault::SelfSigned | Fault::UnknownIssuer { .. } => format!(
            "The admins of {remote} get a certificate of an authority that others know. If you know theirs, add it to the file \
             that authorities in [s2s] names; or have [s2s.domain.\"{remote}\"] say certificates = \"dialback\", or pin the key."
        ),
        Fault::IntermediateMissing { .. } => format!(
            "The admins of {remote} have their server send the whole chain: with Let's Encrypt, fullchain.pem and not cert.pem."
        ),
        Fault::IssuerExpired { .. } | Fault::IssuerNotYetValid { .. } => {
            format!(
                "The admins of {remote} replace the chain that their server sends by the one that their authority has now."
            )
        }
        Fault::WrongSignature => {
            format!("The admins of {remote} install certificate and chain from the same renewal.")
        }
        Fault::WeakKey { .. } | Fault::WeakSignature { .. } => {
            format!("The admins of {remote} get a new certificate with a new key.")
        }
        Fault::Purpose | Fault::Authority => format!("The admins of {remote} get a certificate for a server."),
        Fault::IssuerNoAuthority | Fault::NameConstraints => {
            format!("The admins of {remote} ask whoever issued it: it may not issue this.")
        }
        Fault::PinMismatch { .. } => format!(
            "If {remote} has changed its key, ask its admins, by another way than this, and correct pin in \
             [s2s.domain.\"{remote}\"]. If not, somebody else answers there."
        ),
        Fault::DaneMismatch => format!(
            "The admins of {remote} publish a TLSA record for the new certificate, before their server shows it, or take the \
             records out."
        ),
        Fault::Bogus(_) => format!("The admins of {remote} put the signatures of their zone (DNSSEC) in order."),
        Fault::Unreadable(_) | Fault::TooMany { .. } | Fault::Path(_) => {
            format!("The admins of {remote} get a new certificate.")
        }
    }
}
