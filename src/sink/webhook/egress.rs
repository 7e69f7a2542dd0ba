//! Which addresses an endpoint may lead to (SSRF guard). Pure but for the resolver at the end.
//!
//! hyper asks no resolver for an IP literal and reqwest follows redirects and proxies by default, so one lock
//! is not enough:
//!
//! 1. the URL is parsed (which turns `2130706433`, `0x7f.1`, `127.1` into `127.0.0.1`) and a literal is checked;
//! 2. the resolver drops every address that is not allowed, at each connect, so rebinding gains nothing;
//! 3. the client follows no redirect and uses no proxy;
//! 4. the address it really reached is checked again.
//!
//! | class | reached |
//! |---|---|
//! | global unicast | always, by https |
//! | private, loopback, CGNAT, unique local | with `allow_private` or in `allow_cidrs`; by http too |
//! | link-local, reserved, documentation, tunnels | only in `allow_cidrs` |
//! | metadata services of clouds | only when listed as one address (`/32`, `/128`) |
//! | unspecified, multicast, broadcast, v4-mapped | never |

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Why an address or URL is not reached. Texts hold no path, query or user part: those may be secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    /// It is no URL.
    #[error("webhook url cannot be parsed: {reason}")]
    Url {
        /// What the parser says.
        reason: String,
    },
    /// It is neither https nor http.
    #[error(
        "webhook url has scheme {scheme:?}, allowed are https and, for private addresses, http"
    )]
    Scheme {
        /// Its scheme.
        scheme: String,
    },
    /// It carries a user name or password, which logs of proxies and receivers would show.
    #[error("webhook url of host {host} carries a user name or password")]
    Credentials {
        /// Its host.
        host: String,
    },
    /// It has no host.
    #[error("webhook url has no host")]
    NoHost,
    /// It names port 0.
    #[error("webhook url of host {host} has port 0")]
    Port {
        /// Its host.
        host: String,
    },
    /// Its address is of a class that is not allowed.
    #[error("address {address} is {class}, which this endpoint does not allow")]
    Address {
        /// The address.
        address: IpAddr,
        /// Its class.
        class: Class,
    },
    /// Its address is public and would be reached without TLS.
    #[error("address {address} is public and the url is not https")]
    PlainHttp {
        /// The address.
        address: IpAddr,
    },
    /// Its name has no address, or none that is allowed.
    #[error("none of the {found} addresses of host {host} is allowed")]
    NoAddress {
        /// Its host.
        host: String,
        /// How many addresses were found.
        found: usize,
    },
}

/// What kind of address it is, as far as egress cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Reachable over the Internet.
    Global,
    /// Private, loopback, carrier-grade NAT or unique local.
    Private,
    /// Link-local, reserved, documentation, benchmark, translation or tunnel.
    Reserved,
    /// The metadata service of a cloud, which hands out credentials.
    Metadata,
    /// Unspecified, multicast, broadcast or a v4-mapped disguise.
    Never,
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Class::Global => "global",
            Class::Private => "private",
            Class::Reserved => "reserved or link-local",
            Class::Metadata => "a metadata service",
            Class::Never => "unspecified, multicast, broadcast or v4-mapped",
        })
    }
}

/// Metadata services: AWS/GCP/Azure and others, Alibaba, Oracle, AWS over IPv6.
const METADATA: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

const fn v4(a: u8, b: u8, c: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, 0), prefix)
}

const fn v6(a: u16, b: u16, c: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), prefix)
}

const V4_PRIVATE: [Ipv4Net; 5] = [
    v4(10, 0, 0, 8),
    v4(100, 64, 0, 10),
    v4(127, 0, 0, 8),
    v4(172, 16, 0, 12),
    v4(192, 168, 0, 16),
];

/// From the IANA special-purpose registry; 240/4 holds the broadcast address, which is told apart before.
const V4_RESERVED: [Ipv4Net; 9] = [
    v4(0, 0, 0, 8),
    v4(169, 254, 0, 16),
    v4(192, 0, 0, 24),
    v4(192, 0, 2, 24),
    v4(192, 88, 99, 24),
    v4(198, 18, 0, 15),
    v4(198, 51, 100, 24),
    v4(203, 0, 113, 24),
    v4(240, 0, 0, 4),
];

