//! What is measured of a trained model, problem by problem, so that arms can be paired.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use soft_core::{PipelineConfig, SoftPipeline};
use soft_model::{
    GenerateOptions, Generation, Manner, Mode, SoftInput, Transformer, generate_after,
};

use super::attention::{EdgeAttention, edge_attention};
use super::compute::{ComputePoint, points};
use super::rewarded::{self, Rewarded};
use super::table::Kind;
use crate::belief::{Beliefs, answers_and_beliefs, weights};
use crate::comparison::{Source, Thought, changed, thoughts};
use crate::config::{Arm, Control};
use crate::error::Error;
use crate::evaluate::{Asking, generate_all, greedy, groups};
use crate::task::{Problem, Task};

/// Changed where what is measured changes: results of another are measured anew.
pub(super) const VERSION: u32 = 3;
/// Prompts that are run at once.
const BATCH: usize = 256;
/// Chains that are sampled of each problem.
const SAMPLES: usize = 28;
/// Temperatures of sampling, those of the published curves.
const TEMPERATURES: [f64; 3] = [0.4, 0.8, 1.0];
/// The most samples of a curve.
pub(super) const MOST: usize = 14;
/// Problems whose beliefs are drawn.
const DRAWN: usize = 3;
/// Weights under this are not drawn.
const DRAWN_WEIGHT: f64 = 0.005;

/// What a chain answered, if anything.
type Answer = Option<Vec<u32>>;

/// Everything measured of one model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Which problems are answered right, a `0` or `1` each, in their order.
    pub right: String,
    /// The same under each control.
    pub controls: Vec<Controlled>,
    /// Beliefs of the thoughts against the truth; without steps where there are none.
    pub beliefs: Beliefs,
    /// The beliefs of a few problems.
    pub heat: Vec<Heat>,
    /// What sampling reaches.
    pub sampled: Vec<Sampled>,
    /// Accuracy against forward tokens of several ways of thinking.
    #[serde(default)]
    pub compute: Vec<ComputePoint>,
    /// Of problems with a rival answer: where the right one is preferred to it, as `0` and `1`.
    pub preferred: String,
    /// On a graph: where the second layer looks while a thought is made.
    #[serde(default)]
    pub attention: Vec<EdgeAttention>,
    /// Of a judge: how often it prefers the right answer, of the problems that it was trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judges_trained: Option<f64>,
    /// What training on rewards did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewarded: Option<Rewarded>,
}

/// Right answers under a control.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Controlled {
    /// What was done to the thoughts.
    pub control: Control,
    /// A `0` or `1` for each problem.
    pub right: String,
}

/// Belief and truth at the steps of one problem.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Heat {
    /// The prompt in words.
    pub prompt: String,
    /// The right answer in words.
    pub answer: String,
    /// By step: token and weight.
    pub belief: Vec<Vec<(String, f64)>>,
    /// By step: token and true probability.
    pub truth: Vec<Vec<(String, f64)>>,
}

/// What sampled chains of thought reach at one temperature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sampled {
    /// The temperature.
    pub temperature: f64,
    /// Entry k - 1: the share of problems of which one of k chains is right (the unbiased estimate
    /// from more chains: Chen et al. 2021, arXiv:2107.03374, eq. 1).
    pub pass: Vec<f64>,
    /// Entry k - 1: the share of problems that the vote of k chains answers right.
    pub majority: Vec<f64>,
    /// Tokens of a chain, mean.
    #[serde(default)]
    pub tokens: f64,
}

