//! Which messages are on disk, told from the server's system calls: SQLite's write-ahead log, or the answers of PostgreSQL.

use std::collections::HashMap;

use super::{Call, Step};
use crate::ledger::Key;

/// Finds the messages in bytes that were written: how often each one's text is there.
pub trait Texts {
    /// The messages of this run in these bytes.
    fn texts(&self, bytes: &[u8]) -> Vec<Key>;
}

/// How many copies of each message are on disk, or were.
#[derive(Debug, Default)]
pub struct Durable {
    sqlite: Wal,
    postgres: HashMap<String, Exchange>,
    copies: HashMap<Key, usize>,
    /// How many commits reached the disk.
    pub commits: usize,
}

impl Durable {
    /// At least this many copies of the message have reached the disk so far.
    pub fn copies(&self, key: Key) -> usize {
        self.copies.get(&key).copied().unwrap_or(0)
    }

    /// Takes note of a step.
    pub fn step(&mut self, step: &Step, texts: &impl Texts) {
        match step {
            Step::End(call, result) if call.on.ends_with("-wal") => {
                let done = match call.name.as_str() {
                    "pwrite64" if *result == call.data.len() as i64 => return self.sqlite.write(call, texts),
                    "fdatasync" | "fsync" if *result == 0 => self.sqlite.sync(),
                    _ => return,
                };
                for (key, copies) in done.copies {
                    let most = self.copies.entry(key).or_default();
                    *most = copies.max(*most);
                }
                self.commits += done.commits;
            }
            Step::Begin(call) if call.on.starts_with("UNIX") && !call.data.is_empty() => {
                let exchange = self.postgres.entry(call.on.clone()).or_default();
                exchange.sent.extend(texts.texts(&call.data));
            }
            Step::End(call, 1..)
                if call.on.starts_with("UNIX") && matches!(call.name.as_str(), "recvfrom" | "read") =>
            {
                let Some(exchange) = self.postgres.get_mut(&call.on) else { return };
                for key in exchange.answer(&call.data) {
                    *self.copies.entry(key).or_default() += 1;
                }
                self.commits = self.postgres.values().map(|exchange| exchange.commits).sum();
            }
            _ => {}
        }
    }
}

/// A write-ahead log (<https://sqlite.org/fileformat2.html#walformat>): frames of a header and a page; the last frame of a
/// transaction says so. A transaction counts when it was there as a whole before a sync that succeeded.
#[derive(Debug, Default)]
struct Wal {
    /// The header of the frame whose page comes next: the page's number, and whether it ends a transaction.
    header: Option<(u32, bool)>,
    /// Pages of the transaction that is being written.
    open: Vec<(u32, Vec<Key>)>,
    /// Transactions that were written, and not synced yet.
    written: Vec<Vec<(u32, Vec<Key>)>>,
    /// What the pages hold that are on disk.
    pages: HashMap<u32, Vec<Key>>,
    counts: HashMap<Key, usize>,
}

struct Synced {
    copies: Vec<(Key, usize)>,
    commits: usize,
}

impl Wal {
    fn write(&mut self, call: &Call, texts: &impl Texts) {
        let word = |at: usize| {
            let bytes = call.data.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u32::from_be_bytes)
        };
        match call.data.len() {
            24 => self.header = Some((word(0), word(4) != 0)),
            // The log's own header: it begins anew.
            32 if call.last == 0 => self.header = None,
            _ => {
                let Some((page, ends)) = self.header.take() else { return };
                self.open.push((page, texts.texts(&call.data)));
                if ends {
                    self.written.push(std::mem::take(&mut self.open));
                }
            }
        }
    }

    fn sync(&mut self) -> Synced {
        let commits = self.written.len();
        let mut touched = Vec::new();
        for (page, keys) in self.written.drain(..).flatten() {
            for key in self.pages.insert(page, keys.clone()).unwrap_or_default() {
                self.counts.entry(key).and_modify(|count| *count -= 1);
            }
            for key in keys {
                *self.counts.entry(key).or_default() += 1;
                touched.push(key);
            }
        }
        Synced { copies: touched.into_iter().map(|key| (key, self.counts[&key])).collect(), commits }
    }
}

/// A connection to PostgreSQL. What was sent counts when the server says that it waits for the next transaction
/// (ReadyForQuery, `Z`, status `I`), unless an error came before.
#[derive(Debug, Default)]
struct Exchange {
    sent: Vec<Key>,
    /// The end of the answer so far, as a message may come in two pieces.
    tail: Vec<u8>,
    commits: usize,
}