/// The only IPv6 range that is handed out for global use; whatever lies outside is reserved.
const V6_GLOBAL: Ipv6Net = v6(0x2000, 0, 0, 3);

/// Special ranges within [`V6_GLOBAL`]: IETF protocols with Teredo, 6to4, documentation (twice).
const V6_RESERVED: [Ipv6Net; 4] =
    [v6(0x2001, 0, 0, 23), v6(0x2002, 0, 0, 16), v6(0x2001, 0xdb8, 0, 32), v6(0x3fff, 0, 0, 20)];

/// Unique local addresses, the private ones of IPv6.
const V6_PRIVATE: Ipv6Net = v6(0xfc00, 0, 0, 7);

/// Returns the class of an address.
pub fn classify(address: IpAddr) -> Class {
    if METADATA.contains(&address) {
        return Class::Metadata;
    }
    match address {
        IpAddr::V4(address) => classify_v4(address),
        IpAddr::V6(address) => classify_v6(address),
    }
}

fn classify_v4(address: Ipv4Addr) -> Class {
    if address.is_unspecified() || address.is_multicast() || address.is_broadcast() {
        Class::Never
    } else if V4_PRIVATE.iter().any(|net| net.contains(&address)) {
        Class::Private
    } else if V4_RESERVED.iter().any(|net| net.contains(&address)) {
        Class::Reserved
    } else {
        Class::Global
    }
}

fn classify_v6(address: Ipv6Addr) -> Class {
    if address.is_unspecified() || address.is_multicast() || address.to_ipv4_mapped().is_some() {
        Class::Never
    } else if address.is_loopback() || V6_PRIVATE.contains(&address) {
        Class::Private
    } else if !V6_GLOBAL.contains(&address) || V6_RESERVED.iter().any(|net| net.contains(&address))
    {
        Class::Reserved
    } else {
        Class::Global
    }
}

/// What one endpoint may reach.
#[derive(Debug, Clone, Default)]
pub struct EgressPolicy {
    allow_private: bool,
    allow_cidrs: Vec<IpNet>,
}

impl EgressPolicy {
    /// Takes the endpoint's exceptions; without any, only global addresses are reached.
    pub fn new(allow_private: bool, allow_cidrs: Vec<IpNet>) -> EgressPolicy {
        EgressPolicy { allow_private, allow_cidrs }
    }

    /// Parses a URL and checks all that can be known without a resolver.
    ///
    /// # Errors
    ///
    /// Fails when it is no URL, has another scheme than http(s), carries credentials, or names an address that
    /// is not allowed.
    pub fn check_url(&self, url: &str) -> Result<Url, EgressError> {
        let url =
            Url::parse(url).map_err(|error| EgressError::Url { reason: error.to_string() })?;
        if !["https", "http"].contains(&url.scheme()) {
            return Err(EgressError::Scheme { scheme: url.scheme().to_owned() });
        }
        let host = url.host_str().ok_or(EgressError::NoHost)?.to_owned();
        if !url.username().is_empty() || url.password().is_some() {
            return Err(EgressError::Credentials { host });
        }
        if url.port() == Some(0) {
            return Err(EgressError::Port { host });
        }
        if let Ok(address) = host.trim_matches(['[', ']']).parse() {
            self.check_address(address, url.scheme() == "https")?;
        }
        Ok(url)
    }

    /// Checks one address that a URL of this endpoint leads to.
    ///
    /// # Errors
    ///
    /// Fails when its class is not allowed, or when it is public and `tls` is false.
    pub fn check_address(&self, address: IpAddr, tls: bool) -> Result<(), EgressError> {
        let class = classify(address);
        let listed = || self.allow_cidrs.iter().any(|net| net.contains(&address));
        let named = || self.allow_cidrs.contains(&IpNet::from(address));
        match class {
            Class::Global if tls || listed() => Ok(()),
            Class::Global => Err(EgressError::PlainHttp { address }),
            Class::Private if self.allow_private || listed() => Ok(()),
            Class::Reserved if listed() => Ok(()),
            Class::Metadata if named() => Ok(()),
            _ => Err(EgressError::Address { address, class }),
        }
    }

