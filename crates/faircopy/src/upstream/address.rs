//! Which addresses may be asked. Whoever sets the address of an upstream must not be able to make this service ask its
//! neighbours: a cloud gives its secrets away at `169.254.169.254`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Whether an address belongs to the public network. Private, link-local, shared (CGNAT), reserved and loopback ones do not,
/// nor do those of IPv6 that only wrap one of IPv4: a gateway would unwrap them.
#[must_use]
pub fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

/// IANA's special-purpose registry, as far as it is not globally reachable.
fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !(matches!(a, 0 | 10 | 127 | 224..)
        || (a == 100 && b & 0xc0 == 64)
        || (a == 169 && b == 254)
        || (a == 172 && b & 0xf0 == 16)
        || (a == 192 && b == 168)
        || (a == 192 && b == 0 && matches!(c, 0 | 2))
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && b & 0xfe == 18)
        || (a == 198 && b == 51 && c == 100)
        || (a == 203 && b == 0 && c == 113))
}

/// Global unicast is `2000::/3`. Within it, 6to4 and Teredo wrap IPv4, and `2001:db8::` is for books.
fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, ..] = ip.segments();
    let wraps = a == 0x2002 || (a == 0x2001 && b == 0);
    a & 0xe000 == 0x2000 && !wraps && !(a == 0x2001 && b == 0xdb8)
}

/// A name that leads where no upstream may be.
#[derive(Debug, thiserror::Error)]
#[error("the name leads to an address that is not public")]
pub struct NotPublic;

/// Looks names up, and gives no address that may not be asked: what a name leads to is only known now, and may be another
/// one each time (DNS rebinding). The addresses it gives are the ones that are connected to.
#[derive(Debug, Clone, Copy)]
pub struct Guarded {
    /// The configured host is this machine: then nothing else is asked.
    pub loopback: bool,
}

impl Guarded {
    fn allows(self, ip: IpAddr) -> bool {
        if self.loopback { ip.to_canonical().is_loopback() } else { is_public(ip) }
    }

    fn filter(self, found: impl Iterator<Item = SocketAddr>) -> Result<Vec<SocketAddr>, NotPublic> {
        let allowed: Vec<SocketAddr> = found.filter(|address| self.allows(address.ip())).collect();
        if allowed.is_empty() { Err(NotPublic) } else { Ok(allowed) }
    }
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = *self;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(Box::new(guard.filter(found)?.into_iter()) as Addrs)
        })
    }
}

/// What looks names up for this base address, as [`reqwest::ClientBuilder::dns_resolver`] takes it.
#[must_use]
pub fn guarded(base: &Url) -> Arc<Guarded> {
    let host = base.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let loopback = host.parse::<IpAddr>().map_or(host == "localhost", |ip| ip.to_canonical().is_loopback());
    Arc::new(Guarded { loopback })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_public_network_is_public() {
        let check = |text: &str, expected: bool| {
            assert_eq!(is_public(text.parse().unwrap()), expected, "{text}");
        };
        for public in ["1.1.1.1", "44.228.126.217", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1"] {
            check(public, true);
        }
        for public in ["2606:4700::6810:1", "2a00:1450::1", "::ffff:1.1.1.1", "192.0.1.1", "198.20.0.1"] {
            check(public, true);
        }
        for private in ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "100.64.0.1"] {
            check(private, false);
        }
        for special in
            ["0.0.0.0", "0.1.2.3", "127.0.0.1", "127.8.9.1", "192.0.0.8", "192.0.2.1", "198.18.0.1", "198.19.255.255"]
        {
            check(special, false);
        }
        for special in ["198.51.100.1", "203.0.113.1", "192.88.99.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"] {
            check(special, false);
        }
        for special in
            ["::", "::1", "fe80::1", "fc00::1", "fd00::1", "ff02::1", "::ffff:10.0.0.1", "::ffff:169.254.169.254"]
        {
            check(special, false);
        }
        for wrapping in ["64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "2001:0:1::1", "2001:db8::1", "::a00:1"] {
            check(wrapping, false);
        }
    }

    #[test]
    fn a_name_may_not_lead_into_the_neighbourhood() {
        let at =
            |texts: &[&str]| texts.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 0)).collect::<Vec<_>>();
        let check = |loopback: bool, found: &[&str], expected: &[&str]| {
            let allowed = Guarded { loopback }.filter(at(found).into_iter()).unwrap_or_default();
            assert_eq!(allowed, at(expected), "{found:?}");
        };
        check(false, &["1.1.1.1", "10.0.0.1", "127.0.0.1"], &["1.1.1.1"]);
        check(false, &["169.254.169.254", "::1"], &[]);
        check(true, &["1.1.1.1", "127.0.0.1", "::1"], &["127.0.0.1", "::1"]);
    }
}
