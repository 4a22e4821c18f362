//! Rookery as a subject.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{DOMAIN, Durability, PASSWORD, Server, create};

// The shaper is open wide, as the rivals' is: what is measured is what the work costs, not how it is spread.
const LIMITS: &str = r#"
connection_rate = "1 GiB"
connection_burst = "1 GiB"
account_rate = "1 GiB"
account_burst = "1 GiB"
address_rate = "1 GiB"
address_burst = "1 GiB"
"#;

pub(super) fn write_conf(server: &Server) -> std::io::Result<()> {
    let ip = server.ip;
    let dir = server.dir.display();
    let data = server.data();
    let data = data.display();
    let [plain, starttls, direct] = server.ports;
    let store = match &server.cluster {
        Some(cluster) => format!("backend = \"postgres\"\nurl = \"{}\"", cluster.url()),
        None => "backend = \"sqlite\"".into(),
    };
    let durability = match server.options.durability {
        Durability::Full => "full",
        Durability::Relaxed => "relaxed",
    };
    let archive = if server.options.archive { "" } else { "[modules.archive]\nenabled = false" };
    let limits = server.options.limits.as_deref().unwrap_or(LIMITS);
    let resume = server.setup.resume.map(|seconds| format!("resume = \"{seconds} seconds\"")).unwrap_or_default();
    let rooms = if server.setup.rooms { rooms(server.options.archive) } else { String::new() };
    let (more_limits, more) = (&server.setup.limits, &server.setup.conf);
    let conf = format!(
        r#"
[host."{DOMAIN}"]
[server]
data = "{data}"
certs = "{dir}/certs"
[log]
level = "warn"
[[listen]]
address = "{ip}:{plain}"
tls = "plain"
allow_plain_passwords = true
[[listen]]
address = "{ip}:{starttls}"
tls = "starttls"
[[listen]]
address = "{ip}:{direct}"
tls = "direct"
[store]
{store}
durability = "{durability}"
[limits]
{limits}
{resume}
{more_limits}
{archive}
{rooms}
{more}
"#
    );
    create(&server.dir.join("rookery.toml"), &conf)
}

/// Its rates are open as wide as the others', and it thins out no presence unless told to by the room's owner.
fn rooms(archive: bool) -> String {
    format!(
        "[modules.muc]\noccupants = 20000\nthin_from = 20000\nrate = 0\nroom_rate = 0\ndefault_archive = {archive}\n"
    )
}

pub(super) fn command(server: &Server) -> Command {
    let mut command = Command::new(server.setup.program.clone().unwrap_or_else(binary));
    command.arg("serve").arg("--config").arg(server.dir.join("rookery.toml"));
    command
}

pub(super) fn version() -> String {
    let output = Command::new(binary()).arg("--version").output();
    output.map_or_else(|error| error.to_string(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// By the control socket: one line of JSON for each.
pub(super) fn add_accounts(data: &Path, users: &[String]) -> std::io::Result<()> {
    std::thread::scope(|scope| {
        let share = users.len().div_ceil(4).max(1);
        let parts: Vec<_> = users.chunks(share).map(|part| scope.spawn(|| add_part(data, part))).collect();
        parts.into_iter().try_for_each(|part| part.join().expect("no panic"))
    })
}

fn add_part(data: &Path, users: &[String]) -> std::io::Result<()> {
    for user in users {
        let mut socket = UnixStream::connect(data.join("control.sock"))?;
        let jid = format!("{user}@{DOMAIN}");
        let command = serde_json::json!({"command": "user.add", "args": {"jid": jid, "password": PASSWORD}});
        writeln!(socket, "{command}")?;
        let mut answer = String::new();
        BufReader::new(socket).read_line(&mut answer)?;
        if !answer.contains("\"ok\"") && !answer.contains("\"conflict\"") {
            return Err(std::io::Error::other(format!("no account {jid}: {answer}")));
        }
    }
    Ok(())
}

fn binary() -> PathBuf {
    std::env::var_os("ROOKERY_BIN").map_or_else(
        || {
            let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
            std::path::absolute(target.join("release/rookery")).expect("there is a working directory")
        },
        PathBuf::from,
    )
}
