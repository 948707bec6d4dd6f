//! The same problem as each arm sees it: its training line, its prompt, and how its answer is read.

use super::{Mnns, Problem, Vocabulary};
use crate::config::{Arm, Cut};
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

    /// The training example of `problem` in a stage of a curriculum: `<BOS>`, the digits, the soft
    /// positions in the place of the first sums, then the sums that are left, of which the last is
    /// the answer. Only these are scored, and nothing is known of what a soft position should be.
    ///
    /// ```text
    /// stage 0   <BOS> D3 D1 D2 D5 S3 S4 S6 S1
    /// stage 2   <BOS> D3 D1 D2 D5 ~ ~ S6 S1
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if `problem` is not of this task's size, so that a token is missing.
    pub fn cut_example(&self, problem: &Problem, cut: Cut) -> Result<Example, Error> {
        let mut example = Example::from_tokens(&self.prompt(problem)?, usize::MAX);
        for _ in 0..cut.soft {
            example.input_ids.push(Vocabulary::ARROW);
            example.soft.push(true);
            example.weight.push(0.0);
            example.truth.push(Truth::None);
        }
        for &sum in &problem.path[self.left_out(cut)..] {
            let sum = self.sum(sum)?;
            example.input_ids.push(sum);
            example.soft.push(false);
            example.weight.push(1.0);
            example.truth.push(Truth::Token(sum));
        }
        Ok(example)
    }

    /// Positions after the prompt in a stage of a curriculum; the answer is the last of them.
    pub fn cut_len(&self, cut: Cut) -> usize {
        cut.soft + self.digits() - self.left_out(cut)
    }

    /// Sums that soft positions stand for; the answer is none of them.
    fn left_out(&self, cut: Cut) -> usize {
        cut.steps.min(self.digits() - 1)
    }

    /// The answer in the ids that were generated after the prompt in a stage of a curriculum.
    pub fn answer_of_cut(&self, cut: Cut, generated: &[u32]) -> Option<u32> {
        let last = generated.get(self.cut_len(cut) - 1)?;
        u32::try_from(self.vocabulary().sum_of(*last)?).ok()
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
