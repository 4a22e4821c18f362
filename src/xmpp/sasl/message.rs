//! The messages of SCRAM (RFC 5802, section 7) and PLAIN (RFC 4616), taken apart.
//!
//! `None` stands for any breach of the grammar; what it means is up to the exchange.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use zeroize::Zeroizing;

/// What a client says about channel binding (RFC 5802, section 6).
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BindingFlag {
    /// `n`: the client knows no channel binding.
    Unsupported,
    /// `y`: the client would bind, but thinks that the server offers no mechanism for it.
    NotOffered,
    /// `p=`: the client binds, by the type of this name.
    Used(String),
}

/// `client-first-message`.
#[derive(Debug)]
pub(super) struct ClientFirst {
    pub(super) flag: BindingFlag,
    pub(super) authzid: Option<String>,
    /// `gs2-header`, as it was sent.
    pub(super) header: String,
    /// `client-first-message-bare`, as it was sent.
    pub(super) bare: String,
    pub(super) user: String,
    pub(super) nonce: String,
}

impl ClientFirst {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (flag, rest) = text.split_once(',')?;
        let (authzid, bare) = rest.split_once(',')?;
        let header = format!("{flag},{authzid},");
        let flag = match flag {
            "n" => BindingFlag::Unsupported,
            "y" => BindingFlag::NotOffered,
            _ => BindingFlag::Used(flag.strip_prefix("p=")?.to_owned()),
        };
        let authzid = match authzid {
            "" => None,
            _ => Some(unescape(authzid.strip_prefix("a=")?)?),
        };
        // A message that begins with `m=` asks for an extension that both sides must know, and
        // there is none: it fails here (section 5.1).
        let mut attributes = bare.split(',');
        let user = unescape(attributes.next()?.strip_prefix("n=")?)?;
        let nonce = nonce(attributes.next()?.strip_prefix("r=")?)?;
        attributes.all(is_attribute).then(|| Self {
            flag,
            authzid,
            header,
            bare: bare.to_owned(),
            user,
            nonce: nonce.to_owned(),
        })
    }
}

/// `client-final-message`.
#[derive(Debug)]
pub(super) struct ClientFinal<'a> {
    /// `c=`: the gs2-header and the binding data.
    pub(super) binding: Vec<u8>,
    pub(super) nonce: &'a str,
    pub(super) proof: Vec<u8>,
    /// `client-final-message-without-proof`, as it was sent.
    pub(super) without_proof: &'a str,
}

impl<'a> ClientFinal<'a> {
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (without_proof, proof) = text.rsplit_once(",p=")?;
        let mut attributes = without_proof.split(',');
        let binding = attributes.next()?.strip_prefix("c=")?;
        let nonce = nonce(attributes.next()?.strip_prefix("r=")?)?;
        let (binding, proof) = (BASE64.decode(binding).ok()?, BASE64.decode(proof).ok()?);
        attributes.all(is_attribute).then_some(Self { binding, nonce, proof, without_proof })
    }
}

/// `server-first-message`.
#[derive(Debug)]
pub(super) struct ServerFirst<'a> {
    pub(super) nonce: &'a str,
    pub(super) salt: Vec<u8>,
    pub(super) iterations: u32,
    /// `h`: the hash of XEP-0474.
    pub(super) downgrade_hash: Option<&'a str>,
}

impl<'a> ServerFirst<'a> {
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let mut attributes = text.split(',');
        let nonce = nonce(attributes.next()?.strip_prefix("r=")?)?;
        let salt = BASE64.decode(attributes.next()?.strip_prefix("s=")?).ok()?;
        let iterations = attributes.next()?.strip_prefix("i=")?.parse().ok()?;
        let rest: Vec<_> = attributes.collect();
        let downgrade_hash = rest.iter().find_map(|attribute| attribute.strip_prefix("h="));
        let whole = rest.iter().all(|attribute| is_attribute(attribute));
        whole.then_some(Self { nonce, salt, iterations, downgrade_hash })
    }
}

