//! A whole run: from a resolved configuration to trained arms, checkpoints and a table.

mod arm;
mod base_model;
mod best;
mod checkpoint;
pub(crate) mod data_card;
mod evaluation;
mod forgetting;
mod frozen;
mod learned;
mod model;
mod rewarded;
mod samples;
mod soft_config;
mod trained;
mod workload;

pub use base_model::Base;
pub use model::text_encoder;

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::{Device, FloatDType};

use self::data_card::DataCard;
use crate::config::{
    Arm, Config, Cut, FeedKind, Loader, MemoryCheck, Precision, Resolved, TaskName,
};
use crate::control::Control;
use crate::dashboard::Dashboard;
use crate::data::Reader;
use crate::error::Error;
use crate::example::Example;
use crate::faults::Faults;
use crate::memory;
use crate::renderer::{say, warn};
use crate::results::{Context, Results};
use crate::run_dir::{
    CONFIG, DATA, Environment, ORIGINS, RESULTS, RunDir, check_same_evaluation, check_same_run,
};
use crate::task::Task;

/// What a run goes on from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Resume {
    /// A run of this name must not exist yet.
    #[default]
    Never,
    /// The newest whole checkpoint of the run, where there is one.
    Auto,
    /// This checkpoint, for the arm whose run it lies in.
    From(PathBuf),
}

/// How a run is shown and what it goes on from.
#[derive(Debug, Clone, Default)]
pub struct TrainOptions {
    /// What it goes on from.
    pub resume: Resume,
    /// Whether it goes on under settings and data that differ from those it began with.
    pub resume_anyway: bool,
    /// The dashboard in place of a line a step; needs a terminal.
    pub dashboard: bool,
    /// What asks the run to stop, to save and to sample.
    pub control: Control,
    /// How this program is started, for the commands that it advises.
    pub program: String,
    /// How this run was started; settings can be appended to it.
    pub command: String,
    /// What a test lets go wrong.
    pub faults: Faults,
}

/// What a run left behind.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// The run directory.
    pub run_dir: PathBuf,
    /// One entry an arm; empty where the task has no answers to check.
    pub results: Results,
    /// The table and what to try next, for people.
    pub table: String,
}

/// What is learned.
pub(crate) enum Problem {
    Task(Box<Task>),
    Examples {
        /// Those of the last stage of a curriculum, where there is one.
        train: Vec<Example>,
        valid: Vec<Example>,
        /// Those of the stages before it.
        earlier: Vec<Vec<Example>>,
        /// What reading the files had to say.
        notes: Vec<String>,
    },
}

impl Problem {
    fn open(config: &Config) -> Result<Self, Error> {
        if let Some(task) = Task::new(&config.task)? {
            model::check_curriculum(&task, config)?;
            model::check_fits(&task, config, model::limits(config)?)?;
            return Ok(Self::Task(Box::new(task)));
        }
        match config.task.name {
            TaskName::Ids => {
                let limits = model::limits(config)?;
                let reader = Reader::new(&config.data, TaskName::Ids, limits, None);
                let mut notes = Vec::new();
                let (train, valid) = Self::read(config, &reader, &mut notes)?;
                notes.iter().for_each(|note| eprintln!("note: {note}"));
                Ok(Self::Examples { train, valid, earlier: Vec::new(), notes })
            }
            TaskName::Text => {
                let limits = model::limits(config)?;
                let files = model::files(config)?;
                let mut encoder = model::text_encoder(config, &files)?;
                let (mut earlier, mut stage, mut notes) = (Vec::new(), 0, Vec::new());
                loop {
                    encoder.set_cut(config.curriculum.cut(stage));
                    let reader = Reader::new(&config.data, TaskName::Text, limits, Some(&encoder));
                    let mut told = Vec::new();
                    let (train, valid) = Self::read(config, &reader, &mut told)?;
                    // The same lines are read in every stage.
                    if stage == 0 {
                        notes = told;
                    }
                    stage += 1;
                    // The first reading has seen how long the reasonings are.
                    if stage == config.curriculum.count(encoder.longest_reasoning()) {
                        notes.extend(encoder.notes());
                        notes.iter().for_each(|note| eprintln!("note: {note}"));
                        return Ok(Self::Examples { train, valid, earlier, notes });
                    }
                    earlier.push(train);
                }
            }
            _ => Err(Error::Config {
                report: "`task.name` is \"none\"; expected a task to train on".into(),
            }),
        }
    }

    /// Number of stages of the curriculum; 1 without one.
    fn num_stages(&self, config: &Config) -> usize {
        match self {
            Self::Task(task) => config.curriculum.count(task.max_steps()),
            Self::Examples { earlier, .. } => earlier.len() + 1,
        }
    }

