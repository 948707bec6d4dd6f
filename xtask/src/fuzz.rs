//! `cargo xtask fuzz`: the fuzz targets of `fuzz/`, built with coverage counters and run one after
//! another.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::process::{Failure, Outcome, run as run_child, workspace_root};

/// Targets and the longest input each is given: what fits it is found sooner among short ones.
const TARGETS: [(&str, usize); 11] = [
    ("safetensors", 2048),
    ("shard_index", 2048),
    ("model_config", 2048),
    ("config_toml", 2048),
    ("overrides", 512),
    ("jsonl", 2048),
    ("tokenizer", 4096),
    ("chat_template", 1024),
    ("manifest", 2048),
    ("gguf", 4096),
    ("peft", 4096),
];

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
struct Wish {
    seconds: u64,
    keep: bool,
    targets: Vec<(&'static str, usize)>,
}

/// What became of one target.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    executions: u64,
    /// Edges of the program that some input reached.
    coverage: u64,
    /// Inputs that together reach them.
    corpus: u64,
    crash: Option<String>,
}

/// `[--seconds N] [--keep] [TARGET..]`: runs each target for N seconds (60). With `--keep`, what was
/// found is put into `fuzz/corpus`, minimised.
pub(crate) fn run(arguments: &[String]) -> Outcome {
    let wish = wish(arguments)?;
    install()?;
    build()?;
    let mut rows = Vec::new();
    for &(name, max_len) in &wish.targets {
        let found = fuzz(name, max_len, wish.seconds)?;
        if wish.keep && found.crash.is_none() {
            minimise(name)?;
        }
        rows.push((name, found));
    }
    println!("\n{}", table(&rows));
    let crashed: Vec<&str> =
        rows.iter().filter(|(_, found)| found.crash.is_some()).map(|(name, _)| *name).collect();
    match crashed.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(format!(
            "{} failed: mend it, and keep the input in fuzz/regressions",
            crashed.join(", ")
        ))),
    }
}

fn wish(arguments: &[String]) -> Result<Wish, Failure> {
    let usage = |message: String| Failure { message, code: 2 };
    let mut wish = Wish { seconds: 60, keep: false, targets: Vec::new() };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--seconds" => {
                let seconds = rest.next().and_then(|text| text.parse().ok()).filter(|&n| n > 0);
                let missing = || usage("--seconds needs a whole number, at least 1".to_owned());
                wish.seconds = seconds.ok_or_else(missing)?;
            }
            "--keep" => wish.keep = true,
            name => match TARGETS.iter().find(|(known, _)| *known == name) {
                Some(target) => wish.targets.push(*target),
                None => {
                    let known = TARGETS.map(|(known, _)| known).join(", ");
                    return Err(usage(format!("unknown target \"{name}\": there are {known}")));
                }
            },
        }
    }
    if wish.targets.is_empty() {
        wish.targets = TARGETS.to_vec();
    }
    Ok(wish)
}

/// `cargo` of the nightly toolchain, which alone counts coverage.
fn nightly() -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo"]).current_dir(workspace_root());
    // Set for us by the other toolchain's cargo.
    for name in ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN"] {
        command.env_remove(name);
    }
    command
}

/// Installs cargo-fuzz where it is missing.
fn install() -> Outcome {
    let answers = |command: &mut Command| {
        let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
        quiet.status().is_ok_and(|status| status.success())
    };
    if !answers(nightly().arg("--version")) {
        let advice = "`rustup toolchain install nightly` installs the toolchain that fuzzing needs";
        return Err(Failure::new(advice));
    }
    if answers(nightly().args(["fuzz", "--version"])) {
        return Ok(());
    }
    run_child(nightly().args(["install", "--locked", "cargo-fuzz"]), "cargo install cargo-fuzz")
}

/// Safe code needs no address sanitizer, which would make everything twice as slow.
fn build() -> Outcome {
    let mut command = nightly();
    command.args(["fuzz", "build", "--sanitizer", "none", "--release", "--target-dir"]);
    run_child(command.arg(target_dir()), "cargo fuzz build")
}

/// Where the programs are built: `CARGO_TARGET_DIR`, else apart from those of the workspace.
fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => folder.into(),
        None => workspace_root().join("fuzz/target"),
    }
}

/// The program of a target.
fn program(name: &str) -> Result<PathBuf, Failure> {
    let target_dir = target_dir();
    let folders = fs::read_dir(&target_dir).into_iter().flatten().flatten();
    // Below the name of the machine, which cargo-fuzz always gives.
    let mut programs = folders.map(|folder| folder.path().join("release").join(name));
    let missing = || Failure::new(format!("no program {name} below {}", target_dir.display()));
    programs.find(|path| path.is_file()).ok_or_else(missing)
}

/// Inputs that were found, inputs of the project, and those that once failed.
fn folders(name: &str) -> Result<[PathBuf; 3], Failure> {
    let own = workspace_root().join("fuzz");
    let folders = [
        target_dir().join("corpus").join(name),
        own.join("corpus").join(name),
        own.join("regressions").join(name),
    ];
    for folder in &folders {
        fs::create_dir_all(folder).map_err(|error| cannot("make", folder, &error))?;
    }
    Ok(folders)
}

