//! Where the server is.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

/// An MCP endpoint, and the port for lines of JSON if the server has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Where HTTP connections go.
    pub http: SocketAddr,
    /// Where lines of JSON over TCP go.
    pub tcp: Option<SocketAddr>,
    /// The `Host` field.
    pub host: String,
    /// Path of the endpoint.
    pub path: String,
    /// Path of the WebSocket.
    pub ws_path: String,
}

impl Target {
    /// Of a URL like `http://127.0.0.1:8080/mcp`.
    pub fn parse(url: &str, tcp: Option<&str>) -> Result<Self, String> {
        let rest = match url.split_once("://") {
            Some(("http", rest)) => rest,
            Some((scheme, _)) => {
                return Err(format!(
                    "{scheme}:// is not spoken here: http:// only, TLS belongs to a proxy"
                ));
            }
            None => url,
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let with_port = match authority.rsplit_once(':') {
            Some((_, port)) if port.parse::<u16>().is_ok() => authority.to_owned(),
            _ => format!("{authority}:80"),
        };
        let path = if path.is_empty() { "/mcp" } else { path };
        Ok(Self {
            http: resolve(&with_port)?,
            tcp: tcp.map(resolve).transpose()?,
            host: authority.to_owned(),
            path: path.to_owned(),
            ws_path: format!("{}/ws", path.trim_end_matches('/')),
        })
    }
}

/// IPv4 first: only loopback of IPv4 has addresses to spare.
fn resolve(text: &str) -> Result<SocketAddr, String> {
    let found: Vec<SocketAddr> =
        text.to_socket_addrs().map_err(|err| format!("{text}: {err}"))?.collect();
    let best = found.iter().find(|addr| addr.is_ipv4()).or(found.first());
    best.copied().ok_or_else(|| format!("{text}: no address"))
}

/// Which address each connection comes from. An address has only so many ports towards one server, and those
/// of earlier connections rest in TIME_WAIT; 127.0.0.0/8 has addresses to spare.
#[derive(Debug, Clone)]
pub struct Sources {
    given: Vec<IpAddr>,
    first: u32,
}

impl Sources {
    /// These addresses in turns; without any, loopback addresses towards loopback, and the kernel's choice
    /// otherwise.
    pub fn new(given: Vec<IpAddr>) -> Self {
        // Runs of this program do not begin with the same address: the last one's ports may still rest.
        Self { given, first: std::process::id().wrapping_mul(97) }
    }

    /// For the `dial`-th connection of this process.
    pub fn of(&self, dial: u32, target: SocketAddr) -> Option<SocketAddr> {
        let block = dial / DIALS_PER_SOURCE;
        if !self.given.is_empty() {
            return Some(SocketAddr::new(self.given[block as usize % self.given.len()], 0));
        }
        let is_many = matches!(target.ip(), IpAddr::V4(host) if host.is_loopback());
        is_many.then(|| {
            let address = SOURCE_FIRST + self.first.wrapping_add(block) % SOURCES;
            SocketAddr::from((Ipv4Addr::from(address), 0))
        })
    }
}

/// Connections from one address before the next; the kernel looks for a free port the longer, the fuller.
const DIALS_PER_SOURCE: u32 = 4000;
/// Source addresses are 127.0.1.0 and those after it.
const SOURCE_FIRST: u32 = u32::from_be_bytes([127, 0, 1, 0]);
/// How many there are, up to 127.255.0.0.
const SOURCES: u32 = u32::from_be_bytes([127, 255, 0, 0]) - SOURCE_FIRST;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_split_into_what_is_said_and_where() {
        let target = Target::parse("http://127.0.0.1:8080/mcp", Some("127.0.0.1:9001")).unwrap();
        assert_eq!(target.http, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(target.tcp, Some("127.0.0.1:9001".parse().unwrap()));
        assert_eq!((target.host.as_str(), target.path.as_str()), ("127.0.0.1:8080", "/mcp"));
        assert_eq!(target.ws_path, "/mcp/ws");
        let target = Target::parse("http://127.0.0.1", None).unwrap();
        assert_eq!((target.http.port(), target.path.as_str()), (80, "/mcp"));
        for url in ["https://127.0.0.1/mcp", "http://", "http://127.0.0.1:x/"] {
            assert!(Target::parse(url, None).is_err(), "{url}");
        }
    }

    #[test]
    fn sources_are_loopback_and_change_before_ports_run_out() {
        let (sources, target) = (Sources::new(Vec::new()), "127.0.0.1:80".parse().unwrap());
        assert_eq!(sources.of(0, target), sources.of(DIALS_PER_SOURCE - 1, target));
        assert_ne!(sources.of(0, target), sources.of(DIALS_PER_SOURCE, target));
        for dial in (0..100_000_000).step_by(9_999_991) {
            let source = sources.of(dial, target).unwrap();
            assert!(source.ip().is_loopback(), "{source}");
        }
        assert_eq!(sources.of(0, "192.0.2.1:80".parse().unwrap()), None);
        assert_eq!(sources.of(0, "[::1]:80".parse().unwrap()), None);
    }

    #[test]
    fn given_sources_take_turns() {
        let given: Vec<IpAddr> = vec!["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
        let (sources, target) = (Sources::new(given.clone()), "192.0.2.1:80".parse().unwrap());
        for (dial, expect) in [(0, 0), (DIALS_PER_SOURCE, 1), (2 * DIALS_PER_SOURCE, 0)] {
            assert_eq!(sources.of(dial, target).unwrap().ip(), given[expect]);
        }
    }
}
