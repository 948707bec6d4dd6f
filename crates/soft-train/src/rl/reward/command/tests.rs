//! Programs that answer well, badly, late and not at all; all of them scripts of `sh`.

use std::env;
use std::fs;
use std::path::PathBuf;

use serde_json::json;

use super::*;

/// A wait that a busy machine does not reach.
const LONG: Duration = Duration::from_mins(1);

/// The wait of a program that never answers.
const SHORT: Duration = Duration::from_millis(200);

/// Answers each `{"n":1}` with its number.
const ECHO: &str = r#"while read -r line; do n=${line#*:}; echo "${n%\}}"; done"#;

fn command(script: &str, arguments: &[&str]) -> Vec<String> {
    ["sh", "-c", script, "sh"].iter().chain(arguments).map(ToString::to_string).collect()
}

fn reward(script: &str) -> CommandReward {
    CommandReward::new(command(script, &[]), LONG)
}

/// What a script answers to the lines 0, 1, ... `count - 1`.
fn score(script: &str, count: usize) -> Result<Vec<f64>, CommandFault> {
    reward(script).score(&lines(count))
}

/// The whole message of a script's fault.
fn message(script: &str, count: usize) -> String {
    score(script, count).unwrap_err().to_string()
}

fn lines(count: usize) -> Vec<Value> {
    (0..count).map(|n| json!({ "n": n })).collect()
}

fn numbers(count: u32) -> Vec<f64> {
    (0..count).map(f64::from).collect()
}

/// A file that is not there yet, and is not there any more after the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("soft-command-{}-{name}", std::process::id()));
        fs::remove_file(&path).ok();
        Self(path)
    }

    fn reward(&self, script: &str, limit: Duration) -> CommandReward {
        CommandReward::new(command(script, &[self.0.to_str().unwrap()]), limit)
    }

    /// The words that scripts have written to it.
    fn words(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.0).unwrap();
        text.split_whitespace().map(ToString::to_string).collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}

