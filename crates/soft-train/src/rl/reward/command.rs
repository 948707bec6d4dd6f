//! Rewards that a user's program computes: a line of JSON in, a line of JSON out.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Bytes of the longest answer: a program that never ends its line must not fill the memory.
const MAX_ANSWER: usize = 1 << 20;

/// Answers that wait to be read; a program that is further ahead waits itself.
const MAX_WAITING: usize = 16;

/// Bytes that are kept of the end of standard error.
const MAX_STDERR: usize = 2048;

/// Characters of a command, a line or an answer in a message.
const MAX_SHOWN: usize = 200;

/// How long a program may take to end once it is told to.
const GRACE: Duration = Duration::from_secs(1);

/// Between the end of a program's output and the end of the program, where it is crashing.
const DYING: Duration = Duration::from_secs(2);

/// Rewards from a program: one JSON object a line in, one a line out.
///
/// The program reads lines from its standard input until that is closed, and answers each, in
/// order, with one line on its standard output: a number (`0.5`) or an object with one under
/// `reward` (`{"reward": 0.5}`; other keys are ignored). It must flush each answer. Blank lines are
/// skipped; anything else it has to say goes to standard error, the end of which is in the message
/// of a fault.
///
/// It is started at the first use and kept for the later ones. On Unix it has a process group of its
/// own: an interrupt from the keyboard does not reach it before this program has done its last
/// work, and where it has to be killed, what it started is killed too (by `kill` of `sh`). Elsewhere,
/// and where it ends by itself, what it started is left alone.
///
/// When this is dropped, standard input is closed; a program that has not ended a second later is
/// killed. No zombie is left behind.
#[derive(Debug)]
pub(super) struct CommandReward {
    command: Vec<String>,
    limit: Duration,
    running: Option<Running>,
}

/// Why a program gave no reward. By then it has been killed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum CommandFault {
    /// There is no such program, or it may not be run.
    #[error(
        "cannot start the reward program `{program}`: {source}; expected a program on the PATH or \
         the path of an executable file: check its name, its right to execute (`chmod +x`) and, \
         in a script, the interpreter that the first line names"
    )]
    Start {
        /// The command.
        program: String,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The program ended before it answered, twice.
    #[error(
        "{place}: the program ended ({status}) before it had answered; expected an answer, ended \
         by a newline, to each line: run it by hand with that line as its input{}",
        last_words(stderr)
    )]
    Ended {
        /// The program, and the line whose answer was awaited.
        place: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it wrote to standard error.
        stderr: String,
    },
    /// The program did not answer in time, twice.
    #[error(
        "{place}: no answer within {limit:?}; expected a line on standard output: flush each \
         answer (in Python `print(..., flush=True)`), and set a longer limit for a program that \
         needs it{}",
        last_words(stderr)
    )]
    Silent {
        /// The program, and the line whose answer was awaited.
        place: String,
        /// The longest wait.
        limit: Duration,
        /// The end of what it wrote to standard error.
        stderr: String,
    },
    /// The program closed its standard output and ran on, twice.
    #[error(
        "{place}: the program closed its standard output but did not end; expected an answer: \
         keep standard output open until standard input is closed{}",
        last_words(stderr)
    )]
    Closed {
        /// The program, and the line whose answer was awaited.
        place: String,
        /// The end of what it wrote to standard error.
        stderr: String,
    },
    /// An answer is no reward.
    #[error(
        "{place}: found {found}; expected a finite number, or an object with one under `reward`: \
         answer each line with one line, and print everything else to standard error"
    )]
    NotAReward {
        /// The program, and the line that was answered.
        place: String,
        /// The answer, and what is wrong with it.
        found: String,
    },
    /// There were more answers than lines in the last call, whose rewards may be wrong.
    #[error(
        "{place}: found the answer `{answer}` before the line was sent, left over from the lines \
         before; expected one answer a line: print everything else to standard error"
    )]
    Leftover {
        /// The program, and the line that was to be sent next.
        place: String,
        /// The answer left over.
        answer: String,
    },
}

impl CommandFault {
    /// Whether a fresh program may do better: it crashed or hung. What closes its output may be
    /// crashing slowly.
    fn may_pass(&self) -> bool {
        matches!(self, Self::Ended { .. } | Self::Silent { .. } | Self::Closed { .. })
    }
}

impl CommandReward {
    /// Rewards from `command`, a program and its arguments, which is not started yet.
    ///
    /// `limit` is the longest wait for the NEXT answer, not for all: a slow program that keeps
    /// answering is fine. The first answer of a program includes its start.
    #[must_use]
    pub(super) fn new(command: Vec<String>, limit: Duration) -> Self {
        Self { command, limit, running: None }
    }

