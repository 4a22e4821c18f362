//! XEP-0077: In-Band Registration: new accounts, before authentication and only if the conf says so; new passwords and
//! the end of an account for users who are logged in.
//!
//! A password travels as it is, so nothing of this goes over a stream without TLS. The name of an account that was deleted
//! is not given to the next one for a time (security.md C8). Data forms and redirection (§4, §5) are not used.

mod throttle;

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rookery_core::config::{Count, Period, Secret};
use rookery_core::module::{Call, Fault, Hooks, IqResult, Module, Offer, PreAuthCall, Setup, Target, When, Xep};
use rookery_core::server::Server;
use rookery_core::session::Session;
use rookery_core::slots::Slot;
use rookery_xmpp::element::Element;
use rookery_xmpp::error::{Condition, ErrorKind, StanzaError};
use rookery_xmpp::jid::BareJid;
use rookery_xmpp::ns;
use rookery_xmpp::stanza::IqType;
use serde::Deserialize;
use tracing::{info, warn};

use throttle::Throttle;

/// How often names that are free again are forgotten.
const CLEARING: Duration = Duration::from_secs(24 * 3600);
/// The longest password, in bytes: longer ones only cost time.
const LONGEST_PASSWORD: usize = 1024;

/// Lets users come, change their passwords and go.
pub struct Register {
    conf: RegisterConf,
    domain: BareJid,
    reserved: BTreeSet<Box<str>>,
    throttle: Mutex<Throttle>,
    /// A password of the account is being changed as long as somebody holds this.
    changing: Slot<Weak<()>>,
}

/// `[modules.register]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegisterConf {
    /// Whether anybody may make an account.
    pub registration: bool,
    /// Whether users may change their passwords.
    pub password_change: bool,
    /// Whether users may delete their accounts.
    pub removal: bool,
    /// Accounts that one address (IPv6: /64) may make in a period; `limits.exempt` holds here too.
    pub per_address: Count<1, 1_000_000>,
    /// Accounts that all addresses together may make in a period.
    pub in_all: Count<1, 1_000_000>,
    /// The period.
    pub period: Period<1, 2_592_000>,
    /// Names that nobody may register.
    pub reserved: Vec<String>,
    /// Characters of a name at least.
    pub shortest_name: Count<1, 255>,
    /// Characters of a name at most.
    pub longest_name: Count<1, 1023>,
    /// How long the name of a deleted account is nobody's.
    pub deleted_names: Period,
}

const RESERVED: [&str; 14] = [
    "abuse",
    "admin",
    "administrator",
    "hostmaster",
    "info",
    "noc",
    "operator",
    "postmaster",
    "root",
    "security",
    "server",
    "support",
    "webmaster",
    "xmpp",
];

impl Default for RegisterConf {
    fn default() -> Self {
        Self {
            registration: false,
            password_change: true,
            removal: true,
            per_address: Count::new(3),
            in_all: Count::new(100),
            period: Period::hours(1),
            reserved: RESERVED.map(str::to_owned).into(),
            shortest_name: Count::new(1),
            longest_name: Count::new(64),
            deleted_names: Period::days(365),
        }
    }
}

impl Module for Register {
    const NAME: &'static str = "register";
    const XEPS: &'static [Xep] = &[Xep(77, "2.4")];
    type Config = RegisterConf;

    fn judge(conf: &RegisterConf) -> Result<(), Fault> {
        reserved(conf)?;
        if conf.shortest_name.get() > conf.longest_name.get() {
            return Err(Fault { option: "shortest_name", why: "this is more than \"longest_name\"".to_owned() });
        }
        Ok(())
    }

    fn new(conf: RegisterConf, setup: &Setup<'_>) -> Result<Self, Fault> {
        let reserved = reserved(&conf)?;
        let throttle = Throttle::new(conf.per_address.get(), conf.in_all.get(), conf.period.get());
        let changing = setup.account_slot("changing");
        Ok(Self { conf, domain: setup.domain.clone(), reserved, throttle: Mutex::new(throttle), changing })
    }

    fn hooks(on: &mut Hooks<'_, Self>) {
        let conf = on.module().conf.clone();
        if conf.registration {
            on.stream_feature(When::BeforeAuth, Self::offer)
                .pre_auth_iq(ns::REGISTER, Self::stranger)
                .every(CLEARING, Self::clear);
        }
        if conf.registration || conf.password_change || conf.removal {
            on.disco(ns::REGISTER);
            for at in [Target::Server, Target::Account] {
                on.iq(IqType::Get, at, ns::REGISTER, "query", Self::get).iq(
                    IqType::Set,
                    at,
                    ns::REGISTER,
                    "query",
                    Self::set,
                );
            }
        }
    }
}

