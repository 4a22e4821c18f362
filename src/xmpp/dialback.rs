//! Server dialback (XEP-0220): its keys (XEP-0185), its requests and its answers. Pure: whom to ask, whom to believe and
//! what is waited for is the driver's.
//!
//! A server that cannot prove who it is by its certificate sends a key; we ask the server that answers for its domain
//! whether the key is right. Whoever knows the secret makes the key anew from the two domains and the stream's id, and
//! remembers nothing.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::element::Element;
use crate::error::{Condition, StanzaError, StreamCondition, StreamError};
use crate::jid::BareJid;
use crate::ns;
use crate::sasl::Secret;

/// Makes and judges keys.
#[derive(Clone, Debug)]
pub struct Keys {
    /// SHA-256 of the secret in hexadecimal, as XEP-0185 wants it.
    secret: Secret,
}

impl Keys {
    /// From a secret of at least 128 random bits, which all machines that answer for our domains must share.
    pub fn new(secret: &[u8]) -> Self {
        Self { secret: Secret::new(hex(&Sha256::digest(secret)).as_bytes()) }
    }

    /// The key with which `originating` asks for a stream of id `id` to `receiving` (XEP-0185 §2). The space that stands
    /// between the three is in no domain, so that no two streams have the same key.
    pub fn key(&self, receiving: &BareJid, originating: &BareJid, id: &str) -> Secret {
        // HMAC takes a key of any length (RFC 2104 §2), so there is no error to meet.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.secret.expose()) else {
            return Secret::new(&[]);
        };
        for part in [receiving.as_str(), " ", originating.as_str(), " ", id] {
            mac.update(part.as_bytes());
        }
        Secret::new(hex(&mac.finalize().into_bytes()).as_bytes())
    }

    /// Whether this is the key of that stream; takes the same time whatever is wrong with it.
    pub fn matches(&self, receiving: &BareJid, originating: &BareJid, id: &str, key: &str) -> bool {
        let right = self.key(receiving, originating, id);
        !right.expose().is_empty() && right.matches(key.as_bytes())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What a packet is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matter {
    /// Between the initiating server and the receiving one: may stanzas flow (steps 1 and 4)?
    Result,
    /// Between the receiving server and the authoritative one: is the key right (steps 2 and 3)?
    Verify {
        /// The id of the stream that the key came on.
        id: Box<str>,
    },
}

/// What a packet says.
#[derive(Clone, Debug, PartialEq)]
pub enum Says {
    /// A request, with its key.
    Key(Box<str>),
    /// The answer: yes.
    Valid,
    /// The answer: no, this is somebody else.
    Invalid,
    /// The answer: that cannot be told, or is not allowed (§2.5).
    Error(StanzaError),
}

/// A `<db:result/>` or `<db:verify/>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Packet {
    /// What it is about.
    pub matter: Matter,
    /// The domain it is sent for.
    pub from: BareJid,
    /// The domain it is sent to.
    pub to: BareJid,
    /// What it says.
    pub says: Says,
}

impl Packet {
    /// Asks for leave to send stanzas from `from` to `to`, on a stream whose key this is.
    pub fn request(from: BareJid, to: BareJid, key: &Secret) -> Self {
        Self { matter: Matter::Result, from, to, says: Says::Key(String::from_utf8_lossy(key.expose()).into()) }
    }

    /// Asks the server of `to` whether `key` came from it, on our stream of that id.
    pub fn verify(from: BareJid, to: BareJid, id: &str, key: &str) -> Self {
        Self { matter: Matter::Verify { id: id.into() }, from, to, says: Says::Key(key.into()) }
    }

    /// The answer to this request.
    pub fn answer(&self, says: Says) -> Self {
        Self { matter: self.matter.clone(), from: self.to.clone(), to: self.from.clone(), says }
    }

