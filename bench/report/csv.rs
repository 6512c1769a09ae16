//! Tables of raw measurements: comma-separated, a header, no quoting; an empty cell was not
//! measured.

use std::fs;
use std::io;
use std::path::Path;

/// Bytes of a raw file we read: a run of a day, a row each half second, has 20 MB.
pub const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// One column; an empty cell is `None`.
pub type Column = Vec<Option<f64>>;

/// A table as it was read, each line with as many cells as the header.
#[derive(Debug)]
pub struct Table {
    file: String,
    columns: Vec<String>,
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    /// In the file, from 1.
    number: usize,
    cells: Vec<String>,
}

impl Table {
    /// Reads `name` in this folder; `None` if there is no such file.
    pub fn read(folder: &Path, name: &str) -> Result<Option<Self>, String> {
        read_text(&folder.join(name))?.map(|text| Self::parse(name, &text)).transpose()
    }

    /// Reads a table; `file` is what complaints call it.
    pub fn parse(file: &str, text: &str) -> Result<Self, String> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim_end()));
        let Some((_, header)) = lines.next().filter(|(_, header)| !header.is_empty()) else {
            return Err(format!("{file}:1: the header is missing"));
        };
        let columns = cells(header);
        let lines = lines
            .filter(|(_, line)| !line.is_empty())
            .map(|(number, line)| {
                let cells = cells(line);
                if cells.len() == columns.len() {
                    return Ok(Line { number, cells });
                }
                let (found, expected) = (cells.len(), columns.len());
                Err(format!("{file}:{number}: {found} cells where the header has {expected}"))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { file: file.to_owned(), columns, lines })
    }

    /// A column of measurements: finite, not negative.
    pub fn numbers(&self, name: &str) -> Result<Column, String> {
        let index = self.index(name)?;
        let read = |line: &Line| self.number(line, index);
        self.lines.iter().map(read).collect()
    }

    /// The same of a column that older runs do not have: nothing of it was measured.
    pub fn numbers_if_any(&self, name: &str) -> Result<Column, String> {
        match self.columns.iter().any(|column| column == name) {
            true => self.numbers(name),
            false => Ok(vec![None; self.lines.len()]),
        }
    }

    /// A column in which every cell is filled.
    pub fn filled(&self, name: &str) -> Result<Vec<f64>, String> {
        let column = self.numbers(name)?;
        let filled = |(value, line): (Option<f64>, &Line)| {
            value.ok_or_else(|| format!("{}:{}: {name} is empty", self.file, line.number))
        };
        column.into_iter().zip(&self.lines).map(filled).collect()
    }

    /// A column of times: filled, and never going back.
    pub fn times(&self, name: &str) -> Result<Vec<f64>, String> {
        let times = self.filled(name)?;
        match times.windows(2).position(|pair| pair[1] < pair[0]) {
            None => Ok(times),
            Some(at) => {
                let line = self.lines.get(at + 1).map_or(0, |line| line.number);
                Err(format!("{}:{line}: {name} goes back", self.file))
            }
        }
    }

    /// The names of all columns.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Every line as it stands.
    pub fn rows(&self) -> impl Iterator<Item = &[String]> {
        self.lines.iter().map(|line| line.cells.as_slice())
    }

    /// A column of names.
    pub fn texts(&self, name: &str) -> Result<Vec<String>, String> {
        let index = self.index(name)?;
        Ok(self.lines.iter().map(|line| line.cells[index].clone()).collect())
    }

    fn index(&self, name: &str) -> Result<usize, String> {
        let position = self.columns.iter().position(|column| column == name);
        position.ok_or_else(|| format!("{}:1: the column {name} is missing", self.file))
    }

    fn number(&self, line: &Line, index: usize) -> Result<Option<f64>, String> {
        let cell = line.cells[index].as_str();
        if cell.is_empty() {
            return Ok(None);
        }
        match cell.parse::<f64>() {
            Ok(value) if value.is_finite() && 0.0 <= value => Ok(Some(value)),
            _ => Err(format!(
                "{}:{}: {} is {cell:?}, which is not a measurement",
                self.file, line.number, self.columns[index]
            )),
        }
    }
}

/// The text of a raw file; `None` if it does not exist.
pub fn read_text(path: &Path) -> Result<Option<String>, String> {
    let told = |err: io::Error| format!("{}: {err}", path.display());
    match fs::metadata(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(err) => return Err(told(err)),
        Ok(facts) if FILE_BYTES_MAX < facts.len() => {
            return Err(format!("{}: over {FILE_BYTES_MAX} bytes", path.display()));
        }
        Ok(_) => {}
    }
    fs::read_to_string(path).map(Some).map_err(told)
}

fn cells(line: &str) -> Vec<String> {
    line.split(',').map(|cell| cell.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: Result<Column, &str>) {
        let column = Table::parse("t.csv", text).and_then(|table| table.numbers("b"));
        assert_eq!(column, expect.map_err(str::to_owned), "{text:?}");
    }

    #[test]
    fn an_empty_cell_was_not_measured() {
        check("a,b\n1,2\n3,\n", Ok(vec![Some(2.0), None]));
        check("a,b\r\n1, 2.5\r\n\r\n", Ok(vec![Some(2.5)]));
        check("\u{feff}b\n0\n", Ok(vec![Some(0.0)]));
        check("a,b\n", Ok(vec![]));
    }

    #[test]
    fn what_is_malformed_is_told_with_its_line() {
        check("", Err("t.csv:1: the header is missing"));
        check("\n1,2", Err("t.csv:1: the header is missing"));
        check("a,c\n1,2", Err("t.csv:1: the column b is missing"));
        check("a,b\n1,2\n\n3", Err("t.csv:4: 1 cells where the header has 2"));
        check("a,b\n1,2,3", Err("t.csv:2: 3 cells where the header has 2"));
        check("a,b\n1,fast", Err("t.csv:2: b is \"fast\", which is not a measurement"));
        for cell in ["NaN", "inf", "-1", "1e999"] {
            let expect = format!("t.csv:3: b is {cell:?}, which is not a measurement");
            check(&format!("a,b\n1,2\n1,{cell}"), Err(&expect));
        }
    }

    #[test]
    fn a_column_that_may_be_missing_was_not_measured() {
        let table = Table::parse("t.csv", "a\n1\n2").unwrap();
        assert_eq!(table.numbers_if_any("a"), Ok(vec![Some(1.0), Some(2.0)]));
        assert_eq!(table.numbers_if_any("b"), Ok(vec![None, None]));
    }

    #[test]
    fn time_neither_stops_being_told_nor_goes_back() {
        let times = |text| Table::parse("t.csv", text).and_then(|table| table.times("s"));
        assert_eq!(times("s\n0\n0.5\n0.5\n1"), Ok(vec![0.0, 0.5, 0.5, 1.0]));
        assert_eq!(times("s\n0\n1\n0.5"), Err("t.csv:4: s goes back".to_owned()));
        assert_eq!(times("s,x\n0,\n,1"), Err("t.csv:3: s is empty".to_owned()));
    }
}
