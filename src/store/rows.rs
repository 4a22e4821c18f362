//! The statements that both databases understand word for word, and the store traits on top of them.
//!
//! They are macros because sqlx ties a statement to one driver's types: each backend expands them once for its own
//! connection. What differs (opening, the commit of the tails, what an error code means) is written out per backend.

use std::time::Duration;

/// How many removals of a roster are remembered.
pub(crate) const REMOVALS: i64 = rookery_core::roster::REMOVALS as i64;

/// Rows that go in one transaction when many go, so that nobody waits long for it.
pub(crate) const STEP: i64 = 1000;

/// For how long the number of a deleted account is remembered at least: a commit that began before the deletion has ended
/// by then, in one way or the other, and what it has left is found.
pub(crate) const REMEMBERED: Duration = Duration::from_secs(3600);

/// Statements on one connection. `$begin` starts a transaction that writes, `$snapshot` one that reads several tables as
/// of one moment; the module beside it named `texts` holds those that differ.
macro_rules! rows {
    ($connection:ty, $begin:literal, $snapshot:literal) => {
        use std::time::SystemTime;

        use rookery_core::roster::RosterItem;
        use rookery_core::store::{AccountInfo, RosterChange, Seen, StoredRoster, TailEntry, TailSize};
        use rookery_xmpp::jid::BareJid;
        use rookery_xmpp::sasl::Credentials;
        use sqlx::{Connection, query, query_as, query_scalar};

        use super::texts;
        use crate::codec;
        use crate::health::Outcome;
        use crate::rows::{REMOVALS, STEP};

        pub(crate) async fn credentials(on: &mut $connection, user: &BareJid) -> Outcome<Option<Credentials>> {
            let columns: Option<codec::KeyColumns> = query_as(
                "SELECT sha256_salt, sha256_iterations, sha256_stored_key, sha256_server_key, \
                 sha1_salt, sha1_iterations, sha1_stored_key, sha1_server_key \
                 FROM accounts WHERE jid = $1",
            )
            .bind(user.as_str())
            .fetch_optional(on)
            .await?;
            Ok(columns.map(codec::credentials).transpose()?)
        }

        pub(crate) async fn number(on: &mut $connection, user: &BareJid) -> Outcome<Option<i64>> {
            Ok(query_scalar("SELECT number FROM accounts WHERE jid = $1")
                .bind(user.as_str())
                .fetch_optional(on)
                .await?)
        }

        /// The number of an account or a room.
        pub(crate) async fn owner(on: &mut $connection, jid: &BareJid) -> Outcome<Option<i64>> {
            let both = "SELECT number FROM accounts WHERE jid = $1 UNION ALL SELECT number FROM rooms WHERE jid = $1";
            Ok(query_scalar(both).bind(jid.as_str()).fetch_optional(on).await?)
        }

        pub(crate) async fn create_account(
            on: &mut $connection,
            user: &BareJid,
            created: i64,
            keys: &Credentials,
        ) -> Outcome<bool> {
            let done = query(
                "INSERT INTO accounts (jid, domain, created, \
                 sha256_salt, sha256_iterations, sha256_stored_key, sha256_server_key, \
                 sha1_salt, sha1_iterations, sha1_stored_key, sha1_server_key) \
                 SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11 \
                 WHERE NOT EXISTS (SELECT 1 FROM rooms WHERE jid = $1) ON CONFLICT (jid) DO NOTHING",
            )
            .bind(user.as_str())
            .bind(user.domainpart())
            .bind(created)
            .bind(&keys.sha256.salt)
            .bind(i64::from(keys.sha256.iterations))
            .bind(keys.sha256.stored_key.expose())
            .bind(keys.sha256.server_key.expose())
            .bind(&keys.sha1.salt)
            .bind(i64::from(keys.sha1.iterations))
            .bind(keys.sha1.stored_key.expose())
            .bind(keys.sha1.server_key.expose())
            .execute(on)
            .await?;
            Ok(done.rows_affected() == 1)
        }

        pub(crate) async fn set_credentials(on: &mut $connection, user: &BareJid, keys: &Credentials) -> Outcome<bool> {
            let mut tx = on.begin_with($begin).await?;
            // Whoever comes by the old password is not to find a session that began with it.
            query("UPDATE sessions SET expires = 0 WHERE account = (SELECT number FROM accounts WHERE jid = $1)")
                .bind(user.as_str())
                .execute(&mut *tx)
                .await?;
            let done = query(
                "UPDATE accounts SET sha256_salt = $2, sha256_iterations = $3, \
                 sha256_stored_key = $4, sha256_server_key = $5, sha1_salt = $6, \
                 sha1_iterations = $7, sha1_stored_key = $8, sha1_server_key = $9 WHERE jid = $1",
            )
            .bind(user.as_str())
            .bind(&keys.sha256.salt)
            .bind(i64::from(keys.sha256.iterations))
            .bind(keys.sha256.stored_key.expose())
            .bind(keys.sha256.server_key.expose())
            .bind(&keys.sha1.salt)
            .bind(i64::from(keys.sha1.iterations))
            .bind(keys.sha1.stored_key.expose())
            .bind(keys.sha1.server_key.expose())
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok(done.rows_affected() == 1)
        }

        pub(crate) async fn delete_account(on: &mut $connection, user: &BareJid) -> Outcome<bool> {
            let mut tx = on.begin_with($begin).await?;
            query("DELETE FROM key_values WHERE owner = $1").bind(user.as_str()).execute(&mut *tx).await?;
            // Roster, requests and saved sessions go with the account (ON DELETE CASCADE). Messages stay under a number that nobody has.
            let number: Option<i64> = query_scalar("DELETE FROM accounts WHERE jid = $1 RETURNING number")
                .bind(user.as_str())
                .fetch_optional(&mut *tx)
                .await?;
            if let Some(number) = number {
                query("INSERT INTO deleted_accounts (number, deleted) VALUES ($1, $2)")
                    .bind(number)
                    .bind(codec::to_stamp(SystemTime::now()))
                    .execute(&mut *tx)
                    .await?;
                query("UPDATE archive_marks SET deletions = deletions + 1 WHERE slot = 0").execute(&mut *tx).await?;
            }
            tx.commit().await?;
            Ok(number.is_some())
        }

        pub(crate) async fn accounts(on: &mut $connection, domain: &BareJid) -> Outcome<Vec<AccountInfo>> {
            let found: Vec<(String, i64)> =
                query_as("SELECT jid, created FROM accounts WHERE domain = $1 ORDER BY jid")
                    .bind(domain.as_str())
                    .fetch_all(on)
                    .await?;
            let mut accounts = Vec::with_capacity(found.len());
            for (jid, created) in found {
                accounts.push(AccountInfo { jid: codec::jid(&jid)?, created: codec::from_stamp(created)? });
            }
            Ok(accounts)
        }

        pub(crate) async fn roster(on: &mut $connection, user: &BareJid) -> Outcome<StoredRoster> {
            let mut tx = on.begin_with($snapshot).await?;
            let mut roster = StoredRoster::default();
            let Some(account) = number(&mut tx, user).await? else {
                tx.rollback().await?;
                return Ok(roster);
            };
            roster.epoch = codec::from_column(account)?;
            let items: Vec<(String, Option<String>, String, String, bool, bool, i64)> = query_as(
                "SELECT jid, name, contact_groups, subscription, ask, approved, version \
                 FROM roster_items WHERE account = $1 ORDER BY jid",
            )
            .bind(account)
            .fetch_all(&mut *tx)
            .await?;
            for (jid, name, groups, subscription, ask, approved, version) in items {
                roster.items.push(RosterItem {
                    jid: codec::jid(&jid)?,
                    name,
                    groups: codec::groups(&groups)?,
                    subscription: codec::subscription(&subscription)?,
                    ask,
                    approved,
                    version: codec::from_column(version)?,
                });
            }
            let removed: Vec<(String, i64)> =
                query_as("SELECT jid, version FROM roster_removed WHERE account = $1 ORDER BY version, jid")
                    .bind(account)
                    .fetch_all(&mut *tx)
                    .await?;
            for (jid, version) in removed {
                roster.removed.push((codec::jid(&jid)?, codec::from_column(version)?));
            }
            let requests: Vec<(String, Vec<u8>)> =
                query_as("SELECT jid, stanza FROM roster_requests WHERE account = $1 ORDER BY jid")
                    .bind(account)
                    .fetch_all(&mut *tx)
                    .await?;
            for (jid, stanza) in requests {
                roster.requests.push((codec::jid(&jid)?, stanza));
            }
            tx.commit().await?;
            let of_items = roster.items.iter().map(|item| item.version);
            let of_removed = roster.removed.iter().map(|(_, version)| *version);
            roster.version = of_items.chain(of_removed).max().unwrap_or(0);
            Ok(roster)
        }

        pub(crate) async fn change_roster(
            on: &mut $connection,
            user: &BareJid,
            changes: &[RosterChange],
        ) -> Outcome<()> {
            let mut tx = on.begin_with($begin).await?;
            let Some(account) = number(&mut tx, user).await? else {
                tx.rollback().await?;
                return Ok(());
            };
            let mut forget = false;
            for change in changes {
                match change {
                    RosterChange::Put(item) => {
                        query(
                            "INSERT INTO roster_items (account, jid, name, contact_groups, \
                             subscription, ask, approved, version) \
                             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
                             ON CONFLICT (account, jid) DO UPDATE SET name = excluded.name, \
                             contact_groups = excluded.contact_groups, \
                             subscription = excluded.subscription, ask = excluded.ask, \
                             approved = excluded.approved, version = excluded.version",
                        )
                        .bind(account)
                        .bind(item.jid.as_str())
                        .bind(item.name.as_deref())
                        .bind(codec::groups_to_column(&item.groups))
                        .bind(item.subscription.as_str())
                        .bind(item.ask)
                        .bind(item.approved)
                        .bind(codec::to_column(item.version)?)
                        .execute(&mut *tx)
                        .await?;
                    }
                    RosterChange::Remove(jid, version) => {
                        query("DELETE FROM roster_items WHERE account = $1 AND jid = $2")
                            .bind(account)
                            .bind(jid.as_str())
                            .execute(&mut *tx)
                            .await?;
                        query(
                            "INSERT INTO roster_removed (account, jid, version) \
                             VALUES ($1, $2, $3) \
                             ON CONFLICT (account, jid) DO UPDATE SET version = excluded.version",
                        )
                        .bind(account)
                        .bind(jid.as_str())
                        .bind(codec::to_column(*version)?)
                        .execute(&mut *tx)
                        .await?;
                        forget = true;
                    }
                    RosterChange::Request(jid, stanza) => {
                        query(
                            "INSERT INTO roster_requests (account, jid, stanza) \
                             VALUES ($1, $2, $3) \
                             ON CONFLICT (account, jid) DO UPDATE SET stanza = excluded.stanza",
                        )
                        .bind(account)
                        .bind(jid.as_str())
                        .bind(stanza.as_slice())
                        .execute(&mut *tx)
                        .await?;
                    }
                    RosterChange::Unrequest(jid) => {
                        query("DELETE FROM roster_requests WHERE account = $1 AND jid = $2")
                            .bind(account)
                            .bind(jid.as_str())
                            .execute(&mut *tx)
                            .await?;
                    }
                }
            }
            if forget {
                query(
                    "DELETE FROM roster_removed WHERE account = $1 AND version <= \
                     (SELECT version FROM roster_removed WHERE account = $1 \
                     ORDER BY version DESC LIMIT 1 OFFSET $2)",
                )
                .bind(account)
                .bind(REMOVALS)
                .execute(&mut *tx)
                .await?;
            }
            tx.commit().await?;
            Ok(())
        }

        pub(crate) async fn tail(
            on: &mut $connection,
            user: &BareJid,
            after: u64,
            up_to: u64,
            limit: usize,
        ) -> Outcome<Vec<TailEntry>> {
            let rows: Vec<(i64, Option<String>, i64, Vec<u8>)> = query_as(
                "SELECT t.id, t.resource, m.stamp, m.stanza FROM tail AS t \
                 CROSS JOIN messages AS m WHERE t.account = (SELECT number FROM accounts WHERE jid = $1) \
                 AND t.id > $2 AND t.id <= $3 AND m.account = t.account AND m.id = t.id ORDER BY t.id LIMIT $4",
            )
            .bind(user.as_str())
            .bind(codec::to_bound(after))
            .bind(codec::to_bound(up_to))
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(on)
            .await?;
            let mut entries = Vec::with_capacity(rows.len());
            for (id, resource, stamp, stanza) in rows {
                entries.push(TailEntry {
                    account: user.clone(),
                    id: codec::from_column(id)?,
                    resource,
                    stamp: codec::from_stamp(stamp)?,
                    stanza: stanza.into(),
                });
            }
            Ok(entries)
        }

        pub(crate) async fn tail_size(on: &mut $connection, user: &BareJid) -> Outcome<TailSize> {
            let (messages, bytes): (i64, i64) = query_as(
                "SELECT count(*), CAST(coalesce(sum(size), 0) AS BIGINT) FROM tail \
                 WHERE account = (SELECT number FROM accounts WHERE jid = $1)",
            )
            .bind(user.as_str())
            .fetch_one(on)
            .await?;
            Ok(TailSize { messages: codec::from_column(messages)?, bytes: codec::from_column(bytes)? })
        }

        pub(crate) async fn last_id(on: &mut $connection) -> Outcome<u64> {
            let id: i64 = query_scalar("SELECT coalesce(max(id), 0) FROM tail_marks").fetch_one(on).await?;
            Ok(codec::from_column(id)?)
        }

        pub(crate) async fn seen(
            on: &mut $connection,
            user: &BareJid,
            after: u64,
            up_to: u64,
            limit: usize,
        ) -> Outcome<Vec<Seen>> {
            let Some(account) = owner(on, user).await? else {
                return Ok(Vec::new());
            };
            let rows: Vec<(i64, i64)> = query_as(texts::SEEN)
                .bind(account)
                .bind(codec::to_bound(after))
                .bind(i64::try_from(limit).unwrap_or(i64::MAX))
                .bind(codec::to_bound(up_to))
                .fetch_all(on)
                .await?;
            let seen =
                |(id, digest): (i64, i64)| Ok(Seen { id: codec::from_column(id)?, digest: digest.cast_unsigned() });
            let seen: Outcome<Vec<Seen>> = rows.into_iter().map(seen).collect();
            let mut seen = seen?;
            // The newest of two lists.
            seen.sort_unstable_by_key(|seen| std::cmp::Reverse(seen.id));
            seen.truncate(limit);
            Ok(seen)
        }

        /// From now on nothing up to this id is known any more.
        pub(crate) async fn forget(on: &mut $connection, up_to: i64) -> Outcome<()> {
            query("UPDATE archive_marks SET forgotten = $1 WHERE slot = 0 AND forgotten < $1")
                .bind(up_to)
                .execute(on)
                .await?;
            Ok(())
        }

        /// Removes some of what is not known any more; `true` when there may be more.
        pub(crate) async fn remove_forgotten(on: &mut $connection) -> Outcome<bool> {
            Ok(query(texts::FORGET).bind(STEP).execute(on).await?.rows_affected() > 0)
        }

        pub(crate) async fn value(
            on: &mut $connection,
            owner: &BareJid,
            module: &str,
            key: &str,
        ) -> Outcome<Option<Vec<u8>>> {
            Ok(query_scalar("SELECT value FROM key_values WHERE owner = $1 AND module = $2 AND key = $3")
                .bind(owner.as_str())
                .bind(module)
                .bind(key)
                .fetch_optional(on)
                .await?)
        }

        pub(crate) async fn values(
            on: &mut $connection,
            owner: &BareJid,
            module: &str,
        ) -> Outcome<Vec<(String, Vec<u8>)>> {
            Ok(query_as("SELECT key, value FROM key_values WHERE owner = $1 AND module = $2 ORDER BY key")
                .bind(owner.as_str())
                .bind(module)
                .fetch_all(on)
                .await?)
        }

        pub(crate) async fn set_values(
            on: &mut $connection,
            owner: &BareJid,
            module: &str,
            changes: &[(String, Option<Vec<u8>>)],
        ) -> Outcome<()> {
            let mut tx = on.begin_with($begin).await?;
            for (key, value) in changes {
                match value {
                    Some(value) => {
                        query(
                            "INSERT INTO key_values (owner, module, key, value) \
                             VALUES ($1, $2, $3, $4) \
                             ON CONFLICT (owner, module, key) DO UPDATE SET value = excluded.value",
                        )
                        .bind(owner.as_str())
                        .bind(module)
                        .bind(key)
                        .bind(value.as_slice())
                        .execute(&mut *tx)
                        .await?;
                    }
                    None => {
                        query(
                            "DELETE FROM key_values \
                             WHERE owner = $1 AND module = $2 AND key = $3",
                        )
                        .bind(owner.as_str())
                        .bind(module)
                        .bind(key)
                        .execute(&mut *tx)
                        .await?;
                    }
                }
            }
            tx.commit().await?;
            Ok(())
        }
    };
}

