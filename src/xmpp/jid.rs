//! RFC 7622: XMPP addresses, `localpart@domainpart/resourcepart`.
//!
//! An address is prepared once, when it enters the server, and from then on compared byte by byte: [`Jid`], [`BareJid`]
//! and [`FullJid`] cannot hold an unprepared address. How each part is prepared stands in `prep`. A `Jid` is 24 bytes and
//! clones without copying. XEP-0106 escaping is a matter of clients; `\40` is four characters here.

mod prep;
#[cfg(test)]
mod tests;

use std::borrow::{Borrow, Cow};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

/// An XMPP address of any shape: `domain`, `local@domain`, `domain/resource` or `local@domain/resource`.
///
/// Equality, order and hash are those of its text, so a map with addresses as keys can be asked with a `&str`.
#[derive(Clone)]
pub struct Jid {
    text: Arc<str>,
    /// Bytes of the localpart; 0 when there is none.
    local: u16,
    /// Bytes up to the end of the domainpart.
    bare: u16,
}

/// An address without a resourcepart: `domain` or `local@domain`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BareJid(Jid);

/// An address with a resourcepart: `local@domain/resource` or `domain/resource`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FullJid(Jid);

/// A part of an address (RFC 7622 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Before the `@`: an account, a room.
    Local,
    /// The only part that every address has.
    Domain,
    /// After the `/`: a session, an occupant.
    Resource,
}

/// Why a text is not an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JidError {
    /// There is an `@` or `/` with nothing before or behind it, or no domain.
    Empty(Part),
    /// The part has more than 1023 bytes, or a label of the domain more than 63.
    TooLong(Part),
    /// The part has a character that it may not have, or characters that may not stand together.
    Forbidden(Part),
    /// A bare address was asked for, and there is a resourcepart.
    NotBare,
    /// A full address was asked for, and there is no resourcepart.
    NotFull,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "localpart",
            Self::Domain => "domainpart",
            Self::Resource => "resourcepart",
        })
    }
}

impl fmt::Display for JidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty(part) => write!(f, "the {part} is empty"),
            Self::TooLong(part) => write!(f, "the {part} is too long"),
            Self::Forbidden(part) => write!(f, "the {part} has characters that it may not have"),
            Self::NotBare => f.write_str("there is a resourcepart where none may be"),
            Self::NotFull => f.write_str("there is no resourcepart"),
        }
    }
}

impl std::error::Error for JidError {}

impl Jid {
    /// Parses and prepares an address.
    ///
    /// ```
    /// # use rookery_xmpp::jid::Jid;
    /// let jid = Jid::new("Juliet@Capulet.lit./balcony")?;
    /// assert_eq!(jid.as_str(), "juliet@capulet.lit/balcony");
    /// # Ok::<(), rookery_xmpp::jid::JidError>(())
    /// ```
    pub fn new(text: &str) -> Result<Self, JidError> {
        // RFC 7622 §3.2: the resourcepart begins at the first '/', and the localpart ends at the first '@' before it.
        let (bare, resource) = match text.split_once('/') {
            Some((bare, resource)) => (bare, Some(resource)),
            None => (text, None),
        };
        let (local, domain) = match bare.split_once('@') {
            Some((local, domain)) => (Some(local), domain),
            None => (None, bare),
        };
        Self::from_parts_of(Some(text), local, domain, resource)
    }

    /// Prepares the parts and joins them to an address. A part that is there may not be empty.
    pub fn from_parts(local: Option<&str>, domain: &str, resource: Option<&str>) -> Result<Self, JidError> {
        Self::from_parts_of(None, local, domain, resource)
    }

    /// `whole` is the text that the parts were cut from: where it is prepared already it becomes the address, one copy.
    fn from_parts_of(
        whole: Option<&str>,
        local: Option<&str>,
        domain: &str,
        resource: Option<&str>,
    ) -> Result<Self, JidError> {
        let local = local.map(prep::local).transpose()?;
        let domain = prep::domain(domain)?;
        let resource = resource.map(prep::resource).transpose()?;
        // Each part has been measured by `prep`; three of them and two separators fit in 16 bits.
        let local_len = local.as_ref().map_or(0, |local| local.len());
        let bare = if local_len == 0 { domain.len() } else { local_len + 1 + domain.len() };
        let len = resource.as_ref().map_or(bare, |resource| bare + 1 + resource.len());
        let borrowed = |part: &Option<Cow<'_, str>>| !matches!(part, Some(Cow::Owned(_)));
        let text = match whole {
            Some(whole)
                if whole.len() == len
                    && borrowed(&local)
                    && matches!(domain, Cow::Borrowed(_))
                    && borrowed(&resource) =>
            {
                Arc::from(whole)
            }
            _ => {
                let mut text = String::with_capacity(len);
                if let Some(local) = local {
                    text.push_str(&local);
                    text.push('@');
                }
                text.push_str(&domain);
                if let Some(resource) = resource {
                    text.push('/');
                    text.push_str(&resource);
                }
                text.into()
            }
        };
        Ok(Self { text, local: local_len as u16, bare: bare as u16 })
    }

    /// The whole address.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What stands before the `@`.
    pub fn localpart(&self) -> Option<&str> {
        if self.local == 0 { None } else { self.text.get(..usize::from(self.local)) }
    }