    /// What the curriculum has made of the reasoning that a model saw last, after `steps` steps.
    fn cut_after(&self, config: &Config, steps: usize) -> Option<Cut> {
        config.curriculum.cut_after(steps, self.num_stages(config))
    }

    /// The examples of each stage.
    fn stages(&self, config: &Config, arm: Arm) -> Result<Vec<Vec<Example>>, Error> {
        let mut stages: Vec<Vec<Example>> = match self {
            Self::Task(task) => {
                let of_stage = |stage| {
                    let cut = config.curriculum.cut(stage);
                    let example = |problem| match cut {
                        Some(cut) => task.cut_example(problem, cut),
                        None => task.example(arm, problem),
                    };
                    task.train.iter().map(example).collect()
                };
                (0..self.num_stages(config)).map(of_stage).collect()
            }
            Self::Examples { train, earlier, .. } => {
                earlier.iter().chain([train]).cloned().collect()
            }
        };
        let weight = config.objective.thought_weight as f32;
        if weight != 1.0 {
            stages.iter_mut().flatten().for_each(|example| example.weigh_thoughts(weight));
        }
        Ok(stages)
    }

    /// The examples of `data.train` and `data.valid`; remarks are added to `notes`.
    fn read(
        config: &Config,
        reader: &Reader<'_>,
        notes: &mut Vec<String>,
    ) -> Result<(Vec<Example>, Vec<Example>), Error> {
        let mut read = |files: &[String]| -> Result<Vec<Example>, Error> {
            if files.is_empty() {
                return Ok(Vec::new());
            }
            let paths: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
            let (examples, remarks) = reader.read(&paths)?;
            notes.extend(remarks);
            Ok(examples)
        };
        let (train, valid) = (&config.data.train, &config.data.valid);
        Ok((read(train.as_slice())?, read(valid.as_slice())?))
    }
}

/// Checks everything about a run that can be checked before it trains: its settings, its data, and
/// that they fit the model it begins with. Gives the memory that it will need, beside what there is;
/// whether that is enough is for the caller to say.
///
/// # Errors
/// Those of [`train`] up to there.
pub fn check(resolved: &Resolved, device: &Device) -> Result<memory::Check, Error> {
    let problem = prepare(resolved)?;
    rewarded::check(&resolved.config, &problem)?;
    check_memory(&resolved.config, &problem, device)
}

fn check_memory(
    config: &Config,
    problem: &Problem,
    device: &Device,
) -> Result<memory::Check, Error> {
    let workload = workload::of(config, problem)?;
    let on_host = soft_core::is_host_device(device);
    memory::Check::of(config, &workload, on_host, memory::Available::now())
}

/// The arms that are trained: another way to feed the same model is none.
fn trained_arms(config: &Config, problem: &Problem) -> Vec<Arm> {
    match problem {
        Problem::Task(_) => {
            let arms = config.eval.arms.iter().copied();
            arms.filter(|&arm| arm != Arm::SoftFedHard).collect()
        }
        Problem::Examples { .. } => vec![Arm::Soft],
    }
}

fn prepare(resolved: &Resolved) -> Result<Problem, Error> {
    resolved.require_training()?;
    soft_core::SoftPipeline::new(resolved.config.soft.pipeline())?;
    forgetting::PlainText::open(&resolved.config)?;
    let problem = Problem::open(&resolved.config)?;
    model::check_active(&resolved.config, &problem)?;
    Ok(problem)
}

