//! The belief heat maps of a row: which tokens had weight, step by step.

use std::collections::{BTreeMap, HashMap};

use super::markup::{details, escape, token_label, weight};
use super::svg::{BOUNDS, Column, HeatMap};
use super::trace::{Step, Trace};

/// Steps in one map.
const BAND: usize = 200;
/// Rows of a map for tokens of their own; one more is for all others.
const TOKENS: usize = 24;
/// Rows in maps of long traces.
const TOKENS_IN_BANDS: usize = 16;
/// Maps that are shown at once; the others open on a click.
const OPEN_BANDS: usize = 2;
/// Entries that the pointer is told.
const HINT: usize = 6;
/// The pointer is told nothing in maps of longer traces, where the text tells it.
const HINTED_STEPS: usize = 400;

/// The maps, with what explains them.
pub(super) fn figure(row: &Trace) -> String {
    if row.steps.iter().all(|step| step.weights().is_empty()) {
        return String::new();
    }
    let several = row.steps.len() > BAND;
    let (mut shown, mut folded) = (String::new(), String::new());
    for (number, band) in row.steps.chunks(BAND).enumerate() {
        let map = heat_map(row, band, number * BAND, several).svg();
        let to = if number < OPEN_BANDS { &mut shown } else { &mut folded };
        to.push_str(&format!("<div class=\"wide\">{map}</div>\n"));
    }
    if !folded.is_empty() {
        let summary = format!("Steps {} to {}", OPEN_BANDS * BAND, row.steps.len() - 1);
        folded = details(&summary, &folded, false);
    }
    format!(
        "<figure><figcaption><b>Belief, step by step.</b> Each column is a step, each row one of \
         the tokens that had most weight where the model was undecided, in the order in which they \
         mattered; the last row has the sum of the other tokens recorded. Soft steps show the \
         weights fed back, hard steps what the model believed. A frame marks the token put out, \
         a triangle below a step an event.{}</figcaption>{shown}{folded}</figure>\n",
        legend(row)
    )
}

/// The scale of colours.
fn legend(row: &Trace) -> String {
    let mut scale = String::new();
    for (level, bound) in BOUNDS.iter().enumerate() {
        scale.push_str(&format!(
            "<span class=\"step\"><span class=\"swatch b{level}\"></span>{bound}</span> "
        ));
    }
    let negative = row.steps.iter().flat_map(Step::weights).any(|entry| entry.value() < 0.0);
    let negative = match negative {
        true => "<span class=\"swatch bn\"></span>below 0",
        false => "",
    };
    format!(" <span class=\"legend\">Weight at least: {scale}{negative}</span>")
}

fn heat_map(row: &Trace, band: &[Step], first: usize, several: bool) -> HeatMap {
    let tokens = chosen_tokens(band, if several { TOKENS_IN_BANDS } else { TOKENS });
    let rows: HashMap<u32, usize> =
        tokens.iter().enumerate().map(|(number, (id, _))| (*id, number)).collect();
    let mut labels: Vec<String> = tokens.iter().map(|(_, label)| label.clone()).collect();
    let others = labels.len();
    let mut any_others = false;
    let hinted = row.steps.len() <= HINTED_STEPS;
    let columns = band.iter().map(|step| {
        let mut cells: BTreeMap<usize, f64> = BTreeMap::new();
        for entry in step.weights() {
            let place = rows.get(&entry.0).copied().unwrap_or(others);
            any_others |= place == others && entry.value().abs() >= BOUNDS[0];
            *cells.entry(place).or_default() += entry.value();
        }
        Column {
            head: token_label(step.token_id, step.token.as_deref()),
            cells: cells.into_iter().collect(),
            chosen: rows.get(&step.token_id).copied(),
            hint: if hinted { hint(step, HINT) } else { String::new() },
            marked: step.event.is_some(),
        }
    });
    let mut columns: Vec<Column> = columns.collect();
    if any_others {
        labels.push("other tokens".into());
    } else {
        columns.iter_mut().for_each(|column| column.cells.retain(|(place, _)| *place != others));
    }
    let last = first + band.len().saturating_sub(1);
    let description = format!(
        "Heat map of token weights, steps {first} to {last}, for the tokens {}",
        labels.join(", ")
    );
    let room = if several { BAND } else { band.len() };
    HeatMap { description, rows: labels, columns, first, room }
}

