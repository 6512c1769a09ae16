#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| erlmcp_protocol::mcp::params::fuzz_params(data));
