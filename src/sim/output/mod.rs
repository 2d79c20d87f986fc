//! What an experiment writes: tables as CSV, findings as JSON, pictures as SVG.
//!
//! Invariant: what is written depends on the findings alone (no time of day, no path, fixed decimals), so that the same seed gives
//! the same files to the byte.

mod svg;
mod table;

use std::io::Write;
use std::path::{Path, PathBuf};

use super::experiments::Findings;

pub use svg::{Line, Plot, Scale};
pub use table::{Cell, Table};

/// Why something could not be written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    #[error("{} cannot be written: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("The table {0} cannot be written as CSV: {1}")]
    Csv(String, csv::Error),
    #[error("The findings cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("The picture {0} cannot be drawn: {1}")]
    Plot(String, String),
}

/// Writes all of it into a folder, which is made; the files' paths.
///
/// # Errors
/// When the folder or a file cannot be written.
pub fn write(findings: &Findings, dir: &Path) -> Result<Vec<PathBuf>, OutputError> {
    let failed = |path: &Path, source| OutputError::Io { path: path.to_path_buf(), source };
    std::fs::create_dir_all(dir).map_err(|e| failed(dir, e))?;
    let mut files = Vec::new();
    for table in &findings.tables {
        files.push((format!("{}.csv", table.name), table.csv()?));
    }
    let mut json = serde_json::to_vec_pretty(&findings.json)?;
    json.push(b'\n');
    files.push((format!("{}.json", findings.name), json));
    for plot in &findings.plots {
        files.push((format!("{}.svg", plot.name), plot.svg()?.into_bytes()));
    }
    let mut paths = Vec::new();
    for (name, bytes) in files {
        let path = dir.join(&name);
        // Beside its place first: who looks while it is written sees the last one whole.
        let part = dir.join(format!(".{name}.{}.part", std::process::id()));
        let written = std::fs::File::create(&part)
            .and_then(|mut f| f.write_all(&bytes))
            .and_then(|()| std::fs::rename(&part, &path));
        if let Err(e) = written {
            let _ = std::fs::remove_file(&part);
            return Err(failed(&path, e));
        }
        paths.push(path);
    }
    Ok(paths)
}
