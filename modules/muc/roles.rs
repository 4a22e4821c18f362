//! XEP-0045 §5: roles, which last for a visit, and affiliations, which last. What they allow is in `permissions.rs`.

/// Declares an ordered enum with names on the wire.
macro_rules! ranks {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident $wire:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            /// All, the lowest first.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name on the wire.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $wire,)* }
            }

            /// What a name on the wire stands for.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($wire => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

ranks! {
    /// What somebody may do during a visit (§5.1).
    Role {
        /// Not in the room.
        None "none",
        /// Without voice.
        Visitor "visitor",
        /// With voice.
        Participant "participant",
        /// May kick, and grant and revoke voice.
        Moderator "moderator",
    }
}

ranks! {
    /// What somebody is to the room (§5.2).
    Affiliation {
        /// Banned.
        Outcast "outcast",
        /// Nothing.
        None "none",
        /// On the member list.
        Member "member",
        /// May ban, and make members and moderators.
        Admin "admin",
        /// May configure and destroy the room.
        Owner "owner",
    }
}

/// The role that somebody enters with (§5.1.2). Whether they may enter is another question.
pub fn initial_role(affiliation: Affiliation, moderated: bool) -> Role {
    match affiliation {
        Affiliation::Outcast => Role::None,
        Affiliation::None if moderated => Role::Visitor,
        Affiliation::None | Affiliation::Member => Role::Participant,
        Affiliation::Admin | Affiliation::Owner => Role::Moderator,
    }
}

/// A set of the three roles of those who are in the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    /// Moderators are in it.
    pub moderator: bool,
    /// Participants are in it.
    pub participant: bool,
    /// Visitors are in it.
    pub visitor: bool,
}

impl Roles {
    /// All three.
    pub const ALL: Self = Self { moderator: true, participant: true, visitor: true };

    /// Whether a role is in the set.
    pub const fn holds(self, role: Role) -> bool {
        match role {
            Role::None => false,
            Role::Visitor => self.visitor,
            Role::Participant => self.participant,
            Role::Moderator => self.moderator,
        }
    }

    /// The roles in the set, the highest first.
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.iter().rev().copied().filter(move |role| self.holds(*role))
    }

    /// The set of these names; `None` if one is no role of an occupant.
    pub fn from_names<'a>(names: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut roles = Self { moderator: false, participant: false, visitor: false };
        for name in names {
            match Role::from_name(name)? {
                Role::None => return None,
                Role::Visitor => roles.visitor = true,
                Role::Participant => roles.participant = true,
                Role::Moderator => roles.moderator = true,
            }
        }
        Some(roles)
    }
}
