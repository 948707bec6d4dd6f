//! Problems of a generated task.

use std::sync::Arc;

use soft_core::{PipelineConfig, SoftPipeline};
use soft_model::{Gate, GenerateOptions, Generation, Manner, Mode, Span, Thinking};

use super::{Completion, Lot, Source, Texts};
use crate::config::Arm;
use crate::error::Error;
use crate::evaluate::{Asking, groups};
use crate::task::{Problem, Task};

/// The training problems of a task, each with its exact answer.
#[derive(Debug, Clone)]
pub struct TaskSource {
    /// The task.
    pub task: Arc<Task>,
    /// Who answers.
    pub arm: Arm,
    /// How the soft arm thinks: what its draws come from.
    pub thoughts: SoftPipeline,
    /// Tokens that end a line.
    pub eos_ids: Vec<u32>,
}

impl Source for TaskSource {
    fn lots(&self, problems: &[usize]) -> Result<Vec<Lot>, Error> {
        let own: Vec<Problem> =
            problems.iter().map(|&problem| self.task.train[problem].clone()).collect();
        let thoughts = Manner::new(self.thoughts.clone(), Mode::Soft);
        let asking = Asking { arm: self.arm, thoughts, cut: None, seed: 0 };
        let mode = if self.arm == Arm::Soft { Mode::Soft } else { Mode::Hard };
        let answer = Manner::new(SoftPipeline::new(PipelineConfig::default())?, Mode::Hard);
        let lot = |group: crate::evaluate::Group| Lot {
            problems: group.places.iter().map(|&place| problems[place]).collect(),
            places: group.places.clone(),
            prompts: group.places.iter().map(|&place| own[place].prompt.clone()).collect(),
            mode,
            options: GenerateOptions {
                thoughts: Manner { mode, ..asking.thoughts.clone() },
                thinking: Some(Thinking {
                    span: Span::First(group.thoughts),
                    gate: Gate::Open,
                    answer: answer.clone(),
                }),
                max_new: group.max_new,
                eos_ids: self.eos_ids.clone(),
                ..GenerateOptions::default()
            },
            close: self.task.close.clone(),
        };
        Ok(groups(&self.task, &own, &asking).into_iter().map(lot).collect())
    }

    fn is_right(&self, problem: usize, made: &Generation, _: &[u32]) -> bool {
        self.task.is_right(self.arm, &self.task.train[problem], None, &made.token_ids)
    }

    fn texts(&self, completion: &Completion) -> Texts {
        let problem = &self.task.train[completion.problem];
        Texts {
            prompt: self.task.tokens.text(&problem.prompt),
            prompt_ids: problem.prompt.clone(),
            expected: Some(self.task.tokens.text(&problem.answer)),
            thoughts: completion.thoughts.iter().map(|ids| self.task.tokens.text(ids)).collect(),
            answer: self.task.tokens.text(&completion.answer),
        }
    }
}
