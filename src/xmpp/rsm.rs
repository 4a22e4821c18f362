//! XEP-0059: Result Set Management: the request for a page, the page of a set in memory, the `<set/>` of the answer. Sets
//! that live in a database are cut there; [`Request`] says how.

use std::ops::Range;

use crate::element::Element;
use crate::error::{Condition, StanzaError};
use crate::ns;

/// Where a page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// At the first item that lies behind `after`, and before `before`, forwards.
    Forward {
        /// The id of the item before the page; `None` is the beginning of the set.
        after: Option<String>,
    },
    /// So that the page ends with the item before this one, or with the last of the set. With `after`, not before that.
    Backward {
        /// The id of the item behind the page; `None` is the end of the set.
        before: Option<String>,
        /// The id of the item that limits the page at its other end, which clients use that lack what came since.
        after: Option<String>,
    },
    /// At the item of this place, counted from 0.
    Index(u64),
}

/// A request for a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The most items that are wanted; 0 asks only how many there are.
    pub max: Option<u64>,
    /// Which.
    pub start: Start,
}

impl Request {
    /// Finds the `<set/>` in a payload and reads it; `None` if there is none.
    pub fn find(parent: &Element) -> Result<Option<Self>, StanzaError> {
        parent.find("set", ns::RSM).map(Self::from_element).transpose()
    }

    /// Reads a `<set/>`.
    pub fn from_element(set: &Element) -> Result<Self, StanzaError> {
        let text = |name: &str| set.find(name, ns::RSM).map(|child| child.content());
        let number =
            |name: &str| match text(name) {
                None => Ok(None),
                Some(text) => text.trim().parse().map(Some).map_err(|_| {
                    StanzaError::new(Condition::BadRequest).with_text(format!("<{name}/> must be a number"))
                }),
            };
        let id = |name: &str| text(name).filter(|id| !id.is_empty());
        let start = if set.find("before", ns::RSM).is_some() {
            Start::Backward { before: id("before"), after: id("after") }
        } else if let (Some(index), None) = (number("index")?, id("after")) {
            Start::Index(index)
        } else {
            Start::Forward { after: id("after") }
        };
        Ok(Self { max: number("max")?, start })
    }

    /// How many items the page may have, when `most` is what we are ready to send at once.
    pub fn limit(&self, most: usize) -> usize {
        self.max.and_then(|max| usize::try_from(max).ok()).map_or(most, |max| max.min(most))
    }

    /// Cuts a page out of a set in memory, whose items are in order and have the ids `id(place)`.
    ///
    /// # Errors
    /// `item-not-found`, if an id is not in the set (§2.5).
    pub fn page<'a>(
        &self,
        len: usize,
        id: impl Fn(usize) -> &'a str,
        most: usize,
    ) -> Result<(Range<usize>, Page), StanzaError> {
        self.page_of(len, &id, |wanted| (0..len).find(|place| id(*place) == wanted), most)
    }

    /// The same for a set that is large: `find` knows the place of an id without looking through all of them.
    ///
    /// # Errors
    /// `item-not-found`, if an id is not in the set (§2.5).
    pub fn page_of<'a>(
        &self,
        len: usize,
        id: impl Fn(usize) -> &'a str,
        find: impl Fn(&str) -> Option<usize>,
        most: usize,
    ) -> Result<(Range<usize>, Page), StanzaError> {
        let place = |wanted: &str| find(wanted).ok_or(StanzaError::new(Condition::ItemNotFound));
        let behind =
            |after: &Option<String>| after.as_deref().map_or(Ok(0), |after| place(after).map(|place| place + 1));
        let limit = self.limit(most);
        let range = match &self.start {
            Start::Forward { after } => {
                let start = behind(after)?;
                start..len.min(start.saturating_add(limit))
            }
            Start::Backward { before, after } => {
                let end = before.as_deref().map_or(Ok(len), place)?;
                let first = behind(after)?.min(end);
                first.max(end.saturating_sub(limit))..end
            }
            Start::Index(index) => {
                let start = usize::try_from(*index).unwrap_or(usize::MAX);
                if start >= len && start > 0 {
                    return Err(StanzaError::new(Condition::ItemNotFound));
                }
                start..len.min(start.saturating_add(limit))
            }
        };
        let ends = range.clone().next().zip(range.clone().next_back());
        let page = Page {
            ends: ends.map(|(first, last)| (id(first).to_owned(), id(last).to_owned())),
            index: Some(range.start as u64),
            count: Some(len as u64),
        };
        Ok((range, page))
    }
}

