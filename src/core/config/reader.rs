//! Serde over the tree: any `Deserialize` type reads its section, and whatever goes wrong knows its place.
//!
//! Unknown keys are found here, from the field list that serde's derive hands over, so a type that forgets
//! `deny_unknown_fields` still refuses them.

use std::fmt;
use std::sync::Arc;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, Expected, MapAccess, SeqAccess,
    Unexpected, VariantAccess, Visitor,
};

use super::error::{ConfigError, Source, quoted_list, remedy};
use super::tree::{Node, Table, Value, dotted};

/// Reads a type from a section. `section` is how it is written; `at` is where it begins.
pub(super) fn read<T: DeserializeOwned>(
    source: &Source,
    table: &Table,
    section: &str,
    at: usize,
) -> Result<T, ConfigError> {
    T::deserialize(Section { table, section }).map_err(|fault| fault.into_error(source, section, at))
}

/// Something wrong in a value, on its way out to where its place and name are known.
#[derive(Debug)]
pub(super) struct Fault {
    at: Option<usize>,
    section: Option<Arc<str>>,
    /// The option; `None` when it is the section as a whole.
    option: Option<String>,
    reason: Reason,
}

#[derive(Debug)]
enum Reason {
    Unknown { name: String, known: &'static [&'static str] },
    Missing(&'static str),
    Choice { found: String, known: &'static [&'static str] },
    Type { expected: String, found: String },
    Other(String),
}

impl Fault {
    fn new(reason: Reason) -> Self {
        Self { at: None, section: None, option: None, reason }
    }

    fn at(mut self, at: usize) -> Self {
        self.at.get_or_insert(at);
        self
    }

    fn inside(mut self, section: &Arc<str>, option: &str) -> Self {
        self.section.get_or_insert_with(|| section.clone());
        self.option.get_or_insert_with(|| option.to_owned());
        self
    }

    fn into_error(self, source: &Source, section: &str, at: usize) -> ConfigError {
        let section = self.section.as_deref().unwrap_or(section);
        let option = self.option.as_deref().unwrap_or_default();
        let subject = if option.is_empty() { section.to_owned() } else { format!("\"{option}\" in {section}") };
        let why = match &self.reason {
            Reason::Unknown { name, known: [] } => {
                format!("unknown option \"{name}\" in {section}: it has no options of its own")
            }
            Reason::Unknown { name, known } => {
                format!("unknown option \"{name}\" in {section}{}", remedy(name, known, "the options are"))
            }
            Reason::Missing(name) => format!("the option \"{name}\" is missing in {section}"),
            Reason::Choice { found, known } => {
                let meant = super::error::nearest(found, known.iter().copied());
                let meant = meant.map(|near| format!("; did you mean \"{near}\"?")).unwrap_or_default();
                format!("{subject} takes {}, not \"{found}\"{meant}", quoted_list(known.iter().copied()))
            }
            Reason::Type { expected, found } => format!("{subject} takes {expected}, not {found}"),
            Reason::Other(text) => format!("{subject}: {text}"),
        };
        let option = match &self.reason {
            Reason::Unknown { name, .. } => dotted(section, name),
            Reason::Missing(name) => dotted(section, name),
            _ => dotted(section, option),
        };
        ConfigError::at(source, self.at.unwrap_or(at), option, why)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.reason)
    }
}

impl std::error::Error for Fault {}

impl serde::de::Error for Fault {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self::new(Reason::Other(text.to_string()))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(Reason::Type { expected: plain_words(&expected.to_string()), found: kind(found) })
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match found {
            Unexpected::Str(_) => "what stands there".to_owned(),
            other => kind(other),
        };
        Self::new(Reason::Type { expected: plain_words(&expected.to_string()), found })
    }

    fn unknown_variant(variant: &str, known: &'static [&'static str]) -> Self {
        Self::new(Reason::Choice { found: variant.to_owned(), known })
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        Self::new(Reason::Unknown { name: field.to_owned(), known })
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(Reason::Missing(field))
    }
}

/// Numbers are shown, strings never.
fn kind(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => value.to_string(),
        Unexpected::Unsigned(number) => number.to_string(),
        Unexpected::Signed(number) => number.to_string(),
        Unexpected::Float(number) => number.to_string(),
        Unexpected::Str(_) | Unexpected::Char(_) => "a string".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map | Unexpected::StructVariant => "a section".to_owned(),
        Unexpected::Other(text) => text.to_owned(),
        _ => "this value".to_owned(),
    }
}

