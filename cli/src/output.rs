//! Rows for people and programs: a table on a terminal, tab-separated when piped, JSON on request.

use std::io::{IsTerminal as _, Write as _};

use crate::failure::Failure;

/// How rows are printed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    /// Aligned columns with a heading.
    Table,
    /// Tab-separated, no heading.
    Tsv,
    /// One JSON array.
    Json,
    /// One JSON object a line.
    Jsonl,
    /// A list of mappings.
    Yaml,
    /// The first column alone.
    Name,
    /// A line of text with `{{column}}` where a value goes.
    Template(String),
}

fn parse_form(text: &str) -> Result<Form, String> {
    Ok(match text {
        "table" => Form::Table,
        "tsv" => Form::Tsv,
        "json" => Form::Json,
        "jsonl" => Form::Jsonl,
        "yaml" => Form::Yaml,
        "name" => Form::Name,
        _ => match text.strip_prefix("template=") {
            Some(template) => Form::Template(template.to_owned()),
            None => {
                return Err("expected table, tsv, json, jsonl, yaml, name or template={{column}}"
                    .to_owned());
            }
        },
    })
}

/// The option that chooses the form.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Output {
    /// table, tsv, json, jsonl, yaml, name or template={{column}}; by itself a table on a terminal,
    /// tsv when piped
    #[arg(short = 'o', long = "output", value_name = "FORM", env = "SAWLOG_OUTPUT", value_parser = parse_form)]
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

impl Rows {
    /// The rows as an aligned table with a heading.
    pub(crate) fn table(&self) -> String {
        let heading = self.columns.iter().map(|name| name.to_uppercase()).collect();
        let body = self.rows.iter().map(|row| row.iter().map(text).collect());
        aligned(&std::iter::once(heading).chain(body).collect::<Vec<_>>())
    }

    /// Prints a heading and the rows, separated by commas. For figures and plain words.
    pub(crate) fn print_csv(&self) -> Result<(), Failure> {
        let mut out = self.columns.join(",").replace(' ', "_");
        out.push('\n');
        for row in &self.rows {
            out.push_str(&row.iter().map(text).collect::<Vec<_>>().join(","));
            out.push('\n');
        }
        Output::write(out.as_bytes())
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
    /// Whether a form was asked for.
    pub(crate) fn is_chosen(&self) -> bool {
        self.form.is_some()
    }

    /// Prints the rows.
    pub(crate) fn print(&self, rows: &Rows) -> Result<(), Failure> {
        let terminal = std::io::stdout().is_terminal();
        let default = if terminal { Form::Table } else { Form::Tsv };
        let mut out = String::new();
        match self.form.as_ref().unwrap_or(&default) {
            Form::Table => out = rows.table(),
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
            Form::Yaml => yaml(rows, &mut out),
            Form::Template(template) => {
                for row in &rows.rows {
                    out.push_str(&fill(template, rows.columns, row)?);
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

/// JSON values are YAML values, too.
fn yaml(rows: &Rows, out: &mut String) {
    if rows.rows.is_empty() {
        out.push_str("[]\n");
    }
    for row in &rows.rows {
        for (at, (name, value)) in rows.columns.iter().zip(row).enumerate() {
            let indent = if at == 0 { "- " } else { "  " };
            out.push_str(&format!("{indent}{}: {value}\n", name.replace(' ', "_")));
        }
    }
}

/// The template with the row's values in their places.
fn fill(template: &str, columns: &[&str], row: &[serde_json::Value]) -> Result<String, Failure> {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").ok_or_else(|| {
            Failure::usage(format!("-o template={template}: a {{{{ without its }}}}"))
        })?;
        let wanted = name.trim();
        let value = columns.iter().position(|column| column.replace(' ', "_") == wanted);
        let value = value.and_then(|at| row.get(at)).ok_or_else(|| {
            let known: Vec<_> = columns.iter().map(|column| column.replace(' ', "_")).collect();
            Failure::usage(format!(
                "-o template: no column \"{wanted}\", there are {}",
                known.join(", ")
            ))
        })?;
        out.push_str(before);
        out.push_str(&text(value));
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
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
    fn templates_and_yaml_name_columns_as_json_does() {
        let mut rows = Rows::new(&["name", "first offset"]);
        rows.push(vec![serde_json::json!("a: b"), serde_json::json!(3)]);
        let mut out = String::new();
        yaml(&rows, &mut out);
        assert_eq!(out, "- name: \"a: b\"\n  first_offset: 3\n");
        let row = &rows.rows[0];
        let filled = fill("<{{name}}@{{ first_offset }}>", rows.columns, row).unwrap();
        assert_eq!(filled, "<a: b@3>");
        assert!(fill("{{nme}}", rows.columns, row).is_err());
        assert!(fill("{{name", rows.columns, row).is_err());
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["A".to_owned(), "LONG".to_owned()], vec!["bcd".to_owned(), String::new()]];
        assert_eq!(aligned(&rows), "A    LONG\nbcd\n");
    }
}