/// Runs a statement on a lease; again after a broken connection if doing it twice does no harm.
macro_rules! call {
    ($self:ident . read, $on:ident => $work:expr) => {
        $self.health.read($crate::rows::call!(@again $self, reader, $on => $work)).await
    };
    ($self:ident . write, $on:ident => $work:expr) => {
        $self.health.write($crate::rows::call!(@again $self, writer, $on => $work)).await
    };
    ($self:ident . browse, $on:ident => $work:expr) => {
        match $self.health.turn(&$self.pages).await {
            Ok(_turn) => $crate::rows::call!($self.read, $on => $work),
            Err(error) => Err(error),
        }
    };
    ($self:ident . commit, $on:ident => $work:expr) => {
        $self.health.write($crate::rows::call!(@again $self, committer, $on => $work)).await
    };
    ($self:ident . write_once, $on:ident => $work:expr) => {
        $self.health.write($crate::rows::call!(@once $self, writer, $on => $work)).await
    };
    (@once $self:ident, $lease:ident, $on:ident => $work:expr) => {
        async {
            let mut lease = $self.$lease().await?;
            let $on = lease.connection()?;
            let result = $work.await;
            lease.settle(result)
        }
    };
    (@again $self:ident, $lease:ident, $on:ident => $work:expr) => {
        async {
            loop {
                match $crate::rows::call!(@once $self, $lease, $on => $work).await {
                    Err(failure) if $self.try_again(&failure).await => {}
                    result => break result,
                }
            }
        }
    };
}

