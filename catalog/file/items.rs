//! The sections of a catalog file, each made into what a Rust author would have built.
//!
//! `None` means that at least one fault was noted.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use erlmcp_protocol::mcp::Role;

use super::table::Table;
use crate::arguments::{Piece, placeholders};
use crate::error::CatalogError;
use crate::exec::{Exec, Output};
use crate::prompt::{Prompt, ServedPrompt};
use crate::resource::{Resource, ResourceTemplate, ServedResource, ServedTemplate};
use crate::tool::{ServedTool, TaskSupport, Tool};
use crate::wire::Annotations;

/// Longest a program may run, in milliseconds: an hour.
const TIMEOUT_MS_MAX: u64 = 3_600_000;
/// Longest a task may be kept, and longest a client may be told to wait, in milliseconds: a day.
const TASK_HINT_MS_MAX: u64 = 86_400_000;
/// Most a program may write, in bytes; it travels whole, as one message.
const OUTPUT_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Most calls of one tool at once.
const CONCURRENCY_MAX: u64 = 10_000;

/// `[[tool]]`
pub(super) fn tool(table: &Table<'_>, folder: &Path) -> Option<ServedTool> {
    table.only(&[
        "name",
        "title",
        "description",
        "exec",
        "folder",
        "env",
        "env_inherit",
        "input_schema",
        "output_schema",
        "output",
        "timeout_ms",
        "output_bytes_max",
        "concurrency_max",
        "task",
        "annotations",
    ]);
    let name = table.required_text("name");
    let program = program(table, folder);
    let mut tool = Tool::new(name.as_deref().unwrap_or("unnamed"));
    if let Some(title) = table.text("title") {
        tool = tool.title(title);
    }
    if let Some(description) = table.text("description") {
        tool = tool.description(description);
    }
    if let Some(schema) = table.json_object("input_schema") {
        tool = tool.input_schema(schema);
    }
    if let Some(schema) = table.json_object("output_schema") {
        tool = tool.output_schema(schema);
    }
    if let Some(calls) = table.number("concurrency_max", 1..=CONCURRENCY_MAX) {
        tool = tool.concurrency_max(u32::try_from(calls).unwrap_or(u32::MAX));
    }
    if let Some(hints) = table.table("task") {
        tool = task(&hints, tool);
    }
    if let Some(hints) = table.table("annotations") {
        hints.only(&["read_only", "destructive", "idempotent", "open_world"]);
        tool = tool.annotations(Annotations {
            read_only: hints.flag("read_only"),
            destructive: hints.flag("destructive"),
            idempotent: hints.flag("idempotent"),
            open_world: hints.flag("open_world"),
        });
    }
    served(table, name.and(program).map(|program| tool.exec(program).finish()))
}

fn task(table: &Table<'_>, tool: Tool) -> Tool {
    table.only(&["support", "ttl_ms", "poll_interval_ms"]);
    let support = match table.required_text("support").as_deref() {
        Some("optional") => Some(TaskSupport::Optional),
        Some("required") => Some(TaskSupport::Required),
        Some(_) => {
            table.fault("support", "must be \"optional\" or \"required\"");
            None
        }
        None => None,
    };
    let mut tool = tool.task(support.unwrap_or(TaskSupport::Optional));
    if let Some(ms) = table.number("ttl_ms", 1..=TASK_HINT_MS_MAX) {
        tool = tool.task_ttl(Duration::from_millis(ms));
    }
    if let Some(ms) = table.number("poll_interval_ms", 1..=TASK_HINT_MS_MAX) {
        tool = tool.poll_interval(Duration::from_millis(ms));
    }
    tool
}

