//! What a completion is worth.

mod command;
mod model;

use std::time::Duration;

use serde_json::{Value, json};

use super::source::{Completion, Texts};
use crate::config::{RewardKind, Rl};
use crate::error::Error;
use command::CommandReward;
use model::ModelReward;
pub use model::{RewardModel, require_vocabulary};

/// Rewards of some completions.
pub trait Reward: std::fmt::Debug + Send {
    /// Its name in the record.
    fn name(&self) -> &str;

    /// Whether it reads what was written; `texts` are empty where no reward does.
    fn reads(&self) -> bool {
        false
    }

    /// A finite number for each completion.
    ///
    /// # Errors
    /// Where it cannot say.
    fn score(&mut self, completions: &[&Completion], texts: &[Texts]) -> Result<Vec<f64>, Error>;
}

/// A reward and its weight in the sum.
#[derive(Debug)]
pub struct Weighted {
    /// The reward.
    pub reward: Box<dyn Reward>,
    /// Its weight.
    pub weight: f64,
}

/// The rewards of a configuration.
///
/// # Errors
/// Settings that cannot be, or a reward model that is missing.
pub fn rewards(rl: &Rl, model: Option<RewardModel>) -> Result<Vec<Weighted>, Error> {
    let mut model = model;
    let entries = rl.weighted_rewards().map_err(|report| Error::Config { report })?;
    let mut reward = |kind| -> Result<Box<dyn Reward>, Error> {
        Ok(match kind {
            RewardKind::Answer => Box::new(Answer),
            RewardKind::Format => Box::new(Format),
            RewardKind::Length => Box::new(Length { free: rl.free_tokens }),
            RewardKind::Command => Box::new(Program(CommandReward::new(
                rl.command.clone(),
                Duration::from_secs_f64(rl.command_seconds),
            ))),
            RewardKind::Model => Box::new(ModelReward(model.take().ok_or_else(|| {
                let report = "`rl.rewards` holds \"model\" more than once, or there is none".into();
                Error::Config { report }
            })?)),
        })
    };
    entries
        .into_iter()
        .map(|(kind, weight)| Ok(Weighted { reward: reward(kind)?, weight }))
        .collect()
}

/// 1 for the right answer.
#[derive(Debug)]
struct Answer;

impl Reward for Answer {
    fn name(&self) -> &str {
        RewardKind::Answer.as_str()
    }

    fn score(&mut self, completions: &[&Completion], _: &[Texts]) -> Result<Vec<f64>, Error> {
        Ok(completions.iter().map(|own| f64::from(u8::from(own.right))).collect())
    }
}

/// 1 for a thought that was closed and a row that came to its end.
#[derive(Debug)]
struct Format;

impl Reward for Format {
    fn name(&self) -> &str {
        RewardKind::Format.as_str()
    }

    fn score(&mut self, completions: &[&Completion], _: &[Texts]) -> Result<Vec<f64>, Error> {
        Ok(completions.iter().map(|own| f64::from(u8::from(own.closed && own.ended))).collect())
    }
}

/// 0 up to some tokens, and from there in a straight line down to -1 at the limit (the punishment of
/// overlong rows of DAPO, arXiv:2503.14476, eq. 13).
#[derive(Debug)]
struct Length {
    free: usize,
}

impl Reward for Length {
    fn name(&self) -> &str {
        RewardKind::Length.as_str()
    }

    fn score(&mut self, completions: &[&Completion], _: &[Texts]) -> Result<Vec<f64>, Error> {
        let of = |own: &&Completion| {
            let over = own.tokens.saturating_sub(self.free) as f64;
            let range = own.max_tokens.saturating_sub(self.free).max(1) as f64;
            -(over / range).min(1.0)
        };
        Ok(completions.iter().map(of).collect())
    }
}

/// What a program says.
#[derive(Debug)]
struct Program(CommandReward);

impl Reward for Program {
    fn name(&self) -> &str {
        RewardKind::Command.as_str()
    }

    fn reads(&self) -> bool {
        true
    }

    fn score(&mut self, completions: &[&Completion], texts: &[Texts]) -> Result<Vec<f64>, Error> {
        let line = |(own, texts): (&&Completion, &Texts)| -> Value {
            json!({
                "prompt": texts.prompt,
                "thoughts": texts.thoughts,
                "answer": texts.answer,
                "expected": texts.expected,
                "right": own.right,
                "tokens": own.tokens,
                "ended": own.ended,
            })
        };
        let lines: Vec<Value> = completions.iter().zip(texts).map(line).collect();
        self.0.score(&lines).map_err(|fault| Error::Reward { what: fault.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completion(tokens: usize, closed: bool, ended: bool) -> Completion {
        Completion {
            problem: 0,
            thoughts: vec![vec![]],
            answer: vec![],
            right: tokens.is_multiple_of(2),
            closed,
            ended,
            tokens,
            max_tokens: 10,
        }
    }

    fn scores(reward: &mut dyn Reward, completions: &[Completion]) -> Vec<f64> {
        reward.score(&completions.iter().collect::<Vec<_>>(), &[]).expect("it can say")
    }

    #[test]
    fn answers_formats_and_lengths() {
        let rows =
            [completion(4, true, true), completion(7, true, false), completion(10, false, true)];
        assert_eq!(scores(&mut Answer, &rows), [1.0, 0.0, 1.0]);
        assert_eq!(scores(&mut Format, &rows), [1.0, 0.0, 0.0]);
        assert_eq!(scores(&mut Length { free: 4 }, &rows), [0.0, -0.5, -1.0]);
        assert_eq!(scores(&mut Length { free: 10 }, &rows), [0.0; 3]);
        assert_eq!(scores(&mut Length { free: 0 }, &rows[..1]), [-0.4]);
    }

    #[test]
    fn the_rewards_of_a_configuration_have_their_weights_in_order() {
        let entries = ["answer 1", "length 0.25", "format -2"].map(str::to_owned).to_vec();
        let rl = Rl { rewards: entries, ..Rl::default() };
        let found = rewards(&rl, None).expect("fine");
        let found: Vec<_> = found.iter().map(|own| (own.reward.name(), own.weight)).collect();
        assert_eq!(found, [("answer", 1.0), ("length", 0.25), ("format", -2.0)]);
    }
}
