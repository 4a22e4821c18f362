//! The servers the rigs judge: each with a conf of its own in a temporary folder, on a loopback address of its own, started,
//! killed, restarted and removed again. Or one that runs already.

mod ejabberd;
mod prosody;
mod rookery;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::client::{Target, Transport};
use crate::postgres::Cluster;
use crate::rng::Rng;

/// The domain that is served.
pub const DOMAIN: &str = "localhost";

/// The domain of the rooms.
pub const ROOMS: &str = "conference.localhost";

/// Every account's password.
pub const PASSWORD: &str = "rigs' own";

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Subject {
    /// Rookery, the binary that ROOKERY_BIN names or else target/release/rookery
    Rookery,
    /// Prosody, as installed
    Prosody,
    /// ejabberd, as installed
    Ejabberd,
    /// No server: what forwards bytes and does nothing else, the floor (`rigs relay`)
    Relay,
}

/// What a rig asks of its subject beyond the options of the command line.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Rookery's binary, in place of the one that ROOKERY_BIN names.
    pub program: Option<PathBuf>,
    /// Variables of its environment.
    pub env: Vec<(String, String)>,
    /// Its data folder, in place of one beside its conf.
    pub data: Option<PathBuf>,
    /// For how many seconds a session may be resumed.
    pub resume: Option<u64>,
    /// Whether there are rooms, as the domain [`ROOMS`]: anybody may make some, as large and busy as they like, archived as
    /// accounts are.
    pub rooms: bool,
    /// More lines for the limits in Rookery's conf.
    pub limits: String,
    /// Sections for the end of Rookery's conf.
    pub conf: String,
}

/// Where Rookery keeps its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Store {
    /// A file
    Sqlite,
    /// A PostgreSQL cluster that is made for the run
    Postgres,
}

/// What a commit of Rookery's is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Durability {
    /// On disk
    Full,
    /// With the kernel
    Relaxed,
}

/// The options about the server, the same for each rig.
#[derive(Debug, Clone, clap::Args)]
pub struct Choice {
    /// The server to start
    #[arg(long, value_enum, default_value = "rookery")]
    pub server: Subject,
    /// Rookery's store
    #[arg(long, value_enum, default_value = "sqlite")]
    pub store: Store,
    /// Judge a server that runs already: its listener for --transport
    #[arg(long, requires = "pid", value_name = "IP:PORT")]
    pub address: Option<SocketAddr>,
    /// The running server's process
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,
    /// The running Rookery's data folder, for accounts; without it they must be there: u0, u1 ... with the password "rigs' own"
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// Keep the temporary folder, with conf and logs, and say where it is
    #[arg(long)]
    pub keep: bool,
    /// Accounts have archives (XEP-0313) and copies for other devices (XEP-0280)
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    pub archive: bool,
    /// When Rookery's commits count as done
    #[arg(long, value_enum, default_value = "full")]
    pub durability: Durability,
    /// Lines for the section of limits in Rookery's conf, in place of the rig's own
    #[arg(long, value_name = "TOML")]
    pub limits: Option<String>,
}

/// A server under judgement. Killed and removed when dropped.
#[derive(Debug)]
pub struct Server {
    options: Choice,
    setup: Setup,
    dir: PathBuf,
    ip: IpAddr,
    ports: [u16; 3],
    child: Option<Child>,
    cluster: Option<Cluster>,
}

impl Server {
    /// Writes its conf; starts nothing but a database.
    pub fn new(options: &Choice) -> std::io::Result<Self> {
        Self::with(options, Setup::default())
    }

    /// The same, with wishes.
    pub fn with(options: &Choice, setup: Setup) -> std::io::Result<Self> {
        let mut rng = Rng::new(Rng::seed());
        let mut octet = |low: u64, high: u64| (low + rng.below(high - low)) as u8;
        let ip = Ipv4Addr::new(127, octet(64, 255), octet(0, 255), octet(1, 255));
        // Held together, so that they differ. Nobody else is on this address.
        let held: Vec<TcpListener> = (0..3).map(|_| TcpListener::bind((ip, 0))).collect::<Result<_, _>>()?;
        let mut ports = [0; 3];
        for (port, listener) in ports.iter_mut().zip(&held) {
            *port = listener.local_addr()?.port();
        }
        let dir = std::env::temp_dir().join(format!("rigs-{}-{:x}", std::process::id(), Rng::seed() & 0xffff));
        fs::create_dir_all(&dir)?;
        let mut server =
            Self { options: options.clone(), setup, dir, ip: ip.into(), ports, child: None, cluster: None };
        if options.address.is_some() {
            return Ok(server);
        }
        match options.server {
            Subject::Rookery => {
                if options.store == Store::Postgres {
                    server.cluster = Some(Cluster::start(&server.dir.join("pg"))?);
                }
                rookery::write_conf(&server)?;
            }
            Subject::Prosody => prosody::write_conf(&server)?,
            Subject::Ejabberd => ejabberd::write_conf(&server)?,
            Subject::Relay => {}
        }
        Ok(server)
    }

    /// Its conf, with DIR in place of its folder; none if it has none.
    pub fn conf(&self) -> std::io::Result<Option<String>> {
        let name = match self.options.server {
            Subject::Rookery => "rookery.toml",
            Subject::Prosody => "prosody.cfg.lua",
            Subject::Ejabberd => "ejabberd.yml",
            Subject::Relay => return Ok(None),
        };
        if self.options.address.is_some() {
            return Ok(None);
        }
        let text = fs::read_to_string(self.dir.join(name))?;
        Ok(Some(text.replace(&*self.dir.to_string_lossy(), "DIR")))
    }