/// Trains every arm of a configuration in turn and compares them.
///
/// The first arm writes into the run directory itself, each further one into `arms/NAME` of it,
/// laid out in the same way.
///
/// # Errors
/// Anything from the configuration to the disk; see [`Error::exit_code`].
pub fn train(
    resolved: &Resolved,
    device: &Device,
    options: &TrainOptions,
) -> Result<Trained, Error> {
    let config = &resolved.config;
    let limit = config.guard.time_limit().map_err(|report| Error::Config { report })?;
    let deadline = limit.map(|limit| Instant::now() + limit);
    // Before the directory exists: a corrected second try must find its name free.
    check_precision(config, device.supports_dtype(FloatDType::BF16))?;
    let problem = prepare(resolved)?;
    if options.resume == Resume::Never {
        // A run that goes on has passed this when it began.
        check_patterns(config, &problem, device)?;
        rewarded::check(config, &problem)?;
    }
    if config.run.memory_check != MemoryCheck::Off {
        let check = check_memory(config, &problem, device)?;
        if let Some(warning) = check.refuse_what_clearly_does_not_fit()? {
            eprintln!("warning: {warning}");
        }
    }
    // Before the lock: it starts a program, which for a moment holds what this one has open, and
    // would keep the lock of a run that is killed meanwhile.
    let environment = Environment::capture(format!("{device:?}"), config.run.seed);
    let run_dir = open_run_dir(config, options)?;
    run_dir.write_config(&config.to_toml())?;
    run_dir.write_environment(&environment)?;

    let mut results = Results::default();
    let trained = trained_arms(config, &problem);
    run_dir.write_json(ORIGINS, &resolved.origins_in_words())?;
    let first = trained.first().copied().unwrap_or(Arm::Soft);
    if let Some(card) = DataCard::of(&problem, config, first)? {
        run_dir.write_json(DATA, &card)?;
    }
    // It closes at the end of this function, and where a training fails or panics.
    let _dashboard = open_dashboard(config, options);
    for (index, &arm) in trained.iter().enumerate() {
        let sub_run =
            (index > 0).then(|| open_arm_dir(run_dir.path(), arm, options)).transpose()?;
        let dir = sub_run.as_ref().unwrap_or(&run_dir);
        let arms = (index + 1, trained.len());
        let of =
            arm::Training { config, problem: &problem, device, dir, arm, arms, options, deadline };
        let (arms, ending) = of.run()?;
        results.arms.extend(arms);
        results.endings.push(ending);
        if !results.arms.is_empty() {
            run_dir.write_json(RESULTS, &results)?;
        }
    }
    // An end without a table is an end too.
    run_dir.write_json(RESULTS, &results)?;
    let table = table(config, &problem, &run_dir, &results, options);
    Ok(Trained { run_dir: run_dir.path().to_owned(), results, table })
}

/// The dashboard, where it is wanted and the terminal can be had.
fn open_dashboard(config: &Config, options: &TrainOptions) -> Option<Dashboard> {
    if !options.dashboard {
        return None;
    }
    match Dashboard::open(&config.run.name, &options.control) {
        Ok(dashboard) => Some(dashboard),
        Err(error) => {
            warn(&format!("there is no dashboard: the terminal cannot be taken: {error}"));
            None
        }
    }
}

/// Checks `train.only` and `train.rates`, whose names are those of the parameters of a model: it is
/// made for that, where there is something to check.
fn check_patterns(config: &Config, problem: &Problem, device: &Device) -> Result<(), Error> {
    if config.train.only.is_empty() && config.train.rates.is_empty() {
        return Ok(());
    }
    let arm = config.eval.arms.first().copied().unwrap_or(Arm::Soft);
    let model = model::begin(config, problem, arm, &device.clone().autodiff())?;
    trained::rates(&model, config, 0).map(drop)
}

/// Checks that the device computes in the precision that is asked for.
fn check_precision(config: &Config, has_bf16: bool) -> Result<(), Error> {
    match config.train.precision {
        Precision::F32 => Ok(()),
        Precision::Bf16 if has_bf16 => Ok(()),
        Precision::Bf16 => Err(Error::Config {
            report: format!(
                "`train.precision` is \"bf16\" and `run.device` is {:?}, which does not compute in it; \
                 expected \"f32\", or a device that has bf16, as \"flex\" and recent \"cuda\" cards do",
                config.run.device
            ),
        }),
    }
}

fn open_run_dir(config: &Config, options: &TrainOptions) -> Result<RunDir, Error> {
    let root = Path::new(&config.run.dir);
    let run_dir = match &options.resume {
        Resume::Never => RunDir::create(root, &config.run.name)?,
        Resume::Auto => RunDir::reopen_or_create(root, &config.run.name)?,
        Resume::From(_) => RunDir::reopen(&root.join(&config.run.name))?,
    };
    if let Resume::From(checkpoint) = &options.resume {
        checkpoint::check_lies_in_run(checkpoint, run_dir.path())?;
    }
    if let Some(text) = run_dir.read_config()? {
        // Keys that did not exist when it began have their defaults.
        let began = Loader::new().text(CONFIG, text.clone()).load().map(|began| began.config);
        let text = began.as_ref().map_or(text, Config::to_toml);
        let changed = check_same_run(&text, &config.to_toml(), options.resume_anyway)?;
        if !changed.is_empty() {
            eprintln!("warning: going on under a changed configuration:\n{}", changed.join("\n"));
        }
        if let Ok(began) = began {
            say_steps(began.train.steps, config.train.steps);
        }
    }
    Ok(run_dir)
}

/// Says what another number of steps means for a run that goes on.
fn say_steps(were: usize, are: usize) {
    if were != are {
        say(format_args!(
            "train.steps was {were}, is {are}: from here on, schedules that end with the training are \
             those of a run of {are} steps"
        ));
    }
}