/// What is said of a page that is sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The ids of the first and last item; `None` for an empty page.
    pub ends: Option<(String, String)>,
    /// The place of the first item in the set, if it is cheap to know.
    pub index: Option<u64>,
    /// How many items the set has, if it is cheap to know.
    pub count: Option<u64>,
}

impl Page {
    /// The `<set/>` element.
    pub fn to_element(&self) -> Element {
        let element = |name, text: String| Element::new(name, ns::RSM).text(text);
        let mut set = Element::new("set", ns::RSM);
        if let Some((first, last)) = &self.ends {
            let index = self.index.map(|index| index.to_string());
            set.push(element("first", first.clone()).attr_opt("index", index));
            set.push(element("last", last.clone()));
        }
        set.children(self.count.map(|count| element("count", count.to_string())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: [&str; 5] = ["a", "b", "c", "d", "e"];

    fn request(children: &str) -> Result<Request, StanzaError> {
        let query =
            format!("<query xmlns='urn:q'><set xmlns='http://jabber.org/protocol/rsm'>{children}</set></query>");
        Request::find(&query.parse().unwrap()).map(Option::unwrap)
    }

    fn check(children: &str, items: &[&str], set: &str) {
        let (range, page) = request(children).unwrap().page(SET.len(), |place| SET[place], 4).unwrap();
        assert_eq!(&SET[range], items, "{children}");
        let set = format!("<set xmlns='http://jabber.org/protocol/rsm'>{set}<count>5</count></set>");
        assert_eq!(page.to_element().to_string(), set, "{children}");
    }

    #[test]
    fn pages() {
        check("<max>2</max>", &["a", "b"], "<first index='0'>a</first><last>b</last>");
        check("<max>2</max><after>b</after>", &["c", "d"], "<first index='2'>c</first><last>d</last>");
        check("<max>2</max><after/>", &["a", "b"], "<first index='0'>a</first><last>b</last>");
        check("<max>2</max><after>d</after>", &["e"], "<first index='4'>e</first><last>e</last>");
        check("<max>2</max><after>e</after>", &[], "");
        check("<max>2</max><before>d</before>", &["b", "c"], "<first index='1'>b</first><last>c</last>");
        check("<max>2</max><before/>", &["d", "e"], "<first index='3'>d</first><last>e</last>");
        check("<max>3</max><before/><after>c</after>", &["d", "e"], "<first index='3'>d</first><last>e</last>");
        check("<max>3</max><before>b</before><after>c</after>", &[], "");
        check("<max>2</max><index>3</index>", &["d", "e"], "<first index='3'>d</first><last>e</last>");
        check("<max>0</max>", &[], "");
        check("", &["a", "b", "c", "d"], "<first index='0'>a</first><last>d</last>");
        check("<max>18446744073709551615</max>", &["a", "b", "c", "d"], "<first index='0'>a</first><last>d</last>");
    }

    #[test]
    fn what_is_no_page() {
        for children in
            ["<after>x</after>", "<before>x</before>", "<index>5</index>", "<index>18446744073709551615</index>"]
        {
            let error = request(children).unwrap().page(SET.len(), |place| SET[place], 4).unwrap_err();
            assert_eq!(error.condition, Condition::ItemNotFound, "{children}");
        }
        for children in
            ["<max>-1</max>", "<max/>", "<max>ten</max>", "<index>x</index>", "<max>99999999999999999999</max>"]
        {
            assert_eq!(request(children).unwrap_err().condition, Condition::BadRequest, "{children}");
        }
    }

    #[test]
    fn an_empty_set_has_an_empty_page() {
        for children in ["", "<before/>", "<index>0</index>"] {
            let (range, page) = request(children).unwrap().page(0, |_| "", 4).unwrap();
            assert_eq!(range, 0..0);
            assert_eq!(page.ends, None);
        }
    }
}