    /// Keeps the addresses of `host` that are allowed.
    ///
    /// # Errors
    ///
    /// Fails when none is left; a single refused address explains itself.
    pub fn filter(
        &self,
        host: &str,
        found: &[SocketAddr],
        tls: bool,
    ) -> Result<Vec<SocketAddr>, EgressError> {
        let allowed = |address: &&SocketAddr| self.check_address(address.ip(), tls).is_ok();
        let kept: Vec<SocketAddr> = found.iter().filter(allowed).copied().collect();
        match (kept.is_empty(), found) {
            (false, _) => Ok(kept),
            (true, [only]) => self.check_address(only.ip(), tls).map(|()| kept),
            (true, _) => Err(EgressError::NoAddress { host: host.to_owned(), found: found.len() }),
        }
    }
}

/// The system's resolver behind an [`EgressPolicy`].
#[derive(Debug, Clone)]
pub struct GuardedResolver {
    policy: EgressPolicy,
    tls: bool,
}

impl GuardedResolver {
    /// Guards the resolver for an endpoint whose URL is https or not.
    pub fn new(policy: EgressPolicy, tls: bool) -> GuardedResolver {
        GuardedResolver { policy, tls }
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            // Port 0 is replaced by the URL's own.
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let kept = guard.policy.filter(name.as_str(), &found, guard.tls)?;
            let addresses: Addrs = Box::new(kept.into_iter());
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// URLs that must reach nothing under the default policy; names are looked up in [`HOSTILE_NAMES`].
    const HOSTILE: &[&str] = &[
        "https://127.0.0.1/",
        "https://127.0.0.1:8443/hook",
        "https://127.1/",
        "https://127.0.1/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0x7f.1/",
        "https://0177.0.0.1/",
        "https://017700000001/",
        "https://127.0.0.1./",
        "https://%31%32%37.0.0.1/",
        "https://①②⑦.⓪.⓪.①/",
        "https://127。0。0。1/",
        "https://127.255.255.254/",
        "https://0.0.0.0/",
        "https://0/",
        "https://0.1.2.3/",
        "https://10.0.0.1/",
        "https://10.255.255.255/",
        "https://172.16.0.1/",
        "https://172.31.255.255/",
        "https://192.168.0.1/",
        "https://100.64.0.1/",
        "https://100.100.100.200/latest/meta-data",
        "https://169.254.169.254/latest/meta-data",
        "https://0xa9fea9fe/latest/meta-data",
        "https://2852039166/",
        "https://169.254.0.1/",
        "https://192.0.0.192/opc/v2",
        "https://192.0.0.8/",
        "https://192.0.2.1/",
        "https://192.88.99.1/",
        "https://198.18.0.1/",
        "https://198.19.255.255/",
        "https://198.51.100.7/",
        "https://203.0.113.7/",
        "https://224.0.0.1/",
        "https://239.255.255.250/",
        "https://240.0.0.1/",
        "https://255.255.255.255/",
        "https://[::]/",
        "https://[::1]/",
        "https://[0:0:0:0:0:0:0:1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:7f00:1]/",
        "https://[::ffff:169.254.169.254]/",
        "https://[::ffff:8.8.8.8]/",
        "https://[::127.0.0.1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[64:ff9b:1::a00:1]/",
        "https://[100::1]/",
        "https://[2001::1]/",
        "https://[2001:db8::1]/",
        "https://[2002:7f00:1::]/",
        "https://[3fff::1]/",
        "https://[5f00::1]/",
        "https://[fc00::1]/",
        "https://[fd00:ec2::254]/",
        "https://[fe80::1]/",
        "https://[fec0::1]/",
        "https://[ff02::1]/",
        "https://localhost/",
        "https://LOCALHOST./",
        "https://127.0.0.1.nip.example/",
        "https://rebind.example/",
        "https://metadata.google.internal/computeMetadata/v1",
        "https://nowhere.example/",
        "http://8.8.8.8/",
        "http://plain.example/",
        "https://user:pass@hooks.example/",
        "https://hooks.example@127.0.0.1/",
        "https://127.0.0.1#@hooks.example/",
        "https://rebind.example\\@hooks.example/",
        "https://hooks.example:0/",
        "https:127.0.0.1/",
        "https:///127.0.0.1/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_",
        "ftp://8.8.8.8/",
        "data:text/plain,x",
        "javascript:alert(1)",
        "//127.0.0.1/",
        "https://",
        "",
    ];

    const HOSTILE_NAMES: &[(&str, &[&str])] = &[
        ("localhost", &["127.0.0.1", "::1"]),
        ("localhost.", &["127.0.0.1"]),
        ("127.0.0.1.nip.example", &["127.0.0.1"]),
        ("rebind.example", &["10.0.0.1", "fe80::1"]),
        ("metadata.google.internal", &["169.254.169.254"]),
        ("nowhere.example", &[]),
        ("plain.example", &["8.8.8.8"]),
        ("hooks.example", &["8.8.8.8"]),
    ];

    /// What the client does: URL first, then the resolver for a name.
    fn reach(policy: &EgressPolicy, url: &str) -> Result<(), EgressError> {
        let url = policy.check_url(url)?;
        let host = url.host_str().unwrap();
        if host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
            return Ok(());
        }
        let found = HOSTILE_NAMES.iter().find(|(name, _)| *name == host);
        let found = found.unwrap_or_else(|| panic!("{url} is looked up as {host}"));
        let found: Vec<SocketAddr> =
            found.1.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 443)).collect();
        policy.filter(host, &found, url.scheme() == "https").map(|_| ())
    }

    #[test]
    fn no_hostile_url_is_reached_by_default() {
        for url in HOSTILE {
            assert!(reach(&EgressPolicy::default(), url).is_err(), "{url} is reached");
        }
    }

    #[test]
    fn ordinary_endpoints_are_reached() {
        for url in ["https://hooks.example/a?b=c", "https://8.8.8.8:8443/", "https://[2600::1]/x"] {
            assert_eq!(reach(&EgressPolicy::default(), url), Ok(()), "{url}");
        }
    }

    #[test]
    fn exceptions_open_what_they_name_and_no_more() {
        let private = || EgressPolicy::new(true, vec![]);
        let cidrs = |nets: &[&str]| {
            EgressPolicy::new(false, nets.iter().map(|net| net.parse().unwrap()).collect())
        };
        let all = ["0.0.0.0/0", "::/0"];
        for (policy, url, reached) in [
            (private(), "http://127.0.0.1:8080/", true),
            (private(), "http://10.1.2.3/", true),
            (private(), "https://[fd12::1]/", true),
            (private(), "https://[::1]/", true),
            (private(), "http://localhost/", true),
            (private(), "https://169.254.1.1/", false),
            (private(), "https://169.254.169.254/", false),
            (private(), "https://[fd00:ec2::254]/", false),
            (private(), "https://100.100.100.200/", false),
            (private(), "https://[::ffff:127.0.0.1]/", false),
            (private(), "https://0.0.0.0/", false),
            (private(), "http://8.8.8.8/", false),
            (private(), "http://plain.example/", false),
            (cidrs(&["10.1.0.0/16"]), "http://10.1.2.3/", true),
            (cidrs(&["10.1.0.0/16"]), "http://10.2.2.3/", false),
            (cidrs(&["10.1.0.0/16"]), "https://127.0.0.1/", false),
            (cidrs(&["fe80::/10"]), "https://[fe80::1]/", true),
            (cidrs(&all), "https://169.254.1.1/", true),
            (cidrs(&all), "http://8.8.8.8/", true),
            (cidrs(&all), "https://169.254.169.254/", false),
            (cidrs(&all), "https://224.0.0.1/", false),
            (cidrs(&all), "https://[::ffff:8.8.8.8]/", false),
            (cidrs(&["169.254.0.0/16"]), "https://169.254.169.254/", false),
            (cidrs(&["169.254.169.254/32"]), "https://169.254.169.254/", true),
        ] {
            assert_eq!(reach(&policy, url).is_ok(), reached, "{url} under {policy:?}");
        }
    }

    #[test]
    fn of_mixed_answers_only_allowed_addresses_remain() {
        let found: Vec<SocketAddr> =
            ["8.8.8.8:443", "127.0.0.1:443", "[::1]:443"].map(|a| a.parse().unwrap()).to_vec();
        let kept = EgressPolicy::default().filter("rebind.example", &found, true).unwrap();
        assert_eq!(kept, &found[..1]);
    }

    #[test]
    fn errors_show_neither_path_nor_credentials() {
        let policy = EgressPolicy::default();
        for url in [
            "https://u:s3cret@hooks.example/s3cret",
            "https://10.0.0.1/s3cret?s3cret",
            "http:s3cret:x",
        ] {
            let error = policy.check_url(url).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("/s3cret"), "{error}");
        }
    }
}
