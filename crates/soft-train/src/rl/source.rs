//! Where prompts come from, and what is made of what a model writes after them.

mod task;
mod text;

use soft_model::{Drawn, GenerateOptions, Generation, Mode, Span, Stop, Use};

use crate::error::Error;

pub use task::TaskSource;
pub use text::TextSource;

/// Prompts, and how they are answered.
pub trait Source: std::fmt::Debug + Send + Sync {
    /// Problems in lots that generate alike.
    ///
    /// # Errors
    /// Settings that cannot be.
    fn lots(&self, problems: &[usize]) -> Result<Vec<Lot>, Error>;

    /// Whether the answer of a problem is right.
    fn is_right(&self, problem: usize, made: &Generation, answer: &[u32]) -> bool;

    /// Prompt, right answer and what was written, for people and for rewards that read.
    fn texts(&self, completion: &Completion) -> Texts;
}

/// Problems that generate alike.
#[derive(Debug, Clone)]
pub struct Lot {
    /// Their places in the data.
    pub problems: Vec<usize>,
    /// Their places among the problems that were asked for.
    pub places: Vec<usize>,
    /// Their prompts.
    pub prompts: Vec<Vec<u32>>,
    /// How thoughts are fed.
    pub mode: Mode,
    /// How they are continued; seed and rows are set by who draws.
    pub options: GenerateOptions,
    /// What ends a thought in tokens, where the model writes it itself.
    pub close: Vec<u32>,
}

/// What a row wrote.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// Place of its problem in the data.
    pub problem: usize,
    /// What stands in the place of the thought where it is read: one list of tokens, or one for each
    /// token that a thought is a mean of.
    pub thoughts: Vec<Vec<u32>>,
    /// Tokens that are no thought.
    pub answer: Vec<u32>,
    /// Whether the answer is right.
    pub right: bool,
    /// Whether its thought was closed.
    pub closed: bool,
    /// Whether it came to its end before it was cut off.
    pub ended: bool,
    /// Tokens.
    pub tokens: usize,
    /// Most tokens it could have.
    pub max_tokens: usize,
}

/// A completion in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Texts {
    /// What was asked.
    pub prompt: String,
    /// The same in the ids of the model.
    pub prompt_ids: Vec<u32>,
    /// The right answer, where it is known.
    pub expected: Option<String>,
    /// The thought; several where it is read more than once, and none where it is not read.
    pub thoughts: Vec<String>,
    /// What was written after it.
    pub answer: String,
}

impl Completion {
    /// What a row of a lot wrote. `sampled` reads a thought once for each token that was drawn.
    pub(super) fn new(
        source: &dyn Source,
        lot: &Lot,
        problem: usize,
        (made, drawn, row): (&Generation, &Drawn, usize),
        sampled: bool,
    ) -> Self {
        let uses: Vec<Use> = drawn.steps.iter().map(|step| step.uses[row]).collect();
        let of = |wanted: fn(&Use) -> bool| -> Vec<u32> {
            let own = made.token_ids.iter().zip(&uses).filter(|(_, used)| wanted(used));
            own.map(|(&id, _)| id).collect()
        };
        let answer = of(|used| matches!(used, Use::Token | Use::Tag { thought: false, .. }));
        let thoughts = match sampled {
            true => each_sample(drawn, row),
            false => vec![of(|used| *used == Use::Thought)],
        };
        // Where nothing sets thoughts apart from an answer, what closes them does, or all of it is one.
        let (answer, thoughts, is_marked) = match has_thoughts(&lot.options) {
            true => {
                let is_marked = after_close(&answer, &lot.close).is_some();
                (answer, thoughts, is_marked)
            }
            false => {
                let end = after_close(&made.token_ids, &lot.close);
                let (thought, answer) = made.token_ids.split_at(end.unwrap_or(0));
                (answer.to_vec(), vec![thought.to_vec()], end.is_some())
            }
        };
        let tagged = uses.iter().any(|used| matches!(used, Use::Tag { thought: true, .. }));
        let fixed = lot.options.eos_ids.is_empty();
        Self {
            problem,
            right: source.is_right(problem, made, &answer),
            closed: tagged || is_marked || lot.close.is_empty(),
            ended: fixed || matches!(made.stop, Stop::Eos | Stop::ColdStop),
            tokens: made.token_ids.len(),
            max_tokens: lot.options.max_new,
            thoughts,
            answer,
        }
    }
}

/// Where what follows the last of the tokens that close a thought begins, where there are some.
fn after_close(ids: &[u32], close: &[u32]) -> Option<usize> {
    let last = ids.windows(close.len().max(1)).rposition(|own| own == close);
    last.map(|at| at + close.len())
}

/// Whether a row has thoughts apart from an answer.
fn has_thoughts(options: &GenerateOptions) -> bool {
    options.thinking.as_ref().is_some_and(|thinking| thinking.span != Span::Everywhere)
}

/// The tokens that the thoughts of a row are means of: list k has the k-th of every thought.
fn each_sample(drawn: &Drawn, row: usize) -> Vec<Vec<u32>> {
    let mut lists: Vec<Vec<u32>> = Vec::new();
    for step in drawn.steps.iter().filter(|step| step.uses[row] == Use::Thought) {
        let Some(draw) = &step.draws[0] else { continue };
        for (k, id) in draw.drawn_tokens(row).into_iter().enumerate() {
            if lists.len() <= k {
                lists.push(Vec::new());
            }
            lists[k].push(id);
        }
    }
    if lists.is_empty() { vec![Vec::new()] } else { lists }
}
