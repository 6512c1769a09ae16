#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| erlmcp_protocol::lines::fuzz_lines(data));
