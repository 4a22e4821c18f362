//! T7: the database is slow or gone, or takes nothing. SQLite: another process holds the file (`lock`). PostgreSQL: all of its
//! processes stop and go on (`stop`), are killed and started again (`kill`), connections are closed again and again
//! (`reset`), others have all that there may be (`crowd`), or it can only be read (`read-only`).

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rookery_rigs::Failure;
use rookery_rigs::postgres::Client;
use rookery_rigs::server::{Setup, Store, Subject};

use crate::outage::{self, Begin, End, Kind, People};
use crate::report::Report;
use crate::t2::ROOM;
use crate::world::{Options, World, seeded};

/// `loss t7`
#[derive(Debug, Clone, clap::Args)]
pub struct Database {
    /// What all scenarios take
    #[command(flatten)]
    pub common: Options,
    /// How long each outage lasts
    #[arg(long, default_value_t = 30)]
    pub seconds: u64,
    /// Only this kind: lock, stop, kill, reset, crowd or read-only
    #[arg(long)]
    pub only: Option<String>,
}

/// Runs it.
pub async fn run(options: &Database) -> Result<Report, Failure> {
    let (mut rng, seed) = seeded(&options.common);
    let mut report = Report::new("t7");
    if options.common.server.server != Subject::Rookery {
        return Err(Failure::Protocol("t7 knows Rookery's databases, and no others".into()));
    }
    let setup = Setup { limits: ROOM.into(), ..Setup::default() };
    let world = World::new(&options.common, setup, outage::users(), seed).await?;
    report.say(format!("{}, {} s each, --seed {seed}", world.server().version(), options.seconds));
    let kinds: &[&str] = match options.common.server.store {
        Store::Sqlite => &["lock"],
        Store::Postgres => &["stop", "kill", "reset", "crowd", "read-only"],
    };
    let mut people = People::new(&world, &mut rng);
    for kind in kinds.iter().filter(|kind| options.only.as_deref().is_none_or(|only| only == **kind)) {
        report.say(kind);
        outage::play(&world, &mut report, &people, options.seconds, fault(kind), kind_of(kind)).await?;
        outage::conclude(&world, &mut report, &people).await?;
        people.part();
    }
    world.audit_all().await?;
    report.judge(&world);
    report.connections(&people.devices);
    report.protocol(&people.devices, false);
    for device in &mut people.devices {
        device.stop().await;
    }
    report.rules(&world, &options.common);
    Ok(report)
}

/// A database whose connections are closed takes something now and then.
fn kind_of(kind: &str) -> Kind {
    Kind { total: kind != "reset", readable: matches!(kind, "lock" | "read-only") }
}

fn fault(kind: &str) -> Begin {
    match kind {
        "lock" => Box::new(lock),
        "stop" => Box::new(|world| {
            signal(world, "STOP");
            Ok(Box::new(|world| {
                signal(world, "CONT");
                Ok(())
            }))
        }),
        "kill" => Box::new(|world| {
            signal(world, "KILL");
            Ok(Box::new(|world| world.server().cluster().expect("made for the run").restart()))
        }),
        "crowd" => Box::new(crowd),
        "read-only" => Box::new(|world| {
            only_read(world, true)?;
            Ok(Box::new(|world| only_read(world, false)))
        }),
        _ => Box::new(reset),
    }
}

fn signal(world: &World, name: &str) {
    world.server().cluster().expect("made for the run").signal(name);
}

/// Another process has the file.
fn lock(world: &World) -> std::io::Result<End> {
    let file = world.server().data().join("rookery.sqlite");
    let mut sqlite = Command::new("sqlite3")
        .args(["-bail", "-batch"])
        .arg(file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = sqlite.stdin.take().expect("piped");
    let output = sqlite.stdout.take().expect("piped");
    // What it prints itself it would keep to itself until its end.
    writeln!(input, ".timeout 10000\nBEGIN EXCLUSIVE;\n.shell echo locked")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    if line.trim() != "locked" {
        return Err(std::io::Error::other("sqlite3 does not get the lock"));
    }
    Ok(Box::new(move |_| {
        writeln!(input, "ROLLBACK;")?;
        drop(input);
        sqlite.wait().map(drop)
    }))
}

/// Connections are closed by the database, again and again.
fn reset(world: &World) -> std::io::Result<End> {
    let client = world.server().cluster().expect("made for the run").client();
    let over = Arc::new(AtomicBool::new(false));
    let is_over = Arc::clone(&over);
    let closing = std::thread::spawn(move || {
        while !is_over.load(Ordering::SeqCst) {
            let statement = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = 'rookery'";
            let _ = client.run(statement);
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    Ok(Box::new(move |_| {
        over.store(true, Ordering::SeqCst);
        closing.join().map_err(|_| std::io::Error::other("a thread died"))
    }))
}

/// Every transaction that begins may write, or may not, as if another server had taken this one's place.
fn only_read(world: &World, is_on: bool) -> std::io::Result<()> {
    let client = world.server().cluster().expect("made for the run").client();
    client.run(&format!("ALTER SYSTEM SET default_transaction_read_only = {is_on}"))?;
    client.run("SELECT pg_reload_conf()").map(drop)
}

/// Others have every connection that the database gives, and keep them.
fn crowd(world: &World) -> std::io::Result<End> {
    let client = world.server().cluster().expect("made for the run").client();
    let most = client.run("SHOW max_connections")?.parse().map_err(std::io::Error::other)?;
    let mut crowd = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        // Who comes too late finds no place.
        while crowd.len() < most {
            let Some(one) = Guest::come(&client)? else { break };
            crowd.push(one);
        }
        if crowd.len() == most {
            break;
        }
        if Instant::now() > deadline {
            return Err(std::io::Error::other("the crowd does not get all connections"));
        }
        // What the server has had meanwhile is free for the next.
        let Some(first) = crowd.first_mut() else { continue };
        first.ask(&format!("SELECT pg_terminate_backend(pid) {OTHERS}"))?;
    }
    Ok(Box::new(move |_| {
        let others =
            crowd.first_mut().map_or(Ok(String::new()), |first| first.ask(&format!("SELECT count(*) {OTHERS}")))?;
        if others != "0" {
            return Err(std::io::Error::other(format!("{others} connections were not the crowd's")));
        }
        drop(crowd);
        Ok(())
    }))
}

/// All connections but the crowd's.
const OTHERS: &str = "FROM pg_stat_activity WHERE backend_type = 'client backend' AND application_name <> 'crowd'";

/// One of the crowd.
struct Guest {
    psql: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Guest {
    /// `None` when there is no place.
    fn come(client: &Client) -> std::io::Result<Option<Self>> {
        let mut psql = client.stay("crowd")?;
        let (input, output) = (psql.stdin.take().expect("piped"), psql.stdout.take().expect("piped"));
        let mut guest = Self { psql, input, output: BufReader::new(output) };
        Ok(guest.ask("SELECT 'here'").is_ok_and(|answer| answer == "here").then_some(guest))
    }

    /// The last column of one row, or nothing when there is none.
    fn ask(&mut self, statement: &str) -> std::io::Result<String> {
        writeln!(self.input, "{statement};\n\\echo .")?;
        let mut answer = String::new();
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            match line.trim() {
                "." => return Ok(answer),
                row => row.clone_into(&mut answer),
            }
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.psql.kill();
        let _ = self.psql.wait();
    }
}
