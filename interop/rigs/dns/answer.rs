//! What a question is answered with: as a recursive nameserver would that has all zones at hand.

use std::ops::Bound;

use hickory_proto::dnssec::rdata::{DNSSECRData, NSEC};
use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordSet, RecordType};

use super::sign::Keys;
use super::zone::{Trouble, Zone, Zones, name};

/// A chain of CNAMEs is followed so far.
const MAX_CHAIN: usize = 12;

/// The answer to a question, no trouble but that of signatures considered.
pub(super) fn answer(zones: &Zones, keys: &Keys, question: &Message) -> Message {
    let mut answer = Message::response(question.id, question.op_code);
    answer.metadata.recursion_desired = question.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.metadata.checking_disabled = question.checking_disabled;
    answer.add_queries(question.queries.iter().cloned());
    let wants_signatures = question.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
    if question.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(4096).set_dnssec_ok(wants_signatures);
        answer.set_edns(edns);
    }
    match question.queries.as_slice() {
        [query] => Answerer { zones, keys, wants_signatures, answer: &mut answer }.follow(query),
        _ => answer.metadata.response_code = ResponseCode::FormErr,
    }
    answer
}

struct Answerer<'a> {
    zones: &'a Zones,
    keys: &'a Keys,
    wants_signatures: bool,
    answer: &'a mut Message,
}

impl Answerer<'_> {
    fn follow(&mut self, query: &Query) {
        let mut wanted = query.name().to_lowercase();
        for _ in 0..MAX_CHAIN {
            match self.look(&wanted, query.query_type()) {
                Some(next) => wanted = next,
                None => return,
            }
        }
    }

    /// Adds what there is at a name; the name that is to be looked at next, if it is an alias.
    fn look(&mut self, wanted: &Name, kind: RecordType) -> Option<Name> {
        // RFC 4035 §3.1.4.1: the DS records of a zone are its parent's.
        let apex = match kind {
            RecordType::DS if !wanted.is_root() => self.zones.apex(&wanted.base_name()),
            _ => self.zones.apex(wanted),
        };
        let zone = &self.zones.zones[&apex];
        if let Some(set) = self.set(&apex, zone, wanted, kind) {
            self.add(&apex, zone, &set, false);
            return None;
        }
        if let Some(alias) = zone.records.get(&(wanted.clone(), RecordType::CNAME)) {
            self.add(&apex, zone, alias, false);
            return alias.records_without_rrsigs().find_map(|record| match &record.data {
                RData::CNAME(target) => Some(target.0.to_lowercase()),
                _ => None,
            });
        }
        let exists = zone.names.contains(wanted);
        if !exists {
            self.answer.metadata.response_code = ResponseCode::NXDomain;
        }
        self.add(&apex, zone, &zone.records[&(apex.clone(), RecordType::SOA)], true);
        if zone.signed && self.wants_signatures {
            self.deny(&apex, zone, wanted, exists);
        }
        None
    }

    fn set(&self, apex: &Name, zone: &Zone, wanted: &Name, kind: RecordType) -> Option<RecordSet> {
        match kind {
            RecordType::DNSKEY if zone.signed && wanted == apex => Some(self.keys.dnskey(apex)),
            RecordType::DS => {
                let child = self.zones.zones.get(wanted).filter(|child| zone.signed && child.signed)?;
                (child.signed && wanted != apex).then(|| self.keys.ds(wanted))
            }
            _ => zone.records.get(&(wanted.clone(), kind)).cloned(),
        }
    }

    fn add(&mut self, apex: &Name, zone: &Zone, set: &RecordSet, authority: bool) {
        let mut records: Vec<Record> = set.records_without_rrsigs().cloned().collect();
        if zone.signed && self.wants_signatures {
            let spoils = |trouble| matches!(trouble, Trouble::Bogus | Trouble::Expired | Trouble::Strip);
            let trouble = self.zones.trouble(set.name(), spoils);
            records.extend(self.keys.sign(apex, set, trouble));
        }
        let section = if authority { &mut self.answer.authorities } else { &mut self.answer.answers };
        for record in records {
            if !section.contains(&record) {
                section.push(record);
            }
        }
    }

    /// RFC 4035 §3.1.3: the NSEC records that show that there is no such record, or no such name.
    fn deny(&mut self, apex: &Name, zone: &Zone, wanted: &Name, exists: bool) {
        self.add(apex, zone, &self.nsec(apex, zone, wanted), true);
        if !exists {
            // Nor does a wildcard stand for it.
            let mut encloser = wanted.base_name();
            while !zone.names.contains(&encloser) {
                encloser = encloser.base_name();
            }
            let wildcard = name("*").append_domain(&encloser).expect("a shorter name");
            self.add(apex, zone, &self.nsec(apex, zone, &wildcard), true);
        }
    }

    /// The NSEC record at a name, or the one that spans it.
    fn nsec(&self, apex: &Name, zone: &Zone, wanted: &Name) -> RecordSet {
        // Names that exist only since others do, below them, have no NSEC.
        let owners = |name: &&Name| !self.kinds(apex, zone, name).is_empty();
        let owner = (zone.names.range(..=wanted.clone())).rev().find(owners).unwrap_or(apex).clone();
        let behind = (Bound::Excluded(owner.clone()), Bound::Unbounded);
        let next = zone.names.range(behind).find(owners).unwrap_or(apex).clone();
        let nsec = NSEC::new_cover_self(next, self.kinds(apex, zone, &owner));
        let mut set = RecordSet::with_ttl(owner.clone(), RecordType::NSEC, 60);
        set.add_rdata(RData::DNSSEC(DNSSECRData::NSEC(nsec)));
        set
    }

    /// The kinds that an NSEC record lists.
    fn kinds(&self, apex: &Name, zone: &Zone, owner: &Name) -> Vec<RecordType> {
        match self.zones.zones.get(owner).filter(|_| owner != apex) {
            Some(child) if child.signed => vec![RecordType::NS, RecordType::DS],
            Some(_) => vec![RecordType::NS],
            None if owner == apex => [zone.kinds(owner), vec![RecordType::DNSKEY]].concat(),
            None => zone.kinds(owner),
        }
    }
}
