//! XEP-0082: the DateTime profile, `2026-11-21T07:51:57.123456Z`, from and to [`SystemTime`]. No clock is read here, and
//! nothing is known of local time: what is written is UTC, what is read may have any offset.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: i64 = 86_400;
/// 0000-01-01T00:00:00Z, in seconds since the epoch of Unix.
const FIRST: i64 = -62_167_219_200;
/// 9999-12-31T23:59:59Z.
const LAST: i64 = 253_402_300_799;

/// Writes a point in time with six digits of a second. What lies outside of the years 0000 to 9999 becomes the first or
/// last that the format can express.
///
/// ```
/// # use std::time::{Duration, UNIX_EPOCH};
/// # use rookery_xmpp::datetime;
/// assert_eq!(datetime::format(UNIX_EPOCH + Duration::from_micros(1_500_000)), "1970-01-01T00:00:01.500000Z");
/// ```
pub fn format(time: SystemTime) -> String {
    let (seconds, nanos) = since_epoch(time);
    let mut text = format_civil(seconds);
    text.push_str(&format!(".{:06}Z", nanos / 1000));
    text
}

/// Writes a point in time, to the second that has begun.
pub fn format_seconds(time: SystemTime) -> String {
    let mut text = format_civil(since_epoch(time).0);
    text.push('Z');
    text
}

/// Reads a point in time; `None` if the text is not of the profile. Fractions finer than a nanosecond are cut off, a leap
/// second is the first second of the next minute.
pub fn parse(text: &str) -> Option<SystemTime> {
    let mut rest = text;
    let year = number(&mut rest, 4)?;
    literal(&mut rest, '-')?;
    let month = number(&mut rest, 2).filter(|month| (1..=12).contains(month))?;
    literal(&mut rest, '-')?;
    let day = number(&mut rest, 2).filter(|day| (1..=days_in(year, month)).contains(day))?;
    literal(&mut rest, 'T')?;
    let (hour, minute) = clock(&mut rest)?;
    literal(&mut rest, ':')?;
    let second = number(&mut rest, 2).filter(|second| *second <= 60)?;
    let nanos = fraction(&mut rest)?;
    let offset = match rest {
        "Z" => 0,
        _ => {
            let sign = if literal(&mut rest, '+').is_some() {
                1
            } else {
                literal(&mut rest, '-')?;
                -1
            };
            let (hours, minutes) = clock(&mut rest).filter(|_| rest.is_empty())?;
            sign * (hours * 60 + minutes) * 60
        }
    };
    let seconds = days_from_civil(year, month, day) * DAY + (hour * 60 + minute) * 60 + second - offset;
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let whole = if seconds < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    whole?.checked_add(Duration::from_nanos(nanos))
}

/// Exactly `digits` ASCII digits.
fn number(rest: &mut &str, digits: usize) -> Option<i64> {
    let (head, tail) = rest.split_at_checked(digits)?;
    *rest = tail;
    if head.bytes().all(|byte| byte.is_ascii_digit()) { head.parse().ok() } else { None }
}

fn literal(rest: &mut &str, c: char) -> Option<()> {
    *rest = rest.strip_prefix(c)?;
    Some(())
}

/// `hh:mm`, of a time of day or of an offset.
fn clock(rest: &mut &str) -> Option<(i64, i64)> {
    let hour = number(rest, 2).filter(|hour| *hour < 24)?;
    literal(rest, ':')?;
    let minute = number(rest, 2).filter(|minute| *minute < 60)?;
    Some((hour, minute))
}

/// `.` and any number of digits, in nanoseconds; nothing at all is 0.
fn fraction(rest: &mut &str) -> Option<u64> {
    if literal(rest, '.').is_none() {
        return Some(0);
    }
    let len = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, tail) = rest.split_at_checked(len).filter(|_| len > 0)?;
    *rest = tail;
    Some(digits.bytes().chain([b'0'; 9]).take(9).fold(0, |nanos, digit| nanos * 10 + u64::from(digit - b'0')))
}

/// Seconds, rounded down, and nanoseconds; within what the format can express.
fn since_epoch(time: SystemTime) -> (i64, u32) {
    let (seconds, nanos) = match time.duration_since(UNIX_EPOCH) {
        Ok(after) => (i64::try_from(after.as_secs()).unwrap_or(i64::MAX), after.subsec_nanos()),
        Err(error) => {
            let before = error.duration();
            let seconds = i64::try_from(before.as_secs()).map_or(i64::MIN, |seconds| -seconds);
            match before.subsec_nanos() {
                0 => (seconds, 0),
                nanos => (seconds.saturating_sub(1), 1_000_000_000 - nanos),
            }
        }
    };
    match seconds {
        ..FIRST => (FIRST, 0),
        FIRST..=LAST => (seconds, nanos),
        _ => (LAST, 999_999_999),
    }
}

