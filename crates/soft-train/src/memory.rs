//! How much memory a training will need at its peak, before it begins.
//!
//! The estimate is a sum of named parts: what is held throughout (weights, gradients, moments,
//! examples) and what the phase that needs most takes beside it (a step, an evaluation, a
//! checkpoint, loading). Sizes follow from the shapes of the model and of its batches
//! (`passes.rs`, `workload.rs`); two numbers are measured and not derived, `PROGRAM` and
//! `OVERHEAD`. `cargo xtask bench estimate` sets the estimate beside the measured peak.

mod advice;
mod available;
mod check;
mod device;
mod parameters;
mod passes;
mod rewarded;
mod workload;

use std::fmt::Write;

pub use advice::Saving;
pub use available::Available;
pub use check::{Check, Verdict};
pub use device::is_out_of_memory;
pub(crate) use workload::Workload;

use soft_model::ModelConfig;

use crate::config::{Config, HeldOutMetric, Precision, RolloutKind};
use crate::error::Error;
use crate::results::thousands;
use crate::rollout::Sequential;
use parameters::Parameters;
use passes::Passes;
use workload::{Sizes, Way};

/// Bytes of the program itself: its code as far as it is read, threads, and buffers of the matrix
/// products. Measured.
const PROGRAM: f64 = 66e6;

/// What the allocator takes for what is asked of it: sizes are rounded up, and what is freed is kept
/// for another step, whose sizes differ. Measured.
const OVERHEAD: f64 = 1.07;

/// Bytes of a tokenizer for each entry of its vocabulary: texts, their lookup and merges. Measured.
const TOKENIZER: f64 = 600.0;

/// Examples that are evaluated at once, and problems that are asked at once.
const EVALUATED: usize = 16;
const ASKED: usize = 256;

/// A part of the memory of a training.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// What it holds.
    pub name: &'static str,
    /// Its size.
    pub bytes: u64,
}

/// A phase of a training, with what it takes beside what is held throughout.
#[derive(Debug, Clone, PartialEq)]
pub struct Phase {
    /// What happens in it.
    pub name: &'static str,
    /// What it takes.
    pub parts: Vec<Part>,
}

impl Phase {
    /// All parts together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }
}

/// The memory that a training needs, part by part.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// What is held throughout.
    pub held: Vec<Part>,
    /// What happens while that is held, the phase that needs most first.
    pub phases: Vec<Phase>,
}

impl Estimate {
    /// The parts that are there at the peak.
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        let largest = self.phases.first().map_or(&[][..], |phase| &phase.parts);
        self.held.iter().chain(largest).filter(|part| part.bytes > 0)
    }

    /// Bytes at the peak.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.parts().map(|part| part.bytes).sum()
    }

    /// The parts at the peak in MB (10^6 bytes) and per cent, the largest first, and below them what
    /// the other phases would need.
    #[must_use]
    pub fn table(&self) -> String {
        let all = self.bytes();
        let peak = self.phases.first().map_or("training", |phase| phase.name);
        let mut text = format!("about {} MB at the peak, {peak}", megabytes(all));
        let mut parts: Vec<&Part> = self.parts().collect();
        parts.sort_by_key(|part| std::cmp::Reverse(part.bytes));
        for part in parts {
            let share = 100.0 * part.bytes as f64 / all.max(1) as f64;
            let size = megabytes(part.bytes);
            let _ = write!(text, "\n            {size:>9} MB {share:>5.1} %  {}", part.name);
        }
        let held: u64 = self.held.iter().map(|part| part.bytes).sum();
        let others = self.phases.iter().skip(1);
        let others = others.map(|p| format!("{} {} MB", p.name, megabytes(held + p.bytes())));
        let others: Vec<String> = others.collect();
        if !others.is_empty() {
            let _ = write!(text, "\n            less {}", others.join(", "));
        }
        text
    }
}

/// Bytes in 10^6, with commas; one digit after the point where there are few.
#[must_use]
pub fn megabytes(bytes: u64) -> String {
    let megabytes = bytes as f64 / 1e6;
    if megabytes < 10.0 {
        return format!("{megabytes:.1}");
    }
    thousands(megabytes.round() as u64)
}

/// What to do where memory has run out.
pub const ADVICE: &str = "`soft train --dry-run` shows what needs how much; a smaller \
     `train.micro_batch`, `train.recompute=1`, a smaller `rollout.segment` or shorter examples \
     (`data.max_len`) need less";