/// The names that nobody gets, as they are compared; the domain does not matter for them.
fn reserved(conf: &RegisterConf) -> Result<BTreeSet<Box<str>>, Fault> {
    let mut reserved = BTreeSet::new();
    for name in &conf.reserved {
        let jid = BareJid::from_parts(Some(name), "localhost");
        let jid =
            jid.map_err(|error| Fault { option: "reserved", why: format!("\"{name}\" is no user name: {error}") })?;
        reserved.extend(jid.localpart().map(Box::from));
    }
    Ok(reserved)
}

impl Register {
    // ---- strangers ------------------------------------------------------------------------------------------------

    fn offer(self: &Arc<Self>, offer: &Offer<'_>) -> Option<Element> {
        offer.secured.then(|| Element::new("register", ns::REGISTER_FEATURE))
    }

    async fn stranger(self: Arc<Self>, call: PreAuthCall) -> IqResult {
        if !call.secured {
            return Err(insecure());
        }
        match call.kind {
            IqType::Get => {
                let text = "Choose a user name and a password.";
                let fields = ["username", "password"].map(|name| Element::new(name, ns::REGISTER));
                Ok(Some(query().child(Element::new("instructions", ns::REGISTER).text(text)).children(fields)))
            }
            _ if call.payload.find("remove", ns::REGISTER).is_some() => {
                Err(StanzaError::new(Condition::UnexpectedRequest))
            }
            _ => self.register(&call).await,
        }
    }

    async fn register(&self, call: &PreAuthCall) -> IqResult {
        let (Some(name), Some(password)) = (field(&call.payload, "username"), password(&call.payload)?) else {
            return Err(refused("Both a user name and a password are needed."));
        };
        let user = self.name(&name)?;
        let address = (!call.server.conf().limits().is_exempt(call.peer)).then_some(call.peer);
        if !self.throttle.lock().begin(address, Instant::now()) {
            let text = "Too many accounts have been registered; please try again later.";
            return Err(StanzaError::new(Condition::ResourceConstraint).with_kind(ErrorKind::Wait).with_text(text));
        }
        let made = self.make(&call.server, &user, password).await;
        match &made {
            Ok(()) => info!(account = %user, peer = %call.peer, "registered"),
            Err(_) => self.throttle.lock().failed(address),
        }
        made.map(|()| None)
    }

    async fn make(&self, server: &Arc<Server>, user: &BareJid, password: Secret) -> Result<(), StanzaError> {
        let taken = || StanzaError::new(Condition::Conflict).with_text("This user name is taken.");
        // Nobody is told whether the name is in use or has been: that is the deleted user's business.
        if server.store.account_exists(user).await? || server.was_deleted(user, self.conf.deleted_names.get()).await? {
            return Err(taken());
        }
        let credentials = server.derive(password).await?;
        if server.store.create_account(user, &credentials).await? { Ok(()) } else { Err(taken()) }
    }

    /// The account that a name would make, if it may be made.
    fn name(&self, name: &str) -> Result<BareJid, StanzaError> {
        let user = BareJid::from_parts(Some(name), self.domain.as_str());
        let user = user.map_err(|_| {
            refused("This cannot be a user name: it is empty, too long or has characters that are not allowed.")
        })?;
        let local = user.localpart().unwrap_or_default();
        let (shortest, longest) = (self.conf.shortest_name.len(), self.conf.longest_name.len());
        if !(shortest..=longest).contains(&local.chars().count()) {
            return Err(refused(format!("A user name has {shortest} to {longest} characters.")));
        }
        if self.reserved.contains(local) {
            return Err(refused("This user name is reserved."));
        }
        Ok(user)
    }

    fn clear(self: &Arc<Self>, server: &Arc<Server>) {
        let (module, running) = (self.clone(), server.clone());
        server.spawn(async move {
            if let Err(error) = running.forget_deleted(&module.domain, module.conf.deleted_names.get()).await {
                warn!(%error, "cannot forget names of accounts deleted long ago; trying again tomorrow");
            }
        });
    }

    // ---- users ----------------------------------------------------------------------------------------------------