fn program(table: &Table<'_>, folder: &Path) -> Option<Exec> {
    if !table.has("exec") {
        table.fault("exec", "is missing");
    }
    let mut argv = table.texts("exec");
    if let Some(program) = argv.as_mut().and_then(|argv| argv.first_mut())
        && program.contains('/')
    {
        // Like a shell, we look for a bare name in PATH and take anything else as a path.
        let path = absolute(folder, program);
        if !path.is_file() {
            table.fault("exec", format!("there is no program {}", path.display()));
        }
        *program = path.to_string_lossy().into_owned();
    }
    let mut exec = Exec::new(argv.clone().unwrap_or_default());
    let runs_in = table.text("folder").map_or_else(
        || absolute(folder, "."),
        |name| {
            let path = absolute(folder, &name);
            if !path.is_dir() {
                table.fault("folder", format!("there is no folder {}", path.display()));
            }
            path
        },
    );
    exec = exec.folder(runs_in);
    for (name, value) in table.text_map("env") {
        exec = exec.env(name, value);
    }
    for name in table.texts("env_inherit").unwrap_or_default() {
        exec = exec.env_inherit(name);
    }
    if let Some(output) = table.word("output", &[("text", Output::Text), ("json", Output::Json)]) {
        exec = exec.output(output);
    }
    if let Some(timeout_ms) = table.number("timeout_ms", 1..=TIMEOUT_MS_MAX) {
        exec = exec.timeout(Duration::from_millis(timeout_ms));
    }
    if let Some(bytes) = table.number("output_bytes_max", 1..=OUTPUT_BYTES_MAX) {
        exec = exec.output_bytes_max(usize::try_from(bytes).unwrap_or(usize::MAX));
    }
    argv.map(|_| exec)
}

/// `[[resource]]`
pub(super) fn resource(table: &Table<'_>, folder: &Path) -> Option<ServedResource> {
    const BODIES: [&str; 3] = ["text", "blob_base64", "file"];
    table.only(&[
        "uri",
        "name",
        "title",
        "description",
        "mime_type",
        "ttl_ms",
        "text",
        "blob_base64",
        "file",
    ]);
    let (uri, name) = (table.required_text("uri"), table.required_text("name"));
    if !one_of(table, &BODIES) {
        return None;
    }
    let text = table.text("text");
    let blob = table.text("blob_base64").and_then(|blob| match STANDARD.decode(blob) {
        Ok(bytes) => Some(bytes),
        Err(err) => {
            table.fault("blob_base64", format!("is not Base64: {err}"));
            None
        }
    });
    let file = table.text("file").map(|name| absolute(folder, &name));
    if let Some(path) = file.as_ref().filter(|path| !path.is_file()) {
        table.fault("file", format!("there is no file {}", path.display()));
    }
    let (uri, name) = (uri?, name?);
    let mut resource = match (text, blob, file) {
        (Some(text), None, None) => Resource::text(uri, name, text),
        (None, Some(bytes), None) => Resource::blob(uri, name, "application/octet-stream", bytes),
        (None, None, Some(path)) => Resource::file(uri, name, path),
        _ => return None,
    };
    if let Some(title) = table.text("title") {
        resource = resource.title(title);
    }
    if let Some(description) = table.text("description") {
        resource = resource.description(description);
    }
    if let Some(mime_type) = table.text("mime_type") {
        resource = resource.mime_type(mime_type);
    }
    if let Some(ttl_ms) = table.number("ttl_ms", 0..=u64::from(u32::MAX)) {
        resource = resource.ttl_ms(u32::try_from(ttl_ms).unwrap_or(u32::MAX));
    }
    served(table, Some(resource.finish()))
}

