//! Data on stdout: table and wide for people, JSON and YAML for programs.
//!
//! Each noun has one file here that says how it looks ([`Resource`]). The JSON of a noun is stable: the
//! field names of its proto message, every field always there, enums as words, times as RFC 3339, unset
//! as null.

mod bmc_capability;
mod bmc_event;
mod bmc_inventory;
mod bmc_itself;
mod boot_device;
mod boot_mode;
mod boot_order;
mod chassis;
mod console;
mod dhcp;
mod discovered;
mod event;
mod explanation;
mod firmware;
mod flavor;
mod image;
mod instance;
mod join_token;
mod node;
mod operation;
mod port;
mod power_draw;
mod rack;
mod rack_status;
mod secure_boot;
mod sensor;
mod site;
pub mod table;
pub mod value;
mod virtual_media;
mod volume;

pub use rack_status::MacBootEvent;

use crate::failure::Failure;
use clap::ValueEnum;
use serde_json::Value;
use std::io::Write as _;
use std::time::SystemTime;
use table::Tone;

/// How data is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// The columns that matter most; one resource as its fields.
    #[default]
    Table,
    /// All columns; one resource with its empty fields.
    Wide,
    /// Stable, for programs: an object, or an array of a list.
    Json,
    /// The same as YAML.
    Yaml,
}

/// A column: its header, whether only `wide` has it, and its cell.
pub struct Column<T> {
    pub header: &'static str,
    pub wide: bool,
    pub cell: fn(&T, SystemTime) -> String,
}

/// A column that every table has.
pub const fn column<T>(header: &'static str, cell: fn(&T, SystemTime) -> String) -> Column<T> {
    Column { header, wide: false, cell }
}

/// A column of `wide` only.
pub const fn wide<T>(header: &'static str, cell: fn(&T, SystemTime) -> String) -> Column<T> {
    Column { header, wide: true, cell }
}

/// Something that can be printed.
pub trait Resource: Sized + 'static {
    /// Columns of a list, in order.
    fn columns() -> Vec<Column<Self>>;
    /// The stable form.
    fn value(&self) -> Value;
    /// Fields that come first when one is shown to a person.
    const FIRST: &'static [&'static str] = &["name"];
    /// How a row is meant.
    fn tone(&self) -> Tone {
        Tone::Plain
    }
}

/// Where data goes, and how.
#[derive(Debug, Clone, Copy)]
pub struct Printer {
    pub format: Format,
    pub colour: bool,
    /// Ages are counted until this moment.
    pub now: SystemTime,
}

impl Printer {
    /// Prints one resource.
    pub fn one<T: Resource>(&self, item: &T) -> Result<(), Failure> {
        emit(&self.render_one(item)?)
    }

    /// Prints a list.
    pub fn list<T: Resource>(&self, items: &[T]) -> Result<(), Failure> {
        emit(&self.render_list(items)?)
    }

    pub fn render_one<T: Resource>(&self, item: &T) -> Result<String, Failure> {
        match self.format {
            Format::Table | Format::Wide => Ok(self.fields(&item.value(), T::FIRST)),
            Format::Json | Format::Yaml => self.structured(&item.value()),
        }
    }

    pub fn render_list<T: Resource>(&self, items: &[T]) -> Result<String, Failure> {
        if matches!(self.format, Format::Json | Format::Yaml) {
            return self.structured(&Value::Array(items.iter().map(Resource::value).collect()));
        }
        let columns: Vec<_> =
            T::columns().into_iter().filter(|column| !column.wide || self.format == Format::Wide).collect();
        let header: Vec<_> = columns.iter().map(|column| column.header).collect();
        let rows =
            items.iter().map(|item| columns.iter().map(|c| (c.cell)(item, self.now)).collect()).collect();
        let tones: Vec<_> = items.iter().map(Resource::tone).collect();
        Ok(table::render(&header, rows, &tones, self.colour))
    }

    fn structured(&self, value: &Value) -> Result<String, Failure> {
        let failed = |error: String| Failure::refused(format!("cannot print: {error}"));
        match self.format {
            Format::Yaml => serde_yaml_ng::to_string(value).map_err(|e| failed(e.to_string())),
            _ => {
                serde_json::to_string_pretty(value).map(|text| text + "\n").map_err(|e| failed(e.to_string()))
            }
        }
    }

    /// One resource for a person: `field  value`, nested fields by dots.
    fn fields(&self, value: &Value, first: &[&str]) -> String {
        let mut flat = Vec::new();
        flatten("", value, &mut flat);
        // A stable sort: the fields that come first in their order, the rest as they are.
        flat.sort_by_key(|(key, _)| {
            let head = key.split('.').next().unwrap_or(key);
            first.iter().position(|f| *f == head).unwrap_or(first.len())
        });
        let rows: Vec<_> = flat
            .into_iter()
            .filter(|(_, text)| self.format == Format::Wide || !text.is_empty())
            .map(|(key, text)| vec![key, text])
            .collect();
        table::render(&["FIELD", "VALUE"], rows, &[], self.colour)
    }
}

/// Writes to stdout. A reader that has seen enough (`| head`) is no failure.
pub fn emit(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::refused(format!("cannot write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

fn flatten(path: &str, value: &Value, out: &mut Vec<(String, String)>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| flatten(&below(key), value, out)),
        // Words fit on one line; sentences and keys, which have spaces, get a line each.
        Value::Array(items)
            if items.iter().any(|i| !i.is_string() || i.as_str().is_some_and(|s| s.contains(' '))) =>
        {
            items.iter().enumerate().for_each(|(i, item)| flatten(&below(&i.to_string()), item, out));
        }
        Value::Array(items) => {
            out.push((path.to_owned(), items.iter().map(value::cell).collect::<Vec<_>>().join(", ")))
        }
        Value::Number(n) if path.ends_with("_bytes") => {
            let bytes = n.as_i64().unwrap_or(0);
            let text = if bytes == 0 {
                String::new()
            } else {
                format!("{bytes} ({})", farrier_model::size::human(bytes))
            };
            out.push((path.to_owned(), text));
        }
        Value::Number(n) if n.as_i64() == Some(0) => out.push((path.to_owned(), String::new())),
        other => out.push((path.to_owned(), value::cell(other))),
    }
}

#[cfg(test)]
mod tests;
