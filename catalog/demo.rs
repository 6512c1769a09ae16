//! The catalog served unless another is named, so that the first command works; also a tour of the API.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use erlmcp_protocol::mcp::{Content, ToolResult};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Number, Value, json};

use crate::{
    Annotations, Arguments, Call, Catalog, CatalogError, Change, IntoStep, Prompt, Resource,
    ResourceTemplate, Step, Tool, failed, text,
};

/// Longest `wait`, in milliseconds.
const WAIT_MS_MAX: u32 = 600_000;
/// How often `wait` reports progress in all.
const WAIT_STEPS: u32 = 10;

/// A small catalog that shows each kind of item.
pub fn demo() -> Result<Catalog, CatalogError> {
    Catalog::builder()
        .name("erlmcp-shard demo")
        .instructions("A demonstration: try add, echo, wait, and the resources under demo://")
        .tool(
            Tool::new("echo")
                .title("Echo")
                .description("Answers with the text it is given")
                .annotations(Annotations::read_only())
                .handler(|args: Echo, _: &mut Call| text(args.text)),
        )
        .tool(
            Tool::new("add")
                .title("Add")
                .description("Adds two numbers")
                .output_schema(json!({
                    "type": "object",
                    "properties": { "sum": { "type": "number" } },
                    "required": ["sum"],
                }))
                .annotations(Annotations::read_only())
                .handler(|args: Add, _: &mut Call| add(args.a + args.b)),
        )
        .tool(
            Tool::new("wait")
                .title("Wait")
                .description("Answers after some milliseconds, reporting progress at each tenth")
                .annotations(Annotations::read_only())
                .future(|args: Wait, call| wait(args.ms, call)),
        )
        .tool(
            Tool::new("publish")
                .title("Publish")
                .description("Tells every subscriber that the resource with this URI has changed")
                .handler(|args: Publish, call: &mut Call| {
                    let answer = text(format!("Published {}", args.uri));
                    call.publish(Change::Resource(args.uri));
                    answer
                }),
        )
        .resource(
            Resource::text("demo://greeting", "greeting", "Hello from erlmcp-shard")
                .description("A fixed text"),
        )
        .resource(
            Resource::handler("demo://clock", "clock", |_: &mut Call| now_text())
                .mime_type("text/plain")
                .description("The server's time, in UTC"),
        )
        .template(
            ResourceTemplate::new("demo://echo/{text}", "echo")
                .mime_type("text/plain")
                .description("The text in its own URI")
                .handler(|variables: &Arguments, _: &mut Call| variables["text"].to_owned()),
        )
        .prompt(
            Prompt::new("greet")
                .description("Asks the model to greet someone")
                .argument("name", true, "Whom to greet")
                .complete("name", |prefix| {
                    let names = ["Ada", "Alan", "Grace", "Joe", "Robert"];
                    let fitting = names.into_iter().filter(|name| name.starts_with(prefix));
                    fitting.map(str::to_owned).collect()
                })
                .handler(|args: &Arguments, _: &mut Call| {
                    format!("Please greet {} warmly, in one sentence.", &args["name"])
                }),
        )
        .build()
}

/// Arguments of `echo`.
#[derive(Deserialize, JsonSchema)]
struct Echo {
    /// What to answer with
    text: String,
}

/// Arguments of `add`.
#[derive(Deserialize, JsonSchema)]
struct Add {
    /// First number
    a: f64,
    /// Second number
    b: f64,
}

/// Arguments of `wait`.
#[derive(Deserialize, JsonSchema)]
struct Wait {
    /// How long, in milliseconds
    #[schemars(range(max = WAIT_MS_MAX))]
    ms: u32,
}

/// Arguments of `publish`.
#[derive(Deserialize, JsonSchema)]
struct Publish {
    /// Which resource
    uri: String,
}

fn add(sum: f64) -> Step {
    let Some(number) = number(sum) else { return failed("The sum is too large").into_step() };
    let content = vec![Content::Text(number.to_string())];
    let structured = Some(Value::Object(Map::from_iter([("sum".to_owned(), number.into())])));
    ToolResult { content, structured, is_error: false }.into_step()
}

/// A whole number without a decimal point, as far as doubles are exact.
fn number(value: f64) -> Option<Number> {
    const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53
    if value.fract() == 0.0 && value.abs() <= EXACT {
        return Some(Number::from(value as i64));
    }
    Number::from_f64(value)
}

async fn wait(ms: u32, mut call: Call) -> Step {
    let runner = call.runner().clone();
    let mut waited_ms = 0;
    for tenth in 1..=WAIT_STEPS {
        // Rounded so that the steps add up to exactly `ms`.
        let until_ms = u64::from(ms) * u64::from(tenth) / u64::from(WAIT_STEPS);
        runner.sleep(Duration::from_millis(until_ms - waited_ms)).await;
        waited_ms = until_ms;
        if call.is_cancelled() {
            return failed("Cancelled").into_step();
        }
        call.progress(f64::from(tenth), Some(f64::from(WAIT_STEPS)), None);
    }
    text(format!("Waited {ms} ms")).into_step()
}

fn now_text() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    rfc3339(since.as_secs())
}

/// Seconds since 1970 as `2026-07-28T12:34:56Z`.
fn rfc3339(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days to civil date (H. Hinnant): years begin in March, so that the leap day comes last.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn seconds_become_dates_around_leap_days_and_year_ends() {
        for (seconds, expect) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds), expect);
        }
    }
}