/// Measures `model` on the validation problems.
///
/// # Errors
/// A model that cannot run a problem.
pub(super) fn measure(
    model: &Transformer,
    task: &Task,
    asking: &Asking,
    kind: Kind,
) -> Result<Measured, Error> {
    let problems = &task.validation[..];
    let (right, beliefs) = answers_and_beliefs(model, task, problems, asking)?;
    let mut measured = Measured { right: bits(&right), beliefs, ..Measured::default() };
    match kind {
        Kind::Plain | Kind::Judge => {}
        Kind::Rewards if asking.arm == Arm::Hard => {}
        Kind::Thoughts | Kind::SoftBeams | Kind::Rewards => {
            let thoughts = all_thoughts(model, task, problems, asking)?;
            measured.controls = controls(model, task, problems, asking, &thoughts)?;
            measured.heat = heat(model, task, problems, &thoughts);
            measured.attention = edge_attention(model, task, problems, &thoughts)?;
        }
        Kind::Samples => {
            let at = |temperature| sampled(model, task, problems, asking, temperature);
            measured.sampled = TEMPERATURES.into_iter().map(at).collect::<Result<_, _>>()?;
        }
    }
    if matches!(kind, Kind::SoftBeams | Kind::Samples) {
        measured.compute = points(model, task, problems, asking, &measured.sampled)?;
    }
    measured.preferred = preferred(model, task, problems, asking)?;
    Ok(measured)
}

fn bits(right: &[bool]) -> String {
    right.iter().map(|&right| if right { '1' } else { '0' }).collect()
}

/// The thoughts of every problem, as they were fed.
fn all_thoughts(
    model: &Transformer,
    task: &Task,
    problems: &[Problem],
    asking: &Asking,
) -> Result<Vec<Vec<Thought>>, Error> {
    let mut found = vec![Vec::new(); problems.len()];
    let see = &mut |place: usize, made: &Generation| found[place] = thoughts(made, &[]);
    generate_all(model, task, problems, asking, &|options| options.keep_inputs = true, see)?;
    Ok(found)
}

/// The answers after thoughts that were taken away or replaced.
fn controls(
    model: &Transformer,
    task: &Task,
    problems: &[Problem],
    asking: &Asking,
    thoughts: &[Vec<Thought>],
) -> Result<Vec<Controlled>, Error> {
    let all = [
        Control::Delete,
        Control::Top,
        Control::Second,
        Control::Pause,
        Control::Shuffle,
        Control::Noise,
    ];
    let is_hidden = |thought: &Thought| thought.1 && matches!(thought.0, SoftInput::Vector(_));
    let hidden = thoughts.iter().flatten().any(is_hidden);
    let names_tokens = |control: &Control| matches!(control, Control::Top | Control::Second);
    let embedding = model.embedding().detach();
    // The pause is what stands in the place of a thought where there is none.
    let pause = task.pause.first().or(task.open.first()).copied();
    let pause = pause.unwrap_or(task.tokens.special().pad);
    let mut found = Vec::new();
    for control in all.into_iter().filter(|control| !(hidden && names_tokens(control))) {
        let mut right = vec![false; problems.len()];
        for group in groups(task, problems, asking) {
            let rest = group.max_new - group.thoughts;
            let options = GenerateOptions {
                thoughts: greedy()?,
                max_new: rest,
                eos_ids: model.config().eos_ids.clone(),
                ..GenerateOptions::default()
            };
            for places in group.places.chunks(BATCH) {
                let prompts: Vec<Vec<u32>> =
                    places.iter().map(|&place| problems[place].prompt.clone()).collect();
                let inputs: Vec<Vec<SoftInput>> = places
                    .iter()
                    .map(|&place| {
                        let source = Source {
                            embedding: &embedding,
                            // Neighbours in the list may be nearly the same problem.
                            other: &thoughts[(place + problems.len() / 2) % problems.len()],
                            pause,
                            seed: asking.seed,
                            question: place as u32,
                        };
                        changed(control, &thoughts[place], &source)
                    })
                    .collect();
                let hard = |_: usize, _: usize| Mode::Hard;
                let made =
                    generate_after(model, &prompts, &inputs, &hard, &options, &mut |_, _, _| {})?;
                for (&place, made) in places.iter().zip(&made) {
                    // As if its thoughts stood before it.
                    let line = [vec![0; group.thoughts], made.token_ids.clone()].concat();
                    right[place] = task.is_right(asking.arm, &problems[place], asking.cut, &line);
                }
            }
        }
        found.push(Controlled { control, right: bits(&right) });
    }
    Ok(found)
}

