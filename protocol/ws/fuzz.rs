//! What the fuzz targets call; see `protocol/fuzz/fuzz_targets/ws_*.rs`.
#[doc(hidden)]
pub fn fuzz_read(_data: &[u8]) {}
#[doc(hidden)]
pub fn fuzz_handshake(_data: &[u8]) {}
#[doc(hidden)]
pub fn fuzz_utf8(_data: &[u8]) {}
