//! Multiplication, the negative control, and ProsQA in symbols.

use crate::config::Arm;
use crate::reproduce::table::{Cell, Kind, Place, Table};

const MULTIPLICATION: &str = r#"
[model]
family = "gpt2"
n_layers = 2
n_heads = 4
d_model = 64
[task]
name = "multiplication"
digits = 2
[train]
micro_batch = 64
lr = 2e-3
warmup = 100
schedule = "cosine"
min_lr = 2e-5
"#;

const PROSQA: &str = r#"
[model]
family = "gpt2"
n_layers = 2
n_heads = 4
d_model = 64
[task]
name = "prosqa"
nodes = 12
hops = 3
problems = 40000
[train]
micro_batch = 64
lr = 2e-3
warmup = 200
schedule = "cosine"
min_lr = 1e-5
"#;

fn cells(steps: [usize; 2]) -> Vec<Cell> {
    let cell = |name, label, arm, kind| Cell {
        name,
        label,
        arm,
        settings: Vec::new(),
        steps,
        published: None,
        kind,
        place: Place::Row,
        start: None,
        judge: None,
    };
    vec![
        cell("soft", "soft thoughts", Arm::Soft, Kind::Thoughts),
        cell("hard", "hard chain of thought", Arm::Hard, Kind::Plain),
        cell("no-thought", "no thought", Arm::NoThought, Kind::Plain),
    ]
}

/// Where nothing branches there is nothing to hold in superposition.
pub(super) fn multiplication() -> Table {
    Table {
        name: "multiplication",
        title: "Multiplication of two digits by two: a negative control",
        claim: "Soft thoughts help where several paths are open. In long multiplication every step \
                follows from the one before: each true distribution is a single token, so soft \
                thoughts should do no better than a chain in tokens.",
        method: "The format of Deng et al. (2024): digits reversed, partial products and running \
                 sums as the chain. 2 layers, 4 heads, width 64; all arms alike but for what \
                 stands between question and answer.",
        source: "",
        base: MULTIPLICATION,
        cells: cells([1500, 6000]),
        seeds: [&[42, 43, 44], &[42, 43, 44]],
    }
}

/// Search in a graph, reduced to what two cores can train.
pub(super) fn prosqa() -> Table {
    let mut cells = cells([1500, 6000]);
    let published = [Some(1.0), Some(0.75), Some(0.75)];
    // The best of six each, by `prosqa-tuning`.
    let rates = [("2e-3", "1e-5"), ("5e-4", "5e-6"), ("4e-3", "4e-5")];
    for ((cell, figure), (rate, least)) in cells.iter_mut().zip(published).zip(rates) {
        cell.published = figure;
        cell.settings = vec![format!("train.lr={rate}"), format!("train.min_lr={least}")];
    }
    Table {
        name: "prosqa",
        title: "ProsQA in symbols, reduced",
        claim: "Zhu et al. (2025, \"Reasoning by Superposition\") report that two layers that feed \
                continuous thoughts solve ProsQA (about 100 %) where a discrete chain of thought \
                and none stay at about 75 %.",
        method: "Reduced: graphs of at most 12 nodes with targets 3 steps away, 2 layers, 4 heads, \
                 width 64, where the published model has 2 layers, 8 heads and width 768 on graphs \
                 of about 23 nodes and trains for a day on two GPUs. The published figures are \
                 those of the full size and are printed for orientation only. Soft thoughts are \
                 trained on the frontiers of the search, hard ones on a shortest path to the \
                 answer. All arms have the same model, data, batch and number of steps; the learning \
                 rate of each is the best of six for it, by the table prosqa-tuning: trainings of \
                 half the length on a seed that is not used here.",
        source: "Zhu et al. (2025), as approximate figures",
        base: PROSQA,
        cells,
        seeds: [&[42, 43, 44], &[42, 43, 44]],
    }
}

/// The learning rates of the arms of `prosqa`.
pub(super) fn prosqa_tuning() -> Table {
    let arms = [("soft", Arm::Soft), ("hard", Arm::Hard), ("no-thought", Arm::NoThought)];
    let rates = [
        ("2.5e-4", "2.5e-6"),
        ("5e-4", "5e-6"),
        ("1e-3", "1e-5"),
        ("2e-3", "1e-5"),
        ("4e-3", "4e-5"),
        ("8e-3", "8e-5"),
    ];
    let cells = arms.iter().flat_map(|&(name, arm)| {
        rates.iter().map(move |(rate, least)| {
            let name: &'static str = format!("{name}-lr{rate}").leak();
            Cell {
                name,
                label: name,
                arm,
                settings: vec![format!("train.lr={rate}"), format!("train.min_lr={least}")],
                steps: [3000; 2],
                published: None,
                kind: Kind::Plain,
                place: Place::Row,
                start: None,
                judge: None,
            }
        })
    });
    Table {
        name: "prosqa-tuning",
        title: "ProsQA in symbols: learning rates",
        claim: "Every arm gets the same choice of learning rates.",
        method: "Six learning rates an arm, one seed that the table `prosqa` does not use, 3,000 \
                 steps, judged on the 500 validation problems, as the table is.",
        source: "",
        base: PROSQA,
        cells: cells.collect(),
        seeds: [&[7], &[7]],
    }
}