/// Rust's names of types, as an admin would say them.
fn plain_words(expected: &str) -> String {
    match expected {
        "a boolean" => "true or false".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "a section".to_owned(),
        "unit" => "nothing".to_owned(),
        "i8" | "i16" | "i32" | "i64" => "a whole number".to_owned(),
        "u8" => format!("a whole number from 0 to {}", u8::MAX),
        "u16" => format!("a whole number from 0 to {}", u16::MAX),
        "u32" => format!("a whole number from 0 to {}", u32::MAX),
        "u64" | "usize" => "a whole number that is not negative".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        other if other.starts_with("struct ") => "a section".to_owned(),
        other => other.to_owned(),
    }
}

/// A section read as a struct, a map or nothing at all.
struct Section<'a> {
    table: &'a Table,
    section: &'a str,
}

impl Section<'_> {
    fn entries(&self) -> Entries<'_> {
        Entries { entries: self.table.iter(), current: None }
    }

    fn check_keys(&self, known: &'static [&'static str]) -> Result<(), Fault> {
        let unknown = self.table.iter().filter(|(key, _)| !known.contains(&key.as_str()));
        match unknown.min_by_key(|(_, entry)| entry.at) {
            None => Ok(()),
            Some((key, entry)) => {
                let mut fault = Fault::unknown_field(key, known).at(entry.at);
                fault.section = Some(entry.section.clone());
                Err(fault)
            }
        }
    }
}

impl<'de> Deserializer<'de> for Section<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_map(self.entries())
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.check_keys(fields)?;
        visitor.visit_map(self.entries())
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.check_keys(&[])?;
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Fault> {
        let expected = quoted_list(known.iter().copied());
        Err(Fault::new(Reason::Type { expected, found: format!("the section {}", self.section) }))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf seq tuple tuple_struct map
        identifier ignored_any
    }
}

struct Entries<'a> {
    entries: std::collections::btree_map::Iter<'a, String, super::tree::Entry>,
    current: Option<(&'a str, &'a super::tree::Entry)>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let Some((key, entry)) = self.entries.next() else { return Ok(None) };
        self.current = Some((key, entry));
        let read = seed.deserialize(StrDeserializer::<Fault>::new(key));
        read.map(Some).map_err(|fault| fault.at(entry.at).inside(&entry.section, ""))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let Some((key, entry)) = self.current.take() else { return Err(Fault::custom("a value without a key")) };
        seed.deserialize(Item { node: &entry.node, section: &entry.section })
            .map_err(|fault| fault.at(entry.node.at).inside(&entry.section, key))
    }
}

/// A value of an option.
#[derive(Clone, Copy)]
struct Item<'a> {
    node: &'a Node,
    section: &'a str,
}

impl Item<'_> {
    fn mismatch(self, expected: String) -> Fault {
        Fault::new(Reason::Type { expected, found: self.node.kind().to_owned() }).at(self.node.at)
    }
}

impl<'de> Deserializer<'de> for Item<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let section = self.section;
        let read = match &self.node.value {
            Value::Boolean(value) => visitor.visit_bool(*value),
            Value::Integer(number) => match u64::try_from(*number) {
                Ok(number) => visitor.visit_u64(number),
                Err(_) => visitor.visit_i64(*number),
            },
            Value::Float(number) => visitor.visit_f64(*number),
            Value::String(text) => visitor.visit_str(text),
            Value::Datetime => Err(Fault::invalid_type(Unexpected::Other("a date"), &visitor)),
            Value::Array(items) => visitor.visit_seq(Items { items: items.iter(), section }),
            Value::Table(table) => visitor.visit_map(Section { table, section }.entries()),
        };
        read.map_err(|fault| fault.at(self.node.at))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::Table(table) => {
                let section = self.section;
                Section { table, section }.deserialize_struct(name, fields, visitor)
            }
            _ => Err(self.mismatch("a section".to_owned())),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::String(word) => visitor.visit_enum(Word(word)).map_err(|fault| fault.at(self.node.at)),
            _ => Err(self.mismatch(quoted_list(known.iter().copied()))),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

struct Items<'a> {
    items: std::slice::Iter<'a, Node>,
    section: &'a str,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        match self.items.next() {
            None => Ok(None),
            Some(node) => seed.deserialize(Item { node, section: self.section }).map(Some).map_err(|f| f.at(node.at)),
        }
    }
}

/// A choice among words: an enum whose variants hold nothing.
struct Word<'a>(&'a str);

impl<'de> EnumAccess<'de> for Word<'_> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Fault> {
        let value = seed.deserialize(StrDeserializer::<Fault>::new(self.0))?;
        Ok((value, self))
    }
}

impl<'de> VariantAccess<'de> for Word<'_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, _: S) -> Result<S::Value, Fault> {
        Err(Fault::custom("only a word can stand here"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Fault> {
        Err(Fault::custom("only a word can stand here"))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, Fault> {
        Err(Fault::custom("only a word can stand here"))
    }
}
