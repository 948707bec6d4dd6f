//! `soft train`.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use soft_model::{ModelConfig, ModelFiles, expected_tensors};
use soft_train::Control;
use soft_train::config::{Config, Resolved, RolloutKind, ScheduleForm};
use soft_train::run::{Resume, TrainOptions, shell_word};
use soft_train::task::Task;

use crate::arguments::{Global, Train};
use crate::failure::Failure;
use crate::output::Output;
use crate::settings::{Without, device, loader};
use crate::signals;

/// Runs the verb.
pub(crate) fn run(arguments: &Train, global: &Global) -> Result<(), Failure> {
    let resolved = loader(Some(&arguments.source), global, Without::Quickstart).load()?;
    let device = device(&resolved)?;
    if arguments.dry_run {
        return dry_run(&resolved, &device);
    }
    let resume = match arguments.resume.as_str() {
        "never" => Resume::Never,
        "auto" => Resume::Auto,
        path => Resume::From(path.into()),
    };
    let dashboard = !arguments.plain && can_draw();
    let control = Control::default();
    signals::listen(&control, dashboard);
    let program = program();
    let command = command(&program, arguments, global);
    let resume_anyway = arguments.resume_anyway;
    let options = TrainOptions {
        resume,
        resume_anyway,
        dashboard,
        control,
        program,
        command,
        ..TrainOptions::default()
    };
    let trained = soft_train::run::train(&resolved, &device, &options)?;
    let page = write_report(&trained.run_dir);
    // Not before: it locks standard output, which the dashboard's thread writes to.
    let mut out = Output::new();
    out.line("")?;
    out.line(trained.table.trim_end())?;
    match page {
        Ok(page) => out.line(format!("report: {}", page.display()))?,
        Err(problem) => eprintln!("warning: the run has no report: {problem}"),
    }
    out.flush()
}

/// What a training would do and the memory that it would need. One that does not fit is refused.
fn dry_run(resolved: &Resolved, device: &Device) -> Result<(), Failure> {
    let check = soft_train::run::check(resolved, device)?;
    let mut out = Output::new();
    out.line(plan(resolved, &check.table())?)?;
    out.flush()?;
    if let Some(warning) = check.refuse_what_does_not_fit()? {
        eprintln!("warning: {warning}");
    }
    Ok(())
}

/// The page of a run that is over: it must not cost the run.
fn write_report(run_dir: &Path) -> Result<PathBuf, String> {
    let path = soft_train::report::default_output(run_dir);
    let page = soft_train::report::render(run_dir).map_err(|error| error.to_string())?;
    std::fs::write(&path, page)
        .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    Ok(path)
}

/// Whether a dashboard can be drawn: it writes to stdout and reads keys.
fn can_draw() -> bool {
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    std::io::stdout().is_terminal() && std::io::stdin().is_terminal() && !dumb
}

/// This program as it can be typed here: by its name where the path finds it, else by its path.
fn program() -> String {
    let Ok(program) = std::env::current_exe() else { return "soft".to_owned() };
    let folders = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&folders).any(|folder| Some(folder.as_path()) == program.parent()) {
        return "soft".to_owned();
    }
    let here = std::env::current_dir().unwrap_or_default();
    let path = program.strip_prefix(&here).unwrap_or(&program);
    match path.parent().is_none_or(|folder| folder.as_os_str().is_empty()) {
        true => format!("./{}", shell_word(&path.display().to_string())),
        false => shell_word(&path.display().to_string()),
    }
}

/// The command line of this run, but for what a longer or narrower run sets anew.
fn command(program: &str, arguments: &Train, global: &Global) -> String {
    let anew = ["run.name=", "train.steps=", "model.d_model="];
    let device = global.device.iter().map(|name| format!("--device {}", shell_word(name)));
    let threads = global.threads.iter().map(|count| format!("--threads {count}"));
    let config = arguments
        .source
        .config
        .iter()
        .map(|path| format!("-c {}", shell_word(&path.display().to_string())));
    let settings = arguments.source.overrides.iter();
    let settings = settings.filter(|setting| !anew.iter().any(|key| setting.starts_with(key)));
    let settings = settings.map(|setting| shell_word(setting));
    let words = [program.to_owned(), "train".to_owned()].into_iter();
    let words = words.chain(device).chain(threads).chain(config).chain(settings);
    words.collect::<Vec<_>>().join(" ")
}