/// The beliefs of a few problems from all over the list.
fn heat(
    model: &Transformer,
    task: &Task,
    problems: &[Problem],
    thoughts: &[Vec<Thought>],
) -> Vec<Heat> {
    let vocab_size = model.config().vocab_size;
    let name = |id: u32| task.tokens.name(id).unwrap_or("?").to_owned();
    let every = (problems.len() / DRAWN).max(1);
    let drawn = problems.iter().zip(thoughts).step_by(every).take(DRAWN);
    let of = |(problem, thoughts): (&Problem, &Vec<Thought>)| {
        let belief = thoughts.iter().map(|(input, _)| weights(input, vocab_size));
        let belief: Option<Vec<Vec<f64>>> = belief.collect();
        let shown = |weights: Vec<f64>| -> Vec<(String, f64)> {
            let kept = weights.into_iter().enumerate().filter(|(_, p)| *p >= DRAWN_WEIGHT);
            kept.map(|(id, p)| (name(id as u32), p)).collect()
        };
        let truth = problem
            .steps
            .iter()
            .map(|step| step.belief.iter().map(|&(id, p)| (name(id), f64::from(p))).collect());
        Some(Heat {
            prompt: task.tokens.text(&problem.prompt),
            answer: task.tokens.text(&problem.answer),
            belief: belief?.into_iter().map(shown).collect(),
            truth: truth.collect(),
        })
    };
    drawn.filter_map(of).collect()
}

/// Right answers of chains that are drawn at a temperature.
fn sampled(
    model: &Transformer,
    task: &Task,
    problems: &[Problem],
    asking: &Asking,
    temperature: f64,
) -> Result<Sampled, Error> {
    let config = PipelineConfig { temperature, ..PipelineConfig::default() };
    let drawn = Manner::new(SoftPipeline::new(config)?, Mode::Hard);
    let mut answers: Vec<Vec<Answer>> = vec![Vec::new(); problems.len()];
    let mut tokens = 0;
    for sample in 0..SAMPLES {
        let seed = asking.seed.wrapping_mul(1009).wrapping_add(sample as u64);
        let see = &mut |place: usize, made: &Generation| {
            let (problem, ids) = (&problems[place], &made.token_ids);
            let answer = task.answer_of(asking.arm, problem, asking.cut, ids);
            answers[place].push(answer.map(<[u32]>::to_vec));
            tokens += ids.len();
        };
        let set = |options: &mut GenerateOptions| {
            options.thinking = None;
            options.thoughts = drawn.clone();
            options.seed = seed;
        };
        generate_all(model, task, problems, asking, &set, see)?;
    }
    let curve = |share: fn(usize, &[Answer], &[u32]) -> f64| {
        let mean = |k| {
            let rows = answers.iter().zip(problems);
            rows.map(|(answers, problem)| share(k, answers, &problem.answer)).sum::<f64>()
                / problems.len() as f64
        };
        (1..=MOST).map(mean).collect()
    };
    let tokens = tokens as f64 / (SAMPLES * problems.len()) as f64;
    Ok(Sampled { temperature, pass: curve(pass_at), majority: curve(majority_at), tokens })
}

/// [`rewarded::pass_at`] of answers.
fn pass_at(k: usize, answers: &[Answer], right: &[u32]) -> f64 {
    let is_right = |answer: &&Answer| answer.as_deref() == Some(right);
    rewarded::pass_at(k, answers.len(), answers.iter().filter(is_right).count())
}

