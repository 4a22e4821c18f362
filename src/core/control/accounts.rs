//! The commands on accounts, carried out on the database. A running server ends sessions besides.

use std::sync::Arc;

use async_trait::async_trait;
use rookery_xmpp::jid::BareJid;
use rookery_xmpp::sasl::{Credentials, PasswordError};

use super::{CommandCondition, CommandError, Commands, ListedAccount, Reply, Request};
use crate::config::{Conf, Secret};
use crate::retention::{self, Keep};
use crate::store::{AccountStore, KeyValueStore, StoreError};
use crate::tombstones;

/// `user.add`, `user.list`, `user.passwd`, `user.del` and `user.archive` on a database.
pub struct AccountCommands<S: ?Sized> {
    hosts: Vec<BareJid>,
    iterations: u32,
    store: Arc<S>,
}

impl<S: AccountStore + KeyValueStore + ?Sized> AccountCommands<S> {
    /// Commands on the accounts of the conf's hosts.
    pub fn new(conf: &Conf, store: Arc<S>) -> Self {
        Self {
            hosts: conf.hosts().iter().map(|host| host.domain.clone()).collect(),
            iterations: conf.server().scram_iterations.get(),
            store,
        }
    }

    /// Reads the address of an account on one of the hosts.
    pub fn account(&self, text: &str) -> Result<BareJid, CommandError> {
        let jid = BareJid::new(text).map_err(|error| {
            bad(format!("\"{text}\" is no account's address, such as alice@{}: {error}", self.example()))
        })?;
        if jid.localpart().is_none() {
            return Err(bad(format!("\"{jid}\" has no user name: write one such as alice@{}", self.example())));
        }
        self.host(jid.domainpart())?;
        Ok(jid)
    }

    fn host(&self, text: &str) -> Result<BareJid, CommandError> {
        let domain = BareJid::new(text).map_err(|error| bad(format!("\"{text}\" is no domain: {error}")))?;
        if self.hosts.contains(&domain) {
            return Ok(domain);
        }
        let hosts: Vec<&str> = self.hosts.iter().map(|host| host.as_str()).collect();
        let hosts = hosts.join(", ");
        Err(bad(format!(
            "the server does not serve {domain}; its hosts are {hosts} (the conf's [host.\"...\"] sections)"
        )))
    }

    fn example(&self) -> &str {
        self.hosts.first().map_or("localhost", |host| host.as_str())
    }

    /// The keys of a password. They take a while to compute, elsewhere than on the caller's thread.
    async fn credentials(&self, password: Secret) -> Result<Credentials, CommandError> {
        let iterations = self.iterations;
        let computed = tokio::task::spawn_blocking(move || Credentials::from_password(password.expose(), iterations));
        match computed.await {
            Ok(Ok(credentials)) => Ok(credentials),
            Ok(Err(error @ PasswordError::NoRandomness)) => {
                Err(CommandError::new(CommandCondition::InternalServerError, error.to_string()))
            }
            Ok(Err(error)) => Err(bad(format!("this password cannot be used: {error}"))),
            Err(_) => Err(CommandError::new(CommandCondition::InternalServerError, "computing the keys failed")),
        }
    }

    async fn list(&self, host: Option<&str>) -> Result<Reply, CommandError> {
        let hosts = match host {
            Some(host) => vec![self.host(host)?],
            None => self.hosts.clone(),
        };
        let mut accounts = Vec::new();
        for host in hosts {
            accounts.extend(self.store.accounts(&host).await?.into_iter().map(|account| ListedAccount {
                jid: account.jid.to_string(),
                created: humantime::format_rfc3339_seconds(account.created).to_string(),
            }));
        }
        Ok(Reply::Accounts { accounts })
    }

    async fn archive(&self, jid: &str, keep: Option<&str>) -> Result<Reply, CommandError> {
        let (store, jid) = (self.store.as_ref(), self.account(jid)?);
        let wrong =
            |text| bad(format!("\"{text}\" is no time to keep messages: write {}, or \"{DEFAULT}\"", Keep::EXPECTED));
        let new = match keep {
            None => None,
            Some(DEFAULT) => Some(None),
            Some(text) => Some(Some(text.parse::<Keep>().map_err(|_| wrong(text))?)),
        };
        if !store.account_exists(&jid).await? {
            return Err(missing(&jid));
        }
        if let Some(keep) = new {
            retention::set(store, &jid, keep).await?;
        }
        let keep = retention::of_account(store, &jid).await?;
        let keep = keep.map_or_else(|| DEFAULT.to_owned(), |keep| keep.to_string());
        Ok(Reply::Archive { jid: jid.to_string(), keep })
    }
}

/// The name of what the conf says.
const DEFAULT: &str = "default";

