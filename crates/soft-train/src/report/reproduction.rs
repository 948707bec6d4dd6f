//! The page of a reproduced table: arms beside published figures, learning curves, beliefs against
//! the truth, controls, samples.

use super::markup::{details, escape, percent, table};
use super::row::key;
use super::svg::{Column, Guide, HeatMap, LinePlot, Series, whiskers};
use crate::reproduce::{CellResults, Heat, Results, Table, computed, markdown};
use crate::results::thousands;

/// Colours of the page's lines.
const COLORS: usize = 6;

/// The sections of the page.
pub(super) fn sections(of: &Table, results: &Results) -> String {
    let section = |title: &str, content: String| match content.is_empty() {
        true => String::new(),
        false => format!("<section><h2>{}</h2>\n{content}</section>\n", escape(title)),
    };
    let paragraph = |text: &str| format!("<p>{}</p>\n", escape(&text.replace('`', "")));
    let page = markdown(of, results);
    let verdict = page.lines().nth(2).unwrap_or_default();
    let mut html = section("Verdict", paragraph(verdict));
    html += &section("Arms", arms(results));
    html += &section("Controls", controls(results));
    html += &section("Learning curves", curves(results, "right answers", |unit| &unit.curve));
    html += &section("One pass against many samples", samples(results));
    html += &section("At equal forward tokens", compute(results));
    html += &section("Belief against truth", beliefs(results));
    html += &section(
        "What is claimed, and how it was tried",
        paragraph(of.claim) + &paragraph(of.method),
    );
    html += &section(
        "Again",
        format!(
            "<pre>{}</pre>\n<p>Revision {}, {}; {:.0} minutes of training in all.</p>\n",
            escape(&results.command),
            escape(&results.revision),
            escape(&results.machine),
            results.seconds / 60.0
        ),
    );
    html
}

/// The arms with their intervals over seeds; a line marks the published figure.
fn arms(results: &Results) -> String {
    let row = |cell: &CellResults| {
        let around = cell.interval.unwrap_or([cell.mean, cell.mean]);
        let first = &cell.units[0];
        let seconds: f64 = cell.units.iter().map(|unit| unit.seconds[0]).sum();
        vec![
            format!("{}<br><small>{}</small>", escape(&cell.label), escape(&cell.name)),
            percent(cell.mean),
            whiskers(cell.mean, around, 1.0, cell.published),
            cell.published.map_or_else(|| "–".into(), |figure| format!("{:.2} %", 100.0 * figure)),
            cell.units.len().to_string(),
            thousands(first.steps as u64),
            format!("{:.0}", seconds / cell.units.len() as f64),
            first.learning_rate.to_string(),
            thousands(first.parameters),
        ]
    };
    let head = [
        "arm",
        "right",
        "95 % over seeds; line: published",
        "published",
        "seeds",
        "steps",
        "seconds each",
        "learning rate",
        "parameters",
    ];
    table(&head, &results.cells.iter().map(row).collect::<Vec<_>>(), "arms")
}

/// Differences under the controls.
fn controls(results: &Results) -> String {
    let mut rows = Vec::new();
    for cell in &results.cells {
        for own in &cell.controls {
            let points = |share: f64| format!("{:+.1}", 100.0 * share);
            rows.push(vec![
                escape(&cell.name),
                own.what().to_owned(),
                percent(own.mean),
                points(own.difference),
                format!("{} to {}", points(own.interval[0]), points(own.interval[1])),
            ]);
        }
    }
    match rows.is_empty() {
        true => String::new(),
        false => table(
            &["model", "control", "right", "difference, points", "95 %, paired by problem"],
            &rows,
            "controls",
        ),
    }
}

type Curve<'a> = &'a Vec<(u64, f64)>;

/// One line a cell: the mean over its seeds.
fn curves(
    results: &Results,
    what: &str,
    of: impl Fn(&crate::reproduce::UnitResult) -> Curve<'_>,
) -> String {
    let mut html = String::new();
    // A plot of more lines than there are colours says nothing.
    for cells in results.cells.chunks(COLORS) {
        let mut series = Vec::new();
        let mut names = Vec::new();
        for (color, cell) in cells.iter().enumerate() {
            let first = of(&cell.units[0]);
            let mean = |step: u64| {
                let at = |unit| of(unit).iter().find(|point| point.0 == step).map(|own| own.1);
                let found: Vec<f64> = cell.units.iter().filter_map(at).collect();
                found.iter().sum::<f64>() / found.len().max(1) as f64
            };
            let points: Vec<(f64, Option<f64>)> =
                first.iter().map(|&(step, _)| (step as f64, Some(mean(step)))).collect();
            if !points.is_empty() {
                series.push(Series { color, points });
                names.push((color, cell.name.as_str()));
            }
        }
        let description = format!("{what} over steps, mean over seeds");
        let plot = LinePlot { description: description.clone(), series, ..LinePlot::default() };
        if let Some(svg) = plot.svg() {
            html += &figure(&description, &names, &svg);
        }
    }
    html
}

