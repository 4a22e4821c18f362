//! XEP-0115: Entity Capabilities: the verification string of a disco#info result, and its hash. Who asks whom, and what is
//! remembered, is not decided here. Nothing may be remembered for others by a hash that is not [verified](verify).

use std::collections::HashSet;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::dataform::{FieldType, Form};
use crate::element::Element;
use crate::ns;

/// The hash functions that we can verify, by their names in the registry of XEP-0300.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hash {
    /// `sha-1`, which everyone uses.
    Sha1,
    /// `sha-256`.
    Sha256,
}

impl Hash {
    /// The value of the `hash` attribute.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha-1",
            Self::Sha256 => "sha-256",
        }
    }

    /// The function that a `hash` attribute names, if we know it.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Sha1, Self::Sha256].into_iter().find(|hash| hash.name() == name)
    }

    fn encode(self, text: &str) -> String {
        match self {
            Self::Sha1 => STANDARD.encode(Sha1::digest(text)),
            Self::Sha256 => STANDARD.encode(Sha256::digest(text)),
        }
    }
}

/// Why a disco#info result has no verification string (§5.4). It says what it says, but of its sender alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IllFormed {
    /// It is no disco#info result, or lacks an attribute that must be there.
    NotInfo,
    /// Two identities with one category, type, language and name.
    Identity,
    /// One feature twice.
    Feature,
    /// Two forms with one `FORM_TYPE`, or one form with two.
    Form,
    /// A word holds one of the characters that part words in the string, so that another result would have the same
    /// string. The XEP lets that pass (its §8.2 tells what comes of it); nothing honest does it.
    Ambiguous,
}

impl fmt::Display for IllFormed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotInfo => "not a disco#info result",
            Self::Identity => "an identity is there twice",
            Self::Feature => "a feature is there twice",
            Self::Form => "a FORM_TYPE is there twice",
            Self::Ambiguous => "a word holds a character that parts words",
        })
    }
}

impl std::error::Error for IllFormed {}

/// The `ver` attribute of an entity whose disco#info result has this `<query/>`.
///
/// # Errors
/// The result is ill-formed.
pub fn hash(query: &Element, hash: Hash) -> Result<String, IllFormed> {
    verification_string(query).map(|text| hash.encode(&text))
}

/// Whether the `<query/>` is the one that `ver` was made of.
///
/// # Errors
/// The result is ill-formed.
pub fn verify(query: &Element, hash: Hash, ver: &str) -> Result<bool, IllFormed> {
    self::hash(query, hash).map(|hash| hash == ver)
}

/// The verification string S of §5.1, after the checks of §5.4.
///
/// # Errors
/// The result is ill-formed.
pub fn verification_string(query: &Element) -> Result<String, IllFormed> {
    if !query.is("query", ns::DISCO_INFO) {
        return Err(IllFormed::NotInfo);
    }
    let mut parts = sorted(identities(query)?, IllFormed::Identity)?;
    parts.extend(sorted(features(query)?, IllFormed::Feature)?);
    parts.extend(forms(query)?);
    // The order of bytes is that of "i;octet", and of `str`.
    if parts.iter().any(|part| part.contains('<')) {
        return Err(IllFormed::Ambiguous);
    }
    Ok(parts.into_iter().flat_map(|part| [part, "<".to_owned()]).collect())
}

fn identities(query: &Element) -> Result<Vec<String>, IllFormed> {
    let identities = query.elements().filter(|child| child.is("identity", ns::DISCO_INFO));
    identities
        .map(|identity| {
            let category = identity.get("category").ok_or(IllFormed::NotInfo)?;
            let kind = identity.get("type").ok_or(IllFormed::NotInfo)?;
            let lang = identity.get("xml:lang").unwrap_or_default();
            let name = identity.get("name").unwrap_or_default();
            if [category, kind, lang].iter().any(|word| word.contains('/')) {
                return Err(IllFormed::Ambiguous);
            }
            Ok(format!("{category}/{kind}/{lang}/{name}"))
        })
        .collect()
}