/// `[[template]]`
pub(super) fn template(table: &Table<'_>, folder: &Path) -> Option<ServedTemplate> {
    table.only(&[
        "uri_template",
        "name",
        "title",
        "description",
        "mime_type",
        "ttl_ms",
        "text",
        "folder",
    ]);
    let (uri, name) = (table.required_text("uri_template"), table.required_text("name"));
    if !one_of(table, &["text", "folder"]) {
        return None;
    }
    let (uri, name) = (uri?, name?);
    let mut template = ResourceTemplate::new(uri.clone(), name);
    if let Some(text) = table.text("text") {
        for piece in placeholders(&text) {
            if let Piece::Name(name) = piece
                && !uri.contains(&format!("{{{name}}}"))
                && !uri.contains(&format!("{{+{name}}}"))
            {
                table.fault("text", format!("uses `{{{{{name}}}}}`, which is no variable"));
            }
        }
        template = template.handler(move |variables: &crate::Arguments, _: &mut crate::Call| {
            variables.fill(&text)
        });
    }
    if let Some(name) = table.text("folder") {
        let path = absolute(folder, &name);
        if !path.is_dir() {
            table.fault("folder", format!("there is no folder {}", path.display()));
        }
        template = template.directory(path);
    }
    if let Some(title) = table.text("title") {
        template = template.title(title);
    }
    if let Some(description) = table.text("description") {
        template = template.description(description);
    }
    if let Some(mime_type) = table.text("mime_type") {
        template = template.mime_type(mime_type);
    }
    if let Some(ttl_ms) = table.number("ttl_ms", 0..=u64::from(u32::MAX)) {
        template = template.ttl_ms(u32::try_from(ttl_ms).unwrap_or(u32::MAX));
    }
    served(table, Some(template.finish()))
}

/// `[[prompt]]`, with `[[prompt.argument]]` and `[[prompt.message]]`
pub(super) fn prompt(table: &Table<'_>) -> Option<ServedPrompt> {
    table.only(&["name", "title", "description", "argument", "message"]);
    let name = table.required_text("name");
    let mut prompt = Prompt::new(name.as_deref().unwrap_or("unnamed"));
    if let Some(title) = table.text("title") {
        prompt = prompt.title(title);
    }
    if let Some(description) = table.text("description") {
        prompt = prompt.description(description);
    }
    for argument in table.tables("argument") {
        argument.only(&["name", "description", "required", "values"]);
        let Some(name) = argument.required_text("name") else { continue };
        let required = argument.flag("required").unwrap_or(false);
        let description = argument.text("description").unwrap_or_default();
        if let Some(values) = argument.texts("values") {
            prompt = prompt.complete(&name, move |prefix| {
                values.iter().filter(|value| value.starts_with(prefix)).cloned().collect()
            });
        }
        prompt = prompt.argument(name, required, description);
    }
    let mut messages = Vec::new();
    for message in table.tables("message") {
        message.only(&["role", "text"]);
        let roles = [("user", Role::User), ("assistant", Role::Assistant)];
        let role =
            if message.has("role") { message.word("role", &roles) } else { Some(Role::User) };
        let text = message.required_text("text");
        if let (Some(role), Some(text)) = (role, text) {
            messages.push((role, text));
        }
    }
    if !table.has("message") {
        table.fault("message", "is missing: a prompt needs at least one [[prompt.message]]");
        return None;
    }
    served(table, name.map(|_| prompt.template_messages(messages).finish()))
}

/// Exactly one of these keys must be there.
fn one_of(table: &Table<'_>, keys: &[&str]) -> bool {
    let given: Vec<&str> = keys.iter().copied().filter(|key| table.has(key)).collect();
    match given[..] {
        [_] => true,
        [] => {
            table.fault_whole(format!("needs one of {}", keys.join(", ")));
            false
        }
        [_, second, ..] => {
            table.fault(second, format!("only one of {} can be given", keys.join(", ")));
            false
        }
    }
}

/// The finished item, or a fault of the table it was read from.
fn served<T>(table: &Table<'_>, item: Option<Result<T, CatalogError>>) -> Option<T> {
    match item? {
        Ok(item) => Some(item),
        Err(CatalogError::Item { item, reason }) => {
            table.fault_whole(format!("{item}: {reason}"));
            None
        }
        Err(err) => {
            table.fault_whole(err.to_string());
            None
        }
    }
}

/// A path as the file means it: relative to its own folder.
fn absolute(folder: &Path, path: &str) -> PathBuf {
    let joined = folder.join(path);
    std::path::absolute(&joined).unwrap_or(joined)
}
