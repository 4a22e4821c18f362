//! The names in a certificate, and whether one of them is a domain (RFC 9525 section 6, RFC 6120 section 13.7.1).
//!
//! Three forms count: DNS-ID, SRV-ID (RFC 4985) for XMPP between servers, and XmppAddr; for a server whose domain is an
//! address, the address. Only the subject alternative names are looked at, as ASN.1 and never as text: a name with a NUL
//! byte, or with anything else that no domain has, is no name at all. The common name is read for one purpose, to
//! say that it does not count.
//!
//! All comparing is done in ASCII form: a DNS-ID with other bytes than those of A-labels is no name, and an XmppAddr,
//! which is Unicode, is converted as the domain itself is.

use std::net::IpAddr;

use x509_parser::asn1_rs::{Any, Class, Tag};
use x509_parser::extensions::{GeneralName, SubjectAlternativeName};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::fault::Fault;
use crate::certs::ascii_host;

/// So many names, and so many parts of a subject, a certificate may have: far above any that an authority issues.
pub const MAX_NAMES: usize = 200;

/// Of a certificate for other domains, so many are told.
const TOLD: usize = 5;

/// RFC 6120 section 13.7.1.4 and RFC 4985 section 2.
const XMPP_ADDR: &str = "1.3.6.1.5.5.7.8.5";
const SRV_NAME: &str = "1.3.6.1.5.5.7.8.7";

/// A name that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    /// Small letters, a wildcard as it stands.
    Dns(String),
    /// The domain of an SRV-ID for servers, small letters.
    Srv(String),
    /// In ASCII form.
    XmppAddr(String),
    Address(IpAddr),
}

/// Which form of name has proven a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// A DNS-ID.
    Dns,
    /// An address.
    Address,
    /// An SRV-ID.
    Srv,
    /// An XmppAddr.
    XmppAddr,
}

impl By {
    /// Whether the constraints that an authority may be under (RFC 5280 section 4.2.1.10) hold for such names as well: they
    /// are written in terms of DNS names and addresses, and mean nothing for the two others.
    pub(super) fn is_constrained(self) -> bool {
        matches!(self, Self::Dns | Self::Address)
    }
}

/// What a certificate is asked for.
#[derive(Debug)]
pub struct Reference {
    ascii: Box<str>,
    address: Option<IpAddr>,
}

impl Reference {
    /// A domain in Unicode or in ASCII form, or an address (IPv6 in brackets); `None` for what is neither.
    pub fn new(domain: &str) -> Option<Self> {
        let bare = domain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(domain);
        let ascii = ascii_host(bare).ok()?;
        let address = ascii.parse().ok();
        (address.is_some() || is_domain(&ascii)).then_some(Self { ascii, address })
    }
}

/// The names of a certificate that count, and those that are only told.
#[derive(Debug, Default)]
pub struct Names {
    alternative: Vec<Name>,
    common: Vec<String>,
}

impl Names {
    /// Reads them.
    ///
    /// # Errors
    /// The fault: there are too many, or the extension cannot be read, or is there twice.
    pub fn of(certificate: &X509Certificate<'_>) -> Result<Self, Fault> {
        let parts = certificate.subject().iter_attributes().count();
        check_number("parts in its subject", parts)?;
        let extension = certificate
            .subject_alternative_name()
            .map_err(|error| Fault::Unreadable(format!("its alternative names: {error}")))?;
        let mut names = match extension {
            Some(extension) => Self::of_general(&extension.value.general_names)?,
            None => Self::default(),
        };
        names.common = certificate
            .subject()
            .iter_common_name()
            .filter_map(|name| name.as_str().ok())
            .map(str::to_ascii_lowercase)
            .collect();
        Ok(names)
    }

    /// Reads the extension's value by itself.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn of_extension(der: &[u8]) -> Result<Self, Fault> {
        match SubjectAlternativeName::from_der(der) {
            Ok(([], extension)) => Self::of_general(&extension.general_names),
            Ok(_) => Err(Fault::Unreadable("there are bytes behind its alternative names".to_owned())),
            Err(error) => Err(Fault::Unreadable(format!("its alternative names: {error}"))),
        }
    }

    fn of_general(names: &[GeneralName<'_>]) -> Result<Self, Fault> {
        check_number("names", names.len())?;
        Ok(Self { alternative: names.iter().filter_map(Name::read).collect(), common: Vec::new() })
    }

    /// Whether one of them is this one, and which.
    pub fn prove(&self, reference: &Reference) -> Option<By> {
        let mut found: Vec<By> = self.alternative.iter().filter_map(|name| name.is(reference)).collect();
        // Those first that everybody may give.
        found.sort_by_key(|by| !by.is_constrained());
        found.first().copied()
    }

    /// The names as they may be shown.
    pub fn shown(&self) -> Vec<String> {
        self.alternative.iter().map(Name::shown).collect()
    }

    /// Why they do not prove this domain.
    pub(super) fn fault(&self, domain: &str) -> Fault {
        let domain = shown(domain);
        let ascii = Reference::new(&domain).map(|reference| reference.ascii);
        let is_common = |name: &String| Some(&**name) == ascii.as_deref() || *name == domain;
        let mut names = self.shown();
        if self.common.iter().any(is_common) {
            return Fault::CommonNameOnly { domain };
        }
        names.dedup();
        let more = names.len().saturating_sub(TOLD);
        names.truncate(TOLD);
        match names.is_empty() {
            true => Fault::NoNames { domain },
            false => Fault::OtherNames { names, more, domain },
        }
    }
}

