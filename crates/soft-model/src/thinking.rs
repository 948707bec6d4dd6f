//! When a row thinks, and what ends its thinking.

use soft_core::SoftPipeline;

use crate::record::Mode;

/// Where thoughts lie in what is generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Span {
    /// Every position is a thought.
    #[default]
    Everywhere,
    /// The first positions, so many of them.
    First(usize),
    /// What lies between two tags, which are fed hard themselves.
    Tags {
        /// Begins a thought. Where there is none, or the prompt has one that is still open, a row
        /// begins with a thought.
        open: Option<u32>,
        /// Ends it.
        close: u32,
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

/// How a generation is divided into thoughts and an answer.
#[derive(Debug, Clone)]
pub struct Thinking {
    /// Where the thoughts lie.
    pub span: Span,
    /// Ends them early.
    pub cold_stop: Option<ColdStop>,
    /// Ends a row that goes in circles outside of thoughts.
    pub answer_cold_stop: Option<ColdStop>,
    /// From logits to what is fed outside of thoughts.
    pub answer: SoftPipeline,
    /// How that is fed.
    pub answer_mode: Mode,
}

impl Thinking {
    /// The cold stop of thoughts, or that of the answer.
    pub(crate) fn cold_stop_of(&self, thoughts: bool) -> Option<ColdStop> {
        if thoughts { self.cold_stop } else { self.answer_cold_stop }
    }
}

/// Where a row stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Phase {
    /// Whether the next position is a thought.
    pub(crate) thinks: bool,
    /// Whether there was one, and it is over.
    has_thought: bool,
    /// Certain steps in a row.
    certain: usize,
}

/// What a step's choice leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is fed as it was chosen.
    Feed,
    /// This token is fed hard in its place.
    FeedTag(u32),
    /// The row ends with it.
    Stop,
}

impl Phase {
    /// Before the first step of a prompt.
    pub(crate) fn begin(thinking: Option<&Thinking>, prompt: &[u32]) -> Self {
        let (thinks, has_thought) = match thinking.map(|thinking| thinking.span) {
            None | Some(Span::Everywhere) => (true, false),
            Some(Span::First(count)) => (count > 0, false),
            Some(Span::Tags { open: None, .. }) => (true, false),
            Some(Span::Tags { open: Some(open), close }) => {
                let last = prompt.iter().rev().find(|&&id| id == open || id == close);
                (last == Some(&open), last == Some(&close))
            }
        };
        Self { thinks, has_thought, certain: 0 }
    }

    /// Takes note of the token that step `step` chose and of its entropy in nats.
    pub(crate) fn after(
        &mut self,
        thinking: &Thinking,
        step: usize,
        token: u32,
        entropy: Option<f64>,
    ) -> Verdict {
        let is_cold = self.count_certain(thinking.cold_stop_of(self.thinks), entropy);
        if !self.thinks {
            if let Span::Tags { open: Some(open), .. } = thinking.span
                && token == open
                && !self.has_thought
            {
                self.thinks = true;
                self.certain = 0;
                return Verdict::FeedTag(open);
            }
            return if is_cold { Verdict::Stop } else { Verdict::Feed };
        }
        match thinking.span {
            Span::Everywhere if is_cold => Verdict::Stop,
            Span::Everywhere => Verdict::Feed,
            Span::First(count) => {
                if is_cold || step + 1 >= count {
                    self.leave();
                }
                Verdict::Feed
            }
            Span::Tags { close, .. } if is_cold || token == close => {
                self.leave();
                Verdict::FeedTag(close)
            }
            Span::Tags { .. } => Verdict::Feed,
        }
    }

    fn leave(&mut self) {
        *self = Self { thinks: false, has_thought: true, certain: 0 };
    }

    /// Whether the model has been certain for long enough to stop.
    fn count_certain(&mut self, cold_stop: Option<ColdStop>, entropy: Option<f64>) -> bool {
        let (Some(cold_stop), Some(entropy)) = (cold_stop, entropy) else { return false };
        self.certain = if entropy < cold_stop.entropy { self.certain + 1 } else { 0 };
        self.certain >= cold_stop.length
    }
}

#[cfg(test)]
mod tests {
    use soft_core::PipelineConfig;

    use super::*;

    const OPEN: u32 = 8;
    const CLOSE: u32 = 9;
    const TAGS: Span = Span::Tags { open: Some(OPEN), close: CLOSE };

