#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| erlmcp_cluster::replicas::fuzz_replicas(data));
