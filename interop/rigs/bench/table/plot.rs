//! The table as a plot: for each row, how many times the first server's cost each server takes, on a logarithmic scale.

use std::fmt::Write as _;

use super::super::median;
use super::{Row, short};

const WIDTH: f64 = 960.0;
const NAMES: f64 = 360.0;
const BAR: f64 = 11.0;
const GAP: f64 = 12.0;
const TOP: f64 = 64.0;
const COLOURS: [&str; 4] = ["#1b7f5c", "#8f6fbf", "#c9742b", "#777777"];

/// The whole file.
pub(super) fn draw(rows: &[Row], versions: &[String]) -> String {
    let most = rows.iter().flat_map(|row| ratios(row).into_iter().flatten()).fold(10.0_f64, f64::max);
    let decades = most.log10().ceil();
    let height = TOP + rows.len() as f64 * (versions.len() as f64 * BAR + GAP) + 20.0;
    let at = |ratio: f64| (ratio.log10() + 1.0).max(0.05) / (decades + 1.0) * (WIDTH - NAMES - 70.0);
    let mut out = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' font-family='sans-serif' font-size='12'>\n\
         <rect width='100%' height='100%' fill='white'/>\n\
         <text x='10' y='20' font-size='15'>Cost of the same work, as multiples of {}'s (logarithmic; shorter is cheaper)</text>\n",
        versions.first().map_or("", String::as_str)
    );
    for (place, version) in versions.iter().enumerate() {
        let x = 10.0 + place as f64 * 240.0;
        let colour = COLOURS[place % COLOURS.len()];
        line(&mut out, format!("<rect x='{x}' y='32' width='12' height='12' fill='{colour}'/>"));
        line(&mut out, format!("<text x='{}' y='43'>{version}</text>", x + 18.0));
    }
    for decade in -1..=decades as i32 {
        let (x, label) = (NAMES + at(10_f64.powi(decade)), short(10_f64.powi(decade)));
        line(&mut out, format!("<line x1='{x}' y1='{TOP}' x2='{x}' y2='{}' stroke='#ddd'/>", height - 20.0));
        line(&mut out, format!("<text x='{x}' y='{}' text-anchor='middle' fill='#666'>{label} x</text>", height - 6.0));
    }
    let mut y = TOP + 6.0;
    for row in rows {
        let middle = y + versions.len() as f64 * BAR / 2.0 + 4.0;
        line(&mut out, format!("<text x='{}' y='{middle}' text-anchor='end'>{}</text>", NAMES - 8.0, row.name));
        for (place, ratio) in ratios(row).into_iter().enumerate() {
            if let Some(ratio) = ratio {
                let (width, colour) = (at(ratio), COLOURS[place % COLOURS.len()]);
                let value = row.values[place].as_ref().map_or(f64::NAN, |values| median(values));
                let text = format!("{} {}", short(value), row.unit);
                line(
                    &mut out,
                    format!("<rect x='{NAMES}' y='{y}' width='{width:.1}' height='{}' fill='{colour}'/>", BAR - 1.0),
                );
                line(
                    &mut out,
                    format!("<text x='{:.1}' y='{}' font-size='10'>{text}</text>", NAMES + width + 4.0, y + 9.0),
                );
            }
            y += BAR;
        }
        y += GAP;
    }
    out.push_str("</svg>\n");
    out
}

fn line(out: &mut String, text: String) {
    writeln!(out, "{text}").expect("a String takes all");
}

/// Each server's cost as a multiple of the first's.
fn ratios(row: &Row) -> Vec<Option<f64>> {
    let middle = |values: &Option<Vec<f64>>| values.as_ref().map_or(f64::NAN, |values| median(values));
    let own = row.values.first().map_or(f64::NAN, middle);
    let ratio = |values| Some(middle(values) / own).filter(|ratio| ratio.is_finite() && *ratio > 0.0);
    row.values.iter().map(ratio).collect()
}
