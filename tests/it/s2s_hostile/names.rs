//! Certificates that do not say what the liar would like them to say, and names that look like others.

use rcgen::string::Ia5String;
use rcgen::{CertificateParams, DnType, SanType, date_time_ymd};
use rookery_core::config::TlsMode;

use super::*;
use crate::authority::{common_name, names, xmpp_addr};

/// What became of somebody who claims to be `b.example` with this certificate: it must come to nothing, by any way.
async fn comes_to_nothing(field: &Field, what: &str, identity: Option<&Identity>) {
    // By EXTERNAL, which is not offered, and refused to whoever asks for it all the same.
    let (mut talk, features) = field.secured("b.example", "a.example", identity).await;
    assert!(features.contains("</stream:features>") && !features.contains("EXTERNAL"), "{what}: {features}");
    talk.say(&auth("=")).await;
    talk.say(&lie("x@b.example")).await;
    let heard = talk.hear_out().await;
    assert!(!heard.contains("<success") && heard.contains("<stream:error>"), "{what}: {heard}");
    // By dialback: it does not stand in for a certificate.
    let (mut talk, _) = field.secured("b.example", "a.example", identity).await;
    talk.say("<db:result from='b.example' to='a.example'>key</db:result>").await;
    talk.hear("type='error'").await;
    talk.say(&lie("x@b.example")).await;
    let heard = talk.hear_out().await;
    assert!(heard.contains("<not-authorized "), "{what}: {heard}");
    // Without more ado.
    let (mut talk, _) = field.secured("b.example", "a.example", identity).await;
    talk.say(&lie("x@b.example")).await;
    let heard = talk.hear_out().await;
    assert!(heard.contains("<stream:error><not-authorized "), "{what}: {heard}");
}

/// security.md A6: names are read from subjectAltName alone, as DER; the subject's text means nothing.
#[tokio::test]
async fn a6_only_names_that_certificates_may_have_count() {
    let field = Field::new().await;
    let (mut romeo, mut honest) = (field.romeo().await, field.honest().await);
    let authority = &field.authority;
    let with_sans = |sans: Vec<SanType>| {
        let mut params = names(&[]);
        params.subject_alt_names = sans;
        params
    };
    let with_subject = |domains: &[&str], kind: DnType, text: &str| {
        let mut params = names(domains);
        params.distinguished_name = common_name("evil.example");
        params.distinguished_name.push(kind, text);
        params
    };
    let dns = |name: &str| SanType::DnsName(Ia5String::try_from(name).unwrap());
    let ou = DnType::OrganizationalUnitName;
    let many: Vec<String> = (0..1000).map(|n| format!("n{n}.evil.example")).chain(["b.example".to_owned()]).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let cases: Vec<(&str, CertificateParams)> = vec![
        ("a common name alone", with_subject(&[], DnType::CommonName, "b.example")),
        ("a common name beside others", with_subject(&["evil.example"], DnType::CommonName, "b.example")),
        ("a unit that looks like a name", with_subject(&["evil.example"], ou.clone(), "CN=b.example,")),
        ("a unit that ends the subject", with_subject(&[], ou, "x, CN=b.example")),
        ("a common name that is a list", with_subject(&["evil.example"], DnType::CommonName, "evil, CN=b.example")),
        ("NUL behind the name", with_sans(vec![dns("b.example\0.evil.example")])),
        ("NUL before the name", with_sans(vec![dns("evil.example\0b.example")])),
        ("a space", with_sans(vec![dns("b.example evil.example")])),
        ("a domain below", with_sans(vec![dns("x.b.example")])),
        ("a domain above", with_sans(vec![dns("example")])),
        ("a longer domain", with_sans(vec![dns("bb.example")])),
        ("a wildcard below", with_sans(vec![dns("*.b.example")])),
        ("a wildcard in a label", with_sans(vec![dns("b*.example")])),
        ("a wildcard at the end", with_sans(vec![dns("b.*")])),
        ("a wildcard alone", with_sans(vec![dns("*")])),
        ("two wildcards", with_sans(vec![dns("*.*")])),
        ("a mailbox", with_sans(vec![SanType::Rfc822Name(Ia5String::try_from("b.example").unwrap())])),
        ("a URI", with_sans(vec![SanType::URI(Ia5String::try_from("xmpp:b.example").unwrap())])),
        ("an account's address", with_sans(vec![xmpp_addr("romeo@b.example")])),
        ("an address with a resource", with_sans(vec![xmpp_addr("b.example/evil.example")])),
        ("an address with NUL", with_sans(vec![xmpp_addr("b.example\0")])),
        ("the name as one of thousands", names(&many)),
    ];
    for (what, params) in cases {
        comes_to_nothing(&field, what, Some(&authority.sign(params))).await;
    }
    field.is_untouched(&mut romeo, &mut honest).await;
    field.served.stop().await;
}

