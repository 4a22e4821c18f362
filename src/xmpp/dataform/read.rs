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
        parent.find("x", ns::X_DATA).map(Self::from_element).transpose()
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
            Some(name) if name != form_type => Err(malformed(format!("FORM_TYPE must be '{form_type}'"))),
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
        self.get(var).map(|field| field.raw().join("\n")).filter(|text| !text.is_empty())
    }

    /// All values that are not empty.
    pub fn values(&self, var: &str) -> impl Iterator<Item = &str> {
        self.get(var).into_iter().flat_map(Field::raw).map(String::as_str).filter(|value| !value.is_empty())
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
        self.text(var)?.map(|value| value.parse().map_err(|error: T::Err| unacceptable(var, error))).transpose()
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
    pub fn choice<T: Copy>(&self, var: &str, options: &[(&str, T)]) -> Result<Option<T>, StanzaError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn form(fields: &str) -> Form {
        let query = format!(
            "<query xmlns='urn:q'><x xmlns='jabber:x:data' type='submit'>\
             <field var='FORM_TYPE'><value>urn:f</value></field>{fields}</x></query>"
        );
        Form::submission(&query.parse().unwrap(), "urn:f").unwrap().unwrap()
    }

    fn error(condition: Condition, text: &'static str) -> StanzaError {
        StanzaError::new(condition).with_text(text)
    }

    #[test]
    fn values_by_their_types() {
        let form = form(
            "<field var='name'><value>Terra</value></field><field var='empty'><value/></field><field var='unset'/>\
             <field var='yes'><value>true</value></field><field var='no'><value>0</value></field>\
             <field var='number'><value>20</value></field><field var='who'><value>Romeo@Montague.lit</value></field>\
             <field var='all'><value>b@c</value><value>A@c</value><value>B@c</value><value/></field>\
             <field var='text'><value>one</value><value>two</value></field>\
             <unknown xmlns='urn:u'/><field var='ignored'><value>x</value></field>",
        );
        assert_eq!(form.named(), Some("urn:f"));
        assert_eq!(form.text("name"), Ok(Some("Terra")));
        assert_eq!(form.text("empty"), Ok(None));
        assert_eq!(form.text("unset"), Ok(None));
        assert_eq!(form.text("absent"), Ok(None));
        assert!(form.get("unset").is_some() && form.get("absent").is_none());
        assert_eq!((form.boolean("yes"), form.boolean("no")), (Ok(Some(true)), Ok(Some(false))));
        assert_eq!(form.boolean("absent"), Ok(None));
        assert_eq!(form.parsed::<u32>("number"), Ok(Some(20)));
        assert_eq!(form.parsed::<Jid>("who"), Ok(Jid::new("romeo@montague.lit").ok()));
        assert_eq!(form.jids("all").unwrap(), [Jid::new("b@c").unwrap(), Jid::new("a@c").unwrap()]);
        assert_eq!(form.lines("text").as_deref(), Some("one\ntwo"));
        assert_eq!(form.choice("number", &[("10", 'x'), ("20", 'y')]), Ok(Some('y')));
    }

    #[test]
    fn values_that_cannot_be_are_named() {
        let form = form(
            "<field var='two'><value>a</value><value>b</value></field><field var='perhaps'><value>perhaps</value></field>",
        );
        let not_acceptable = |text| error(Condition::NotAcceptable, text);
        assert_eq!(form.text("two"), Err(not_acceptable("field 'two': may have only one value")));
        assert_eq!(form.boolean("perhaps"), Err(not_acceptable("field 'perhaps': must be true or false")));
        assert_eq!(form.parsed::<u8>("perhaps"), Err(not_acceptable("field 'perhaps': invalid digit found in string")));
        assert_eq!(
            form.choice("perhaps", &[("no", 0)]),
            Err(not_acceptable("field 'perhaps': is none of the options"))
        );
        assert_eq!(missing("absent"), not_acceptable("field 'absent': is required"));
        assert!(form.parsed::<Jid>("perhaps").is_ok());
        assert!(form.jids("two").is_ok());
    }

    #[test]
    fn what_is_no_submission() {
        let submission = |x: &str| {
            let query = format!("<query xmlns='urn:q'>{x}</query>");
            Form::submission(&query.parse().unwrap(), "urn:f")
        };
        let bad_request = |text| Err(error(Condition::BadRequest, text));
        assert_eq!(submission(""), Ok(None));
        assert_eq!(submission("<x xmlns='jabber:x:data' type='cancel'/>"), Ok(None));
        assert!(submission("<x xmlns='jabber:x:data' type='submit'/>").unwrap().is_some());
        assert_eq!(submission("<x xmlns='jabber:x:data'/>"), bad_request("the data form has no known type"));
        assert_eq!(
            submission("<x xmlns='jabber:x:data' type='result'/>"),
            bad_request("a form of type 'submit' is needed")
        );
        assert_eq!(
            submission(
                "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>urn:g</value></field></x>"
            ),
            bad_request("FORM_TYPE must be 'urn:f'")
        );
        assert_eq!(
            submission("<x xmlns='jabber:x:data' type='submit'><field var='a'/><field var='a'/></x>"),
            bad_request("field 'a' is there twice")
        );
    }
}
