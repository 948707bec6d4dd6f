//! A problem as each arm sees it: its training line, and how its answer is read.

use super::{Problem, Task};
use crate::config::{Arm, Cut};
use crate::example::{Example, Truth};

impl Task {
    /// The training example of `problem` for `arm`; the soft model fed hard tokens is not trained
    /// apart, so its example is that of the soft arm.
    ///
    /// `Soft`: the prompt, one soft position a step with the step's belief as truth (input ids
    /// there are those of the chosen path, which are never fed), `close` and the answer. `Hard` and
    /// `NoThought`: the lines of the [module](super). Every token after the prompt is scored, and
    /// none of the prompt: problems are random, and to learn to predict them takes the model from
    /// the answers.
    #[must_use]
    pub fn example(&self, arm: Arm, problem: &Problem) -> Example {
        let thought = match arm {
            Arm::Soft | Arm::SoftFedHard => return self.soft_example(problem),
            Arm::Hard => {
                let steps = problem.steps.iter().flat_map(|step| &step.tokens);
                self.open.iter().chain(steps).copied().collect()
            }
            Arm::NoThought => self.pause.clone(),
        };
        let eos = vec![self.tokens.special().eos];
        let line = [&problem.prompt, &thought, &self.close, &problem.answer, &eos];
        Example::from_tokens(&line.map(Vec::as_slice).concat(), problem.prompt.len())
    }

    /// The training example of `problem` in a stage of a curriculum: the prompt, the soft
    /// positions in the place of the first steps, then the steps that are left, `close` and the
    /// answer. Only these are scored, and nothing is known of what a soft position should be.
    ///
    /// ```text
    /// stage 0   prompt step step step close answer
    /// stage 2   prompt ~ ~ step close answer
    /// ```
    #[must_use]
    pub fn cut_example(&self, problem: &Problem, cut: Cut) -> Example {
        let mut example = Example::from_tokens(&problem.prompt, usize::MAX);
        for _ in 0..cut.soft {
            let placeholder = self.open.first().or(problem.prompt.last()).copied();
            push(&mut example, placeholder.unwrap_or(0), true, Truth::None);
        }
        for token in self.after_cut(problem, cut) {
            push(&mut example, token, false, Truth::Token(token));
        }
        example
    }

    /// The tokens that a stage of a curriculum leaves: later steps, `close` and the answer.
    fn after_cut(&self, problem: &Problem, cut: Cut) -> Vec<u32> {
        let left_out = cut.steps.min(problem.steps.len());
        let steps = problem.steps[left_out..].iter().flat_map(|step| &step.tokens);
        steps.chain(&self.close).chain(&problem.answer).copied().collect()
    }

    fn soft_example(&self, problem: &Problem) -> Example {
        let mut example = Example::from_tokens(&problem.prompt, usize::MAX);
        for step in &problem.steps {
            let placeholder = step.tokens.last().copied().unwrap_or(0);
            push(&mut example, placeholder, true, Truth::Soft(step.belief.clone()));
        }
        for &token in self.close.iter().chain(&problem.answer) {
            push(&mut example, token, false, Truth::Token(token));
        }
        example
    }

    /// Positions that `arm` generates after the prompt of `problem`, at most, and how many of
    /// them are soft.
    #[must_use]
    pub fn len_after_prompt(
        &self,
        arm: Arm,
        problem: &Problem,
        cut: Option<Cut>,
    ) -> (usize, usize) {
        let answer = self.close.len() + problem.answer.len();
        match (arm, cut) {
            (Arm::Soft | Arm::SoftFedHard, Some(cut)) => {
                (cut.soft + self.after_cut(problem, cut).len(), cut.soft)
            }
            (Arm::Soft | Arm::SoftFedHard, None) => {
                (problem.steps.len() + answer, problem.steps.len())
            }
            (Arm::Hard, _) => {
                let steps: usize = problem.steps.iter().map(|step| step.tokens.len()).sum();
                (self.open.len() + steps + answer + 1, 0)
            }
            (Arm::NoThought, _) => (self.pause.len() + answer + 1, 0),
        }
    }

    /// The answer in the ids that `arm` generated after the prompt; `None` where there is none to
    /// read.
    ///
    /// It stands after `close` where the task has one, and else where the line of the arm has it:
    /// a chain of thought in tokens must then have as many as the right one.
    #[must_use]
    pub fn answer_of<'a>(
        &self,
        arm: Arm,
        problem: &Problem,
        cut: Option<Cut>,
        generated: &'a [u32],
    ) -> Option<&'a [u32]> {
        let answer = problem.answer.len();
        let after = match (arm, cut) {
            (Arm::Soft | Arm::SoftFedHard, None) => generated.get(problem.steps.len()..)?,
            (Arm::Soft | Arm::SoftFedHard, Some(cut)) if self.close.is_empty() => {
                let len = self.len_after_prompt(arm, problem, Some(cut)).0;
                return generated.get(len - answer..len);
            }
            (Arm::Soft | Arm::SoftFedHard, Some(cut)) => generated.get(cut.soft..)?,
            (Arm::Hard, _) => {
                let chain = generated.strip_prefix(&self.open[..])?;
                match self.close.is_empty() {
                    true => {
                        let steps = problem.steps.iter().map(|step| step.tokens.len()).sum();
                        chain.get(steps..)?
                    }
                    false => chain,
                }
            }
            (Arm::NoThought, _) => generated.strip_prefix(&self.pause[..])?,
        };
        // Where tokens were to be written before it, the mark may stand at any place.
        let skips = arm == Arm::Hard || cut.is_some();
        let last = if skips { after.len().saturating_sub(self.close.len()) } else { 0 };
        let at = (0..=last).find(|&at| after[at..].starts_with(&self.close))?;
        after.get(at + self.close.len()..)?.get(..answer)
    }

    /// Whether `arm` answered `problem` right.
    #[must_use]
    pub fn is_right(
        &self,
        arm: Arm,
        problem: &Problem,
        cut: Option<Cut>,
        generated: &[u32],
    ) -> bool {
        self.answer_of(arm, problem, cut, generated) == Some(&problem.answer[..])
    }

    /// Positions of the longest line of any arm.
    #[must_use]
    pub fn max_positions(&self) -> usize {
        let arms = [Arm::Soft, Arm::Hard, Arm::NoThought];
        let longest = |problem: &Problem| {
            let after = arms.iter().map(|&arm| self.len_after_prompt(arm, problem, None).0).max();
            problem.prompt.len() + after.unwrap_or(0)
        };
        self.problems().map(longest).max().unwrap_or(1)
    }

    /// Positions of the longest line in a stage of a curriculum.
    #[must_use]
    pub fn cut_positions(&self, cut: Cut) -> usize {
        let after = |problem| self.len_after_prompt(Arm::Soft, problem, Some(cut)).0;
        self.problems().map(|problem| problem.prompt.len() + after(problem)).max().unwrap_or(1)
    }

    /// Positions that `arm` generates after any prompt, at most.
    #[must_use]
    pub fn max_new(&self, arm: Arm, cut: Option<Cut>) -> usize {
        self.problems().map(|problem| self.len_after_prompt(arm, problem, cut).0).max().unwrap_or(1)
    }
}

/// Adds a position: soft ones are scored where something is known of them, hard ones always.
fn push(example: &mut Example, id: u32, soft: bool, truth: Truth) {
    example.input_ids.push(id);
    example.soft.push(soft);
    example.weight.push(if truth == Truth::None { 0.0 } else { 1.0 });
    example.truth.push(truth);
}
