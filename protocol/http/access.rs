//! Who may call: `Origin` and `Host` against allow-lists (digest b.12), the defence against DNS
//! rebinding.
//!
//! Lives: one per listener configuration, shared read-only by its shards. [`Access::check`] runs
//! for every request, so the lists are parsed once and nothing is allocated; loopback names are
//! tried first.

use super::field::Field;
use super::head::Head;

/// Parsed allow-lists. Loopback (`localhost`, `127.0.0.0/8`, `[::1]`) is always allowed, on any
/// port.
#[derive(Debug, Clone, Default)]
pub struct Access {
    any_origin: bool,
    null_origin: bool,
    origins: Vec<AllowedOrigin>,
    any_host: bool,
    hosts: Vec<AllowedHost>,
}

/// Which check refused a request; both are answered with 403.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// `Origin` is not on the list.
    Origin,
    /// `Host` is not on the list.
    Host,
}

impl Denied {
    /// The name under which this is counted.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Origin => "origin_denied",
            Self::Host => "host_denied",
        }
    }
}

impl std::fmt::Display for Denied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Origin => "origin not allowed: the operator can add it with --allow-origin",
            Self::Host => "host not allowed: the operator can add it with --allow-host",
        })
    }
}

#[derive(Debug, Clone)]
struct AllowedOrigin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

#[derive(Debug, Clone)]
struct AllowedHost {
    name: String,
    /// `None`: any port. The name is what rebinding abuses, the port is not.
    port: Option<u16>,
}

impl Access {
    /// Parses the lists: origins as `scheme://host[:port]`, `null` or `*`; hosts as `name[:port]`
    /// or `*`. `*` does not cover `null`, which every sandboxed page can send. The error names the
    /// entry.
    pub fn new(allow_origins: &[String], allow_hosts: &[String]) -> Result<Self, String> {
        let mut access = Self::default();
        for entry in allow_origins {
            match entry.trim() {
                "*" => access.any_origin = true,
                "null" => access.null_origin = true,
                text => {
                    let origin =
                        Origin::parse(text.strip_suffix('/').unwrap_or(text)).ok_or_else(|| {
                            format!("origin {text:?}: write scheme://host[:port], null or *")
                        })?;
                    access.origins.push(AllowedOrigin {
                        scheme: origin.scheme.to_ascii_lowercase(),
                        host: origin.host.to_ascii_lowercase(),
                        port: origin.port,
                    });
                }
            }
        }
        for entry in allow_hosts {
            match entry.trim() {
                "*" => access.any_host = true,
                text => {
                    let (name, port) = split_port(text)
                        .ok_or_else(|| format!("host {text:?}: write name[:port] or *"))?;
                    access.hosts.push(AllowedHost { name: name.to_ascii_lowercase(), port });
                }
            }
        }
        Ok(access)
    }

    /// Judges a request. `Ok(Some(origin))` is an allowed origin to echo in
    /// `Access-Control-Allow-Origin`.
    ///
    /// A request without `Host` passes: it is HTTP/1.0, which no browser speaks.
    pub fn check<'h>(&self, head: &Head<'h>) -> Result<Option<&'h str>, Denied> {
        let origin = match head.origin {
            Field::Absent => None,
            field => {
                let origin = field.as_str().ok_or(Denied::Origin)?;
                if !self.allows_origin(origin) {
                    return Err(Denied::Origin);
                }
                Some(origin)
            }
        };
        match head.host {
            Field::Absent => Ok(origin),
            field => match field.as_str() {
                Some(host) if self.allows_host(host) => Ok(origin),
                _ => Err(Denied::Host),
            },
        }
    }

    fn allows_origin(&self, text: &str) -> bool {
        // RFC 6454 §7.1: `null` stands for an opaque origin and equals nothing.
        if text == "null" {
            return self.null_origin;
        }
        let Some(origin) = Origin::parse(text) else { return false };
        let web = origin.scheme.eq_ignore_ascii_case("http")
            || origin.scheme.eq_ignore_ascii_case("https");
        self.any_origin
            || (web && is_loopback(origin.host))
            || self.origins.iter().any(|allowed| {
                allowed.port == origin.port
                    && origin.scheme.eq_ignore_ascii_case(&allowed.scheme)
                    && origin.host.eq_ignore_ascii_case(&allowed.host)
            })
    }

    fn allows_host(&self, text: &str) -> bool {
        let Some((name, port)) = split_port(text) else { return false };
        self.any_host
            || is_loopback(name)
            || self.hosts.iter().any(|allowed| {
                name.eq_ignore_ascii_case(&allowed.name)
                    && (allowed.port.is_none() || allowed.port == port)
            })
    }
}

/// (scheme, host, port) with the scheme's default port filled in.
struct Origin<'h> {
    scheme: &'h str,
    host: &'h str,
    port: Option<u16>,
}

impl<'h> Origin<'h> {
    fn parse(text: &'h str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        // RFC 3986 §3.1.
        let scheme_ok = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
        if !scheme_ok {
            return None;
        }
        let (host, port) = split_port(authority)?;
        let port = port.or_else(|| match scheme {
            _ if scheme.eq_ignore_ascii_case("http") => Some(80),
            _ if scheme.eq_ignore_ascii_case("https") => Some(443),
            _ => None,
        });
        Some(Self { scheme, host, port })
    }
}

/// `name`, `name:port`, `[v6]` or `[v6]:port`; an empty port counts as none (RFC 3986 §3.2.3).
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let name_end = if text.starts_with('[') {
        text.find(']')? + 1
    } else {
        text.find(':').unwrap_or(text.len())
    };
    let (name, port) = text.split_at(name_end);
    let inside = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let name_ok = match inside {
        Some(v6) => {
            !v6.is_empty() && v6.bytes().all(|b| b.is_ascii_hexdigit() || b":.".contains(&b))
        }
        None => {
            !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
        }
    };
    if !name_ok {
        return None;
    }
    match port.strip_prefix(':') {
        None if port.is_empty() => Some((name, None)),
        None => None,
        Some("") => Some((name, None)),
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            digits.parse().ok().map(|port| (name, Some(port)))
        }
        Some(_) => None,
    }
}

/// `localhost`, `[::1]`, and 127/8 in four decimal parts (browsers normalise all other spellings).
fn is_loopback(name: &str) -> bool {
    match name.as_bytes() {
        b"127.0.0.1" | b"localhost" | b"[::1]" => true,
        [b'1', b'2', b'7', b'.', ..] => name.parse::<std::net::Ipv4Addr>().is_ok(),
        _ => name.eq_ignore_ascii_case("localhost"),
    }
}

/// Fuzz: never panics; what `*` refuses, no list may allow; an allowed entry allows itself.
#[doc(hidden)]
pub fn fuzz_access(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let entry = [text.to_owned()];
    if let Ok(access) = Access::new(&entry, &[])
        && !matches!(text.trim(), "*" | "null")
    {
        let text = text.trim();
        assert!(access.allows_origin(text.strip_suffix('/').unwrap_or(text)), "{text:?}");
    }
    if let Ok(access) = Access::new(&[], &entry)
        && text.trim() != "*"
    {
        assert!(access.allows_host(text.trim()), "{text:?}");
    }
    let strict = Access::default();
    let open = Access { any_origin: true, any_host: true, ..Access::default() };
    assert!(!strict.allows_origin(text) || open.allows_origin(text));
    assert!(!strict.allows_host(text) || open.allows_host(text));
}