/// security.md A10 and D9: a certificate counts if an authority vouches for it now, and for nothing else.
#[tokio::test]
async fn a10_a_certificate_that_nobody_vouches_for_proves_nothing() {
    let field = Field::new().await;
    let (mut romeo, mut honest) = (field.romeo().await, field.honest().await);
    let mut past = names(&["b.example"]);
    (past.not_before, past.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    let mut future = names(&["b.example"]);
    (future.not_before, future.not_after) = (date_time_ymd(2050, 1, 1), date_time_ymd(2051, 1, 1));
    for (what, identity) in [
        ("self-signed", self_signed(&["b.example"])),
        // Of the same name as ours.
        ("another authority", Authority::new("an authority").issue(&["b.example"])),
        ("expired", field.authority.sign(past)),
        ("not yet valid", field.authority.sign(future)),
    ] {
        comes_to_nothing(&field, what, Some(&identity)).await;
    }
    // Somebody whose valid certificate signs another.
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = field.authority.issue(&["evil.example"]);
    let issuer = rcgen::Issuer::new(names(&["evil.example"]), rcgen::KeyPair::from_pem(&leaf.key_pem).unwrap());
    let forged = names(&["b.example"]).signed_by(&key, &issuer).unwrap();
    let mut identity = self_signed(&["b.example"]);
    identity.key = rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into());
    identity.chain = vec![forged.der().clone(), leaf.chain[0].clone()];
    comes_to_nothing(&field, "signed by a server's certificate", Some(&identity)).await;
    comes_to_nothing(&field, "no certificate", None).await;
    field.is_untouched(&mut romeo, &mut honest).await;
    field.served.stop().await;
}

/// security.md A10: a valid certificate for one domain authorises no other, neither in the header nor later on.
#[tokio::test]
async fn a10_the_certificate_of_one_domain_is_none_for_another() {
    let field = Field::new().await;
    let (mut romeo, mut honest) = (field.romeo().await, field.honest().await);
    let evil = &field.lair.identity;
    comes_to_nothing(&field, "another's", Some(evil)).await;
    // On a stream that is authenticated for its own domain, the other one needs its own proof.
    let mut talk = field.external("evil.example", "a.example", evil).await;
    talk.say("<db:result from='b.example' to='a.example'>key</db:result>").await;
    let heard = talk.hear("</db:result>").await;
    assert!(heard.contains("type='error'"), "{heard}");
    talk.say(&lie("x@b.example")).await;
    let heard = talk.hear_out().await;
    assert!(heard.contains("<stream:error><invalid-from "), "{heard}");
    // Through direct TLS it is the same.
    let mut talk = Talk::connect(field.port(TlsMode::Direct)).await;
    talk.secure("a.example", Some(evil), Some("xmpp-server")).await;
    talk.say(&header("b.example", "a.example")).await;
    let heard = talk.hear("</stream:features>").await;
    assert!(!heard.contains("EXTERNAL"), "{heard}");
    talk.say(&lie("x@b.example")).await;
    assert!(talk.hear_out().await.contains("<stream:error><not-authorized "));
    field.is_untouched(&mut romeo, &mut honest).await;
    field.served.stop().await;
}

