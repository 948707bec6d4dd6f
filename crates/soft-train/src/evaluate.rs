//! How many problems an arm answers right when it runs freely from the prompt alone.

use soft_core::{PipelineConfig, SoftPipeline};
use soft_model::{GenerateOptions, Manner, Mode, Transformer, generate};

use crate::config::Arm;
use crate::error::Error;
use crate::task::mnns::{Mnns, Problem};

/// Prompts that are run at once.
const BATCH: usize = 256;

/// Problems answered right, of those asked. The soft arm feeds its own mixtures through
/// `pipeline`; the others their own most likely tokens.
///
/// # Errors
/// A problem of another size than the task's, or a model that cannot run it.
pub fn count_correct(
    model: &Transformer,
    task: &Mnns,
    problems: &[Problem],
    arm: Arm,
    pipeline: &SoftPipeline,
    seed: u64,
) -> Result<u64, Error> {
    let greedy = PipelineConfig { temperature: 0.0, ..PipelineConfig::default() };
    let (mode, pipeline) = match arm {
        Arm::Soft => (Mode::Soft, pipeline.clone()),
        _ => (Mode::Hard, SoftPipeline::new(greedy)?),
    };
    let mut options = GenerateOptions {
        thoughts: Manner::new(pipeline, mode),
        max_new: task.max_new(arm),
        eos_ids: model.config().eos_ids.clone(),
        seed,
        ..GenerateOptions::default()
    };
    let mut correct = 0;
    for problems in problems.chunks(BATCH) {
        let prompts = problems.iter().map(|problem| task.prompt(problem));
        let prompts: Vec<Vec<u32>> = prompts.collect::<Result<_, _>>()?;
        let made = generate(model, &prompts, &|_, _| mode, &options, &mut |_, _, _| {})?;
        let right = problems.iter().zip(&made).filter(|(problem, generation)| {
            task.answer_of(arm, &generation.token_ids) == Some(problem.answer)
        });
        correct += right.count() as u64;
        options.first_row += problems.len() as u32;
    }
    Ok(correct)
}
