//! Estimators of the gradient through thoughts: bias and variance against an enumerated truth.
//!
//! - `--write`: writes `docs/results/estimators.md` and `docs/results/estimators.svg`; not with `--quick`

use std::path::Path;

use soft_tests::bench::{print_header, quick};
use soft_tests::estimators::problem::{MILD, SHARP};
use soft_tests::estimators::{Counts, Findings, measure, page, picture, table_of};

/// Seeds of the models, each sharp and mild; the page shows the first in full.
const SEEDS: [u64; 3] = [1, 2, 3];

fn main() {
    let (counts, seeds) = match quick() {
        true => (Counts { blocks: 24, groups: 24 }, &SEEDS[..1]),
        false => (Counts { blocks: 384, groups: 256 }, &SEEDS[..]),
    };
    print_header(
        &burn::tensor::Device::flex(),
        &format!("{counts:?}, in f64; models of the seeds {seeds:?}"),
    );
    let mut all: Vec<Findings> = Vec::new();
    for factor in [SHARP, MILD] {
        for &seed in seeds {
            let findings = measure(seed, factor, counts);
            println!("seed {seed}, weights times {factor}: {:?}", findings.facts);
            println!("\n{}", table_of(&findings));
            all.push(findings);
        }
    }
    if std::env::args().any(|argument| argument == "--write") && !quick() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/results");
        std::fs::create_dir_all(&folder).expect("the folder of results can be made");
        for (name, text) in [("estimators.md", page(&all)), ("estimators.svg", picture(&all))] {
            let path = folder.join(name);
            std::fs::write(&path, text)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            println!("wrote {}", path.display());
        }
    }
}
