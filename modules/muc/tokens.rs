//! XEP-0488: tokens that make members of those who enter with them, for people whose address the inviter does not know.
//!
//! A token is worth what its creator may do: it counts only while they may make members by inviting them. A room with a
//! password has none, since what is given on entering is the password there.

use std::time::{Duration, SystemTime};

use rookery_xmpp::element::Element;
use rookery_xmpp::error::{Condition, ErrorKind, StanzaError};
use rookery_xmpp::jid::{BareJid, Jid};
use rookery_xmpp::ns;
use rookery_xmpp::stanza::Stanza;

use super::entering::Knock;
use super::image::{Person, RoomChange, Token, Tokens};
use super::outcome::{At, Outcome};
use super::people::PersonChange;
use super::permissions::{Privilege, Rank};
use super::roles::{Affiliation, Role};
use super::room::Room;

/// So many of a room's tokens may be one person's who does not see to those of others.
const OWN: usize = 10;

impl Token {
    /// The seconds that are left, begun ones too; `None` when it is over.
    fn left(&self, now: SystemTime) -> Option<u64> {
        let left = self.expires.duration_since(now).ok().filter(|left| !left.is_zero())?;
        Some(left.as_secs() + u64::from(left.subsec_nanos() > 0))
    }

    fn to_element(&self, text: &str, now: SystemTime) -> Element {
        Element::new("token", ns::MUC_TOKENS)
            .attr("delay", self.left(now).unwrap_or_default().to_string())
            .attr_opt("counter", self.counter.map(|counter| counter.to_string()))
            .text(text)
    }
}

impl Room {
    /// Whether tokens are of use in this room.
    pub(super) fn takes_tokens(&self) -> bool {
        self.config.password.is_none() && self.service.limits.tokens > 0
    }

    /// An IQ about tokens.
    pub(super) fn token_request(
        &mut self,
        at: At,
        from: &Jid,
        set: bool,
        stanza: &Stanza,
        payload: &Element,
        out: &mut Outcome,
    ) -> Result<(), StanzaError> {
        if self.service.limits.tokens == 0 {
            return Err(Condition::ServiceUnavailable.into());
        }
        match (payload.name(), set) {
            ("request", true) => self.issue(at, from, stanza, payload, out),
            ("tokens", false) => self.list_tokens(at.now, from, stanza, out),
            ("revoke", true) => self.revoke(at, from, stanza, payload, out),
            _ => Err(Condition::BadRequest.into()),
        }
    }

    fn issue(
        &mut self,
        at: At,
        from: &Jid,
        stanza: &Stanza,
        request: &Element,
        out: &mut Outcome,
    ) -> Result<(), StanzaError> {
        self.check(from, Privilege::InviteMembersOnly)?;
        if !self.takes_tokens() {
            let text = "Who enters this room needs its password.";
            return Err(StanzaError::new(Condition::NotAllowed).with_text(text));
        }
        let counter = number(request, "counter")?;
        let most = self.service.limits.token_life;
        let delay = number(request, "delay")?.map_or(most, |delay| Duration::from_secs(delay.into()).min(most));
        let expires = at.now.checked_add(delay).ok_or(Condition::NotAcceptable)?;
        let mut tokens = self.valid_tokens(at.now);
        let own = tokens.values().filter(|token| token.creator.as_str() == from.bare_str()).count();
        let has_enough = own >= OWN && self.check(from, Privilege::ManageTokens).is_err();
        if has_enough || tokens.len() >= self.service.limits.tokens {
            let error = StanzaError::new(Condition::ResourceConstraint).with_kind(ErrorKind::Wait);
            return Err(error.with_text("There are as many tokens as are allowed; revoke some."));
        }
        let text = (self.service.token)().ok_or(Condition::InternalServerError)?;
        let token = Token { creator: from.bare(), expires, counter };
        let answer = token.to_element(&text, at.now);
        tokens.insert(text, token);
        self.change_tokens(at, stanza, tokens, Some(answer), out);
        Ok(())
    }

    fn list_tokens(&self, now: SystemTime, from: &Jid, stanza: &Stanza, out: &mut Outcome) -> Result<(), StanzaError> {
        self.check_has_tokens(from)?;
        let rank = self.rank(from);
        // Whose they are is for those who may see who is a member.
        let sees = rank.may(Privilege::SeeJids, &self.config) || rank.may(Privilege::ListMembers, &self.config);
        let tokens = self.tokens.iter().filter(|(_, token)| token.left(now).is_some() && self.revokes(from, token));
        let tokens = tokens.map(|(text, token)| {
            token.to_element(text, now).attr_opt("creator", Some(token.creator.as_str()).filter(|_| sees))
        });
        out.result(stanza, Some(Element::new("tokens", ns::MUC_TOKENS).children(tokens)));
        Ok(())
    }

