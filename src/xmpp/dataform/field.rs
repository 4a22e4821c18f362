//! XEP-0004 §3.2 and §3.3: fields and their types.

use crate::element::Element;
use crate::ns;

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldType {
    /// Yes or no.
    Boolean,
    /// A line that explains; no value to give.
    Fixed,
    /// Not shown.
    Hidden,
    /// Addresses.
    JidMulti,
    /// An address.
    JidSingle,
    /// Any of the options.
    ListMulti,
    /// One of the options.
    ListSingle,
    /// Lines of text.
    TextMulti,
    /// A line of text that is not shown as it is typed.
    TextPrivate,
    /// A line of text; what a field is unless it says otherwise.
    TextSingle,
}

impl FieldType {
    /// The value of the `type` attribute.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Fixed => "fixed",
            Self::Hidden => "hidden",
            Self::JidMulti => "jid-multi",
            Self::JidSingle => "jid-single",
            Self::ListMulti => "list-multi",
            Self::ListSingle => "list-single",
            Self::TextMulti => "text-multi",
            Self::TextPrivate => "text-private",
            Self::TextSingle => "text-single",
        }
    }

    /// The type that a `type` attribute names; one that is unknown is `text-single` (§3.3).
    pub fn from_name(name: &str) -> Self {
        match name {
            "boolean" => Self::Boolean,
            "fixed" => Self::Fixed,
            "hidden" => Self::Hidden,
            "jid-multi" => Self::JidMulti,
            "jid-single" => Self::JidSingle,
            "list-multi" => Self::ListMulti,
            "list-single" => Self::ListSingle,
            "text-multi" => Self::TextMulti,
            "text-private" => Self::TextPrivate,
            _ => Self::TextSingle,
        }
    }
}

/// A field of a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    var: String,
    /// As sent; a submission need not say.
    kind: Option<FieldType>,
    label: Option<String>,
    desc: Option<String>,
    required: bool,
    values: Vec<String>,
    options: Vec<(String, String)>,
}

impl Field {
    /// A field without value; `var` is empty for fixed text.
    pub fn new(kind: FieldType, var: impl Into<String>) -> Self {
        Self {
            var: var.into(),
            kind: Some(kind),
            label: None,
            desc: None,
            required: false,
            values: Vec::new(),
            options: Vec::new(),
        }
    }

    /// A line of text; an empty one is no value.
    pub fn text(var: impl Into<String>, value: impl Into<String>) -> Self {
        let value = value.into();
        let field = Self::new(FieldType::TextSingle, var);
        if value.is_empty() { field } else { field.value(value) }
    }

    /// A yes or no, written as `1` or `0`.
    pub fn boolean(var: impl Into<String>, value: bool) -> Self {
        Self::new(FieldType::Boolean, var).value(if value { "1" } else { "0" })
    }

    /// A choice; the options follow.
    pub fn list(var: impl Into<String>, value: impl Into<String>) -> Self {
        Self::new(FieldType::ListSingle, var).value(value)
    }

    /// Adds a value.
    #[must_use]
    pub fn value(mut self, value: impl Into<String>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Adds values.
    #[must_use]
    pub fn values<V: Into<String>>(mut self, values: impl IntoIterator<Item = V>) -> Self {
        self.values.extend(values.into_iter().map(Into::into));
        self
    }

    /// Adds an option: what is shown, and what is chosen.
    #[must_use]
    pub fn option(mut self, label: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.push((label.into(), value.into()));
        self
    }

    /// Sets the name that is shown.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Sets the description that is shown.
    #[must_use]
    pub fn desc(mut self, desc: impl Into<String>) -> Self {
        self.desc = Some(desc.into());
        self
    }

    /// Marks the field as required.
    #[must_use]
    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// The name.
    pub fn var(&self) -> &str {
        &self.var
    }

    /// The name that is shown.
    pub fn shown(&self) -> Option<&str> {
        self.label.as_deref()
    }

    /// The type, if it was said.
    pub const fn kind(&self) -> Option<FieldType> {
        self.kind
    }

    /// The values as they came.
    pub fn raw(&self) -> &[String] {
        &self.values
    }

    pub(super) fn to_element(&self, typed: bool) -> Element {
        let text = |name, text: &String| Element::new(name, ns::X_DATA).text(text.as_str());
        let var = Some(self.var.as_str()).filter(|var| !var.is_empty());
        let kind = self.kind.filter(|_| typed).map(FieldType::name);
        let mut field = Element::new("field", ns::X_DATA)
            .attr_opt("var", var)
            .attr_opt("type", kind)
            .attr_opt("label", self.label.as_deref().filter(|_| typed))
            .children(self.desc.iter().map(|desc| text("desc", desc)));
        if self.required {
            field.push(Element::new("required", ns::X_DATA));
        }
        field.children(self.values.iter().map(|value| text("value", value))).children(self.options.iter().map(
            |(label, value)| {
                Element::new("option", ns::X_DATA).attr("label", label.as_str()).child(text("value", value))
            },
        ))
    }

    pub(super) fn from_element(field: &Element) -> Self {
        let content = |name| field.find(name, ns::X_DATA).map(Element::content);
        let values = |parent: &Element| -> Vec<String> {
            parent.elements().filter(|child| child.is("value", ns::X_DATA)).map(Element::content).collect()
        };
        Self {
            var: field.get("var").unwrap_or_default().to_owned(),
            kind: field.get("type").map(FieldType::from_name),
            label: field.get("label").map(str::to_owned),
            desc: content("desc"),
            required: field.find("required", ns::X_DATA).is_some(),
            values: values(field),
            options: field
                .elements()
                .filter(|child| child.is("option", ns::X_DATA))
                .map(|option| {
                    let value = option.find("value", ns::X_DATA).map(Element::content).unwrap_or_default();
                    (option.get("label").unwrap_or_default().to_owned(), value)
                })
                .collect(),
        }
    }
}
