//! What the archive wants to know of a message: whether it counts as unread, and the text to find it by.

use rookery_xmpp::ns;
use rookery_xmpp::stanza::Stanza;

/// Whether a message is something for its recipient to read, and so unread until it has been displayed.
pub fn counts(message: &Stanza) -> bool {
    message.has("body", ns::CLIENT)
}

/// The text that a message can be found by.
pub fn body(message: &Stanza) -> Option<Box<str>> {
    message.find("body", ns::CLIENT).map(|body| body.content().into_boxed_str())
}
