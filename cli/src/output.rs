//! Rows for people and programs: a table on a terminal, tab-separated when piped, JSON on request.

use std::io::{IsTerminal as _, Write as _};

use clap::ValueEnum;

use crate::failure::Failure;

/// How rows are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// Aligned columns with a heading
    Table,
    /// Tab-separated, no heading
    Tsv,
    /// One JSON array
    Json,
    /// One JSON object a line
    Jsonl,
    /// The first column alone
    Name,
}

/// The option that chooses the form.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Output {
    /// Form of the output; a table on a terminal, tsv when piped
    #[arg(short = 'o', long = "output", value_name = "FORM", env = "SAWLOG_OUTPUT")]
    form: Option<Form>,
}

/// Rows with named columns.
#[derive(Debug)]
pub(crate) struct Rows {
    columns: &'static [&'static str],
    rows: Vec<Vec<serde_json::Value>>,
}

impl Rows {
    pub(crate) fn new(columns: &'static [&'static str]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    pub(crate) fn push(&mut self, row: Vec<serde_json::Value>) {
        debug_assert_eq!(row.len(), self.columns.len());
        self.rows.push(row);
    }

    pub(crate) fn sort(&mut self) {
        self.rows.sort_by_key(|row| row.iter().map(text).collect::<Vec<_>>());
    }
}

fn text(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => String::new(),
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

impl Output {
    /// Prints the rows.
    pub(crate) fn print(self, rows: &Rows) -> Result<(), Failure> {
        let terminal = std::io::stdout().is_terminal();
        let form = self.form.unwrap_or(if terminal { Form::Table } else { Form::Tsv });
        let mut out = String::new();
        match form {
            Form::Table => {
                let heading = rows.columns.iter().map(|name| name.to_uppercase()).collect();
                let body = rows.rows.iter().map(|row| row.iter().map(text).collect());
                out = aligned(&std::iter::once(heading).chain(body).collect::<Vec<_>>());
            }
            Form::Tsv => {
                for row in &rows.rows {
                    out.push_str(&row.iter().map(text).collect::<Vec<_>>().join("\t"));
                    out.push('\n');
                }
            }
            Form::Name => {
                for row in &rows.rows {
                    out.push_str(&row.first().map(text).unwrap_or_default());
                    out.push('\n');
                }
            }
            Form::Json => {
                let all: Vec<_> = rows.rows.iter().map(|row| object(rows.columns, row)).collect();
                out = format!("{}\n", serde_json::Value::Array(all));
            }
            Form::Jsonl => {
                for row in &rows.rows {
                    out.push_str(&object(rows.columns, row).to_string());
                    out.push('\n');
                }
            }
        }
        Self::write(out.as_bytes())
    }

    /// Writes to standard output.
    pub(crate) fn write(bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(Failure::output)
    }
}

/// Columns as wide as their widest cell, two spaces apart.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut out = String::new();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}

fn object(columns: &[&str], row: &[serde_json::Value]) -> serde_json::Value {
    let fields =
        columns.iter().zip(row).map(|(name, value)| (name.replace(' ', "_"), value.clone()));
    serde_json::Value::Object(fields.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_objects_with_stable_names() {
        let row =
            object(&["name", "first offset"], &[serde_json::json!("a"), serde_json::json!(3)]);
        assert_eq!(row.to_string(), r#"{"first_offset":3,"name":"a"}"#);
        assert_eq!(text(&serde_json::json!([1, 2])), "1,2");
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["A".to_owned(), "LONG".to_owned()], vec!["bcd".to_owned(), String::new()]];
        assert_eq!(aligned(&rows), "A    LONG\nbcd\n");
    }
}