/// Whether a process is there, as a zombie or not.
fn exists(pid: &str) -> bool {
    let mut kill = Command::new("sh");
    kill.args(["-c", r#"kill -0 "$1" 2>/dev/null"#, "sh", pid]).status().unwrap().success()
}

#[test]
fn a_thousand_answers_come_in_order() {
    assert_eq!(score(ECHO, 1000).unwrap(), numbers(1000));
}

#[test]
fn no_lines_need_no_program() {
    let mut reward = CommandReward::new(vec!["/nowhere/to/be/found".into()], LONG);
    assert_eq!(reward.score(&[]).unwrap(), numbers(0));
}

#[test]
fn an_answer_is_a_number_or_an_object_with_a_reward_and_blank_lines_are_none() {
    let script =
        r#"printf '\n 0.5\r\n \n{"reward": -1e-3, "why": [null]}\n\n3\n'; cat > /dev/null"#;
    assert_eq!(score(script, 3).unwrap(), [0.5, -1e-3, 3.0]);
}

/// Eight answers take longer than the limit, each takes a sixth of it.
#[test]
fn the_limit_is_that_of_the_next_answer() {
    let script = "while read -r line; do sleep 0.5; echo 1; done";
    let mut reward = CommandReward::new(command(script, &[]), Duration::from_secs(3));
    assert_eq!(reward.score(&lines(8)).unwrap(), [1.0; 8]);
}

#[test]
fn a_program_may_read_some_lines_before_it_answers() {
    let script = "while read -r a && read -r b && read -r c; do echo 1; echo 2; echo 3; done";
    assert_eq!(score(script, 6).unwrap(), [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
}

/// 10 MiB each way, far over what pipes hold.
#[test]
fn long_lines_and_long_answers_block_nobody() {
    let long = vec![json!({ "reward": 2, "text": "x".repeat(200_000) }); 50];
    assert_eq!(reward("exec cat").score(&long).unwrap(), [2.0; 50]);
}

#[test]
fn a_program_is_kept_between_calls() {
    let mut reward = reward("while read -r line; do echo $$; done");
    let first = reward.score(&lines(2)).unwrap();
    assert_eq!(first[0].to_bits(), first[1].to_bits());
    assert_eq!(reward.score(&lines(2)).unwrap(), first);
}

#[test]
fn a_flood_of_errors_blocks_nobody_and_its_end_is_told() {
    let flood = "head -c 10485760 /dev/zero | tr '\\0' x >&2; echo end >&2; read -r line;";
    assert_eq!(score(&format!("{flood} echo 1"), 1).unwrap(), [1.0]);
    let message = message(&format!("{flood} exit 1"), 1);
    let (_, told) = message.split_once("the last of its standard error:\n").unwrap();
    assert_eq!(told, format!("{}end", "x".repeat(MAX_STDERR - 4)));
}

#[test]
fn a_program_that_cannot_start_is_named() {
    let missing = vec!["/nowhere/to/be/found".to_string(), "--fast".into()];
    let fault = CommandReward::new(missing, LONG).score(&lines(1)).unwrap_err();
    assert_eq!(
        fault.to_string(),
        "cannot start the reward program `/nowhere/to/be/found --fast`: No such file or directory \
         (os error 2); expected a program on the PATH or the path of an executable file: check \
         its name, its right to execute (`chmod +x`) and, in a script, the interpreter that the \
         first line names"
    );
    let file = Scratch::new("not-executable");
    fs::write(&file.0, "#!/bin/sh\n").unwrap();
    let plain = vec![file.0.to_str().unwrap().to_string()];
    let fault = CommandReward::new(plain, LONG).score(&lines(1)).unwrap_err();
    assert!(fault.to_string().contains("Permission denied"), "{fault}");
    let fault = CommandReward::new(Vec::new(), LONG).score(&lines(1)).unwrap_err();
    assert!(fault.to_string().contains("the command is empty"), "{fault}");
}

#[test]
fn a_program_that_ends_is_told_with_its_status_and_last_words() {
    assert_eq!(
        message("echo 'no model' >&2; exit 7", 2),
        "reward program `sh -c echo 'no model' >&2; exit 7 sh`, line 1 of 2 `{\"n\":0}`: the \
         program ended (exit status: 7) before it had answered; expected an answer, ended by a \
         newline, to each line: run it by hand with that line as its input; the last of its \
         standard error:\nno model"
    );
    let after_three = message("echo 1; echo 2; echo 3; exit 0", 5);
    assert!(after_three.contains("line 4 of 5 `{\"n\":3}`"), "{after_three}");
    assert!(after_three.contains("(exit status: 0)"), "{after_three}");
    assert!(after_three.ends_with("; it wrote nothing to standard error"), "{after_three}");
    let by_signal = message("read -r line; kill -KILL $$", 1);
    assert!(by_signal.contains("(signal: 9 (SIGKILL))"), "{by_signal}");
}

/// `0.12` may be the start of `0.125`.
#[test]
fn an_answer_that_the_end_cuts_off_is_none() {
    let fault = score("read -r line; printf 0.12", 1).unwrap_err();
    assert!(matches!(fault, CommandFault::Ended { .. }), "{fault}");
}

/// It answers once, so that it surely runs when the short limit is set; the second try hangs at once.
#[test]
fn a_program_that_hangs_is_killed_with_what_it_started() {
    let file = Scratch::new("hangs");
    let script = r#"if [ -e "$1" ]; then second=yes; fi; sleep 600 & echo $$ $! >> "$1"
        if [ -z "$second" ]; then read -r line; echo 1; fi; wait"#;
    let mut reward = file.reward(script, LONG);
    reward.score(&lines(1)).unwrap();
    reward.limit = SHORT;
    let fault = reward.score(&lines(2)).unwrap_err();
    assert!(matches!(fault, CommandFault::Silent { .. }), "{fault}");
    let told = fault.to_string();
    assert_eq!(
        told.split_once(", line ").unwrap().1,
        "1 of 2 `{\"n\":0}`: no answer within 200ms; expected a line on standard output: flush \
         each answer (in Python `print(..., flush=True)`), and set a longer limit for a program \
         that needs it; it wrote nothing to standard error"
    );
    let found = file.words();
    for pids in found.chunks(2) {
        assert!(!exists(&pids[0]), "{} is still there", pids[0]);
        // Nobody may wait for the orphan, which is a zombie then.
        let state = |pid| fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let gone = || !exists(&pids[1]) || state(&pids[1]).contains(") Z ");
        assert!(within(LONG, || gone().then_some(())).is_some(), "{} is still there", pids[1]);
    }
}

#[test]
fn a_program_that_reads_nothing_is_told_from_one_that_is_read() {
    let long = vec![json!("x".repeat(100_000)); 50];
    let mut reward = CommandReward::new(command("sleep 600", &[]), SHORT);
    let fault = reward.score(&long).unwrap_err().to_string();
    let shown = format!("line 1 of 50 `\"{}...`: no answer within 200ms", "x".repeat(199));
    assert!(fault.contains(&shown), "{fault}");
    let fault = score("exit 1", 1).unwrap_err();
    assert!(matches!(fault, CommandFault::Ended { .. }), "{fault}");
}

/// The wait for the last answer is in vain, whichever line has none; a blank one is none.
#[test]
fn a_line_without_an_answer_is_missed() {
    for answer in ["true", "echo"] {
        let script =
            format!("while read -r l; do case $l in *1*) {answer};; *) echo 1;; esac; done");
        let fault = CommandReward::new(command(&script, &[]), SHORT).score(&lines(3)).unwrap_err();
        assert!(matches!(fault, CommandFault::Silent { .. }), "{fault}");
    }
}

#[test]
fn a_program_that_closes_its_output_is_told_from_one_that_ends() {
    let message = message("exec >&-; echo oh >&2; exec sleep 600", 1);
    assert_eq!(
        message.split_once(", line ").unwrap().1,
        "1 of 1 `{\"n\":0}`: the program closed its standard output but did not end; expected an \
         answer: keep standard output open until standard input is closed; the last of its \
         standard error:\noh"
    );
}

#[test]
fn what_is_no_reward_is_shown() {
    let no_number = "`: JSON has no NaN and no infinity";
    for (answer, problem) in [
        ("NaN", no_number),
        ("-Infinity", no_number),
        ("inf", no_number),
        (r#"{"reward": nan}"#, no_number),
        ("good info", "`, which is not JSON (expected value at line 1 column 1)"),
        ("0.5 0.5", "`, which is not JSON (trailing characters at line 1 column 5)"),
        ("1e999", "`, which is not JSON (number out of range at line 1 column 5)"),
        ("null", "`, whose reward is null"),
        ("true", "`, whose reward is true or false"),
        (r#""1""#, "`, whose reward is a text"),
        ("[1]", "`, whose reward is an array"),
        (r#"{"score": 1}"#, "`, which has no `reward`"),
        (r#"{"reward": {}}"#, "`, whose reward is an object"),
    ] {
        let script = format!("echo 1; echo '{answer}'; cat > /dev/null");
        assert_eq!(
            message(&script, 2),
            format!(
                "reward program `sh -c {script} sh`, line 2 of 2 `{{\"n\":1}}`: found `{answer}\
                 {problem}; expected a finite number, or an object with one under `reward`: answer \
                 each line with one line, and print everything else to standard error"
            )
        );
    }
}

#[test]
fn bytes_that_a_terminal_obeys_are_not_shown() {
    let message = message(r"printf '\033[2J\377\n'; cat > /dev/null", 1);
    assert!(message.contains("found ` [2J\u{fffd}`, which is not JSON"), "{message}");
}

#[test]
fn an_answer_may_be_a_mebibyte_long_and_no_longer() {
    let padded = |spaces: usize| format!("printf '%{spaces}s\\n' 1; cat > /dev/null");
    assert_eq!(score(&padded(MAX_ANSWER), 1).unwrap(), [1.0]);
    for script in [padded(MAX_ANSWER + 1), "tr '\\0' x < /dev/zero".into()] {
        let message = message(&script, 1);
        assert!(message.contains("...`, which is over 1048576 bytes long; "), "{message}");
    }
}

#[test]
fn an_answer_too_many_is_found_by_the_next_call() {
    let mut reward = reward("yes 0.5");
    assert_eq!(reward.score(&lines(100)).unwrap(), [0.5; 100]);
    // It is there soon, but need not be at once.
    let fault = within(LONG, || reward.score(&lines(3)).err());
    assert_eq!(
        fault.unwrap().to_string(),
        "reward program `sh -c yes 0.5 sh`, line 1 of 3 `{\"n\":0}`: found the answer `0.5` before \
         the line was sent, left over from the lines before; expected one answer a line: print \
         everything else to standard error"
    );
    assert_eq!(reward.score(&lines(3)).unwrap(), [0.5; 3], "a new program is started");
}

/// The first program crashes after two answers.
#[test]
fn one_crash_is_healed_by_a_second_program_that_gets_all_lines() {
    let file = Scratch::new("crash");
    let script = format!(
        r#"if ! [ -e "$1" ]; then echo $$ > "$1"; read -r a; read -r b; echo 8; echo 9; exit 1; fi
        {ECHO}"#
    );
    let mut reward = file.reward(&script, LONG);
    assert_eq!(reward.score(&lines(5)).unwrap(), numbers(5));
    assert!(!exists(&file.words()[0]), "a zombie is left");
}

#[test]
fn a_program_that_ends_between_calls_is_started_again() {
    let mut reward = reward("read -r line; echo 1");
    for _ in 0..3 {
        assert_eq!(reward.score(&lines(1)).unwrap(), [1.0]);
    }
}

#[test]
fn a_crash_is_tried_twice_and_a_bad_answer_once_and_the_next_call_starts_anew() {
    for (fault, starts) in [("exit 1", 2), ("exec >&-; sleep 600", 2), ("echo NaN; sleep 600", 1)] {
        let file = Scratch::new(&format!("tries-{}", fault.len()));
        let good = Scratch::new(&format!("good-{}", fault.len()));
        let good_path = good.0.to_str().unwrap();
        let script =
            format!(r#"echo $$ >> "$1"; if ! [ -e "{good_path}" ]; then {fault}; fi; {ECHO}"#);
        let mut reward = file.reward(&script, LONG);
        reward.score(&lines(2)).unwrap_err();
        let pids = file.words();
        assert_eq!(pids.len(), starts, "{fault}");
        assert!(!pids.iter().any(|pid| exists(pid)), "{fault}: a program or a zombie is left");
        fs::write(&good.0, "").unwrap();
        assert_eq!(reward.score(&lines(2)).unwrap(), numbers(2), "{fault}");
    }
}

#[test]
fn a_program_may_do_its_last_work_when_it_is_dropped() {
    let file = Scratch::new("last-work");
    let mut reward = file.reward(r#"while read -r line; do echo 1; done; echo $$ > "$1""#, LONG);
    reward.score(&lines(1)).unwrap();
    drop(reward);
    assert!(!exists(&file.words()[0]), "a zombie is left");
}

#[test]
fn a_program_that_does_not_end_when_it_is_dropped_is_killed() {
    let file = Scratch::new("stays");
    let mut reward = file.reward(r#"echo $$ > "$1"; echo 1; exec sleep 600"#, LONG);
    reward.score(&lines(1)).unwrap();
    drop(reward);
    assert!(!exists(&file.words()[0]), "it is still there");
}
