//! Accuracy against forward tokens: one pass, beams, votes and samples of the same model.

use serde::{Deserialize, Serialize};
use soft_core::{PipelineConfig, SoftPipeline};
use soft_model::{BeamKind, BeamOptions, Manner, Mode, Transformer, beam_search};

use super::measure::Sampled;
use crate::config::Arm;
use crate::error::Error;
use crate::evaluate::{Asking, generate_all, groups, options};
use crate::task::{Problem, Task};

/// Sequences that a search follows.
const BEAMS: [usize; 3] = [2, 4, 8];
/// Numbers of chains in a vote or a draw.
const CHAINS: [usize; 5] = [1, 2, 4, 8, 14];
/// Prompts that are searched at once.
const BATCH: usize = 128;

/// What a way of thinking reaches at what cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComputePoint {
    /// The way of thinking; points of one make a line.
    pub method: String,
    /// Sequences, chains or beams.
    pub width: usize,
    /// Tokens that the model generated for a problem, mean; every one is a forward pass of one
    /// position.
    pub tokens: f64,
    /// Share of right answers, 0 to 1.
    pub accuracy: f64,
}

/// One pass, and searches, of a model; beside what sampling reached, where it was sampled.
///
/// # Errors
/// A model that cannot run a problem.
pub(super) fn points(
    model: &Transformer,
    task: &Task,
    problems: &[Problem],
    asking: &Asking,
    sampled: &[Sampled],
) -> Result<Vec<ComputePoint>, Error> {
    let (mut right, mut tokens) = (0, 0);
    let see = &mut |place: usize, made: &soft_model::Generation| {
        let (problem, ids) = (&problems[place], &made.token_ids);
        right += usize::from(task.is_right(asking.arm, problem, asking.cut, ids));
        tokens += ids.len();
    };
    generate_all(model, task, problems, asking, &|_| {}, see)?;
    let count = problems.len() as f64;
    let point = |method: &str, width, tokens: f64, accuracy| ComputePoint {
        method: method.to_owned(),
        width,
        tokens,
        accuracy,
    };
    let single = tokens as f64 / count;
    let pass = if asking.arm == Arm::Soft { "soft pass" } else { "greedy chain" };
    let mut found = vec![point(pass, 1, single, right as f64 / count)];
    let kinds: &[(&str, BeamKind)] = match asking.arm {
        Arm::Soft => &[
            ("soft beam around tokens", BeamKind::Around { mixing: 0.5 }),
            ("soft beam of mixtures", BeamKind::Mixtures),
        ],
        _ => &[("beam search", BeamKind::Tokens)],
    };
    for &(method, kind) in kinds {
        for beams in BEAMS {
            let beam = BeamOptions { kind, beams, length_penalty: 1.0 };
            let (share, cost) = searched(model, task, problems, asking, &beam)?;
            found.push(point(method, beams, cost, share));
        }
    }
    for own in sampled {
        for k in CHAINS {
            let name = format!("vote of chains, T {}", own.temperature);
            found.push(point(&name, k, own.tokens * k as f64, own.majority[k - 1]));
            let name = format!("best of chains by an oracle, T {}", own.temperature);
            found.push(point(&name, k, own.tokens * k as f64, own.pass[k - 1]));
        }
    }
    Ok(found)
}

/// Share of problems whose best sequence is right, and tokens a problem.
fn searched(
    model: &Transformer,
    task: &Task,
    problems: &[Problem],
    asking: &Asking,
    beam: &BeamOptions,
) -> Result<(f64, f64), Error> {
    let (mut right, mut tokens) = (0, 0);
    for group in groups(task, problems, asking) {
        let mut options = options(model, &group, asking)?;
        // A search weighs tokens by their own probabilities, not by those of a greedy choice.
        let plain = Manner::new(SoftPipeline::new(PipelineConfig::default())?, Mode::Hard);
        match (asking.arm, &mut options.thinking) {
            (Arm::Soft, Some(thinking)) => thinking.answer = plain,
            (_, thinking) => {
                *thinking = None;
                options.thoughts = plain;
            }
        }
        for places in group.places.chunks(BATCH) {
            let prompts: Vec<Vec<u32>> =
                places.iter().map(|&place| problems[place].prompt.clone()).collect();
            for (&place, found) in places.iter().zip(beam_search(model, &prompts, &options, beam)?)
            {
                tokens += found.forward_tokens;
                let Some((best, _)) = found.sequences.first() else { continue };
                let (problem, ids) = (&problems[place], &best.token_ids);
                right += usize::from(task.is_right(asking.arm, problem, asking.cut, ids));
            }
        }
    }
    let count = problems.len() as f64;
    Ok((right as f64 / count, tokens as f64 / count))
}
