//! One continued prompt, as the dashboard shows it.

use soft_model::{Mode, StepRecord, Tokenizer};

use crate::trace::Row;

/// Tokens of a belief that are shown at most.
const TOP: usize = 12;

/// What a model wrote after a step, and what it believed meanwhile.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample {
    /// Steps done.
    pub(crate) step: usize,
    /// Its number among those of the step, from 1.
    pub(crate) number: usize,
    pub(crate) prompt: String,
    /// What the example goes on with.
    pub(crate) expected: Option<String>,
    /// Whether the answer is the one expected, where the example has one.
    pub(crate) correct: Option<bool>,
    /// The continuation, in runs of one mode.
    pub(crate) pieces: Vec<Piece>,
    /// What was believed at each generated position.
    pub(crate) beliefs: Vec<Belief>,
}

/// Text that was fed in one mode.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) text: String,
    pub(crate) soft: bool,
}

/// A generated position.
#[derive(Debug, Clone, Default)]
pub(crate) struct Belief {
    pub(crate) soft: bool,
    /// Whether it belongs to a thought.
    pub(crate) thinks: bool,
    pub(crate) entropy_nats: f64,
    /// Tokens and weights after filters, heaviest first.
    pub(crate) top: Vec<(String, f64)>,
}

impl Sample {
    /// The sample of a generated row.
    pub(crate) fn new(step: usize, number: usize, row: &Row<'_>) -> Self {
        let steps = &row.generation.steps;
        let prompt = row.prompt.map_or_else(|| ids_in_words(row.prompt_ids), str::to_owned);
        let beliefs = steps.iter().map(|step| belief(step, row.tokenizer)).collect();
        let pieces = pieces(steps, row.tokenizer);
        Self { step, number, prompt, pieces, beliefs, ..Self::default() }
    }

    /// The positions that the page about soft thoughts is about: soft ones and those of thoughts.
    pub(crate) fn thoughts(&self) -> impl Iterator<Item = &Belief> {
        self.beliefs.iter().filter(|belief| belief.soft || belief.thinks)
    }

    /// Share of the soft positions whose heaviest token weighs more than 0.99.
    pub(crate) fn hard_share(&self) -> Option<f64> {
        let soft = self.beliefs.iter().filter(|belief| belief.soft);
        let heaviest: Vec<f64> =
            soft.map(|belief| belief.top.first().map_or(0.0, |top| top.1)).collect();
        let hard = heaviest.iter().filter(|&&weight| weight > 0.99).count();
        (!heaviest.is_empty()).then(|| hard as f64 / heaviest.len() as f64)
    }
}

fn belief(step: &StepRecord, tokenizer: Option<&Tokenizer>) -> Belief {
    let entries = step.top.iter().take(TOP);
    let top = entries.map(|&(id, weight)| (token_in_words(id, tokenizer), weight)).collect();
    let soft = step.mode == Mode::Soft;
    Belief { soft, thinks: step.thinks, entropy_nats: step.entropy_nats, top }
}

fn token_in_words(id: u32, tokenizer: Option<&Tokenizer>) -> String {
    let text = tokenizer.and_then(|tokenizer| tokenizer.decode_token(id));
    text.unwrap_or_else(|| format!("#{id}"))
}

fn ids_in_words(ids: &[u32]) -> String {
    ids.iter().map(|id| format!("#{id}")).collect::<Vec<_>>().join(" ")
}

/// Runs of one mode; spaces between tokens are those of the text as a whole.
fn pieces(steps: &[StepRecord], tokenizer: Option<&Tokenizer>) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let (mut ids, mut written) = (Vec::new(), String::new());
    for run in steps.chunk_by(|a, b| a.mode == b.mode) {
        let before = ids.len();
        ids.extend(run.iter().map(|step| step.token_id));
        let text = match tokenizer {
            Some(tokenizer) => {
                let whole = tokenizer.decode_visible(&ids);
                let added = whole.strip_prefix(&written).map(str::to_owned);
                written = whole;
                added.unwrap_or_else(|| tokenizer.decode_visible(&ids[before..]))
            }
            None => format!("{} ", ids_in_words(&ids[before..])),
        };
        pieces.push(Piece { text, soft: run[0].mode == Mode::Soft });
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hard_share_counts_soft_positions_alone() {
        let belief = |soft, weight| Belief {
            soft,
            thinks: true,
            entropy_nats: 0.1,
            top: vec![("a".to_owned(), weight)],
        };
        let sample = |beliefs| Sample { beliefs, ..Sample::default() };
        let mixed = sample(vec![belief(true, 0.995), belief(true, 0.99), belief(false, 1.0)]);
        assert_eq!(mixed.hard_share(), Some(0.5));
        assert_eq!(mixed.thoughts().count(), 3);
        assert_eq!(sample(vec![belief(false, 1.0)]).hard_share(), None);
    }
}
