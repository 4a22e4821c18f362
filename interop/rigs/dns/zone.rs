//! Zones as text: the form of RFC 1035 §5 with one record a line, and a few lines of our own for what is to go wrong. A line
//! that begins with a type is of the name before.
//!
//! ```text
//! $ORIGIN a.test.            begins a zone; its SOA and NS are made if they are not written
//! $TTL 60                    of the records that follow
//! $SIGN                      this zone is signed (and so is the root, which has its key's digest)
//! @                     A     127.0.0.1
//! _xmpp-server._tcp 30  SRV   0 5 5269 xmpp
//! $SERVFAIL _xmpp-server._tcp.b
//! ```
//!
//! Trouble is for a name and all below it; `@` is the zone's. What they do is said at [`Trouble`]:
//! `$SERVFAIL $REFUSED $DROP $GARBAGE $TRUNCATE $ELSEWHERE $UNCHECKED $BOGUS $EXPIRED $STRIP` NAME, `$DELAY` NAME MILLISECONDS.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hickory_proto::rr::rdata::{CNAME, NS, SOA, SRV};
use hickory_proto::rr::{Name, RData, RecordSet, RecordType};

/// What is to go wrong with the questions for a name, or with its signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// SERVFAIL.
    ServFail,
    /// REFUSED.
    Refused,
    /// No answer.
    Drop,
    /// The answer comes so much later.
    Delay(Duration),
    /// An answer that is no DNS.
    Garbage,
    /// Over UDP the answer does not fit; over TCP it does.
    Truncate,
    /// An answer to another question.
    Elsewhere,
    /// SERVFAIL, unless the question forbids checking signatures: what a validating nameserver says of a bogus zone.
    Unchecked,
    /// The signatures of its records are wrong.
    Bogus,
    /// The signatures of its records have expired.
    Expired,
    /// Its records have no signatures, though the zone is signed.
    Strip,
}

/// A line that makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct ZoneError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

/// All zones of a server.
#[derive(Debug, Clone, Default)]
pub(super) struct Zones {
    /// By their apex, which is in lower case. The root is always there.
    pub(super) zones: BTreeMap<Name, Zone>,
    /// What is to go wrong, and where.
    pub(super) troubles: Vec<(Name, Trouble)>,
}

/// One of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Zone {
    pub(super) signed: bool,
    pub(super) records: BTreeMap<(Name, RecordType), RecordSet>,
    /// All names that exist in it, those that have records only below them included.
    pub(super) names: BTreeSet<Name>,
}

impl Zones {
    /// Reads them; the order of zones does not matter.
    pub(super) fn parse(text: &str) -> Result<Self, ZoneError> {
        let mut zones = Self::default();
        zones.zones.insert(Name::root(), Zone::default());
        let mut reader = Reader { zones, origin: Name::root(), ttl: 60, last: Name::root() };
        for (number, line) in text.lines().enumerate() {
            reader.line(line).map_err(|why| ZoneError { line: number + 1, why })?;
        }
        let mut zones = reader.zones;
        zones.complete();
        Ok(zones)
    }

    fn complete(&mut self) {
        let signed = self.zones.values().any(|zone| zone.signed);
        let apexes: Vec<Name> = self.zones.keys().cloned().collect();
        for (apex, zone) in &mut self.zones {
            zone.signed |= signed && apex.is_root();
            zone.fallback(apex, RecordType::NS, RData::NS(NS(name("ns.rigs.invalid."))));
            let soa = SOA::new(name("ns.rigs.invalid."), name("rigs.invalid."), 1, 3600, 600, 86400, 60);
            zone.fallback(apex, RecordType::SOA, RData::SOA(soa));
            // The zone next below this one, not those below that.
            let children = apexes.iter().filter(|child| {
                *child != apex && apex.zone_of(child) && enclosing(&apexes, &child.base_name()) == Some(apex)
            });
            let owners: Vec<Name> =
                zone.records.keys().map(|(owner, _)| owner.clone()).chain(children.cloned()).collect();
            for owner in owners {
                let mut name = owner;
                while apex.zone_of(&name) && zone.names.insert(name.clone()) && !name.is_root() {
                    name = name.base_name();
                }
            }
        }
    }