fn check_number(what: &'static str, count: usize) -> Result<(), Fault> {
    match count > MAX_NAMES {
        true => Err(Fault::TooMany { what, count, limit: MAX_NAMES }),
        false => Ok(()),
    }
}

impl Name {
    fn read(name: &GeneralName<'_>) -> Option<Self> {
        match name {
            GeneralName::DNSName(dns) => {
                let dns = dns.to_ascii_lowercase();
                is_domain(dns.strip_prefix("*.").unwrap_or(&dns)).then_some(Self::Dns(dns))
            }
            GeneralName::IPAddress(octets) => {
                let four = <[u8; 4]>::try_from(*octets).map(IpAddr::from);
                four.or_else(|_| <[u8; 16]>::try_from(*octets).map(IpAddr::from)).ok().map(Self::Address)
            }
            GeneralName::OtherName(kind, value) => match kind.to_id_string().as_str() {
                XMPP_ADDR => {
                    let address = explicit_text(value, Tag::Utf8String)?;
                    let ascii = ascii_host(address).ok()?;
                    is_domain(&ascii).then(|| Self::XmppAddr(ascii.into()))
                }
                SRV_NAME => {
                    let name = explicit_text(value, Tag::Ia5String)?.to_ascii_lowercase();
                    let domain = name.strip_prefix("_xmpp-server.").or_else(|| name.strip_prefix("_xmpps-server."))?;
                    is_domain(domain).then(|| Self::Srv(domain.to_owned()))
                }
                _ => None,
            },
            _ => None,
        }
    }

    fn is(&self, reference: &Reference) -> Option<By> {
        match self {
            Self::Dns(dns) => (reference.address.is_none() && covers(dns, &reference.ascii)).then_some(By::Dns),
            Self::Srv(domain) => (reference.address.is_none() && **domain == *reference.ascii).then_some(By::Srv),
            Self::XmppAddr(domain) => (**domain == *reference.ascii).then_some(By::XmppAddr),
            Self::Address(address) => (reference.address == Some(*address)).then_some(By::Address),
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Dns(name) | Self::XmppAddr(name) => shown(name),
            Self::Srv(domain) => shown(&format!("_xmpp-server.{domain}")),
            Self::Address(address) => address.to_string(),
        }
    }
}

/// Whether a DNS-ID means this domain; both in ASCII form. `*` stands for one whole label, the left-most, with two more at
/// least behind it: nobody may speak for all of `.org`.
pub fn covers(dns: &str, domain: &str) -> bool {
    match dns.strip_prefix("*.") {
        None => dns.eq_ignore_ascii_case(domain),
        Some(above) => {
            above.contains('.')
                && domain
                    .split_once('.')
                    .is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(above))
        }
    }
}

/// Letters, digits, hyphens and (in practice) underscores in labels of 1 to 63 bytes, 253 in all.
fn is_domain(ascii: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    ascii.len() <= 253 && ascii.split('.').all(is_label)
}

/// The text inside of `[0] EXPLICIT`.
fn explicit_text(value: &[u8], wanted: Tag) -> Option<&str> {
    let ([], outer) = Any::from_der(value).ok()? else {
        return None;
    };
    if outer.tag() != Tag(0) || outer.class() != Class::ContextSpecific {
        return None;
    }
    let ([], inner) = Any::from_der(outer.data).ok()? else {
        return None;
    };
    (inner.tag() == wanted && inner.class() == Class::Universal).then(|| std::str::from_utf8(inner.data).ok()).flatten()
}

/// A stranger's text for a log line or a terminal: no control characters, not long.
pub(super) fn shown(text: &str) -> String {
    const LONGEST: usize = 100;
    let clean = |c: char| if c.is_control() || is_disguise(c) { '\u{fffd}' } else { c };
    let mut shown: String = text.chars().take(LONGEST).map(clean).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

/// Invisible, or turns the order of what is read.
fn is_disguise(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{ad}')
}
