//! How many problems an arm answers right when it runs freely from the prompt alone.

use soft_core::{PipelineConfig, SoftPipeline};
use soft_model::{Gate, GenerateOptions, Manner, Mode, Span, Thinking, Transformer, generate};

use crate::config::{Arm, Cut};
use crate::error::Error;
use crate::task::mnns::{Mnns, Problem};

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

/// Problems answered right, of those asked. The soft arm feeds what its thoughts say, the others
/// their own most likely tokens; after a curriculum the soft arm does so too once its soft positions
/// are over.
///
/// # Errors
/// A problem of another size than the task's, or a model that cannot run it.
pub fn count_correct(
    model: &Transformer,
    task: &Mnns,
    problems: &[Problem],
    asking: &Asking,
) -> Result<u64, Error> {
    let Asking { arm, cut, .. } = *asking;
    let greedy = PipelineConfig { temperature: 0.0, ..PipelineConfig::default() };
    let greedy = Manner::new(SoftPipeline::new(greedy)?, Mode::Hard);
    let (mode, thoughts) = match arm {
        Arm::Soft => (Mode::Soft, asking.thoughts.clone()),
        _ => (Mode::Hard, greedy.clone()),
    };
    let thinking =
        cut.map(|cut| Thinking { span: Span::First(cut.soft), gate: Gate::Open, answer: greedy });
    let mut options = GenerateOptions {
        thoughts,
        thinking,
        max_new: cut.map_or_else(|| task.max_new(arm), |cut| task.cut_len(cut)),
        eos_ids: model.config().eos_ids.clone(),
        seed: asking.seed,
        ..GenerateOptions::default()
    };
    let mut correct = 0;
    for problems in problems.chunks(BATCH) {
        let prompts = problems.iter().map(|problem| task.prompt(problem));
        let prompts: Vec<Vec<u32>> = prompts.collect::<Result<_, _>>()?;
        let made = generate(model, &prompts, &|_, _| mode, &options, &mut |_, _, _| {})?;
        let answer = |ids: &[u32]| match cut {
            Some(cut) => task.answer_of_cut(cut, ids),
            None => task.answer_of(arm, ids),
        };
        let right = problems
            .iter()
            .zip(&made)
            .filter(|(problem, generation)| answer(&generation.token_ids) == Some(problem.answer));
        correct += right.count() as u64;
        options.first_row += problems.len() as u32;
    }
    Ok(correct)
}