/// A phase of these parts, and what the allocator takes for them.
fn phase(name: &'static str, parts: impl IntoIterator<Item = (&'static str, f64)>) -> Phase {
    let parts: Vec<(&'static str, f64)> = parts.into_iter().collect();
    let taken: f64 = parts.iter().map(|part| part.1).sum();
    let overhead = ("kept by the allocator", (OVERHEAD - 1.0) * taken);
    let parts = parts.into_iter().chain([overhead]);
    Phase { name, parts: parts.map(|(name, bytes)| part(name, bytes)).collect() }
}

fn part(name: &'static str, bytes: f64) -> Part {
    Part { name, bytes: bytes.max(0.0) as u64 }
}

/// The memory that a training of this workload needs under a configuration; of several arms, that of
/// the one that needs most.
///
/// # Errors
/// Settings that cannot be read.
pub(crate) fn estimate(config: &Config, workload: &Workload) -> Result<Estimate, Error> {
    let of_workload = &workload.shape;
    let shape = &match config.model.path {
        Some(_) => of_workload.clone(),
        None => config.model.new_shape(of_workload.vocab_size, of_workload.max_positions),
    };
    let parameters = Parameters::of(config, shape, workload.there, workload.new_tokens)?;
    let [all, trained] = [parameters.all, parameters.trained].map(|count| 4.0 * count as f64);
    let tokenizer = if workload.file_bytes > 0 { TOKENIZER * shape.vocab_size as f64 } else { 0.0 };
    let mut held = vec![
        part("program and buffers", PROGRAM),
        part("weights", all),
        part("moments of Adam", 2.0 * trained),
        part("examples", workload.example_bytes() as f64),
        part("tokenizer", tokenizer),
    ];
    let judge = rewarded::reward_model(config);
    held.extend(rewarded::held(config, judge.as_ref(), all));
    let passes = Passes {
        shape,
        parameters: &parameters,
        drops: config.model.dropout > 0.0,
        prefix: config.prefix.tokens + config.prompt.tokens,
        number: if config.train.precision == Precision::Bf16 { 2.0 } else { 4.0 },
    };
    let mut phases = steps(config, judge.as_ref(), workload, &passes)?;
    phases.extend(evaluation(config, workload, &passes));
    // Every tensor is copied to be written, the largest once more on its way.
    let largest = 4.0 * parameters.largest as f64;
    phases.push(phase("writing a checkpoint", [("copies for a checkpoint", all + largest)]));
    // The moments are not there yet.
    let copies = workload.file_bytes as f64 + 2.0 * largest - 2.0 * trained;
    phases.push(phase("loading", [("the model's file and copies", copies)]));
    phases.sort_by_key(|phase| std::cmp::Reverse(phase.bytes()));
    Ok(Estimate { held, phases })
}

/// A step of the arm and the micro-batch that need most, and the drawing before it where there is one.
fn steps(
    config: &Config,
    judge: Option<&ModelConfig>,
    workload: &Workload,
    passes: &Passes<'_>,
) -> Result<Vec<Phase>, Error> {
    let mut most = vec![phase(STEP, [])];
    let mut see = |found: Phase| match most.iter_mut().find(|own| own.name == found.name) {
        Some(own) if own.bytes() < found.bytes() => *own = found,
        Some(_) => {}
        None => most.push(found),
    };
    for arm in 0..workload.arms.len() {
        workload.batches(config, arm, |way, sizes| {
            let own = match way {
                Way::Rollout(kind) => rollout(config, passes, kind, sizes),
                Way::Draws => {
                    let drawing = rewarded::drawing(config, judge, passes, sizes);
                    let kept = drawing.iter().map(|part| part.1).sum();
                    see(phase(DRAWING, drawing));
                    let mut parts = rewarded::update(config, passes, sizes);
                    // Freed, and kept for another drawing: an update has use for other sizes.
                    parts.push(("kept of the drawing", kept));
                    parts
                }
                Way::Reward => {
                    let kind = RolloutKind::Sequential;
                    let mut parts = rollout(config, passes, kind, sizes);
                    let reading = rewarded::reading(judge, sizes, true);
                    parts.push(("reading of the reward model", reading));
                    parts
                }
            };
            see(phase(STEP, own.into_iter().chain(whole(config, passes))));
        })?;
    }
    Ok(most)
}

const STEP: &str = "in a training step";
const DRAWING: &str = "in a drawing";

/// What a step takes whatever it trains on.
fn whole(config: &Config, passes: &Passes<'_>) -> [(&'static str, f64); 2] {
    let parameters = passes.parameters;
    let tokens = 4.0 * parameters.trained_tokens as f64;
    // While a micro-batch is differentiated, the sum of those before it waits.
    let terms = [config.rl.supervised > 0.0, config.rl.pathwise > 0.0];
    let others = config.rl.is_on() && terms.contains(&true);
    let sums = if config.train.grad_accum > 1 || others { 2.0 } else { 1.0 };
    let gradients = sums * 4.0 * parameters.trained as f64 + 2.0 * tokens;
    let cast = if passes.number < 4.0 { passes.number * parameters.all as f64 } else { 0.0 };
    [("gradients", gradients), ("weights in bf16", cast)]
}

