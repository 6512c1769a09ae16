//! Envelopes and JSON scalars as bytes. Compact, on one line: fit for a line, a text frame or an
//! SSE `data:`.

use super::scan::plain_len;
use crate::mcp::RpcError;

/// Writes a response. `id` is the request's raw token, echoed as it came.
pub fn write_result(out: &mut Vec<u8>, id: &str, result_json: &[u8]) {
    begin_result(out, id);
    out.extend_from_slice(result_json);
    end_result(out);
}

/// Writes a response up to where its result begins, for a result that is written in place.
pub fn begin_result(out: &mut Vec<u8>, id: &str) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    out.extend_from_slice(id.as_bytes());
    out.extend_from_slice(br#","result":"#);
}

/// Ends what [`begin_result`] began.
pub fn end_result(out: &mut Vec<u8>) {
    out.push(b'}');
}

/// Writes an error response. Without an id (it could not be read) the member is left out: the
/// schema has it optional, not nullable.
pub fn write_error(out: &mut Vec<u8>, id: Option<&str>, error: &RpcError) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","#);
    if let Some(id) = id {
        out.extend_from_slice(br#""id":"#);
        out.extend_from_slice(id.as_bytes());
        out.push(b',');
    }
    out.extend_from_slice(br#""error":"#);
    write_error_object(out, error);
    out.push(b'}');
}

/// The error object alone, as others embed it.
pub fn write_error_object(out: &mut Vec<u8>, error: &RpcError) {
    out.extend_from_slice(br#"{"code":"#);
    out.extend_from_slice(itoa::Buffer::new().format(error.code).as_bytes());
    out.extend_from_slice(br#","message":"#);
    write_json_str(out, &error.message);
    if let Some(data) = &error.data {
        out.extend_from_slice(br#","data":"#);
        write_value(out, data);
    }
    out.push(b'}');
}

/// Writes a notification; empty `params_json` leaves params out.
pub fn write_notification(out: &mut Vec<u8>, method: &str, params_json: &[u8]) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","#);
    write_method_and_params(out, method, params_json);
}

/// Writes a request of the server (legacy only); empty `params_json` leaves params out. `id` is a
/// raw token.
pub fn write_request(out: &mut Vec<u8>, id: &str, method: &str, params_json: &[u8]) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    out.extend_from_slice(id.as_bytes());
    out.push(b',');
    write_method_and_params(out, method, params_json);
}

fn write_method_and_params(out: &mut Vec<u8>, method: &str, params_json: &[u8]) {
    out.extend_from_slice(br#""method":"#);
    write_json_str(out, method);
    if !params_json.is_empty() {
        out.extend_from_slice(br#","params":"#);
        out.extend_from_slice(params_json);
    }
    out.push(b'}');
}

/// Writes `text` as a JSON string: runs that need no escape are copied whole.
pub fn write_json_str(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    out.reserve(rest.len() + 2);
    out.push(b'"');
    loop {
        let (plain, special) = rest.split_at(plain_len(rest));
        out.extend_from_slice(plain);
        let Some((byte, after)) = special.split_first() else { break };
        write_escape(out, *byte);
        rest = after;
    }
    out.push(b'"');
}

fn write_escape(out: &mut Vec<u8>, byte: u8) {
    let short = match byte {
        b'"' => b'"',
        b'\\' => b'\\',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0C => b'f',
        _ => {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// Writes a number; one that is whole has no fraction (`2`, not `2.0`). JSON has no NaN and no
/// infinity: 0.
pub fn write_f64(out: &mut Vec<u8>, number: f64) {
    const EXACT: f64 = (1u64 << 53) as f64;
    if number.fract() == 0.0 && number.abs() <= EXACT {
        out.extend_from_slice(itoa::Buffer::new().format(number as i64).as_bytes());
    } else if number.is_finite() {
        write_value(out, &serde_json::Value::from(number));
    } else {
        out.push(b'0');
    }
}

/// Writes any JSON value.
pub fn write_value(out: &mut Vec<u8>, value: &serde_json::Value) {
    match value {
        serde_json::Value::String(text) => write_json_str(out, text),
        other => {
            // Writing to memory cannot fail and a `Value` has only string keys.
            let written = serde_json::to_writer(&mut *out, other);
            debug_assert!(written.is_ok(), "a JSON value is always writable");
        }
    }
}
