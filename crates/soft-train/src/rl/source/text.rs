//! Examples of text: their prompts, and the answers that they end with.

use soft_model::{GenerateOptions, Generation, Span, Tokenizer};

use super::{Completion, Lot, Source, Texts};
use crate::comparison::Extractor;
use crate::config::Config;
use crate::decoding::Decoding;
use crate::error::Error;
use crate::example::Example;

/// The prompts of training examples of text; a right answer is one that `eval.extract` finds and that
/// is the example's own.
#[derive(Debug, Clone)]
pub struct TextSource {
    prompts: Vec<Prompt>,
    options: GenerateOptions,
    close: Vec<u32>,
    tokenizer: Tokenizer,
    extractor: Extractor,
}

#[derive(Debug, Clone)]
struct Prompt {
    ids: Vec<u32>,
    /// As the extractor gives it; none where no thought comes before an answer.
    expected: Option<String>,
}

impl TextSource {
    /// The prompts of examples, continued as `decoded` says: the settings of a checkpoint of this
    /// training.
    ///
    /// # Errors
    /// Settings of generation that contradict one another, or no example with an answer.
    pub fn new(
        config: &Config,
        decoded: &Config,
        examples: &[Example],
        tokenizer: Tokenizer,
        eos_ids: &[u32],
    ) -> Result<Self, Error> {
        let extractor = Extractor::new(&config.eval)?;
        let decoding = Decoding::with_tokens(decoded, Some(&tokenizer), eos_ids)?;
        let prompt = |example: &Example| {
            let begins = example.first_written();
            let answer = example.answer_from.map(|from| &example.input_ids[from..]);
            Prompt {
                ids: example.input_ids[..begins].to_vec(),
                expected: answer.map(|ids| extractor.expected(&tokenizer.decode_visible(ids))),
            }
        };
        let prompts: Vec<Prompt> = examples.iter().map(prompt).collect();
        if prompts.iter().all(|prompt| prompt.expected.is_none()) {
            let report = "no training example has an answer after a thought, and rewards compare \
                          answers; expected data.format=\"reasoning\", or thoughts between tags";
            return Err(Error::Data { report: report.into() });
        }
        let close = match decoding.options.thinking.as_ref().map(|thinking| &thinking.span) {
            Some(Span::Tags { close, .. }) => close.clone(),
            _ => Vec::new(),
        };
        Ok(Self { prompts, options: decoding.options, close, tokenizer, extractor })
    }
}

impl Source for TextSource {
    fn lots(&self, problems: &[usize]) -> Result<Vec<Lot>, Error> {
        Ok(vec![Lot {
            problems: problems.to_vec(),
            prompts: problems.iter().map(|&place| self.prompts[place].ids.clone()).collect(),
            mode: self.options.thoughts.mode,
            options: self.options.clone(),
            close: self.close.clone(),
        }])
    }

    fn is_right(&self, problem: usize, _: &Generation, answer: &[u32]) -> bool {
        let Some(expected) = &self.prompts[problem].expected else { return false };
        let found = self.extractor.extract(&self.tokenizer.decode_visible(answer));
        found.is_some_and(|found| self.extractor.same(&found, expected))
    }

    fn texts(&self, completion: &Completion) -> Texts {
        let prompt = &self.prompts[completion.problem];
        let text = |ids: &[u32]| self.tokenizer.decode_visible(ids);
        Texts {
            prompt: text(&prompt.ids),
            expected: prompt.expected.clone(),
            thoughts: completion.thoughts.iter().map(|ids| text(ids)).collect(),
            answer: text(&completion.answer),
        }
    }
}
