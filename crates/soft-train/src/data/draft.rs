//! An example while it is put together from pieces of text.

use std::ops::Range;

use soft_model::Tokenizer;

use crate::config::{Data, SoftInputs, TrainOn};
use crate::example::{Example, Truth};

/// Tokens so far, and what is done at each.
///
/// Each piece is encoded together with the text before it, so that the tokens are those of the whole
/// text. Where a token would reach across the border, the piece is encoded alone: generation begins
/// at such a border too, with the tokens of the prompt as they are.
pub(super) struct Draft<'a> {
    tokenizer: &'a Tokenizer,
    ids: Vec<u32>,
    scored: Vec<bool>,
    soft: Vec<bool>,
    /// Positions that nothing is known of.
    blind: Vec<bool>,
    /// What the model is to write, without the tokens that end it.
    written: Vec<Range<usize>>,
    answer_from: Option<usize>,
    /// Text since the last border, and where its tokens begin.
    run: String,
    run_start: usize,
}

/// What is done at the positions of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// Given: not scored.
    Given,
    /// Written by the model: scored.
    Written,
    /// The same, in a thought: its inputs may be soft.
    Thought,
}

impl<'a> Draft<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer) -> Self {
        Self {
            tokenizer,
            ids: Vec::new(),
            scored: Vec::new(),
            soft: Vec::new(),
            blind: Vec::new(),
            written: Vec::new(),
            answer_from: None,
            run: String::new(),
            run_start: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Adds a text.
    pub(super) fn text(&mut self, text: &str, piece: Piece) -> Result<(), soft_model::Error> {
        if text.is_empty() {
            return Ok(());
        }
        let together = self.tokenizer.encode(&format!("{}{text}", self.run), false)?;
        let before = &self.ids[self.run_start..];
        let new = match together.strip_prefix(before) {
            Some(new) => {
                self.run.push_str(text);
                new.to_vec()
            }
            None => {
                self.run_start = self.ids.len();
                text.clone_into(&mut self.run);
                self.tokenizer.encode(text, false)?
            }
        };
        self.push(&new, piece);
        Ok(())
    }

    /// Adds tokens that do not depend on the text around them.
    pub(super) fn tokens(&mut self, ids: &[u32], piece: Piece) {
        self.push(ids, piece);
        self.run.clear();
        self.run_start = self.ids.len();
    }

    fn push(&mut self, ids: &[u32], piece: Piece) {
        let len = self.ids.len() + ids.len();
        self.ids.extend(ids);
        self.scored.resize(len, piece != Piece::Given);
        self.soft.resize(len, piece == Piece::Thought);
        self.blind.resize(len, false);
    }

    /// Adds soft positions of which nothing is known; `placeholder` is never looked up.
    pub(super) fn blind_thought(&mut self, count: usize, placeholder: u32) {
        self.tokens(&vec![placeholder; count], Piece::Thought);
        let first = self.ids.len() - count;
        self.scored[first..].fill(false);
        self.blind[first..].fill(true);
    }

    /// What came since position `from` is what the model is to write.
    pub(super) fn wrote_since(&mut self, from: usize) {
        self.written.push(from..self.ids.len());
    }

    /// The answer begins here.
    pub(super) fn answer_here(&mut self) {
        self.answer_from = Some(self.ids.len());
    }

    /// The example, up to the last position that is scored: what follows that changes nothing.
    pub(super) fn finish(mut self, data: &Data) -> Example {
        let len = self.ids.len();
        if data.train_on == TrainOn::All {
            self.scored.iter_mut().zip(&self.blind).for_each(|(scored, blind)| *scored = !blind);
        }
        let chosen = |first: usize| {
            let mut soft = vec![false; len];
            for span in &self.written {
                soft[span.start..span.end.min(span.start.saturating_add(first))].fill(true);
            }
            soft
        };
        let mut soft = match data.soft {
            SoftInputs::Reasoning => self.soft,
            SoftInputs::First => chosen(data.soft_first),
            SoftInputs::All => chosen(usize::MAX),
            SoftInputs::None => vec![false; len],
        };
        // Nothing predicts position 0.
        soft.iter_mut().take(1).for_each(|soft| *soft = false);
        self.scored.iter_mut().take(1).for_each(|scored| *scored = false);
        let end = self.scored.iter().rposition(|&scored| scored).map_or(len, |last| last + 1);
        let mut example = Example {
            weight: self.scored.iter().map(|&scored| f32::from(u8::from(scored))).collect(),
            truth: self
                .ids
                .iter()
                .zip(&self.blind)
                .map(|(&id, &blind)| if blind { Truth::None } else { Truth::Token(id) })
                .collect(),
            input_ids: self.ids,
            soft,
            answer_from: self.answer_from,
        };
        example.truncate(end);
        example
    }
}
