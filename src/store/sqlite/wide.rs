//! Wide statements: one text for up to 1, 8, 64 or 512 rows, prepared once each.
//!
//! A statement that gets fewer rows than it has places for leaves the others NULL, and its text passes over rows that begin
//! with NULL. So any number of rows costs few statements, each of which is a trip to the connection's thread and back.

use std::sync::Arc;

use sqlx::error::BoxDynError;
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{Arguments, Row, query_with};

use crate::health::Outcome;

/// The values of a statement's rows.
#[derive(Default)]
pub(super) struct Values {
    arguments: SqliteArguments,
    error: Option<BoxDynError>,
}

impl Values {
    /// The next value is this number, or nothing.
    pub(super) fn number(&mut self, value: impl Into<Option<i64>>) -> &mut Self {
        self.add(|arguments| arguments.add(value.into()))
    }

    /// The next value is this text, or nothing.
    pub(super) fn text<'a>(&mut self, value: impl Into<Option<&'a str>>) -> &mut Self {
        self.add(|arguments| arguments.add(value.into().map(Arc::<str>::from)))
    }

    /// The next value are these bytes.
    pub(super) fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.add(|arguments| arguments.add(value.to_vec()))
    }

    fn add(&mut self, add: impl FnOnce(&mut SqliteArguments) -> Result<(), BoxDynError>) -> &mut Self {
        if let Err(error) = add(&mut self.arguments) {
            self.error.get_or_insert(error);
        }
        self
    }

    /// The values of some rows, each filled in by `fill`.
    fn of<T>(rows: &[T], fill: impl Fn(&mut Self, &T)) -> Result<SqliteArguments, sqlx::Error> {
        let mut values = Self::default();
        for row in rows {
            fill(&mut values, row);
        }
        values.error.map_or(Ok(values.arguments), |error| Err(sqlx::Error::Encode(error)))
    }
}

/// The same statement for 1, 8, 64 and 512 rows.
pub(super) type Wide = [&'static str; 4];

macro_rules! rows_8 {
    ($row:expr) => {
        concat!($row, ", ", $row, ", ", $row, ", ", $row, ", ", $row, ", ", $row, ", ", $row, ", ", $row)
    };
}

/// What stands before the rows, one row, and what stands behind them.
macro_rules! wide {
    ($before:expr, $row:literal, $after:expr) => {
        [
            concat!($before, $row, $after),
            concat!($before, crate::sqlite::wide::rows_8!($row), $after),
            concat!($before, crate::sqlite::wide::rows_8!(crate::sqlite::wide::rows_8!($row)), $after),
            concat!(
                $before,
                crate::sqlite::wide::rows_8!(crate::sqlite::wide::rows_8!(crate::sqlite::wide::rows_8!($row))),
                $after
            ),
        ]
    };
}

pub(super) use {rows_8, wide};

/// Runs a statement for all rows.
pub(super) async fn run<T>(
    on: &mut SqliteConnection,
    texts: &Wide,
    mut rows: &[T],
    fill: impl Fn(&mut Values, &T),
) -> Outcome<()> {
    while let Some((text, part, rest)) = split(texts, rows) {
        query_with(text, Values::of(part, &fill)?).execute(&mut *on).await?;
        rows = rest;
    }
    Ok(())
}

/// What a statement finds for all rows: pairs of numbers, which it gives as one text, since each row of a result is a trip
/// between threads as well.
pub(super) async fn read<T>(
    on: &mut SqliteConnection,
    texts: &Wide,
    mut rows: &[T],
    fill: impl Fn(&mut Values, &T),
) -> Outcome<Vec<(usize, i64)>> {
    let mut found = Vec::with_capacity(rows.len());
    while let Some((text, part, rest)) = split(texts, rows) {
        let row = query_with(text, Values::of(part, &fill)?).fetch_one(&mut *on).await?;
        let numbers: Option<String> = row.try_get(0)?;
        let mut numbers = numbers.as_deref().unwrap_or_default().split(' ');
        while let (Some(place), Some(number)) = (numbers.next(), numbers.next()) {
            if let (Ok(place), Ok(number)) = (place.parse(), number.parse()) {
                found.push((place, number));
            }
        }
        rows = rest;
    }
    Ok(found)
}

/// The statement for the next rows, these, and those behind them.
fn split<'a, T>(texts: &Wide, rows: &'a [T]) -> Option<(&'static str, &'a [T], &'a [T])> {
    let [one, few, many, most] = *texts;
    let text = match rows.len() {
        0 => return None,
        1 => one,
        2..=8 => few,
        9..=64 => many,
        _ => most,
    };
    let (part, rest) = rows.split_at(rows.len().min(512));
    Some((text, part, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_rows_is_made_of_few_statements() {
        const TEXTS: Wide = wide!("", "?", "");
        for (count, wanted) in
            [(0, vec![]), (1, vec![1]), (2, vec![8]), (9, vec![64]), (65, vec![512]), (1025, vec![512, 512, 1])]
        {
            let rows = vec![0; count];
            let (mut rest, mut widths, mut taken) = (rows.as_slice(), Vec::new(), 0);
            while let Some((text, part, behind)) = split(&TEXTS, rest) {
                widths.push(text.matches('?').count());
                taken += part.len();
                rest = behind;
            }
            assert_eq!((widths, taken), (wanted, count));
        }
    }
}
