//! The files that keep what `tune apply` changes, and the units: `sysctl/` and `systemd/` of the repository.
//!
//! A pure function of the demand, so that what is shipped and what is checked cannot drift apart; a test
//! compares both with the repository.

mod units;

use crate::checks::{KNOBS, LOCAL_PORTS};
use crate::demand::Demand;

/// What can be rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Kernel parameters, for `/etc/sysctl.d`.
    Sysctl,
    /// Units, for `/etc/systemd/system`.
    Systemd,
    /// Limits of people who start it from a shell, for `/etc/security/limits.d`.
    Limits,
}

impl Kind {
    /// Every kind, by the name it has on the command line.
    pub const ALL: [(&'static str, Kind); 3] =
        [("sysctl", Kind::Sysctl), ("systemd", Kind::Systemd), ("limits", Kind::Limits)];

    /// Where the files belong.
    pub const fn folder(self) -> &'static str {
        match self {
            Kind::Sysctl => "/etc/sysctl.d",
            Kind::Systemd => "/etc/systemd/system",
            Kind::Limits => "/etc/security/limits.d",
        }
    }
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// Its name in [`Kind::folder`].
    pub name: &'static str,
    /// What is in it.
    pub text: String,
}

/// The files of a kind, for a demand.
pub fn render(kind: Kind, demand: &Demand) -> Vec<Rendered> {
    match kind {
        Kind::Sysctl => {
            vec![Rendered { name: "60-erlmcp-shard.conf", text: sysctl(demand) }]
        }
        Kind::Systemd => vec![
            Rendered { name: "erlmcp-shard.service", text: units::service(demand) },
            Rendered { name: "erlmcp-shard@.service", text: units::instance(demand) },
        ],
        Kind::Limits => vec![Rendered { name: "erlmcp-shard.conf", text: limits(demand) }],
    }
}

fn sysctl(demand: &Demand) -> String {
    let mut text = String::from(
        "# Kernel parameters for erlmcp-shard. Made by `erlmcp-shard tune render sysctl`.\n\
         # Load now: sysctl -p /etc/sysctl.d/60-erlmcp-shard.conf. A leading dash: no complaint where the kernel\n\
         # has no such parameter.\n\
         #\n\
         # Not in here, because the kernel derives them from the memory there is and a file would take from big\n\
         # hosts: net.ipv4.tcp_mem, tcp_rmem, tcp_wmem, net.core.rmem_max, wmem_max. `erlmcp-shard tune check`\n\
         # says when they are too small.\n",
    );
    text.push_str(&format!(
        "\n# Stricter, where other users must not have it: 1, and the group in kernel.io_uring_group.\n\
         -kernel.io_uring_disabled = 0\n\
         \n# Outgoing connections stay away from the ports that servers use.\n\
         net.ipv4.ip_local_port_range = {LOCAL_PORTS}\n"
    ));
    for knob in KNOBS.iter().filter(|knob| knob.is_shipped) {
        let value = (knob.target)(demand);
        text.push_str(&format!("\n# {}\n-{} = {value}\n", sentence(knob.why), knob.key));
    }
    text
}

/// With a capital.
fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn limits(demand: &Demand) -> String {
    let nofile = units::nofile(demand);
    format!(
        "# Limits for erlmcp-shard started from a shell. Made by `erlmcp-shard tune render limits`.\n\
         # A unit does not read this: there it is LimitNOFILE= and LimitMEMLOCK=.\n\
         # Put your user, or @group, in place of erlmcp; it counts from the next login.\n\
         erlmcp  -  nofile   {nofile}\n\
         erlmcp  -  memlock  8192\n"
    )
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
