//! Sessions of the last run of the server: the statements, which both databases understand, and the store trait on top of
//! them. They are macros for the reason that `rows.rs` gives.

/// Statements on one connection. `$begin` starts a transaction that writes.
macro_rules! statements {
    ($connection:ty, $begin:literal) => {
        use rookery_core::store::SavedSession;
        use rookery_xmpp::jid::BareJid;
        use sqlx::{Connection, query, query_as, query_scalar};

        use crate::codec;
        use crate::health::Outcome;

        pub(crate) async fn save(on: &mut $connection, sessions: &[SavedSession]) -> Outcome<()> {
            let mut tx = on.begin_with($begin).await?;
            for session in sessions {
                query(
                    "INSERT INTO sessions (account, resource, expires, state) \
                     SELECT number, $2, $3, $4 FROM accounts WHERE jid = $1 \
                     ON CONFLICT (account, resource) DO UPDATE \
                     SET expires = excluded.expires, state = excluded.state",
                )
                .bind(session.jid.bare_str())
                .bind(session.jid.resource())
                .bind(codec::to_stamp(session.expires))
                .bind(session.state.as_slice())
                .execute(&mut *tx)
                .await?;
            }
            tx.commit().await?;
            Ok(())
        }

        pub(crate) async fn take(on: &mut $connection, users: &[BareJid]) -> Outcome<Vec<SavedSession>> {
            let mut tx = on.begin_with($begin).await?;
            let mut sessions = Vec::new();
            for user in users {
                let rows: Vec<(String, i64, Vec<u8>)> = query_as(
                    "DELETE FROM sessions WHERE account = (SELECT number FROM accounts WHERE jid = $1) \
                     RETURNING resource, expires, state",
                )
                .bind(user.as_str())
                .fetch_all(&mut *tx)
                .await?;
                for (resource, expires, state) in rows {
                    // What no release after the one that wrote it can read must not keep the user out.
                    match (user.with_resource(&resource), codec::from_stamp(expires)) {
                        (Ok(jid), Ok(expires)) => sessions.push(SavedSession { jid, expires, state }),
                        _ => tracing::error!(account = %user, "a saved session cannot be read and is gone"),
                    }
                }
            }
            tx.commit().await?;
            Ok(sessions)
        }

        pub(crate) async fn accounts(on: &mut $connection) -> Outcome<Vec<BareJid>> {
            let found: Vec<String> =
                query_scalar("SELECT jid FROM accounts WHERE number IN (SELECT account FROM sessions)")
                    .fetch_all(on)
                    .await?;
            // An address that is none any more cannot log in either.
            Ok(found.iter().filter_map(|jid| codec::jid(jid).ok()).collect())
        }
    };
}

/// The trait of core for a backend with a module `sessions`, as `rows::store!` has the others.
macro_rules! store {
    ($store:ty) => {
        #[async_trait]
        impl rookery_core::store::SessionStore for $store {
            async fn save_sessions(&self, saved: &[rookery_core::store::SavedSession]) -> StoreResult<()> {
                call!(self.write, on => sessions::save(on, saved))
            }

            async fn take_sessions(
                &self,
                users: &[BareJid],
            ) -> StoreResult<Vec<rookery_core::store::SavedSession>> {
                call!(self.write, on => sessions::take(on, users))
            }

            async fn saved_accounts(&self) -> StoreResult<Vec<BareJid>> {
                call!(self.read, on => sessions::accounts(on))
            }
        }
    };
}

pub(crate) use {statements, store};
