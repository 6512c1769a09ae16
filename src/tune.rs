//! `tune check`, `tune apply`, `tune render`: the host, at a terminal.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use erlmcp_shards::io::probe;
use erlmcp_tuning::{Demand, Report, Root, apply, check_all, render, render_changes, render_table};

use crate::cli::{TuneApplyArgs, TuneArgs, TuneCheckArgs, TuneCommand, TuneRenderArgs};
use crate::cores::online_cores;

/// Runs the command and prints. `Ok(false)`: the host is not fit, or could not be made so.
pub fn run(args: &TuneArgs) -> Result<bool, String> {
    match &args.command {
        TuneCommand::Check(args) => check(args),
        TuneCommand::Apply(args) => make_fit(args),
        TuneCommand::Render(args) => write_files(args),
    }
}

fn check(args: &TuneCheckArgs) -> Result<bool, String> {
    let report = look(&Root::at(&args.root), demand(args.connections, args.shards));
    if args.json {
        let text = serde_json::to_string_pretty(&report).map_err(|err| err.to_string())?;
        println!("{text}");
    } else {
        print!("{}", render_table(&report));
    }
    Ok(report.is_fit())
}

/// Check, apply, check again.
fn make_fit(args: &TuneApplyArgs) -> Result<bool, String> {
    let host = Root::at(&args.root);
    let before = look(&host, demand(args.connections, args.shards));
    let changes = apply(&host, &before);
    if changes.is_empty() {
        println!("Nothing to change.");
    } else {
        print!("{}", render_changes(&changes));
    }
    if changes.iter().any(|change| change.outcome.is_ok()) {
        println!(
            "This lasts until the next boot. To keep the kernel parameters: erlmcp-shard tune render sysctl \
             --output /etc/sysctl.d"
        );
    }
    let after = look(&host, before.demand);
    let mut left = String::new();
    for gap in after.gaps() {
        let _ = writeln!(left, "{}: {gap}", gap.state());
    }
    for err in &after.errors {
        let _ = writeln!(left, "{err}");
    }
    if !left.is_empty() {
        print!("\nLeft:\n{left}");
    }
    Ok(after.is_fit() && changes.iter().all(|change| change.outcome.is_ok()))
}

fn write_files(args: &TuneRenderArgs) -> Result<bool, String> {
    // Not of this host: what is rendered here may be installed elsewhere.
    let demand = Demand { connections: args.connections, ..Demand::default() };
    let files = render(args.kind, &demand);
    for (index, file) in files.iter().enumerate() {
        let Some(folder) = &args.output else {
            // As `systemctl cat` prints several: each behind its path.
            let gap = if index == 0 { "" } else { "\n" };
            print!("{gap}# {}/{}\n{}", args.kind.folder(), file.name, file.text);
            continue;
        };
        let path = Path::new(folder).join(file.name);
        fs::write(&path, &file.text)
            .map_err(|err| format!("cannot write {}: {err}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(true)
}

/// Everything there is to know; of a folder only what is written in it.
fn look(host: &Root, demand: Demand) -> Report {
    let mut report = check_all(host, demand);
    if host.is_host() {
        report.add_ring_probe(probe::probe().map(drop).map_err(|missing| missing.to_string()));
    }
    report
}

fn demand(connections: u64, shards: Option<u64>) -> Demand {
    let rings = shards.unwrap_or_else(|| online_cores().len().max(1) as u64);
    Demand { connections, rings, ..Demand::default() }
}
