//! XEP-0313 §4: what a query asks for, and the form that says what may be asked. A pure reading of XML.
//!
//! Errors: an id that cannot be one of ours is one that is not in the archive (`item-not-found`, §4.1.3, §4.3.2), a field
//! that is not known is `feature-not-implemented` (§4.1.5), a value that cannot be is what XEP-0004 says
//! (`not-acceptable`).

use std::time::SystemTime;

use crate::store::{ArchiveQuery, Page};
use rookery_xmpp::dataform::{Field, FieldType, Form, FormType, unacceptable};
use rookery_xmpp::datetime;
use rookery_xmpp::element::Element;
use rookery_xmpp::error::{Condition, StanzaError};
use rookery_xmpp::jid::Jid;
use rookery_xmpp::ns;
use rookery_xmpp::rsm::{self, Start};

/// The field of XEP-0431.
const WORDS: &str = "{urn:xmpp:fulltext:0}fulltext";

/// The field for accounts, whose archives may hold what was said in rooms.
const GROUPCHAT: &str = "include-groupchat";

/// The fields that any query may have.
const FIELDS: [&str; 7] = ["FORM_TYPE", "with", "start", "end", "before-id", "after-id", "ids"];

/// The longest `queryid`, in bytes: it comes back with each result.
const LONGEST_ID: usize = 1023;

/// The longest text to search for, in bytes.
const LONGEST_WORDS: usize = 1024;

/// What we are ready to do.
#[derive(Debug, Clone, Copy)]
pub struct Offer {
    /// Results of a query that does not say how many.
    pub page: usize,
    /// Results of any query.
    pub most: usize,
    /// Whether messages may be searched for by words.
    pub search: bool,
    /// Whether there is a choice between what was said in rooms and what was not: in a room there is none.
    pub groupchat: bool,
}

/// A query, read.
#[derive(Debug, Clone)]
pub struct Query {
    /// What the client calls it.
    pub id: Option<String>,
    /// What is asked of the store.
    pub archive: ArchiveQuery,
    /// The page is sent with its newest message first (§4.3.4).
    pub flip: bool,
}

impl Query {
    /// Reads a `<query/>`.
    pub fn read(query: &Element, offer: Offer) -> Result<Self, StanzaError> {
        if query.get("node").is_some() {
            return Err(not_implemented("Only the archive as a whole can be asked (XEP-0442 is not supported)."));
        }
        let id = query.get("queryid").map(str::to_owned);
        if id.as_ref().is_some_and(|id| id.len() > LONGEST_ID) {
            let text = format!("The 'queryid' may have {LONGEST_ID} bytes.");
            return Err(StanzaError::new(Condition::BadRequest).with_text(text));
        }
        let mut archive = match query.find("x", ns::X_DATA) {
            None => everything(),
            Some(_) => {
                let form = Form::submission(query, ns::MAM)?;
                filter(&form.ok_or_else(|| StanzaError::new(Condition::BadRequest))?, offer)?
            }
        };
        let page = rsm::Request::find(query)?;
        archive.max = match &page {
            Some(page) => page.max.map_or(offer.page, |_| page.limit(offer.most)),
            None => offer.page,
        };
        archive.page = match page.map(|page| page.start) {
            None | Some(Start::Forward { after: None }) => Page::First,
            Some(Start::Forward { after: Some(after) }) => Page::After(read_id(&after)?),
            Some(Start::Backward { before, after }) => {
                // Together they are undefined; a range is what whoever says so means.
                if let Some(after) = after {
                    archive.after_id = archive.after_id.max(Some(read_id(&after)?));
                }
                before.map_or(Ok(Page::Last), |before| read_id(&before).map(Page::Before))?
            }
            Some(Start::Index(_)) => {
                return Err(not_implemented("Pages are asked for by <after/> and <before/> (XEP-0059 §2.6)."));
            }
        };
        // To count is to look at all that matches: done once for those who page through it, and when asked for alone.
        archive.count = archive.max == 0 || matches!(archive.page, Page::First | Page::Last);
        Ok(Self { id, archive, flip: query.find("flip-page", ns::MAM).is_some() })
    }
}

fn everything() -> ArchiveQuery {
    ArchiveQuery {
        with: None,
        start: None,
        end: None,
        after_id: None,
        before_id: None,
        ids: Vec::new(),
        words: None,
        page: Page::First,
        max: 0,
        count: false,
    }
}