#[async_trait]
impl<S: AccountStore + KeyValueStore + ?Sized> Commands for AccountCommands<S> {
    async fn run(&self, request: Request) -> Result<Reply, CommandError> {
        let jid = match request {
            Request::UserList { host } => return self.list(host.as_deref()).await,
            Request::UserArchive { jid, keep } => return self.archive(&jid, keep.as_deref()).await,
            Request::UserAdd { jid, password } => {
                let jid = self.account(&jid)?;
                let credentials = self.credentials(password).await?;
                if !self.store.create_account(&jid, &credentials).await? {
                    let text =
                        format!("the account {jid} is there already; `rookery user passwd {jid}` changes its password");
                    return Err(CommandError::new(CommandCondition::Conflict, text));
                }
                jid
            }
            Request::UserPasswd { jid, password } => {
                let jid = self.account(&jid)?;
                let credentials = self.credentials(password).await?;
                if !self.store.set_credentials(&jid, &credentials).await? {
                    return Err(missing(&jid));
                }
                jid
            }
            Request::UserDel { jid } => {
                let jid = self.account(&jid)?;
                if !self.store.account_exists(&jid).await? {
                    return Err(missing(&jid));
                }
                tombstones::bury(self.store.as_ref(), &jid).await?;
                retention::set(self.store.as_ref(), &jid, None).await?;
                if !self.store.delete_account(&jid).await? {
                    return Err(missing(&jid));
                }
                jid
            }
            Request::Room(_) | Request::S2s(_) => {
                let text = "this is no command on accounts";
                return Err(CommandError::new(CommandCondition::FeatureNotImplemented, text));
            }
        };
        Ok(Reply::Account { jid: jid.to_string() })
    }
}

fn bad(text: String) -> CommandError {
    CommandError::new(CommandCondition::BadRequest, text)
}

fn missing(jid: &BareJid) -> CommandError {
    CommandError::new(CommandCondition::ItemNotFound, format!("there is no account {jid}"))
}