    /// Reads an element of the dialback namespace.
    ///
    /// # Errors
    /// Why the stream must be closed: it is no packet that the specification knows.
    pub fn from_element(element: &Element) -> Result<Self, StreamError> {
        let malformed = |text| StreamError::new(StreamCondition::BadFormat).with_text(text);
        let domain = |name| {
            element.get(name).and_then(|domain| BareJid::new(domain).ok()).filter(|jid| jid.localpart().is_none())
        };
        let matter = match element.name() {
            "result" => Matter::Result,
            "verify" => {
                let id = element.get("id").filter(|id| !id.is_empty());
                Matter::Verify { id: id.ok_or_else(|| malformed("A verify request has no 'id'."))?.into() }
            }
            _ => return Err(StreamCondition::UnsupportedStanzaType.into()),
        };
        let (Some(from), Some(to)) = (domain("from"), domain("to")) else {
            return Err(StreamError::new(StreamCondition::ImproperAddressing)
                .with_text("Dialback needs a domain in 'from' and in 'to'."));
        };
        let says = match element.get("type") {
            None => {
                let key = element.content();
                let key = key.trim_ascii();
                if key.is_empty() {
                    return Err(malformed("Dialback without a key."));
                }
                Says::Key(key.into())
            }
            Some("valid") => Says::Valid,
            Some("invalid") => Says::Invalid,
            Some("error") => {
                let error = element.elements().find_map(StanzaError::from_element);
                Says::Error(error.unwrap_or_else(|| StanzaError::new(Condition::UndefinedCondition)))
            }
            Some(_) => return Err(malformed("Dialback of an unknown type.")),
        };
        Ok(Self { matter, from, to, says })
    }

