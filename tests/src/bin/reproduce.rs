//! Published tables beside our own.
//!
//! `reproduce [TABLE] [--budget quick|full] [--minutes N] [--workers N] [--runs DIR] [--out DIR]
//! [--render]`; without a table it lists them. A table that was stopped goes on where it was, and is
//! called `TABLE-partial` until it is whole. `--render` writes the pages anew from the JSON that is
//! there, and trains nothing.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use soft_tests::device;
use soft_train::reproduce::{Budget, Plan, Results, Table, Unit, find, markdown, names, run};

/// The word before the arguments of a worker.
const WORKER: &str = "--unit";

struct Arguments {
    table: Table,
    budget: Budget,
    limit: Option<Duration>,
    workers: usize,
    runs: PathBuf,
    out: PathBuf,
    render: bool,
}

fn budget(word: &str) -> Result<Budget, String> {
    match word {
        "quick" => Ok(Budget::Quick),
        "full" => Ok(Budget::Full),
        other => Err(format!("unknown budget {other:?}; expected quick or full")),
    }
}

fn table(name: &str) -> Result<Table, String> {
    find(name).ok_or_else(|| format!("unknown table {name:?}; there are {}", names().join(", ")))
}

fn arguments(words: &[String]) -> Result<Arguments, String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (mut name, mut found, mut render) = (None, (Budget::Quick, None, cores), false);
    let (mut runs, mut out) = (PathBuf::from("runs/reproduce"), PathBuf::from("."));
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        let number = |text: &String| {
            text.parse::<u64>().map_err(|_| format!("{word} {text}: expected a whole number"))
        };
        match word.as_str() {
            "--budget" => found.0 = budget(value()?)?,
            "--minutes" => {
                found.1 = Some(Duration::from_secs(number(value()?)?.saturating_mul(60)))
            }
            "--workers" => found.2 = number(value()?)?.max(1) as usize,
            "--runs" => runs = value()?.into(),
            "--out" => out = value()?.into(),
            "--render" => render = true,
            flag if flag.starts_with('-') => return Err(format!("unknown flag {flag}")),
            text => name = Some(table(text)?),
        }
    }
    let table = name.ok_or_else(|| format!("name a table: {}", names().join(", ")))?;
    let runs = runs.join(table.name);
    Ok(Arguments { table, budget: found.0, limit: found.1, workers: found.2, runs, out, render })
}

/// What git says, and whether something was changed since.
fn revision() -> String {
    let git = |words: &[&str]| {
        let output = Command::new("git").args(words).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(head) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".into() };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]);
    let is_changed = changed.is_some_and(|text| !text.is_empty());
    if is_changed { format!("{head}+") } else { head }
}

fn machine(workers: usize) -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let name = name.map_or("an unnamed processor", |(_, name)| name);
    format!("{name}, {workers} trainings at once on a thread each")
}

fn worker(words: &[String]) -> Result<(), String> {
    let [name, budget_word, cell, seed, revision, dir] = words else {
        return Err(format!("{WORKER} TABLE BUDGET CELL SEED REVISION DIR"));
    };
    let table = table(name)?;
    let cell = table.cell(cell).ok_or_else(|| format!("{name} has no cell {cell:?}"))?;
    let seed = seed.parse().map_err(|_| format!("{seed:?} is no seed"))?;
    // The program that started this one is gone when its end of the line is.
    std::thread::spawn(|| {
        std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).ok();
        std::process::exit(1);
    });
    let unit = Unit { table: &table, cell, budget: budget(budget_word)?, seed, revision };
    unit.run(Path::new(dir), &device()).map(drop).map_err(|error| error.to_string())
}

fn reproduce(arguments: &Arguments, command: String) -> Result<(), String> {
    let table = &arguments.table;
    let plan = Plan {
        table,
        budget: arguments.budget,
        revision: revision(),
        dir: arguments.runs.clone(),
        workers: arguments.workers,
        limit: arguments.limit,
    };
    println!("{}\n{}\n", table.title, table.claim);
    let began = std::time::Instant::now();
    let units = run(&plan, &mut |line| println!("{line}")).map_err(|error| error.to_string())?;
    let words = [command, machine(plan.workers)];
    let results = Results::new(table, arguments.budget, &units, words);
    let [there, total] = results.units;
    write(arguments, &results)?;
    println!(
        "{there} of {total} trainings are there; this took {:.0} s",
        began.elapsed().as_secs_f64()
    );
    if there < total {
        println!("run the same command again to go on");
    }
    Ok(())
}

/// The names of the JSON, the Markdown and the report of a table.
fn paths(arguments: &Arguments, is_whole: bool) -> [PathBuf; 3] {
    let budget = if arguments.budget == Budget::Full { "" } else { "-quick" };
    let partial = if is_whole { "" } else { "-partial" };
    let name = format!("{}{budget}{partial}", arguments.table.name);
    let (results, pages) = (arguments.out.join("results"), arguments.out.join("docs/results"));
    [
        results.join(format!("{name}.json")),
        pages.join(format!("{name}.md")),
        results.join(format!("{name}.html")),
    ]
}

fn write(arguments: &Arguments, results: &Results) -> Result<(), String> {
    let table = &arguments.table;
    let page = markdown(table, results);
    let text = serde_json::to_string(results).map_err(|error| error.to_string())? + "\n";
    let report = soft_train::report::render_reproduction(table, results);
    let paths = paths(arguments, results.units[0] == results.units[1]);
    for (path, text) in paths.iter().zip([text, page.clone(), report]) {
        let folder = path.parent().expect("it lies in a folder");
        std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    println!("\n{page}");
    println!("{}", paths.map(|path| path.display().to_string()).join(", "));
    Ok(())
}

/// Writes the pages of a table anew from its JSON.
fn render(arguments: &Arguments) -> Result<(), String> {
    let [path, ..] = paths(arguments, true);
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let old: Results =
        serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    let units: Vec<_> = old.cells.into_iter().flat_map(|cell| cell.units).collect();
    let words = [old.command, old.machine];
    write(arguments, &Results::new(&arguments.table, arguments.budget, &units, words))
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == WORKER) {
        return match worker(&words[1..]) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    let arguments = match arguments(&words) {
        Ok(arguments) => arguments,
        Err(message) => {
            eprintln!("reproduce: {message}");
            return ExitCode::from(2);
        }
    };
    let command = format!(
        "cargo xtask reproduce {} --budget {}",
        arguments.table.name,
        arguments.budget.as_str()
    );
    let done = if arguments.render { render(&arguments) } else { reproduce(&arguments, command) };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("reproduce: {error}");
            ExitCode::FAILURE
        }
    }
}
