//! XEP-0045 §5: who may do what, as one table: privileges by role and affiliation (§5.1.1, §5.2.1), role changes (§5.1.3)
//! and affiliation changes (§5.2.2). Nothing else in the room judges a rank.
//!
//! Where the XEP's sections differ, the stricter wins, with one exception: §8.4 says that voice cannot be revoked from
//! those "at or above the moderator's level", which is read as the level that makes a moderator, admin, since §8.5 and the
//! tables forbid no moderator without affiliation to silence those without.

use rookery_xmpp::error::Condition;

use super::config::Config;
use super::roles::{Affiliation, Role};

/// Something that not everybody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    /// Enter an open room.
    EnterOpen,
    /// Enter a members-only room.
    EnterMembersOnly,
    /// Enter a room that is full (§7.2.9).
    EnterFull,
    /// Ask to become a member (§7.10).
    Register,
    /// Change the own nickname.
    ChangeNick,
    /// Send messages to all.
    Speak,
    /// Send private messages.
    Whisper,
    /// Change the subject.
    ChangeSubject,
    /// Invite somebody to an open room.
    InviteOpen,
    /// Invite somebody to a members-only room, who becomes a member by it; or give a token away that makes members.
    InviteMembersOnly,
    /// See the real JIDs of occupants.
    SeeJids,
    /// Ask for the list of members.
    ListMembers,
    /// Ask for the lists of admins and owners.
    ListAdmins,
    /// Ask for the list of the banned.
    ListOutcasts,
    /// Ask for the lists of participants and visitors.
    ListVoices,
    /// Ask for the list of moderators.
    ListModerators,
    /// Take a message back that somebody else has sent (XEP-0425).
    Moderate,
    /// Decide on requests for voice.
    ApproveVoice,
    /// Decide on requests for membership.
    ApproveMembers,
    /// Make, give and take hats (XEP-0317).
    ManageHats,
    /// See and revoke the tokens of others (XEP-0488).
    ManageTokens,
    /// Change the configuration, the avatar, and end the room.
    Configure,
}

/// What a cell of the table says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// No.
    No,
    /// Yes.
    Yes,
    /// What the room's configuration says.
    Set,
}

use Cell::{No as N, Set as S, Yes as Y};
use Privilege as P;

/// A row: the privilege, by role, and by affiliation. What either gives is given.
pub type Row = (Privilege, [Cell; 4], [Cell; 5]);

/// §5.1.1 and §5.2.1.
#[rustfmt::skip]
pub const PRIVILEGES: &[Row] = &[
    //                     none vis. part. mod.   outc. none member admin owner
    (P::EnterOpen,         [N,  N,   N,    N],    [N,   Y,   Y,     Y,    Y]),
    (P::EnterMembersOnly,  [N,  N,   N,    N],    [N,   N,   Y,     Y,    Y]),
    (P::EnterFull,         [N,  N,   N,    N],    [N,   N,   N,     Y,    Y]),
    (P::Register,          [N,  N,   N,    N],    [N,   S,   Y,     Y,    Y]),
    (P::ChangeNick,        [N,  Y,   Y,    Y],    [N,   N,   N,     N,    N]),
    (P::Speak,             [N,  N,   Y,    Y],    [N,   N,   N,     N,    N]),
    (P::Whisper,           [N,  S,   S,    S],    [N,   N,   N,     N,    N]),
    (P::ChangeSubject,     [N,  N,   S,    Y],    [N,   N,   N,     N,    N]),
    (P::InviteOpen,        [N,  Y,   Y,    Y],    [N,   N,   Y,     Y,    Y]),
    (P::InviteMembersOnly, [N,  N,   N,    N],    [N,   N,   S,     Y,    Y]),
    (P::SeeJids,           [N,  S,   S,    Y],    [N,   N,   N,     N,    N]),
    (P::ListMembers,       [N,  S,   S,    S],    [N,   N,   S,     Y,    Y]),
    (P::ListAdmins,        [N,  S,   S,    S],    [N,   N,   S,     S,    Y]),
    (P::ListOutcasts,      [N,  N,   N,    N],    [N,   N,   N,     Y,    Y]),
    (P::ListVoices,        [N,  N,   N,    Y],    [N,   N,   N,     Y,    Y]),
    (P::ListModerators,    [N,  N,   N,    N],    [N,   N,   N,     Y,    Y]),
    (P::Moderate,          [N,  N,   N,    Y],    [N,   N,   N,     N,    N]),
    (P::ApproveVoice,      [N,  N,   N,    Y],    [N,   N,   N,     Y,    Y]),
    (P::ApproveMembers,    [N,  N,   N,    N],    [N,   N,   N,     Y,    Y]),
    (P::ManageHats,        [N,  N,   N,    N],    [N,   N,   N,     Y,    Y]),
    (P::ManageTokens,      [N,  N,   N,    Y],    [N,   N,   N,     Y,    Y]),
    (P::Configure,         [N,  N,   N,    N],    [N,   N,   N,     N,    Y]),
];

