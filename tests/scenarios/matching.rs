//! Whether what came is what the script expects, by scansion's rules: elements in the namespace of stanzas may hold more
//! than is expected, in any order; elements in a namespace of their own must be just so, unless `scansion:strict` says
//! otherwise.

use std::collections::BTreeMap;

use rookery_xmpp::element::Element;
use rookery_xmpp::ns;

/// The namespace we give to the prefix `scansion`.
pub(crate) const SCANSION: &str = "https://matthewwild.co.uk/projects/scansion";

/// What `{scansion:capture:NAME}` has met, by name.
pub(crate) type Captures = BTreeMap<String, String>;

/// Reads elements as they stand in a script or a stream: in `jabber:client`, with the prefixes `stream` and `scansion`.
pub(crate) fn elements(text: &str) -> Result<Vec<Element>, String> {
    // A stream header has no end of its own.
    let header = text.starts_with("<stream:stream") && text.matches('<').count() == 1 && !text.ends_with("/>");
    let text = if header { text.trim_end_matches('>').to_owned() + "/>" } else { text.to_owned() };
    let whole =
        format!("<all xmlns='jabber:client' xmlns:stream='{}' xmlns:scansion='{SCANSION}'>{text}</all>", ns::STREAMS);
    let all: Element = whole.parse().map_err(|error| format!("this is not XML ({error:?}): {text}"))?;
    Ok(all.elements().cloned().collect())
}

/// Compares; an error says what is different. Captures are only made when all of it fits.
pub(crate) fn compare(wanted: &Element, got: &Element, captures: &mut Captures) -> Result<(), String> {
    let mut tried = captures.clone();
    element(wanted, got, None, &mut tried)?;
    *captures = tried;
    Ok(())
}

fn element(wanted: &Element, got: &Element, inherited: Option<bool>, captures: &mut Captures) -> Result<(), String> {
    let name = wanted.name();
    if !got.is(name, wanted.ns()) {
        return Err(format!("expected <{name} xmlns='{}'>, got <{} xmlns='{}'>", wanted.ns(), got.name(), got.ns()));
    }
    let said = wanted.get_ns("strict", SCANSION).map(|value| matches!(value, "true" | "yes" | "1"));
    let inherited = said.or(inherited);
    let strict = inherited.unwrap_or(!matches!(wanted.ns(), ns::CLIENT | ns::SERVER | ns::STREAMS));
    attributes(wanted, got, strict, captures).map_err(|why| format!("<{name}>: {why}"))?;

    let (text, found) = (wanted.content(), got.content());
    if (strict || !text.trim().is_empty()) && !fits(text.trim(), found.trim(), captures) {
        return Err(format!("<{name}>: expected the text {:?}, got {:?}", text.trim(), found.trim()));
    }
    let children: Vec<&Element> = got.elements().collect();
    if strict {
        let expected = wanted.elements().count();
        if expected != children.len() {
            return Err(format!("<{name}>: expected {expected} children, got {}", children.len()));
        }
        return wanted.elements().zip(children).try_for_each(|(wanted, got)| element(wanted, got, inherited, captures));
    }
    let mut free = children;
    for wanted in wanted.elements() {
        let mut why = format!("<{name}>: there is no <{} xmlns='{}'>", wanted.name(), wanted.ns());
        let place = free.iter().position(|got| {
            let mut tried = captures.clone();
            match element(wanted, got, inherited, &mut tried) {
                Ok(()) => {
                    *captures = tried;
                    true
                }
                Err(different) => {
                    if got.is(wanted.name(), wanted.ns()) {
                        why = different;
                    }
                    false
                }
            }
        });
        match place {
            Some(place) => drop(free.remove(place)),
            None => return Err(why),
        }
    }
    Ok(())
}

fn attributes(wanted: &Element, got: &Element, strict: bool, captures: &mut Captures) -> Result<(), String> {
    for (ns, name, value) in wanted.attributes().filter(|(ns, ..)| *ns != SCANSION) {
        match got.attributes().find(|(found_ns, found, _)| *found_ns == ns && *found == name) {
            None => return Err(format!("the attribute {name} is missing")),
            Some((.., found)) if !fits(value, found, captures) => {
                return Err(format!("expected {name}={value:?}, got {found:?}"));
            }
            Some(_) => {}
        }
    }
    if strict {
        let unexpected =
            got.attributes().find(|(ns, name, _)| !wanted.attributes().any(|(n, a, _)| n == *ns && a == *name));
        if let Some((_, name, value)) = unexpected {
            return Err(format!("unexpected {name}={value:?}"));
        }
    }
    Ok(())
}

fn fits(wanted: &str, got: &str, captures: &mut Captures) -> bool {
    if wanted == "{scansion:any}" {
        return true;
    }
    let capture = wanted.strip_prefix("{scansion:capture:").and_then(|rest| rest.strip_suffix('}'));
    match capture {
        Some(name) => captures.entry(name.to_owned()).or_insert_with(|| got.to_owned()) == got,
        None => wanted == got,
    }
}
