//! The page of `docs/results` about a table.

mod rewards;

use super::attention::EdgeKind;
use super::results::{CellResults, ControlResult, Results};
use super::table::{Place, Table};
use crate::results::thousands;

/// The page, without the paragraph that people write above it.
#[must_use]
pub fn markdown(table: &Table, results: &Results) -> String {
    let mut page = format!("# {}\n\n{}\n\n", table.title, verdict(table, results));
    page += &format!("**The claim.** {}\n\n**The trainings.** {}\n\n", table.claim, table.method);
    page += &main_table(table, results);
    page += &rewards::before_and_after(table, results);
    page += &rewards::at_equal_time(table, results);
    page += &grid(table, results);
    page += &samples(results);
    page += &compute(results);
    page += &controls(results);
    page += &beliefs(results);
    page += &attention(results);
    page += &curves(results);
    page += &format!(
        "## Again\n\n```\n{}\n```\n\nRevision {}, {}; {} of training in all, {} problems of {} kinds \
         (the others are permutations of these). Intervals are 95 %: those of accuracies over \
         seeds (Student's t), those of controls over problems, each paired with itself and \
         clustered by kind.{}\n",
        results.command,
        results.revision,
        results.machine,
        minutes(results.seconds),
        thousands(results.problems as u64),
        thousands(results.kins as u64),
        match table.source {
            "" => String::new(),
            source => format!(" Published figures: {source}."),
        }
    );
    page
}

fn minutes(seconds: f64) -> String {
    if seconds < 90.0 { format!("{seconds:.0} s") } else { format!("{:.0} min", seconds / 60.0) }
}

fn percent(share: f64) -> String {
    format!("{:.1}", 100.0 * share)
}

fn interval([low, high]: [f64; 2]) -> String {
    format!("{} to {}", percent(low), percent(high))
}

/// A table in Markdown.
fn rows(head: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut text = line(head.iter().map(|&name| name.to_owned()).collect());
    text += &line(vec!["---".to_owned(); head.len()]);
    rows.iter().for_each(|row| text += &line(row.clone()));
    text + "\n"
}

/// What was found, and what the controls do to the claim that the answers need the thoughts.
fn verdict(table: &Table, results: &Results) -> String {
    let shown = |cell: &&super::Cell| !matches!(cell.place, Place::Grid(..));
    let rows: Vec<&CellResults> =
        table.cells.iter().filter(shown).filter_map(|cell| results.cell(cell.name)).collect();
    let share = |own: &&CellResults| format!("{} {} %", own.label, percent(own.mean));
    let mut text =
        format!("Right answers: {}.", rows.iter().map(share).collect::<Vec<_>>().join("; "));
    let [there, all] = results.units;
    if there < all {
        text += &format!(" Only {there} of {all} trainings are there.");
    }
    text += &rewards::improved(table, results);
    let Some(soft) = rows.iter().find(|own| !own.controls.is_empty()) else { return text };
    let list = |keep: &dyn Fn(&ControlResult) -> bool| {
        let kept = soft.controls.iter().filter(|own| keep(own)).map(|own| {
            let [low, high] = own.interval.map(|x| 100.0 * x);
            format!(
                "{} {:+.1} points ({low:+.1} to {high:+.1})",
                own.what(),
                100.0 * own.difference
            )
        });
        kept.collect::<Vec<_>>().join(", ")
    };
    let costs = |own: &ControlResult| own.interval[1] < 0.0;
    let (hurt, spared) = (list(&costs), list(&|own| !costs(own)));
    text += &match (hurt.is_empty(), spared.is_empty()) {
        (false, true) => format!(
            " That the answers need what the thoughts hold stands: every control costs accuracy: \
             {hurt}."
        ),
        (true, _) => format!(
            " That the answers need what the thoughts hold is not shown: no control has an effect \
             that the problems can tell from none: {spared}."
        ),
        (false, false) => format!(
            " That the answers need what the thoughts hold stands in part: accuracy falls with \
             {hurt}; no effect is shown of {spared}."
        ),
    };
    text
}

fn published(cell: &CellResults) -> String {
    cell.published.map_or_else(|| "–".to_owned(), |figure| format!("{:.2}", 100.0 * figure))
}

