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
        if is_root()? {
            run(Command::new("chown").arg("postgres:").arg(dir))?;
        }
        let data = dir.join("data");
        let mut initdb = command(&bin, "initdb")?;
        run(initdb.arg("-D").arg(&data).args(["-A", "trust", "-U", "rookery", "-E", "UTF8", "--locale=C"]))?;
        let cluster = Self { dir: dir.to_owned(), server: spawn(&bin, dir)? };
        cluster.wait_for("postgres", "CREATE DATABASE rookery")?;
        Ok(cluster)
    }

    /// Its address, as the conf wants it.
    pub fn url(&self) -> String {
        format!("postgres://rookery@localhost/rookery?host={}", self.dir.display())
    }

    /// Who runs statements in it.
    pub fn client(&self) -> Client {
        Client(self.dir.clone())
    }

    /// Sends a signal to all of its processes.
    pub fn signal(&self, name: &str) {
        for pid in std::iter::once(self.server.id()).chain(children(self.server.id())) {
            crate::server::signal(pid, name);
        }
    }

    /// Waits for its end, then starts it anew on the same data.
    pub fn restart(&mut self) -> std::io::Result<()> {
        self.server.wait()?;
        self.server = spawn(&binaries()?, &self.dir)?;
        self.wait_for("rookery", "SELECT 1")
    }

    fn wait_for(&self, database: &str, statement: &str) -> std::io::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        while let Err(error) = self.client().psql(database, statement) {
            if Instant::now() > deadline {
                return Err(std::io::Error::other(format!("PostgreSQL does not start: {error}")));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

/// Runs statements in a cluster.
#[derive(Debug, Clone)]
pub struct Client(PathBuf);

impl Client {
    /// In Rookery's database; what `psql` says.
    pub fn run(&self, statement: &str) -> std::io::Result<String> {
        self.psql("rookery", statement)
    }

    /// Somebody who connects, under this name, and answers statements for as long as they are asked.
    pub fn stay(&self, name: &str) -> std::io::Result<Child> {
        let mut psql = self.command("rookery")?;
        psql.env("PGAPPNAME", name).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()
    }

    fn command(&self, database: &str) -> std::io::Result<Command> {
        let mut psql = Command::new(binaries()?.join("psql"));
        psql.args(["-qAt", "-U", "rookery", "-d", database, "-h"]).arg(&self.0);
        Ok(psql)
    }

    fn psql(&self, database: &str, statement: &str) -> std::io::Result<String> {
        let output = self.command(database)?.args(["-c", statement]).stdin(Stdio::null()).output()?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        Err(std::io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}

fn is_root() -> std::io::Result<bool> {
    Ok(std::fs::metadata("/proc/self").map(|meta| std::os::unix::fs::MetadataExt::uid(&meta))? == 0)
}

/// PostgreSQL refuses to run as root.
fn command(bin: &Path, name: &str) -> std::io::Result<Command> {
    let program = bin.join(name);
    if !is_root()? {
        return Ok(Command::new(program));
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
    Ok(command)
}

fn spawn(bin: &Path, dir: &Path) -> std::io::Result<Child> {
    let mut server = command(bin, "postgres")?;
    server.arg("-D").arg(dir.join("data")).arg("-k").arg(dir).args([
        "-c",
        "listen_addresses=",
        "-c",
        "max_connections=40",
    ]);
    server.current_dir(dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

fn children(pid: u32) -> Vec<u32> {
    let listed = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(|child| child.parse().ok()).collect()
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
