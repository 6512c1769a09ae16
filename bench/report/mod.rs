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

/// (Re)creates `report.html` in this folder. `summary.json` must be there; a raw file that is
/// missing was not measured; one that is malformed is an error that names file and line.
pub fn write(folder: &Path) -> Result<(), String> {
    let told = |what: String| format!("{}/{what}", folder.display());
    let page = page::render(&Raw::read(folder).map_err(told)?);
    fs::write(folder.join(FILE), page).map_err(|err| told(format!("{FILE}: {err}")))
}