fn features(query: &Element) -> Result<Vec<String>, IllFormed> {
    let features = query.elements().filter(|child| child.is("feature", ns::DISCO_INFO));
    features.map(|feature| Ok(feature.get("var").ok_or(IllFormed::NotInfo)?.to_owned())).collect()
}

fn forms(query: &Element) -> Result<Vec<String>, IllFormed> {
    let mut forms = Vec::new();
    let mut seen = HashSet::new();
    for x in query.elements().filter(|child| child.is("x", ns::X_DATA)) {
        let form = Form::from_element(x).map_err(|_| IllFormed::Form)?;
        // §5.4, 3.6: a form that is not named by a hidden field is no part of the string, but does not spoil it.
        let names = match form.get("FORM_TYPE") {
            Some(field) if field.kind() == Some(FieldType::Hidden) => field.raw(),
            _ => continue,
        };
        let Some(name) = names.first() else { continue };
        if names.iter().any(|other| other != name) || !seen.insert(name.clone()) {
            return Err(IllFormed::Form);
        }
        let mut fields: Vec<_> = form.iter().filter(|field| field.var() != "FORM_TYPE").collect();
        fields.sort_by_key(|field| field.var());
        let mut parts = Vec::new();
        for field in fields {
            let mut values = field.raw().to_vec();
            values.sort_unstable();
            parts.push(field.var().to_owned());
            parts.append(&mut values);
        }
        forms.push((name.clone(), parts));
    }
    forms.sort_unstable();
    Ok(forms.into_iter().flat_map(|(name, parts)| [name].into_iter().chain(parts)).collect())
}

