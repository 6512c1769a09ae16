#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| erlmcp_cluster::frame::fuzz_frame(data));
