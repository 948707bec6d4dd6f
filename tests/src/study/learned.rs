//! Do a learned temperature, top-k and min-p go towards greedy decoding?

use std::fs;
use std::path::{Path, PathBuf};

use soft_train::run::Trained;

use super::chart::{Line, Panel, svg};
use super::{SEEDS, Study, course, spread, table};

type Failure = Box<dyn std::error::Error>;

const ALL: &str = "learnable.settings=[\"temperature\", \"top_k\", \"min_p\"]";
const FREE: [&str; 3] =
    ["learnable.least_temperature=0", "learnable.least_top_k=1", "learnable.most_min_p=1"];
const BOUND: [&str; 3] =
    ["learnable.least_temperature=0.5", "learnable.least_top_k=4", "learnable.most_min_p=0.1"];
/// Where every training starts.
const START: [&str; 4] =
    ["soft.temperature=1", "soft.top_k=8", "soft.min_p=0.02", "learnable.lr=0.04"];
/// The model stays as it is.
const FROZEN: [&str; 2] = ["train.lr=0", "train.weight_decay=0"];
const KEYS: [(&str, &str); 3] = [
    ("learnable/temperature", "temperature"),
    ("learnable/top_k", "top-k"),
    ("learnable/min_p", "min-p"),
];

/// A training of the filters of a language model on text, of which nothing else is trained.
const TEXT: &str = r#"
[task]
name = "text"
[data]
format = "prompt"
soft = "first"
soft_first = 8
[generate]
chat = false
[low_rank]
rank = 1
[rollout]
kind = "sequential"
[guidance]
start = 0.0
[train]
steps = 80
micro_batch = 2
lr = 0.0
weight_decay = 0.0
[log]
every = 10
"#;

/// Name and settings of the trainings on MNNS.
fn arms() -> Vec<(&'static str, Vec<String>)> {
    let of = |parts: &[&[&str]]| -> Vec<String> {
        parts.concat().into_iter().map(str::to_owned).collect()
    };
    // Only what is learned may be set on the way.
    let temperature = "learnable.settings=[\"temperature\"]";
    let alone = ["soft.temperature=1", "learnable.lr=0.04"];
    let near = ["soft.temperature=0.3", "learnable.lr=0.04"];
    vec![
        ("nothing, temperature 1", of(&[&["soft.temperature=1"]])),
        ("nothing, top-k 8 and min-p 0.02", of(&[&START[..3]])),
        ("temperature alone, no floor", of(&[&[temperature, FREE[0]], &alone])),
        ("temperature alone, from 0.3, no floor", of(&[&[temperature, FREE[0]], &near])),
        ("temperature alone, floor 0.5", of(&[&[temperature, BOUND[0]], &alone])),
        ("all three, no bounds", of(&[&[ALL], &FREE, &START])),
        ("all three, bounds", of(&[&[ALL], &BOUND, &START])),
        ("all three, no bounds, frozen model", of(&[&[ALL], &FREE, &START, &FROZEN])),
    ]
}

/// Two of them, four times as long.
fn long_arms() -> Vec<(String, Vec<String>)> {
    let long = |(name, settings): (&str, Vec<String>)| {
        let steps = "train.steps=1000".to_owned();
        (format!("{name}, 1000 steps"), settings.into_iter().chain([steps]).collect())
    };
    let names = ["temperature alone, no floor", "all three, no bounds"];
    arms().into_iter().filter(|(name, _)| names.contains(name)).map(long).collect()
}