    async fn get(self: Arc<Self>, call: Call) -> IqResult {
        let session = self.own(&call)?;
        let user = session.jid.localpart().unwrap_or_default();
        let fields = [
            Element::new("registered", ns::REGISTER),
            Element::new("username", ns::REGISTER).text(user),
            Element::new("password", ns::REGISTER),
        ];
        Ok(Some(query().children(fields)))
    }

    async fn set(self: Arc<Self>, call: Call) -> IqResult {
        let session = self.own(&call)?;
        match call.payload.find("remove", ns::REGISTER) {
            Some(_) if call.payload.elements().count() > 1 => {
                Err(StanzaError::new(Condition::BadRequest).with_text("<remove/> stands alone."))
            }
            Some(_) => self.remove(&call, &session).await,
            None => self.change_password(&call, &session).await,
        }
    }

    async fn change_password(&self, call: &Call, session: &Session) -> IqResult {
        if !self.conf.password_change {
            return Err(StanzaError::new(Condition::NotAllowed).with_text("Passwords are not changed here."));
        }
        if !session.stream.secured {
            return Err(insecure());
        }
        let bad = |text: &'static str| StanzaError::new(Condition::BadRequest).with_text(text);
        let (Some(name), Some(password)) = (field(&call.payload, "username"), password(&call.payload)?) else {
            return Err(bad("Both your user name and the new password are needed."));
        };
        let user = &session.account.jid;
        if BareJid::from_parts(Some(&name), user.domainpart()).ok().as_ref() != Some(user) {
            return Err(StanzaError::new(Condition::NotAllowed).with_text("This is not your user name."));
        }
        // One at a time: each costs the server as much as many logins.
        let turn = session.account.update(self.changing, |changing| {
            let turn = (changing.strong_count() == 0).then(Arc::default);
            turn.iter().for_each(|turn| *changing = Arc::downgrade(turn));
            turn
        });
        let Some(Some(_turn)) = turn else {
            let text = "Your password is being changed already.";
            return Err(StanzaError::new(Condition::ResourceConstraint).with_kind(ErrorKind::Wait).with_text(text));
        };
        let credentials = call.server.derive(password).await?;
        if session.account.is_deleted() || !call.server.store.set_credentials(user, &credentials).await? {
            return Err(StanzaError::new(Condition::RegistrationRequired));
        }
        info!(account = %user, peer = %session.stream.peer, "password changed");
        call.server.password_changed(user, Some(session));
        Ok(None)
    }

    async fn remove(&self, call: &Call, session: &Arc<Session>) -> IqResult {
        if !self.conf.removal {
            return Err(
                StanzaError::new(Condition::NotAllowed).with_text("Ask the administrators to delete your account.")
            );
        }
        // The stream ends with the account, so that the answer has to go before.
        if !call.server.delete_own_account(session, call.stanza.result(None)).await? {
            return Err(StanzaError::new(Condition::RegistrationRequired));
        }
        info!(account = %session.account.jid, peer = %session.stream.peer, "account deleted by its user");
        Ok(None)
    }

    /// The session of one of our own users, who asks for the own account.
    fn own(&self, call: &Call) -> Result<Arc<Session>, StanzaError> {
        let session = call.session.clone().filter(|session| session.jid.domainpart() == self.domain.as_str());
        let session =
            session.filter(|session| call.account.as_ref().is_none_or(|account| account.jid == session.account.jid));
        session.ok_or_else(|| StanzaError::new(Condition::ServiceUnavailable))
    }
}

fn query() -> Element {
    Element::new("query", ns::REGISTER)
}

/// What a field says; `None` when it is missing or empty.
fn field(query: &Element, name: &'static str) -> Option<String> {
    query.find(name, ns::REGISTER).map(Element::content).filter(|text| !text.is_empty())
}

fn password(query: &Element) -> Result<Option<Secret>, StanzaError> {
    match field(query, "password") {
        Some(password) if password.len() > LONGEST_PASSWORD => Err(refused("This password is too long.")),
        password => Ok(password.map(Secret::new)),
    }
}

fn refused(text: impl Into<std::borrow::Cow<'static, str>>) -> StanzaError {
    StanzaError::new(Condition::NotAcceptable).with_text(text)
}

fn insecure() -> StanzaError {
    StanzaError::new(Condition::NotAuthorized)
        .with_text("Passwords are not taken over a connection without encryption.")
}