    /// The element; on a stream between servers it is written with the prefix `db`, which some insist on.
    pub fn to_element(&self) -> Element {
        let (name, id) = match &self.matter {
            Matter::Result => ("result", None),
            Matter::Verify { id } => ("verify", Some(&**id)),
        };
        let kind = match self.says {
            Says::Key(_) => None,
            Says::Valid => Some("valid"),
            Says::Invalid => Some("invalid"),
            Says::Error(_) => Some("error"),
        };
        let element = Element::new(name, ns::DIALBACK)
            .attr("from", self.from.as_str())
            .attr("to", self.to.as_str())
            .attr_opt("id", id)
            .attr_opt("type", kind);
        match &self.says {
            Says::Key(key) => element.text(&**key),
            Says::Valid | Says::Invalid => element,
            // §2.5: the error is in the namespace of the stream's stanzas.
            Says::Error(error) => element.child(
                Element::new("error", ns::SERVER)
                    .attr("type", error.kind.name())
                    .children(error.to_element().elements().cloned()),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn domain(name: &str) -> BareJid {
        BareJid::new(name).unwrap()
    }

    fn key(secret: &str, receiving: &str, originating: &str, id: &str) -> String {
        let key = Keys::new(secret.as_bytes()).key(&domain(receiving), &domain(originating), id);
        String::from_utf8(key.expose().to_vec()).unwrap()
    }

    #[test]
    fn keys_are_those_of_the_specifications() {
        for (receiving, originating, id, secret, expected) in [
            (
                "xmpp.example.com",
                "example.org",
                "D60000229F",
                "s3cr3tf0rd14lb4ck",
                "37c69b1cf07a3f67c04a5ef5902fa5114f2c76fe4a2686482ba5b89323075643",
            ),
            (
                "montague.example",
                "capulet.example",
                "D60000229F",
                "s3cr3tf0rd14lb4ck",
                "b4835385f37fe2895af6c196b59097b16862406db80559900d96bf6fa7d23df3",
            ),
            (
                "capulet.example",
                "montague.example",
                "417GAF25",
                "d14lb4ck43v3r",
                "225cc5aa6a071133249d25fef42ae516fc7a86c523aa1c6980a7f73e784c972d",
            ),
        ] {
            assert_eq!(key(secret, receiving, originating, id), expected);
        }
    }

    #[test]
    fn a9_a_key_is_good_for_its_stream_and_its_pair_alone() {
        let keys = Keys::new(b"secret");
        let (a, b, sub) = (domain("a.example"), domain("b.example"), domain("sub.a.example"));
        let key = String::from_utf8(keys.key(&b, &a, "1").expose().to_vec()).unwrap();
        assert!(keys.matches(&b, &a, "1", &key));
        for (receiving, originating, id) in [(&a, &b, "1"), (&b, &a, "2"), (&b, &sub, "1"), (&sub, &a, "1")] {
            assert!(!keys.matches(receiving, originating, id, &key));
        }
        let short = key.get(..63).unwrap();
        for wrong in ["", "0", short, &format!("{key}0"), &key.to_uppercase()] {
            assert!(!keys.matches(&b, &a, "1", wrong), "{wrong}");
        }
        assert!(!Keys::new(b"another").matches(&b, &a, "1", &key));
    }

    proptest! {
        #[test]
        fn a8_distinct_streams_never_give_equal_input(
            one in ("[a-c]{1,3}\\.[a-c]{1,3}", "[a-c]{1,3}\\.[a-c]{1,3}", "[a-c .]{1,4}"),
            two in ("[a-c]{1,3}\\.[a-c]{1,3}", "[a-c]{1,3}\\.[a-c]{1,3}", "[a-c .]{1,4}"),
        ) {
            let of = |(receiving, originating, id): &(String, String, String)| key("s", receiving, originating, id);
            prop_assert_eq!(of(&one) == of(&two), one == two);
        }
    }

    fn read(xml: &str) -> Result<Packet, StreamCondition> {
        Packet::from_element(&xml.parse().unwrap()).map_err(|error| error.condition)
    }

    #[test]
    fn packets_are_read_as_they_are_written() {
        let request = Packet::request(domain("a.example"), domain("b.example"), &Secret::new(b"k"));
        let verify = Packet::verify(domain("b.example"), domain("a.example"), "i'd", "k");
        let error = StanzaError::new(Condition::ItemNotFound);
        for packet in [
            request.clone(),
            request.answer(Says::Valid),
            request.answer(Says::Invalid),
            request.answer(Says::Error(error.clone())),
            verify.clone(),
            verify.answer(Says::Valid),
            verify.answer(Says::Error(error)),
        ] {
            assert_eq!(Packet::from_element(&packet.to_element()), Ok(packet));
        }
        let mut out = Vec::new();
        let refused = request.answer(Says::Error(StanzaError::new(Condition::ItemNotFound)));
        refused.to_element().write_in_stream(&mut out, ns::SERVER);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "<db:result from='b.example' to='a.example' type='error'><error type='cancel'>\
             <item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></db:result>"
        );
    }

    #[test]
    fn a9_what_is_no_packet_ends_the_stream() {
        use StreamCondition::{BadFormat, ImproperAddressing, UnsupportedStanzaType};
        let ns = "xmlns='jabber:server:dialback'";
        for (xml, condition) in [
            (format!("<result {ns} to='b.example'>k</result>"), ImproperAddressing),
            (format!("<result {ns} from='a.example'>k</result>"), ImproperAddressing),
            (format!("<result {ns} from='u@a.example' to='b.example'>k</result>"), ImproperAddressing),
            (format!("<result {ns} from='a.example/r' to='b.example'>k</result>"), ImproperAddressing),
            (format!("<result {ns} from='a..example' to='b.example'>k</result>"), ImproperAddressing),
            (format!("<result {ns} from='a.example' to='b.example'> </result>"), BadFormat),
            (format!("<result {ns} from='a.example' to='b.example' type='good'/>"), BadFormat),
            (format!("<verify {ns} from='a.example' to='b.example'>k</verify>"), BadFormat),
            (format!("<verify {ns} from='a.example' to='b.example' id=''>k</verify>"), BadFormat),
            (format!("<results {ns} from='a.example' to='b.example'>k</results>"), UnsupportedStanzaType),
        ] {
            assert_eq!(read(&xml), Err(condition), "{xml}");
        }
        // One spelling of a domain is as good as another.
        let packet = read(&format!("<result {ns} from='A.Example' to='b.example.'>\n k \n</result>")).unwrap();
        assert_eq!((packet.from, packet.says), (domain("a.example"), Says::Key("k".into())));
    }
}