    /// Starts it and waits until it greets a client; how long that took.
    pub fn start(&mut self) -> std::io::Result<Duration> {
        if self.options.address.is_some() {
            return Ok(Duration::ZERO);
        }
        let mut command = match self.options.server {
            Subject::Rookery => rookery::command(self),
            Subject::Prosody => prosody::command(&self.dir),
            Subject::Ejabberd => ejabberd::command(self),
            Subject::Relay => relay(self.target(Transport::Plain).address)?,
        };
        let log = File::options().create(true).append(true).open(self.dir.join("log"))?;
        command.current_dir(&self.dir).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.envs(self.setup.env.iter().map(|(name, value)| (name, value)));
        let start = Instant::now();
        let mut child = command.spawn().map_err(|error| std::io::Error::other(format!("{command:?}: {error}")))?;
        while !self.greets() {
            let ended = child.try_wait()?.is_some();
            if ended || start.elapsed() > Duration::from_secs(30) {
                let _ = child.kill();
                return Err(std::io::Error::other(format!("the server does not start:\n{}", self.log_tail())));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.child = Some(child);
        Ok(start.elapsed())
    }

    /// SIGKILL, now.
    pub fn kill(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill().expect("our own child");
        }
    }

    /// Waits until a killed server is gone.
    pub fn reap(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.wait().expect("our own child");
        }
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            signal(child.id(), "TERM");
            let deadline = Instant::now() + Duration::from_secs(15);
            while Instant::now() < deadline {
                if matches!(child.try_wait(), Ok(Some(_))) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Whether the process lives.
    pub fn lives(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map(Child::id).or(self.options.pid).unwrap_or(0)
    }

    /// Where to connect.
    pub fn target(&self, transport: Transport) -> Target {
        let port = match transport {
            Transport::Plain => self.ports[0],
            Transport::Starttls => self.ports[1],
            Transport::Direct => self.ports[2],
        };
        let address = self.options.address.unwrap_or_else(|| SocketAddr::new(self.ip, port));
        Target {
            address,
            transport,
            domain: DOMAIN.into(),
            source: None,
            mechanism: None,
            receive_buffer: None,
            bare: self.options.server == Subject::Relay,
        }
    }

    /// Makes accounts with [`PASSWORD`]; the server runs.
    pub fn add_accounts(&self, users: &[String]) -> std::io::Result<()> {
        match (&self.options.address, &self.options.data, self.options.server) {
            (None, _, Subject::Rookery) => rookery::add_accounts(&self.data(), users),
            (None, _, Subject::Prosody) => prosody::add_accounts(&self.data(), users),
            (None, _, Subject::Ejabberd) => ejabberd::add_accounts(self.target(Transport::Plain).address, users),
            (None, _, Subject::Relay) => Ok(()),
            (Some(_), Some(data), _) => rookery::add_accounts(data, users),
            (Some(_), None, _) => Ok(()),
        }
    }

    /// Name and version.
    pub fn version(&self) -> String {
        if self.options.address.is_some() {
            return format!("process {}", self.pid());
        }
        let version = match self.options.server {
            Subject::Rookery => rookery::version(),
            Subject::Prosody => prosody::version(),
            Subject::Ejabberd => ejabberd::version(),
            Subject::Relay => "bare relay".into(),
        };
        match (self.options.server, self.options.store) {
            (Subject::Rookery, Store::Postgres) => format!("{version} on PostgreSQL"),
            (Subject::Rookery, Store::Sqlite) => format!("{version} on SQLite"),
            _ => version,
        }
    }

    /// From the next start on it is this program.
    pub fn run_from(&mut self, program: PathBuf) {
        self.setup.program = Some(program);
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.setup.data.clone().unwrap_or_else(|| self.dir.join("data"))
    }

    /// The folder of its conf and logs, which goes with it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Which one it is.
    pub fn subject(&self) -> Subject {
        self.options.server
    }

    /// The PostgreSQL cluster that was made for it, if one was.
    pub fn cluster(&mut self) -> Option<&mut Cluster> {
        self.cluster.as_mut()
    }

    /// The last lines it logged.
    pub fn log_tail(&self) -> String {
        let text = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn greets(&self) -> bool {
        let greeting = || {
            let address = self.target(Transport::Plain).address;
            let mut tcp = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
            tcp.set_read_timeout(Some(Duration::from_secs(5)))?;
            write!(
                tcp,
                "<stream:stream to='{DOMAIN}' version='1.0' xmlns='jabber:client' \
                 xmlns:stream='http://etherx.jabber.org/streams'>"
            )?;
            tcp.read(&mut [0; 64])
        };
        greeting().is_ok_and(|count| count > 0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
        self.cluster = None;
        if self.options.keep {
            println!("kept: {}", self.dir.display());
        } else {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// This program itself, as the relay.
fn relay(address: SocketAddr) -> std::io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["relay", "--listen", &address.to_string()]);
    Ok(command)
}

/// Sends a process a signal, by its name without SIG.
pub fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
}

/// Names of accounts: `prefix0`, `prefix1` ...
pub fn users(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}{number}")).collect()
}

/// Raises this process's limit of open files, and so that of the servers it starts, as far as the system lets us; gives the
/// limit reached.
pub fn raise_descriptors() -> usize {
    let pid = std::process::id().to_string();
    for limit in [1 << 20, 200_000, 100_000] {
        let raised = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={limit}:{limit}")]).output();
        if raised.is_ok_and(|output| output.status.success()) {
            break;
        }
    }
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap_or_default();
    line.split_whitespace().nth(3).and_then(|soft| soft.parse().ok()).unwrap_or(1024)
}

fn create(path: &Path, text: &str) -> std::io::Result<()> {
    fs::create_dir_all(path.parent().expect("a file is in a folder"))?;
    fs::write(path, text)
}