fn filter(form: &Form, offer: Offer) -> Result<ArchiveQuery, StanzaError> {
    let is_known =
        |var: &str| FIELDS.contains(&var) || offer.search && var == WORDS || offer.groupchat && var == GROUPCHAT;
    if let Some(field) = form.iter().find(|field| !is_known(field.var())) {
        return Err(not_implemented(format!("The field '{}' is not known here.", field.var())));
    }
    // Rooms keep their own archives: what is said there is in no account's, whether it is asked for or not.
    form.boolean(GROUPCHAT)?;
    let mut ids = form.values("ids").map(read_id).collect::<Result<Vec<u64>, _>>()?;
    ids.sort_unstable();
    ids.dedup();
    if ids.len() > offer.most {
        return Err(unacceptable("ids", format!("at most {} messages at once", offer.most)));
    }
    let words = if offer.search { form.text(WORDS)? } else { None };
    if words.is_some_and(|words| words.len() > LONGEST_WORDS) {
        return Err(unacceptable(WORDS, format!("may have {LONGEST_WORDS} bytes")));
    }
    Ok(ArchiveQuery {
        with: form.parsed::<Jid>("with")?,
        start: time(form, "start")?,
        end: time(form, "end")?,
        after_id: form.text("after-id")?.map(read_id).transpose()?,
        before_id: form.text("before-id")?.map(read_id).transpose()?,
        ids,
        words: words.map(str::to_owned),
        ..everything()
    })
}

fn time(form: &Form, var: &str) -> Result<Option<SystemTime>, StanzaError> {
    let read = |text| datetime::parse(text).ok_or_else(|| unacceptable(var, "must be a time as in XEP-0082"));
    form.text(var)?.map(read).transpose()
}

/// Reads an id as we write it; anything else was never in an archive.
fn read_id(text: &str) -> Result<u64, StanzaError> {
    let is_ours = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_ours).ok_or(StanzaError::new(Condition::ItemNotFound))
}

fn not_implemented(text: impl Into<std::borrow::Cow<'static, str>>) -> StanzaError {
    StanzaError::new(Condition::FeatureNotImplemented).with_text(text)
}

