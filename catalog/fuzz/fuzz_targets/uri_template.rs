#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| erlmcp_catalog::fuzz_uri_template(data));
