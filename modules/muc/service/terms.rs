//! What the conf says of a host's rooms, made ready; and the occupant ids (XEP-0421), from the server's secret.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rookery_core::module::{Fault, Setup};
use rookery_core::server::random_id;
use rookery_xmpp::jid::BareJid;
use sha2::{Digest, Sha256};

use super::archive::Archives;
use super::blocklist::Blocklist;
use super::conf::{Creators, MucConf};
use super::rate::Rate;
use crate::muc::config::Config;
use crate::muc::room::Service;

/// What holds for all rooms of a host.
pub(super) struct Terms {
    pub(super) name: String,
    pub(super) create: Creators,
    pub(super) admins: BTreeSet<BareJid>,
    pub(super) reserved: BTreeSet<Box<str>>,
    pub(super) blocklist: Blocklist,
    pub(super) rooms_per_user: usize,
    pub(super) lock_new: bool,
    pub(super) page: usize,
    pub(super) person_rate: Option<Rate>,
    pub(super) room_rate: Option<Rate>,
    pub(super) idle: Duration,
    /// How new rooms are configured.
    pub(super) room: Config,
    /// Who asks archives for what.
    pub(super) archives: Arc<Archives>,
    /// What rooms have of it.
    pub(super) service: Arc<Service>,
}

impl Terms {
    pub(super) fn new(conf: &MucConf, setup: &Setup<'_>) -> Result<Self, Fault> {
        let secret: Box<[u8]> = setup.server.secret().into();
        let occupant_id = Box::new(move |room: &BareJid, who: &BareJid| occupant_id(&secret, room, who));
        Ok(Self {
            name: conf.name.clone(),
            create: conf.create,
            admins: conf.admins()?,
            reserved: conf.reserved()?,
            blocklist: conf.blocklist()?,
            rooms_per_user: conf.rooms_per_user.len(),
            lock_new: conf.lock_new,
            page: conf.page.len(),
            person_rate: Rate::new(conf.rate.get(), conf.burst.get()),
            room_rate: Rate::new(conf.room_rate.get(), conf.room_burst.get()),
            idle: conf.idle.get(),
            room: conf.room(),
            archives: Arc::new(Archives::new(conf.archives(), setup)),
            service: Arc::new(Service { limits: conf.limits(), occupant_id, token: Box::new(|| random_id().ok()) }),
        })
    }

    /// Whether somebody may make rooms by any name.
    pub(super) fn is_admin(&self, who: &str) -> bool {
        self.admins.contains(who)
    }
}

/// The same for a person in a room for ever, and nothing that tells of the person, or that anybody else can make.
fn occupant_id(secret: &[u8], room: &BareJid, who: &BareJid) -> String {
    let digest = |parts: &[&[u8]]| -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update((secret.len() as u64).to_le_bytes());
        hash.update(secret);
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    };
    // Twice, so that knowing some ids is of no help in making others.
    let inner = digest(&[b"occupant-id", room.as_str().as_bytes(), who.as_str().as_bytes()]);
    URL_SAFE_NO_PAD.encode(digest(&[&inner]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn occupant_ids_differ_by_person_room_and_server() {
        let jid = |text: &str| BareJid::new(text).unwrap();
        let (room, other) = (jid("a@rooms.example"), jid("b@rooms.example"));
        let (romeo, juliet) = (jid("romeo@example.org"), jid("juliet@example.org"));
        let id = occupant_id(b"secret", &room, &romeo);
        assert_eq!(id, occupant_id(b"secret", &room, &romeo));
        assert_eq!(id.len(), 43);
        for another in [
            occupant_id(b"secret", &room, &juliet),
            occupant_id(b"secret", &other, &romeo),
            occupant_id(b"another", &room, &romeo),
        ] {
            assert_ne!(id, another);
        }
    }
}