    fn thinking(span: Span, cold_stop: Option<ColdStop>) -> Thinking {
        let answer = SoftPipeline::new(PipelineConfig::default()).expect("the defaults");
        let answer_cold_stop = cold_stop;
        Thinking { span, cold_stop, answer_cold_stop, answer, answer_mode: Mode::Hard }
    }

    /// Phase and verdict after each (token, entropy).
    fn walk(thinking: &Thinking, prompt: &[u32], steps: &[(u32, f64)]) -> Vec<(bool, Verdict)> {
        let mut phase = Phase::begin(Some(thinking), prompt);
        let walk = steps.iter().enumerate().map(|(step, &(token, entropy))| {
            let thought = phase.thinks;
            (thought, phase.after(thinking, step, token, Some(entropy)))
        });
        walk.collect()
    }

    #[test]
    fn the_prompt_decides_whether_a_row_begins_with_a_thought() {
        let thinks =
            |span, prompt: &[u32]| Phase::begin(Some(&thinking(span, None)), prompt).thinks;
        assert!(thinks(TAGS, &[1, OPEN]) && thinks(TAGS, &[OPEN, CLOSE, OPEN, 3]));
        assert!(!thinks(TAGS, &[1]) && !thinks(TAGS, &[OPEN, 1, CLOSE, 2]));
        assert!(thinks(Span::Tags { open: None, close: CLOSE }, &[1]));
        assert!(thinks(Span::First(1), &[1]) && !thinks(Span::First(0), &[1]));
        assert!(thinks(Span::Everywhere, &[1]) && Phase::begin(None, &[1]).thinks);
    }

    #[test]
    fn what_lies_between_the_tags_is_a_thought_and_the_tags_are_not() {
        let steps = [1, OPEN, 2, 3, CLOSE, 4, OPEN, 5].map(|token| (token, 1.0));
        let found = walk(&thinking(TAGS, None), &[1], &steps);
        let thoughts: Vec<bool> = found.iter().map(|step| step.0).collect();
        // The closing tag is what a thought led to; it is fed hard. There is one thought a row.
        assert_eq!(thoughts, [false, false, true, true, true, false, false, false]);
        assert_eq!((found[1].1, found[4].1), (Verdict::FeedTag(OPEN), Verdict::FeedTag(CLOSE)));
        let others = found.iter().enumerate().filter(|(i, _)| *i != 1 && *i != 4);
        assert!(others.into_iter().all(|(_, step)| step.1 == Verdict::Feed));
        let closed = walk(&thinking(TAGS, None), &[OPEN, CLOSE], &[(OPEN, 1.0), (2, 1.0)]);
        assert_eq!(closed, [(false, Verdict::Feed); 2], "the prompt had the one thought");
    }

    #[test]
    fn an_answer_without_a_thought_has_its_cold_stop_too() {
        let cold = Some(ColdStop { entropy: 0.5, length: 2 });
        for span in [Span::First(0), TAGS] {
            let verdicts = walk(&thinking(span, cold), &[1], &[(2, 0.1), (2, 0.1)]);
            assert_eq!(verdicts, [(false, Verdict::Feed), (false, Verdict::Stop)]);
        }
    }

    #[test]
    fn a_cold_stop_counts_certain_steps_in_a_row() {
        let cold = Some(ColdStop { entropy: 0.5, length: 2 });
        let open = thinking(Span::Tags { open: None, close: CLOSE }, cold);
        let steps = [(1, 0.1), (1, 0.9), (1, 0.1), (1, 0.1), (2, 0.1), (2, 0.1), (2, 0.1)];
        let verdicts: Vec<Verdict> = walk(&open, &[1], &steps).iter().map(|s| s.1).collect();
        use Verdict::{Feed, FeedTag, Stop};
        assert_eq!(verdicts[..4], [Feed, Feed, Feed, FeedTag(CLOSE)]);
        assert_eq!(verdicts[4..6], [Feed, Stop], "the counter begins anew in the answer");
        let everywhere = walk(&thinking(Span::Everywhere, cold), &[1], &steps);
        assert_eq!(everywhere[3], (true, Stop));
        let first = walk(&thinking(Span::First(3), cold), &[1], &[(1, 0.1), (1, 0.1), (1, 0.9)]);
        assert_eq!(first.iter().map(|s| s.0).collect::<Vec<_>>(), [true, true, false]);
        let never = Some(ColdStop { entropy: 0.0, length: 1 });
        let never = walk(&thinking(Span::Everywhere, never), &[1], &steps);
        assert!(never.iter().all(|step| step.1 == Feed));
    }
}
