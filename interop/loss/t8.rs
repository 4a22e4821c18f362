//! T8: the disk is full, or fails. `full`: a file system of some MiB of its own that is filled up, where mounting is allowed.
//! `write` and `sync`: each write to the database, each sync of it, fails with EIO; `room`: each write fails with ENOSPC;
//! `read-only`: with EROFS, as when the system takes a file system for damaged. These four by libfiu (Debian: fiu-utils), which takes the place of the C library's calls.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rookery_rigs::Failure;
use rookery_rigs::server::{Setup, Store, Subject};

use crate::outage::{self, Begin, Kind, People};
use crate::report::Report;
use crate::t2::ROOM;
use crate::world::{Options, World, seeded};

/// `loss t8`
#[derive(Debug, Clone, clap::Args)]
pub struct Disk {
    /// What all scenarios take
    #[command(flatten)]
    pub common: Options,
    /// How long each outage lasts
    #[arg(long, default_value_t = 30)]
    pub seconds: u64,
    /// Only this kind: full, write, sync, room or read-only
    #[arg(long)]
    pub only: Option<String>,
}

/// MiB of the file system that is filled up.
const SIZE: u32 = 64;
const EIO: u32 = 5;
const ENOSPC: u32 = 28;
const EROFS: u32 = 30;
const PRELOAD: &str = "/usr/lib/fiu/fiu_run_preload.so /usr/lib/fiu/fiu_posix_preload.so";

/// Runs all kinds, each with a server of its own.
pub async fn run(options: &Disk) -> Result<Report, Failure> {
    let common = &options.common.server;
    if common.server != Subject::Rookery || common.store != Store::Sqlite {
        return Err(Failure::Protocol("t8 knows Rookery on SQLite, and nothing else".into()));
    }
    let mut report = Report::new("t8");
    for kind in ["full", "write", "sync", "room", "read-only"] {
        if options.only.as_deref().is_none_or(|only| only == kind) {
            report.add(&one(options, kind).await?);
        }
    }
    Ok(report)
}

async fn one(options: &Disk, kind: &str) -> Result<Report, Failure> {
    let (mut rng, seed) = seeded(&options.common);
    let mut report = Report::new(&format!("t8 {kind}"));
    let place = Place::new(kind)?;
    let mut setup = Setup { limits: ROOM.into(), ..Setup::default() };
    match kind {
        "full" if place.mounted => setup.data = Some(place.dir.join("disk/data")),
        "full" => {
            report.say("not tried: this process may not mount a file system; room tries the same error");
            return Ok(report);
        }
        _ => {
            setup.env.push(("LD_PRELOAD".into(), PRELOAD.into()));
            setup.env.push(("FIU_CTRL_FIFO".into(), place.dir.join("fiu").display().to_string()));
        }
    }
    let world = World::new(&options.common, setup, outage::users(), seed).await?;
    report.say(format!("{}, {} s, --seed {seed}", world.server().version(), options.seconds));
    let mut people = People::new(&world, &mut rng);
    let fault = place.fault(kind);
    outage::play(&world, &mut report, &people, options.seconds, fault, Kind { total: true, readable: true }).await?;
    outage::conclude(&world, &mut report, &people).await?;
    report.connections(&people.devices);
    let lines = world.blocking(|world| fs::read_to_string(world.server().dir().join("log"))).await?.lines().count();
    report.check(lines < 100, "the log is not flooded", format!("{lines} lines"));
    // What was acknowledged is on the disk, not only in the server's memory.
    world.kill(None);
    world.wait(Duration::from_secs(10), || !people.devices.iter().any(crate::device::Device::is_online)).await;
    world.restart().await?;
    outage::conclude(&world, &mut report, &people).await?;
    world.audit_all().await?;
    report.judge(&world);
    report.protocol(&people.devices, false);
    for device in &mut people.devices {
        device.stop().await;
    }
    report.rules(&world, &options.common);
    drop(world);
    Ok(report)
}

/// A folder, with a file system of its own in it where that is needed and allowed.
struct Place {
    dir: PathBuf,
    mounted: bool,
}

impl Place {
    fn new(kind: &str) -> std::io::Result<Self> {
        let dir = std::env::temp_dir().join(format!("loss-{}-{kind}", std::process::id()));
        fs::create_dir_all(dir.join("disk"))?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={SIZE}m"), "loss"]).arg(dir.join("disk"));
        let mounted = kind == "full" && mount.output().is_ok_and(|output| output.status.success());
        Ok(Self { dir, mounted })
    }

    fn fault(&self, kind: &str) -> Begin {
        if kind == "full" {
            let ballast = self.dir.join("disk/ballast");
            return Box::new(move |_| {
                fill(&ballast)?;
                Ok(Box::new(move |_| fs::remove_file(&ballast)))
            });
        }
        let (point, errno) = match kind {
            "sync" => ("posix/io/sync/*", EIO),
            "write" => ("posix/io/rw/pwrite", EIO),
            "read-only" => ("posix/io/rw/pwrite", EROFS),
            _ => ("posix/io/rw/pwrite", ENOSPC),
        };
        let prefix = self.dir.join("fiu").display().to_string();
        Box::new(move |world| {
            let pid = world.server().pid();
            control(&prefix, pid, &format!("enable name={point},failinfo={errno}"))?;
            Ok(Box::new(move |_| control(&prefix, pid, &format!("disable name={point}"))))
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.mounted {
            let _ = Command::new("umount").arg("-l").arg(self.dir.join("disk")).status();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Takes all the room that is left.
fn fill(path: &Path) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    for size in [1 << 20, 1 << 12, 1] {
        let block = vec![0; size];
        while file.write_all(&block).is_ok() {}
    }
    Ok(())
}

/// Tells libfiu inside of the server.
fn control(prefix: &str, pid: u32, command: &str) -> std::io::Result<()> {
    let mut fiu = Command::new("fiu-ctrl");
    let output = fiu.args(["-f", prefix, "-c", command, &pid.to_string()]).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if output.status.success() && said.trim().is_empty() {
        return Ok(());
    }
    Err(std::io::Error::other(format!("fiu-ctrl {command}: {said}")))
}
