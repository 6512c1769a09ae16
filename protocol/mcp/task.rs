//! Tasks as they travel (extension `io.modelcontextprotocol/tasks`, digest c.15): a call that goes
//! on after its answer, asked for by its id.

use super::{InputRequest, Object, Version, write_input_requests, write_json_str, write_u64};
use crate::http::civil_from_days;

/// Where a task stands. The last three are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskStatus {
    /// Going on.
    Working,
    /// Waits for `tasks/update`.
    InputRequired,
    /// Has a result, be it one that says `isError`.
    Completed,
    /// Ended with a JSON-RPC error.
    Failed,
    /// Ended by `tasks/cancel`.
    Cancelled,
}

impl TaskStatus {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            TaskStatus::Working => "working",
            TaskStatus::InputRequired => "input_required",
            TaskStatus::Completed => "completed",
            TaskStatus::Failed => "failed",
            TaskStatus::Cancelled => "cancelled",
        }
    }
}

/// What a client is told of a task in every state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskHead<'t> {
    /// Its id.
    pub id: &'t str,
    /// Where it stands.
    pub status: TaskStatus,
    /// What it is doing, for people.
    pub message: Option<&'t str>,
    /// When it was made, milliseconds since 1970.
    pub created_unix_ms: u64,
    /// When it changed last.
    pub updated_unix_ms: u64,
    /// How long it is kept, from its creation.
    pub ttl_ms: u64,
    /// How long to wait between two looks.
    pub poll_interval_ms: u64,
}

/// What goes with the status.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TaskDetail<'t> {
    /// Nothing: working, cancelled.
    None,
    /// All open questions, under the keys that `tasks/update` must use.
    Requests(&'t [InputRequest]),
    /// JSON of the result the call would have answered.
    Result(&'t [u8]),
    /// JSON of the error the call would have answered.
    Error(&'t [u8]),
}

/// What `tools/call` answers when it became a task: flat, and never with what belongs to `tasks/get`.
pub fn write_created_task(out: &mut Vec<u8>, task: &TaskHead<'_>, server_info: Option<&[u8]>) {
    let mut object = Object::begin(out);
    object.key("resultType").extend_from_slice(br#""task""#);
    write_head(&mut object, task);
    object.end(Version::V2026_07_28, server_info);
}

/// What `tasks/get` answers. `members` is what [`write_task_members`] wrote.
pub fn write_task_result(out: &mut Vec<u8>, members: &[u8], server_info: Option<&[u8]>) {
    let mut object = Object::complete(out, Version::V2026_07_28);
    object.members(members);
    object.end(Version::V2026_07_28, server_info);
}

/// The members of a DetailedTask, without the braces: written once, read by every `tasks/get` and
/// every subscriber's `notifications/tasks`.
pub fn write_task_members(out: &mut Vec<u8>, task: &TaskHead<'_>, detail: TaskDetail<'_>) {
    let mut object = Object::bare(out);
    write_head(&mut object, task);
    match detail {
        TaskDetail::None => {}
        TaskDetail::Requests(requests) => {
            write_input_requests(object.key("inputRequests"), requests);
        }
        TaskDetail::Result(json) => object.key("result").extend_from_slice(json),
        TaskDetail::Error(json) => object.key("error").extend_from_slice(json),
    }
}

fn write_head(object: &mut Object<'_>, task: &TaskHead<'_>) {
    write_json_str(object.key("taskId"), task.id);
    write_json_str(object.key("status"), task.status.as_str());
    if let Some(message) = task.message {
        write_json_str(object.key("statusMessage"), message);
    }
    write_timestamp(object.key("createdAt"), task.created_unix_ms);
    write_timestamp(object.key("lastUpdatedAt"), task.updated_unix_ms);
    write_u64(object.key("ttlMs"), task.ttl_ms);
    write_u64(object.key("pollIntervalMs"), task.poll_interval_ms);
}

/// `"2026-11-20T09:00:00.000Z"` (ISO 8601) for milliseconds since 1970. Years beyond 9999 stay at
/// the last moment of 9999.
fn write_timestamp(out: &mut Vec<u8>, unix_ms: u64) {
    const LAST_MS: u64 = 253_402_300_799_999;
    let unix_ms = unix_ms.min(LAST_MS);
    let (seconds, ms) = (unix_ms / 1000, unix_ms % 1000);
    let (year, month, day) = civil_from_days(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let text =
        format!("\"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z\"");
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::write_timestamp;

    #[track_caller]
    fn check(unix_ms: u64, expect: &str) {
        let mut out = Vec::new();
        write_timestamp(&mut out, unix_ms);
        assert_eq!(String::from_utf8_lossy(&out), format!("\"{expect}\""));
    }

    #[test]
    fn timestamps_are_iso_8601() {
        check(0, "1970-01-01T00:00:00.000Z");
        check(951_868_799_999, "2000-02-29T23:59:59.999Z");
        check(951_868_800_000, "2000-03-01T00:00:00.000Z");
        check(1_795_165_200_007, "2026-11-20T09:00:00.007Z");
        check(253_402_300_799_999, "9999-12-31T23:59:59.999Z");
        check(u64::MAX, "9999-12-31T23:59:59.999Z");
    }
}