/// Opens the directory of an evaluation and writes its configuration into it.
///
/// # Errors
/// A run of this name that is not to be continued, or that began under another configuration.
pub fn open_evaluation(config: &Config, resume: &Resume) -> Result<RunDir, Error> {
    let root = Path::new(&config.run.dir);
    let run_dir = match resume {
        Resume::Auto => RunDir::reopen_or_create(root, &config.run.name)?,
        _ => RunDir::create(root, &config.run.name)?,
    };
    if let Some(began) = run_dir.read_config()? {
        let loaded = Loader::new().text(CONFIG, began.clone()).load();
        let began = loaded.map_or(began, |loaded| loaded.config.to_toml());
        check_same_evaluation(&began, &config.to_toml())?;
    }
    run_dir.write_config(&config.to_toml())?;
    Ok(run_dir)
}

fn open_arm_dir(run_dir: &Path, arm: Arm, options: &TrainOptions) -> Result<RunDir, Error> {
    let root = run_dir.join("arms");
    match options.resume {
        Resume::Never => RunDir::create(&root, arm.as_str()),
        _ => RunDir::reopen_or_create(&root, arm.as_str()),
    }
}

/// A word as it is typed into a shell, in quotes where it needs them.
#[must_use]
pub fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+".contains(c);
    if word.chars().all(plain) { word.into() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// Tokens of the longest prompt that is shown where commands are advised.
const LONGEST_SHOWN: usize = 16;

fn table(
    config: &Config,
    problem: &Problem,
    run_dir: &RunDir,
    results: &Results,
    options: &TrainOptions,
) -> String {
    let Problem::Task(task) = problem else {
        return format!("run directory: {}\n", run_dir.path().display());
    };
    let soft = results.arms.iter().find(|result| result.arm == Arm::Soft);
    let mut next = Vec::new();
    if let (Some(soft), Some(problem)) = (soft, task.validation.first()) {
        let ids: Vec<String> = problem.prompt.iter().map(ToString::to_string).collect();
        let command = format!(
            "{} generate --model {} --prompt-ids {} --json",
            options.program,
            shell_word(&soft.checkpoint),
            ids.join(",")
        );
        let answer = task.tokens.text(&problem.answer);
        let what = match problem.prompt.len() {
            // Longer ones are for the machine alone.
            ..=LONGEST_SHOWN => {
                format!(
                    "what it believes on {}: answer {answer}",
                    task.tokens.text(&problem.prompt)
                )
            }
            _ => format!("what it believes on the first held-out problem: answer {answer}"),
        };
        next.push((command, what));
        next.push((
            format!(
                "{} run.name={}-long train.steps={}",
                options.command,
                config.run.name,
                4 * config.train.steps
            ),
            "four times the steps: every arm goes on rising".to_owned(),
        ));
        let half = config.model.d_model / 2;
        let mut narrow = config.clone();
        narrow.model.d_model = half;
        if config.model.path.is_none() && narrow.validate().is_ok() {
            let command = &options.command;
            next.push((
                format!("{command} run.name={}-d{half} model.d_model={half}", config.run.name),
                "half the width".to_owned(),
            ));
        }
    }
    let published = task.published.as_ref();
    results.table(&Context {
        baseline: task.baseline.clone(),
        published_source: published.map_or("", |published| published.source).to_owned(),
        // How long the published model that feeds hidden states was trained is not said.
        published_budget: published
            .filter(|_| config.soft.feed != FeedKind::Hidden)
            .map(|published| published.budget),
        run_dir: run_dir.path().display().to_string(),
        next,
    })
}

#[cfg(test)]
mod tests {
    use super::{Config, Precision, check_precision, shell_word};

    #[test]
    fn a_precision_that_the_device_lacks_is_refused_with_what_there_is() {
        let mut config = Config::default();
        check_precision(&config, false).expect("f32 is everywhere");
        config.train.precision = Precision::Bf16;
        check_precision(&config, true).expect("the device has it");
        let error = check_precision(&config, false).expect_err("it lacks it");
        let text = error.to_string();
        assert_eq!(error.exit_code(), 2);
        assert!(text.contains("run.device") && text.contains("expected \"f32\""), "{text}");
    }

    #[test]
    fn a_word_is_quoted_where_a_shell_would_split_or_expand_it() {
        assert_eq!(shell_word("runs/a-1/step_2,3=4"), "runs/a-1/step_2,3=4");
        assert_eq!(shell_word("my runs/$HOME"), "'my runs/$HOME'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
    }
}