    /// Rewards of some lines, in order.
    ///
    /// A program that crashes or hangs is started once more, and gets all lines of this call again:
    /// it should not count on seeing a line only once.
    ///
    /// An answer too many is found at the start of the next call, if it is there by then; one that
    /// comes later cannot be told from the answer to the next line.
    ///
    /// # Errors
    /// A [`CommandFault`]: the program cannot be started, has crashed or hung twice, or answered with
    /// something else than a reward. It has been killed then, and the next call starts a new one.
    ///
    /// # Panics
    /// If the system has no threads left.
    pub(super) fn score(&mut self, lines: &[Value]) -> Result<Vec<f64>, CommandFault> {
        match self.try_score(lines) {
            Err(fault) if fault.may_pass() => self.try_score(lines),
            found => found,
        }
    }

    fn try_score(&mut self, lines: &[Value]) -> Result<Vec<f64>, CommandFault> {
        if lines.is_empty() {
            return Ok(Vec::new());
        }
        let mut running = match self.running.take() {
            Some(running) => running,
            None => Running::start(&self.command)?,
        };
        // On a fault it is dropped, which must not wait for it to end by itself.
        let rewards = running.score(lines, self.limit).inspect_err(|_| running.kill())?;
        self.running = Some(running);
        Ok(rewards)
    }
}

/// A program that was started, and the threads that talk to it.
///
/// The threads are never joined: what the program started may hold its pipes open for long.
#[derive(Debug)]
struct Running {
    program: String,
    child: Child,
    lines: Sender<String>,
    answers: Receiver<Vec<u8>>,
    stderr: Arc<Mutex<Vec<u8>>>,
    stderr_reader: JoinHandle<()>,
}

impl Running {
    fn start(command: &[String]) -> Result<Self, CommandFault> {
        let program = shown(command.join(" ").as_bytes());
        let named = |source| CommandFault::Start { program: program.clone(), source };
        let mut child = spawn(command).map_err(named)?;
        let (lines, to_write) = mpsc::channel();
        let (to_read, answers) = mpsc::sync_channel(MAX_WAITING);
        let stderr = Arc::new(Mutex::new(Vec::new()));
        let piped = "all three streams were asked to be pipes, and are taken once";
        let stdin = child.stdin.take().expect(piped);
        let stdout = child.stdout.take().expect(piped);
        let errors = child.stderr.take().expect(piped);
        thread::spawn(move || write_lines(stdin, &to_write));
        thread::spawn(move || read_answers(stdout, &to_read));
        let tail = Arc::clone(&stderr);
        let stderr_reader = thread::spawn(move || read_tail(errors, &tail));
        Ok(Self { program, child, lines, answers, stderr, stderr_reader })
    }

    fn score(&mut self, lines: &[Value], limit: Duration) -> Result<Vec<f64>, CommandFault> {
        if let Ok(answer) = self.answers.try_recv() {
            let (place, answer) = (self.place(lines, 0), shown(&answer));
            return Err(CommandFault::Leftover { place, answer });
        }
        for line in lines {
            // Fails where the program reads no more; whether it answers is seen below.
            self.lines.send(format!("{line}\n")).ok();
        }
        (0..lines.len()).map(|at| self.next_reward(lines, at, limit)).collect()
    }

    /// The reward of the line at `at`, when those before are answered.
    fn next_reward(
        &mut self,
        lines: &[Value],
        at: usize,
        limit: Duration,
    ) -> Result<f64, CommandFault> {
        match self.answers.recv_timeout(limit) {
            Ok(answer) => reward_in(&answer)
                .map_err(|found| CommandFault::NotAReward { place: self.place(lines, at), found }),
            Err(missing) => Err(self.no_answer(self.place(lines, at), limit, missing)),
        }
    }

    /// Why there is no answer; kills the program.
    fn no_answer(
        &mut self,
        place: String,
        limit: Duration,
        missing: RecvTimeoutError,
    ) -> CommandFault {
        let late = missing == RecvTimeoutError::Timeout;
        let status = self.wait(if late { Duration::ZERO } else { DYING });
        self.kill();
        let stderr = self.stderr();
        match status {
            Some(status) => CommandFault::Ended { place, status, stderr },
            None if late => CommandFault::Silent { place, limit, stderr },
            None => CommandFault::Closed { place, stderr },
        }
    }

    /// The program and a line, as a message names them.
    fn place(&self, lines: &[Value], at: usize) -> String {
        let line = shown(lines[at].to_string().as_bytes());
        format!("reward program `{}`, line {} of {} `{line}`", self.program, at + 1, lines.len())
    }

    /// The end of what an ended program wrote to standard error.
    fn stderr(&self) -> String {
        within(GRACE, || self.stderr_reader.is_finished().then_some(()));
        let tail = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        printable(&tail).trim().to_string()
    }

    /// How the program ended, if it does within a while.
    fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        within(limit, || self.child.try_wait().ok().flatten())
    }

    /// Kills the program, if it has not ended, and waits for it.
    fn kill(&mut self) {
        if self.wait(Duration::ZERO).is_none() {
            // Before the wait: until then, nothing else can have the number of this process.
            kill_group(&self.child);
            // What fails here has ended, or is out of reach.
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The writer ends with its channel, and closes standard input.
        self.lines = mpsc::channel().0;
        self.wait(GRACE);
        self.kill();
    }
}

