//! What a client was sent, in a line a stanza, so that a conversation can be read:
//! `push juliet@localhost both ask`, `subscribe romeo@localhost -> juliet@localhost`, `error 7 item-not-found`.

use rookery_xmpp::element::Element;
use rookery_xmpp::ns;

use crate::world::Client;

impl Client {
    /// Takes the stanzas that wait for the client.
    pub(crate) fn stanzas(&self) -> Vec<Element> {
        stanzas(&self.read())
    }

    /// Takes what waits for the client, a line each.
    pub(crate) fn told(&self) -> Vec<String> {
        self.stanzas().iter().map(line).collect()
    }

    /// Sends a stanza and takes what the client is told then.
    pub(crate) async fn says(&self, xml: &str) -> Vec<String> {
        self.send(xml).await;
        self.told()
    }
}

fn stanzas(read: &str) -> Vec<Element> {
    let all: Element = format!("<all xmlns='jabber:client'>{read}</all>").parse().unwrap();
    all.elements().cloned().collect()
}

/// What was read, a line a stanza.
pub(crate) fn lines(read: &str) -> Vec<String> {
    stanzas(read).iter().map(line).collect()
}

/// A stanza as a line.
pub(crate) fn line(stanza: &Element) -> String {
    let get = |name| stanza.get(name).unwrap_or("");
    if stanza.get("type") == Some("error") {
        let error = stanza.find("error", ns::CLIENT).unwrap();
        let condition = error.elements().find(|child| child.ns() == ns::STANZAS).unwrap();
        let who = if stanza.name() == "iq" { get("id") } else { get("from") };
        return format!("error {who} {}", condition.name());
    }
    match (stanza.name(), get("type")) {
        ("presence", kind) => {
            let kind = if kind.is_empty() { "available" } else { kind };
            let show = stanza.find("show", ns::CLIENT).map_or(String::new(), |show| format!(" {}", show.content()));
            let status =
                stanza.find("status", ns::CLIENT).map_or(String::new(), |status| format!(" '{}'", status.content()));
            format!("{kind} {} -> {}{show}{status}", get("from"), get("to"))
        }
        ("iq", "set") => {
            let query = stanza.find("query", ns::ROSTER).unwrap();
            assert!(stanza.get("from").is_none() && query.get("ver").is_some() && get("id").len() > 10, "{stanza:?}");
            format!("push {}", item(query.elements().next().unwrap()))
        }
        ("iq", kind) => match stanza.find("query", ns::ROSTER) {
            Some(query) => {
                format!("roster {}", query.elements().map(item).collect::<Vec<_>>().join(", ")).trim_end().to_owned()
            }
            None => format!("{kind} {}", get("id")),
        },
        _ => format!("message {}", stanza.find("body", ns::CLIENT).map_or(String::new(), Element::content)),
    }
}

fn item(item: &Element) -> String {
    let mut text = format!("{} {}", item.get("jid").unwrap(), item.get("subscription").unwrap());
    match item.get("ask") {
        Some("subscribe") => text.push_str(" ask"),
        other => assert_eq!(other, None),
    }
    match item.get("approved") {
        Some("true") => text.push_str(" approved"),
        other => assert_eq!(other, None),
    }
    if let Some(name) = item.get("name") {
        text.push_str(&format!(" '{name}'"));
    }
    for group in item.elements() {
        text.push_str(&format!(" [{}]", group.content()));
    }
    text
}
