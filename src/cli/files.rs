//! The limit of open files: each connection is one, so it bounds how many clients there can be.

use rlimit::Resource;

/// Below this the log warns. systemd's own default for services is far higher.
const ENOUGH: u64 = 20_000;

/// Raises the soft limit to the hard one, which needs no privilege, and says what it is.
pub(super) fn raise_limit() {
    let raised = Resource::NOFILE.get().and_then(|(soft, hard)| {
        Resource::NOFILE.set(hard, hard)?;
        Ok((soft, hard))
    });
    match raised {
        Ok((_, limit)) if limit < ENOUGH => tracing::warn!(
            limit,
            "few files may be open at once, and each connection is one: raise LimitNOFILE in the systemd unit, or the hard limit (ulimit -Hn)"
        ),
        Ok((before, limit)) => tracing::info!(limit, before, "files that may be open at once, connections among them"),
        Err(error) => tracing::warn!(%error, "the limit of open files cannot be raised"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let (_, hard) = Resource::NOFILE.get().unwrap();
        raise_limit();
        assert_eq!(Resource::NOFILE.get().unwrap(), (hard, hard));
    }
}
