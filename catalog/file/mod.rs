//! Catalog files: tools, resources and prompts without writing Rust (the keys stand in this crate's README).
//!
//! Every fault is told at once, each with its line, its key and, for a misspelt name, the nearest valid one.
//! Refused: serde's derive for this format; it stops at the first fault and knows no neighbours.

mod items;
mod table;

use std::collections::HashMap;
use std::fmt;
use std::io::Read as _;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use toml::de::DeTable;

use crate::catalog::{Catalog, server};
use crate::error::CatalogError;
use crate::snapshot::Items;
use table::{Faults, Table};

/// Largest catalog file, in bytes.
pub const CATALOG_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Every fault of a catalog file, by line.
#[derive(Debug)]
pub struct FileError {
    /// The file, as it was named.
    pub file: String,
    /// At least one.
    pub faults: Vec<FileFault>,
}

/// One fault of a catalog file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFault {
    /// Counted from 1; `None` if the file as a whole is meant.
    pub line: Option<u32>,
    /// The key, e.g. `tool.exec`; empty if no key is meant.
    pub key: String,
    /// What is wrong with it.
    pub message: String,
}

/// One fault per line: `file:line: key: message`.
impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            if 0 < index {
                f.write_str("\n")?;
            }
            f.write_str(&self.file)?;
            if let Some(line) = fault.line {
                write!(f, ":{line}")?;
            }
            if !fault.key.is_empty() {
                write!(f, ": {}", fault.key)?;
            }
            write!(f, ": {}", fault.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for FileError {}

/// Reads a catalog file; paths in it are relative to its folder.
pub(crate) fn load(path: &Path) -> Result<Catalog, CatalogError> {
    let name = path.display().to_string();
    let whole = |message: String| {
        let fault = FileFault { line: None, key: String::new(), message };
        CatalogError::File(FileError { file: name.clone(), faults: vec![fault] })
    };
    let file = std::fs::File::open(path).map_err(|err| whole(err.to_string()))?;
    let mut text = String::new();
    let count = file
        .take(CATALOG_FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|err| whole(err.to_string()))?;
    if CATALOG_FILE_BYTES_MAX < count as u64 {
        return Err(whole(format!("larger than {CATALOG_FILE_BYTES_MAX} bytes")));
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    parse(&text, &name, folder)
}

/// Reads the text of a catalog file called `name` (for errors), in `folder` (for paths).
pub fn parse(text: &str, name: &str, folder: &Path) -> Result<Catalog, CatalogError> {
    let faults = Faults::new(text);
    let catalog = read(text, &faults, folder);
    let faults = faults.into_sorted();
    match catalog {
        Some(catalog) if faults.is_empty() => Ok(catalog),
        _ => Err(CatalogError::File(FileError { file: name.to_owned(), faults })),
    }
}

/// For the fuzzer: any text is either a catalog or at least one fault.
pub fn fuzz_catalog_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Err(err) = parse(text, "fuzz.toml", Path::new("/nonexistent")) {
        let CatalogError::File(err) = err else { panic!("not a file error: {err}") };
        assert!(!err.faults.is_empty(), "refused without a reason");
    }
}

/// The catalog, if it could be read without faults.
fn read(text: &str, faults: &Faults<'_>, folder: &Path) -> Option<Catalog> {
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        faults.add(error.span().map(|span| span.start), "", error.message().to_owned());
    }
    if !errors.is_empty() {
        // What follows a syntax error is guesswork; its faults would mislead.
        return None;
    }
    let root = Table::root(root.get_ref(), faults);
    root.only(&["server", "tool", "resource", "template", "prompt"]);
    let server = root.table("server").map_or_else(
        || server(None, None, None, None),
        |table| {
            table.only(&["name", "title", "version", "instructions"]);
            server(
                table.text("name"),
                table.text("title"),
                table.text("version"),
                table.text("instructions"),
            )
        },
    );
    let mut items = Items::default();
    let mut names = Names { faults, taken: HashMap::new() };
    for table in root.tables("tool") {
        if let Some(tool) = items::tool(&table, folder) {
            names.take(&table, "name", tool.name());
            items.tools.push(Arc::new(tool));
        }
    }
    for table in root.tables("resource") {
        if let Some(resource) = items::resource(&table, folder) {
            names.take(&table, "uri", resource.uri());
            items.resources.push(Arc::new(resource));
        }
    }
    for table in root.tables("template") {
        if let Some(template) = items::template(&table, folder) {
            names.take(&table, "uri_template", template.template());
            items.templates.push(Arc::new(template));
        }
    }
    for table in root.tables("prompt") {
        if let Some(prompt) = items::prompt(&table) {
            names.take(&table, "name", prompt.name());
            items.prompts.push(Arc::new(prompt));
        }
    }
    if faults.any() {
        return None;
    }
    match Catalog::assemble(server, items) {
        Ok(catalog) => Some(catalog),
        Err(err) => {
            faults.add(None, "", err.to_string());
            None
        }
    }
}

/// Names already given, and where.
struct Names<'f> {
    faults: &'f Faults<'f>,
    taken: HashMap<(String, String), Range<usize>>,
}

impl Names<'_> {
    fn take(&mut self, table: &Table<'_>, key: &str, name: &str) {
        let span = table.span_of(key);
        let place = (table.path().to_owned(), name.to_owned());
        match self.taken.get(&place) {
            Some(first) => {
                let line = self.faults.line(first.start);
                table.fault(key, format!("`{name}` is already used on line {line}"));
            }
            None => {
                self.taken.insert(place, span);
            }
        }
    }
}