/// security.md A1: by EXTERNAL a server is the domain of its certificate and its header, whatever it asks to be.
#[tokio::test]
async fn a1_external_makes_nobody_another() {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let field = Field::new().await;
    let (mut romeo, mut honest) = (field.romeo().await, field.honest().await);
    let evil = &field.lair.identity;
    for wanted in
        ["b.example", "a.example", "romeo@evil.example", "evil.example/x", "xevil.example", "evil.example\0b.example"]
    {
        let (mut talk, features) = field.secured("evil.example", "a.example", Some(evil)).await;
        assert!(features.contains(">EXTERNAL<"), "{features}");
        talk.say(&auth(&STANDARD.encode(wanted))).await;
        talk.hear("<failure").await;
        talk.say(&lie("x@b.example")).await;
        let heard = talk.hear_out().await;
        assert!(heard.contains("<not-authorized ") && !heard.contains("<success"), "{wanted}: {heard}");
    }
    // Its own name is no lie.
    let (mut talk, _) = field.secured("evil.example", "a.example", Some(evil)).await;
    talk.say(&auth(&STANDARD.encode("evil.example"))).await;
    talk.hear("<success").await;
    field.is_untouched(&mut romeo, &mut honest).await;
    field.served.stop().await;
}

/// security.md A22: a domain has one form. What looks like another's is refused or is that other's, for which the liar has no
/// certificate; other spellings of the own domain are the own.
#[tokio::test]
async fn a22_names_that_look_like_others_are_nobodys() {
    let field = Field::new().await;
    let (mut romeo, mut honest) = (field.romeo().await, field.honest().await);
    let evil = &field.lair.identity;
    for name in [
        "B.Example",
        "b.example.",
        "\u{ff42}.example",
        "b\u{3002}example",
        "xn--b-.example",
        "b..example",
        "b.ex ample",
    ] {
        let (mut talk, features) = field.plain_or_refused(name, evil).await;
        assert!(!features.contains("EXTERNAL"), "{name}: {features}");
        talk.say(&lie(&format!("x@{name}"))).await;
        let heard = features + &talk.hear_out().await;
        assert!(heard.contains("<stream:error>"), "{name}: {heard}");
    }
    for from in
        ["x@b.example.", "x@B.EXAMPLE", "x@\u{ff42}.example", "x@b\u{ff0e}example", "x@xn--b-.example", "x@b..example"]
    {
        let mut talk = field.external("evil.example", "a.example", evil).await;
        talk.say(&lie(from)).await;
        let heard = talk.hear_out().await;
        assert!(heard.contains("<invalid-from ") || heard.contains("<improper-addressing "), "{from}: {heard}");
    }
    // The honest may shout.
    let mut loud = field.external("B.EXAMPLE", "A.example", &field.honest.identity).await;
    for from in ["x@B.EXAMPLE", "x@b.example.", "x@\u{ff42}.example"] {
        loud.say(&lie(from).replace(LIE, "loud")).await;
        let heard = romeo.hear("<body>loud</body>").await;
        assert!(heard.contains("from='x@b.example'"), "{heard}");
    }
    field.is_untouched(&mut romeo, &mut honest).await;
    field.served.stop().await;
}

impl Field {
    /// A stream inside TLS whose header may be refused; what came of it.
    async fn plain_or_refused(&self, from: &str, identity: &Identity) -> (Talk, String) {
        let mut talk = Talk::connect(self.port(TlsMode::Direct)).await;
        talk.secure("a.example", Some(identity), Some("xmpp-server")).await;
        talk.say(&header(from, "a.example")).await;
        let features = talk.try_hear("</stream:features>").await.unwrap_or_else(|end| end);
        (talk, features)
    }
}
