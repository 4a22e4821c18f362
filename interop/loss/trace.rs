//! The server's system calls in the order in which they began and ended, as `strace` tells them.
//!
//! strace stops a thread before a call is performed and after it, and lets it go on only when it has taken note of it. So
//! when the end of one call is told before the beginning of another, it happened before it.

pub mod durable;
pub mod power;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rookery_rigs::{Failure, server};

/// A system call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Which.
    pub name: String,
    /// What strace says of its file descriptor: a path, or `TCP:[127.0.0.1:5222->127.0.0.1:40000]`.
    pub on: String,
    /// The bytes that it wrote or read.
    pub data: Vec<u8>,
    /// Its last argument, where that is a number: of `pwrite64` the offset, of `ftruncate` the length.
    pub last: u64,
}

impl Call {
    /// The port at the other end, of a TCP socket.
    pub fn peer(&self) -> Option<u16> {
        self.on.strip_prefix("TCP:[")?.strip_suffix(']')?.rsplit(':').next()?.parse().ok()
    }
}

/// What strace tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A call is about to be performed.
    Begin(Call),
    /// It was performed, and returned this.
    End(Call, i64),
}

/// strace, attached to a server.
#[derive(Debug)]
pub struct Tracer {
    strace: Child,
    reader: std::thread::JoinHandle<usize>,
}

