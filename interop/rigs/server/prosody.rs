//! Prosody as a subject: Debian's package, its defaults, no limits, stream management on. Its default conf has no archive: the
//! messages of others are stored while a user is offline, and only then. With `--archive false` it has none.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use super::{DOMAIN, PASSWORD, ROOMS, Server, create};
use crate::sasl::stored_keys;

const SALT: &str = "4fa4a3a2-rigs-salt";
const ITERATIONS: u32 = 10_000;

pub(super) fn write_conf(server: &Server) -> std::io::Result<()> {
    let dir = &server.dir;
    let certified = rcgen::generate_simple_self_signed([DOMAIN.to_owned()]).map_err(std::io::Error::other)?;
    create(&dir.join("cert.pem"), &certified.cert.pem())?;
    create(&dir.join("key.pem"), &certified.signing_key.serialize_pem())?;
    let [plain, starttls, direct] = server.ports;
    let (ip, dir_name, data) = (server.ip, dir.display(), server.data());
    let data = data.display();
    let archive = if server.options.archive { r#", "mam", "carbons""# } else { "" };
    let rooms = if server.setup.rooms { rooms(server.options.archive) } else { String::new() };
    let resume = server.setup.resume.map(|seconds| format!("smacks_hibernation_time = {seconds}")).unwrap_or_default();
    let conf = format!(
        r#"
run_as_root = true
daemonize = false
pidfile = "{dir_name}/prosody.pid"
data_path = "{data}"
interfaces = {{ "{ip}" }}
c2s_ports = {{ {plain}, {starttls} }}
c2s_direct_tls_ports = {{ {direct} }}
s2s_ports = {{ }}
http_ports = {{ }}
https_ports = {{ }}
modules_enabled = {{ "roster", "saslauth", "tls", "disco", "ping", "smacks", "blocklist", "time", "uptime", "version"{archive} }}
modules_disabled = {{ "s2s" }}
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
authentication = "internal_hashed"
password_hash = "SHA-256"
storage = "internal"
default_archive_policy = true
archive_expires_after = "never"
{resume}
log = {{ warn = "{dir_name}/prosody.log" }}
ssl = {{ certificate = "{dir_name}/cert.pem", key = "{dir_name}/key.pem" }}
VirtualHost "{DOMAIN}"
{rooms}"#
    );
    create(&dir.join("prosody.cfg.lua"), &conf)
}

fn rooms(archive: bool) -> String {
    let module = if archive { "\"muc_mam\"" } else { "" };
    format!(
        "Component \"{ROOMS}\" \"muc\"\nmodules_enabled = {{ {module} }}\nmodules_disabled = {{ \"s2s\" }}\n\
         restrict_room_creation = false\nmuc_log_by_default = true\nmuc_log_expires_after = \"never\"\n"
    )
}

pub(super) fn command(dir: &Path) -> Command {
    let mut command = Command::new("prosody");
    command.arg("-F").arg("--config").arg(dir.join("prosody.cfg.lua"));
    command
}

pub(super) fn version() -> String {
    let output = Command::new("dpkg-query").args(["-W", "-f", "${Version}", "prosody"]).output();
    let version = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    format!("Prosody {version}")
}

/// By its own files, read at each login.
pub(super) fn add_accounts(data: &Path, users: &[String]) -> std::io::Result<()> {
    let (stored, server) = stored_keys(PASSWORD, SALT.as_bytes(), ITERATIONS);
    let (stored, server) = (hex(&stored), hex(&server));
    let account = format!(
        "return {{\n\t[\"iteration_count\"] = {ITERATIONS};\n\t[\"salt\"] = \"{SALT}\";\n\t[\"stored_key\"] = \"{stored}\";\n\
         \t[\"server_key\"] = \"{server}\";\n}};\n"
    );
    for user in users {
        create(&data.join(format!("{DOMAIN}/accounts/{user}.dat")), &account)?;
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").expect("a String takes all");
        out
    })
}