fn main_table(table: &Table, results: &Results) -> String {
    let row = |cell: &super::Cell| {
        let own = results.cell(cell.name)?;
        let first = own.units.first()?;
        let seconds: Vec<f64> = own.units.iter().map(|unit| unit.seconds[0]).collect();
        let preferred: Vec<f64> = own
            .units
            .iter()
            .filter(|unit| !unit.measured.preferred.is_empty())
            .map(|unit| super::unit::share(&unit.measured.preferred))
            .collect();
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
        Some(vec![
            own.label.clone(),
            percent(own.mean),
            own.interval.map_or_else(|| "–".to_owned(), interval),
            published(own),
            own.units.len().to_string(),
            thousands(first.steps as u64),
            format!("{:.0}", mean(&seconds)),
            format!("{}", first.learning_rate),
            thousands(first.parameters),
            if preferred.is_empty() { "–".into() } else { percent(mean(&preferred)) },
        ])
    };
    let found: Vec<Vec<String>> = table
        .cells
        .iter()
        .filter(|cell| !matches!(cell.place, Place::Grid(..)))
        .filter_map(row)
        .collect();
    let mut head = vec![
        "arm",
        "right, %",
        "95 %",
        "published, %",
        "seeds",
        "steps",
        "seconds each",
        "learning rate",
        "parameters",
        "right over its rival, %",
    ];
    let mut found = found;
    if found.iter().all(|row| row.last().is_some_and(|cell| cell == "–")) {
        head.pop();
        found.iter_mut().for_each(|row| drop(row.pop()));
    }
    rows(&head, &found)
}

fn grid(table: &Table, results: &Results) -> String {
    let place = |cell: &super::Cell| match cell.place {
        Place::Row => None,
        Place::Grid(row, column) | Place::Both(row, column) => Some((row, column)),
    };
    let mut sides: [Vec<&str>; 2] = [Vec::new(), Vec::new()];
    for (row, column) in table.cells.iter().filter_map(place) {
        for (side, name) in sides.iter_mut().zip([row, column]) {
            if !side.contains(&name) {
                side.push(name);
            }
        }
    }
    let [names, columns] = sides;
    if names.is_empty() {
        return String::new();
    }
    let at = |row: &str, column: &str| {
        let cell = table.cells.iter().find(|cell| place(cell) == Some((row, column)))?;
        let own = results.cell(cell.name)?;
        let within = own.interval.map_or_else(String::new, |own| format!(" ({})", interval(own)));
        Some(format!("{}{within}; published {}", percent(own.mean), published(own)))
    };
    let line = |&row: &&str| {
        let cells = columns.iter().map(|column| at(row, column).unwrap_or_else(|| "–".into()));
        std::iter::once(row.to_owned()).chain(cells).collect::<Vec<_>>()
    };
    let head: Vec<&str> = std::iter::once("").chain(columns.iter().copied()).collect();
    let body: Vec<Vec<String>> = names.iter().map(line).collect();
    format!("## Budget by width\n\n{}", rows(&head, &body))
}

/// Published pass@k of a discrete chain at three temperatures, k from 1 (CoT2).
const PUBLISHED_PASS: [(f64, [f64; 14]); 3] = [
    (
        0.4,
        [
            37.49, 50.15, 57.27, 61.99, 65.38, 67.82, 69.53, 71.14, 72.94, 74.12, 75.70, 76.19,
            77.04, 77.85,
        ],
    ),
    (
        0.8,
        [
            33.28, 50.91, 61.80, 70.27, 75.17, 78.48, 81.48, 83.46, 85.91, 87.49, 88.42, 89.44,
            90.43, 91.61,
        ],
    ),
    (
        1.0,
        [
            30.28, 49.11, 61.67, 69.72, 75.45, 79.11, 82.21, 85.30, 87.32, 88.98, 90.41, 91.54,
            92.35, 93.11,
        ],
    ),
];

