//! `cargo xtask test --list-reliability`: the promises of the reliability list and how their tests
//! ended. A test belongs to a promise by its name: `t07_...` is one of T07.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::process::{Failure, Outcome, cargo, exit_code};

/// What is promised, by number.
const PROMISES: [(u8, &str); 40] = [
    (1, "a kill while a checkpoint is written loses nothing"),
    (2, "a full disk leaves the old checkpoint and says what is needed"),
    (3, "leftovers of a killed process are cleaned, those of a live one are not"),
    (4, "a directory that cannot be written is an error before the training"),
    (5, "one run directory, one process"),
    (6, "a damaged newest checkpoint is passed over with a warning"),
    (7, "a flipped bit is found and named"),
    (8, "a manifest of a future version is refused"),
    (9, "files are on the disk before they get their names"),
    (10, "retention deletes neither the newest valid nor the best checkpoint"),
    (11, "a resumed run equals an unbroken one to the bit"),
    (12, "the same seed gives the same files, another one others"),
    (13, "a batch is a function of seed and step"),
    (14, "a run goes on only under the settings that matter"),
    (15, "a resumed run trains the same parameters over the same base"),
    (16, "more steps change the schedule as documented"),
    (17, "each recipe has the losses on record"),
    (18, "equal ways to one result give one result"),
    (20, "hostile safetensors"),
    (21, "hostile indexes of shards"),
    (22, "hostile tokenizers"),
    (23, "hostile configurations of models"),
    (24, "hostile chat templates"),
    (25, "hostile adapters"),
    (26, "the laws of files from strangers hold for what fuzzing found"),
    (27, "pickles are refused with a hint"),
    (30, "every mistake in a configuration is placed and explained"),
    (31, "the schema describes every configuration"),
    (32, "JSON lines of every kind"),
    (33, "Parquet files of every kind"),
    (34, "a tokenizer that does not fit the model"),
    (35, "what is scored is what was meant"),
    (40, "a loss that is no number stops or is skipped, as asked"),
    (41, "signals end a run with a checkpoint"),
    (42, "no terminal, a dumb one, a narrow one, a closed pipe"),
    (43, "records survive a kill"),
    (44, "the estimate of memory"),
    (45, "memory that a device lacks is an error with advice"),
    (48, "files are exchanged with other libraries"),
    (49, "every documented command"),
];

/// How the tests of a promise ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Count {
    passed: usize,
    failed: usize,
    ignored: usize,
}

impl Count {
    fn verdict(self) -> &'static str {
        match (self.failed, self.passed) {
            (0, 0) => "missing",
            (0, _) => "pass",
            _ => "FAIL",
        }
    }
}

/// Runs every test, showing what cargo shows, and then the list. Promises without a test are no
/// failure of the command; a failed test is.
pub(crate) fn run(arguments: &[String]) -> Outcome {
    let mut command = cargo();
    command.args(["test", "--workspace", "--no-fail-fast"]).args(arguments).stdout(Stdio::piped());
    let failed = |error| Failure::new(format!("cannot run cargo test: {error}"));
    let mut child = command.spawn().map_err(failed)?;
    let mut counts = BTreeMap::new();
    for line in child.stdout.take().into_iter().flat_map(|out| BufReader::new(out).lines()) {
        let line = line.map_err(failed)?;
        println!("{line}");
        count(&line, &mut counts);
    }
    let status = child.wait().map_err(failed)?;
    println!("\n{}", list(&counts));
    match status.success() {
        true => Ok(()),
        false => Err(Failure {
            message: format!("cargo test failed ({status})"),
            code: exit_code(status.code()),
        }),
    }
}

/// Adds a line of the test harness: `test module::t07_a_name ... ok`.
fn count(line: &str, counts: &mut BTreeMap<u8, Count>) {
    let Some((name, outcome)) =
        line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... "))
    else {
        return;
    };
    let Some(number) = promise_of(name) else { return };
    let count = counts.entry(number).or_default();
    match outcome.split_whitespace().next() {
        Some("ok") => count.passed += 1,
        Some("ignored" | "ignored,") => count.ignored += 1,
        _ => count.failed += 1,
    }
}

/// The number that the name of a test begins with; what comes before `::` is its place.
fn promise_of(name: &str) -> Option<u8> {
    let name = name.rsplit("::").next()?;
    let digits = name.strip_prefix('t')?;
    let (number, rest) = (digits.get(..2)?, digits.get(2..)?);
    if !rest.starts_with('_') { None } else { number.parse().ok() }
}

fn list(counts: &BTreeMap<u8, Count>) -> String {
    let mut text = String::from("reliability   tests\n");
    let mut missing = 0;
    for (number, what) in &PROMISES {
        let count = counts.get(number).copied().unwrap_or_default();
        missing += usize::from(count.verdict() == "missing");
        let ignored = match count.ignored {
            0 => String::new(),
            ignored => format!(" ({ignored} ignored)"),
        };
        text.push_str(&format!(
            "T{number:02}  {:<8} {:>4}   {what}{ignored}\n",
            count.verdict(),
            count.passed + count.failed
        ));
    }
    let all = PROMISES.len();
    text.push_str(&format!("{} of {all} promises have tests\n", all - missing));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_counted_by_the_number_in_their_names() {
        let mut counts = BTreeMap::new();
        for line in [
            "test t07_a_flipped_bit ... ok",
            "test module::inner::t07_another ... FAILED",
            "test t07_slow ... ignored, takes an hour",
            "test module::t13_batches ... ok",
            "test the_07_rule ... ok",
            "test t7_short ... ok",
            "running 5 tests",
        ] {
            count(line, &mut counts);
        }
        assert_eq!(counts[&7], Count { passed: 1, failed: 1, ignored: 1 });
        assert_eq!(counts[&13], Count { passed: 1, failed: 0, ignored: 0 });
        assert_eq!(counts.len(), 2);
        let list = list(&counts);
        assert!(list.contains("T07  FAIL        2") && list.contains("(1 ignored)"), "{list}");
        assert!(
            list.contains("T13  pass        1") && list.contains("T12  missing     0"),
            "{list}"
        );
        assert!(list.ends_with("2 of 40 promises have tests\n"), "{list}");
    }
}
