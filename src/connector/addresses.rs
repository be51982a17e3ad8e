//! Which addresses a user's host may resolve to.
//!
//! Only addresses of the public internet. A user chooses the name, and the name's owner decides
//! what it resolves to. Without this rule `crm.example.com` could send a request with its
//! credential to the machine itself, to a neighbour in the private network, or to the metadata
//! service of the cloud.
//!
//! Sources: IANA's IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890, RFC 8190), IANA's
//! IPv6 Address Space registry (global unicast is 2000::/3, RFC 4291), and the RFC beside each
//! range. Metadata services have link-local, shared or unique local addresses, which are refused
//! anyway. Azure's is the exception and has a line of its own. Some ranges are reachable according
//! to the registries but contain no CRM (anycast relays, multicast). They are refused too.
//!
//! A network's own NAT64 prefix (RFC 6052 allows any prefix) cannot be distinguished from other
//! public addresses here. In such a network, a firewall or NetworkPolicy has to keep contactd from
//! the private addresses behind the prefix.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// First address, and length of the prefix.
#[rustfmt::skip]
const REFUSED_V4: [(Ipv4Addr, u32); 19] = [
    (Ipv4Addr::UNSPECIFIED, 8),                // this network (RFC 791), 0.0.0.0 = this machine
    (Ipv4Addr::new(10, 0, 0, 0), 8),           // private (RFC 1918)
    (Ipv4Addr::new(100, 64, 0, 0), 10),        // shared by carriers (RFC 6598), Alibaba's metadata 100.100.100.200
    (Ipv4Addr::new(127, 0, 0, 0), 8),          // loopback (RFC 1122)
    (Ipv4Addr::new(168, 63, 129, 16), 32),     // Azure's WireServer, in public space
    (Ipv4Addr::new(169, 254, 0, 0), 16),       // link-local (RFC 3927), metadata 169.254.169.254 and 169.254.170.2
    (Ipv4Addr::new(172, 16, 0, 0), 12),        // private (RFC 1918)
    (Ipv4Addr::new(192, 0, 0, 0), 24),         // protocol assignments (RFC 6890), Oracle's metadata 192.0.0.192
    (Ipv4Addr::new(192, 0, 2, 0), 24),         // documentation (RFC 5737)
    (Ipv4Addr::new(192, 31, 196, 0), 24),      // AS112 (RFC 7535)
    (Ipv4Addr::new(192, 52, 193, 0), 24),      // AMT relays (RFC 7450)
    (Ipv4Addr::new(192, 88, 99, 0), 24),       // 6to4 relays (RFC 7526)
    (Ipv4Addr::new(192, 168, 0, 0), 16),       // private (RFC 1918)
    (Ipv4Addr::new(192, 175, 48, 0), 24),      // AS112 (RFC 7534)
    (Ipv4Addr::new(198, 18, 0, 0), 15),        // benchmarks (RFC 2544)
    (Ipv4Addr::new(198, 51, 100, 0), 24),      // documentation (RFC 5737)
    (Ipv4Addr::new(203, 0, 113, 0), 24),       // documentation (RFC 5737)
    (Ipv4Addr::new(224, 0, 0, 0), 4),          // multicast (RFC 5771)
    (Ipv4Addr::new(240, 0, 0, 0), 4),          // reserved (RFC 1112), broadcast 255.255.255.255 (RFC 919)
];

/// Refused ranges within 2000::/3. Everything outside it is refused: unspecified, loopback,
/// IPv4-compatible, discard-only (RFC 6666), NAT64 for local use (RFC 8215), SRv6 (RFC 9602),
/// unique local (RFC 4193, metadata fd00:ec2::254 and fd20:ce::254), link-local, site-local,
/// multicast.
#[rustfmt::skip]
const REFUSED_V6: [(Ipv6Addr, u32); 5] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),        // protocol assignments (RFC 2928), Teredo (RFC 4380)
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),    // documentation (RFC 3849)
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),        // 6to4 (RFC 3056, given up by RFC 7526)
    (Ipv6Addr::new(0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0), 48),// AS112 (RFC 7534)
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),        // documentation (RFC 9637)
];