fn samples(results: &Results) -> String {
    let Some(cell) = results
        .cells
        .iter()
        .find(|own| own.units.first().is_some_and(|unit| !unit.measured.sampled.is_empty()))
    else {
        return String::new();
    };
    let soft = results.cells.iter().find(|own| !own.controls.is_empty());
    let most = super::measure::MOST;
    let mut text = String::from("## Sampled chains\n\n");
    for (place, sampled) in cell.units[0].measured.sampled.iter().enumerate() {
        let mean = |of: &dyn Fn(&super::Sampled) -> f64| {
            let all = cell.units.iter().map(|unit| of(&unit.measured.sampled[place]));
            all.sum::<f64>() / cell.units.len() as f64
        };
        let their = PUBLISHED_PASS.iter().find(|own| own.0 == sampled.temperature);
        let head: Vec<String> =
            std::iter::once(String::new()).chain((1..=most).map(|k| format!("k {k}"))).collect();
        let head: Vec<&str> = head.iter().map(String::as_str).collect();
        let line = |name: &str, of: &dyn Fn(usize) -> String| {
            std::iter::once(name.to_owned()).chain((0..most).map(of)).collect::<Vec<_>>()
        };
        let mut body = vec![
            line("pass@k, ours", &|k| percent(mean(&|own| own.pass[k]))),
            line("majority@k, ours", &|k| percent(mean(&|own| own.majority[k]))),
        ];
        if let Some((_, figures)) = their {
            body.insert(1, line("pass@k, published", &|k| format!("{:.1}", figures[k])));
        }
        text += &format!("Temperature {}:\n\n{}", sampled.temperature, rows(&head, &body));
        if let Some(soft) = soft {
            let pass: Vec<f64> = (0..most).map(|k| mean(&|own| own.pass[k])).collect();
            let vote: Vec<f64> = (0..most).map(|k| mean(&|own| own.majority[k])).collect();
            let reached = |curve: &[f64]| {
                let k = curve.iter().position(|&share| share >= soft.mean);
                k.map_or_else(|| format!("more than {most}"), |k| (k + 1).to_string())
            };
            text += &format!(
                "One soft pass ({} %) is reached by pass@k with k = {}, by majority@k with k = {}.\n\n",
                percent(soft.mean),
                reached(&pass),
                reached(&vote)
            );
        }
    }
    text
}

/// Mean over the seeds of every way of thinking at every width.
pub(crate) fn computed(results: &Results) -> Vec<super::ComputePoint> {
    let mut found: Vec<super::ComputePoint> = Vec::new();
    for cell in &results.cells {
        for (place, point) in cell.units[0].measured.compute.iter().enumerate() {
            let all = || cell.units.iter().filter_map(|unit| unit.measured.compute.get(place));
            let count = all().count() as f64;
            found.push(super::ComputePoint {
                tokens: all().map(|own| own.tokens).sum::<f64>() / count,
                accuracy: all().map(|own| own.accuracy).sum::<f64>() / count,
                ..point.clone()
            });
        }
    }
    found
}

fn compute(results: &Results) -> String {
    let mut points = computed(results);
    if points.is_empty() {
        return String::new();
    }
    points.sort_by(|a, b| a.tokens.total_cmp(&b.tokens));
    let line = |own: &super::ComputePoint| {
        vec![
            own.method.clone(),
            own.width.to_string(),
            format!("{:.1}", own.tokens),
            percent(own.accuracy),
        ]
    };
    let body: Vec<Vec<String>> = points.iter().map(line).collect();
    let head = ["way of thinking", "chains or beams", "forward tokens a problem", "right, %"];
    format!("## At equal forward tokens\n\n{}", rows(&head, &body))
}

fn controls(results: &Results) -> String {
    let with: Vec<&CellResults> =
        results.cells.iter().filter(|cell| !cell.controls.is_empty()).collect();
    if with.is_empty() {
        return String::new();
    }
    let mut body = Vec::new();
    for cell in with {
        for own in &cell.controls {
            body.push(vec![
                cell.name.clone(),
                own.what().to_owned(),
                percent(own.mean),
                format!("{:+.1}", 100.0 * own.difference),
                format!("{:+.1} to {:+.1}", 100.0 * own.interval[0], 100.0 * own.interval[1]),
            ]);
        }
    }
    let head = ["model", "control", "right, %", "difference, points", "95 %"];
    format!(
        "## Controls\n\nThe accuracy after thoughts that were taken away or replaced. A deletion \
         moves what follows, and a pause is a token that stood nowhere in a thought: both are also \
         inputs that the model never saw. The thoughts of another problem, and the heaviest token \
         of each, are of the kind that it knows.\n\n{}",
        rows(&head, &body)
    )
}

fn beliefs(results: &Results) -> String {
    let mut body = Vec::new();
    for cell in &results.cells {
        let with: Vec<_> =
            cell.units.iter().filter(|unit| !unit.measured.beliefs.steps.is_empty()).collect();
        let Some(first) = with.first() else { continue };
        let mean = |of: &dyn Fn(&crate::belief::Beliefs) -> f64| {
            with.iter().map(|unit| of(&unit.measured.beliefs)).sum::<f64>() / with.len() as f64
        };
        for step in 0..first.measured.beliefs.steps.len() {
            let at = |of: fn(&crate::belief::StepBelief) -> f64| {
                mean(&|own| own.steps.get(step).map_or(f64::NAN, of))
            };
            body.push(vec![
                cell.name.clone(),
                (step + 1).to_string(),
                format!("{:.3}", at(|own| own.kl)),
                percent(at(|own| own.mass)),
                format!("{:.2}", at(|own| own.entropy)),
                format!("{:.2}", at(|own| own.truth_entropy)),
                if step == 0 {
                    format!("{:.3}", mean(&|own| own.calibration_error()))
                } else {
                    String::new()
                },
            ]);
        }
    }
    if body.is_empty() {
        return String::new();
    }
    let head = [
        "model",
        "step",
        "KL(truth, belief), nats",
        "weight on the true frontier, %",
        "entropy, nats",
        "entropy of the truth, nats",
        "calibration error",
    ];
    format!("## Belief against truth\n\n{}", rows(&head, &body))
}

