//! The whole benchmark: each piece of work on each server in turn, several turns, so that what the machine gives at the moment
//! is shared fairly; medians, spreads and ratios as a table (Markdown), a plot (SVG), raw figures (JSON), and the servers' confs.

mod plot;

use std::fmt::Write as _;
use std::path::PathBuf;

use super::{Figure, chat, comeback, fan_out, idle, login, median, offline, ping, presence, rate, rooms};
use crate::client::Transport;
use crate::server::{Choice, Server, Setup, Subject};
use crate::{Verdict, process};

/// `rigs bench table`
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Options {
    /// The servers
    #[arg(long, value_enum, value_delimiter = ',', default_value = "rookery,prosody,ejabberd,relay")]
    beside: Vec<Subject>,
    /// Only rows whose name contains one of these
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// How often each server has its turn with each piece of work
    #[arg(long, default_value_t = 3)]
    turns: usize,
    /// What Rookery is built from, for the head of the table
    #[arg(long, default_value = "")]
    commit: String,
    /// Where to write table.md, table.svg, figures.json and confs.txt
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

/// A piece of work.
#[derive(Debug, Clone)]
struct Work {
    /// What gives its rows: the name of each, and how the figure that it is taken from begins.
    rows: &'static [(&'static str, &'static str)],
    archive: bool,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Chat(chat::Options),
    Latency,
    /// So many, with so many occupants each.
    Rooms((usize, usize)),
    Ping,
    Offline,
    Presence,
    Comeback,
    Idle(Transport),
    Login(Transport),
}

/// A line of the table: a figure of each server, by turns.
#[derive(Debug)]
struct Row {
    name: &'static str,
    unit: &'static str,
    /// By server, in the order of the table; empty where it could not do the work, none where the work is not for it.
    values: Vec<Option<Vec<f64>>>,
}

impl Work {
    /// The relay has neither logins nor archives, nothing encrypted and nothing that waits.
    fn is_for(&self, subject: Subject) -> bool {
        let bare = match &self.kind {
            Kind::Chat(chat) => chat.transport == Transport::Plain && !chat.sm,
            Kind::Idle(transport) => *transport == Transport::Plain,
            Kind::Rooms((rooms, _)) => *rooms > 1,
            Kind::Latency => true,
            _ => false,
        };
        subject != Subject::Relay || (bare && !self.archive)
    }
}

/// All that is measured, in the order of the table.
fn works() -> Vec<Work> {
    let chat = |in_flight, transport, sm| {
        Kind::Chat(chat::Options { in_flight, transport, sm, seconds: 5, ..chat::Options::default() })
    };
    let plain = |rows, kind| Work { rows, archive: false, kind };
    vec![
        plain(&[("chat, 10 in flight", "chat:")], chat(10, Transport::Plain, false)),
        plain(&[("chat over TLS, 10 in flight", "chat:")], chat(10, Transport::Direct, false)),
        plain(&[("chat, 1 in flight", "chat:")], chat(1, Transport::Plain, false)),
        plain(&[("chat with acknowledgements, 10 in flight", "chat:")], chat(10, Transport::Plain, true)),
        Work {
            rows: &[("chat with archive and acknowledgements, 10 in flight", "chat:")],
            archive: true,
            kind: chat(10, Transport::Plain, true),
        },
        plain(&[("latency at 1,000 messages a second, p50", "latency:"), ("latency, p99", "latency:")], Kind::Latency),
        plain(&[("room, 10 x 50: a delivery", "  a delivery")], Kind::Rooms((10, 50))),
        Work {
            rows: &[("room with archive, 10 x 50: a delivery", "  a delivery")],
            archive: true,
            kind: Kind::Rooms((10, 50)),
        },
        plain(&[("one room of 500: all have entered after", "  all are in")], Kind::Rooms((1, 500))),
        plain(&[("ping to the server", "ping:")], Kind::Ping),
        plain(&[("offline: a message stored", "offline: a message stored")], Kind::Offline),
        plain(&[("presence, rosters of 50: a delivery", "presence:")], Kind::Presence),
        plain(&[("comeback of 1,000 sessions at once, TLS: each", "comeback:")], Kind::Comeback),
        plain(&[("idle session: memory", "idle:")], Kind::Idle(Transport::Plain)),
        plain(&[("idle session over TLS: memory", "idle:")], Kind::Idle(Transport::Direct)),
        plain(&[("login with SCRAM", "login:")], Kind::Login(Transport::Plain)),
        plain(&[("login with SCRAM over TLS", "login:")], Kind::Login(Transport::Direct)),
    ]
}

/// Measures all of it; what one server cannot do is said, and no reason to end.
pub(super) async fn measure(bench: &super::Options, options: &Options) -> Verdict {
    let wanted = |work: &Work| {
        let named = |(name, _): &(&str, &str)| options.only.iter().any(|part| name.contains(part.as_str()));
        options.only.is_empty() || work.rows.iter().any(named)
    };
    let mut rows: Vec<Row> = Vec::new();
    let mut voids = Vec::new();
    for work in works().into_iter().filter(wanted) {
        let first = rows.len();
        rows.extend(work.rows.iter().map(|(name, _)| Row {
            name,
            unit: "",
            values: options.beside.iter().map(|&subject| work.is_for(subject).then(Vec::new)).collect(),
        }));
        for turn in 0..options.turns {
            for (place, &subject) in options.beside.iter().enumerate().filter(|(_, subject)| work.is_for(**subject)) {
                println!("-- {}, turn {}, {subject:?}", work.rows[0].0, turn + 1);
                let choice = Choice { server: subject, archive: work.archive, ..bench.server.clone() };
                let bench = super::Options { server: choice, runs: 1, ..bench.clone() };
                match perform(&bench, &work.kind).await {
                    Ok(figures) => {
                        let missing = take(&mut rows[first..], &work, place, &figures);
                        voids.extend(missing.iter().map(|row| format!("{row}, {subject:?}: no figure")));
                    }
                    Err(error) => {
                        println!("   {error}");
                        voids.push(format!("{}, {subject:?}: {error}", work.rows[0].0));
                    }
                }
            }
        }
    }
    let (mut versions, mut confs) = (Vec::new(), String::new());
    for &server in &options.beside {
        let choice = Choice { server, archive: true, ..bench.server.clone() };
        let server = Server::with(&choice, Setup { rooms: true, ..Setup::default() })?;
        versions.push(server.version());
        if let Some(conf) = server.conf()? {
            write!(confs, "# {}, with archives and rooms\n\n{}\n\n", server.version(), conf.trim())?;
        }
    }
    let table = markdown(&rows, &versions, options);
    println!("\n{confs}{table}");
    voids.iter().for_each(|void| println!("void: {void}"));
    if let Some(folder) = &options.out {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join("table.md"), &table)?;
        std::fs::write(folder.join("table.svg"), plot::draw(&rows, &versions))?;
        std::fs::write(folder.join("figures.json"), raw(&rows, &versions))?;
        std::fs::write(folder.join("confs.txt"), confs.trim_end().to_owned() + "\n")?;
        println!("written: {}", folder.display());
    }
    Ok(voids.is_empty())
}

