//! The binary as an admin meets it: commands with and without a running server, exit codes, reload, and no password in a log.

#![cfg(test)]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A password that must not be seen anywhere.
pub(crate) const CANARY: &str = "canary-7QxZ-password";

/// A folder with a conf, removed at the end.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("rookery-commands-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        let folder = Self(path);
        folder.write_conf("trace");
        folder
    }

    fn write_conf(&self, level: &str) {
        let conf = format!(
            "[log]\nlevel = \"{level}\"\nformat = \"json\"\n[[listen]]\naddress = \"127.0.0.1:0\"\n[host.\"localhost\"]\n"
        );
        std::fs::write(self.0.join("rookery.toml"), conf).unwrap();
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rookery"));
        command.current_dir(&self.0).args(["--config", "rookery.toml"]).args(arguments).env_remove("RUST_LOG");
        command
    }

    /// Runs a command with this standard input; its exit code and standard output.
    pub(crate) fn run(&self, arguments: &[&str], input: &str) -> (i32, String) {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that reads nothing may have ended already.
        drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
        assert!(!stdout.contains(CANARY) && !stderr.contains(CANARY), "{stdout}{stderr}");
        (status.code().unwrap(), stdout.trim_end().to_owned())
    }

    /// Each command with its exit code and what it prints.
    pub(crate) fn check(&self, commands: &[(&[&str], i32, &str)]) {
        for (arguments, code, output) in commands {
            let found = self.run(arguments, &format!("{CANARY}\n"));
            assert_eq!((found.0, found.1.as_str()), (*code, *output), "{arguments:?}");
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A running server. Its log is read until a line with a word; what was read is kept.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) log: Option<BufReader<ChildStderr>>,
    pub(crate) seen: String,
}

impl Server {
    pub(crate) fn start(folder: &Folder) -> Self {
        Self::run(&mut folder.command(&["serve"]))
    }

    pub(crate) fn run(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = child.stderr.take().map(BufReader::new);
        let mut server = Self { child, log, seen: String::new() };
        server.read_until("ready in ");
        server
    }

    pub(crate) fn read_until(&mut self, word: &str) {
        loop {
            let mut line = String::new();
            let read = self.log.as_mut().unwrap().read_line(&mut line).unwrap();
            self.seen += &line;
            assert!(read > 0, "the log ended before {word:?}:\n{}", self.seen);
            if line.contains(word) {
                return;
            }
        }
    }

    pub(crate) fn signal(&self, signal: &str) {
        let killed = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(killed.success());
    }

