//! A PostgreSQL server of one's own for the length of a run: a new cluster in a temporary folder, reached by a Unix socket.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running cluster; stopped and removed when dropped.
#[derive(Debug)]
pub struct Cluster {
    dir: PathBuf,
    server: Child,
}

impl Cluster {
    /// Makes and starts one in `dir`, which must not be there yet.
    pub fn start(dir: &Path) -> std::io::Result<Self> {
        let bin = binaries()?;
        std::fs::create_dir_all(dir)?;
        let root = std::fs::metadata("/proc/self").map(|meta| std::os::unix::fs::MetadataExt::uid(&meta))? == 0;
        if root {
            run(Command::new("chown").arg("postgres:").arg(dir))?;
        }
        // PostgreSQL refuses to run as root.
        let command = |name: &str| {
            let program = bin.join(name);
            if !root {
                return Command::new(program);
            }
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
            command
        };
        let data = dir.join("data");
        run(command("initdb").arg("-D").arg(&data).args(["-A", "trust", "-U", "rookery", "-E", "UTF8", "--locale=C"]))?;
        let mut server = command("postgres");
        server.arg("-D").arg(&data).arg("-k").arg(dir).args(["-c", "listen_addresses=", "-c", "max_connections=40"]);
        server.current_dir(dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let cluster = Self { dir: dir.to_owned(), server: server.spawn()? };
        let deadline = Instant::now() + Duration::from_secs(30);
        let ready = || {
            Command::new(bin.join("psql"))
                .args(["-q", "-U", "rookery", "-c", "CREATE DATABASE rookery", "postgres", "-h"])
                .arg(dir)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
        };
        while !ready()?.success() {
            if Instant::now() > deadline {
                return Err(std::io::Error::other("PostgreSQL does not start"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(cluster)
    }

    /// Its address, as the conf wants it.
    pub fn url(&self) -> String {
        format!("postgres://rookery@localhost/rookery?host={}", self.dir.display())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // SIGQUIT: immediate shutdown, its children included.
        let _ = Command::new("kill").args(["-QUIT", &self.server.id().to_string()]).status();
        let _ = self.server.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn binaries() -> std::io::Result<PathBuf> {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|dir| {
            dir.flatten().map(|entry| entry.path().join("bin")).filter(|bin| bin.join("initdb").exists()).collect()
        })
        .unwrap_or_default();
    versions.sort();
    versions.pop().ok_or_else(|| std::io::Error::other("PostgreSQL is not installed (Debian: postgresql)"))
}

fn run(command: &mut Command) -> std::io::Result<()> {
    let output = command.stdin(Stdio::null()).current_dir("/").output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(std::io::Error::other(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))))
}
