//! What is asked of a database for sessions that outlive the process (XEP-0198 §5): see `restart.rs`.

use std::time::SystemTime;

use async_trait::async_trait;
use rookery_xmpp::jid::{BareJid, FullJid};

use super::StoreResult;

/// A session that waits for the server to come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedSession {
    /// Its address.
    pub jid: FullJid,
    /// When it ends, if nobody has resumed it.
    pub expires: SystemTime,
    /// The rest, which only core reads.
    pub state: Vec<u8>,
}

/// Sessions of the last run of the server.
#[async_trait]
pub trait SessionStore: Send + Sync {
    /// Stores sessions in one transaction, each in place of an older one with its address. One of an account that is not
    /// there is passed over.
    async fn save_sessions(&self, sessions: &[SavedSession]) -> StoreResult<()>;
    /// Takes out the sessions of these accounts in one transaction: when this returns `Ok`, nobody finds them again. A
    /// session whose account has been given another password meanwhile has expired.
    async fn take_sessions(&self, users: &[BareJid]) -> StoreResult<Vec<SavedSession>>;
    /// The accounts that have saved sessions, in any order.
    async fn saved_accounts(&self) -> StoreResult<Vec<BareJid>>;
}
