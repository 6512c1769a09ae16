//! `report.html` of one run, from the raw files in its folder and from nothing else.
//!
//! Read → figures and plots → one page. Nothing here measures; nothing is taken over that a raw
//! file does not tell. What the files must hold stands in the README of this room.

mod bars;
mod chart;
mod compare;
mod csv;
mod figures;
mod latencies;
mod page;
mod plots;
mod raw;
mod scale;
mod summary;
mod unit;

#[cfg(test)]
mod browser_tests;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::Path;

use crate::cli::ReportArgs;
use raw::Raw;

/// What the report is called.
const FILE: &str = "report.html";

/// (Re)creates the report of each folder.
pub fn run(args: &ReportArgs) -> Result<(), String> {
    if args.folders.is_empty() {
        return Err("name the folders of the runs".to_owned());
    }
    args.folders.iter().try_for_each(|folder| {
        write(folder)?;
        println!("{}", folder.join(FILE).display());
        Ok(())
    })
}

/// The most that a server process took in a run.
#[derive(Debug, Clone, Copy)]
pub struct Most {
    /// 100 is one core.
    pub cpu_percent: Option<f64>,
    /// Resident memory.
    pub rss_bytes: Option<f64>,
}

/// Of each server process of a run; of all together where they were not told apart.
pub fn servers(folder: &Path) -> Result<Vec<Most>, String> {
    let raw = Raw::read(folder)?;
    let Some(resources) = &raw.resources else { return Ok(Vec::new()) };
    let highest = |column: &csv::Column| column.iter().copied().flatten().reduce(f64::max);
    let most = |cpu, rss| Most { cpu_percent: highest(cpu), rss_bytes: highest(rss) };
    let each = resources.servers.iter();
    let each: Vec<Most> = each.map(|one| most(&one.cpu_percent, &one.rss_bytes)).collect();
    Ok(match each.is_empty() {
        true => vec![most(&resources.server_cpu_percent, &resources.server_rss_bytes)],
        false => each,
    })
}

/// (Re)creates `report.html` in this folder. `summary.json` must be there; a raw file that is
/// missing was not measured; one that is malformed is an error that names file and line.
pub fn write(folder: &Path) -> Result<(), String> {
    let told = |what: String| format!("{}/{what}", folder.display());
    let page = page::render(&Raw::read(folder).map_err(told)?);
    fs::write(folder.join(FILE), page).map_err(|err| told(format!("{FILE}: {err}")))
}
