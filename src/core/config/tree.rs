//! A TOML file as a tree that knows where each key stands, so that an error found late still names line and column,
//! also in a section laid over another.

use std::collections::BTreeMap;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Source};

/// A value and the offset at which it begins.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) at: usize,
    pub(super) value: Value,
}

/// The kinds of TOML.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Boolean(bool),
    Integer(i64),
    Float(f64),
    String(String),
    Datetime,
    Array(Vec<Node>),
    Table(Table),
}

/// A table's keys.
pub(super) type Table = BTreeMap<String, Entry>;

/// A key of a table with its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The offset of the key.
    pub(super) at: usize,
    /// The section as it is written: `[limits]`, `[[listen]]`, `[host."example.org".modules.roster]`.
    pub(super) section: Arc<str>,
    pub(super) node: Node,
}

impl Default for Entry {
    /// An empty section that stands nowhere.
    fn default() -> Self {
        Self { at: 0, section: TOP.into(), node: Node { at: 0, value: Value::Table(Table::new()) } }
    }
}

impl Entry {
    /// The dotted name of a key in this section.
    pub(super) fn path(&self, key: &str) -> String {
        dotted(&self.section, key)
    }
}

/// `limits.depth` of `[limits]` and `depth`.
pub(super) fn dotted(section: &str, key: &str) -> String {
    let inside = section
        .strip_prefix("[[")
        .and_then(|rest| rest.strip_suffix("]]"))
        .or_else(|| section.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')));
    match inside {
        Some(inside) if key.is_empty() => inside.to_owned(),
        Some(inside) => format!("{inside}.{key}"),
        None => key.to_owned(),
    }
}

impl Node {
    /// What a message calls this kind of value.
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            Value::Boolean(_) => "true or false",
            Value::Integer(_) => "a number",
            Value::Float(_) => "a decimal number",
            Value::String(_) => "a string",
            Value::Datetime => "a date",
            Value::Array(_) => "a list",
            Value::Table(_) => "a section",
        }
    }
}

/// How messages speak of keys that stand before the first section.
pub(super) const TOP: &str = "the top level";

/// Reads a file's text.
pub(super) fn parse(source: &Source, text: &str) -> Result<Table, ConfigError> {
    let table = DeTable::parse(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        ConfigError::at(source, offset, "", format!("this is not TOML: {}", error.message().replace('\n', ", ")))
    })?;
    convert_table(source, table.get_ref(), TOP, "")
}

fn convert_table(source: &Source, table: &DeTable<'_>, section: &str, path: &str) -> Result<Table, ConfigError> {
    let section: Arc<str> = section.into();
    let mut converted = Table::new();
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        let inner = if path.is_empty() { quoted(path, name) } else { format!("{path}.{}", quoted(path, name)) };
        let node = convert(source, value, &inner, false)?;
        converted.insert(name.to_owned(), Entry { at: key.span().start, section: section.clone(), node });
    }
    Ok(converted)
}

/// Hosts are quoted, as the conf shows them; other keys only where TOML asks for it.
fn quoted(path: &str, key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if path == "host" || !bare { format!("\"{key}\"") } else { key.to_owned() }
}

fn convert(source: &Source, value: &Spanned<DeValue<'_>>, path: &str, in_list: bool) -> Result<Node, ConfigError> {
    let at = value.span().start;
    let value = match value.get_ref() {
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Integer(number) => Value::Integer(
            i64::from_str_radix(number.as_str(), number.radix())
                .map_err(|_| ConfigError::at(source, at, path, format!("the number of \"{path}\" is too large")))?,
        ),
        DeValue::Float(number) => Value::Float(
            number
                .as_str()
                .parse()
                .map_err(|_| ConfigError::at(source, at, path, format!("the number of \"{path}\" is too large")))?,
        ),
        DeValue::String(text) => Value::String(text.clone().into_owned()),
        DeValue::Datetime(_) => Value::Datetime,
        DeValue::Array(items) => {
            let items: Result<_, _> = items.iter().map(|item| convert(source, item, path, true)).collect();
            Value::Array(items?)
        }
        DeValue::Table(table) => {
            let section = if in_list { format!("[[{path}]]") } else { format!("[{path}]") };
            Value::Table(convert_table(source, table, &section, path)?)
        }
    };
    Ok(Node { at, value })
}

/// Lays `above` over `below`, key by key; tables inside are laid over each other too, lists are replaced.
pub(super) fn overlay(below: &mut Table, above: &Table) {
    for (key, entry) in above {
        match (below.get_mut(key), &entry.node.value) {
            (Some(Entry { node: Node { value: Value::Table(below), .. }, .. }), Value::Table(above)) => {
                overlay(below, above);
            }
            _ => {
                below.insert(key.clone(), entry.clone());
            }
        }
    }
}
