//! The tables and the picture of `docs/temperature-and-filters.md`.
//!
//! `study-filters [PART..] [--runs DIR] [--picture FILE]`; the parts are `order`, `order-text`,
//! `learned` and `learned-text`, all where none is named. Trainings that are there go on or stay.

use std::path::PathBuf;
use std::process::ExitCode;

use soft_model::ModelFiles;
use soft_tests::smollm2;
use soft_tests::study::{Study, learned, order};

const PARTS: [&str; 4] = ["order", "order-text", "learned", "learned-text"];
/// Plain text that no model here was trained on.
const TEXT: &str = include_str!("../../../docs/plain-text.txt");

struct Arguments {
    parts: Vec<String>,
    runs: PathBuf,
    picture: PathBuf,
}

fn arguments() -> Result<Arguments, String> {
    let mut found = Arguments {
        parts: Vec::new(),
        runs: "runs/study".into(),
        picture: "docs/temperature-and-filters.svg".into(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--runs" => found.runs = value()?.into(),
            "--picture" => found.picture = value()?.into(),
            part if PARTS.contains(&part) => found.parts.push(part.to_owned()),
            other => return Err(format!("unknown part {other:?}; there are {}", PARTS.join(", "))),
        }
    }
    if found.parts.is_empty() {
        found.parts = PARTS.map(str::to_owned).to_vec();
    }
    Ok(found)
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let study = Study::new(arguments.runs.clone());
    for part in &arguments.parts {
        let tables = match part.as_str() {
            "order" => format!(
                "Bases at every setting:\n\n{}\nTrainings at either order:\n\n{}",
                order::of_mnns(&study)?,
                order::of_trainings(&study)?
            ),
            "learned" => learned::of_mnns(&study, &arguments.picture)?,
            _ => {
                let Some(path) = smollm2() else { continue };
                match part.as_str() {
                    "order-text" => order::of_text(&ModelFiles::open(&path)?, TEXT)?,
                    _ => learned::of_text(&study, &path, TEXT)?,
                }
            }
        };
        println!("## {part}\n\n{tables}");
    }
    Ok(())
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(message) => {
            eprintln!("study-filters: {message}");
            return ExitCode::from(2);
        }
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("study-filters: {error}");
            ExitCode::FAILURE
        }
    }
}
