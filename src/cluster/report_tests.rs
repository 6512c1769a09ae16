//! What travels is what was said.

use erlmcp_shards::mesh::MeshStats;
use erlmcp_shards::stats::Counters;

use super::*;

fn shard(number: u16, latencies: &[u64]) -> ShardSnapshot {
    let mut counters = Counters { connections_active: [3, 2, 1, 0], ..Counters::default() };
    counters.sessions_active = 4;
    counters.sync_lag_ms = u64::from(number) * 10;
    counters.copies_active = 7;
    counters.sessions_copied = [5, 2, 1];
    counters.sync_repeats = 6;
    for (index, latency) in latencies.iter().enumerate() {
        counters.latency(["ping", "tools/call"][index % 2], *latency);
    }
    let mut mesh = MeshStats { links_out: 2, queue_bytes: 5, ..MeshStats::default() };
    mesh.dropped.insert("sync", 3);
    mesh.dropped.insert("no_link", 1);
    mesh.refused.insert("secret", 2);
    mesh.refused_by_peers = 1;
    ShardSnapshot {
        shard: number,
        core: Some(9),
        capacity: 100,
        counters,
        mesh: Some(mesh),
        ring: Vec::new(),
    }
}

fn report(shards: &[ShardSnapshot]) -> Report {
    Report::of(shards, &Rates::default(), 2, Duration::from_secs(61), true, 77)
}

#[test]
fn a_report_survives_its_journey() {
    let latencies: Vec<u64> = (0..5_000).map(|number| number * number / 7).collect();
    let sent = report(&[shard(0, &latencies), shard(1, &[5])]);
    let got = Report::read(&sent.write().unwrap()).unwrap();
    assert_eq!(got, sent);
    assert_eq!((got.epoch, got.uptime_s, got.draining, got.shards.len()), (77, 61, true, 2));
    let sync = got.sync;
    assert_eq!((sync.links_out, sync.queue_bytes, sync.refused), (4, 10, 6));
    assert_eq!((sync.drops, sync.unlinked), (6, 2));
    assert_eq!((sync.copies, sync.lag_ms), (14, 10));
    assert_eq!((sync.short, sync.uncopied, sync.repeats), (6, 2, 12));
}

#[test]
fn percentiles_are_the_same_on_the_other_side() {
    for seed in 1..50_u64 {
        let latencies: Vec<u64> =
            (1..400).map(|number| (number * seed * 7_919) % 1_000_003 * (seed % 5)).collect();
        let here = shard(0, &latencies);
        let all = merge_latency(here.counters.latency_us.values());
        let there = Report::read(&report(&[here]).write().unwrap()).unwrap().latency();
        assert_eq!(there.len(), all.len());
        for quantile in [0.0, 0.5, 0.95, 0.99, 1.0] {
            assert_eq!(
                there.value_at_quantile(quantile),
                all.value_at_quantile(quantile),
                "seed {seed}, quantile {quantile}"
            );
        }
    }
}

#[test]
fn a_busy_shard_is_told_in_a_few_kilobytes() {
    // Every bucket from 1 µs to an hour is used.
    let latencies: Vec<u64> = (0..3_200).map(|step| 1.01_f64.powi(step / 2 + 100) as u64).collect();
    let shards: Vec<ShardSnapshot> = (0..8).map(|number| shard(number, &latencies)).collect();
    let bytes = report(&shards).write().unwrap().len();
    assert!(bytes < 8 * 1024, "{bytes}");
}

#[test]
fn the_largest_node_fits_and_nothing_larger_is_read() {
    let shards: Vec<ShardSnapshot> = (0..256).map(|number| shard(number, &[1, 2])).collect();
    let bytes = report(&shards).write().unwrap();
    assert!(bytes.len() <= REPORT_BYTES_MAX);
    assert!(Report::read(&vec![FORMAT; REPORT_BYTES_MAX + 1]).is_none());
}

#[test]
fn what_is_no_report_of_this_format_is_none() {
    let bytes = report(&[shard(0, &[1])]).write().unwrap();
    for cut in 0..bytes.len() {
        assert!(Report::read(&bytes[..cut]).is_none(), "cut at {cut}");
    }
    let mut longer = bytes.to_vec();
    longer.push(0);
    assert!(Report::read(&longer).is_none());
    let mut newer = bytes.to_vec();
    newer[0] = FORMAT + 1;
    assert!(Report::read(&newer).is_none());
}

#[test]
fn no_numbers_of_a_liar_overflow() {
    let lie = [(u64::MAX, u64::MAX), (u64::MAX, u64::MAX), (0, 1)];
    let mut histogram = unpack(&lie);
    histogram.add(unpack(&lie)).unwrap();
    assert!(!histogram.is_empty());
    assert!(histogram.max() <= 3_600_000_000 * 2, "{}", histogram.max());
}