/// The form with all fields (§4.1.5).
pub fn form(offer: Offer) -> Element {
    let text = |var| Field::text(var, "");
    let mut form = Form::new(FormType::Form)
        .form_type(ns::MAM)
        .field(Field::new(FieldType::JidSingle, "with"))
        .fields(["start", "end", "before-id", "after-id"].map(text))
        .field(Field::new(FieldType::ListMulti, "ids"));
    if offer.groupchat {
        form = form.field(Field::new(FieldType::Boolean, GROUPCHAT));
    }
    if offer.search {
        form = form.field(text(WORDS));
    }
    let mut form = form.to_element();
    // The list of all ids would be long (§4.1.5): it is open instead (XEP-0122 §3.2).
    let open = Element::new("validate", ns::X_DATA_VALIDATE)
        .attr("datatype", "xs:string")
        .child(Element::new("open", ns::X_DATA_VALIDATE));
    if let Some(ids) = form.elements_mut().find(|field| field.get("var") == Some("ids")) {
        ids.push(open);
    }
    Element::new("query", ns::MAM).child(form)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;

    const OFFER: Offer = Offer { page: 50, most: 250, search: true, groupchat: true };

    fn query(attributes: &str, children: &str) -> Result<Query, StanzaError> {
        let query = format!("<query xmlns='urn:xmpp:mam:2'{attributes}>{children}</query>");
        Query::read(&query.parse().unwrap(), OFFER)
    }

    fn fields(fields: &[(&str, &str)]) -> Result<Query, StanzaError> {
        let field = |(var, value): &(&str, &str)| format!("<field var='{var}'><value>{value}</value></field>");
        let fields: String = [("FORM_TYPE", ns::MAM)].iter().chain(fields).map(field).collect();
        query("", &format!("<x xmlns='jabber:x:data' type='submit'>{fields}</x>"))
    }

    fn set(children: &str) -> Result<Query, StanzaError> {
        query("", &format!("<set xmlns='http://jabber.org/protocol/rsm'>{children}</set>"))
    }

    #[track_caller]
    fn refused(query: Result<Query, StanzaError>, condition: Condition) {
        assert_eq!(query.map(|query| query.archive.max).map_err(|error| error.condition), Err(condition));
    }

    #[test]
    fn a_query_without_anything_asks_for_the_first_page() {
        let query = query(" queryid='f27'", "").unwrap();
        assert_eq!(query.id.as_deref(), Some("f27"));
        assert_eq!((query.archive.page, query.archive.max, query.archive.count), (Page::First, 50, true));
        assert!(!query.flip);
    }

    #[test]
    fn filters() {
        let query = fields(&[
            ("with", "Juliet@Capulet.LIT/Balcony"),
            ("start", "1970-01-01T00:00:01Z"),
            ("end", "1970-01-01T01:00:02+01:00"),
            ("after-id", "7"),
            ("before-id", "18446744073709551615"),
            ("include-groupchat", "true"),
            (WORDS, "art thou"),
        ])
        .unwrap();
        let archive = query.archive;
        assert_eq!(archive.with, Jid::new("juliet@capulet.lit/Balcony").ok());
        assert_eq!(archive.start, Some(UNIX_EPOCH + Duration::from_secs(1)));
        assert_eq!(archive.end, Some(UNIX_EPOCH + Duration::from_secs(2)));
        assert_eq!((archive.after_id, archive.before_id), (Some(7), Some(u64::MAX)));
        assert_eq!(archive.words.as_deref(), Some("art thou"));
        let nothing = fields(&[("with", ""), ("start", ""), ("after-id", ""), ("ids", ""), (WORDS, "")]).unwrap();
        assert_eq!(format!("{:?}", nothing.archive), format!("{:?}", fields(&[]).unwrap().archive));
    }

    #[test]
    fn several_ids_count_once_each() {
        let ids = |values: &str| {
            query(
                "",
                &format!(
                    "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>urn:xmpp:mam:2</value></field>\
                     <field var='ids'>{values}</field></x>"
                ),
            )
        };
        assert_eq!(ids("<value>9</value><value>8</value><value>9</value>").unwrap().archive.ids, [8, 9]);
        refused(ids("<value>9</value><value>x</value>"), Condition::ItemNotFound);
        let many: String = (1..=251).map(|id| format!("<value>{id}</value>")).collect();
        refused(ids(&many), Condition::NotAcceptable);
    }

    #[test]
    fn values_that_cannot_be() {
        for (var, value, condition) in [
            ("with", "@capulet.lit", Condition::NotAcceptable),
            ("start", "yesterday", Condition::NotAcceptable),
            ("start", "2010-06-07", Condition::NotAcceptable),
            ("end", "2010-06-07T00:00:00", Condition::NotAcceptable),
            ("include-groupchat", "perhaps", Condition::NotAcceptable),
            ("after-id", "x", Condition::ItemNotFound),
            ("after-id", "+7", Condition::ItemNotFound),
            ("after-id", "-7", Condition::ItemNotFound),
            ("after-id", "07", Condition::ItemNotFound),
            ("after-id", "0", Condition::ItemNotFound),
            ("before-id", " 7", Condition::ItemNotFound),
            ("before-id", "18446744073709551616", Condition::ItemNotFound),
            ("before-id", "\u{667}", Condition::ItemNotFound),
            ("ids", "7 ", Condition::ItemNotFound),
            ("withtext", "x", Condition::FeatureNotImplemented),
            ("{http://example.com/}free-text-search", "x", Condition::FeatureNotImplemented),
            ("", "x", Condition::FeatureNotImplemented),
        ] {
            refused(fields(&[(var, value)]), condition);
        }
        refused(fields(&[(WORDS, &"x".repeat(1025))]), Condition::NotAcceptable);
        refused(fields(&[("with", "a@b"), ("with", "c@d")]), Condition::BadRequest);
        let two = "<field var='FORM_TYPE'><value>urn:xmpp:mam:2</value></field>\
                   <field var='with'><value>a@b</value><value>c@d</value></field>";
        refused(query("", &format!("<x xmlns='jabber:x:data' type='submit'>{two}</x>")), Condition::NotAcceptable);
    }

    #[test]
    fn forms_that_are_none_of_ours() {
        for (form, condition) in [
            ("<x xmlns='jabber:x:data'/>", Condition::BadRequest),
            ("<x xmlns='jabber:x:data' type='form'/>", Condition::BadRequest),
            ("<x xmlns='jabber:x:data' type='cancel'/>", Condition::BadRequest),
            (
                "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>urn:xmpp:mam:1</value></field></x>",
                Condition::BadRequest,
            ),
        ] {
            refused(query("", form), condition);
        }
        refused(query(" node='urn:xmpp:microblog:0'", ""), Condition::FeatureNotImplemented);
        refused(query(&format!(" queryid='{}'", "x".repeat(1024)), ""), Condition::BadRequest);
    }

    #[test]
    fn pages() {
        for (children, page, max, count) in [
            ("", Page::First, 50, true),
            ("<max>10</max>", Page::First, 10, true),
            ("<max>0</max>", Page::First, 0, true),
            ("<max>100000</max>", Page::First, 250, true),
            ("<max>10</max><after/>", Page::First, 10, true),
            ("<max>10</max><after>7</after>", Page::After(7), 10, false),
            ("<max>0</max><after>7</after>", Page::After(7), 0, true),
            ("<max>10</max><before/>", Page::Last, 10, true),
            ("<before>7</before>", Page::Before(7), 50, false),
        ] {
            let query = set(children).unwrap().archive;
            assert_eq!((query.page, query.max, query.count), (page, max, count), "{children}");
        }
        for (children, condition) in [
            ("<max>-1</max>", Condition::BadRequest),
            ("<max/>", Condition::BadRequest),
            ("<max>ten</max>", Condition::BadRequest),
            ("<max>1.5</max>", Condition::BadRequest),
            ("<index>5</index>", Condition::FeatureNotImplemented),
            ("<after>x</after>", Condition::ItemNotFound),
            ("<before>x</before>", Condition::ItemNotFound),
            ("<before>7</before><after>x</after>", Condition::ItemNotFound),
        ] {
            refused(set(children), condition);
        }
        let range = set("<before>9</before><after>7</after>").unwrap().archive;
        assert_eq!((range.page, range.after_id), (Page::Before(9), Some(7)));
        assert!(query("", "<flip-page/>").unwrap().flip);
    }

    proptest! {
        #[test]
        fn whatever_is_said_is_read_or_refused(
            field in 0..FIELDS.len(),
            values in proptest::collection::vec("\\PC{0,30}|[0-9]{0,22}", 0..4),
            place in "before|after|index|max|\\PC{1,5}",
            text in "\\PC{0,30}|[0-9]{0,22}",
        ) {
            let field = Field::new(FieldType::TextSingle, FIELDS[field]).values(values);
            let form = Form::new(FormType::Submit).field(field).to_element();
            let set = Element::new("set", ns::RSM).child(Element::new(place, ns::RSM).text(text));
            let query = Element::new("query", ns::MAM).child(form).child(set);
            if let Ok(query) = Query::read(&query, OFFER) {
                prop_assert!(query.archive.max <= OFFER.most && query.archive.ids.len() <= OFFER.most);
            }
        }
    }

    #[test]
    fn the_form() {
        assert_eq!(
            form(OFFER).to_xml(),
            "<query xmlns='urn:xmpp:mam:2'><x xmlns='jabber:x:data' type='form'>\
             <field var='FORM_TYPE' type='hidden'><value>urn:xmpp:mam:2</value></field>\
             <field var='with' type='jid-single'/><field var='start' type='text-single'/>\
             <field var='end' type='text-single'/><field var='before-id' type='text-single'/>\
             <field var='after-id' type='text-single'/><field var='ids' type='list-multi'>\
             <validate xmlns='http://jabber.org/protocol/xdata-validate' datatype='xs:string'><open/></validate></field>\
             <field var='include-groupchat' type='boolean'/>\
             <field var='{urn:xmpp:fulltext:0}fulltext' type='text-single'/></x></query>"
        );
        let room = form(Offer { search: false, groupchat: false, ..OFFER }).to_xml();
        assert!(!room.contains("fulltext") && !room.contains("groupchat"), "{room}");
        let hidden = Offer { search: false, ..OFFER };
        let query: Element = "<query xmlns='urn:xmpp:mam:2'><x xmlns='jabber:x:data' type='submit'>\
             <field var='{urn:xmpp:fulltext:0}fulltext'><value>x</value></field></x></query>"
            .parse()
            .unwrap();
        refused(Query::read(&query, hidden), Condition::FeatureNotImplemented);
    }
}
