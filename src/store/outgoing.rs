//! What waits for other servers: reading it, for both databases, and the store trait on top. It is written with all else that
//! is committed (`commit.rs` of either). They are macros for the reason that `rows.rs` gives.

/// Statements on one connection.
macro_rules! statements {
    ($connection:ty) => {
        use rookery_core::store::OutgoingEntry;
        use sqlx::query_as;

        use crate::codec;
        use crate::health::Outcome;

        pub(crate) async fn page(on: &mut $connection, after: u64, limit: usize) -> Outcome<Vec<OutgoingEntry>> {
            let (mut after, mut entries) = (codec::to_bound(after), Vec::new());
            loop {
                let rows: Vec<(i64, String, String, i64, Vec<u8>)> = query_as(
                    "SELECT id, local, remote, stamp, stanza FROM outgoing WHERE id > $1 ORDER BY id LIMIT $2",
                )
                .bind(after)
                .bind(i64::try_from(limit).unwrap_or(i64::MAX))
                .fetch_all(&mut *on)
                .await?;
                let Some((last, ..)) = rows.last() else { return Ok(entries) };
                after = *last;
                for (id, local, remote, stamp, stanza) in rows {
                    // What no release after the one that wrote it can read must not keep the server from starting.
                    match (codec::from_column(id), codec::jid(&local), codec::jid(&remote), codec::from_stamp(stamp)) {
                        (Ok(id), Ok(local), Ok(remote), Ok(stamp)) => {
                            entries.push(OutgoingEntry { id, local, remote, stamp, stanza: stanza.into() });
                        }
                        _ => tracing::error!(id, "a stanza for another server cannot be read; it is left where it is"),
                    }
                }
                if !entries.is_empty() {
                    return Ok(entries);
                }
            }
        }
    };
}

/// The trait of core for a backend with a module `outgoing`, as `rows::store!` has the others.
macro_rules! store {
    ($store:ty) => {
        #[async_trait]
        impl rookery_core::store::OutgoingStore for $store {
            async fn outgoing(
                &self,
                after: u64,
                limit: usize,
            ) -> StoreResult<Vec<rookery_core::store::OutgoingEntry>> {
                call!(self.read, on => outgoing::page(on, after, limit))
            }
        }
    };
}

pub(crate) use {statements, store};