fn figure(title: &str, names: &[(usize, &str)], svg: &str) -> String {
    let legend: Vec<String> =
        names.iter().map(|(color, name)| format!("{} {}", key(*color), escape(name))).collect();
    format!(
        "<figure><figcaption><b>{}</b> <span class=\"legend\">{}</span></figcaption>{svg}</figure>\n",
        escape(title),
        legend.join(" ")
    )
}

/// pass@k and majority@k of the sampled chains, with one soft pass as a line.
fn samples(results: &Results) -> String {
    let is_sampled = |cell: &&CellResults| !cell.units[0].measured.sampled.is_empty();
    let Some(cell) = results.cells.iter().find(is_sampled) else { return String::new() };
    let soft = results.cells.iter().find(|cell| !cell.controls.is_empty());
    let mut html = String::new();
    for (place, sampled) in cell.units[0].measured.sampled.iter().enumerate() {
        let mean = |of: fn(&crate::reproduce::Sampled) -> &Vec<f64>, k: usize| {
            let all = cell.units.iter().map(|unit| of(&unit.measured.sampled[place])[k]);
            all.sum::<f64>() / cell.units.len() as f64
        };
        let line = |color, of: fn(&crate::reproduce::Sampled) -> &Vec<f64>| Series {
            color,
            points: (0..sampled.pass.len()).map(|k| ((k + 1) as f64, Some(mean(of, k)))).collect(),
        };
        let plot = LinePlot {
            description: format!("right answers over k at temperature {}", sampled.temperature),
            series: vec![line(0, |own| &own.pass), line(1, |own| &own.majority)],
            guides: soft
                .map(|soft| Guide { value: soft.mean, text: "one soft pass".into() })
                .into_iter()
                .collect(),
            ..LinePlot::default()
        };
        if let Some(svg) = plot.svg() {
            let title = format!(
                "Temperature {}: right answers over k; the level line is one soft pass.",
                sampled.temperature
            );
            html += &figure(&title, &[(0, "pass@k"), (1, "majority@k")], &svg);
        }
    }
    html
}

/// Accuracy over forward tokens, a line a way of thinking; what needs an oracle is left out.
fn compute(results: &Results) -> String {
    let points = computed(results);
    let mut methods: Vec<&str> = Vec::new();
    for point in points.iter().filter(|point| !point.method.contains("oracle")) {
        if !methods.contains(&point.method.as_str()) {
            methods.push(&point.method);
        }
    }
    let mut html = String::new();
    for methods in methods.chunks(COLORS) {
        let line = |(color, method): (usize, &&str)| {
            let own = points.iter().filter(|point| point.method == **method);
            let mut points: Vec<(f64, Option<f64>)> =
                own.map(|point| (point.tokens, Some(point.accuracy))).collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            Series { color, points }
        };
        let plot = LinePlot {
            description: "right answers over forward tokens a problem".into(),
            series: methods.iter().enumerate().map(line).collect(),
            ..LinePlot::default()
        };
        let names: Vec<(usize, &str)> = methods.iter().copied().enumerate().collect();
        if let Some(svg) = plot.svg() {
            html += &figure("Right answers over forward tokens a problem.", &names, &svg);
        }
    }
    html
}

/// Divergence over training and by step, and maps of belief beside truth.
fn beliefs(results: &Results) -> String {
    let mut html =
        curves(results, "KL of the truth from the belief, nats", |unit| &unit.belief_curve);
    for cell in &results.cells {
        let maps: String = cell.units[0].measured.heat.iter().map(side_by_side).collect();
        if !maps.is_empty() {
            let summary = format!("{}: belief beside truth, problem by problem", cell.name);
            html += &details(&summary, &maps, cell.name == results.cells[0].name);
        }
    }
    html
}

/// Two maps with the same rows.
fn side_by_side(heat: &Heat) -> String {
    let mut tokens: Vec<&str> = Vec::new();
    for (token, _) in heat.truth.iter().chain(&heat.belief).flatten() {
        if !tokens.contains(&token.as_str()) {
            tokens.push(token);
        }
    }
    tokens.sort_by_key(|token| {
        let number: String = token.chars().filter(|c| c.is_ascii_digit() || *c == '-').collect();
        number.parse::<i64>().unwrap_or(i64::MAX)
    });
    let map = |what: &str, steps: &[Vec<(String, f64)>]| {
        let columns = steps.iter().enumerate().map(|(step, entries)| {
            let cell = |(token, weight): &(String, f64)| {
                Some((tokens.iter().position(|own| own == token)?, *weight))
            };
            let mut cells: Vec<(usize, f64)> = entries.iter().filter_map(cell).collect();
            cells.sort_unstable_by_key(|cell| cell.0);
            Column { head: format!("step {}", step + 1), cells, ..Column::default() }
        });
        HeatMap {
            description: format!("{what} at each step of {}", heat.prompt),
            rows: tokens.iter().map(|token| (*token).to_owned()).collect(),
            columns: columns.collect(),
            first: 0,
            room: 34,
        }
        .svg()
    };
    format!(
        "<figure><figcaption><b>{}</b>, answer {}. Left the belief of the thoughts, right the \
         truth.</figcaption><div class=\"pair\">{}{}</div></figure>\n",
        escape(&heat.prompt),
        escape(&heat.answer),
        map("belief", &heat.belief),
        map("truth", &heat.truth)
    )
}
