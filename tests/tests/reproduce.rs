//! A small table from end to end: trained, measured, kept, gone on with, written up.

use soft_tests::device;
use soft_train::config::{Arm, Control};
use soft_train::report::render_reproduction;
use soft_train::reproduce::{
    Budget, Cell, Kind, Place, Results, Table, Unit, UnitResult, markdown,
};

const BASE: &str = "[model]\nd_model = 16\nn_layers = 1\nn_heads = 1\n[task]\nname = \"mnns\"\n\
                    digits = 3\ndigit_max = 4\n[train]\nmicro_batch = 16\nlr = 2e-2\n";

fn cell(name: &'static str, arm: Arm, kind: Kind) -> Cell {
    Cell {
        name,
        label: name,
        arm,
        settings: Vec::new(),
        steps: [240, 480],
        published: Some(0.9),
        kind,
        place: Place::Both("row", name),
        start: None,
        judge: None,
    }
}

fn table() -> Table {
    Table {
        name: "small",
        title: "A small table",
        claim: "Claimed <by nobody>.",
        method: "Quickly.",
        source: "nowhere",
        base: BASE,
        cells: vec![
            cell("soft", Arm::Soft, Kind::SoftBeams),
            cell("hard", Arm::Hard, Kind::Samples),
        ],
        seeds: [&[1, 2], &[1, 2]],
    }
}

#[test]
fn a_table_is_trained_measured_kept_and_written_up() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let table = table();
    let mut units = Vec::new();
    for &seed in table.seeds(Budget::Quick) {
        for cell in &table.cells {
            let unit = Unit { table: &table, cell, budget: Budget::Quick, seed, revision: "abc" };
            assert_eq!(unit.finished(folder.path()), None);
            let result = unit.run(folder.path(), &device()).expect("it trains");
            assert_eq!(unit.finished(folder.path()).as_ref(), Some(&result), "it is kept");
            units.push(result);
        }
    }
    check_soft(&units[0]);
    check_sampled(&units[1]);

    let words = ["cargo xtask reproduce small".to_owned(), "a machine".to_owned()];
    let results = Results::new(&table, Budget::Quick, &units, words);
    let soft = results.cell("soft").expect("it is there");
    let mean = (units[0].accuracy() + units[2].accuracy()) / 2.0;
    assert!((soft.mean - mean).abs() < 1e-12);
    assert_eq!((soft.units.len(), soft.controls.len()), (2, 6));
    for own in &soft.controls {
        assert!((own.mean - soft.mean - own.difference).abs() < 1e-9, "{:?}", own.control);
        assert!(own.interval[0] <= own.difference && own.difference <= own.interval[1]);
    }
    let page = markdown(&table, &results);
    let first = page.lines().nth(2).expect("the verdict");
    assert!(first.starts_with("Right answers: soft") && first.contains("control"), "{first}");
    check_compute(&units[0], &units[1]);
    for part in [
        "## At equal forward tokens",
        "## Controls",
        "## Belief against truth",
        "## Sampled chains",
        "Revision abc",
    ] {
        assert!(page.contains(part), "{part}");
    }
    let html = render_reproduction(&table, &results);
    assert!(html.contains("Claimed &lt;by nobody&gt;") && html.contains("<svg class=\"heat\""));

    // Other settings are another unit: what lies there is none of it.
    let mut other = table.clone();
    other.cells[0].settings = vec!["train.lr=1e-2".into()];
    let first = other.clone();
    let unit = Unit {
        table: &first,
        cell: &first.cells[0],
        budget: Budget::Quick,
        seed: 1,
        revision: "abc",
    };
    assert_eq!(unit.finished(folder.path()), None);
    let changed = unit.run(folder.path(), &device()).expect("another run, not the same one");
    assert_eq!(changed.learning_rate, 1e-2);
    // Fewer steps are no other settings to a run that goes on; here they are.
    other.cells[0].steps = [60, 60];
    let unit = Unit { table: &other, cell: &other.cells[0], ..unit };
    assert_eq!(unit.finished(folder.path()), None);
    let shorter = unit.run(folder.path(), &device()).expect("another run again");
    assert_eq!(shorter.curve.last().map(|point| point.0), Some(60));
}

/// Without the thoughts' beliefs the answers are others; with their own they are the same.
fn check_soft(unit: &UnitResult) {
    let measured = &unit.measured;
    assert_eq!(measured.right.len(), 11, "the problems of a fifth of 20 multisets");
    assert!(unit.curve.len() >= 10 && unit.curve.len() == unit.belief_curve.len());
    assert_eq!(unit.curve.last().map(|point| point.0), Some(240));
    assert!((unit.curve.last().expect("a point").1 - unit.accuracy()).abs() < 1e-9);
    let controls: Vec<Control> = measured.controls.iter().map(|own| own.control).collect();
    assert_eq!(controls.len(), 6, "{controls:?}");
    assert!(measured.controls.iter().all(|own| own.right.len() == measured.right.len()));
    assert_eq!(measured.beliefs.steps.len(), 2);
    assert!(measured.beliefs.mass() > 0.5, "{:?}", measured.beliefs);
    let first = unit.belief_curve[0].1;
    assert!(measured.beliefs.kl() < first, "{} at first {first}", measured.beliefs.kl());
    assert!(!measured.heat.is_empty());
    for heat in &measured.heat {
        let sum = |step: &Vec<(String, f64)>| step.iter().map(|own| own.1).sum::<f64>();
        assert!(heat.truth.iter().all(|step| (sum(step) - 1.0).abs() < 1e-6));
        assert_eq!((heat.truth.len(), heat.belief.len()), (2, 2));
    }
}

/// More beams cost more; one pass is the accuracy that was measured; a vote of one is a sample.
fn check_compute(soft: &UnitResult, hard: &UnitResult) {
    for unit in [soft, hard] {
        let points = &unit.measured.compute;
        assert!((points[0].accuracy - unit.accuracy()).abs() < 1e-9);
        for pair in points.windows(2).filter(|pair| pair[0].method == pair[1].method) {
            // Two thoughts are split into four mixtures at most.
            let all = pair[0].method.contains("mixtures") && pair[0].width >= 4;
            assert!(pair[0].tokens < pair[1].tokens || all, "{pair:?}");
        }
    }
    assert_eq!(soft.measured.compute.len(), 1 + 2 * 3);
    assert_eq!(soft.measured.compute[0].tokens, 3.0, "two thoughts and an answer");
    assert_eq!(hard.measured.compute.len(), 1 + 3 + 3 * 2 * 5);
}

fn check_sampled(unit: &UnitResult) {
    assert_eq!(unit.measured.sampled.len(), 3);
    for sampled in &unit.measured.sampled {
        let rises = sampled.pass.windows(2).all(|pair| pair[1] >= pair[0] - 1e-12);
        assert!(rises && sampled.pass.len() == 14, "{sampled:?}");
        assert!(sampled.pass[0] > 0.0, "nothing is ever right: this test compares nothing");
        assert!((sampled.majority[0] - sampled.pass[0]).abs() < 1e-9, "a vote of one");
    }
}
