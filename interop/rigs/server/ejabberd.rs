//! ejabberd as a subject: Debian's package, its own database (Mnesia), which is its default, no shapers, no limit on messages
//! for offline users, and a queue for connections that come at once: by its default of 5 the kernel drops most of a hundred, and
//! they come again after seconds. Its node is no member of anything: no cookie, no epmd.

use std::io::{Error, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use super::{DOMAIN, PASSWORD, ROOMS, Server, create};

/// How long its database gathers writes before the operating system sees them.
const SETTLES: Duration = Duration::from_secs(3);

pub(super) fn write_conf(server: &Server) -> std::io::Result<()> {
    let dir = &server.dir;
    // It reckons in milliseconds until the certificate ends, and stumbles over those that never do.
    let mut params = rcgen::CertificateParams::new([DOMAIN.to_owned()]).map_err(Error::other)?;
    params.not_before = rcgen::date_time_ymd(2025, 1, 1);
    params.not_after = rcgen::date_time_ymd(2045, 1, 1);
    let key = rcgen::KeyPair::generate().map_err(Error::other)?;
    let cert = params.self_signed(&key).map_err(Error::other)?;
    create(&dir.join("both.pem"), &(key.serialize_pem() + &cert.pem()))?;
    let [plain, starttls, direct] = server.ports;
    let (ip, dir_name) = (server.ip, dir.display());
    let archive = if server.options.archive {
        "  mod_carboncopy: {}\n  mod_mam:\n    default: always\n    assume_mam_usage: true\n"
    } else {
        ""
    };
    let rooms = if server.setup.rooms { rooms(server.options.archive) } else { String::new() };
    let resume = server.setup.resume.map(|seconds| format!("    resume_timeout: {seconds}\n")).unwrap_or_default();
    let conf = format!(
        r#"
loglevel: warning
hosts: ["{DOMAIN}"]
certfiles: ["{dir_name}/both.pem"]
listen:
  - {{ port: {plain}, ip: "{ip}", module: ejabberd_c2s, shaper: none, access: c2s, backlog: 4096 }}
  - {{ port: {starttls}, ip: "{ip}", module: ejabberd_c2s, shaper: none, access: c2s, backlog: 4096, starttls: true }}
  - {{ port: {direct}, ip: "{ip}", module: ejabberd_c2s, shaper: none, access: c2s, backlog: 4096, tls: true }}
auth_password_format: scram
registration_timeout: infinity
access_rules:
  c2s: {{ allow: all }}
  register: {{ allow: all }}
  anybody: {{ allow: all }}
shaper_rules:
  max_user_sessions: 20
  max_user_offline_messages: infinity
modules:
  mod_disco: {{}}
  mod_ping: {{}}
  mod_register: {{ access: register, ip_access: anybody }}
  mod_roster: {{}}
  mod_offline: {{ access_max_user_messages: max_user_offline_messages }}
{archive}{rooms}  mod_stream_mgmt:
    resend_on_timeout: if_offline
{resume}"#
    );
    create(&dir.join("ejabberd.yml"), &conf)?;
    std::fs::create_dir_all(server.data())
}

/// Its caps on large rooms are lifted: it would thin out presence from 1,000 occupants on.
fn rooms(archive: bool) -> String {
    format!(
        "  mod_muc:\n    host: \"{ROOMS}\"\n    access_create: all\n    max_users: 20000\n    max_users_presence: 20000\n    \
         default_room_options:\n      max_users: 20000\n      mam: {archive}\n"
    )
}

pub(super) fn command(server: &Server) -> Command {
    let dir = &server.dir;
    let mut command = Command::new("erl");
    command.args(["+K", "true", "-noinput", "-boot", "start_clean", "-mnesia", "dir"]);
    command.arg(format!("{:?}", server.data().display().to_string()));
    command.args(["-s", "ejabberd"]);
    command.env("EJABBERD_CONFIG_PATH", dir.join("ejabberd.yml")).env("EJABBERD_LOG_PATH", dir.join("ejabberd.log"));
    command.env("ERL_CRASH_DUMP", dir.join("crash.dump")).env("ERL_LIBS", "/usr/lib/x86_64-linux-gnu").env("HOME", dir);
    command
}

pub(super) fn version() -> String {
    let output = Command::new("dpkg-query").args(["-W", "-f", "${Version}", "ejabberd"]).output();
    let version = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    format!("ejabberd {version}")
}

/// As a client would (XEP-0077).
pub(super) fn add_accounts(address: SocketAddr, users: &[String]) -> std::io::Result<()> {
    for user in users {
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(
            socket,
            "<stream:stream to='{DOMAIN}' version='1.0' xmlns='jabber:client' \
             xmlns:stream='http://etherx.jabber.org/streams'>"
        )?;
        until(&mut socket, "</stream:features>")?;
        write!(
            socket,
            "<iq type='set' id='reg' to='{DOMAIN}'><query xmlns='jabber:iq:register'><username>{user}</username>\
             <password>{}</password></query></iq>",
            crate::xml::escape(PASSWORD)
        )?;
        let answer = until(&mut socket, "id='reg'")?;
        if !answer.contains("type='result'") && !answer.contains("conflict") {
            return Err(Error::other(format!("no account {user}: {answer}")));
        }
    }
    std::thread::sleep(SETTLES);
    Ok(())
}

fn until(socket: &mut TcpStream, end: &str) -> std::io::Result<String> {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.contains(end) {
        match socket.read(&mut buffer)? {
            0 => return Err(Error::other(format!("closed after {text}"))),
            count => text.push_str(&String::from_utf8_lossy(&buffer[..count])),
        }
    }
    Ok(text)
}
