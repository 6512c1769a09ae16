//! Limits of this process.

use crate::demand::Demand;
use crate::finding::{Finding, Fix, Gap, Severity, Value};
use crate::root::{HostError, Root};

pub(super) fn memlock(host: &Root, _: &Demand) -> Result<Finding, HostError> {
    let actual = host.read_limit("Max locked memory")?.map(|(soft, _)| soft);
    Ok(Finding {
        id: "RLIMIT_MEMLOCK",
        required: Value::Bytes(MEMLOCK_BYTES_MIN),
        actual: actual.map(Value::Bytes),
        why: "the control plane's executor refuses to start with less.",
        gap: actual.is_some_and(|soft| soft < MEMLOCK_BYTES_MIN).then(|| Gap {
            severity: Severity::Fatal,
            fix: Fix::ByHand("in the unit: LimitMEMLOCK=8M; in a shell: ulimit -l 8192".into()),
        }),
    })
}

pub(super) fn nofile_soft(host: &Root, _: &Demand) -> Result<Finding, HostError> {
    let actual = host.read_limit("Max open files")?.map(|(soft, _)| soft);
    Ok(Finding {
        id: "RLIMIT_NOFILE soft",
        required: Value::Text("any".into()),
        actual: actual.map(Value::Count),
        why: "the server raises it to the hard limit when it starts.",
        gap: None,
    })
}

pub(super) fn nofile_hard(host: &Root, demand: &Demand) -> Result<Finding, HostError> {
    let required = demand.descriptors();
    let actual = host.read_limit("Max open files")?.map(|(_, hard)| hard);
    Ok(Finding {
        id: "RLIMIT_NOFILE hard",
        required: Value::Count(required),
        actual: actual.map(Value::Count),
        why: "rings, listeners, files and programs of the process; connections are not among them.",
        gap: actual
            .is_some_and(|hard| hard < required)
            .then(|| Gap { severity: Severity::Fatal, fix: Fix::ByHand(raise(demand)) }),
    })
}

pub(super) fn ring_descriptors(host: &Root, demand: &Demand) -> Result<Finding, HostError> {
    // The kernel checks the limit against each ring's table by itself, not in sum.
    let required = demand.descriptors_per_ring();
    let limit = host.read_limit("Max open files")?;
    let actual = limit.map(|(_, hard)| hard.min(RING_DESCRIPTORS_MAX));
    let short = actual.filter(|&actual| actual < required);
    Ok(Finding {
        id: "RLIMIT_NOFILE per ring",
        required: Value::Count(required),
        actual: actual.map(Value::Count),
        why: "each shard's ring holds at most this many connections.",
        gap: short.map(|actual| Gap {
            severity: Severity::Warning,
            fix: Fix::ByHand(match rings_factor(demand, actual) {
                factor @ ..=SHARDS_PER_CORE_MAX if required <= RING_DESCRIPTORS_MAX => {
                    format!("{}; or more rings: --shards-per-core {factor}", raise(demand))
                }
                factor @ ..=SHARDS_PER_CORE_MAX => {
                    format!("more rings: --shards-per-core {factor}")
                }
                _ => raise(demand),
            }),
        }),
    })
}

fn raise(demand: &Demand) -> String {
    let wanted = demand.descriptors_per_ring().max(demand.descriptors());
    format!("in the unit: LimitNOFILE={}", wanted.clamp(NOFILE_TARGET, RING_DESCRIPTORS_MAX))
}

/// By how much the rings must grow so that `each` descriptors per ring are enough.
fn rings_factor(demand: &Demand, each: u64) -> u64 {
    let spare = demand.descriptors_per_ring() - demand.connections_per_ring();
    let usable = each.saturating_sub(spare).max(1);
    demand.connections.div_ceil(usable).div_ceil(demand.rings.max(1)).max(1)
}

/// What the control plane's executor refuses to start below, bytes.
const MEMLOCK_BYTES_MIN: u64 = 512 * 1024;
/// The kernel's own bound on a ring's table (IORING_MAX_FIXED_FILES).
const RING_DESCRIPTORS_MAX: u64 = 1 << 20;
/// What the shipped unit asks for.
pub(crate) const NOFILE_TARGET: u64 = 1 << 20;
/// More rings than this per core are no advice.
const SHARDS_PER_CORE_MAX: u64 = 16;
