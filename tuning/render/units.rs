//! The systemd units.

use crate::checks::NOFILE_TARGET;
use crate::demand::Demand;

/// LimitNOFILE: of each ring, so it grows with the demand only beyond a million on one ring.
pub(crate) fn nofile(demand: &Demand) -> u64 {
    demand.descriptors().max(NOFILE_TARGET)
}

/// One server on this host.
pub fn service(demand: &Demand) -> String {
    unit(
        demand,
        "erlmcp-shard.service: one MCP server on this host, a shard on each core.\n\
         # Configuration: /etc/erlmcp-shard/config.toml (an empty file is a start).",
        "MCP server (erlmcp-shard)",
        "config",
    )
}

/// Several servers on this host, each on its own cores and ports.
pub fn instance(demand: &Demand) -> String {
    unit(
        demand,
        "erlmcp-shard@.service: several MCP servers on this host, each on cores of its own.\n\
         # Configuration of erlmcp-shard@blue: /etc/erlmcp-shard/blue.toml, with ports of its own. Its cores, and\n\
         # its memory where there are several NUMA nodes (systemctl edit erlmcp-shard@blue):\n\
         #   [Service]\n\
         #   CPUAffinity=0-7\n\
         #   NUMAPolicy=bind\n\
         #   NUMAMask=0",
        "MCP server (erlmcp-shard), %i",
        "%i",
    )
}

fn unit(demand: &Demand, header: &str, description: &str, config: &str) -> String {
    let nofile = nofile(demand);
    format!(
        r#"# {header}
# Made by `erlmcp-shard tune render systemd`. Change it with `systemctl edit`, not here.

[Unit]
Description={description}
Documentation=man:systemd.exec(5) https://modelcontextprotocol.io
Wants=network-online.target
After=network-online.target
# A server that dies at once does so again: five times in a minute, then it stays down and says so.
StartLimitIntervalSec=60
StartLimitBurst=5

[Service]
Type=notify
NotifyAccess=main
# Flags for this host, if any: ERLMCP_FLAGS=--shards-per-core 2
Environment=ERLMCP_FLAGS=
EnvironmentFile=-/etc/erlmcp-shard/{config}.env
ExecStart=/usr/local/bin/erlmcp-shard --config /etc/erlmcp-shard/{config}.toml $ERLMCP_FLAGS
# Reads the catalog file anew; clients stay and are told what changed.
ExecReload=kill -HUP $MAINPID

# It says it is alive only while every shard answers. After the abort it gets five seconds to die.
WatchdogSec=10
TimeoutAbortSec=5
TimeoutStartSec=30
# SIGTERM drains: calls in flight finish. A longer drain_ms, and drain_notice_ms, extend this time by themselves.
KillSignal=SIGTERM
KillMode=mixed
TimeoutStopSec=30
Restart=on-failure
RestartSec=1
# 2: the configuration is wrong, and trying again will not make it right.
RestartPreventExitStatus=2
# 128 + signal: told twice to leave, it left at once.
SuccessExitStatus=130 143

# Each ring has a descriptor table of its own, bounded by this.
LimitNOFILE={nofile}
# For the control plane's executor; 512 KiB is the least.
LimitMEMLOCK=8M

# From here on: what it may not do. It reads its configuration and catalog, and talks over sockets.
DynamicUser=yes
UMask=0077
CapabilityBoundingSet=
AmbientCapabilities=
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
DevicePolicy=closed
PrivateUsers=yes
PrivateIPC=yes
RemoveIPC=yes
ProtectHostname=yes
ProtectClock=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectProc=invisible
KeyringMode=private
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
# io_uring is in @aio, which is in @system-service. What goes through a ring passes no filter, so the filter is
# no sandbox for the server itself; the lines above are. Of @resources it needs pinning and its own limits.
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallFilter=io_uring_setup io_uring_enter io_uring_register sched_setaffinity prlimit64
SystemCallErrorNumber=EPERM
# Deliberately absent: IPAddressDeny= (a program per packet, on the path of every message) and ProcSubset=pid (the
# boot could not say which limit of the host is too low).

[Install]
WantedBy=multi-user.target
"#
    )
}
