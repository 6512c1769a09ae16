#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| erlmcp_protocol::http::fuzz_response(data));