/// What a step fed or believed, an entry a line; not yet escaped.
pub(super) fn hint(step: &Step, entries: usize) -> String {
    let lines = step.weights().iter().take(entries).map(|entry| {
        format!("{} {}", weight(entry.value()), token_label(entry.0, entry.1.as_deref()))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// At most `most` tokens, by how much weight they had where others had some too, and in the order
/// of the step at which they had most. A token that was certain needs no row unless one is free:
/// the text shows it.
fn chosen_tokens(band: &[Step], most: usize) -> Vec<(u32, String)> {
    struct Seen {
        disputed: f64,
        total: f64,
        peak: f64,
        peak_at: usize,
        label: String,
    }
    let mut tokens: BTreeMap<u32, Seen> = BTreeMap::new();
    for (at, step) in band.iter().enumerate() {
        for entry in step.weights() {
            // Weights of a contrast lie outside 0 to 1; a share of 1 is all that counts here.
            let share = entry.value().abs().min(1.0);
            if share < BOUNDS[0] {
                continue;
            }
            let seen = tokens.entry(entry.0).or_insert_with(|| Seen {
                disputed: 0.0,
                total: 0.0,
                peak: 0.0,
                peak_at: at,
                label: token_label(entry.0, entry.1.as_deref()),
            });
            seen.disputed += share * (1.0 - share);
            seen.total += share;
            if share > seen.peak {
                (seen.peak, seen.peak_at) = (share, at);
            }
        }
    }
    let mut ranked: Vec<(u32, Seen)> = tokens.into_iter().collect();
    ranked.sort_by(|(_, a), (_, b)| {
        b.disputed.total_cmp(&a.disputed).then(b.total.total_cmp(&a.total))
    });
    ranked.truncate(most);
    ranked.sort_by(|(_, a), (_, b)| a.peak_at.cmp(&b.peak_at).then(b.peak.total_cmp(&a.peak)));
    ranked.into_iter().map(|(id, seen)| (id, seen.label)).collect()
}

/// The heaviest entries of a step on one line, escaped.
pub(super) fn heaviest(step: &Step, entries: usize) -> String {
    let shown = step.weights().iter().take(entries).map(|entry| {
        let label = escape(&token_label(entry.0, entry.1.as_deref()));
        format!("<bdi>{label}</bdi> {}", weight(entry.value()))
    });
    shown.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(steps: &serde_json::Value) -> Trace {
        serde_json::from_value(json!({"token_ids": [], "steps": steps})).unwrap()
    }

    #[test]
    fn disputed_tokens_go_before_certain_ones_and_lie_in_the_order_of_their_peaks() {
        let row = row(&json!([
            {"token_id": 1, "top": [[1, "sure", 1.0]]},
            {"token_id": 2, "top": [[2, "b", 0.6], [3, "a", 0.4]]},
            {"token_id": 3, "top": [[3, "a", 0.7], [2, "b", 0.3]]},
        ]));
        let labels = |most| {
            let tokens = chosen_tokens(&row.steps, most);
            tokens.into_iter().map(|(_, label)| label).collect::<Vec<_>>()
        };
        assert_eq!(labels(2), ["b", "a"]);
        assert_eq!(labels(9), ["sure", "b", "a"]);
    }

    #[test]
    fn weights_of_a_contrast_have_colors_and_a_legend() {
        let row = row(&json!([
            {"token_id": 1, "mode": "soft", "fed": [[1, "a", 1.8], [2, "b", -0.8]]},
        ]));
        let figure = figure(&row);
        assert!(figure.contains("class=\"negative\"") && figure.contains("below 0"), "{figure}");
        assert!(figure.contains("class=\"s8\""), "{figure}");
        assert!(!figure.contains("NaN"), "{figure}");
    }

    #[test]
    fn long_traces_are_cut_into_bands_of_one_scale() {
        let step = json!({"token_id": 1, "top": [[1, "a", 0.5]]});
        let figure = figure(&row(&vec![step; 950].into()));
        assert_eq!(figure.matches("class=\"heat\"").count(), 5);
        assert!(figure.contains("<summary>Steps 400 to 949</summary>"), "{figure}");
    }
}
