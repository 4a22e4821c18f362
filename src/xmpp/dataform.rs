//! XEP-0004: Data Forms, and XEP-0068: `FORM_TYPE`. One type is built to be sent and read when it comes back. Fields that
//! nobody asks for are ignored, as they must be; tables (`<reported/>`, `<item/>`) are written but not read; validation
//! beyond the field's type (XEP-0122) is left to whoever asks for the value.

mod field;
mod read;

pub use field::{Field, FieldType};
pub use read::{missing, unacceptable};

use crate::element::Element;
use crate::ns;

/// The field that names the form (XEP-0068).
const FORM_TYPE: &str = "FORM_TYPE";

/// What the form is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormType {
    /// To be filled in.
    Form,
    /// Filled in.
    Submit,
    /// Not filled in.
    Cancel,
    /// Data.
    Result,
}

impl FormType {
    /// The value of the `type` attribute.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Form => "form",
            Self::Submit => "submit",
            Self::Cancel => "cancel",
            Self::Result => "result",
        }
    }

    /// The form type that a `type` attribute names.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "form" => Some(Self::Form),
            "submit" => Some(Self::Submit),
            "cancel" => Some(Self::Cancel),
            "result" => Some(Self::Result),
            _ => None,
        }
    }
}

/// A data form.
///
/// ```
/// # use rookery_xmpp::dataform::{Field, Form, FormType};
/// let form = Form::new(FormType::Form)
///     .form_type("jabber:iq:register")
///     .title("Registration")
///     .field(Field::text("username", "").label("User name").required())
///     .to_element();
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Form {
    kind: FormType,
    title: Option<String>,
    instructions: Vec<String>,
    fields: Vec<Field>,
    reported: Vec<Field>,
    items: Vec<Vec<Field>>,
}

impl Form {
    /// An empty form.
    pub const fn new(kind: FormType) -> Self {
        Self {
            kind,
            title: None,
            instructions: Vec::new(),
            fields: Vec::new(),
            reported: Vec::new(),
            items: Vec::new(),
        }
    }

    /// Adds the hidden field that names the form.
    #[must_use]
    pub fn form_type(self, form_type: &str) -> Self {
        self.field(Field::new(FieldType::Hidden, FORM_TYPE).value(form_type))
    }

    /// Sets the title.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// Adds a line of instructions.
    #[must_use]
    pub fn instructions(mut self, line: impl Into<String>) -> Self {
        self.instructions.push(line.into());
        self
    }

    /// Adds a field.
    #[must_use]
    pub fn field(mut self, field: Field) -> Self {
        self.fields.push(field);
        self
    }

    /// Adds fields.
    #[must_use]
    pub fn fields(mut self, fields: impl IntoIterator<Item = Field>) -> Self {
        self.fields.extend(fields);
        self
    }

    /// Sets the head of a table (§3.4): fields without values.
    #[must_use]
    pub fn reported(mut self, fields: impl IntoIterator<Item = Field>) -> Self {
        self.reported = fields.into_iter().collect();
        self
    }

    /// Adds a row to the table.
    #[must_use]
    pub fn item(mut self, fields: impl IntoIterator<Item = Field>) -> Self {
        self.items.push(fields.into_iter().collect());
        self
    }

    /// The `<x/>` element.
    pub fn to_element(&self) -> Element {
        let text = |name, text: &String| Element::new(name, ns::X_DATA).text(text.as_str());
        // Types and labels belong to a form that is shown, or to the head of a table; in a submission they are known.
        let typed = self.kind != FormType::Submit;
        let mut x = Element::new("x", ns::X_DATA)
            .attr("type", self.kind.name())
            .children(self.title.iter().map(|title| text("title", title)))
            .children(self.instructions.iter().map(|line| text("instructions", line)))
            .children(self.fields.iter().map(|field| field.to_element(typed || field.var() == FORM_TYPE)));
        if !self.reported.is_empty() {
            let fields = self.reported.iter().map(|field| field.to_element(true));
            x.push(Element::new("reported", ns::X_DATA).children(fields));
        }
        for item in &self.items {
            let fields = item.iter().map(|field| field.to_element(false));
            x.push(Element::new("item", ns::X_DATA).children(fields));
        }
        x
    }
}

impl From<&Form> for Element {
    fn from(form: &Form) -> Self {
        form.to_element()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form_as_xml() {
        let form = Form::new(FormType::Form)
            .form_type("jabber:bot")
            .title("Bot & Configuration")
            .instructions("Fill out this form!")
            .field(Field::text("botname", "").label("The name of your bot").required())
            .field(Field::boolean("public", true).label("Public bot?").desc("Who may talk to it"))
            .field(Field::new(FieldType::Fixed, "").value("Section"))
            .field(Field::list("maxsubs", "20").option("10", "10").option("Twenty", "20"))
            .field(Field::new(FieldType::JidMulti, "invitelist").values(["a@b", "c@d"]));
        assert_eq!(
            form.to_element().to_string(),
            "<x xmlns='jabber:x:data' type='form'><title>Bot &amp; Configuration</title>\
             <instructions>Fill out this form!</instructions>\
             <field var='FORM_TYPE' type='hidden'><value>jabber:bot</value></field>\
             <field var='botname' type='text-single' label='The name of your bot'><required/></field>\
             <field var='public' type='boolean' label='Public bot?'><desc>Who may talk to it</desc><value>1</value></field>\
             <field type='fixed'><value>Section</value></field>\
             <field var='maxsubs' type='list-single'><value>20</value>\
             <option label='10'><value>10</value></option><option label='Twenty'><value>20</value></option></field>\
             <field var='invitelist' type='jid-multi'><value>a@b</value><value>c@d</value></field></x>"
        );
        assert_eq!(Form::from_element(&form.to_element()), Ok(form));
    }

    #[test]
    fn table_as_xml() {
        let form = Form::new(FormType::Result)
            .reported([Field::new(FieldType::JidSingle, "jid").label("Address")])
            .item([Field::new(FieldType::JidSingle, "jid").value("a@b")]);
        assert_eq!(
            form.to_element().to_string(),
            "<x xmlns='jabber:x:data' type='result'>\
             <reported><field var='jid' type='jid-single' label='Address'/></reported>\
             <item><field var='jid'><value>a@b</value></field></item></x>"
        );
    }
}
