//! MNNS: the tables of CoT2.

use crate::config::Arm;
use crate::reproduce::table::{Cell, Kind, Place, Table};

const SOURCE: &str = "CoT2 (Gozeten et al., 2025), the figures of its plotting script";

const BASE: &str = r#"
[model]
family = "gpt2"
n_layers = 2
n_heads = 2
d_model = 32
dropout = 0.1
[task]
name = "mnns"
digits = 4
digit_max = 9
[train]
micro_batch = 64
lr = 5e-3
warmup = 100
schedule = "cosine"
min_lr = 5e-5
"#;

/// Steps with either budget.
const STEPS: [usize; 2] = [6000, 24_000];
/// The first three of the published seeds.
const SEEDS: [&[u64]; 2] = [&[42, 43, 44]; 2];

fn cell(name: &'static str, label: &'static str, arm: Arm, settings: &[&str]) -> Cell {
    Cell {
        name,
        label,
        arm,
        settings: settings.iter().map(|&setting| setting.to_owned()).collect(),
        steps: STEPS,
        published: None,
        kind: if arm == Arm::Soft { Kind::Thoughts } else { Kind::Plain },
        place: Place::Row,
        start: None,
        judge: None,
    }
}

/// Learning rates that the table of them chose, with their ends at a hundredth.
const SOFT_RATE: [&str; 2] = ["train.lr=1e-2", "train.min_lr=1e-4"];
const NO_THOUGHT_RATE: [&str; 2] = ["train.lr=2e-3", "train.min_lr=2e-5"];

/// Hidden states after a curriculum of four equal parts.
const COCONUT: [&str; 6] = [
    "soft.feed=hidden",
    "rollout.kind=sequential",
    "guidance.start=0",
    "curriculum.stages=3",
    "curriculum.first={quarter}",
    "curriculum.steps={quarter}",
];

/// Soft, Coconut, hard and no thought at d 32, and the grid of budget by width.
pub(super) fn main() -> Table {
    let soft = |name, budget, width, published, place| {
        let settings = [format!("task.budget={budget}"), format!("model.d_model={width}")];
        let label = match budget {
            16 => "soft thoughts over all sums (B = 16)",
            _ => "soft thoughts over four sums (B = 4)",
        };
        let mut own = cell(name, label, Arm::Soft, &SOFT_RATE);
        own.settings.extend(settings);
        Cell { published: Some(published), place, ..own }
    };
    let hard = |name, width: usize, published, place| {
        let own = cell(name, "hard chain of thought (B = 1)", Arm::Hard, &[]);
        let settings = vec![format!("model.d_model={width}")];
        Cell { settings, published: Some(published), place, ..own }
    };
    let [all, four, one] = ["B = 16 (all)", "B = 4", "B = 1 (hard)"];
    let [d16, d24, d32] = ["d 16", "d 24", "d 32"];
    let coconut = cell("coconut-d32", "hidden states, curriculum (Coconut)", Arm::Soft, &COCONUT);
    let without = cell("no-thought-d32", "no thought", Arm::NoThought, &NO_THOUGHT_RATE);
    Table {
        name: "mnns",
        title: "MNNS: soft thoughts, hidden states, a hard chain and no thought",
        claim: "Gozeten et al. (2025) report that a small transformer that feeds mixtures of all \
                partial sums solves MNNS (98.94 %) where a discrete chain of thought (84.92 %) and \
                none (68.35 %) do not, and that narrow models cannot hold all sums (B = 4 beats \
                B = 16 at d 16).",
        method: "All arms have the same model, data, split, optimizer, batch of 64 and number of \
                 steps; the learning rate of each was chosen from the same five values by the table \
                 `mnns-tuning`, with a seed that is not among those here. The published runs have \
                 batches of 16, 1,000 epochs (329,000 steps; 250 to 1,000 for the discrete arms) \
                 and a learning rate of 1e-4 throughout. The hard arms score no digits of the \
                 prompt, which the published ones do. Ours are measured at the end of the training; \
                 no best checkpoint is chosen.",
        source: SOURCE,
        base: BASE,
        cells: vec![
            soft("soft-d32", 16, 32, 0.9894, Place::Both(all, d32)),
            Cell { published: Some(0.9258), ..coconut },
            hard("hard-d32", 32, 0.8492, Place::Both(one, d32)),
            Cell { published: Some(0.6835), ..without },
            soft("soft-d24", 16, 24, 0.9656, Place::Grid(all, d24)),
            soft("soft-d16", 16, 16, 0.5527, Place::Grid(all, d16)),
            soft("soft-b4-d32", 4, 32, 0.9904, Place::Grid(four, d32)),
            soft("soft-b4-d24", 4, 24, 0.8831, Place::Grid(four, d24)),
            soft("soft-b4-d16", 4, 16, 0.6420, Place::Grid(four, d16)),
            hard("hard-d24", 24, 0.7043, Place::Grid(one, d24)),
            hard("hard-d16", 16, 0.5548, Place::Grid(one, d16)),
        ],
        seeds: SEEDS,
    }
}

