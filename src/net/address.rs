//! An address as limits count it: the IPv4 address, or the first half of the IPv6 one, which is what one customer has.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What limits per address go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Address {
    V4(Ipv4Addr),
    V6([u16; 4]),
}

impl Address {
    pub(crate) fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4),
            IpAddr::V6(v6) => Self::of_v6(v6),
        }
    }

    fn of_v6(ip: Ipv6Addr) -> Self {
        let [a, b, c, d, ..] = ip.segments();
        Self::V6([a, b, c, d])
    }
}
