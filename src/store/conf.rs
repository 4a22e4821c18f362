//! What the conf says of the database.

use std::fmt;
use std::path::PathBuf;

/// Which database, and how safe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConf {
    /// Where the data lives.
    pub backend: Backend,
    /// Whether a power cut may cost the newest commits.
    pub durability: Durability,
}

/// Where the data lives.
#[derive(Clone, PartialEq, Eq)]
pub enum Backend {
    /// One file on this machine.
    Sqlite {
        /// The file; its directory is made (0700) when missing, the file too (0600).
        path: PathBuf,
    },
    /// A PostgreSQL server.
    Postgres {
        /// `postgres://user:password@host/database`; `?host=/directory` for a Unix socket, `?sslmode=...` for TLS.
        url: String,
        /// The most connections held open.
        connections: u32,
    },
    /// Nothing is kept; for tests.
    Memory,
}

/// Whether a power cut may cost the newest commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// A commit is on disk before it is acknowledged.
    #[default]
    Full,
    /// The newest commits may be lost with the power (not with the process). The log says so at start.
    Relaxed,
}

impl fmt::Debug for Backend {
    /// Without the URL: it holds a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite { path } => f.debug_struct("Sqlite").field("path", path).finish(),
            Self::Postgres { connections, .. } => {
                f.debug_struct("Postgres").field("connections", connections).finish_non_exhaustive()
            }
            Self::Memory => f.write_str("Memory"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a21_the_password_is_not_printed() {
        let backend = Backend::Postgres { url: "postgres://rookery:canary@localhost/rookery".into(), connections: 4 };
        assert!(!format!("{backend:?}").contains("canary"));
    }
}
