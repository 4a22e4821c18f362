//! Reading rooms, and taking their messages back: the statements, most of which both databases understand, and the store
//! trait on top of them. They are macros for the reason that `rows.rs` gives. Changes of rooms come with the commit
//! (`batch.rs`).

/// Rooms of a service (1) above an address (2), so many (3).
pub(crate) const LIST: &str = "SELECT r.jid, r.created, p.value FROM rooms AS r \
    LEFT JOIN room_parts AS p ON p.room = r.number AND p.kind = 'value' AND p.key = 'config' \
    WHERE r.service = $1 AND r.jid > $2 ORDER BY r.jid LIMIT $3";

/// Rooms of a service (1) with visits.
pub(crate) const VISITED: &str = "SELECT r.jid FROM rooms AS r WHERE r.service = $1 \
    AND EXISTS (SELECT 1 FROM room_parts AS p WHERE p.room = r.number AND p.kind = 'visit') ORDER BY r.jid";

/// What a room (1) is made of.
pub(crate) const PARTS: &str = "SELECT kind, key, value FROM room_parts WHERE room = $1 ORDER BY kind, key";

/// The newest of a room (1) that are history beside the archive, so many (2).
pub(crate) const BESIDE: &str = "SELECT m.id, m.stamp, m.stanza FROM tail AS t CROSS JOIN messages AS m \
    WHERE t.account = $1 AND m.account = t.account AND m.id = t.id ORDER BY t.id DESC LIMIT $2";

/// The oldest of a room (1) that are history beside the archive, up to an id (2), so many (3).
pub(crate) const OLDEST_BESIDE: &str = "SELECT id FROM tail WHERE account = $1 AND id <= $2 ORDER BY id LIMIT $3";

/// All statements that read and that both databases understand, by name.
#[cfg(test)]
pub(crate) const ALL: [(&str, &str); 5] =
    [("LIST", LIST), ("VISITED", VISITED), ("PARTS", PARTS), ("BESIDE", BESIDE), ("OLDEST_BESIDE", OLDEST_BESIDE)];