    /// The apex of the zone that a name is in.
    pub(super) fn apex(&self, name: &Name) -> Name {
        let mut apex = name.clone();
        while !apex.is_root() && !self.zones.contains_key(&apex) {
            apex = apex.base_name();
        }
        apex
    }

    /// What is to go wrong at a name: the line that is nearest to it decides.
    pub(super) fn trouble(&self, name: &Name, of: impl Fn(Trouble) -> bool) -> Option<Trouble> {
        (self.troubles.iter())
            .filter(|(place, trouble)| place.zone_of(name) && of(*trouble))
            .max_by_key(|(place, _)| place.num_labels())
            .map(|(_, trouble)| *trouble)
    }
}

/// Of these, which are sorted, the one nearest above a name.
fn enclosing<'a>(apexes: &'a [Name], name: &Name) -> Option<&'a Name> {
    apexes.iter().filter(|apex| apex.zone_of(name)).max_by_key(|apex| apex.num_labels())
}

impl Zone {
    fn fallback(&mut self, apex: &Name, kind: RecordType, data: RData) {
        self.records.entry((apex.clone(), kind)).or_insert_with(|| {
            let mut set = RecordSet::with_ttl(apex.clone(), kind, 60);
            set.add_rdata(data);
            set
        });
    }

    /// The kinds of records at a name.
    pub(super) fn kinds(&self, name: &Name) -> Vec<RecordType> {
        self.records.keys().filter(|(owner, _)| owner == name).map(|(_, kind)| *kind).collect()
    }
}

pub(super) fn name(text: &str) -> Name {
    Name::from_ascii(text).expect("a name")
}

struct Reader {
    zones: Zones,
    origin: Name,
    ttl: u32,
    last: Name,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        let line = strip_comment(line);
        let mut words = line.split_whitespace();
        let Some(mut word) = words.next() else { return Ok(()) };
        if word.starts_with('$') {
            return self.directive(word, &words.collect::<Vec<_>>());
        }
        // RFC 1035 goes by the white space in front; here zones stand indented in other code. Types are upper-case.
        if word != "IN" && (word.to_ascii_uppercase() != word || word.parse::<RecordType>().is_err()) {
            self.last = self.name(word)?;
            word = words.next().ok_or("a name alone")?;
        }
        let mut ttl = self.ttl;
        let kind = loop {
            if let Ok(seconds) = word.parse() {
                ttl = seconds;
            } else if !word.eq_ignore_ascii_case("IN") {
                break word.parse::<RecordType>().map_err(|_| format!("unknown type {word}"))?;
            }
            word = words.next().ok_or("no type")?;
        };
        let words: Vec<&str> = words.collect();
        let data = self.data(kind, &words)?;
        let owner = self.last.clone();
        if !self.origin.zone_of(&owner) {
            return Err(format!("{owner} is not in the zone {}", self.origin));
        }
        let zone = self.zones.zones.entry(self.origin.clone()).or_default();
        let set = zone.records.entry((owner.clone(), kind)).or_insert_with(|| RecordSet::with_ttl(owner, kind, ttl));
        set.add_rdata(data);
        Ok(())
    }

    fn data(&self, kind: RecordType, words: &[&str]) -> Result<RData, String> {
        // Names in them may be relative to the origin.
        match (kind, words) {
            (RecordType::CNAME, [target]) => Ok(RData::CNAME(CNAME(self.name(target)?))),
            (RecordType::NS, [target]) => Ok(RData::NS(NS(self.name(target)?))),
            (RecordType::SRV, [priority, weight, port, target]) => {
                let number = |word: &str| word.parse().map_err(|_| format!("{word} is no number"));
                Ok(RData::SRV(SRV::new(number(priority)?, number(weight)?, number(port)?, self.name(target)?)))
            }
            _ => RData::try_from_str(kind, &words.join(" ")).map_err(|error| error.to_string()),
        }
    }

    fn directive(&mut self, word: &str, words: &[&str]) -> Result<(), String> {
        let trouble = match (word.to_ascii_uppercase().as_str(), words) {
            ("$ORIGIN", [origin]) => {
                self.origin = self.name(origin)?;
                self.last = self.origin.clone();
                self.zones.zones.entry(self.origin.clone()).or_default();
                return Ok(());
            }
            ("$TTL", [ttl]) => {
                self.ttl = ttl.parse().map_err(|_| format!("{ttl} is no number"))?;
                return Ok(());
            }
            ("$SIGN", []) => {
                self.zones.zones.entry(self.origin.clone()).or_default().signed = true;
                return Ok(());
            }
            ("$DELAY", [_, milliseconds]) => {
                let milliseconds = milliseconds.parse().map_err(|_| format!("{milliseconds} is no number"))?;
                Trouble::Delay(Duration::from_millis(milliseconds))
            }
            ("$SERVFAIL", [_]) => Trouble::ServFail,
            ("$REFUSED", [_]) => Trouble::Refused,
            ("$DROP", [_]) => Trouble::Drop,
            ("$GARBAGE", [_]) => Trouble::Garbage,
            ("$TRUNCATE", [_]) => Trouble::Truncate,
            ("$ELSEWHERE", [_]) => Trouble::Elsewhere,
            ("$UNCHECKED", [_]) => Trouble::Unchecked,
            ("$BOGUS", [_]) => Trouble::Bogus,
            ("$EXPIRED", [_]) => Trouble::Expired,
            ("$STRIP", [_]) => Trouble::Strip,
            _ => return Err(format!("{word} {} makes no sense", words.join(" "))),
        };
        let place = self.name(words.first().copied().unwrap_or("@"))?;
        self.zones.troubles.push((place, trouble));
        Ok(())
    }

    fn name(&self, text: &str) -> Result<Name, String> {
        let parsed = match text {
            "@" => return Ok(self.origin.clone()),
            _ if text.ends_with('.') => Name::from_ascii(text),
            _ => Name::from_ascii(text).and_then(|name| name.append_domain(&self.origin)),
        };
        parsed.map(|name| name.to_lowercase()).map_err(|error| format!("{text}: {error}"))
    }
}

