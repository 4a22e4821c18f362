//! Reading a form: what is no form is a bad request, what is a form with values that cannot be is not acceptable
//! (XEP-0004 §4). The error names the field. A field without value, or with nothing but an empty one, has no value.

use std::collections::HashSet;
use std::fmt::Display;
use std::str::FromStr;

use super::{FORM_TYPE, Field, FieldType, Form, FormType};
use crate::element::Element;
use crate::error::{Condition, StanzaError};
use crate::jid::Jid;
use crate::ns;

impl Form {
    /// Reads an `<x/>` element. No two fields may have one name.
    pub fn from_element(x: &Element) -> Result<Self, StanzaError> {
        if !x.is("x", ns::X_DATA) {
            return Err(malformed("a data form is needed"));
        }
        let kind = x.get("type").and_then(FormType::from_name);
        let mut form = Self::new(kind.ok_or_else(|| malformed("the data form has no known type"))?);
        for child in x.elements().filter(|child| child.ns() == ns::X_DATA) {
            match child.name() {
                "title" => form.title = Some(child.content()),
                "instructions" => form.instructions.push(child.content()),
                "field" => {
                    let field = Field::from_element(child);
                    if !field.var().is_empty() && form.get(field.var()).is_some() {
                        return Err(malformed(format!("field '{}' is there twice", field.var())));
                    }
                    form.fields.push(field);
                }
                _ => {}
            }
        }
        Ok(form)
    }

    /// Finds a form in a payload and reads it; `None` if there is none.
    pub fn find(parent: &Element) -> Result<Option<Self>, StanzaError> {
        parent
            .find("x", ns::X_DATA)
            .map(Self::from_element)
            .transpose()
    }

    /// Reads the submission in a payload, which must be one of `form_type`. `None` if there is no form, or if it was
    /// cancelled. A submission that does not name its form is taken for the right one (XEP-0068 §3.1).
    pub fn submission(parent: &Element, form_type: &str) -> Result<Option<Self>, StanzaError> {
        let Some(form) = Self::find(parent)? else {
            return Ok(None);
        };
        match form.kind {
            FormType::Cancel => return Ok(None),
            FormType::Submit => {}
            FormType::Form | FormType::Result => {
                return Err(malformed("a form of type 'submit' is needed"));
            }
        }
        match form.named() {
            Some(name) if name != form_type => {
                Err(malformed(format!("FORM_TYPE must be '{form_type}'")))
            }
            _ => Ok(Some(form)),
        }
    }

    /// What the form is for.
    pub const fn kind(&self) -> FormType {
        self.kind
    }

    /// The value of `FORM_TYPE`. In a form or a result the field only counts if it is hidden (XEP-0068 §3).
    pub fn named(&self) -> Option<&str> {
        let field = self.get(FORM_TYPE)?;
        let counts = self.kind == FormType::Submit || field.kind() == Some(FieldType::Hidden);
        field.raw().first().filter(|_| counts).map(String::as_str)
    }

    /// The fields, in their order, `FORM_TYPE` among them.
    pub fn iter(&self) -> impl Iterator<Item = &Field> {
        self.fields.iter()
    }

    /// A field by its name. That it is there says that its value is to be set, if only to nothing (§3.6).
    pub fn get(&self, var: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.var() == var)
    }

    /// The only value of a field.
    pub fn text(&self, var: &str) -> Result<Option<&str>, StanzaError> {
        match self.get(var).map_or(&[][..], Field::raw) {
            [] => Ok(None),
            [value] => Ok(Some(value.as_str()).filter(|value| !value.is_empty())),
            _ => Err(unacceptable(var, "may have only one value")),
        }
    }

    /// The lines of a text, joined.
    pub fn lines(&self, var: &str) -> Option<String> {
        self.get(var)
            .map(|field| field.raw().join("\n"))
            .filter(|text| !text.is_empty())
    }

    /// All values that are not empty.
    pub fn values(&self, var: &str) -> impl Iterator<Item = &str> {
        self.get(var)
            .into_iter()
            .flat_map(Field::raw)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// A yes or no.
    pub fn boolean(&self, var: &str) -> Result<Option<bool>, StanzaError> {
        match self.text(var)? {
            None => Ok(None),
            Some("1" | "true") => Ok(Some(true)),
            Some("0" | "false") => Ok(Some(false)),
            Some(_) => Err(unacceptable(var, "must be true or false")),
        }
    }

    /// A value that is parsed: a number, an address.
    pub fn parsed<T: FromStr<Err: Display>>(&self, var: &str) -> Result<Option<T>, StanzaError> {
        self.text(var)?
            .map(|value| {
                value
                    .parse()
                    .map_err(|error: T::Err| unacceptable(var, error))
            })
            .transpose()
    }

    /// Addresses; doubles are ignored, as §3.3 wants it.
    pub fn jids(&self, var: &str) -> Result<Vec<Jid>, StanzaError> {
        let mut seen = HashSet::new();
        let mut jids = Vec::new();
        for value in self.values(var) {
            let jid = Jid::new(value).map_err(|error| unacceptable(var, error))?;
            if seen.insert(jid.clone()) {
                jids.push(jid);
            }
        }
        Ok(jids)
    }

    /// One of `options`, as what stands beside it.
    pub fn choice<T: Copy>(
        &self,
        var: &str,
        options: &[(&str, T)],
    ) -> Result<Option<T>, StanzaError> {
        let Some(value) = self.text(var)? else {
            return Ok(None);
        };
        match options.iter().find(|(option, _)| *option == value) {
            Some((_, choice)) => Ok(Some(*choice)),
            None => Err(unacceptable(var, "is none of the options")),
        }
    }
}

/// What a required field lacks: to be used with the readers, as in `form.text("username")?.ok_or_else(|| missing("username"))?`.
pub fn missing(var: &str) -> StanzaError {
    unacceptable(var, "is required")
}

/// A value that is understood but cannot be: for checks beyond the field's type.
pub fn unacceptable(var: &str, why: impl Display) -> StanzaError {
    StanzaError::new(Condition::NotAcceptable).with_text(format!("field '{var}': {why}"))
}

fn malformed(why: impl Into<String>) -> StanzaError {
    StanzaError::new(Condition::BadRequest).with_text(why.into())
}