/// The one message of PLAIN.
pub(super) struct Plain {
    pub(super) authzid: Option<String>,
    pub(super) user: String,
    pub(super) password: Zeroizing<String>,
}

impl Plain {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('\0');
        let (authzid, user, password) = (parts.next()?, parts.next()?, parts.next()?);
        let whole = parts.next().is_none() && !user.is_empty() && !password.is_empty();
        whole.then(|| Self {
            authzid: (!authzid.is_empty()).then(|| authzid.to_owned()),
            user: user.to_owned(),
            password: Zeroizing::new(password.to_owned()),
        })
    }
}

/// Writes a `saslname`.
pub(super) fn escape(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

/// Reads a `saslname`, in which `=` stands before `2C` and `3D` only.
fn unescape(name: &str) -> Option<String> {
    let mut parts = name.split('=');
    let mut plain = parts.next()?.to_owned();
    for part in parts {
        if let Some(rest) = part.strip_prefix("2C") {
            plain.push(',');
            plain.push_str(rest);
        } else {
            plain.push('=');
            plain.push_str(part.strip_prefix("3D")?);
        }
    }
    (!plain.is_empty() && !plain.contains('\0')).then_some(plain)
}

fn nonce(text: &str) -> Option<&str> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())).then_some(text)
}

fn is_attribute(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|name| name.is_ascii_alphabetic()) && bytes.next() == Some(b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_first_follows_the_grammar() {
        let first = ClientFirst::parse("p=tls-exporter,a=a=2Cb=3Dc,n=u=3D,r=x+y,q=1").unwrap();
        assert_eq!(first.flag, BindingFlag::Used("tls-exporter".to_owned()));
        assert_eq!(first.authzid.as_deref(), Some("a,b=c"));
        assert_eq!(first.header, "p=tls-exporter,a=a=2Cb=3Dc,");
        assert_eq!(first.bare, "n=u=3D,r=x+y,q=1");
        assert_eq!((first.user.as_str(), first.nonce.as_str()), ("u=", "x+y"));
        for bad in [
            "",
            "n",
            "n,",
            "n,,",
            "n,,n=u",
            "n,,n=u,r=",
            "n,,n=,r=x",
            "n,,n=u=,r=x",
            "n,,n=u=2c,r=x",
            "n,,m=1,n=u,r=x",
            "z,,n=u,r=x",
            "n,b=u,n=u,r=x",
            "n,a=,n=u,r=x",
            "p,,n=u,r=x",
            "n,,r=x,n=u",
            "n,,n=u,r=x,",
            "n,,n=u,r=x,q",
            "n,,n=u,r=\u{e9}",
            "n,,n=u\0,r=x",
            "n,n=u,r=x",
        ] {
            assert!(ClientFirst::parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn client_final_follows_the_grammar() {
        let last = ClientFinal::parse("c=biws,r=xy,q=1,p=AAAA").unwrap();
        assert_eq!(last.binding, b"n,,");
        assert_eq!((last.nonce, last.proof.len()), ("xy", 3));
        assert_eq!(last.without_proof, "c=biws,r=xy,q=1");
        for bad in
            ["", "c=biws,r=xy", "r=xy,c=biws,p=AAAA", "c=b!,r=x,p=AAAA", "c=biws,r=x,p=A", "c=biws,r=x,p=AAAA,q=1"]
        {
            assert!(ClientFinal::parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn plain_has_two_nuls() {
        let plain = Plain::parse("\0user\0pass word").unwrap();
        assert_eq!(plain.authzid, None);
        assert_eq!((plain.user.as_str(), plain.password.as_str()), ("user", "pass word"));
        assert_eq!(Plain::parse("a\0b\0c").unwrap().authzid.as_deref(), Some("a"));
        for bad in ["", "\0", "\0user", "user\0pass", "\0\0pass", "\0user\0", "\0user\0pass\0", "\0a\0b\0c"] {
            assert!(Plain::parse(bad).is_none(), "{bad:?}");
        }
    }
}