fn sorted(mut words: Vec<String>, twice: IllFormed) -> Result<Vec<String>, IllFormed> {
    words.sort_unstable();
    if words.is_sorted_by(|a, b| a < b) { Ok(words) } else { Err(twice) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PSI: &str = "<identity xml:lang='en' category='client' name='Psi 0.11' type='pc'/>\
        <identity xml:lang='el' category='client' name='\u{3a8} 0.11' type='pc'/>\
        <feature var='http://jabber.org/protocol/muc'/>\
        <feature var='http://jabber.org/protocol/disco#info'/>\
        <feature var='http://jabber.org/protocol/caps'/>\
        <feature var='http://jabber.org/protocol/disco#items'/>\
        <x xmlns='jabber:x:data' type='result'>\
        <field var='FORM_TYPE' type='hidden'><value>urn:xmpp:dataforms:softwareinfo</value></field>\
        <field var='software_version'><value>0.11</value></field>\
        <field var='ip_version' type='text-multi'><value>ipv6</value><value>ipv4</value></field>\
        <field var='os'><value>Mac</value></field>\
        <field var='os_version'><value>10.5.1</value></field>\
        <field var='software'><value>Psi</value></field></x>";

    fn query(children: &str) -> Element {
        format!("<query xmlns='http://jabber.org/protocol/disco#info' node='n#v'>{children}</query>").parse().unwrap()
    }

    fn string(children: &str) -> Result<String, IllFormed> {
        verification_string(&query(children))
    }

    #[test]
    fn simple_example_of_the_xep() {
        let exodus = "<identity category='client' name='Exodus 0.9.1' type='pc'/>\
            <feature var='http://jabber.org/protocol/caps'/><feature var='http://jabber.org/protocol/disco#info'/>\
            <feature var='http://jabber.org/protocol/disco#items'/><feature var='http://jabber.org/protocol/muc'/>";
        assert_eq!(hash(&query(exodus), Hash::Sha1).as_deref(), Ok("QgayPKawpkPSDYmwT/WM94uAlu0="));
    }

    #[test]
    fn complex_example_of_the_xep() {
        let expected = "client/pc/el/\u{3a8} 0.11<client/pc/en/Psi 0.11<http://jabber.org/protocol/caps<\
            http://jabber.org/protocol/disco#info<http://jabber.org/protocol/disco#items<http://jabber.org/protocol/muc<\
            urn:xmpp:dataforms:softwareinfo<ip_version<ipv4<ipv6<os<Mac<os_version<10.5.1<software<Psi<software_version<0.11<";
        assert_eq!(string(PSI).as_deref(), Ok(expected));
        assert_eq!(verify(&query(PSI), Hash::Sha1, "q07IKJEyjvHSyhy//CH0CxmKi8w="), Ok(true));
        assert_eq!(verify(&query(PSI), Hash::Sha1, "q07IKJEyjvHSyhy//CH0CxmKi8x="), Ok(false));
        assert_eq!(verify(&query(PSI), Hash::Sha256, "q07IKJEyjvHSyhy//CH0CxmKi8w="), Ok(false));
        let sha256 = STANDARD.encode(Sha256::digest(expected));
        assert_eq!(verify(&query(PSI), Hash::Sha256, &sha256), Ok(true));
        assert_eq!(Hash::from_name("md5"), None);
    }

    #[test]
    fn what_is_twice_is_ill_formed() {
        let cases = [
            (
                "<identity category='a' type='b' name='c'/><identity category='a' type='b' name='c'/>",
                IllFormed::Identity,
            ),
            ("<feature var='a'/><feature var='b'/><feature var='a'/>", IllFormed::Feature),
            (
                "<x xmlns='jabber:x:data' type='result'><field var='FORM_TYPE' type='hidden'><value>a</value></field></x>\
                 <x xmlns='jabber:x:data' type='result'><field var='FORM_TYPE' type='hidden'><value>a</value></field></x>",
                IllFormed::Form,
            ),
            (
                "<x xmlns='jabber:x:data' type='result'><field var='FORM_TYPE' type='hidden'><value>a</value><value>b</value>\
                 </field></x>",
                IllFormed::Form,
            ),
            ("<identity type='b'/>", IllFormed::NotInfo),
            ("<feature/>", IllFormed::NotInfo),
        ];
        for (children, error) in cases {
            assert_eq!(string(children), Err(error), "{children}");
        }
        assert_eq!(verification_string(&Element::new("query", ns::DISCO_ITEMS)), Err(IllFormed::NotInfo));
        assert!(string("<identity category='a' type='b' name='c'/><identity category='a' type='b' name='d'/>").is_ok());
        // The same FORM_TYPE said twice in one form is still one.
        let form = "<x xmlns='jabber:x:data' type='result'><field var='FORM_TYPE' type='hidden'><value>a</value><value>a</value>\
            </field></x>";
        assert_eq!(string(form).as_deref(), Ok("a<"));
    }

    #[test]
    fn forms_without_a_hidden_form_type_are_ignored() {
        for form in [
            "<x xmlns='jabber:x:data' type='result'><field var='os'><value>Mac</value></field></x>",
            "<x xmlns='jabber:x:data' type='result'><field var='FORM_TYPE'><value>a</value></field></x>",
        ] {
            assert_eq!(string(&format!("<feature var='f'/>{form}")).as_deref(), Ok("f<"), "{form}");
        }
    }

    #[test]
    fn forms_are_sorted_by_their_type() {
        let form = |name: &str| {
            format!(
                "<x xmlns='jabber:x:data' type='result'><field var='FORM_TYPE' type='hidden'><value>{name}</value></field>\
                 <field var='v'><value>{name}</value></field></x>"
            )
        };
        assert_eq!(string(&[form("b"), form("a")].concat()).as_deref(), Ok("a<v<a<b<v<b<"));
    }

    #[test]
    fn words_that_hide_other_words_are_ambiguous() {
        for children in [
            "<identity category='client' type='pc' name='SomeClient&lt;http://jabber.org/protocol/muc'/>",
            "<identity category='client/pc' type='' name='x'/>",
            "<feature var='a&lt;b'/>",
        ] {
            assert_eq!(string(children), Err(IllFormed::Ambiguous), "{children}");
        }
        // Four characters that look like a reference are no reference.
        assert_eq!(string("<feature var='a&amp;lt;b'/>").as_deref(), Ok("a&lt;b<"));
    }
}
