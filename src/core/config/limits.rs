//! `[limits]`: what one peer may take from the server. Each has a default, bounds and a defined error.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;

use super::types::{self, Count, Period, Size};

/// The limits of client streams. A section without keys is the default.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// One element before authentication.
    pub pre_auth_element: Size<1024, { 1 << 20 }>,
    /// All bytes of a stream before authentication.
    pub pre_auth_stream: Size<4096, { 16 << 20 }>,
    /// Elements inside a top-level element before authentication.
    pub pre_auth_elements: Count<8, 10_000>,
    /// Depth of elements before authentication.
    pub pre_auth_depth: Count<3, 1000>,

    /// One stanza of a client (XEP-0478 announces it). RFC 6120 §13.12: never less than 10 000 bytes.
    pub stanza: Size<10_000, { 64 << 20 }>,
    /// Depth of elements.
    pub depth: Count<8, 10_000>,
    /// Elements inside a stanza.
    pub elements: Count<32, 1_000_000>,
    /// Attributes of one element.
    pub attributes: Count<8, 1000>,
    /// Namespace declarations of one element.
    pub namespaces: Count<8, 1000>,
    /// Length of the name of an element or attribute.
    pub name: Size<64, 4096>,

    /// How long a TLS handshake may take.
    pub tls_handshake: Period<1, 600>,
    /// How long a peer may take to send its stream header, from the moment it could.
    pub stream_header: Period<1, 600>,
    /// How long a peer may take from connecting to being authenticated, whatever it does meanwhile.
    pub authentication: Period<1, 3600>,
    /// Failed attempts to authenticate on a stream before it is closed.
    pub failed_auths: Count<1, 100>,
    /// Failed attempts to authenticate for one account from one address that bring no delay. One is forgotten a minute.
    pub account_failed_auths: Count<1, 10_000>,
    /// Failed attempts to authenticate from one address, whatever the account, that bring no delay.
    pub address_failed_auths: Count<1, 1_000_000>,
    /// How long an attempt beyond these waits at most: the first a second, each further one twice as long.
    pub auth_delay: Period<1, 60>,

    /// New connections a second from one address, in the long run.
    pub connections_per_second: Count<1, 1_000_000>,
    /// New connections from one address at once.
    pub connections_burst: Count<1, 1_000_000>,
    /// Connections of one address that are not authenticated yet.
    pub unauthenticated: Count<1, 1_000_000>,
    /// Connections of all addresses that are not authenticated yet.
    pub unauthenticated_total: Count<1, 10_000_000>,
    /// Addresses for which the limits per address do not count: a proxy, a test bench. An IPv6 address counts as its /64.
    #[serde(deserialize_with = "types::ranges")]
    pub exempt: Vec<IpNet>,

    /// Bytes a second that are read from one connection, in the long run; more is read later.
    pub connection_rate: Size<1024, { 1 << 30 }>,
    /// Bytes that are read from one connection at once.
    pub connection_burst: Size<10_000, { 1 << 30 }>,
    /// Bytes a second that are read from all connections of one account.
    pub account_rate: Size<1024, { 1 << 30 }>,
    /// Bytes that are read from all connections of one account at once.
    pub account_burst: Size<10_000, { 1 << 30 }>,
    /// Bytes a second that are read from all connections of one address.
    pub address_rate: Size<1024, { 1 << 30 }>,
    /// Bytes that are read from all connections of one address at once.
    pub address_burst: Size<10_000, { 1 << 30 }>,

    /// Resources of one account at once.
    pub resources: Count<1, 1000>,
    /// Bytes that wait to be written to one client; more waits in the account's tail.
    pub outbox: Size<10_000, { 64 << 20 }>,
    /// How long writing to a client may make no progress.
    pub write_stall: Period<1, 3600>,
    /// How long a stream may be resumed after its connection broke (XEP-0198).
    pub resume: Period<0, 86_400>,

    /// Messages that wait for an account.
    pub offline_messages: Count<0, 1_000_000>,
    /// The size of all messages that wait for an account.
    pub offline_size: Size<0, { 1 << 30 }>,
    /// Contacts of one account.
    pub roster: Count<1, 100_000>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pre_auth_element: Size::kib(10),
            pre_auth_stream: Size::kib(64),
            pre_auth_elements: Count::new(32),
            pre_auth_depth: Count::new(8),
            stanza: Size::kib(256),
            depth: Count::new(64),
            elements: Count::new(4000),
            attributes: Count::new(64),
            namespaces: Count::new(32),
            name: Size::bytes(256),
            tls_handshake: Period::seconds(10),
            stream_header: Period::seconds(10),
            authentication: Period::seconds(60),
            failed_auths: Count::new(5),
            account_failed_auths: Count::new(10),
            address_failed_auths: Count::new(100),
            auth_delay: Period::seconds(15),
            connections_per_second: Count::new(20),
            connections_burst: Count::new(50),
            unauthenticated: Count::new(200),
            unauthenticated_total: Count::new(20_000),
            exempt: vec![IpNet::from(LOOPBACK_V4), IpNet::from(LOOPBACK_V6)],
            connection_rate: Size::kib(256),
            connection_burst: Size::mib(1),
            account_rate: Size::kib(512),
            account_burst: Size::mib(2),
            address_rate: Size::mib(4),
            address_burst: Size::mib(16),
            resources: Count::new(10),
            outbox: Size::kib(256),
            write_stall: Period::seconds(30),
            resume: Period::minutes(10),
            offline_messages: Count::new(1000),
            offline_size: Size::mib(10),
            roster: Count::new(1000),
        }
    }
}

const LOOPBACK_V4: ipnet::Ipv4Net = ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::new(127, 0, 0, 0), 8);
const LOOPBACK_V6: ipnet::Ipv6Net = ipnet::Ipv6Net::new_assert(std::net::Ipv6Addr::LOCALHOST, 128);

impl Limits {
    /// Whether the limits per address do not count for this one.
    pub fn is_exempt(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.exempt.iter().any(|range| range.contains(&address))
    }
}
