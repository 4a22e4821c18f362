//! What a power cut leaves of a folder: what was synced, and of the rest nothing, or any part.
//!
//! From the server's system calls it is known for each file what was written and what of it a sync has covered that had
//! returned. After the kill the folder is written anew: each file as of its last sync; or with half of the later writes, at
//! random and each for itself, as a disk has them that orders its writes as it likes. Files that are new and were never
//! synced are gone. Creating, renaming and removing files otherwise counts as durable at once.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

use rookery_rigs::rng::Rng;

use super::{Call, Step};

/// The calls to be traced.
pub const CALLS: &str = "pwrite64,pwritev,write,writev,ftruncate,fsync,fdatasync";

/// What survives of writes that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// None of them.
    Nothing,
    /// Half of them.
    Some,
}

/// A folder's files, as the disk has them.
#[derive(Debug, Default)]
pub struct Files {
    root: PathBuf,
    files: HashMap<PathBuf, Content>,
}

#[derive(Debug, Default)]
struct Content {
    /// As of the last sync; none: it would not be there.
    durable: Option<Vec<u8>>,
    /// What came later.
    pending: VecDeque<Write>,
    /// How many of these each sync covers that is under way.
    syncing: VecDeque<usize>,
}

#[derive(Debug)]
enum Write {
    At(u64, Vec<u8>),
    Append(Vec<u8>),
    Truncate(u64),
}

impl Files {
    /// A folder as it is: all of it counts as durable.
    pub fn snapshot(root: &Path) -> std::io::Result<Self> {
        let mut files = HashMap::new();
        for path in walk(root)? {
            let durable = Some(fs::read(&path)?);
            files.insert(path, Content { durable, ..Content::default() });
        }
        Ok(Self { root: root.to_owned(), files })
    }

    /// Takes note of a step.
    pub fn step(&mut self, step: Step) {
        let (Step::Begin(call) | Step::End(call, _)) = &step;
        if !Path::new(&call.on).starts_with(&self.root) {
            return;
        }
        let file = self.files.entry(PathBuf::from(&call.on)).or_default();
        let is_sync = matches!(call.name.as_str(), "fsync" | "fdatasync");
        match step {
            Step::Begin(_) if is_sync => file.syncing.push_back(file.pending.len()),
            Step::End(_, result) if is_sync => file.synced(result == 0),
            Step::End(call, result @ 0..) => file.pending.extend(write(call, result)),
            _ => {}
        }
    }

    /// The power is cut: the folder becomes what the disk has. How many writes were lost.
    pub fn cut(&self, rest: Rest, rng: &mut Rng) -> std::io::Result<usize> {
        let mut lost = 0;
        for path in walk(&self.root)? {
            if !self.files.contains_key(&path) {
                fs::remove_file(path)?;
            }
        }
        for (path, file) in &self.files {
            let volatile = path.to_string_lossy().ends_with("-shm");
            let mut bytes = file.durable.clone();
            for write in &file.pending {
                if rest == Rest::Some && rng.one_in(2) {
                    write.apply(bytes.get_or_insert_default());
                } else {
                    lost += 1;
                }
            }
            match bytes {
                Some(bytes) if !volatile => fs::write(path, bytes)?,
                _ if path.exists() => fs::remove_file(path)?,
                _ => {}
            }
        }
        Ok(lost)
    }
}

fn write(call: Call, result: i64) -> Option<Write> {
    let mut data = call.data;
    match call.name.as_str() {
        "ftruncate" => return Some(Write::Truncate(call.last)),
        "fsync" | "fdatasync" => return None,
        _ => data.truncate(result as usize),
    }
    Some(match call.name.as_str() {
        "pwrite64" | "pwritev" => Write::At(call.last, data),
        _ => Write::Append(data),
    })
}

impl Content {
    /// A sync has returned. If two are under way, the one that covers less.
    fn synced(&mut self, well: bool) {
        let covered = self.syncing.pop_front().unwrap_or(0);
        if well {
            let durable = self.durable.get_or_insert_default();
            self.pending.drain(..covered).for_each(|write| write.apply(durable));
            self.syncing.iter_mut().for_each(|count| *count = count.saturating_sub(covered));
        }
    }
}

impl Write {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::At(offset, data) => {
                let begin = *offset as usize;
                let end = begin + data.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[begin..end].copy_from_slice(data);
            }
            Self::Append(data) => bytes.extend_from_slice(data),
            Self::Truncate(length) => bytes.resize(*length as usize, 0),
        }
    }
}

/// The files below a folder; no sockets.
fn walk(root: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            match entry.file_type()? {
                kind if kind.is_dir() => folders.push(entry.path()),
                kind if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, path: &Path, data: &[u8], last: u64) -> Call {
        Call { name: name.into(), on: path.display().to_string(), data: data.to_vec(), last }
    }

    #[test]
    fn what_was_synced_survives_and_nothing_else() {
        let root = std::env::temp_dir().join(format!("loss-power-{}", std::process::id()));
        fs::create_dir_all(root.join("sub")).unwrap();
        let (old, new, other) = (root.join("old"), root.join("sub/new"), root.join("other"));
        fs::write(&old, b"0123456789").unwrap();
        fs::write(root.join("x-shm"), b"shared").unwrap();
        let mut files = Files::snapshot(&root).unwrap();
        let mut end = |name: &str, path: &Path, data: &[u8], last, result| {
            files.step(Step::Begin(call(name, path, data, last)));
            files.step(Step::End(call(name, path, data, last), result));
        };
        end("pwrite64", &old, b"ab", 2, 2);
        end("fdatasync", &old, b"", 0, 0);
        end("pwrite64", &old, b"XX", 0, 2);
        end("fsync", &old, b"", 0, -1);
        end("write", &new, b"never synced", 0, 12);
        end("write", &other, b"synced", 0, 6);
        end("fsync", &other, b"", 0, 0);
        end("write", Path::new("/elsewhere"), b"", 0, 0);
        // Written while a sync is under way: not covered.
        files.step(Step::Begin(call("fsync", &other, b"", 0)));
        files.step(Step::End(call("write", &other, b" and more", 0), 9));
        files.step(Step::End(call("fsync", &other, b"", 0), 0));
        for path in [&old, &new, &other] {
            fs::write(path, b"as the page cache has it").unwrap();
        }
        assert_eq!(files.cut(Rest::Nothing, &mut Rng::new(1)).unwrap(), 3);
        assert_eq!(fs::read(&old).unwrap(), b"01ab456789");
        assert_eq!(fs::read(&other).unwrap(), b"synced");
        assert!(!new.exists() && !root.join("x-shm").exists());
        fs::remove_dir_all(root).unwrap();
    }
}
