//! The values that options take: periods, sizes, counts and secrets. Their types say their bounds, so that an option's
//! name, default and limits are read in one place.

use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};

/// A period written as `"10 minutes"`, between `MIN` and `MAX` seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period<const MIN: u64 = 0, const MAX: u64 = { 100 * 365 * 86_400 }>(Duration);

impl<const MIN: u64, const MAX: u64> Period<MIN, MAX> {
    /// So many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// So many minutes.
    pub const fn minutes(minutes: u64) -> Self {
        Self::seconds(minutes * 60)
    }

    /// So many hours.
    pub const fn hours(hours: u64) -> Self {
        Self::minutes(hours * 60)
    }

    /// So many days.
    pub const fn days(days: u64) -> Self {
        Self::hours(days * 24)
    }

    /// The period.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl<const MIN: u64, const MAX: u64> From<Period<MIN, MAX>> for Duration {
    fn from(period: Period<MIN, MAX>) -> Self {
        period.0
    }
}

impl<const MIN: u64, const MAX: u64> fmt::Display for Period<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Period<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read<const MIN: u64, const MAX: u64>;
        impl<const MIN: u64, const MAX: u64> Visitor<'_> for Read<MIN, MAX> {
            type Value = Period<MIN, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let (min, max) = (Duration::from_secs(MIN), Duration::from_secs(MAX));
                let (min, max) = (humantime::format_duration(min), humantime::format_duration(max));
                write!(f, "a period such as \"10 minutes\" (from {min} to {max})")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                match humantime::parse_duration(text) {
                    Ok(period) if period >= Duration::from_secs(MIN) && period <= Duration::from_secs(MAX) => {
                        Ok(Period(period))
                    }
                    Ok(period) => {
                        let found = humantime::format_duration(period).to_string();
                        Err(E::invalid_value(Unexpected::Other(&found), &self))
                    }
                    Err(_) => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_str(Read)
    }
}

/// A size written as `"256 KiB"`, between `MIN` and `MAX` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size<const MIN: usize = 0, const MAX: usize = { 1 << 40 }>(usize);

/// The units of sizes, the largest first.
const UNITS: [(&str, usize); 7] = [
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1000),
    ("B", 1),
];

impl<const MIN: usize, const MAX: usize> Size<MIN, MAX> {
    /// So many bytes.
    pub const fn bytes(bytes: usize) -> Self {
        Self(bytes)
    }

    /// So many KiB.
    pub const fn kib(kib: usize) -> Self {
        Self(kib << 10)
    }

    /// So many MiB.
    pub const fn mib(mib: usize) -> Self {
        Self(mib << 20)
    }

    /// The size in bytes.
    pub const fn get(self) -> usize {
        self.0
    }
}

/// A size in the largest binary unit that needs no fraction.
fn write_size(bytes: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let binary = UNITS.iter().filter(|(name, _)| *name == "B" || name.ends_with("iB"));
    match binary.into_iter().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit)) {
        Some((name, unit)) => write!(f, "{} {name}", bytes / unit),
        None => write!(f, "{bytes} B"),
    }
}

struct ShowSize(usize);

impl fmt::Display for ShowSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_size(self.0, f)
    }
}

fn parse_size(text: &str) -> Option<usize> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(digits)?;
    let unit = unit.trim();
    let (_, unit) = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    number.parse::<usize>().ok()?.checked_mul(*unit)
}

impl<const MIN: usize, const MAX: usize> fmt::Display for Size<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_size(self.0, f)
    }
}

impl<'de, const MIN: usize, const MAX: usize> Deserialize<'de> for Size<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read<const MIN: usize, const MAX: usize>;
        impl<const MIN: usize, const MAX: usize> Visitor<'_> for Read<MIN, MAX> {
            type Value = Size<MIN, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a size such as \"256 KiB\" (from {} to {})", ShowSize(MIN), ShowSize(MAX))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                match parse_size(text) {
                    Some(bytes) if (MIN..=MAX).contains(&bytes) => Ok(Size(bytes)),
                    Some(bytes) => Err(E::invalid_value(Unexpected::Other(&ShowSize(bytes).to_string()), &self)),
                    None => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_str(Read)
    }
}

/// A whole number between `MIN` and `MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Count<const MIN: u32 = 0, const MAX: u32 = { u32::MAX }>(u32);

impl<const MIN: u32, const MAX: u32> Count<MIN, MAX> {
    /// This number.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The number as a length.
    pub const fn len(self) -> usize {
        self.0 as usize
    }

    /// Whether it is zero.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl<const MIN: u32, const MAX: u32> fmt::Display for Count<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Count<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read<const MIN: u32, const MAX: u32>;
        impl<const MIN: u32, const MAX: u32> Visitor<'_> for Read<MIN, MAX> {
            type Value = Count<MIN, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a whole number from {MIN} to {MAX}")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
                match u32::try_from(number) {
                    Ok(number) if (MIN..=MAX).contains(&number) => Ok(Count(number)),
                    _ => Err(E::invalid_value(Unexpected::Unsigned(number), &self)),
                }
            }
        }
        deserializer.deserialize_u64(Read)
    }
}

/// A password, token, or an address that may hold one: never printed, neither in errors nor by `Debug`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. Whoever takes it keeps it out of logs and errors.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

/// Reads a string by its `FromStr`, saying what is expected and never what was found.
struct Parsed<T> {
    expected: &'static str,
    parsed: PhantomData<T>,
}

impl<T: FromStr> Visitor<'_> for Parsed<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
    }
}

pub(super) fn parsed<'de, T: FromStr, D: Deserializer<'de>>(
    deserializer: D,
    expected: &'static str,
) -> Result<T, D::Error> {
    deserializer.deserialize_str(Parsed { expected, parsed: PhantomData })
}

pub(super) fn socket_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    parsed(deserializer, "an address with a port such as \"[::]:5222\" or \"192.0.2.1:5222\"")
}

/// An address with a port.
struct Socket(SocketAddr);

impl FromStr for Socket {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl<'de> Deserialize<'de> for Socket {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer, "addresses with ports such as \"192.0.2.1:5269\" or \"[2001:db8::1]:5269\"")
    }
}

pub(super) fn socket_addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
    Ok(Vec::<Socket>::deserialize(deserializer)?.into_iter().map(|socket| socket.0).collect())
}

/// A file or folder that is named, not empty.
pub(super) fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    struct Read;
    impl Visitor<'_> for Read {
        type Value = PathBuf;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the name of a file or folder")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<PathBuf, E> {
            if text.is_empty() { Err(E::invalid_value(Unexpected::Str(text), &self)) } else { Ok(text.into()) }
        }
    }
    deserializer.deserialize_str(Read)
}

pub(super) fn some_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    path(deserializer).map(Some)
}

/// A range of addresses, or one address.
struct Range(IpNet);

impl FromStr for Range {
    type Err = ipnet::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().or_else(|error| text.parse::<std::net::IpAddr>().map(IpNet::from).map_err(|_| error)).map(Self)
    }
}

impl<'de> Deserialize<'de> for Range {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer, "address ranges such as \"192.0.2.0/24\" or \"2001:db8::/32\"")
    }
}

pub(super) fn ranges<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    Ok(Vec::<Range>::deserialize(deserializer)?.into_iter().map(|range| range.0).collect())
}