/// Without what stands behind a semicolon outside of quotes.
fn strip_comment(line: &str) -> &str {
    let mut quoted = false;
    let end = line.char_indices().find(|(_, char)| {
        quoted ^= *char == '"';
        *char == ';' && !quoted
    });
    &line[..end.map_or(line.len(), |(at, _)| at)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_read() {
        let zones = Zones::parse(
            "$ORIGIN a.test. ; a comment\n$TTL 30\n$SIGN\n@ A 127.0.0.1\n  AAAA ::1\n\
             _xmpp-server._tcp 5 IN SRV 1 2 5269 XMPP\nb TXT \"x; y\" z\n$DELAY b 200\n$ORIGIN c.a.test.\n@ A 127.0.0.2\n",
        )
        .unwrap();
        assert_eq!(zones.zones.len(), 3);
        let zone = &zones.zones[&name("a.test.")];
        assert!(zone.signed && zones.zones[&Name::root()].signed && !zones.zones[&name("c.a.test.")].signed);
        assert_eq!(zone.kinds(&name("a.test.")).len(), 4);
        let srv = &zone.records[&(name("_xmpp-server._tcp.a.test."), RecordType::SRV)];
        assert_eq!(srv.ttl(), 5);
        assert_eq!(srv.records_without_rrsigs().next().unwrap().data.to_string(), "1 2 5269 xmpp.a.test.");
        assert!(zone.names.contains(&name("_tcp.a.test.")));
        assert!(
            zone.names.contains(&name("c.a.test.")) && !zones.zones[&Name::root()].names.contains(&name("c.a.test."))
        );
        assert!(zones.zones[&Name::root()].names.contains(&name("test.")));
        assert_eq!(zones.apex(&name("x.c.a.test.")), name("c.a.test."));
        assert_eq!(zones.trouble(&name("x.b.a.test."), |_| true), Some(Trouble::Delay(Duration::from_millis(200))));
        for wrong in ["$ORIGIN", "x", "x FOO y", "x A y", "$NONSENSE x", "$ORIGIN a.\nx.b. A 127.0.0.1"] {
            assert!(Zones::parse(wrong).is_err(), "{wrong}");
        }
    }
}
