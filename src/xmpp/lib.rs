//! rookery-xmpp