/// Published attention to edges by kind at steps 1 to 4: mean and deviation, summed over 8 heads
/// (Zhu et al. 2025, table 1).
const PUBLISHED_ATTENTION: [(EdgeKind, [(f64, f64); 4]); 4] = [
    (EdgeKind::NotReachable, [(0.04, 0.07), (0.03, 0.09), (0.08, 0.17), (0.12, 0.20)]),
    (EdgeKind::Reachable, [(2.12, 1.07), (0.71, 0.92), (0.38, 0.72), (0.29, 0.66)]),
    (EdgeKind::Frontier, [(2.12, 1.07), (1.00, 0.96), (0.67, 0.87), (0.61, 0.95)]),
    (EdgeKind::Optimal, [(2.54, 1.03), (1.72, 1.13), (1.67, 1.20), (2.23, 1.35)]),
];

fn attention(results: &Results) -> String {
    let mut text = String::new();
    for cell in &results.cells {
        let all = || cell.units.iter().flat_map(|unit| &unit.measured.attention);
        let Some(last) = all().map(|own| own.step).max() else { continue };
        let heads: Vec<String> = (1..=last).map(|step| format!("step {step}")).collect();
        let head: Vec<&str> =
            ["edges", "whose"].into_iter().chain(heads.iter().map(String::as_str)).collect();
        let mut body = Vec::new();
        for (kind, published) in PUBLISHED_ATTENTION {
            let at = |step: usize| {
                let own: Vec<_> = all().filter(|o| (o.step, o.kind) == (step, kind)).collect();
                if own.is_empty() {
                    return "–".to_owned();
                }
                let mean = |of: fn(&super::EdgeAttention) -> f64| {
                    own.iter().map(|own| of(own)).sum::<f64>() / own.len() as f64
                };
                format!("{:.2} ± {:.2}", mean(|own| own.mean), mean(|own| own.deviation))
            };
            let theirs = |step: usize| {
                let figure = published.get(step - 1);
                figure.map_or_else(|| "–".to_owned(), |(mean, sd)| format!("{mean:.2} ± {sd:.2}"))
            };
            let line = |whose: &str, of: &dyn Fn(usize) -> String| {
                let words = [kind.as_str().to_owned(), whose.to_owned()];
                words.into_iter().chain((1..=last).map(of)).collect::<Vec<_>>()
            };
            body.push(line("ours", &at));
            body.push(line("published", &theirs));
        }
        text += &format!("### {}\n\n{}", cell.label, rows(&head, &body));
    }
    if text.is_empty() {
        return text;
    }
    "## Attention to edges\n\nWhere the second layer looks from the position that makes a thought: \
     attention to the three tokens of an edge, summed over heads, mean and standard deviation over \
     edges. At step k an edge is reachable if its source is within k - 1 steps of the root, a \
     frontier edge if it is exactly so far, and optimal if it lies on a shortest path to the \
     answer. Published figures are sums over 8 heads.\n\n"
        .to_owned()
        + &text
}

fn curves(results: &Results) -> String {
    let mut body = Vec::new();
    let mut head = vec!["steps".to_owned()];
    let longest = results.cells.iter().filter_map(|cell| cell.units.first());
    let Some(longest) = longest.max_by_key(|unit| unit.curve.len()) else { return String::new() };
    for (step, _) in &longest.curve {
        head.push(thousands(*step));
    }
    for cell in &results.cells {
        let at = |step: u64| {
            let found: Vec<f64> = cell
                .units
                .iter()
                .filter_map(|unit| unit.curve.iter().find(|point| point.0 == step))
                .map(|point| point.1)
                .collect();
            match found.is_empty() {
                true => "–".to_owned(),
                false => percent(found.iter().sum::<f64>() / found.len() as f64),
            }
        };
        let line = longest.curve.iter().map(|point| at(point.0));
        body.push(std::iter::once(cell.name.clone()).chain(line).collect());
    }
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    format!("## Learning curves\n\nRight answers in %, mean over seeds.\n\n{}", rows(&head, &body))
}