const GLOBAL_UNICAST: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// IPv6 prefixes followed by an IPv4 address: mapped (RFC 4291, 2.5.5.2), and the well-known prefix
/// of NAT64 (RFC 6052), which networks without IPv4 use for all IPv4 servers.
const EMBEDDED: [(Ipv6Addr, u32); 2] = [
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96),
    (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96),
];

/// Returns whether the address belongs to the public internet.
#[must_use]
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match embedded(address) {
            Some(inner) => is_public_v4(inner),
            None => is_public_v6(address),
        },
    }
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let is_refused = REFUSED_V6.iter().any(|range| is_within_v6(address, *range));
    is_within_v6(address, GLOBAL_UNICAST) && !is_refused
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !REFUSED_V4
        .iter()
        .any(|(first, bits)| (u32::from(address) ^ u32::from(*first)) >> (32 - bits) == 0)
}

fn is_within_v6(address: Ipv6Addr, (first, bits): (Ipv6Addr, u32)) -> bool {
    (u128::from(address) ^ u128::from(first)) >> (128 - bits) == 0
}

fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [.., a, b, c, d] = address.octets();
    EMBEDDED
        .iter()
        .any(|prefix| is_within_v6(address, *prefix))
        .then(|| Ipv4Addr::new(a, b, c, d))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_ends_of_each_range_are_refused_and_public_neighbours_are_not() {
        for (first, bits) in REFUSED_V4 {
            let last = Ipv4Addr::from(u32::from(first) | u32::MAX.checked_shr(bits).unwrap_or(0));
            assert!(
                !is_public(first.into()) && !is_public(last.into()),
                "{first}/{bits}"
            );
        }
        for (first, bits) in REFUSED_V6 {
            let last = Ipv6Addr::from(u128::from(first) | u128::MAX >> bits);
            assert!(
                !is_public(first.into()) && !is_public(last.into()),
                "{first}/{bits}"
            );
        }
        for text in [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "168.63.129.15",
            "168.63.129.17",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "191.255.255.255",
            "192.0.1.0",
            "192.0.3.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "198.51.99.255",
            "203.0.114.0",
            "223.255.255.255",
            "8.8.8.8",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2606:4700::1111",
            "2a00:1450:4001::1",
            "2003::1",
            "3ffe::1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
        ] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn private_addresses_are_refused_in_every_disguise() {
        for text in [
            "127.0.0.1",
            "127.1.2.3",
            "0.0.0.0",
            "10.1.2.3",
            "172.31.255.254",
            "192.168.1.1",
            "169.254.169.254",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
            "224.0.0.251",
            "255.255.255.255",
            "203.0.113.9",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "::ffff:0:127.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::7f00:1",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "2001:0:4136:e378:8000:63bf:80ff:fffe",
            "2001:db8::1",
            "3fff::1",
            "100::1",
            "fc00::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "5f00::1",
            "4000::1",
            "1::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_ipv4_address_is_judged_alike_in_ipv6(bits in any::<u32>()) {
            let plain = Ipv4Addr::from(bits);
            for (prefix, _) in EMBEDDED {
                let inside = Ipv6Addr::from(u128::from(prefix) | u128::from(bits));
                prop_assert_eq!(is_public(inside.into()), is_public(plain.into()));
            }
        }

        #[test]
        fn what_the_standard_library_knows_to_be_special_is_refused(bits in any::<u32>(), top in any::<u16>()) {
            let four = Ipv4Addr::from(bits);
            let special = four.is_private() || four.is_loopback() || four.is_link_local() || four.is_multicast();
            let special = special || four.is_broadcast() || four.is_documentation() || four.is_unspecified();
            prop_assert!(!(special && is_public(four.into())));
            let six = Ipv6Addr::new(top, 0, 0, 0, 0, 0, 0, 1);
            let special = six.is_loopback() || six.is_multicast() || six.is_unique_local();
            prop_assert!(!((special || six.is_unicast_link_local()) && is_public(six.into())));
        }
    }
}
