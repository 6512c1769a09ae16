//! Files read as resources, on a thread that may block.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use erlmcp_protocol::mcp::{ResourceBody, RpcError, codes};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use crate::call::{Call, Step};
use crate::resource::resource_not_found;
use crate::step::contents;

/// Largest file served as a resource, in bytes: it travels whole, as one message.
pub const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Reads a file whose path the catalog fixed.
pub(crate) fn read(path: &Path, call: &Call, mime_type: Option<&str>) -> Step {
    // NONBLOCK: a FIFO in a regular file's place must not hold the thread.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    answer(rustix::fs::openat(CWD, path, flags, Mode::empty()), call, mime_type)
}

/// Reads a file below a folder whose path within it the client chose.
pub(crate) fn read_below(root: &Path, path: &str, call: &Call, mime_type: Option<&str>) -> Step {
    let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(CWD, root, folder, Mode::empty()).and_then(|folder| {
        // openat2(2): the kernel refuses `..`, absolute paths and links that leave the folder. Looking
        // first and opening later would leave a gap between the two.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(folder, path, flags, Mode::empty(), within)
    });
    answer(opened, call, mime_type)
}

fn answer(
    opened: rustix::io::Result<rustix::fd::OwnedFd>,
    call: &Call,
    mime_type: Option<&str>,
) -> Step {
    // What the peer hears does not tell "absent" from "forbidden": that would map our disk for it.
    let not_found = || Step::Error(resource_not_found(&call.name, call.version));
    let Ok(fd) = opened else { return not_found() };
    let file = File::from(fd);
    match file.metadata() {
        Ok(metadata) if !metadata.is_file() => return not_found(),
        Ok(metadata) if FILE_BYTES_MAX < metadata.len() => return too_large(),
        Ok(_) => {}
        Err(_) => return not_found(),
    }
    let mut bytes = Vec::new();
    // The file may grow while it is read; the limit holds all the same.
    match file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes) {
        Ok(count) if FILE_BYTES_MAX < count as u64 => return too_large(),
        Ok(_) => {}
        Err(_) => return Step::Error(RpcError::new(codes::INTERNAL_ERROR, "Internal error")),
    }
    let body = match String::from_utf8(bytes) {
        Ok(text) if mime_type.is_none_or(is_textual) => ResourceBody::Text(text),
        Ok(text) => ResourceBody::Blob(STANDARD.encode(text)),
        Err(err) => ResourceBody::Blob(STANDARD.encode(err.as_bytes())),
    };
    contents(&call.name, mime_type, body)
}

fn too_large() -> Step {
    Step::Error(RpcError::new(
        codes::INTERNAL_ERROR,
        format!("Resource is larger than {FILE_BYTES_MAX} bytes"),
    ))
}

/// Whether this type is best read as text.
fn is_textual(mime_type: &str) -> bool {
    let essence = mime_type.split(';').next().unwrap_or_default().trim();
    let (kind, subtype) = essence.split_once('/').unwrap_or_default();
    kind == "text"
        || matches!(subtype, "json" | "xml" | "toml" | "yaml" | "javascript" | "sql")
        || subtype.ends_with("+json")
        || subtype.ends_with("+xml")
}