impl From<StoreError> for CommandError {
    fn from(error: StoreError) -> Self {
        let condition = match error {
            StoreError::Unavailable(_) | StoreError::Full(_) => CommandCondition::ServiceUnavailable,
            StoreError::Corrupt(_) => CommandCondition::InternalServerError,
        };
        Self::new(condition, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::{Duration, SystemTime};

    use parking_lot::Mutex;

    use super::*;
    use crate::store::{AccountInfo, StoreResult};

    #[derive(Default)]
    struct Memory(Mutex<BTreeMap<BareJid, Credentials>>, Mutex<BTreeMap<String, Vec<u8>>>);

    #[async_trait]
    impl AccountStore for Memory {
        async fn credentials(&self, user: &BareJid) -> StoreResult<Option<Credentials>> {
            Ok(self.0.lock().get(user).cloned())
        }
        async fn account_exists(&self, user: &BareJid) -> StoreResult<bool> {
            Ok(self.0.lock().contains_key(user))
        }
        async fn create_account(&self, user: &BareJid, credentials: &Credentials) -> StoreResult<bool> {
            let mut accounts = self.0.lock();
            let is_new = !accounts.contains_key(user);
            accounts.entry(user.clone()).or_insert_with(|| credentials.clone());
            Ok(is_new)
        }
        async fn set_credentials(&self, user: &BareJid, credentials: &Credentials) -> StoreResult<bool> {
            Ok(self.0.lock().get_mut(user).map(|stored| *stored = credentials.clone()).is_some())
        }
        async fn delete_account(&self, user: &BareJid) -> StoreResult<bool> {
            Ok(self.0.lock().remove(user).is_some())
        }
        async fn purge_deleted(&self, _: usize) -> StoreResult<bool> {
            Ok(false)
        }
        async fn accounts(&self, domain: &BareJid) -> StoreResult<Vec<AccountInfo>> {
            let created = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
            let accounts = self.0.lock();
            let of_domain = accounts.keys().filter(|jid| jid.domainpart() == domain.as_str());
            Ok(of_domain.map(|jid| AccountInfo { jid: jid.clone(), created }).collect())
        }
    }

    #[async_trait]
    impl KeyValueStore for Memory {
        async fn value(&self, _: &BareJid, module: &str, key: &str) -> StoreResult<Option<Vec<u8>>> {
            Ok(self.1.lock().get(&format!("{module}/{key}")).cloned())
        }
        async fn values(&self, _: &BareJid, _: &str) -> StoreResult<Vec<(String, Vec<u8>)>> {
            Ok(self.1.lock().clone().into_iter().collect())
        }
        async fn set_values(
            &self,
            _: &BareJid,
            module: &str,
            changes: &[(String, Option<Vec<u8>>)],
        ) -> StoreResult<()> {
            for (key, value) in changes {
                let key = format!("{module}/{key}");
                match value {
                    Some(value) => self.1.lock().insert(key, value.clone()),
                    None => self.1.lock().remove(&key),
                };
            }
            Ok(())
        }
    }

    #[tokio::test]
    async fn accounts_come_change_and_go() {
        let conf = Conf::parse("[host.\"localhost\"]\n[host.\"example.org\"]", "test").unwrap();
        let store = Arc::new(Memory::default());
        let commands = AccountCommands::new(&conf, store.clone());
        for (line, expected) in [
            (r#"user.add","args":{"jid":"Alice@LOCALHOST","password":"p"}"#, r#"{"ok":{"jid":"alice@localhost"}}"#),
            (
                r#"user.add","args":{"jid":"alice@localhost","password":"p"}"#,
                r#"{"error":{"condition":"conflict","text":"the account alice@localhost is there already; `rookery user passwd alice@localhost` changes its password"}}"#,
            ),
            (r#"user.add","args":{"jid":"bob@example.org","password":"p"}"#, r#"{"ok":{"jid":"bob@example.org"}}"#),
            (
                r#"user.list","args":{}"#,
                r#"{"ok":{"accounts":[{"jid":"alice@localhost","created":"1970-01-01T00:00:01Z"},{"jid":"bob@example.org","created":"1970-01-01T00:00:01Z"}]}}"#,
            ),
            (
                r#"user.list","args":{"host":"localhost"}"#,
                r#"{"ok":{"accounts":[{"jid":"alice@localhost","created":"1970-01-01T00:00:01Z"}]}}"#,
            ),
            (r#"user.passwd","args":{"jid":"alice@localhost","password":"q"}"#, r#"{"ok":{"jid":"alice@localhost"}}"#),
            (
                r#"user.archive","args":{"jid":"Alice@localhost"}"#,
                r#"{"ok":{"jid":"alice@localhost","keep":"default"}}"#,
            ),
            (
                r#"user.archive","args":{"jid":"alice@localhost","keep":"30d"}"#,
                r#"{"ok":{"jid":"alice@localhost","keep":"30 days"}}"#,
            ),
            (
                r#"user.archive","args":{"jid":"alice@localhost"}"#,
                r#"{"ok":{"jid":"alice@localhost","keep":"30 days"}}"#,
            ),
            (
                r#"user.archive","args":{"jid":"alice@localhost","keep":"an hour"}"#,
                r#"{"error":{"condition":"bad-request","text":"\"an hour\" is no time to keep messages: write \"forever\" or a period such as \"90 days\" (from 1 day to 100 years), or \"default\""}}"#,
            ),
            (
                r#"user.archive","args":{"jid":"nobody@localhost","keep":"forever"}"#,
                r#"{"error":{"condition":"item-not-found","text":"there is no account nobody@localhost"}}"#,
            ),
            (r#"user.del","args":{"jid":"alice@localhost"}"#, r#"{"ok":{"jid":"alice@localhost"}}"#),
            (
                r#"user.del","args":{"jid":"alice@localhost"}"#,
                r#"{"error":{"condition":"item-not-found","text":"there is no account alice@localhost"}}"#,
            ),
            (
                r#"user.passwd","args":{"jid":"alice@localhost","password":"q"}"#,
                r#"{"error":{"condition":"item-not-found","text":"there is no account alice@localhost"}}"#,
            ),
            (
                r#"user.add","args":{"jid":"localhost","password":"p"}"#,
                r#"{"error":{"condition":"bad-request","text":"\"localhost\" has no user name: write one such as alice@localhost"}}"#,
            ),
            (
                r#"user.add","args":{"jid":"a@example.com","password":"p"}"#,
                r#"{"error":{"condition":"bad-request","text":"the server does not serve example.com; its hosts are localhost, example.org (the conf's [host.\"...\"] sections)"}}"#,
            ),
        ] {
            let line = format!(r#"{{"command":"{line}}}"#);
            assert_eq!(crate::control::answer(line.as_bytes(), &commands).await, expected, "for {line}");
        }
        let alice = BareJid::new("alice@localhost").unwrap();
        assert_eq!(retention::of_account(store.as_ref(), &alice).await.unwrap(), None);
        assert!(tombstones::is_buried(store.as_ref(), &alice, Duration::from_secs(60)).await.unwrap());
        let empty = Request::UserAdd { jid: "eve@localhost".into(), password: Secret::default() };
        assert_eq!(commands.run(empty).await.unwrap_err().condition, CommandCondition::BadRequest);
        let bob = BareJid::new("bob@example.org").unwrap();
        assert_eq!(store.credentials(&bob).await.unwrap().unwrap().sha256.iterations, 10_000);
    }
}
