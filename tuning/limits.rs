//! The descriptor limit of this process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How many descriptors this process may open, and how many one ring's table may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nofile {
    /// In force now.
    pub soft: u64,
    /// As far as it can be raised without privilege.
    pub hard: u64,
}

/// Raises the soft limit to the hard one, as far as the kernel lets us; says what is in force afterwards.
///
/// `u64::MAX` stands for "unlimited".
pub fn raise_nofile() -> Nofile {
    let before = getrlimit(Resource::Nofile);
    if before.current != before.maximum {
        let raised = Rlimit { current: before.maximum, maximum: before.maximum };
        // A refusal leaves the old limit in force, and that is what is reported below.
        let _ = setrlimit(Resource::Nofile, raised);
    }
    let after = getrlimit(Resource::Nofile);
    Nofile { soft: after.current.unwrap_or(u64::MAX), hard: after.maximum.unwrap_or(u64::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soft_limit_equals_hard_limit_afterwards_and_twice_changes_nothing() {
        let first = raise_nofile();
        assert_eq!(first.soft, first.hard);
        assert_eq!(raise_nofile(), first);
    }
}
