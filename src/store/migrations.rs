//! The schemas, built into the binary, and which of them a database has (see schemas/README.md).

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// The migrations of SQLite.
pub(crate) fn sqlite() -> Migrator {
    Migrator::with_migrations(vec![
        step(1, "start", include_str!("../../schemas/sqlite/0001_start.sql")),
        step(2, "archive", include_str!("../../schemas/sqlite/0002_archive.sql")),
        step(3, "sessions", include_str!("../../schemas/sqlite/0003_sessions.sql")),
        step(4, "rooms", include_str!("../../schemas/sqlite/0004_rooms.sql")),
        step(5, "outgoing", include_str!("../../schemas/sqlite/0005_outgoing.sql")),
        step(6, "searched", include_str!("../../schemas/sqlite/0006_searched.sql")),
        step(7, "digests", include_str!("../../schemas/sqlite/0007_digests.sql")),
    ])
}

/// The migrations of PostgreSQL.
pub(crate) fn postgres() -> Migrator {
    Migrator::with_migrations(vec![
        step(1, "start", include_str!("../../schemas/postgres/0001_start.sql")),
        step(2, "archive", include_str!("../../schemas/postgres/0002_archive.sql")),
        step(3, "sessions", include_str!("../../schemas/postgres/0003_sessions.sql")),
        step(4, "rooms", include_str!("../../schemas/postgres/0004_rooms.sql")),
        step(5, "outgoing", include_str!("../../schemas/postgres/0005_outgoing.sql")),
        step(6, "searched", include_str!("../../schemas/postgres/0006_searched.sql")),
        step(7, "epochs", include_str!("../../schemas/postgres/0007_epochs.sql")),
        step(8, "digests", include_str!("../../schemas/postgres/0008_digests.sql")),
    ])
}

/// An admin who waits for a start should know what for.
pub(crate) fn say_so(name: &dyn std::fmt::Display, taken: i64, known: i64) {
    tracing::info!(
        database = %name,
        "the database is brought up to date, from step {taken} to {known}; that takes minutes where there are millions of messages"
    );
}

fn step(version: i64, name: &'static str, sql: &'static str) -> Migration {
    Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
}