fn fuzz(name: &str, max_len: usize, seconds: u64) -> Result<Found, Failure> {
    println!("=== {name}, {seconds} s");
    let artifacts = workspace_root().join("fuzz/artifacts").join(name);
    let scratch = scratch().join(format!("soft-fuzz-{}", std::process::id()));
    for folder in [&artifacts, &scratch] {
        fs::create_dir_all(folder).map_err(|error| cannot("make", folder, &error))?;
    }
    let mut command = Command::new(program(name)?);
    command
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={max_len}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args(["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"])
        .args(folders(name)?)
        .env("TMPDIR", &scratch)
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| cannot("start", Path::new(name), &error))?;
    let mut found = Found::default();
    for line in child.stderr.take().into_iter().flat_map(|out| BufReader::new(out).split(b'\n')) {
        let line = line.map_err(|error| cannot("read", Path::new(name), &error))?;
        let line = String::from_utf8_lossy(&line);
        found.note(&line);
        if !line.starts_with('#') || line.contains("DONE") {
            eprintln!("{line}");
        }
    }
    let status = child.wait().map_err(|error| cannot("wait for", Path::new(name), &error))?;
    let _ = fs::remove_dir_all(&scratch);
    if !status.success() && found.crash.is_none() {
        found.crash = Some(format!("{status}"));
    }
    Ok(found)
}

/// Memory, where there is a folder that is kept there: the targets write a file for every input.
fn scratch() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}

impl Found {
    /// Reads a line of libFuzzer.
    fn note(&mut self, line: &str) {
        let number =
            |text: &str| text.split(['/', ' ']).next().and_then(|digits| digits.parse().ok());
        let after =
            |mark: &str| line.split_once(mark).and_then(|(_, rest)| number(rest.trim_start()));
        if line.starts_with('#') {
            self.coverage = after(" cov: ").unwrap_or(self.coverage);
            self.corpus = after(" corp: ").unwrap_or(self.corpus);
        }
        if let Some(executions) = after("stat::number_of_executed_units:") {
            self.executions = executions;
        }
        if let Some((_, path)) = line.split_once("Test unit written to ") {
            self.crash = Some(path.trim().to_owned());
        }
    }
}

/// Puts the fewest inputs that reach all that was reached into `fuzz/corpus`.
fn minimise(name: &str) -> Outcome {
    let [found, kept, _] = folders(name)?;
    let fewest = target_dir().join("corpus").join(format!("{name}.fewest"));
    let _ = fs::remove_dir_all(&fewest);
    fs::create_dir_all(&fewest).map_err(|error| cannot("make", &fewest, &error))?;
    let mut merge = Command::new(program(name)?);
    // By what is reached, not by how often: a tenth of the inputs.
    merge.args(["-set_cover_merge=1", "-use_counters=0"]).arg(&fewest).args([&kept, &found]);
    merge.stderr(Stdio::null());
    run_child(&mut merge, &format!("{name} -set_cover_merge=1"))?;
    fs::remove_dir_all(&kept).map_err(|error| cannot("remove", &kept, &error))?;
    fs::create_dir_all(&kept).map_err(|error| cannot("make", &kept, &error))?;
    for entry in fs::read_dir(&fewest).map_err(|error| cannot("list", &fewest, &error))?.flatten() {
        let target = kept.join(entry.file_name());
        fs::copy(entry.path(), &target).map_err(|error| cannot("write", &target, &error))?;
    }
    Ok(())
}

fn table(rows: &[(&str, Found)]) -> String {
    let mut text = format!(
        "{:<14} {:>12} {:>9} {:>7}  {}\n",
        "target", "executions", "coverage", "corpus", "failure"
    );
    for (name, found) in rows {
        let Found { executions, coverage, corpus, crash } = found;
        let crash = crash.as_deref().unwrap_or("none");
        text.push_str(&format!("{name:<14} {executions:>12} {coverage:>9} {corpus:>7}  {crash}\n"));
    }
    text
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot {what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn every_target_has_a_program_and_seeds() {
        let fuzz = workspace_root().join("fuzz");
        for (name, _) in TARGETS {
            assert!(fuzz.join(format!("fuzz_targets/{name}.rs")).is_file(), "{name}");
            let seeds = fs::read_dir(fuzz.join("corpus").join(name)).expect("a folder of seeds");
            assert!(seeds.count() > 0, "{name}");
        }
        let programs = fs::read_dir(fuzz.join("fuzz_targets")).expect("a folder");
        assert_eq!(programs.count(), TARGETS.len());
    }

    #[test]
    fn targets_are_chosen_by_name_and_all_without_one() {
        let all = wish(&[]).expect("all");
        assert_eq!((all.seconds, all.keep, all.targets.len()), (60, false, TARGETS.len()));
        let one = wish(&words("--seconds 7 gguf --keep")).expect("one");
        let expected = Wish { seconds: 7, keep: true, targets: vec![("gguf", 4096)] };
        assert_eq!(one, expected);
        assert!(wish(&words("--seconds")).expect_err("no number").message.contains("whole number"));
        let unknown = wish(&words("ggml")).expect_err("unknown");
        assert!(unknown.message.starts_with("unknown target \"ggml\": there are safetensors, "));
        assert_eq!(unknown.code, 2);
    }

    #[test]
    fn counts_are_read_from_what_libfuzzer_prints() {
        let mut found = Found::default();
        for line in [
            "#2\tINITED cov: 35 ft: 36 corp: 1/1b exec/s: 0 rss: 40Mb",
            "#9000\tREDUCE cov: 812 ft: 2047 corp: 190/11Kb lim: 163 exec/s: 3000 rss: 60Mb",
            "stat::number_of_executed_units: 123456",
            "stat::peak_rss_mb:              77",
        ] {
            found.note(line);
        }
        let expected = Found { executions: 123_456, coverage: 812, corpus: 190, crash: None };
        assert_eq!(found, expected);
        found.note("artifact_prefix='a/'; Test unit written to a/crash-12ab");
        assert_eq!(found.crash.as_deref(), Some("a/crash-12ab"));
        let table = table(&[("gguf", found)]);
        assert!(
            table.contains("gguf                 123456       812     190  a/crash-12ab"),
            "{table}"
        );
    }
}
