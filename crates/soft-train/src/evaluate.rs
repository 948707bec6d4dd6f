//! How many problems an arm answers right when it runs freely from the prompt alone.

use std::collections::BTreeMap;

use soft_core::{PipelineConfig, SoftPipeline};
use soft_model::{
    Gate, GenerateOptions, Generation, Manner, Mode, Span, Thinking, Transformer, generate,
};

use crate::config::{Arm, Cut};
use crate::error::Error;
use crate::task::{Problem, Task};

/// Prompts that are run at once.
const BATCH: usize = 256;

/// How problems are put to a model.
#[derive(Debug, Clone)]
pub struct Asking {
    /// Who answers.
    pub arm: Arm,
    /// How the soft arm thinks.
    pub thoughts: Manner,
    /// What a curriculum made of the reasoning that the model was trained on; `None` without one.
    pub cut: Option<Cut>,
    /// Seed of noise and draws.
    pub seed: u64,
}

/// Tokens as they are most likely, fed as tokens.
///
/// # Errors
/// Never: the settings are fixed.
pub(crate) fn greedy() -> Result<Manner, Error> {
    let greedy = PipelineConfig { temperature: 0.0, ..PipelineConfig::default() };
    Ok(Manner::new(SoftPipeline::new(greedy)?, Mode::Hard))
}

/// Problems that generate alike: numbers of those whose lines are equally long.
pub(crate) struct Group {
    /// Positions after the prompt.
    pub(crate) max_new: usize,
    /// Those of them that are thoughts.
    pub(crate) thoughts: usize,
    /// Places among the problems.
    pub(crate) places: Vec<usize>,
}

/// The problems in groups, each in order.
pub(crate) fn groups(task: &Task, problems: &[Problem], asking: &Asking) -> Vec<Group> {
    let mut groups: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
    let longest = task.max_new(asking.arm, asking.cut);
    for (place, problem) in problems.iter().enumerate() {
        let (max_new, thoughts) = task.len_after_prompt(asking.arm, problem, asking.cut);
        // Without soft thoughts a line may end where it likes.
        let max_new = match asking.arm {
            Arm::Soft | Arm::SoftFedHard => max_new,
            Arm::Hard | Arm::NoThought => longest,
        };
        groups.entry((max_new, thoughts)).or_default().push(place);
    }
    let group = |((max_new, thoughts), places)| Group { max_new, thoughts, places };
    groups.into_iter().map(group).collect()
}

/// How a group is generated: thoughts first, as the arm feeds them, then its most likely tokens.
///
/// # Errors
/// Never: the settings of the answer are fixed.
pub(crate) fn options(
    model: &Transformer,
    group: &Group,
    asking: &Asking,
) -> Result<GenerateOptions, Error> {
    let thoughts = match asking.arm {
        Arm::Soft => asking.thoughts.clone(),
        _ => greedy()?,
    };
    let span = Span::First(group.thoughts);
    Ok(GenerateOptions {
        thoughts,
        thinking: Some(Thinking { span, gate: Gate::Open, answer: greedy()? }),
        max_new: group.max_new,
        eos_ids: model.config().eos_ids.clone(),
        seed: asking.seed,
        ..GenerateOptions::default()
    })
}

/// Which problems are answered right. The soft arm feeds what its thoughts say, the others their
/// own most likely tokens; after its thoughts the soft arm does so too.
///
/// # Errors
/// A model that cannot run a problem.
pub fn right_answers(
    model: &Transformer,
    task: &Task,
    problems: &[Problem],
    asking: &Asking,
) -> Result<Vec<bool>, Error> {
    let mut right = vec![false; problems.len()];
    let see = &mut |place: usize, generation: &Generation| {
        let (problem, ids) = (&problems[place], &generation.token_ids);
        right[place] = task.is_right(asking.arm, problem, asking.cut, ids);
    };
    generate_all(model, task, problems, asking, &|_| {}, see)?;
    Ok(right)
}

/// Generates for every problem; `set` changes the options, `see` is given the place of a problem
/// and what was generated.
///
/// # Errors
/// A model that cannot run a problem.
pub(crate) fn generate_all(
    model: &Transformer,
    task: &Task,
    problems: &[Problem],
    asking: &Asking,
    set: &dyn Fn(&mut GenerateOptions),
    see: &mut dyn FnMut(usize, &Generation),
) -> Result<(), Error> {
    let mode = if asking.arm == Arm::Soft { Mode::Soft } else { Mode::Hard };
    // Every problem has noise of its own.
    let mut done = 0;
    for group in groups(task, problems, asking) {
        let mut options = options(model, &group, asking)?;
        set(&mut options);
        for places in group.places.chunks(BATCH) {
            let prompt = |&place: &usize| problems[place].prompt.clone();
            let prompts: Vec<Vec<u32>> = places.iter().map(prompt).collect();
            options.first_row = done;
            done += places.len() as u32;
            let made = generate(model, &prompts, &|_, _| mode, &options, &mut |_, _, _| {})?;
            places.iter().zip(&made).for_each(|(&place, made)| see(place, made));
        }
    }
    Ok(())
}

/// Problems answered right, of those asked; see [`right_answers`].
///
/// # Errors
/// A model that cannot run a problem.
pub fn count_correct(
    model: &Transformer,
    task: &Task,
    problems: &[Problem],
    asking: &Asking,
) -> Result<u64, Error> {
    let right = right_answers(model, task, problems, asking)?;
    Ok(right.into_iter().filter(|&right| right).count() as u64)
}
