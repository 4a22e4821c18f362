//! What it means that a handshake with another server failed, in words for its admin and ours.
//!
//! An alert is all that a peer says (RFC 8446 section 6). What rustls makes of it is right, and tells nobody what to do.

use rustls::{AlertDescription, Error, InvalidMessage, PeerIncompatible};

use crate::peer_certificate;

const TOO_OLD: &str = "the peer speaks no version of TLS that is accepted here (1.2 and 1.3)";
const NOTHING_IN_COMMON: &str = "the peer and we have no cipher or key exchange in common";

/// The words, if there are better ones than rustls' own.
pub(super) fn of(error: &Error) -> Option<String> {
    use AlertDescription as Alert;
    let text = match error {
        Error::InvalidCertificate(_) => return peer_certificate::words(error),
        Error::AlertReceived(alert) => match alert {
            Alert::ProtocolVersion => TOO_OLD,
            Alert::HandshakeFailure | Alert::InsufficientSecurity => NOTHING_IN_COMMON,
            Alert::NoApplicationProtocol => "the peer serves something else than XMPP between servers there (ALPN)",
            Alert::UnrecognisedName => "the peer does not know the domain that it was asked for (SNI)",
            Alert::UnknownCA => "the peer refuses our certificate: it does not know who issued it",
            Alert::CertificateExpired => {
                "the peer refuses our certificate: it has expired (is a clock wrong, theirs or ours?)"
            }
            Alert::CertificateRequired => "the peer wants a certificate, and we have shown none",
            Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateUnknown => "the peer refuses our certificate, and does not say why",
            _ => return None,
        },
        Error::PeerIncompatible(what) => match what {
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled => TOO_OLD,
            PeerIncompatible::NoCipherSuitesInCommon
            | PeerIncompatible::NoKxGroupsInCommon
            | PeerIncompatible::NoSignatureSchemesInCommon => NOTHING_IN_COMMON,
            _ => return None,
        },
        Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
            "what the peer says is not TLS"
        }
        Error::NoApplicationProtocol => "the peer wants to speak something else than XMPP between servers (ALPN)",
        _ => return None,
    };
    Some(text.to_owned())
}