async fn perform(bench: &super::Options, kind: &Kind) -> Result<Vec<Figure>, Box<dyn std::error::Error>> {
    let mut figures = Vec::new();
    match kind {
        Kind::Chat(chat) => drop(chat::measure(bench, chat, &mut figures).await?),
        Kind::Latency => rate::measure(bench, &rate::Options::default(), &mut figures).await?,
        Kind::Rooms((rooms, occupants)) if bench.server.server == Subject::Relay => {
            fan_out::measure(bench, (*rooms, *occupants), &mut figures).await?;
        }
        Kind::Rooms((rooms, occupants)) => {
            rooms::measure(bench, &rooms::Options::of(*rooms, *occupants), &mut figures).await?
        }
        Kind::Ping => ping::measure(bench, &ping::Options::default(), &mut figures).await?,
        Kind::Offline => offline::measure(bench, &offline::Options::default(), &mut figures).await?,
        Kind::Presence => presence::measure(bench, &presence::Options::default(), &mut figures).await?,
        Kind::Comeback => comeback::measure(bench, &comeback::Options::default(), &mut figures).await?,
        Kind::Idle(transport) => idle::measure(bench, &idle::Options::of(5000, *transport), &mut figures).await?,
        Kind::Login(transport) => login::measure(bench, &login::Options::over(*transport), &mut figures).await?,
    }
    Ok(figures)
}