fn format_civil(seconds: i64) -> String {
    let (year, month, day) = civil_from_days(seconds.div_euclid(DAY));
    let second = seconds.rem_euclid(DAY);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

const fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

const fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

// The next two count in years that begin with March, so that the leap day is the last, and in eras of 400 years, which
// all have 146,097 days (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").

/// Days since the epoch of Unix.
const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let of_era = year.rem_euclid(400) * 365 + year.rem_euclid(400) / 4 - year.rem_euclid(400) / 100 + of_year;
    year.div_euclid(400) * 146_097 + of_era - 719_468
}

const fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = days.div_euclid(146_097) * 400 + year_of_era + (month <= 2) as i64;
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64, nanos: u64) -> SystemTime {
        let whole = Duration::from_secs(seconds.unsigned_abs());
        let whole = if seconds < 0 { UNIX_EPOCH - whole } else { UNIX_EPOCH + whole };
        whole + Duration::from_nanos(nanos)
    }

    fn check(text: &str, time: SystemTime) {
        assert_eq!(parse(text), Some(time), "{text}");
    }

    #[test]
    fn known_points_in_time() {
        check("1970-01-01T00:00:00Z", at(0, 0));
        check("1969-07-21T02:56:15Z", at(-14_159_025, 0));
        check("1969-07-20T21:56:15-05:00", at(-14_159_025, 0));
        check("2026-11-21T07:51:57.123456Z", at(1_795_247_517, 123_456_000));
        check("2026-11-21T09:51:57.123456+02:00", at(1_795_247_517, 123_456_000));
        check("2026-11-21T07:51:57.1Z", at(1_795_247_517, 100_000_000));
        check("2026-11-21T07:51:57.12345678999Z", at(1_795_247_517, 123_456_789));
        check("2000-02-29T23:59:59Z", at(951_868_799, 0));
        check("2016-12-31T23:59:60Z", at(1_483_228_800, 0));
        check("0000-01-01T00:00:00Z", at(FIRST, 0));
        check("9999-12-31T23:59:59Z", at(LAST, 0));
        assert_eq!(format(at(1_795_247_517, 123_456_789)), "2026-11-21T07:51:57.123456Z");
        assert_eq!(format_seconds(at(1_795_247_517, 999_999_999)), "2026-11-21T07:51:57Z");
        assert_eq!(format(at(-1, 999_000_000)), "1969-12-31T23:59:59.999000Z");
        assert_eq!(format(at(LAST + 1, 0)), "9999-12-31T23:59:59.999999Z");
        assert_eq!(format(at(FIRST - 1, 0)), "0000-01-01T00:00:00.000000Z");
    }

    #[test]
    fn what_is_no_datetime() {
        for text in [
            "",
            "2026-11-21",
            "2026-11-21T07:51:57",
            "2026-11-21 07:51:57Z",
            "2026-11-21t07:51:57z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2026-11-21T24:00:00Z",
            "2026-11-21T07:60:00Z",
            "2026-11-21T07:51:61Z",
            "2026-11-21T07:51:57.Z",
            "2026-11-21T07:51:57.1",
            "2026-11-21T07:51:57+0200",
            "2026-11-21T07:51:57+24:00",
            "2026-11-21T07:51:57Z ",
            "2026-11-21T07:51:57+02:00Z",
            "+026-11-21T07:51:57Z",
            "20261121T07:51:57",
            "2026-11-21T07:51:5\u{e9}Z",
            "\u{661}026-11-21T07:51:57Z",
            "-2026-11-21T07:51:57Z",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(seconds in FIRST..=LAST, micros in 0..1_000_000u64) {
            let time = at(seconds, micros * 1000);
            prop_assert_eq!(parse(&format(time)), Some(time));
            prop_assert_eq!(parse(&format_seconds(time)), Some(at(seconds, 0)));
        }

        #[test]
        fn every_day_has_its_date(day in -719_528..2_932_897i64) {
            let (year, month, of_month) = civil_from_days(day);
            prop_assert!((1..=12).contains(&month) && (1..=days_in(year, month)).contains(&of_month));
            prop_assert_eq!(days_from_civil(year, month, of_month), day);
        }

        #[test]
        fn no_text_is_too_much(text in "\\PC{0,40}") {
            let _ = parse(&text);
        }
    }
}