/// What training on the truth takes, without the gradients of the parameters.
fn rollout(
    config: &Config,
    passes: &Passes<'_>,
    kind: RolloutKind,
    sizes: &Sizes,
) -> Vec<(&'static str, f64)> {
    let (train, rollout) = (&config.train, &config.rollout);
    let parameters = passes.parameters;
    let filters = soft_core::SoftPipeline::new(config.soft.pipeline()).is_ok_and(|p| p.filters());
    // Without a filter the whole distribution of each soft place is kept, guided and multiplied.
    let mixed = |places: usize| passes.rows(places, if filters { 2.0 } else { 5.0 });
    let (activations, mixtures) = match kind {
        RolloutKind::Teacher => (passes.full_width(sizes, 1, train.recompute), 0.0),
        RolloutKind::Parallel => {
            let all = if sizes.soft == 0 { 1 } else { rollout.passes };
            let with_gradient = match rollout.grad_passes {
                0 => all,
                last => last.min(all),
            };
            let between = if train.recompute > 0 { 1 } else { all - 1 };
            let kept = mixed(sizes.soft) * between.min(all - 1) as f64;
            (passes.full_width(sizes, with_gradient, train.recompute), kept)
        }
        RolloutKind::Sequential => {
            let own = Sequential { segment: rollout.segment, truncate: rollout.truncate };
            let spans = sizes.starts.len() - 1;
            let number = passes.number as usize;
            let length = own.spans_of(passes.shape, sizes.rows, sizes.columns, number);
            let segments = own.stretches(spans, length);
            let longest = segments.iter().flatten().map(std::ops::Range::len).max().unwrap_or(0);
            // Logits with a leaf and its gradient where the head is trained; the rest as above.
            let trains_tokens = parameters.trained_tokens > 0 || parameters.has_rows;
            let copies = if trains_tokens { 4.0 } else { 1.0 };
            let own = passes.rows(sizes.rows * longest.min(spans - 1), copies);
            (passes.recurrence(sizes, &segments), own)
        }
    };
    vec![
        ("activations", activations),
        ("logits and loss", passes.loss(sizes.scored, train.loss_chunk)),
        ("mixtures", mixtures),
    ]
}

/// The evaluation of held-out examples, or of problems, and the prompts that are continued.
fn evaluation(config: &Config, workload: &Workload, passes: &Passes<'_>) -> Option<Phase> {
    let limit = match config.eval.limit {
        0 => usize::MAX,
        limit => limit,
    };
    // Evaluation is in f32.
    let passes = &Passes { number: 4.0, drops: false, ..*passes };
    let bytes = if workload.asks {
        let longest = workload.longest();
        let starts = vec![0, longest / 2, longest];
        let sizes = Sizes { rows: ASKED, columns: longest, starts, ..Sizes::default() };
        passes.running(&sizes) + passes.loss(ASKED, 0)
    } else {
        let valid: Vec<_> = workload.valid.iter().take(limit).collect();
        let longest = if config.data.max_len == 0 { usize::MAX } else { config.data.max_len };
        let of = |examples: &[&crate::example::Example]| {
            let sizes = Sizes::of(examples, longest, 0);
            let widest = sizes.scored_in.iter().copied().max().unwrap_or(0);
            passes.running(&sizes) + passes.loss(widest, 0)
        };
        valid.chunks(EVALUATED).map(of).fold(0.0, f64::max)
    };
    let answered = config.rl.is_on() || config.eval.metric == HeldOutMetric::Accuracy;
    let rows = match !workload.asks && answered {
        true => config.eval.samples.max(workload.valid.len().min(limit).min(EVALUATED)),
        false => config.eval.samples,
    };
    let slots = workload.longest() + config.generate.max_new;
    let samples = passes.cache(rows, slots) + passes.rows(rows, 3.0);
    let most = bytes.max(samples);
    let parts = [("held-out examples and their logits", most)];
    (most > 0.0).then(|| phase("in an evaluation", parts))
}

#[cfg(all(test, feature = "flex"))]
mod tests;