    fn revoke(
        &mut self,
        at: At,
        from: &Jid,
        stanza: &Stanza,
        revoke: &Element,
        out: &mut Outcome,
    ) -> Result<(), StanzaError> {
        self.check_has_tokens(from)?;
        let mut tokens = self.valid_tokens(at.now);
        let revoked = tokens.remove(revoke.content().as_str()).filter(|token| self.revokes(from, token));
        revoked.ok_or(Condition::ItemNotFound)?;
        self.change_tokens(at, stanza, tokens, None, out);
        Ok(())
    }

    fn change_tokens(&mut self, at: At, stanza: &Stanza, tokens: Tokens, answer: Option<Element>, out: &mut Outcome) {
        let request = stanza.clone();
        self.commit(at, stanza, vec![RoomChange::Tokens(tokens.clone())], out, move |room, _, out| {
            room.tokens = tokens;
            out.result(&request, answer);
        });
    }

    /// Whether somebody has to do with tokens at all.
    fn check_has_tokens(&self, from: &Jid) -> Result<(), StanzaError> {
        self.check(from, Privilege::ManageTokens).or_else(|_| self.check(from, Privilege::InviteMembersOnly))
    }

    fn revokes(&self, from: &Jid, token: &Token) -> bool {
        token.creator.as_str() == from.bare_str() || self.check(from, Privilege::ManageTokens).is_ok()
    }

    /// The tokens that are not over.
    fn valid_tokens(&self, now: SystemTime) -> Tokens {
        let valid = self.tokens.iter().filter(|(_, token)| token.left(now).is_some());
        valid.map(|(text, token)| (text.clone(), token.clone())).collect()
    }

    // ---- entering -------------------------------------------------------------------------------------------------

    /// The token that makes whoever knocks a member. Who is something to the room already needs none, and uses none up.
    pub(super) fn token_of(&self, knock: &Knock<'_>) -> Option<String> {
        if !self.takes_tokens() || self.tokens.is_empty() || self.people.of(knock.from) != Affiliation::None {
            return None;
        }
        let text = knock.join.find("password", ns::MUC)?.content();
        let token = self.tokens.get(text.as_str()).filter(|token| token.left(knock.at.now).is_some())?;
        (self.may_make_members(&token.creator)).then_some(text)
    }

    fn may_make_members(&self, who: &BareJid) -> bool {
        // Tokens of the server's admin are the service's.
        let rank = Rank { role: Role::None, affiliation: self.people.of(who) };
        self.is_service(who) || rank.may(Privilege::InviteMembersOnly, &self.config)
    }

    /// Somebody becomes a member, and enters. A token is used up by nobody who cannot get in.
    pub(super) fn enter_by_token(
        &mut self,
        knock: &Knock<'_>,
        text: &str,
        out: &mut Outcome,
    ) -> Result<(), StanzaError> {
        let Knock { at, from, stanza, .. } = *knock;
        if self.seat_of(from).is_none() {
            self.place(knock, Affiliation::Member)?;
        }
        let known = self.people.person(from.bare_str()).cloned().unwrap_or(Person::new(Affiliation::None));
        let person = Person { affiliation: Affiliation::Member, ..known };
        let member = PersonChange { who: from.bare(), person, reason: None, invited: true };
        self.check_people(std::slice::from_ref(&member))?;
        let mut tokens = self.valid_tokens(at.now);
        let mut changes = vec![member.to_store()];
        if let Some(token) = tokens.get_mut(text)
            && let Some(counter) = token.counter
        {
            match counter.checked_sub(1).filter(|left| *left > 0) {
                Some(left) => token.counter = Some(left),
                None => drop(tokens.remove(text)),
            }
            changes.push(RoomChange::Tokens(tokens.clone()));
        }
        let (from, join) = (from.clone(), stanza.clone());
        self.commit(at, stanza, changes, out, move |room, at, out| {
            room.tokens = tokens;
            room.apply_people(at, &from, vec![member], None, out);
            let to = join.head.to.clone();
            let entered = to.map_or(Ok(()), |to| room.available(at, &from, &to, &join, out));
            if let Err(error) = entered {
                room.refuse(&join, error, out);
            }
        });
        Ok(())
    }

    /// Why somebody may not enter a members-only room: what they have given in place of a password was a token once, most
    /// likely.
    pub(super) fn no_member(&self, join: &Element) -> StanzaError {
        let gave = join.find("password", ns::MUC).is_some_and(|password| !password.content().is_empty());
        if gave && self.takes_tokens() {
            StanzaError::new(Condition::NotAuthorized).with_app(Element::new("expired-token", ns::MUC_TOKENS))
        } else {
            Condition::RegistrationRequired.into()
        }
    }
}

/// A positive `xs:unsignedInt`.
fn number(request: &Element, name: &str) -> Result<Option<u32>, StanzaError> {
    let Some(text) = request.get(name) else { return Ok(None) };
    let number = text.trim().parse().ok().filter(|number| *number > 0);
    number.map(Some).ok_or_else(|| Condition::BadRequest.into())
}
