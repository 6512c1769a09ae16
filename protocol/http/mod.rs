//! HTTP/1.1 (RFC 9110, 9112): heads, bodies, responses, and who may call.
//!
//! One request lies in one buffer of the caller, is parsed in place and borrowed from there;
//! nothing on this path allocates. [`RequestReader`] says when a request is whole, [`Head`] and
//! [`Field`] show it, [`Access`], [`accepts`] and [`is_json`] decide whether it may be served,
//! `write_*` append the answer.
//!
//! Strict on purpose: whatever two parsers could read differently (RFC 9112 §11.2, request
//! smuggling) is an [`HttpError`], and after an error the connection closes. Absent: compression,
//! multipart, HTTP/2.

mod accept;
mod access;
mod chunked;
mod date;
mod error;
mod field;
mod fuzz;
mod head;
mod limits;
mod parse;
mod reader;
mod response;
mod status;

pub use accept::{Accepts, accepts, fuzz_accept, is_json};
pub use access::{Access, Denied, fuzz_access};
pub(crate) use date::civil_from_days;
pub use date::http_date;
pub use error::HttpError;
pub use field::{Field, Method};
pub use fuzz::{fuzz_request, fuzz_response};
pub use head::{Fields, Head};
pub use limits::{FIELDS_MAX, HEAD_BYTES_MAX, Limits, MESSAGE_BYTES_MAX};
pub use reader::{Phase, Request, RequestReader};
pub use response::{
    CONTINUE, CORS_ALLOW_HEADERS, CORS_ALLOW_METHODS, ResponseHead, close_chunk, open_chunk,
    write_chunk, write_last_chunk, write_response, write_stream_head, write_upgrade,
};
pub use status::reason_phrase;

#[cfg(test)]
mod tests;
