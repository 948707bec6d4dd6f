//! One training example: what is fed at each position, what is scored there, and which inputs
//! are mixtures.

use crate::error::Error;

/// How far the weights of a soft truth may be from summing to 1.
const SUM_TOLERANCE: f32 = 1e-4;

/// The right answer for one position, y_t.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Truth {
    /// Nothing is known: guidance is 0 here and the position is not scored.
    #[default]
    None,
    /// One token; one-hot.
    Token(u32),
    /// A distribution, as (token id, probability); the probabilities sum to 1.
    Soft(Vec<(u32, f32)>),
}

/// CRC-32 of everything in the examples: training may only go on with the data it began with.
pub(crate) fn checksum<'a>(examples: impl IntoIterator<Item = &'a Example>) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    for example in examples {
        crc.update(&(example.len() as u64).to_le_bytes());
        let answer_from = example.answer_from.map_or(u64::MAX, |from| from as u64);
        crc.update(&answer_from.to_le_bytes());
        example.input_ids.iter().for_each(|id| crc.update(&id.to_le_bytes()));
        example.soft.iter().for_each(|&soft| crc.update(&[u8::from(soft)]));
        example.weight.iter().for_each(|weight| crc.update(&weight.to_le_bytes()));
        for truth in &example.truth {
            let entries: &[(u32, f32)] = match truth {
                Truth::None => &[],
                Truth::Token(id) => &[(*id, 1.0)],
                Truth::Soft(entries) => entries,
            };
            crc.update(&(entries.len() as u64).to_le_bytes());
            for (id, weight) in entries {
                crc.update(&id.to_le_bytes());
                crc.update(&weight.to_le_bytes());
            }
        }
    }
    crc.finalize()
}

/// One sequence with its truth, soft mask and loss weights; all four lists have one entry a
/// position.
///
/// `soft` and `weight` are independent: a mixture can be fed where nothing is scored, and a hard
/// token can be scored. Nothing predicts position 0, so it is neither soft nor scored. The output
/// of the last position is never fed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Example {
    /// x_t: the token fed where the position is hard; where it is soft, a placeholder that is
    /// never looked up.
    pub input_ids: Vec<u32>,
    /// m_t: whether the input of the position is a mixture.
    pub soft: Vec<bool>,
    /// w_t: how much the prediction *of* the position counts in the loss.
    pub weight: Vec<f32>,
    /// y_t: what the prediction of the position should be.
    pub truth: Vec<Truth>,
    /// Position of the first token of the answer, where a thought comes before one: that after
    /// the thought's closing tag.
    pub answer_from: Option<usize>,
}

impl Example {
    /// The first position that the model writes itself, softly or in scored tokens: what stands before
    /// it is the prompt.
    #[must_use]
    pub fn first_written(&self) -> usize {
        let written = |t: &usize| self.soft[*t] || self.weight[*t] > 0.0;
        (0..self.len()).find(written).unwrap_or(self.len())
    }

    /// Multiplies the weights of the soft positions.
    pub fn weigh_thoughts(&mut self, weight: f32) {
        let thoughts = self.weight.iter_mut().zip(&self.soft).filter(|(_, soft)| **soft);
        thoughts.for_each(|(own, _)| *own *= weight);
    }

    /// A plain line of tokens: every input hard, the truth of a position is its token, and every
    /// position from `max(prompt_len, 1)` on is scored with weight 1.
    pub fn from_tokens(token_ids: &[u32], prompt_len: usize) -> Self {
        let scored_from = prompt_len.max(1);
        Self {
            input_ids: token_ids.to_vec(),
            soft: vec![false; token_ids.len()],
            weight: (0..token_ids.len()).map(|t| if t < scored_from { 0.0 } else { 1.0 }).collect(),
            truth: token_ids.iter().map(|&id| Truth::Token(id)).collect(),
            answer_from: None,
        }
    }

    /// Positions whose prediction is scored.
    pub(crate) fn num_scored(&self) -> u64 {
        self.weight.iter().filter(|&&weight| weight > 0.0).count() as u64
    }