/// One soft pass against many sampled chains, for a model of one layer and one head.
pub(super) fn samples() -> Table {
    let small = ["model.n_layers=1", "model.n_heads=1", "model.d_model=24"];
    let with_rate = [&small[..], &SOFT_RATE].concat();
    let soft = cell("soft", "one soft pass", Arm::Soft, &with_rate);
    let hard = cell("hard", "hard chains, sampled", Arm::Hard, &small);
    Table {
        name: "mnns-samples",
        title: "MNNS: one soft pass against many samples, at equal forward tokens",
        claim: "Gozeten et al. (2025) report that one pass of soft thoughts (88.61 %) does what ten \
                sampled chains of thought do if an oracle picks the right one (pass@10 at \
                temperature 1: 88.98 %).",
        method: "A model of one layer, one head and width 24, trained as the cells of the table \
                 `mnns`. pass@k is the unbiased estimate from 28 chains a problem; majority@k is \
                 the vote of k of them, which needs no oracle. Forward tokens are those that the model \
                 generates for a problem, all beams, chains and dropped sequences included.",
        source: SOURCE,
        base: BASE,
        cells: vec![
            Cell { published: Some(0.8861), kind: Kind::SoftBeams, ..soft },
            Cell { published: Some(0.3976), kind: Kind::Samples, ..hard },
        ],
        seeds: SEEDS,
    }
}

/// The learning rates of the arms.
pub(super) fn tuning() -> Table {
    let arms: [(&str, Arm, &[&str]); 4] = [
        ("soft", Arm::Soft, &[]),
        ("coconut", Arm::Soft, &COCONUT),
        ("hard", Arm::Hard, &[]),
        ("no-thought", Arm::NoThought, &[]),
    ];
    let rates = ["1e-3", "2e-3", "5e-3", "1e-2", "2e-2"];
    let cells = arms.iter().flat_map(|&(name, arm, settings)| {
        rates.iter().map(move |rate| {
            let name: &'static str = format!("{name}-lr{rate}").leak();
            let mut own = cell(name, name, arm, settings);
            own.settings.push(format!("train.lr={rate}"));
            // The schedule ends at a hundredth of it.
            own.settings
                .push(format!("train.min_lr={}", rate.replace("e-3", "e-5").replace("e-2", "e-4")));
            own.steps = [STEPS[0]; 2];
            own.kind = Kind::Plain;
            own
        })
    });
    Table {
        name: "mnns-tuning",
        title: "MNNS: learning rates",
        claim: "Every arm gets the same choice of learning rates.",
        method: "Five learning rates an arm, one seed that no table uses, 6,000 steps. Judged on \
                 the validation problems, as the tables are: with a few values and thousands of \
                 problems the choice flatters every arm by little, and all alike.",
        source: "",
        base: BASE,
        cells: cells.collect(),
        seeds: [&[7], &[7]],
    }
}