/// Statements on one connection. `$begin` starts a transaction that writes, `$snapshot` one that reads several tables as
/// of one moment; the module beside it named `texts` holds those that differ.
macro_rules! statements {
    ($connection:ty, $begin:literal, $snapshot:literal) => {
        use rookery_core::store::{ArchivedMessage, SEARCHED_HISTORY, StoredRoom, StoredRoomHead};
        use rookery_xmpp::jid::{BareJid, FullJid};
        use sqlx::{Connection, query, query_as, query_scalar};

        use super::texts;
        use super::words::hold;
        use crate::codec;
        use crate::health::Outcome;

        type MessageRow = (i64, i64, Vec<u8>);

        async fn number(on: &mut $connection, room: &BareJid) -> Outcome<Option<i64>> {
            Ok(query_scalar("SELECT number FROM rooms WHERE jid = $1").bind(room.as_str()).fetch_optional(on).await?)
        }

        fn message((id, stamp, stanza): MessageRow) -> Outcome<ArchivedMessage> {
            Ok(ArchivedMessage {
                id: codec::from_column(id)?,
                stamp: codec::from_stamp(stamp)?,
                stanza: stanza.into(),
                waits: None,
            })
        }

        pub(crate) async fn list(
            on: &mut $connection,
            service: &BareJid,
            after: Option<&BareJid>,
            limit: usize,
        ) -> Outcome<Vec<StoredRoomHead>> {
            let rows: Vec<(String, i64, Option<Vec<u8>>)> = query_as(crate::rooms::LIST)
                .bind(service.as_str())
                .bind(after.map_or("", |after| after.as_str()))
                .bind(i64::try_from(limit).unwrap_or(i64::MAX))
                .fetch_all(on)
                .await?;
            let head = |(jid, created, config): (String, i64, Option<Vec<u8>>)| {
                Ok(StoredRoomHead {
                    jid: codec::jid(&jid)?,
                    created: codec::from_stamp(created)?,
                    config: config.unwrap_or_default().into(),
                })
            };
            rows.into_iter().map(head).collect()
        }

        pub(crate) async fn room(on: &mut $connection, jid: &BareJid) -> Outcome<Option<StoredRoom>> {
            let mut tx = on.begin_with($snapshot).await?;
            let found: Option<(i64, i64)> = query_as("SELECT number, created FROM rooms WHERE jid = $1")
                .bind(jid.as_str())
                .fetch_optional(&mut *tx)
                .await?;
            let Some((number, created)) = found else {
                tx.rollback().await?;
                return Ok(None);
            };
            let rows: Vec<(String, String, Vec<u8>)> =
                query_as(crate::rooms::PARTS).bind(number).fetch_all(&mut *tx).await?;
            tx.commit().await?;
            let created = codec::from_stamp(created)?;
            let mut room = StoredRoom { created, values: Vec::new(), people: Vec::new(), visits: Vec::new() };
            for (kind, key, value) in rows {
                match &*kind {
                    "person" => room.people.push((codec::jid(&key)?, value.into())),
                    // Whoever has an address that is none any more cannot be there.
                    "visit" => room.visits.extend(FullJid::new(&key).ok().map(|jid| (jid, value.into()))),
                    _ => room.values.push((key, value.into())),
                }
            }
            Ok(Some(room))
        }

        pub(crate) async fn visited(on: &mut $connection, service: &BareJid) -> Outcome<Vec<BareJid>> {
            let rows: Vec<String> = query_scalar(crate::rooms::VISITED).bind(service.as_str()).fetch_all(on).await?;
            rows.iter().map(|jid| Ok(codec::jid(jid)?)).collect()
        }

        pub(crate) async fn history(
            on: &mut $connection,
            room: &BareJid,
            limit: usize,
        ) -> Outcome<Vec<ArchivedMessage>> {
            let mut tx = on.begin_with($snapshot).await?;
            let mut rows: Vec<MessageRow> = Vec::new();
            if let Some(number) = number(&mut tx, room).await? {
                let limit = i64::try_from(limit).unwrap_or(i64::MAX);
                rows = query_as(texts::HISTORY)
                    .bind(number)
                    .bind(limit)
                    .bind(i64::try_from(SEARCHED_HISTORY).unwrap_or(i64::MAX))
                    .fetch_all(&mut *tx)
                    .await?;
                let beside: Vec<MessageRow> =
                    query_as(crate::rooms::BESIDE).bind(number).bind(limit).fetch_all(&mut *tx).await?;
                rows.extend(beside);
            }
            tx.commit().await?;
            rows.sort_unstable_by_key(|row| row.0);
            let too_old = rows.len().saturating_sub(limit);
            rows.into_iter().skip(too_old).map(message).collect()
        }

        pub(crate) async fn one(on: &mut $connection, room: &BareJid, id: u64) -> Outcome<Option<ArchivedMessage>> {
            let row: Option<MessageRow> = query_as(
                "SELECT id, stamp, stanza FROM messages \
                 WHERE account = (SELECT number FROM rooms WHERE jid = $1) AND id = $2",
            )
            .bind(room.as_str())
            .bind(codec::to_bound(id))
            .fetch_optional(on)
            .await?;
            row.map(message).transpose()
        }

        pub(crate) async fn retract(on: &mut $connection, room: &BareJid, id: u64, tombstone: &[u8]) -> Outcome<bool> {
            let mut tx = on.begin_with($begin).await?;
            let number: Option<i64> = query_scalar("SELECT number FROM rooms WHERE jid = $1")
                .bind(room.as_str())
                .fetch_optional(&mut *tx)
                .await?;
            let Some(number) = number else { return Ok(false) };
            // Before the row, as whoever lets old messages go does.
            hold(&mut tx, number).await?;
            let changed = query("UPDATE messages SET stanza = $3 WHERE account = $1 AND id = $2")
                .bind(number)
                .bind(codec::to_bound(id))
                .bind(tombstone)
                .execute(&mut *tx)
                .await?;
            let is_there = changed.rows_affected() > 0;
            if is_there {
                query(texts::UNWORD).bind(number).bind(codec::to_bound(id)).execute(&mut *tx).await?;
            }
            tx.commit().await?;
            Ok(is_there)
        }
    };
}

/// The trait of core for a backend with a module `rooms`, as `rows::store!` has the others.
macro_rules! store {
    ($store:ty) => {
        #[async_trait]
        impl rookery_core::store::RoomStore for $store {
            async fn rooms(
                &self,
                service: &BareJid,
                after: Option<&BareJid>,
                limit: usize,
            ) -> StoreResult<Vec<rookery_core::store::StoredRoomHead>> {
                call!(self.read, on => rooms::list(on, service, after, limit))
            }

            async fn room(&self, room: &BareJid) -> StoreResult<Option<rookery_core::store::StoredRoom>> {
                call!(self.read, on => rooms::room(on, room))
            }

            async fn room_history(
                &self,
                room: &BareJid,
                limit: usize,
            ) -> StoreResult<Vec<rookery_core::store::ArchivedMessage>> {
                call!(self.read, on => rooms::history(on, room, limit))
            }

            async fn room_message(
                &self,
                room: &BareJid,
                id: u64,
            ) -> StoreResult<Option<rookery_core::store::ArchivedMessage>> {
                call!(self.read, on => rooms::one(on, room, id))
            }

            async fn retract(&self, room: &BareJid, id: u64, tombstone: bytes::Bytes) -> StoreResult<bool> {
                call!(self.write, on => rooms::retract(on, room, id, &tombstone))
            }

            async fn visited_rooms(&self, service: &BareJid) -> StoreResult<Vec<BareJid>> {
                call!(self.read, on => rooms::visited(on, service))
            }
        }
    };
}

pub(crate) use {statements, store};
