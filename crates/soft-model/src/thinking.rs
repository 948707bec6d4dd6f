//! When a row thinks, and what ends its thinking.

use std::collections::VecDeque;

use soft_core::SoftPipeline;

use crate::gate::{Gate, Switching};
use crate::record::{Event, Mode};

/// Where thoughts lie in what is generated.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Span {
    /// Every position is a thought.
    #[default]
    Everywhere,
    /// The first positions, so many of them.
    First(usize),
    /// What lies between two tags, of one token or several; the last token of each is fed hard.
    Tags {
        /// Begins a thought. Where it is empty, or the prompt has one that is still open, a row
        /// begins with a thought.
        open: Vec<u32>,
        /// Ends it; not empty.
        close: Vec<u32>,
    },
}

/// Ends the thinking of a model that has been certain for long.
///
/// # Source
/// Soft Thinking (Zhang et al. 2025, arXiv:2505.15778), "Cold Stop"; its counter goes on in the
/// answer, where it ends the row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ColdStop {
    /// A step is certain where its entropy is under this, in nats.
    pub entropy: f64,
    /// So many certain steps in a row end the thinking; at least 1.
    pub length: usize,
}

/// What a soft position feeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Feedback {
    /// The mixture of token embeddings that the pipeline makes.
    #[default]
    Mixture,
    /// The last hidden state, after the final norm, for models that were trained so (Coconut,
    /// Hao et al. 2024, arXiv:2412.06769).
    Hidden,
}

/// How thoughts, or an answer, are decoded.
#[derive(Debug, Clone)]
pub struct Manner {
    /// From logits to the distribution.
    pub pipeline: SoftPipeline,
    /// How that is fed.
    pub mode: Mode,
    /// What a soft position feeds.
    pub feedback: Feedback,
    /// Ends a thought early, and an answer that goes in circles.
    pub cold_stop: Option<ColdStop>,
    /// Penalty of tokens that the row holds already, its prompt included; 1 is off
    /// ([`soft_core::penalized`]).
    pub repetition_penalty: f64,
}

impl Manner {
    /// A pipeline and a mode, with nothing else on.
    pub fn new(pipeline: SoftPipeline, mode: Mode) -> Self {
        let (feedback, cold_stop) = (Feedback::Mixture, None);
        Self { pipeline, mode, feedback, cold_stop, repetition_penalty: 1.0 }
    }
}

/// How a generation is divided into thoughts and an answer.
#[derive(Debug, Clone)]
pub struct Thinking {
    /// Where the thoughts lie.
    pub span: Span,
    /// Which positions of a thought are soft.
    pub gate: Gate,
    /// How the rest is decoded: what lies outside of thoughts, and where the gate is shut.
    pub answer: Manner,
}

/// Where a row stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Phase {
    /// Whether the next position is a thought.
    pub(crate) thinks: bool,
    /// Whether there was one, and it is over.
    has_thought: bool,
    /// Certain steps in a row.
    certain: usize,
    /// Tokens of a tag that are still to be fed, whatever the model says.
    pub(crate) forced: VecDeque<u32>,
    /// Where the gate of [`Gate::Switch`] stands.
    pub(crate) switching: Switching,
}

/// What a step's choice leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is fed as it was chosen.
    Feed,
    /// The same, and this happened.
    Note(Event),
    /// This token is fed hard in its place.
    Force(u32, Event),
    /// The row ends with it.
    Stop,
}

impl Phase {
    /// Before the first step of a prompt.
    pub(crate) fn begin(thinking: Option<&Thinking>, prompt: &[u32]) -> Self {
        let (thinks, has_thought) = match thinking.map(|thinking| &thinking.span) {
            None | Some(Span::Everywhere) => (true, false),
            Some(Span::First(count)) => (*count > 0, false),
            Some(Span::Tags { open, .. }) if open.is_empty() => (true, false),
            Some(Span::Tags { open, close }) => {
                let last = |tag: &[u32]| prompt.windows(tag.len()).rposition(|ids| ids == tag);
                match (last(open), last(close)) {
                    (None, closed) => (false, closed.is_some()),
                    (Some(_), None) => (true, false),
                    (Some(opened), Some(closed)) => (opened > closed, opened < closed),
                }
            }
        };
        let (forced, switching) = (VecDeque::new(), Switching::default());
        Self { thinks, has_thought, certain: 0, forced, switching }
    }

    /// Takes note of the entropy of step `step` in nats, and of the token it chose: the last of
    /// `row`, which holds the prompt and all that was generated.
    pub(crate) fn after(
        &mut self,
        span: &Span,
        cold_stop: Option<ColdStop>,
        step: usize,
        row: &[u32],
        entropy: Option<f64>,
    ) -> Verdict {
        let is_cold = self.count_certain(cold_stop, entropy);
        if !self.thinks {
            if let Span::Tags { open, .. } = span
                && !open.is_empty()
                && row.ends_with(open)
                && !self.has_thought
            {
                self.thinks = true;
                self.certain = 0;
                return Verdict::Force(open[open.len() - 1], Event::OpenTag);
            }
            return if is_cold { Verdict::Stop } else { Verdict::Feed };
        }
        match span {
            Span::Everywhere if is_cold => Verdict::Stop,
            Span::Everywhere => Verdict::Feed,
            Span::First(count) if is_cold || step + 1 >= *count => {
                self.leave();
                Verdict::Note(if is_cold { Event::ColdStop } else { Event::LastThought })
            }
            Span::First(_) => Verdict::Feed,
            Span::Tags { close, .. } if row.ends_with(close) => {
                self.leave();
                Verdict::Force(close[close.len() - 1], Event::CloseTag)
            }
            Span::Tags { close, .. } if is_cold => self.close(close, Event::ColdStop),
            Span::Tags { .. } => Verdict::Feed,
        }
    }

    /// Ends the thought with the tag, whose further tokens follow whatever the model says.
    pub(crate) fn close(&mut self, tag: &[u32], event: Event) -> Verdict {
        self.leave();
        self.forced.extend(&tag[1..]);
        Verdict::Force(tag[0], event)
    }

    fn leave(&mut self) {
        (self.thinks, self.has_thought, self.certain) = (false, true, 0);
    }

    /// Whether the model has been certain for long enough to stop.
    fn count_certain(&mut self, cold_stop: Option<ColdStop>, entropy: Option<f64>) -> bool {
        let (Some(cold_stop), Some(entropy)) = (cold_stop, entropy) else { return false };
        self.certain = if entropy < cold_stop.entropy { self.certain + 1 } else { 0 };
        self.certain >= cold_stop.length
    }
}

#[cfg(test)]
mod tests;