/// Puts the figures of a turn into their rows. Gives the rows for which there is none.
fn take(rows: &mut [Row], work: &Work, place: usize, figures: &[Figure]) -> Vec<&'static str> {
    let mut figures = figures.iter();
    let mut missing = Vec::new();
    for (row, (_, begins)) in rows.iter_mut().zip(work.rows) {
        let figure = figures.find(|figure| figure.what.starts_with(begins));
        match figure.map(|figure| (figure.unit, median(&figure.values))).filter(|(_, middle)| middle.is_finite()) {
            Some((unit, middle)) => {
                row.unit = unit;
                row.values[place].get_or_insert_default().push(middle);
            }
            None => missing.push(row.name),
        }
    }
    missing
}

fn markdown(rows: &[Row], versions: &[String], options: &Options) -> String {
    let turns = options.turns;
    let said = match turns {
        1 => "One turn".to_owned(),
        turns => format!("Medians of {turns} turns (lowest to highest)"),
    };
    let commit = match options.commit.as_str() {
        "" => String::new(),
        commit => format!(", built from {commit}"),
    };
    let mut out = format!(
        "{}{commit}. {said}. CPU of the server, for one message that is delivered or stored, one delivery, one ping, one \
         session, or one login; bodies of 50 bytes, in rooms 100.\n\n| |",
        process::machine()
    );
    versions.iter().for_each(|version| write!(out, " {version} |").expect("a String takes all"));
    out.push_str(" the others, as multiples of the first |\n|---|");
    out.push_str(&"---|".repeat(versions.len() + 1));
    for row in rows {
        write!(out, "\n| {} |", row.name).expect("a String takes all");
        for values in &row.values {
            let cell = values.as_ref().map_or_else(|| "–".into(), |values| cell(values, row.unit, turns));
            out.push_str(&format!(" {cell} |"));
        }
        out.push_str(&format!(" {} |", ratios(&row.values)));
    }
    out.push('\n');
    out
}

fn cell(values: &[f64], unit: &str, turns: usize) -> String {
    if values.is_empty() {
        return "void".into();
    }
    let void = match turns.saturating_sub(values.len()) {
        0 => String::new(),
        some => format!(", {some} of {turns} void"),
    };
    let (low, high) = values.iter().fold((f64::MAX, f64::MIN), |(low, high), &value| (low.min(value), high.max(value)));
    let spread = match turns {
        1 => String::new(),
        _ => format!(" ({} to {}{void})", short(low), short(high)),
    };
    format!("{} {unit}{spread}", short(median(values)))
}

/// How many times the first server's figure each other's is.
fn ratios(values: &[Option<Vec<f64>>]) -> String {
    let middle = |values: &Option<Vec<f64>>| Some(median(values.as_ref()?)).filter(|middle| middle.is_finite());
    let Some(own) = values.first().and_then(middle).filter(|own| *own > 0.0) else { return String::new() };
    let others = values.iter().skip(1);
    let ratio = |values| middle(values).map_or_else(|| "–".into(), |other| format!("{} x", short(other / own)));
    others.map(ratio).collect::<Vec<_>>().join(", ")
}

/// Three figures that say something.
fn short(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn raw(rows: &[Row], versions: &[String]) -> String {
    let rows: Vec<_> =
        rows.iter().map(|row| serde_json::json!({"work": row.name, "unit": row.unit, "values": row.values})).collect();
    format!("{:#}\n", serde_json::json!({"machine": process::machine(), "servers": versions, "rows": rows}))
}
