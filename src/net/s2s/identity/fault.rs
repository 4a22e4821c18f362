//! What is wrong with a certificate, in words for the admin who has to see to it.
//!
//! Each goes on from "the certificate …" or "it …". Names in it were written by strangers: they are cut and cleaned before
//! they come here (`names::shown`).

use std::fmt;

use super::KeyDigest;

/// One reason why a certificate proves nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// None was shown.
    NoCertificate,
    /// It cannot be read, and why.
    Unreadable(String),
    /// Its last moment is past.
    Expired {
        /// `2026-11-21 17:00 UTC`, as all moments here.
        since: String,
    },
    /// Its first moment is to come.
    NotYetValid {
        /// That moment.
        until: String,
    },
    /// It names other domains.
    OtherNames {
        /// Some of them.
        names: Vec<String>,
        /// How many more there are.
        more: usize,
        /// The one that it should name.
        domain: String,
    },
    /// It names nobody in a way that counts.
    NoNames {
        /// The one that it should name.
        domain: String,
    },
    /// The domain is in the common name alone.
    CommonNameOnly {
        /// The domain.
        domain: String,
    },
    /// There is more of something than anybody needs.
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// It has vouched for itself.
    SelfSigned,
    /// It, or the last of those that came with it, was issued by somebody we do not know.
    UnknownIssuer {
        /// Who.
        issuer: String,
    },
    /// The peer does not show who issued it.
    IntermediateMissing {
        /// Who.
        issuer: String,
        /// Where it is to be had, as the certificate says.
        url: String,
    },
    /// One of those that link it to its authority has expired.
    IssuerExpired {
        /// Which.
        issuer: String,
        /// When.
        since: String,
    },
    /// One of those that link it to its authority begins later.
    IssuerNotYetValid {
        /// Which.
        issuer: String,
        /// When.
        until: String,
    },
    /// The issuer has not signed this.
    WrongSignature,
    /// A key can be broken.
    WeakKey {
        /// Whose and which.
        what: String,
    },
    /// A signature is made in a way that is not accepted.
    WeakSignature {
        /// How it is made.
        what: String,
    },
    /// It is not for servers.
    Purpose,
    /// It is an authority's own and not a server's.
    Authority,
    /// Who issued it may not issue certificates.
    IssuerNoAuthority,
    /// Who issued it may not issue certificates for such names.
    NameConstraints,
    /// The key is not the one that the conf names.
    PinMismatch {
        /// The digest of the key that was shown.
        found: KeyDigest,
    },
    /// None of the TLSA records of a signed zone is for it.
    DaneMismatch,
    /// DNS has the signatures of a zone wrong that says which certificates the domain's servers have.
    Bogus(String),
    /// What the path's checker says beyond all of these.
    Path(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCertificate => write!(f, "is missing: the server shows none"),
            Self::Unreadable(why) => write!(f, "cannot be read: {why}"),
            Self::Expired { since } => write!(f, "has expired: it was valid until {since}"),
            Self::NotYetValid { until } => write!(f, "is not valid before {until} (is a clock wrong, theirs or ours?)"),
            Self::OtherNames { names, more, domain } => {
                write!(f, "is for {}", names.join(", "))?;
                if *more > 0 {
                    write!(f, " and {more} more")?;
                }
                write!(f, ", not for {domain}")
            }
            Self::NoNames { domain } => write!(f, "names no domain, and so not {domain}"),
            Self::CommonNameOnly { domain } => {
                write!(f, "has {domain} only as common name (CN), which does not count; it must be a DNS name (SAN)")
            }
            Self::TooMany { what, count, limit } => write!(f, "has {count} {what}, more than {limit}"),
            Self::SelfSigned => write!(f, "is self-signed: nobody vouches for it"),
            Self::UnknownIssuer { issuer } => write!(f, "is issued by {issuer}, an authority that is not known here"),
            Self::IntermediateMissing { issuer, url } => write!(
                f,
                "comes without that of its issuer, {issuer}: the server must send the whole chain \
                 (what is missing is at {url})"
            ),
            Self::IssuerExpired { issuer, since } => {
                write!(f, "is issued by {issuer}, whose own certificate has expired: it was valid until {since}")
            }
            Self::IssuerNotYetValid { issuer, until } => write!(
                f,
                "is issued by {issuer}, whose own certificate is not valid before {until} \
                 (is a clock wrong, theirs or ours?)"
            ),
            Self::WrongSignature => write!(f, "is not signed by the issuer that it names: a signature is wrong"),
            Self::WeakKey { what } => write!(f, "has a key that is too weak: {what}"),
            Self::WeakSignature { what } => write!(f, "is signed in a way that is not accepted: {what}"),
            Self::Purpose => write!(f, "is not meant for servers (its extended key usage lacks serverAuth)"),
            Self::Authority => write!(f, "is one of a certificate authority (CA:TRUE), not of a server"),
            Self::IssuerNoAuthority => write!(f, "is issued with a certificate that may not issue others"),
            Self::NameConstraints => write!(f, "is for a name that its issuer may not give certificates for"),
            Self::PinMismatch { found } => {
                write!(f, "has another key than the conf names; the SHA-256 of this one is ")?;
                found.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Self::DaneMismatch => {
                write!(f, "is none of those that DNS names (DANE): no TLSA record of the server's host fits it")
            }
            Self::Bogus(why) => {
                write!(f, "cannot be compared with what DNS names (DANE), whose answer is forged or damaged: {why}")
            }
            Self::Path(why) => write!(f, "cannot be traced to an authority: {why}"),
        }
    }
}
