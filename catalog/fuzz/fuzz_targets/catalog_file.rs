#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| erlmcp_catalog::file::fuzz_catalog_file(data));