fn spawn(command: &[String]) -> io::Result<Child> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the command is empty"));
    };
    let mut command = Command::new(program);
    command.args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.spawn()
}

/// Kills a program with what it started, where that can be done without a system call of our own.
fn kill_group(child: &Child) {
    if !cfg!(unix) {
        return;
    }
    let mut kill = Command::new("sh");
    kill.args(["-c", r#"kill -s KILL -- "-$1""#, "sh", &child.id().to_string()]);
    // Without `sh`, the program alone is killed.
    kill.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().ok();
}

/// Writes lines until there are no more, or the program reads no more.
fn write_lines(mut stdin: ChildStdin, lines: &Receiver<String>) {
    for line in lines {
        if stdin.write_all(line.as_bytes()).and_then(|()| stdin.flush()).is_err() {
            return;
        }
    }
}

/// Sends on each line that is not blank, and of a line over the limit pieces that are over it too.
///
/// What the end of the program cuts off is no answer: `0.12` may be the start of `0.125`.
fn read_answers(stdout: ChildStdout, answers: &SyncSender<Vec<u8>>) {
    let mut stdout = BufReader::new(stdout);
    loop {
        let mut line = Vec::new();
        let most = MAX_ANSWER as u64 + 1;
        match stdout.by_ref().take(most).read_until(b'\n', &mut line) {
            Ok(_) if line.ends_with(b"\n") => line.truncate(line.len() - 1),
            Ok(_) if line.len() > MAX_ANSWER => {}
            Ok(_) | Err(_) => return,
        }
        if !line.trim_ascii().is_empty() && answers.send(line).is_err() {
            return;
        }
    }
}

/// Reads all of standard error, so that it never holds up the program, and keeps the end.
fn read_tail(mut stderr: ChildStderr, tail: &Mutex<Vec<u8>>) {
    let mut chunk = [0; 4 * MAX_STDERR];
    loop {
        let found = match stderr.read(&mut chunk) {
            Ok(0) => return,
            Ok(count) => &chunk[..count],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend_from_slice(found);
        let extra = tail.len().saturating_sub(MAX_STDERR);
        tail.drain(..extra);
    }
}

/// The reward in an answer, or what is there instead.
fn reward_in(answer: &[u8]) -> Result<f64, String> {
    let shown = shown(answer);
    if answer.len() > MAX_ANSWER {
        return Err(format!("`{shown}`, which is over {MAX_ANSWER} bytes long"));
    }
    let value: Value = serde_json::from_slice(answer).map_err(|error| {
        if names_no_number(answer) {
            format!("`{shown}`: JSON has no NaN and no infinity")
        } else {
            format!("`{shown}`, which is not JSON ({error})")
        }
    })?;
    let reward = match &value {
        Value::Object(fields) => {
            fields.get("reward").ok_or_else(|| format!("`{shown}`, which has no `reward`"))?
        }
        other => other,
    };
    let finite = reward.as_f64().filter(|reward| reward.is_finite());
    finite.ok_or_else(|| format!("`{shown}`, whose reward is {}", kind(reward)))
}

/// Whether a text has one of the names by which languages print what is no finite number.
fn names_no_number(text: &[u8]) -> bool {
    let mut words = text.split(|letter| !letter.is_ascii_alphabetic());
    let names: [&[u8]; 3] = [b"nan", b"inf", b"infinity"];
    words.any(|word| names.iter().any(|name| word.eq_ignore_ascii_case(name)))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "no finite number",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// What a function finds if it is asked again and again for a while, and at least once.
fn within<T>(limit: Duration, mut find: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        let found = find();
        if found.is_some() || start.elapsed() >= limit {
            return found;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// The start of a text, for a line of a message.
fn shown(text: &[u8]) -> String {
    // No character has more than 4 bytes.
    let start = printable(&text[..text.len().min(4 * (MAX_SHOWN + 1))]).replace('\n', " ");
    match start.char_indices().nth(MAX_SHOWN) {
        Some((cut, _)) => format!("{}...", &start[..cut]),
        None => start,
    }
}

/// A text without what could move the cursor of a terminal.
fn printable(text: &[u8]) -> String {
    let harmless = |letter: char| letter == '\n' || !letter.is_control();
    let text = String::from_utf8_lossy(text);
    text.chars().map(|letter| if harmless(letter) { letter } else { ' ' }).collect()
}

/// The end of standard error, for the end of a message.
fn last_words(stderr: &str) -> String {
    if stderr.is_empty() {
        return "; it wrote nothing to standard error".into();
    }
    format!("; the last of its standard error:\n{stderr}")
}

#[cfg(test)]
#[cfg(unix)]
mod tests;
