//! Protocol revisions this server speaks, oldest first so that `<` means "older".

/// A published revision of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// 2024-11-05: `initialize`, stdio, HTTP+SSE.
    V2024_11_05,
    /// 2025-03-26: Streamable HTTP, batches.
    V2025_03_26,
    /// 2025-06-18: structured content, elicitation, the version header.
    V2025_06_18,
    /// 2025-11-25: icons, url elicitation, SSE polling.
    V2025_11_25,
    /// 2026-07-28: the modern era; metadata on each request, no handshake.
    V2026_07_28,
}

impl Version {
    /// Every revision, newest first: the order in which they are offered.
    pub const ALL: [Version; 5] = [
        Version::V2026_07_28,
        Version::V2025_11_25,
        Version::V2025_06_18,
        Version::V2025_03_26,
        Version::V2024_11_05,
    ];
    /// How many there are; `self as usize` indexes tables of this length.
    pub const COUNT: usize = Self::ALL.len();
    /// What `initialize` answers when it cannot echo the version it was asked for.
    pub const NEWEST_LEGACY: Version = Version::V2025_11_25;

    /// The revision with exactly this name.
    pub fn parse(name: &str) -> Option<Version> {
        Self::ALL.into_iter().find(|version| version.as_str() == name)
    }

    /// The same, of bytes that may not be text.
    pub fn from_bytes(name: &[u8]) -> Option<Version> {
        Self::ALL.into_iter().find(|version| version.as_str().as_bytes() == name)
    }

    /// The name on the wire, e.g. `2025-11-25`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Version::V2024_11_05 => "2024-11-05",
            Version::V2025_03_26 => "2025-03-26",
            Version::V2025_06_18 => "2025-06-18",
            Version::V2025_11_25 => "2025-11-25",
            Version::V2026_07_28 => "2026-07-28",
        }
    }

    /// What `initialize` answers: the version asked for if it is a legacy one we serve, else the
    /// newest that is.
    pub fn negotiate(requested: &str) -> Version {
        Self::parse(requested).filter(|version| !version.is_modern()).unwrap_or(Self::NEWEST_LEGACY)
    }

    /// Whether requests of this revision carry their metadata themselves (no handshake).
    pub const fn is_modern(self) -> bool {
        matches!(self, Version::V2026_07_28)
    }
}