impl Exchange {
    fn answer(&mut self, data: &[u8]) -> Vec<Key> {
        self.tail.extend_from_slice(data);
        let ready = memchr::memmem::rfind(&self.tail, b"Z\0\0\0\x05I").is_some();
        let failed = memchr::memmem::find(&self.tail, b"SERROR\0").is_some();
        if ready {
            self.tail.clear();
            let sent = std::mem::take(&mut self.sent);
            self.commits += usize::from(!sent.is_empty() && !failed);
            return if failed { Vec::new() } else { sent };
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each lower case letter is a message.
    struct Letters;

    impl Texts for Letters {
        fn texts(&self, bytes: &[u8]) -> Vec<Key> {
            let letters = bytes.iter().filter(|byte| byte.is_ascii_lowercase());
            letters.map(|byte| key(*byte)).collect()
        }
    }

    fn key(letter: u8) -> Key {
        Key { conversation: 0, seq: letter.into() }
    }

    fn call(name: &str, data: &[u8]) -> Step {
        let on = "/d/rookery.sqlite-wal".into();
        Step::End(Call { name: name.into(), on, data: data.to_vec(), last: 32 }, data.len() as i64)
    }

    fn frame(page: u8, ends: bool, text: &[u8]) -> [Step; 2] {
        let mut header = [0; 24];
        header[3] = page;
        header[7] = u8::from(ends);
        [call("pwrite64", &header), call("pwrite64", text)]
    }

    fn copies(durable: &Durable, letters: &[u8]) -> Vec<usize> {
        letters.iter().map(|letter| durable.copies(key(*letter))).collect()
    }

    #[test]
    fn a_transaction_counts_when_it_was_whole_before_the_sync() {
        let mut durable = Durable::default();
        let tell = |durable: &mut Durable, steps: &[Step]| steps.iter().for_each(|step| durable.step(step, &Letters));
        tell(&mut durable, &frame(1, false, b"ab"));
        tell(&mut durable, &[call("fdatasync", b"")]);
        assert_eq!(copies(&durable, b"ab"), [0, 0], "the transaction has not ended");
        tell(&mut durable, &frame(2, true, b"b"));
        assert_eq!(copies(&durable, b"ab"), [0, 0], "it is not synced");
        tell(&mut durable, &[call("fdatasync", b"")]);
        assert_eq!(copies(&durable, b"ab"), [1, 2]);
        // The page is written anew with one more: no second copy of the first.
        tell(&mut durable, &frame(1, true, b"abc"));
        tell(&mut durable, &[call("fdatasync", b"")]);
        assert_eq!(copies(&durable, b"abc"), [1, 2, 1]);
        assert_eq!(durable.commits, 2);
    }

    #[test]
    fn a_sync_that_fails_counts_for_nothing() {
        let mut durable = Durable::default();
        frame(1, true, b"a").iter().for_each(|step| durable.step(step, &Letters));
        let Step::End(sync, _) = call("fdatasync", b"") else { unreachable!() };
        durable.step(&Step::End(sync, -1), &Letters);
        assert_eq!(copies(&durable, b"a"), [0]);
    }

    #[test]
    fn postgres_says_when_a_transaction_is_over() {
        let mut durable = Durable::default();
        let on = || "UNIX-STREAM:[1->2]".to_owned();
        let send = |data: &[u8]| Step::Begin(Call { name: "sendto".into(), on: on(), data: data.to_vec(), last: 0 });
        let receive = |data: &[u8]| {
            Step::End(Call { name: "recvfrom".into(), on: on(), data: data.to_vec(), last: 0 }, data.len() as i64)
        };
        durable.step(&send(b"BaaB"), &Letters);
        durable.step(&receive(b"2\0\0\0\x04Z\0\0\0\x05T"), &Letters);
        assert_eq!(copies(&durable, b"a"), [0], "within a transaction");
        durable.step(&receive(b"Z\0\0\0"), &Letters);
        durable.step(&receive(b"\x05I"), &Letters);
        assert_eq!(copies(&durable, b"a"), [2]);
        durable.step(&send(b"b"), &Letters);
        durable.step(&receive(b"E\0\0\0\x20SERROR\0"), &Letters);
        durable.step(&receive(b"Z\0\0\0\x05I"), &Letters);
        assert_eq!(copies(&durable, b"b"), [0]);
    }
}