    /// Scored positions of the answer, which the loss of answers alone is measured on; none where
    /// no thought comes before one.
    pub fn answer_positions(&self) -> impl Iterator<Item = usize> + '_ {
        let from = self.answer_from.unwrap_or(self.len());
        (from..self.len()).filter(|&t| self.weight[t] > 0.0)
    }

    /// Number of scored positions.
    pub fn scored_len(&self) -> usize {
        self.weight.iter().filter(|&&weight| weight > 0.0).count()
    }

    /// Number of soft inputs.
    pub fn soft_len(&self) -> usize {
        self.soft.iter().filter(|&&soft| soft).count()
    }

    /// Keeps the first `len` positions; an answer that was cut off is none.
    pub fn truncate(&mut self, len: usize) {
        self.input_ids.truncate(len);
        self.soft.truncate(len);
        self.weight.truncate(len);
        self.truth.truncate(len);
        self.answer_from = self.answer_from.filter(|&from| from < len);
    }

    /// Number of positions.
    pub fn len(&self) -> usize {
        self.input_ids.len()
    }

    /// Whether there are no positions.
    pub fn is_empty(&self) -> bool {
        self.input_ids.is_empty()
    }

    /// Checks what the rollouts and the loss rely on, for a vocabulary of `vocab_size` ids.
    ///
    /// # Errors
    ///
    /// [`Error::TokenOutsideVocabulary`] for an id without an embedding row, [`Error::Data`] for
    /// everything else: lists of different lengths, a soft or scored position 0, a weight that is
    /// negative, not finite, or set where there is no truth, a soft truth that does not sum to 1,
    /// or nothing scored at all. `place` (a file and line, or a name) opens the message.
    pub fn validate(&self, vocab_size: usize, place: &str) -> Result<(), Error> {
        self.check_structure()
            .map_err(|what| Error::Data { report: format!("{place}: {what}") })?;
        match self.ids().find(|&id| id as usize >= vocab_size) {
            Some(id) => {
                Err(Error::TokenOutsideVocabulary { place: place.to_string(), id, vocab_size })
            }
            None => Ok(()),
        }
    }

    /// Every id that must have an embedding row: inputs, then truths.
    fn ids(&self) -> impl Iterator<Item = u32> + '_ {
        let in_truth = self.truth.iter().flat_map(|truth| match truth {
            Truth::None => Vec::new(),
            Truth::Token(id) => vec![*id],
            Truth::Soft(entries) => entries.iter().map(|&(id, _)| id).collect(),
        });
        self.input_ids.iter().copied().chain(in_truth)
    }

    /// Everything that does not depend on the vocabulary; says what is wrong.
    pub(crate) fn check_structure(&self) -> Result<(), String> {
        self.check_lengths()?;
        if self.soft[0] {
            return Err("soft[0] is 1, expected 0: nothing predicts position 0".into());
        }
        if self.weight[0] != 0.0 {
            return Err("weight[0] is not 0: nothing predicts position 0".into());
        }
        for (t, (&weight, truth)) in self.weight.iter().zip(&self.truth).enumerate() {
            if !weight.is_finite() || weight < 0.0 {
                return Err(format!(
                    "weight[{t}] is {weight}, expected a finite number of at least 0"
                ));
            }
            if weight > 0.0 && *truth == Truth::None {
                return Err(format!(
                    "weight[{t}] is {weight}, expected 0: the position has no truth"
                ));
            }
            if let Truth::Soft(entries) = truth {
                check_soft_truth(entries).map_err(|what| format!("truth[{t}] {what}"))?;
            }
        }
        if self.weight.iter().all(|&weight| weight == 0.0) {
            return Err(
                "no position is scored: every weight is 0, so nothing can be learned".into()
            );
        }
        Ok(())
    }

    fn check_lengths(&self) -> Result<(), String> {
        let expected = self.len();
        if expected < 2 {
            return Err(format!(
                "{expected} token ids, expected at least 2: one to read, one to predict"
            ));
        }
        let lengths =
            [("soft", self.soft.len()), ("weight", self.weight.len()), ("truth", self.truth.len())];
        match lengths.into_iter().find(|&(_, found)| found != expected) {
            Some((name, found)) => {
                Err(format!("`{name}` has {found} entries, expected {expected}, one for each id"))
            }
            None => Ok(()),
        }
    }
}

