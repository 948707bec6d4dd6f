//! The same problem as each arm sees it: its training line, its prompt, and how its answer is read.

use super::{Mnns, Problem, Vocabulary};
use crate::config::Arm;
use crate::error::Error;
use crate::example::{Example, Truth};

impl Mnns {
    /// The training example of `problem` for `arm`; the soft model fed hard tokens is not trained
    /// apart, so its example is that of the soft arm.
    ///
    /// `Soft`: `<BOS>`, the digits, then one position a digit. All but the last of these are soft,
    /// with the sums reachable by then as truth (input ids there are the sums of the chosen path,
    /// which are never fed); the last has the answer as truth and is never fed either. Only these
    /// are scored. `Hard` and `NoThought`: every token after the digits is scored. (The published
    /// lines score the digits too, which are random: the discrete arms then learn far more slowly,
    /// and `NoThought` not at all within 6,000 steps.)
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if `problem` is not of this task's size, so that a token is missing.
    pub fn example(&self, arm: Arm, problem: &Problem) -> Result<Example, Error> {
        match arm {
            Arm::Soft | Arm::SoftFedHard => self.soft_example(problem),
            Arm::Hard => {
                let path = problem.path.iter().map(|&sum| self.sum(sum));
                let path: Vec<u32> = path.collect::<Result<_, _>>()?;
                self.hard_line(problem, &[Vocabulary::ARROW], &path)
            }
            Arm::NoThought => {
                let answer = self.sum(i64::from(problem.answer))?;
                self.hard_line(problem, &vec![Vocabulary::ARROW; self.digits()], &[answer])
            }
        }
    }

    /// What every arm is given: `<BOS>` and the digits.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if a digit is not of this task.
    pub fn prompt(&self, problem: &Problem) -> Result<Vec<u32>, Error> {
        let digits = problem.digits.iter().map(|&digit| {
            let id = self.vocabulary().digit_id(digit);
            id.ok_or_else(|| self.foreign(&format!("the digit {digit}")))
        });
        std::iter::once(Ok(Vocabulary::BOS)).chain(digits).collect()
    }

    /// How many positions `arm` generates after the prompt, at most.
    pub fn max_new(&self, arm: Arm) -> usize {
        match arm {
            Arm::Soft | Arm::SoftFedHard => self.digits(),
            Arm::Hard | Arm::NoThought => self.digits() + 2,
        }
    }

    /// The answer in the ids that `arm` generated after the prompt; `None` where there is none
    /// to read or it is negative, which is never right.
    ///
    /// Soft: the sum at the last of `digits` positions. Hard: the last of `digits` sums after the
    /// arrow. No thought: the sum after the arrows.
    pub fn answer_of(&self, arm: Arm, generated: &[u32]) -> Option<u32> {
        let sum_of = |id: &u32| self.vocabulary().sum_of(*id);
        let sum = match arm {
            Arm::Soft | Arm::SoftFedHard => sum_of(generated.get(self.digits() - 1)?)?,
            Arm::Hard => {
                let (&first, after) = generated.split_first()?;
                let sums = after.get(..self.digits()).filter(|_| first == Vocabulary::ARROW)?;
                *sums.iter().map(sum_of).collect::<Option<Vec<_>>>()?.last()?
            }
            Arm::NoThought => {
                let arrows = generated.iter().take_while(|&&id| id == Vocabulary::ARROW).count();
                sum_of(generated.get(arrows.max(1))?)?
            }
        };
        u32::try_from(sum).ok()
    }

    fn soft_example(&self, problem: &Problem) -> Result<Example, Error> {
        let mut example = Example::from_tokens(&self.prompt(problem)?, usize::MAX);
        let steps = self.digits();
        for (t, &sum) in problem.path.iter().enumerate() {
            let is_answer = t + 1 == steps;
            let truth = if is_answer {
                Truth::Token(self.sum(sum)?)
            } else {
                Truth::Soft(self.reachable_ids(problem, t + 1)?)
            };
            example.input_ids.push(self.sum(sum)?);
            example.soft.push(!is_answer);
            example.weight.push(1.0);
            example.truth.push(truth);
        }
        Ok(example)
    }

    fn reachable_ids(&self, problem: &Problem, step: usize) -> Result<Vec<(u32, f32)>, Error> {
        problem.reachable(step).into_iter().map(|(sum, p)| Ok((self.sum(sum)?, p))).collect()
    }

    fn hard_line(&self, problem: &Problem, arrows: &[u32], sums: &[u32]) -> Result<Example, Error> {
        let prompt = self.prompt(problem)?;
        let line = [&prompt, arrows, sums, &[Vocabulary::EOS]].concat();
        Ok(Example::from_tokens(&line, prompt.len()))
    }

    fn sum(&self, sum: i64) -> Result<u32, Error> {
        self.vocabulary().sum_id(sum).ok_or_else(|| self.foreign(&format!("the sum {sum}")))
    }

    fn foreign(&self, what: &str) -> Error {
        let (digits, digit_max) = (self.digits(), self.digit_max());
        let report = format!("{what} is not in MNNS with {digits} digits of 1 to {digit_max}");
        Error::Config { report }
    }
}
