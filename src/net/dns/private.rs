//! Addresses that a name in DNS may not send this server to (SSRF): a domain that a stranger names must not make us connect
//! to our own machine or network, unless the conf says that federation is private (`s2s.private_addresses`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address is of no server in the public Internet, or of none that is to be asked: loopback, private, link-local,
/// shared (RFC 6598), multicast, unspecified, reserved; and IPv6 addresses that only wrap such a one of IPv4.
pub(crate) fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_private_v4(v4),
        IpAddr::V6(v6) => is_private_v6(v6),
    }
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_multicast()
        || a == 0
        || a >= 240
        // RFC 6598, shared between a provider and its customers.
        || (a == 100 && (64..128).contains(&b))
        // RFC 6890, IETF protocol assignments; RFC 2544, benchmarks.
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19))
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let low = || is_private_v4(Ipv4Addr::from((u32::from(g) << 16) | u32::from(h)));
    match [a, b, c, d, e, f] {
        // ::, ::1 and IPv4-compatible addresses, which are nobody's today.
        [0, 0, 0, 0, 0, 0] => true,
        // IPv4-mapped, and NAT64 (RFC 6052).
        [0, 0, 0, 0, 0, 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => low(),
        // NAT64 for local use (RFC 8215).
        [0x64, 0xff9b, 1, ..] => true,
        // 6to4 has the IPv4 address behind its prefix.
        [0x2002, ..] => is_private_v4(Ipv4Addr::from((u32::from(b) << 16) | u32::from(c))),
        // Discard-only (RFC 6666).
        [0x100, 0, 0, 0, ..] => true,
        // Unique local, link-local, what was site-local, multicast.
        _ => a & 0xfe00 == 0xfc00 || a & 0xffc0 == 0xfe80 || a & 0xffc0 == 0xfec0 || a & 0xff00 == 0xff00,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn d4_private_addresses_are_known_in_every_form() {
        for text in [
            "127.0.0.1",
            "127.8.9.10",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "0.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "192.0.0.8",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:c0a8:101::1",
            "100::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(is_private(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn public_addresses_are_not() {
        for text in [
            "192.0.2.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "169.253.0.1",
            "192.167.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2001:db8::1",
            "2a00:1450::1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2002:808:808::1",
        ] {
            assert!(!is_private(text.parse().unwrap()), "{text}");
        }
    }
}
