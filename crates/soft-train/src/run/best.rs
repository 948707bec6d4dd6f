//! The best checkpoints of an arm, and how its training ended.

use std::path::Path;

use serde_json::json;

use crate::checkpoint_dir::{CHECKPOINTS, Course, step_name};
use crate::config::{Arm, Config};
use crate::error::Error;
use crate::results::{BestCheckpoint, Ending};
use crate::run_dir::{BEST, replace_file};
use crate::strategy::{Done, early_end, higher_is_better};

/// Writes `best.json`, whole or not at all: the evaluations that were the best up to then, the best
/// last, with their checkpoints where they are there. Without one there is no such file.
///
/// # Errors
/// [`Error::Disk`] if it cannot be written.
pub(super) fn mark(run_dir: &Path, course: &Course) -> Result<(), Error> {
    let path = run_dir.join(BEST);
    let Some(metric) = course.metric.as_deref().filter(|_| !course.best.is_empty()) else {
        return match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::disk(&path)(error))
            }
            _ => Ok(()),
        };
    };
    let best = course.best.iter().map(|best| {
        let checkpoint = format!("{CHECKPOINTS}/{}", step_name(best.step));
        let checkpoint = Some(checkpoint).filter(|path| run_dir.join(path).is_dir());
        json!({ "step": best.step, "value": best.value, "checkpoint": checkpoint })
    });
    let marked = json!({
        "metric": metric,
        "higher_is_better": higher_is_better(metric),
        "best": best.collect::<Vec<_>>(),
    });
    replace_file(&path, format!("{marked:#}\n").as_bytes())
}

/// How the training of an arm ended.
pub(super) fn ending(config: &Config, run_dir: &Path, arm: Arm, done: &Done) -> Ending {
    let course = &done.course;
    let early = early_end(&config.early_stop, course);
    let best = course.best.last().zip(course.metric.clone()).map(|(best, metric)| {
        let checkpoint = run_dir.join(CHECKPOINTS).join(step_name(best.step));
        let checkpoint = checkpoint.is_dir().then(|| checkpoint.display().to_string());
        BestCheckpoint { metric, value: best.value, step: best.step, checkpoint }
    });
    Ending {
        arm,
        steps: done.steps as u64,
        early: early.filter(|_| done.steps < config.train.steps),
        skipped: course.skipped,
        best,
    }
}

/// What is said of an ending.
pub(super) fn lines(ending: &Ending, steps: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let arm = ending.arm;
    if let Some(why) = &ending.early {
        lines.push(format!(
            "{arm}: ended early, after step {} of {steps}: {why}; with more patience `--resume auto` goes on",
            ending.steps
        ));
    }
    if ending.skipped > 0 {
        lines.push(format!(
            "{arm}: skipped {} of {} steps, which were not finite: see nonfinite.jsonl",
            ending.skipped, ending.steps
        ));
    }
    if let Some(best) = &ending.best {
        let place = best.checkpoint.as_deref().unwrap_or("its checkpoint was not kept");
        lines.push(format!(
            "{arm}: best {} {:.4}, at step {}: {place}",
            best.metric, best.value, best.step
        ));
    }
    lines
}