fn check_soft_truth(entries: &[(u32, f32)]) -> Result<(), String> {
    if let Some((id, p)) = entries.iter().find(|(_, p)| !p.is_finite() || *p < 0.0) {
        return Err(format!("gives id {id} the probability {p}, expected 0 to 1"));
    }
    let mut ids: Vec<u32> = entries.iter().map(|&(id, _)| id).collect();
    ids.sort_unstable();
    if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("names id {} twice, expected each id once", pair[0]));
    }
    let sum: f32 = entries.iter().map(|(_, p)| p).sum();
    if (sum - 1.0).abs() > SUM_TOLERANCE {
        return Err(format!("sums to {sum}, expected 1 within {SUM_TOLERANCE}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(example: &Example) -> String {
        example.validate(10, "here").expect_err("must be refused").to_string()
    }

    #[test]
    fn a_line_of_tokens_is_scored_after_its_prompt_and_never_at_position_0() {
        let example = Example::from_tokens(&[1, 2, 3, 4], 2);
        assert_eq!(example.weight, [0.0, 0.0, 1.0, 1.0]);
        assert_eq!(example.truth[3], Truth::Token(4));
        assert_eq!(Example::from_tokens(&[1, 2, 3], 0).weight, [0.0, 1.0, 1.0]);
        example.validate(5, "here").expect("valid");
    }

    #[test]
    fn an_id_outside_the_vocabulary_is_a_model_error_in_inputs_and_in_truths() {
        let mut example = Example::from_tokens(&[1, 2, 3], 0);
        assert_eq!(example.validate(3, "here").expect_err("3 of 3").exit_code(), 4);
        example.truth[2] = Truth::Soft(vec![(2, 0.5), (11, 0.5)]);
        let error = example.validate(10, "here").expect_err("11 of 10");
        assert_eq!(error.exit_code(), 4);
        assert!(error.to_string().contains("11"), "{error}");
    }

    #[test]
    fn the_answer_is_what_is_scored_from_its_first_token_and_part_of_the_checksum() {
        let mut example = Example::from_tokens(&[1, 2, 3, 4, 5], 2);
        let before = checksum(std::slice::from_ref(&example));
        assert_eq!(example.answer_positions().count(), 0);
        example.answer_from = Some(3);
        assert_ne!(checksum(std::slice::from_ref(&example)), before);
        example.weight[3] = 0.0;
        assert_eq!(example.answer_positions().collect::<Vec<_>>(), [4]);
        example.truncate(3);
        assert_eq!((example.len(), example.answer_from), (3, None));
        example.validate(9, "here").expect("what is left is whole");
    }

    #[test]
    fn each_broken_invariant_is_named() {
        let good = Example::from_tokens(&[1, 2, 3], 0);
        let broken = |change: &dyn Fn(&mut Example)| {
            let mut example = good.clone();
            change(&mut example);
            report(&example)
        };
        assert!(broken(&|e| e.soft.push(true)).contains("`soft` has 4 entries, expected 3"));
        assert!(broken(&|e| e.soft[0] = true).contains("soft[0]"));
        assert!(broken(&|e| e.weight[0] = 1.0).contains("weight[0]"));
        assert!(broken(&|e| e.weight[1] = f32::NAN).contains("weight[1] is NaN"));
        assert!(broken(&|e| e.truth[1] = Truth::None).contains("weight[1]"));
        assert!(broken(&|e| e.truth[1] = Truth::Soft(vec![(1, 0.9)])).contains("sums to 0.9"));
        assert!(broken(&|e| e.truth[1] = Truth::Soft(vec![(1, 0.5), (1, 0.5)])).contains("twice"));
        assert!(broken(&|e| e.weight.fill(0.0)).contains("no position is scored"));
        assert!(broken(&|e| *e = Example::from_tokens(&[1], 0)).contains("at least 2"));
    }
}