/// The share of the groups of k answers in a row, the last ones going on with the first, whose most
/// frequent answer is right; of equally frequent ones the first counts.
fn majority_at(k: usize, answers: &[Answer], right: &[u32]) -> f64 {
    let count = answers.len();
    let groups = (0..count)
        .map(|first| (0..k).map(|i| answers[(first + i) % count].clone()).collect::<Vec<_>>());
    let won = |group: &[Answer]| {
        let mut votes: BTreeMap<&[u32], (usize, usize)> = BTreeMap::new();
        for (place, answer) in group.iter().enumerate() {
            if let Some(answer) = answer {
                votes.entry(answer).or_insert((0, place)).0 += 1;
            }
        }
        let best = votes.iter().max_by_key(|(_, (votes, first))| (*votes, usize::MAX - first));
        best.is_some_and(|(answer, _)| *answer == right)
    };
    groups.filter(|group| won(group)).count() as f64 / count as f64
}

/// Where the right answer has a rival: which of the two the model prefers at the place of the
/// answer, after its own thoughts.
fn preferred(
    model: &Transformer,
    task: &Task,
    problems: &[Problem],
    asking: &Asking,
) -> Result<String, Error> {
    if problems.iter().all(|problem| problem.rival.is_none()) {
        return Ok(String::new());
    }
    let vocabulary = model.config().vocab_size;
    // A problem without a rival is no one's.
    let mut found: Vec<char> =
        problems.iter().map(|problem| if problem.rival.is_some() { '0' } else { '-' }).collect();
    let set = |options: &mut GenerateOptions| {
        options.record = true;
        options.top = vocabulary;
    };
    let see = &mut |place: usize, made: &Generation| {
        let problem = &problems[place];
        let (Some(&right), Some(rival)) = (problem.answer.first(), problem.rival) else { return };
        let answer = task.answer_of(asking.arm, problem, asking.cut, &made.token_ids);
        let Some(answer) = answer else { return };
        // Where in the line the answer stands.
        let at = answer.as_ptr() as usize - made.token_ids.as_ptr() as usize;
        let Some(step) = made.steps.get(at / size_of::<u32>()) else { return };
        let weight =
            |id: u32| step.top.iter().find(|entry| entry.0 == id).map_or(0.0, |entry| entry.1);
        if weight(right) > weight(rival) {
            found[place] = '1';
        }
    };
    generate_all(model, task, problems, asking, &set, see)?;
    Ok(found.into_iter().collect())
}

/// The arm as it is asked in the end.
pub(super) fn asking(
    arm: Arm,
    thoughts: Manner,
    cut: Option<crate::config::Cut>,
    seed: u64,
) -> Asking {
    Asking { arm, thoughts, cut, seed }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(text: &str) -> Vec<Answer> {
        text.chars().map(|c| c.to_digit(10).map(|digit| vec![digit])).collect()
    }

    #[test]
    fn pass_at_k_is_the_share_of_subsets_with_a_right_answer() {
        let all = answers("1201");
        let right = [1];
        for k in 1..=4 {
            let subsets: Vec<u32> = (0_u32..16).filter(|set| set.count_ones() == k).collect();
            let hits = subsets.iter().filter(|&&set| set & 0b1001 != 0).count();
            let expected = hits as f64 / subsets.len() as f64;
            assert!((pass_at(k as usize, &all, &right) - expected).abs() < 1e-12, "{k}");
        }
        assert_eq!(pass_at(3, &answers("222x"), &right), 0.0);
    }

    #[test]
    fn the_most_frequent_answer_wins_and_of_equals_the_first() {
        assert_eq!(majority_at(1, &answers("1201"), &[1]), 0.5);
        // 12 and 21 and 11 and 1x and x1: of two different ones the first counts.
        assert_eq!(majority_at(2, &answers("1211x"), &[1]), 4.0 / 5.0);
        assert_eq!(majority_at(3, &answers("1221"), &[1]), 0.5);
        assert_eq!(majority_at(2, &answers("xx"), &[1]), 0.0);
    }
}
