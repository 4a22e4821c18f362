//! What the kernel knows of a process: memory and CPU time, from `/proc`.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

/// Memory of a process in bytes: its own pages, and its part of those it shares.
pub fn pss(pid: u32) -> u64 {
    field(&format!("/proc/{pid}/smaps_rollup"), "Pss:") << 10
}

/// Resident memory of a process in bytes, cheaper to ask for than [`pss`].
pub fn rss(pid: u32) -> u64 {
    field(&format!("/proc/{pid}/status"), "VmRSS:") << 10
}

/// Open file descriptors of a process.
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// A reading of a process's CPU time.
#[derive(Debug, Default)]
pub struct Cpu {
    threads: HashMap<u64, u64>,
    ticks: u64,
}

impl Cpu {
    /// Reads it now.
    pub fn read(pid: u32) -> Self {
        let mut threads = HashMap::new();
        for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let schedstat = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
            if let (Ok(id), Some(nanos)) = (thread.file_name().to_string_lossy().parse(), first_number(&schedstat)) {
                threads.insert(id, nanos);
            }
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let tick = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        Self { threads, ticks: tick(11) + tick(12) }
    }

    /// CPU time spent since an earlier reading: by thread to the nanosecond, and by the process's clock of 10 ms, which knows
    /// threads that ended too; the larger.
    pub fn since(&self, before: &Self) -> Duration {
        let exact: u64 = self
            .threads
            .iter()
            .map(|(id, nanos)| nanos.saturating_sub(before.threads.get(id).copied().unwrap_or(0)))
            .sum();
        let coarse = Duration::from_millis((self.ticks - before.ticks).saturating_sub(2) * 10);
        Duration::from_nanos(exact).max(coarse)
    }
}

/// One line on this machine.
pub fn machine() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1)).unwrap_or("?");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = field("/proc/meminfo", "MemTotal:") >> 20;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores of {model}, {memory} GiB, Linux {}", kernel.trim())
}

fn field(path: &str, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix(name)).and_then(first_number).unwrap_or(0)
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}