    /// Ends it cleanly; all of its log.
    pub(crate) fn end(mut self) -> String {
        self.signal("-TERM");
        self.log.as_mut().unwrap().read_to_string(&mut self.seen).unwrap();
        assert!(self.child.wait().unwrap().success(), "{}", self.seen);
        std::mem::take(&mut self.seen)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

const ADD: &[&str] = &["user", "add", "Alice@localhost", "--password-stdin", "--json"];
const PASSWD: &[&str] = &["user", "passwd", "alice@localhost", "--password-stdin"];
const DEL: &[&str] = &["user", "del", "alice@localhost"];
const LIST: &[&str] = &["user", "list"];

#[test]
fn accounts_are_kept_without_a_server() {
    let folder = Folder::new();
    folder.check(&[
        (LIST, 1, ""),
        (ADD, 0, r#"{"ok":{"jid":"alice@localhost"}}"#),
        (
            ADD,
            4,
            r#"{"error":{"condition":"conflict","text":"the account alice@localhost is there already; `rookery user passwd alice@localhost` changes its password"}}"#,
        ),
        (PASSWD, 0, "alice@localhost has its new password"),
        (LIST, 0, "alice@localhost"),
        (DEL, 0, "alice@localhost removed"),
        (DEL, 3, ""),
        (PASSWD, 3, ""),
        (LIST, 0, ""),
        (&["user", "add", "alice@example.org", "--password-stdin"], 2, ""),
        (&["user", "add", "alice@localhost"], 2, ""),
        (&["user", "frobnicate"], 2, ""),
    ]);
}

#[test]
fn a21_accounts_are_kept_by_the_running_server_and_no_log_holds_a_password() {
    let folder = Folder::new();
    let server = Server::start(&folder);
    folder.check(&[
        (ADD, 0, r#"{"ok":{"jid":"alice@localhost"}}"#),
        (LIST, 0, "alice@localhost"),
        (PASSWD, 0, "alice@localhost has its new password"),
    ]);
    let (code, generated) = folder.run(&["user", "add", "bob@localhost", "--generate"], "");
    assert_eq!(code, 0);
    let password = generated.strip_prefix("bob@localhost made; password: ").unwrap();
    assert_eq!(folder.run(&["serve"], "").0, 1, "two servers with one data folder");
    let log = server.end();
    assert!(!log.contains(CANARY) && !log.contains(password), "{log}");
    for line in log.lines() {
        assert!(line.starts_with('{') && line.ends_with('}'), "no JSON: {line}");
    }
    folder.check(&[(LIST, 0, "alice@localhost\nbob@localhost")]);
}

#[test]
fn a_reload_takes_up_a_good_conf_and_refuses_a_bad_one() {
    let folder = Folder::new();
    let mut server = Server::start(&folder);
    std::fs::write(folder.0.join("rookery.toml"), "[limits]\ndept = 3\n").unwrap();
    server.signal("-HUP");
    server.read_until(r#"rookery.toml:2:1: unknown option \"dept\" in [limits]; did you mean \"depth\"?"#);
    folder.write_conf("debug");
    server.signal("-HUP");
    server.read_until("the conf was read again");
    server.end();
}

#[test]
fn check_judges_without_starting() {
    let folder = Folder::new();
    let (code, said) = folder.run(&["check", "--json"], "");
    assert_eq!(code, 0, "{said}");
    assert!(said.starts_with(r#"{"ok":true,"#), "{said}");
    assert!(!folder.0.join("data").exists(), "check leaves no trace");

    std::fs::write(folder.0.join("rookery.toml"), "[limits]\ndept = 3\n").unwrap();
    let (code, said) = folder.run(&["check", "--json"], "");
    assert_eq!(code, 1);
    assert!(said.contains(r#""line":2,"column":1,"option":"limits.dept""#), "{said}");

    std::fs::write(folder.0.join("rookery.toml"), "[modules.version]\nshow_so = true\n").unwrap();
    let (code, said) = folder.run(&["check", "--json"], "");
    assert_eq!(code, 1);
    assert!(said.contains(r#""line":2,"column":1,"option":"modules.version.show_so""#), "{said}");

    for (conf, place) in [
        ("[modules.archive]\npage = 300\n", r#""line":2,"column":8,"option":"modules.archive.page""#),
        ("[modules.disco]\nabuse = [\"me\"]\n", r#""line":2,"column":9,"option":"modules.disco.abuse""#),
    ] {
        std::fs::write(folder.0.join("rookery.toml"), conf).unwrap();
        let (code, said) = folder.run(&["check", "--json"], "");
        assert!(code == 1 && said.contains(place), "what the server does not start with: {said}");
    }

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    std::fs::write(folder.0.join("rookery.toml"), format!("[[listen]]\naddress = \"{address}\"\n")).unwrap();
    let (code, said) = folder.run(&["check", "--json"], "");
    assert_eq!(code, 1);
    assert!(said.contains(r#""about":"port","level":"error""#), "{said}");

    std::fs::write(folder.0.join("rookery.toml"), "[host.\"localhost\"]\ncertificate = \"no.crt\"\nkey = \"no.key\"\n")
        .unwrap();
    let (code, said) = folder.run(&["check", "--json"], "");
    assert_eq!(code, 1);
    assert!(said.contains(r#""about":"certificate","level":"error""#), "{said}");
}

#[test]
fn check_says_what_other_servers_will_think_of_our_certificate() {
    let folder = Folder::new();
    let made = Command::new("openssl")
        .args(["req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=x"])
        .args(["-addext", "subjectAltName=DNS:chat.example", "-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-days", "90", "-keyout", "chat.key", "-out", "chat.crt"])
        .current_dir(&folder.0)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let check = |more: &str| {
        let host = "[[listen]]\naddress = \"127.0.0.1:0\"\n[host.\"chat.example\"]\ncertificate = \"chat.crt\"\nkey = \"chat.key\"\n";
        std::fs::write(folder.0.join("rookery.toml"), format!("{host}{more}")).unwrap();
        folder.run(&["check", "--json"], "")
    };
    // A file of authorities of our own, so that it does not matter what this system has.
    let roots = "[s2s]\nauthorities = \"chat.crt\"\n";
    let (code, said) = check(roots);
    assert!(code == 0 && !said.contains("other servers"), "{said}");
    let (code, said) = check(&format!("{roots}[component.\"irc.chat.example\"]\nsecret = \"0123456789abcdef\"\n"));
    assert_eq!(code, 0, "a warning: {said}");
    assert!(said.contains("irc.chat.example: other servers that want a valid certificate will refuse the certificate that it has or shares"), "{said}");
    assert!(said.contains("is for chat.example, not for irc.chat.example"), "{said}");

    let other = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-nodes",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-subj",
            "/CN=root",
        ])
        .args(["-days", "90", "-keyout", "root.key", "-out", "root.crt"])
        .current_dir(&folder.0)
        .output()
        .unwrap();
    assert!(other.status.success(), "{other:?}");
    let (code, said) = check("[s2s]\nauthorities = \"root.crt\"\n");
    assert_eq!(code, 0, "a warning: {said}");
    assert!(said.contains("chat.example: other servers") && said.contains("is self-signed"), "{said}");
    let (code, said) = check("[s2s]\nenabled = false\n");
    assert!(code == 0 && !said.contains("other servers"), "{said}");
    let (code, said) = check("[s2s]\nauthorities = \"missing.crt\"\n");
    assert!(code == 1 && said.contains("the authorities in missing.crt"), "{said}");
}

#[test]
fn no_conf_is_said_with_what_to_do() {
    let folder = Folder::new();
    let output =
        Command::new(env!("CARGO_BIN_EXE_rookery")).arg("--config").arg(folder.0.join("no.toml")).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().ends_with("no.toml: there is no such file\n"));
}

#[test]
fn check_says_when_components_and_their_port_miss_each_other() {
    let folder = Folder::new();
    let component = "[component.\"irc.localhost\"]\nsecret = \"x\"\n";
    let port = "[[listen]]\nkind = \"component\"\naddress = \"127.0.0.1:0\"\n";
    let missing = r#""about":"component","level":"warning""#;
    for (conf, says) in [(component, true), (port, true), (&format!("{port}{component}"), false)] {
        std::fs::write(folder.0.join("rookery.toml"), conf).unwrap();
        let (_, said) = folder.run(&["check", "--json"], "");
        assert_eq!(said.contains(missing), says, "{said}");
    }
    for (conf, option) in [
        ("[component.\"irc.localhost\"]\n", "secret"),
        ("[host.localhost]\n[component.localhost]\nsecret = \"x\"\n", "component.\\\"localhost\\\""),
    ] {
        std::fs::write(folder.0.join("rookery.toml"), conf).unwrap();
        let (code, said) = folder.run(&["check", "--json"], "");
        assert!(code == 1 && said.contains(option), "{said}");
    }
}
