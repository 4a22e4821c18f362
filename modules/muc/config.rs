//! XEP-0045 §10: how a room is configured, and the service's bounds. The form that it is read from and shown as is in
//! `config_form.rs`.

use std::time::Duration;

use super::permissions::Privilege;
use super::roles::{Affiliation, Role, Roles};

/// Who may send private messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllowPm {
    /// All occupants.
    Anyone,
    /// Those with voice.
    Participants,
    /// Moderators.
    Moderators,
    /// Nobody.
    Nobody,
}

/// Who may see the occupants' real JIDs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whois {
    /// All occupants: the room is non-anonymous.
    Anyone,
    /// Moderators: the room is semi-anonymous.
    Moderators,
}

/// What becomes of those who ask for membership (§7.10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration {
    /// Nobody may.
    Closed,
    /// Admins are asked (§9.9).
    Approval,
    /// They become members at once.
    Open,
}

/// Which members who are not in a room are told that something is said in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotifyAway {
    /// None.
    Nobody,
    /// Those who are mentioned.
    Mentioned,
    /// All.
    All,
}

/// The configuration of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `roomname`
    pub name: String,
    /// `roomdesc`
    pub description: String,
    /// `lang`
    pub lang: String,
    /// `pubsub`: the address of a node that goes with the room.
    pub pubsub: String,
    /// `enablelogging`: whether the discussions are published outside of the room. The service only warns of it.
    pub logging: bool,
    /// `enablearchiving`: whether messages are kept for members to look up (XEP-0313).
    pub archive: bool,
    /// `changesubject`: participants may change the subject.
    pub change_subject: bool,
    /// `allowinvites`: members of a members-only room may make others members by inviting them.
    pub allow_invites: bool,
    /// `allowpm`
    pub allow_pm: AllowPm,
    /// `maxusers`; `None` is what the service allows.
    pub max_users: Option<usize>,
    /// `presencebroadcast`
    pub presence_broadcast: Roles,
    /// `getmemberlist`; in a semi-anonymous room it counts for nothing.
    pub member_list: Roles,
    /// `publicroom`
    pub public: bool,
    /// `persistentroom`
    pub persistent: bool,
    /// `moderatedroom`
    pub moderated: bool,
    /// `membersonly`
    pub members_only: bool,
    /// `passwordprotectedroom` and `roomsecret`.
    pub password: Option<String>,
    /// `whois`
    pub whois: Whois,
    /// `muc#maxhistoryfetch`
    pub history: usize,
    /// `slow_mode_duration` (XEP-0500): seconds between two messages of one person; 0 is off.
    pub slow_mode: u32,
    /// Membership on request.
    pub registration: Registration,
    /// Who has a reserved nickname must use it.
    pub lock_nicks: bool,
}

impl Default for Config {
    /// As in the XEP's examples: open, semi-anonymous, temporary.
    fn default() -> Self {
        Self {
            name: String::new(),
            description: String::new(),
            lang: String::new(),
            pubsub: String::new(),
            logging: false,
            archive: true,
            change_subject: false,
            allow_invites: false,
            allow_pm: AllowPm::Anyone,
            max_users: None,
            presence_broadcast: Roles::ALL,
            member_list: Roles::ALL,
            public: true,
            persistent: false,
            moderated: false,
            members_only: false,
            password: None,
            whois: Whois::Moderators,
            history: 20,
            slow_mode: 0,
            registration: Registration::Approval,
            lock_nicks: false,
        }
    }
}

impl Config {
    /// Whether all occupants see each other's real JIDs.
    pub fn is_non_anonymous(&self) -> bool {
        self.whois == Whois::Anyone
    }

    /// What the configuration says of a privilege that depends on it, for a role.
    pub(super) fn grants_role(&self, privilege: Privilege, role: Role) -> bool {
        match privilege {
            Privilege::Whisper => match self.allow_pm {
                AllowPm::Anyone => role >= Role::Visitor,
                AllowPm::Participants => role >= Role::Participant,
                AllowPm::Moderators => role >= Role::Moderator,
                AllowPm::Nobody => false,
            },
            Privilege::ChangeSubject => self.change_subject,
            Privilege::SeeJids => self.is_non_anonymous(),
            Privilege::ListMembers | Privilege::ListAdmins => self.is_non_anonymous() && self.member_list.holds(role),
            _ => false,
        }
    }

    /// The same for an affiliation.
    pub(super) fn grants_affiliation(&self, privilege: Privilege, affiliation: Affiliation) -> bool {
        match privilege {
            Privilege::Register => self.registration != Registration::Closed,
            Privilege::InviteMembersOnly => self.allow_invites,
            // §9.5: any member, whether in the room or not. §10.5, §10.8: only owners, where JIDs are hidden.
            Privilege::ListMembers => self.is_non_anonymous() && self.member_list.iter().next().is_some(),
            Privilege::ListAdmins => {
                let anybody = self.member_list.iter().next().is_some();
                self.is_non_anonymous() && (anybody || affiliation >= Affiliation::Admin)
            }
            _ => false,
        }
    }
}

/// The service's bounds on every room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Occupants of a room.
    pub occupants: usize,
    /// Admins and owners may enter a full room until so many more are in it (§7.2.9).
    pub reserve: usize,
    /// Sessions of one person in one room.
    pub sessions: usize,
    /// From so many occupants on, newcomers are not shown to the others.
    pub thin_from: usize,
    /// But for moderators.
    pub thin_to_moderators: bool,
    /// Messages of history that a room may be configured to send.
    pub history: usize,
    /// Bytes of a nickname.
    pub nick: usize,
    /// Bytes of a presence, which each of the others gets, and everybody who comes.
    pub presence: usize,
    /// Bytes of a room's name, description, subject and other texts.
    pub text: usize,
    /// Items of a request that changes roles or affiliations.
    pub items: usize,
    /// Items of a list that are sent at once.
    pub page: usize,
    /// Affiliations and reserved nicknames of a room.
    pub affiliations: usize,
    /// People invited by one message.
    pub invitations: usize,
    /// Queries of one session to other occupants that wait for an answer.
    pub queries: usize,
    /// Bytes of the addresses, nicknames and reasons on these lists, which are in memory as long as the room is.
    pub lists: usize,
    /// Kinds of hats of a room.
    pub hats: usize,
    /// Bytes of all hats and of who wears which: each change of one stores them all.
    pub wardrobe: usize,
    /// For how long a room waits for its first configuration, before the default is taken as accepted (§10.1.1).
    pub unconfigured: Duration,
    /// Bytes of the room's vCard.
    pub vcard: usize,
    /// Tokens that make members (XEP-0488); 0 is none.
    pub tokens: usize,
    /// For how long such a token counts at most.
    pub token_life: Duration,
    /// Which members who are away are told of messages.
    pub notify_away: NotifyAway,
    /// Whether archives may be searched by words (XEP-0431).
    pub search: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            occupants: 10_000,
            reserve: 20,
            sessions: 10,
            thin_from: 1000,
            thin_to_moderators: true,
            history: 100,
            nick: 128,
            presence: 8192,
            text: 4096,
            items: 500,
            page: 1000,
            affiliations: 100_000,
            lists: 16 << 20,
            invitations: 20,
            queries: 20,
            hats: 50,
            wardrobe: 256 << 10,
            unconfigured: Duration::from_secs(600),
            vcard: 65_536,
            tokens: 100,
            token_life: Duration::from_secs(30 * 24 * 60 * 60),
            notify_away: NotifyAway::Nobody,
            search: true,
        }
    }
}
