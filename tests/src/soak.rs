//! A training that is killed again and again, and goes on each time, ends as one that was not.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use soft_train::checkpoint_dir::{CHECKPOINTS, newest_valid};
use soft_train::run::Resume;

use crate::runs::{Runs, assert_same_outcome, owned};

/// Saved every second step.
const SETTINGS: [&str; 4] = ["train.grad_accum=2", "train.warmup=3", "save.every=2", "save.keep=2"];
/// On the truth: low-rank branches under noise and drop-out.
const TRUTH: [&str; 5] = [
    "rollout.kind=parallel",
    "low_rank.rank=3",
    "low_rank.dropout=0.2",
    "model.dropout=0.1",
    "soft.noise=gumbel",
];
/// On rewards: two updates on what a step drew, a value head, and a reference that is held.
const REWARDS: [&str; 7] = [
    "rl.algorithm=ppo",
    "rl.policy=gumbel",
    "rl.group=2",
    "rl.updates=2",
    "rl.beta=0.1",
    "train.micro_batch=3",
    "log.every=1",
];
/// Steps between two checkpoints.
const EVERY: usize = 2;
/// Steps that are trained after the comparison: they show what is in the optimizer.
const FURTHER: usize = 5;
/// The argument that makes a program the child of another.
pub const CHILD: &str = "--child";

/// What a run trains on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The truth of its examples.
    Truth,
    /// Rewards of what it draws.
    Rewards,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Truth => "truth",
            Self::Rewards => "rewards",
        }
    }

    fn of(word: &str) -> Option<Self> {
        [Self::Truth, Self::Rewards].into_iter().find(|kind| kind.as_str() == word)
    }
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Soaked {
    /// Processes killed: before their first step, and after it.
    pub kills: [usize; 2],
    /// Kills that left a half written checkpoint behind.
    pub in_a_save: usize,
    /// Steps of the run.
    pub steps: usize,
    /// Steps that were trained again, over all restarts.
    pub redone: usize,
    /// Time of it all.
    pub seconds: f64,
}

impl fmt::Display for Soaked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills: [early, late], in_a_save, steps, redone, seconds } = self;
        write!(
            f,
            "{} kills ({early} before the first step of a process, {in_a_save} within a save), \
             {steps} steps, {redone} of them again, {seconds:.0} s",
            early + late
        )
    }
}

/// Kills a run `kills` times at moments that `seed` decides, each followed by another process that
/// goes on, and compares its end with that of a run in one piece: metrics, state, weights, and the
/// optimizer by what further steps make of it. `program` is started with the arguments of
/// [`train_as_child`]; `say` is told of every kill.
///
/// # Panics
/// Where the two runs differ in a bit, or one fails.
pub fn soak(
    program: &Path,
    kind: Kind,
    kills: usize,
    seed: u64,
    mut say: impl FnMut(&str),
) -> Soaked {
    let started = Instant::now();
    let runs = Runs::temporary();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    // A process gets on by few steps before it is killed, and the last one ends the run.
    let steps = 10 + 6 * kills;
    let mut soaked = Soaked { steps, ..Soaked::default() };
    let program = &Program { path: program, kind };
    let pace = whole_run(&runs, program, steps);
    say(&format!(
        "in one piece: {steps} steps, the first after {:.2} s, then one in {:.1} ms",
        pace.start.as_secs_f64(),
        pace.step.as_secs_f64() * 1e3
    ));
    for kill in 0..kills {
        let before = lines(&runs.path("killed"));
        let mut child = Process::start(&runs, program, "killed", steps);
        // One of three before its first step, the others spread over two saves and what is between.
        let early = random.next_u32() % 3 == 0;
        let span = if early { pace.start } else { pace.step * (2 * EVERY) as u32 };
        let delay = span.mul_f64(f64::from(random.next_u32()) / f64::from(u32::MAX));
        let ended = (!early).then(|| child.until(|| lines(&runs.path("killed")) > before));
        sleep(delay);
        let over = child.kill() || ended == Some(false);
        assert!(!over, "the run was over after {kill} kills: it needs more steps");
        soaked.kills[usize::from(!early)] += 1;
        let found = Remains::of(&runs.path("killed"));
        soaked.in_a_save += usize::from(found.litter);
        let Remains { recorded, saved, .. } = found;
        assert!(recorded >= saved, "step {saved} is saved, and {recorded} steps are on record");
        soaked.redone += recorded - saved;
        say(&format!(
            "kill {}: {:.1} ms after its {}; {} steps on record, {} saved{}",
            kill + 1,
            delay.as_secs_f64() * 1e3,
            if early { "start" } else { "first step" },
            found.recorded,
            found.saved,
            if found.litter { ", a save in progress" } else { "" }
        ));
    }
    Process::start(&runs, program, "killed", steps).finish();
    let pair = [runs.path("straight"), runs.path("killed")];
    assert_same_outcome(&pair[0], &pair[1], steps, "killed and gone on");
    let settings = settings(kind, steps + FURTHER);
    for name in ["straight", "killed"] {
        runs.resumed(name, &settings.iter().map(String::as_str).collect::<Vec<_>>(), Resume::Auto);
    }
    assert_same_outcome(&pair[0], &pair[1], steps + FURTHER, "the state of the optimizer");
    assert!(!Remains::of(&pair[1]).litter, "what was half written is gone");
    soaked.seconds = started.elapsed().as_secs_f64();
    soaked
}

