//! A table: for the terminal, and as CSV.

use std::fmt;

use super::OutputError;

/// One cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    Text(String),
    /// A number and its decimals.
    Number(f64, usize),
    Nothing,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(t) => f.write_str(t),
            // No minus before a zero.
            Self::Number(x, d) if x.abs() * 10f64.powi(*d as i32) < 0.5 => write!(f, "{:.d$}", 0.0, d = *d),
            Self::Number(x, d) => write!(f, "{x:.d$}", d = *d),
            Self::Nothing => Ok(()),
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<u64> for Cell {
    fn from(n: u64) -> Self {
        Self::Text(n.to_string())
    }
}

/// Rows under named columns.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    pub name: String,
    columns: Vec<String>,
    rows: Vec<Vec<Cell>>,
    /// Too long to be read in a terminal: only written.
    pub long: bool,
}

impl Table {
    pub fn new(name: &str, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|c| (*c).to_owned()).collect();
        Self { name: name.to_owned(), columns, rows: Vec::new(), long: false }
    }

    /// Adds a row; what is missing of it stays empty, what is too much is left out.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        let mut row: Vec<Cell> = cells.into_iter().take(self.columns.len()).collect();
        row.resize(self.columns.len(), Cell::Nothing);
        self.rows.push(row);
    }

    pub fn rows(&self) -> &[Vec<Cell>] {
        &self.rows
    }

    /// As CSV (RFC 4180).
    ///
    /// # Errors
    /// When the writer refuses it.
    pub fn csv(&self) -> Result<Vec<u8>, OutputError> {
        let failed = |e| OutputError::Csv(self.name.clone(), e);
        let mut w = csv::Writer::from_writer(Vec::new());
        w.write_record(&self.columns).map_err(failed)?;
        for row in &self.rows {
            w.write_record(row.iter().map(Cell::to_string)).map_err(failed)?;
        }
        w.into_inner().map_err(|e| failed(csv::Error::from(e.into_error())))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: Vec<Vec<String>> = self.rows.iter().map(|r| r.iter().map(Cell::to_string).collect()).collect();
        let width = |i: usize| {
            let cells = text.iter().filter_map(|r| r.get(i)).map(|c| c.chars().count());
            cells.chain([self.columns[i].chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let left = |i: usize| self.rows.iter().all(|r| !matches!(r.get(i), Some(Cell::Number(..))));
        for row in std::iter::once(&self.columns).chain(&text) {
            let cells = row.iter().zip(&widths).enumerate();
            let cells: Vec<String> =
                cells.map(|(i, (c, w))| if left(i) { format!("{c:<w$}") } else { format!("{c:>w$}") }).collect();
            writeln!(f, "{}", cells.join("  ").trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_reads_well_and_its_csv_is_quoted() {
        let mut t = Table::new("t", &["name", "value"]);
        t.row(["a, b".into(), Cell::Number(-0.0001, 2)]);
        t.row(["c".into(), Cell::Number(12.345, 2), "left out".into()]);
        assert_eq!(t.to_string(), "name  value\na, b   0.00\nc     12.35\n".replace("12.35", "12.35"));
        assert_eq!(String::from_utf8(t.csv().unwrap()).unwrap(), "name,value\n\"a, b\",0.00\nc,12.35\n");
    }
}
