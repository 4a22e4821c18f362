//! A host's addresses and TLSA records.

use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::rr::{Name, RData, RecordType};

use super::query::{LONGEST, NoAnswer, Questions};
use super::target::Tlsa;

/// Addresses of a host that are tried.
const MAX_ADDRESSES: usize = 8;
/// TLSA records of a host that are looked at.
const MAX_TLSA: usize = 16;

/// What DNS says of a host.
#[derive(Debug)]
pub(super) struct HostAnswer {
    /// The families in turn, IPv6 first (RFC 8305 §4).
    pub(super) addresses: Vec<IpAddr>,
    /// Whether all of them are signed.
    pub(super) secure: bool,
    pub(super) ttl: Duration,
    /// Why there are none.
    pub(super) fault: Option<NoAnswer>,
    /// What went wrong, in plain words.
    pub(super) notes: Vec<String>,
}

/// Asks for both families.
pub(super) async fn addresses(questions: &Questions, host: &str) -> HostAnswer {
    let (six, four) = tokio::join!(questions.ask(host, RecordType::AAAA), questions.ask(host, RecordType::A));
    let mut answer = HostAnswer { addresses: Vec::new(), secure: true, ttl: LONGEST, fault: None, notes: Vec::new() };
    let mut families = [Vec::new(), Vec::new()];
    for (family, asked) in families.iter_mut().zip([six, four]) {
        match asked {
            Ok(found) => {
                answer.secure &= found.secure;
                answer.ttl = answer.ttl.min(found.ttl);
                family.extend(found.records.into_iter().filter_map(|record| match record {
                    RData::A(address) => Some(IpAddr::V4(address.0)),
                    RData::AAAA(address) => Some(IpAddr::V6(address.0)),
                    _ => None,
                }));
            }
            Err(NoAnswer::Absent { name, ttl }) => {
                answer.ttl = answer.ttl.min(ttl);
                answer.fault.get_or_insert(NoAnswer::Absent { name, ttl });
            }
            Err(trouble) => {
                answer.notes.extend(trouble.why());
                // What is wrong says more than that one family is not there; bogus more than failing.
                if !matches!(answer.fault, Some(NoAnswer::Bogus(_))) {
                    answer.fault = Some(trouble);
                }
            }
        }
    }
    let [six, four] = families;
    answer.addresses = in_turn(six, four);
    if !answer.addresses.is_empty() {
        answer.fault = None;
    }
    answer
}

/// RFC 8305 §4: the families in turn, IPv6 first.
fn in_turn(six: Vec<IpAddr>, four: Vec<IpAddr>) -> Vec<IpAddr> {
    let (mut six, mut four) = (six.into_iter(), four.into_iter());
    let mut addresses = Vec::new();
    loop {
        let before = addresses.len();
        addresses.extend(six.next());
        addresses.extend(four.next());
        if addresses.len() == before || addresses.len() >= MAX_ADDRESSES {
            addresses.truncate(MAX_ADDRESSES);
            return addresses;
        }
    }
}

/// The TLSA records of a port (RFC 6698 §3), and how long that holds; none unless they are signed. The error is never
/// `Absent`.
pub(super) async fn tlsa(questions: &Questions, host: &str, port: u16) -> (Result<Vec<Tlsa>, NoAnswer>, Duration) {
    match questions.ask(&format!("_{port}._tcp.{host}"), RecordType::TLSA).await {
        Ok(answer) if answer.secure => {
            let records = answer.records.into_iter().filter_map(|record| match record {
                RData::TLSA(tlsa) => Some(Tlsa {
                    usage: tlsa.cert_usage.into(),
                    selector: tlsa.selector.into(),
                    matching: tlsa.matching.into(),
                    data: tlsa.cert_data,
                }),
                _ => None,
            });
            (Ok(records.take(MAX_TLSA).collect()), answer.ttl)
        }
        Ok(answer) => (Ok(Vec::new()), answer.ttl),
        Err(NoAnswer::Absent { ttl, .. }) => (Ok(Vec::new()), ttl),
        Err(trouble) => (Err(trouble), LONGEST),
    }
}

/// A name as this folder writes names: A-labels, small letters, no final dot; empty for the root.
pub(super) fn plain_name(name: &Name) -> String {
    let ascii = name.to_ascii().to_ascii_lowercase();
    ascii.strip_suffix('.').unwrap_or(&ascii).to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn families_take_turns() {
        let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        let (six, four) = (addresses(&["2001:db8::1", "2001:db8::2", "2001:db8::3"]), addresses(&["192.0.2.1"]));
        assert_eq!(
            in_turn(six.clone(), four.clone()),
            addresses(&["2001:db8::1", "192.0.2.1", "2001:db8::2", "2001:db8::3"])
        );
        assert_eq!(in_turn(Vec::new(), four.clone()), four);
        assert_eq!(in_turn(six.clone(), Vec::new()), six);
        let many = vec!["192.0.2.1".parse().unwrap(); 100];
        assert_eq!(in_turn(six, many).len(), MAX_ADDRESSES);
    }
}