/// The least rank that a change asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Least {
    /// A moderator, or an admin who is not in the room.
    Moderator,
    /// An admin.
    Admin,
    /// An owner.
    Owner,
    /// Nothing changes.
    Nothing,
}

use Least::{Admin as A, Moderator as M, Nothing as Z, Owner as O};

/// §5.1.3: from the row's role to the column's.
#[rustfmt::skip]
pub const ROLE_CHANGES: [(Role, [Least; 4]); 3] = [
    //                   none visitor participant moderator
    (Role::Visitor,     [M,   Z,      M,          A]),
    (Role::Participant, [M,   M,      Z,          A]),
    (Role::Moderator,   [A,   A,      A,          Z]),
];

/// §5.2.2: from the row's affiliation to the column's.
#[rustfmt::skip]
pub const AFFILIATION_CHANGES: [(Affiliation, [Least; 5]); 5] = [
    //                      outcast none member admin owner
    (Affiliation::Outcast, [A,      A,   A,     O,    O]),
    (Affiliation::None,    [A,      A,   A,     O,    O]),
    (Affiliation::Member,  [A,      A,   A,     O,    O]),
    (Affiliation::Admin,   [O,      O,   O,     O,    O]),
    (Affiliation::Owner,   [O,      O,   O,     O,    O]),
];

/// What somebody is: their highest role in the room and their affiliation with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rank {
    /// [`Role::None`] for who is not in the room.
    pub role: Role,
    /// What they are to the room.
    pub affiliation: Affiliation,
}

impl Rank {
    /// Whether this rank has a privilege in a room of this configuration.
    pub fn may(self, privilege: Privilege, config: &Config) -> bool {
        let Some((_, by_role, by_affiliation)) = PRIVILEGES.iter().find(|(listed, ..)| *listed == privilege) else {
            return false;
        };
        // What is set for the role does not come back by the affiliation: an outcast has nothing, whatever the role.
        let given = |cell: Option<&Cell>, set: bool| match cell {
            Some(Y) => true,
            Some(S) => set,
            Some(N) | None => false,
        };
        self.affiliation != Affiliation::Outcast
            && (given(by_role.get(self.role as usize), config.grants_role(privilege, self.role))
                || given(
                    by_affiliation.get(self.affiliation as usize),
                    config.grants_affiliation(privilege, self.affiliation),
                ))
    }

    fn has(self, least: Least) -> bool {
        match least {
            M => self.affiliation >= Affiliation::Admin || self.role == Role::Moderator,
            A | Z => self.affiliation >= Affiliation::Admin,
            O => self.affiliation == Affiliation::Owner,
        }
    }

    /// Whether this rank may give the role `to` to an occupant of the rank `target`.
    ///
    /// # Errors
    /// `forbidden` for who may do no such thing at all, `not-allowed` for who may not do it to this one.
    pub fn change_role(self, target: Self, to: Role) -> Result<(), Condition> {
        let row = ROLE_CHANGES.iter().find(|(from, _)| *from == target.role).map(|(_, row)| row);
        let Some(least) = row.and_then(|row| row.get(to as usize)).copied() else {
            return Err(Condition::NotAllowed);
        };
        if !self.has(Least::Moderator) || self.affiliation == Affiliation::Outcast {
            return Err(Condition::Forbidden);
        }
        // §8.2, §8.4, §9.7: not those above, and no owner or admin loses a role other than by being kicked.
        let protected = target.affiliation >= Affiliation::Admin && to != Role::None && to < target.role;
        if protected || target.affiliation > self.affiliation && to < target.role {
            return Err(Condition::NotAllowed);
        }
        match least {
            Z => Ok(()),
            least if self.has(least) => Ok(()),
            // Kicking a moderator is a kick like others; who makes moderators is what only admins decide.
            _ if to == Role::None => Err(Condition::NotAllowed),
            _ => Err(Condition::Forbidden),
        }
    }

    /// Whether this rank may change somebody's affiliation.
    ///
    /// # Errors
    /// `forbidden` for who may not change that list, `not-allowed` for a ban of who is not below.
    pub fn change_affiliation(self, from: Affiliation, to: Affiliation) -> Result<(), Condition> {
        let row = AFFILIATION_CHANGES.iter().find(|(listed, _)| *listed == from).map(|(_, row)| row);
        let Some(least) = row.and_then(|row| row.get(to as usize)).copied() else {
            return Err(Condition::NotAllowed);
        };
        if self.has(least) {
            return Ok(());
        }
        let bans_above = self.affiliation >= Affiliation::Admin && to == Affiliation::Outcast;
        Err(if bans_above { Condition::NotAllowed } else { Condition::Forbidden })
    }
}