    /// The domain: lower-case, in U-labels, without a trailing dot.
    pub fn domainpart(&self) -> &str {
        let start = if self.local == 0 { 0 } else { usize::from(self.local) + 1 };
        self.text.get(start..usize::from(self.bare)).unwrap_or_default()
    }

    /// What stands behind the `/`.
    pub fn resourcepart(&self) -> Option<&str> {
        self.text.get(usize::from(self.bare) + 1..)
    }

    /// Whether there is no resourcepart.
    pub fn is_bare(&self) -> bool {
        self.text.len() == usize::from(self.bare)
    }

    /// Whether there is neither localpart nor resourcepart.
    pub fn is_domain(&self) -> bool {
        self.local == 0 && self.is_bare()
    }

    /// The address without its resourcepart, as text.
    pub fn bare_str(&self) -> &str {
        self.text.get(..usize::from(self.bare)).unwrap_or_default()
    }

    /// The address without its resourcepart; allocates only if there is one.
    pub fn bare(&self) -> BareJid {
        BareJid(if self.is_bare() { self.clone() } else { Self { text: self.bare_str().into(), ..*self } })
    }

    /// The address, if it has a resourcepart.
    pub fn full(&self) -> Option<FullJid> {
        (!self.is_bare()).then(|| FullJid(self.clone()))
    }

    /// The domain alone; allocates only if there are other parts.
    pub fn domain(&self) -> BareJid {
        BareJid(if self.is_domain() {
            self.clone()
        } else {
            let domain = self.domainpart();
            Self { text: domain.into(), local: 0, bare: domain.len() as u16 }
        })
    }
}

impl BareJid {
    /// Parses and prepares an address; one with a resourcepart is an error.
    pub fn new(text: &str) -> Result<Self, JidError> {
        Self::try_from(Jid::new(text)?)
    }

    /// Prepares the parts and joins them.
    pub fn from_parts(local: Option<&str>, domain: &str) -> Result<Self, JidError> {
        Jid::from_parts(local, domain, None).map(Self)
    }

    /// Adds a resourcepart, which is prepared; the rest is not prepared again.
    pub fn with_resource(&self, resource: &str) -> Result<FullJid, JidError> {
        let resource = prep::resource(resource)?;
        let mut text = String::with_capacity(self.text.len() + 1 + resource.len());
        text.push_str(&self.text);
        text.push('/');
        text.push_str(&resource);
        Ok(FullJid(Jid { text: text.into(), ..self.0 }))
    }

    /// The address as a [`Jid`].
    pub fn into_jid(self) -> Jid {
        self.0
    }
}

impl FullJid {
    /// Parses and prepares an address; one without a resourcepart is an error.
    pub fn new(text: &str) -> Result<Self, JidError> {
        Self::try_from(Jid::new(text)?)
    }

    /// The resourcepart, which every full address has.
    pub fn resource(&self) -> &str {
        self.0.resourcepart().unwrap_or_default()
    }

    /// The address as a [`Jid`].
    pub fn into_jid(self) -> Jid {
        self.0
    }
}

impl PartialEq for Jid {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Jid {}

impl PartialOrd for Jid {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Jid {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text.cmp(&other.text)
    }
}

impl Hash for Jid {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl TryFrom<Jid> for BareJid {
    type Error = JidError;

    fn try_from(jid: Jid) -> Result<Self, JidError> {
        if jid.is_bare() { Ok(Self(jid)) } else { Err(JidError::NotBare) }
    }
}

impl TryFrom<Jid> for FullJid {
    type Error = JidError;

    fn try_from(jid: Jid) -> Result<Self, JidError> {
        if jid.is_bare() { Err(JidError::NotFull) } else { Ok(Self(jid)) }
    }
}

/// What the three types share.
macro_rules! address {
    ($($name:ident)*) => { $(
        impl FromStr for $name {
            type Err = JidError;

            fn from_str(text: &str) -> Result<Self, JidError> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        impl From<&Self> for $name {
            fn from(jid: &Self) -> Self {
                jid.clone()
            }
        }
    )* };
}

address! { Jid BareJid FullJid }

/// What a bare and a full address share with the general one.
macro_rules! narrower {
    ($($name:ident)*) => { $(
        impl Deref for $name {
            type Target = Jid;

            fn deref(&self) -> &Jid {
                &self.0
            }
        }

        impl AsRef<Jid> for $name {
            fn as_ref(&self) -> &Jid {
                &self.0
            }
        }

        impl Borrow<Jid> for $name {
            fn borrow(&self) -> &Jid {
                &self.0
            }
        }

        impl From<$name> for Jid {
            fn from(jid: $name) -> Self {
                jid.0
            }
        }

        impl From<&$name> for Jid {
            fn from(jid: &$name) -> Self {
                jid.0.clone()
            }
        }

        impl PartialEq<Jid> for $name {
            fn eq(&self, other: &Jid) -> bool {
                self.0 == *other
            }
        }

        impl PartialEq<$name> for Jid {
            fn eq(&self, other: &$name) -> bool {
                *self == other.0
            }
        }
    )* };
}

narrower! { BareJid FullJid }

impl PartialEq<FullJid> for BareJid {
    fn eq(&self, other: &FullJid) -> bool {
        self.0 == other.0
    }
}

impl PartialEq<BareJid> for FullJid {
    fn eq(&self, other: &BareJid) -> bool {
        self.0 == other.0
    }
}
