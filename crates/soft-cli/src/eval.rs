//! `soft eval`: ways of thinking compared on questions.

use std::path::{Path, PathBuf};

use soft_train::comparison::{
    Arm, Comparison, Progress as Told, arms, check, compare, read_questions,
};
use soft_train::config::{ConfigError, Resolved};
use soft_train::run::{Resume, open_evaluation};
use soft_train::run_dir::Environment;

use crate::arguments::{Eval, Global};
use crate::failure::Failure;
use crate::generate::{load, open_files};
use crate::output::Output;
use crate::progress::Progress;
use crate::settings::{Without, loader};

/// Runs the verb.
pub(crate) fn run(arguments: &Eval, global: &Global) -> Result<(), Failure> {
    let sources = |own: Option<&str>, settings: &[String]| -> Result<Resolved, ConfigError> {
        let mut loader = loader(Some(&arguments.source), global, Without::Defaults);
        if let Some(path) = &arguments.model {
            loader = loader.flag("--model", "model.path", path.display().to_string());
        }
        if let Some(path) = &arguments.adapter {
            loader = loader.flag("--adapter", "model.adapter", path.display().to_string());
        }
        if let Some(own) = own {
            loader = loader.model(own);
        }
        loader.overrides(settings).load()
    };
    let resolved = sources(None, &[])?;
    let Some(path) = resolved.config.model.path.clone() else {
        return Err(Failure::usage(
            "no model: give one with `--model PATH`, or `model.path` in a configuration",
        ));
    };
    let adapter = resolved.config.model.adapter.clone();
    let files = open_files(Path::new(&path), adapter.as_deref().map(Path::new))?;
    let own = files.soft.as_deref();
    let resolved = sources(own, &[])?;
    let config = &resolved.config;
    let arms = arms(config, &|settings| sources(own, settings))?;
    let data: Vec<PathBuf> = config.eval.data.as_slice().iter().map(PathBuf::from).collect();
    let mut questions = read_questions(&data)?;
    if config.eval.limit > 0 {
        questions.truncate(config.eval.limit);
    }
    check(config, &arms, &files)?;
    if arguments.dry_run {
        let mut out = Output::new();
        out.line(format!("{} questions, {} arms:", questions.len(), arms.len()))?;
        for arm in &arms {
            out.line(describe(arm))?;
        }
        return out.flush();
    }
    let resume = if arguments.resume == "auto" { Resume::Auto } else { Resume::Never };
    let model = load(&files, &resolved)?;
    // Before the lock, as in a training.
    let environment = Environment::capture(format!("{:?}", model.device()), config.run.seed);
    let dir = open_evaluation(config, &resume)?;
    dir.write_environment(&environment)?;
    let comparison = Comparison {
        config,
        arms: &arms,
        questions: &questions,
        files: &files,
        model: &model,
        dir: &dir,
    };
    let mut bar: Option<Progress> = None;
    let outcome = compare(&comparison, &mut |told| match told {
        Told::Answers { done, total, arm } => {
            let bar = bar.get_or_insert_with(|| Progress::counting(total as u64, "answers"));
            bar.set(done as u64);
            bar.note(arm);
        }
        Told::Warning(text) => eprintln!("warning: {text}"),
    })?;
    drop(bar);
    let page_path = dir.path().join("report.html");
    let page = soft_train::report::render(dir.path());
    // The figures are there, with or without a page.
    if let Err(problem) = page.and_then(|page| dir.write_text("report.html", &page)) {
        eprintln!("warning: the evaluation has no report: {problem}");
    }
    let mut out = Output::new();
    if arguments.json {
        return out.json(&outcome);
    }
    out.line(outcome.table())?;
    out.line(format!("run directory: {}", dir.path().display()))?;
    out.line(format!("report: {}", page_path.display()))?;
    out.flush()
}

fn describe(arm: &Arm) -> String {
    let controls: Vec<&str> = arm.controls.iter().map(|control| control.as_str()).collect();
    let controls = match controls.is_empty() {
        true => String::new(),
        false => format!("; controls: {}", controls.join(", ")),
    };
    format!(
        "  {}: {} x {} tokens{controls}  {}",
        arm.name,
        arm.rows(),
        arm.config.generate.max_new,
        arm.settings.join(" ")
    )
}
