//! RFC 7622 §3.2 to §3.4: how the parts of an address are prepared.

use std::borrow::Cow;

use precis_profiles::precis_core::profile::PrecisFastInvocation;
use precis_profiles::{OpaqueString, UsernameCaseMapped};

use super::{JidError, Part};

const MAX: usize = 1023;

pub(super) fn local(text: &str) -> Result<Cow<'_, str>, JidError> {
    let text = UsernameCaseMapped::enforce(text).map_err(|_| JidError::Forbidden(Part::Local))?;
    if text.contains(['"', '&', '\'', '/', ':', '<', '>', '@']) {
        return Err(JidError::Forbidden(Part::Local));
    }
    measured(text, Part::Local)
}

pub(super) fn domain(text: &str) -> Result<Cow<'_, str>, JidError> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let (text, result) = idna::domain_to_unicode(text);
    result.map_err(|_| JidError::Forbidden(Part::Domain))?;
    measured(text.into(), Part::Domain)
}

pub(super) fn resource(text: &str) -> Result<Cow<'_, str>, JidError> {
    measured(
        OpaqueString::enforce(text).map_err(|_| JidError::Forbidden(Part::Resource))?,
        Part::Resource,
    )
}

fn measured(text: Cow<'_, str>, part: Part) -> Result<Cow<'_, str>, JidError> {
    match text.len() {
        0 => Err(JidError::Empty(part)),
        len if len > MAX => Err(JidError::TooLong(part)),
        _ => Ok(text),
    }
}