/// A name as that of a directory.
fn slug(name: &str) -> String {
    let word = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let text: String = name.chars().map(word).collect();
    text.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

/// First, least, greatest and last of a course.
fn ends(points: &[(f64, f64)]) -> Option<[f64; 4]> {
    let values = || points.iter().map(|point| point.1);
    let least = values().fold(f64::INFINITY, f64::min);
    let most = values().fold(f64::NEG_INFINITY, f64::max);
    Some([points.first()?.1, least, most, points.last()?.1])
}

/// One row of a table and the lines of a picture.
struct Course {
    lines: Vec<Vec<Line>>,
    /// Last value of each setting, over the seeds.
    last: Vec<Vec<f64>>,
    least: Vec<Vec<f64>>,
    entropy: Vec<f64>,
    gap: Vec<f64>,
}

impl Course {
    fn of(group: usize, runs: &[PathBuf]) -> Self {
        let mut found = Self {
            lines: vec![Vec::new(); KEYS.len()],
            last: vec![Vec::new(); KEYS.len()],
            least: vec![Vec::new(); KEYS.len()],
            entropy: Vec::new(),
            gap: Vec::new(),
        };
        for run in runs {
            for (number, (key, _)) in KEYS.iter().enumerate() {
                let points = course(run, key);
                if let Some([_, least, _, last]) = ends(&points) {
                    found.last[number].push(last);
                    found.least[number].push(least);
                    found.lines[number].push(Line { group, points });
                }
            }
            found.entropy.extend(mean_of_last(&course(run, "entropy"), 50));
            found.gap.extend(course(run, "learnable/gap").last().map(|point| 100.0 * point.1));
        }
        found
    }

    fn cells(&self) -> Vec<String> {
        let both = |number: usize, digits| {
            format!(
                "{}; least {}",
                spread(&self.last[number], digits),
                least(&self.least[number], digits)
            )
        };
        vec![
            if self.last[0].is_empty() { "–".to_owned() } else { both(0, 3) },
            spread(&self.last[1], 2),
            spread(&self.last[2], 4),
            spread(&self.entropy, 3),
            spread(&self.gap, 1),
        ]
    }
}

fn least(values: &[f64], digits: usize) -> String {
    format!("{:.digits$}", values.iter().copied().fold(f64::INFINITY, f64::min))
}

fn mean_of_last(points: &[(f64, f64)], count: usize) -> Option<f64> {
    let last = &points[points.len().saturating_sub(count)..];
    (!last.is_empty()).then(|| last.iter().map(|point| point.1).sum::<f64>() / last.len() as f64)
}

/// The trainings of an arm, as a row of the table and lines of the picture.
fn trained(
    study: &Study,
    group: usize,
    name: &str,
    settings: &[String],
) -> Result<(Vec<String>, Vec<Vec<Line>>), Failure> {
    let trained: Vec<Trained> = SEEDS
        .iter()
        .map(|&seed| study.tuned(&format!("learned-{}", slug(name)), seed, settings))
        .collect::<Result<_, _>>()?;
    let runs: Vec<PathBuf> = trained.iter().map(|trained| trained.run_dir.clone()).collect();
    let found = Course::of(group, &runs);
    let mut row = vec![name.to_owned()];
    row.extend(found.cells());
    row.push(accuracy(&trained));
    Ok((row, found.lines))
}

/// Of the soft arm, over the seeds.
fn accuracy(trained: &[Trained]) -> String {
    let soft = |trained: &Trained| Some(100.0 * trained.results.arms.first()?.accuracy);
    spread(&trained.iter().filter_map(soft).collect::<Vec<_>>(), 1)
}

/// Trainings on MNNS from the bases of the seeds: a table, and a picture of the courses.
///
/// # Errors
/// Those of the trainings.
pub fn of_mnns(study: &Study, picture: &Path) -> Result<String, Failure> {
    let bases = SEEDS.iter().map(|&seed| study.base_run(seed));
    let bases: Vec<Trained> = bases.collect::<Result<_, _>>()?;
    let mut base = vec!["–".to_owned(); HEAD.len()];
    base[0] = "the bases themselves".to_owned();
    base[HEAD.len() - 1] = accuracy(&bases);
    let (mut rows, mut lines) = (vec![base], vec![Vec::new(); KEYS.len()]);
    let arms = arms();
    for (group, (name, settings)) in arms.iter().enumerate() {
        let (row, own) = trained(study, group, name, settings)?;
        rows.push(row);
        lines.iter_mut().zip(own).for_each(|(all, own): (&mut Vec<Line>, _)| all.extend(own));
    }
    for (name, settings) in long_arms() {
        rows.push(trained(study, 0, &name, &settings)?.0);
    }
    let panels: Vec<Panel> = KEYS
        .iter()
        .zip(lines)
        .map(|((_, title), lines)| Panel { title: (*title).to_owned(), lines })
        .collect();
    let names: Vec<&str> = arms.iter().map(|(name, _)| *name).collect();
    fs::write(picture, svg("learned settings by step, a line a seed", &panels, &names))?;
    Ok(table(&HEAD, &rows))
}

const HEAD: [&str; 7] = [
    "learned",
    "T at the end, and least",
    "top-k",
    "min-p",
    "entropy, nats",
    "hard filters move, %",
    "accuracy, %",
];

/// The filters of a language model that stays as it is, learned on the beginnings of passages.
///
/// # Errors
/// Those of the trainings, or a text that cannot be read.
pub fn of_text(study: &Study, model: &Path, text: &str) -> Result<String, Failure> {
    let data = study.path("passages.jsonl");
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = |words: &[&str]| {
        let (prompt, completion) = words.split_at(words.len() / 2);
        let completion = format!(" {}", completion.join(" "));
        serde_json::json!({ "prompt": prompt.join(" "), "completion": completion }).to_string()
            + "\n"
    };
    fs::create_dir_all(study.path("."))?;
    fs::write(&data, words.chunks_exact(40).map(line).collect::<String>())?;
    let mut rows = Vec::new();
    for (name, bounds) in [("text, no bounds", FREE), ("text, bounds", BOUND)] {
        let fixed = [
            format!("model.path={:?}", model.display().to_string()),
            format!("data.train={:?}", data.display().to_string()),
            ALL.to_owned(),
        ];
        let settings: Vec<String> = fixed
            .into_iter()
            .chain(bounds.into_iter().chain(START).map(str::to_owned))
            .chain(["learnable.lr=0.1".to_owned()])
            .collect();
        let (mut runs, mut losses) = (Vec::new(), Vec::new());
        for seed in SEEDS {
            let run = study.run(&format!("{}-{seed}", slug(name)), TEXT, seed, &settings)?.run_dir;
            losses.push(course(&run, "loss"));
            runs.push(run);
        }
        let mut row = vec![name.to_owned()];
        row.extend(Course::of(0, &runs).cells());
        let part = |from: fn(&[(f64, f64)]) -> Option<f64>| -> Vec<f64> {
            losses.iter().filter_map(|points| from(points)).collect()
        };
        row.push(spread(&part(|points| mean_of_last(&points[..points.len().min(8)], 8)), 3));
        row.push(spread(&part(|points| mean_of_last(points, 8)), 3));
        rows.push(row);
    }
    let head = [&HEAD[..6], &["loss of the first 8 steps", "of the last 8"]].concat();
    Ok(table(&head, &rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_and_means_are_those_of_the_course() {
        let points = [(1.0, 3.0), (2.0, 1.0), (3.0, 2.0)];
        assert_eq!(ends(&points), Some([3.0, 1.0, 3.0, 2.0]));
        assert_eq!(mean_of_last(&points, 2), Some(1.5));
        assert_eq!(mean_of_last(&points, 9), Some(2.0));
        assert_eq!(mean_of_last(&[], 9), None);
        assert_eq!(slug("all three, no bounds"), "all-three-no-bounds");
    }
}