/// The traits of core for a backend that has `health`, `try_again(&Failure)` and `memory`, a module `rows`, `archive` and
/// `words`, and a function `commit`.
///
/// `reader()`, `writer()` and `committer()` (messages) give a lease on a connection. A lease that is dropped without `settle`
/// (the deadline, or a caller that went away) takes its connection with it: nobody knows what state it is in. For a page of an
/// archive there are `pages`, turns.
macro_rules! store {
    ($store:ty) => {
        use std::time::SystemTime;

        use async_trait::async_trait;
        use rookery_core::store::{
            AccountInfo, AccountStore, ArchiveEnds, ArchivePage, ArchiveQuery, ArchiveStore, Conversation,
            KeyValueStore, RosterChange, RosterStore, Seen, Store, StoreResult, StoredRoster, TailChange, TailEntry,
            TailSize, TailStore,
        };
        use rookery_xmpp::jid::BareJid;
        use rookery_xmpp::sasl::Credentials;

        use crate::rows::call;

        #[async_trait]
        impl AccountStore for $store {
            async fn credentials(&self, user: &BareJid) -> StoreResult<Option<Credentials>> {
                call!(self.read, on => rows::credentials(on, user))
            }

            async fn account_exists(&self, user: &BareJid) -> StoreResult<bool> {
                Ok(call!(self.read, on => rows::number(on, user))?.is_some())
            }

            async fn create_account(
                &self,
                user: &BareJid,
                credentials: &Credentials,
            ) -> StoreResult<bool> {
                let now = crate::codec::to_stamp(SystemTime::now());
                call!(self.write_once, on => rows::create_account(on, user, now, credentials))
            }

            async fn set_credentials(
                &self,
                user: &BareJid,
                credentials: &Credentials,
            ) -> StoreResult<bool> {
                call!(self.write, on => rows::set_credentials(on, user, credentials))
            }

            async fn delete_account(&self, user: &BareJid) -> StoreResult<bool> {
                call!(self.write_once, on => rows::delete_account(on, user))
            }

            async fn purge_deleted(&self, limit: usize) -> StoreResult<bool> {
                let now = SystemTime::now();
                let long_ago = crate::codec::to_stamp(now.checked_sub($crate::rows::REMEMBERED).unwrap_or(now));
                call!(self.write, on => archive::purge(on, limit, long_ago))
            }

            async fn accounts(&self, domain: &BareJid) -> StoreResult<Vec<AccountInfo>> {
                call!(self.read, on => rows::accounts(on, domain))
            }
        }

        #[async_trait]
        impl RosterStore for $store {
            async fn roster(&self, user: &BareJid) -> StoreResult<StoredRoster> {
                call!(self.read, on => rows::roster(on, user))
            }

            async fn change_roster(
                &self,
                user: &BareJid,
                changes: &[RosterChange],
            ) -> StoreResult<()> {
                call!(self.write, on => rows::change_roster(on, user, changes))
            }
        }

        #[async_trait]
        impl TailStore for $store {
            async fn commit(&self, changes: &[TailChange]) -> StoreResult<()> {
                if changes.is_empty() {
                    return Ok(());
                }
                let batches = crate::batch::Batch::all(changes)?;
                call!(self.commit, on => commit(on, &batches, &self.memory))
            }

            fn tail_readers(&self) -> usize {
                self.tail_readers
            }

            async fn tail(
                &self,
                user: &BareJid,
                after: u64,
                up_to: u64,
                limit: usize,
            ) -> StoreResult<Vec<TailEntry>> {
                call!(self.read, on => rows::tail(on, user, after, up_to, limit))
            }

            async fn tail_size(&self, user: &BareJid) -> StoreResult<TailSize> {
                call!(self.read, on => rows::tail_size(on, user))
            }

            async fn last_id(&self) -> StoreResult<u64> {
                call!(self.read, on => rows::last_id(on))
            }

            async fn seen(&self, user: &BareJid, after: u64, up_to: u64, limit: usize) -> StoreResult<Vec<Seen>> {
                call!(self.read, on => rows::seen(on, user, after, up_to, limit))
            }

            async fn forget_seen(&self, up_to: u64) -> StoreResult<()> {
                call!(self.write, on => rows::forget(on, crate::codec::to_bound(up_to)))?;
                while call!(self.write, on => rows::remove_forgotten(on))? {}
                Ok(())
            }
        }

        #[async_trait]
        impl ArchiveStore for $store {
            async fn archive_page(&self, user: &BareJid, query: &ArchiveQuery) -> StoreResult<Option<ArchivePage>> {
                call!(self.browse, on => archive::page(on, user, query))
            }

            async fn archive_ends(&self, user: &BareJid) -> StoreResult<Option<ArchiveEnds>> {
                call!(self.read, on => archive::ends(on, user))
            }

            async fn archived_id(
                &self,
                user: &BareJid,
                with: &BareJid,
                message_id: &str,
            ) -> StoreResult<Option<u64>> {
                call!(self.read, on => archive::archived_id(on, user, with, message_id))
            }

            async fn set_displayed(&self, user: &BareJid, with: &BareJid, id: u64) -> StoreResult<bool> {
                call!(self.write, on => archive::set_displayed(on, user, with, id))
            }

            async fn conversations(&self, user: &BareJid) -> StoreResult<Vec<Conversation>> {
                // Each step ends in time, however long the archive is.
                for number in call!(self.read, on => archive::uncounted(on, user))? {
                    while call!(self.write, on => archive::count_on(on, number))? {}
                }
                call!(self.read, on => archive::conversations(on, user))
            }

            async fn expire_archive(&self, user: &BareJid, up_to: u64, limit: usize) -> StoreResult<bool> {
                call!(self.write, on => archive::expire(on, user, up_to, limit))
            }

            async fn expired_accounts(
                &self,
                domain: &BareJid,
                up_to: u64,
                after: Option<&BareJid>,
                limit: usize,
            ) -> StoreResult<Vec<BareJid>> {
                call!(self.read, on => archive::expired_accounts(on, domain, up_to, after, limit))
            }

            async fn is_findable(&self, owner: &BareJid) -> StoreResult<bool> {
                call!(self.read, on => words::is_findable(on, owner))
            }

            async fn index_words(&self, owner: &BareJid, limit: usize) -> StoreResult<bool> {
                call!(self.write, on => words::index(on, owner, limit))
            }
        }

        #[async_trait]
        impl KeyValueStore for $store {
            async fn value(
                &self,
                owner: &BareJid,
                module: &str,
                key: &str,
            ) -> StoreResult<Option<Vec<u8>>> {
                call!(self.read, on => rows::value(on, owner, module, key))
            }

            async fn values(
                &self,
                owner: &BareJid,
                module: &str,
            ) -> StoreResult<Vec<(String, Vec<u8>)>> {
                call!(self.read, on => rows::values(on, owner, module))
            }

            async fn set_values(
                &self,
                owner: &BareJid,
                module: &str,
                changes: &[(String, Option<Vec<u8>>)],
            ) -> StoreResult<()> {
                call!(self.write, on => rows::set_values(on, owner, module, changes))
            }
        }

        #[async_trait]
        impl Store for $store {
            async fn close(&self) {
                self.end().await;
            }
        }
    };
}

pub(crate) use {call, rows, store};