/// What a child does: trains the run `name` in `folder` up to `steps`, from its newest checkpoint
/// where there is one.
///
/// # Panics
/// If it fails.
pub fn train_as_child(folder: &Path, name: &str, steps: usize, kind: Kind) {
    let runs = Runs::within(folder);
    let settings = settings(kind, steps);
    runs.try_train(name, &settings, Resume::Auto).unwrap_or_else(|e| panic!("{name}: {e}"));
}

fn settings(kind: Kind, steps: usize) -> Vec<String> {
    let own = match kind {
        Kind::Truth => &TRUTH[..],
        Kind::Rewards => &REWARDS,
    };
    owned(&[&SETTINGS[..], own, &[&format!("train.steps={steps}")]].concat())
}

/// A program that trains, and on what.
struct Program<'a> {
    path: &'a Path,
    kind: Kind,
}

/// How long a process takes to its first step, and for each step after it.
struct Pace {
    start: Duration,
    step: Duration,
}

/// The run without a kill.
fn whole_run(runs: &Runs, program: &Program<'_>, steps: usize) -> Pace {
    let started = Instant::now();
    let mut child = Process::start(runs, program, "straight", steps);
    child.until(|| lines(&runs.path("straight")) > 0);
    let start = started.elapsed();
    child.finish();
    Pace { start, step: (started.elapsed() - start) / steps as u32 }
}

/// A child that trains, and what it says; none outlives this.
struct Process {
    child: Child,
    said: PathBuf,
}

impl Process {
    fn start(runs: &Runs, program: &Program<'_>, name: &str, steps: usize) -> Self {
        let said = runs.path("said.txt");
        let file = File::create(&said).expect("written");
        let Program { path, kind } = program;
        let mut command = Command::new(path);
        command.arg(CHILD).arg(runs.path("")).args([name, &steps.to_string(), kind.as_str()]);
        let child = command.stdout(Stdio::null()).stderr(file).spawn();
        let child = child.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { child, said }
    }

    fn check(&self, status: Option<ExitStatus>) {
        if let Some(status) = status.filter(|status| !status.success()) {
            let said = fs::read_to_string(&self.said).unwrap_or_default();
            panic!("the training failed ({status}): {said}");
        }
    }

    /// Waits for something to come true; false if the process ended first.
    fn until(&mut self, true_now: impl Fn() -> bool) -> bool {
        while !true_now() {
            let status = self.child.try_wait().expect("a child of ours");
            self.check(status);
            if status.is_some() {
                return false;
            }
            sleep(Duration::from_millis(1));
        }
        true
    }

    /// Kills it at once; true if it was over by then.
    fn kill(&mut self) -> bool {
        let status = self.child.try_wait().expect("a child of ours");
        self.check(status);
        // Not a signal that it could answer.
        self.child.kill().expect("killed");
        self.child.wait().expect("reaped").success()
    }

    fn finish(mut self) {
        let status = self.child.wait().expect("a child of ours");
        self.check(Some(status));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a killed process left.
struct Remains {
    /// The last step on record.
    recorded: usize,
    /// That of the newest whole checkpoint.
    saved: usize,
    /// Whether something is half written.
    litter: bool,
}

impl Remains {
    fn of(run_dir: &Path) -> Self {
        let newest = newest_valid(run_dir).expect("listed").checkpoint;
        let names = fs::read_dir(run_dir.join(CHECKPOINTS)).into_iter().flatten().flatten();
        let unfinished = |name: String| name.starts_with('.') || name.ends_with(".replaced");
        Self {
            recorded: lines(run_dir),
            saved: newest.map_or(0, |checkpoint| checkpoint.step as usize),
            litter: names.into_iter().any(|e| unfinished(e.file_name().to_string_lossy().into())),
        }
    }
}

/// Whole lines of the metrics: the steps on record.
fn lines(run_dir: &Path) -> usize {
    let text = fs::read(run_dir.join("metrics.jsonl")).unwrap_or_default();
    text.iter().filter(|&&byte| byte == b'\n').count()
}

/// The program that soaks: `[--kills N] [--seed N] [--on truth|rewards]`.
///
/// # Errors
/// A command line that says something else.
pub fn main(program: PathBuf, arguments: &[String]) -> Result<(), String> {
    if let [first, folder, name, steps, kind] = arguments
        && first == CHILD
    {
        let steps = steps.parse().map_err(|_| format!("{steps:?} is no number of steps"))?;
        let kind = Kind::of(kind).ok_or_else(|| format!("{kind:?} is nothing to train on"))?;
        train_as_child(Path::new(folder), name, steps, kind);
        return Ok(());
    }
    let (mut kills, mut seed, mut kind) = (100, 1, Kind::Truth);
    let mut rest = arguments.iter();
    while let Some(flag) = rest.next() {
        let word = rest.next();
        let number = word.and_then(|text| text.parse::<u32>().ok());
        match (flag.as_str(), number, word.and_then(|word| Kind::of(word))) {
            ("--kills", Some(number), _) => kills = number as usize,
            ("--seed", Some(number), _) => seed = u64::from(number),
            ("--on", _, Some(found)) => kind = found,
            _ => {
                let expected = "[--kills N] [--seed N] [--on truth|rewards]";
                return Err(format!("{flag:?}: expected {expected}"));
            }
        }
    }
    println!("{kills} kills of a training on {}, seed {seed}", kind.as_str());
    let soaked = soak(&program, kind, kills, seed, |line| println!("{line}"));
    println!("{soaked}: the end is that of the run in one piece, to the bit");
    Ok(())
}