impl Tracer {
    /// Attaches to a process with all of its threads; each step of these calls is given to `each`, and strace's own lines go
    /// to the file `copy`.
    pub fn attach(
        pid: u32,
        calls: &str,
        copy: Option<&std::path::Path>,
        mut each: impl FnMut(Step) + Send + 'static,
    ) -> Result<Self, Failure> {
        let mut copy = copy.map(std::fs::File::create).transpose()?.map(std::io::BufWriter::new);
        let mut strace = Command::new("strace");
        strace.args(["-f", "-yy", "-s", "1000000", "-e", "signal=none", "-o", "/dev/stdout", "-e"]);
        strace.arg(format!("trace={calls}")).args(["-p", &pid.to_string()]);
        strace.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut strace = strace.spawn().map_err(|error| Failure::Protocol(format!("strace: {error}")))?;
        let output = strace.stdout.take().expect("piped");
        let reader = std::thread::spawn(move || {
            let mut parser = Parser::default();
            let mut lines = BufReader::with_capacity(1 << 20, output);
            let mut line = Vec::new();
            let mut count = 0;
            while matches!(lines.read_until(b'\n', &mut line), Ok(1..)) {
                if let Some(copy) = &mut copy {
                    copy.write_all(&line).expect("there is room for the copy");
                }
                parser.line(line.trim_ascii_end()).into_iter().flatten().for_each(&mut each);
                line.clear();
                count += 1;
            }
            count
        });
        let tracer = Self { strace, reader };
        let deadline = Instant::now() + Duration::from_secs(10);
        while !traced(pid) {
            if Instant::now() > deadline {
                return Err(Failure::Protocol("strace does not attach: is it installed and allowed?".into()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(tracer)
    }

    /// Detaches, and waits until all was told. How many lines that were.
    pub fn finish(mut self) -> usize {
        server::signal(self.strace.id(), "INT");
        let _ = self.strace.wait();
        self.reader.join().expect("no panic")
    }
}

/// Whether each of its threads is traced.
fn traced(pid: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    threads.flatten().all(|thread| {
        let status = std::fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|tracer| tracer.trim() != "0"))
    })
}

/// Reads strace's lines.
#[derive(Debug, Default)]
struct Parser {
    /// Calls that began, by thread.
    unfinished: HashMap<u32, Call>,
}

impl Parser {
    fn line(&mut self, line: &[u8]) -> [Option<Step>; 2] {
        self.parse(line).unwrap_or_default()
    }

    fn parse(&mut self, line: &[u8]) -> Option<[Option<Step>; 2]> {
        let space = line.iter().position(|byte| *byte == b' ')?;
        let pid = std::str::from_utf8(&line[..space]).ok()?.parse().ok()?;
        let rest = line[space..].trim_ascii_start();
        if let Some(resumed) = rest.strip_prefix(b"<... ") {
            let mut call = self.unfinished.remove(&pid)?;
            // What a call has read is told when it ends.
            if call.data.is_empty() {
                call.data = strings(resumed);
            }
            return Some([Some(Step::End(call, result(resumed)?)), None]);
        }
        let open = rest.iter().position(|byte| *byte == b'(')?;
        let name = std::str::from_utf8(&rest[..open]).ok()?.to_owned();
        let arguments = &rest[open + 1..];
        let on = descriptor(arguments).unwrap_or_default();
        let (arguments, unfinished) = match arguments.strip_suffix(b" <unfinished ...>") {
            Some(arguments) => (arguments, true),
            None => (arguments, false),
        };
        let end = if unfinished { arguments.len() } else { closes(arguments)? };
        let last = arguments[..end].rsplit(|byte| *byte == b' ').next().and_then(number).unwrap_or(0);
        let call = Call { name, on, data: strings(arguments), last };
        if unfinished {
            self.unfinished.insert(pid, call.clone());
            return Some([Some(Step::Begin(call)), None]);
        }
        Some([Some(Step::Begin(call.clone())), Some(Step::End(call, result(arguments)?))])
    }
}

/// `12</path>` or `15<TCP:[...->...]>`: what is in the angle brackets of the first argument.
fn descriptor(arguments: &[u8]) -> Option<String> {
    let open = arguments.iter().position(|byte| *byte == b'<')?;
    if !arguments[..open].iter().all(u8::is_ascii_digit) || open == 0 {
        return None;
    }
    let rest = &arguments[open + 1..];
    // The arrow inside of a socket's name is no end.
    let mut from = 0;
    loop {
        let close = rest[from..].iter().position(|byte| *byte == b'>')? + from;
        if close == 0 || rest[close - 1] != b'-' {
            return Some(String::from_utf8_lossy(&rest[..close]).into_owned());
        }
        from = close + 1;
    }
}

/// All quoted strings, one after the other.
fn strings(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(open) = memchr::memchr(b'"', rest) {
        rest = &rest[open + 1..];
        loop {
            let Some(at) = memchr::memchr2(b'"', b'\\', rest) else { return out };
            out.extend_from_slice(&rest[..at]);
            if rest[at] == b'"' {
                rest = &rest[at + 1..];
                break;
            }
            let (byte, length) = escape(&rest[at + 1..]);
            out.push(byte);
            rest = &rest[at + 1 + length..];
        }
    }
    out
}

/// What follows a backslash: the byte, and how many characters stand for it.
fn escape(rest: &[u8]) -> (u8, usize) {
    let octal = rest.iter().take(3).take_while(|byte| matches!(byte, b'0'..=b'7')).count();
    if octal > 0 {
        let value = rest[..octal].iter().fold(0_u32, |value, digit| value * 8 + u32::from(digit - b'0'));
        return (value as u8, octal);
    }
    match rest.first() {
        Some(b'n') => (b'\n', 1),
        Some(b't') => (b'\t', 1),
        Some(b'r') => (b'\r', 1),
        Some(b'v') => (0x0b, 1),
        Some(b'f') => (0x0c, 1),
        Some(&other) => (other, 1),
        None => (b'\\', 0),
    }
}

/// Where the arguments end. Before the result strace leaves room, so that results stand below each other.
fn closes(text: &[u8]) -> Option<usize> {
    let result = memchr::memmem::rfind(text, b" = ")?;
    text[..result].trim_ascii_end().strip_suffix(b")").map(<[u8]>::len)
}

fn result(text: &[u8]) -> Option<i64> {
    let result = text[closes(text)? + 1..].trim_ascii_start().strip_prefix(b"= ")?;
    let result = result.split(|byte| *byte == b' ' || *byte == b'<').next()?;
    std::str::from_utf8(result).ok()?.parse().ok()
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(lines: &[&str]) -> Vec<Step> {
        let mut parser = Parser::default();
        lines.iter().flat_map(|line| parser.line(line.as_bytes())).flatten().collect()
    }

    #[test]
    fn calls_are_read_with_what_they_wrote() {
        let steps = parse(&[r#"77 pwrite64(12</tmp/d/rookery.sqlite-wal>, "a\0\12\"\\b\3778"..., 4096, 1048) = 4096"#]);
        let call = Call {
            name: "pwrite64".into(),
            on: "/tmp/d/rookery.sqlite-wal".into(),
            data: b"a\0\n\"\\b\xff8".to_vec(),
            last: 1048,
        };
        assert_eq!(steps, [Step::Begin(call.clone()), Step::End(call, 4096)]);
    }

    #[test]
    fn what_goes_on_meanwhile_stands_in_between() {
        let steps = parse(&[
            "78 fdatasync(12</tmp/d/rookery.sqlite-wal> <unfinished ...>",
            "79 sendto(9<TCP:[127.1.2.3:5222->127.0.0.1:40000]>, \"<a h='1'/>\", 10, MSG_NOSIGNAL, NULL, 0) = 10",
            "78 <... fdatasync resumed>)             = 0",
            "80 recvfrom(8<UNIX-STREAM:[1->2]>,  <unfinished ...>",
            "80 <... recvfrom resumed>\"Z\\0\\0\\0\\5I\", 8192, 0, NULL, NULL) = 6",
            "81 writev(9<TCP:[127.1.2.3:5222->127.0.0.1:40000]>, [{iov_base=\"x\", iov_len=1}, {iov_base=\"y\", iov_len=1}], 2) = -1 EAGAIN (Resource temporarily unavailable)",
            "82 +++ exited with 0 +++",
        ]);
        let told: Vec<String> = steps
            .iter()
            .map(|step| match step {
                Step::Begin(call) => format!("{} {}", call.name, call.data.escape_ascii()),
                Step::End(call, result) => format!("{} = {result} {:?}", call.name, call.peer()),
            })
            .collect();
        let expected = [
            "fdatasync ",
            "sendto <a h=\\'1\\'/>",
            "sendto = 10 Some(40000)",
            "fdatasync = 0 None",
            "recvfrom ",
            "recvfrom = 6 None",
            "writev xy",
            "writev = -1 Some(40000)",
        ];
        assert_eq!(told, expected);
        assert!(matches!(&steps[5], Step::End(call, 6) if call.data == b"Z\0\0\0\x05I"));
    }
}