/// What a training would do, for people.
fn plan(resolved: &Resolved, memory: &str) -> Result<String, Failure> {
    let config = &resolved.config;
    let task = Task::new(&config.task)?;
    let (shape, there) = match (&config.model.path, &task) {
        (Some(path), _) => {
            let files = ModelFiles::open(Path::new(path))?;
            let there = files.added_parameters();
            (Some(files.config), there)
        }
        (None, Some(task)) => {
            let positions = task.max_positions() + config.prefix.tokens + config.prompt.tokens;
            (Some(config.model.new_shape(task.tokens.len(), positions)), 0)
        }
        (None, None) => (None, 0),
    };
    let run = Path::new(&config.run.dir).join(&config.run.name);
    let lines = [
        format!(
            "run       {}, seed {}, device {}",
            run.display(),
            config.run.seed,
            config.run.device
        ),
        model_line(config, shape.as_ref(), there)?,
        task_line(config, task.as_ref()),
        rollout_line(config),
        training_line(config),
        format!("memory    {memory}"),
        format!("nothing was written; configuration {:08x} is valid", config.config_hash()),
    ];
    Ok(lines.join("\n"))
}

/// `there` are parameters that a checkpoint adds to its own base.
fn model_line(
    config: &Config,
    shape: Option<&ModelConfig>,
    there: usize,
) -> Result<String, Failure> {
    let source = config.model.path.as_deref().unwrap_or("new");
    let Some(shape) = shape else {
        return Ok(format!("model     {source}, its vocabulary is that of the data"));
    };
    let tensors = expected_tensors(shape);
    let total: usize = tensors.iter().map(|(_, dims)| dims.iter().product::<usize>()).sum();
    let learned = config.prefix.parameters(shape) + config.prompt.parameters(shape);
    let added = there + config.low_rank.parameters(shape)? + learned;
    let trained = match added {
        0 => String::new(),
        added => format!(" frozen, {} trained beside them", thousands(added)),
    };
    Ok(format!(
        "model     {source}: {} layers, {} heads, width {}, {} parameters{trained}",
        shape.n_layers,
        shape.n_heads,
        shape.d_model,
        thousands(total)
    ))
}

fn task_line(config: &Config, task: Option<&Task>) -> String {
    let arms: Vec<_> = config.eval.arms.iter().map(|arm| arm.as_str()).collect();
    match task {
        Some(task) => format!(
            "task      {}: {} training and {} validation problems; arms {}",
            config.task.name,
            thousands(task.train.len()),
            thousands(task.validation.len()),
            arms.join(", ")
        ),
        None => {
            format!("task      {}: {}", config.task.name, config.data.train.as_slice().join(", "))
        }
    }
}

fn rollout_line(config: &Config) -> String {
    let rollout = &config.rollout;
    let detail = match rollout.kind {
        RolloutKind::Teacher => String::new(),
        RolloutKind::Sequential if rollout.segment == 0 => {
            ", segments as long as 1 GiB allows".into()
        }
        RolloutKind::Sequential => format!(", segments of {}", rollout.segment),
        RolloutKind::Parallel => format!(", {} passes", rollout.passes),
    };
    let guidance = &config.guidance;
    let share = match guidance.schedule {
        ScheduleForm::Constant => guidance.start.to_string(),
        schedule => format!("{} to {} ({schedule})", guidance.start, guidance.end),
    };
    let line = match rollout.kind {
        _ if !rollout.stages.is_empty() => {
            format!("rollout   {}; share of truth {share}", rollout.stages.join(", "))
        }
        RolloutKind::Teacher => "rollout   teacher".into(),
        kind => format!("rollout   {kind}{detail}; share of truth {share}"),
    };
    let learned: Vec<_> = config.learnable.settings.iter().map(|it| it.as_str()).collect();
    match learned.is_empty() {
        true => line,
        false => format!("{line}\nlearned   {} of the filters", learned.join(", ")),
    }
}

fn training_line(config: &Config) -> String {
    let train = &config.train;
    format!(
        "training  {} steps of {} x {} rows, learning rate {} ({})",
        thousands(train.steps),
        train.grad_accum,
        train.micro_batch,
        train.lr,
        train.schedule
    )
}

/// A whole number with commas.
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use soft_train::config::Loader;

    use super::rollout_line;

    #[test]
    fn a_dry_run_names_every_stage_and_what_is_learned() {
        let line = |text: &str| {
            let loaded = Loader::new().text("my.toml", text).load();
            rollout_line(&loaded.unwrap_or_else(|error| panic!("{error}")).config)
        };
        assert_eq!(line(""), "rollout   teacher");
        let staged = "rollout.stages = [\"teacher 5\", \"sequential\"]\nguidance.start = 0.5\n\
                      learnable.settings = [\"temperature\"]";
        assert_eq!(
            line(staged),
            "rollout   teacher 5, sequential; share of truth 0.5\n\
             learned   temperature of the filters"
        );
    }
}
