//! Examples of text: their prompts, and the answers that they end with.

use soft_core::SoftPipeline;
use soft_model::{GenerateOptions, Generation, Span, Tokenizer, Transformer, generate};

use super::{Completion, Lot, Source, Texts, after_close, has_thoughts};
use crate::comparison::Extractor;
use crate::config::Config;
use crate::decoding::Decoding;
use crate::error::Error;
use crate::example::Example;

/// Held-out prompts that are answered at once.
const ASKED: usize = 16;

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
    /// Settings of generation that contradict one another.
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
        let close = match decoding.options.thinking.as_ref().map(|thinking| &thinking.span) {
            Some(Span::Tags { close, .. }) => close.clone(),
            // Of a model of tokens nothing but the text tells a thought from an answer.
            None if prompts.iter().any(|prompt| prompt.expected.is_some()) => {
                tokenizer.encode(&config.think.close, false)?
            }
            _ => Vec::new(),
        };
        Ok(Self { prompts, options: decoding.options, close, tokenizer, extractor })
    }

    /// The share of the prompts with an answer that a model answers right, all of them as they are
    /// decoded, without draws of a policy. `pipeline` stands in the place of that of the thoughts.
    ///
    /// # Errors
    /// A prompt that the model cannot run.
    pub fn accuracy(
        &self,
        model: &Transformer,
        pipeline: &dyn Fn(&SoftPipeline) -> SoftPipeline,
    ) -> Result<f64, Error> {
        let asked: Vec<usize> = (0..self.prompts.len())
            .filter(|&place| self.prompts[place].expected.is_some())
            .collect();
        let mut options = self.options.clone();
        options.thoughts.pipeline = pipeline(&options.thoughts.pipeline);
        let mut right = 0;
        for (batch, problems) in asked.chunks(ASKED).enumerate() {
            options.first_row = (batch * ASKED) as u32;
            let prompts: Vec<Vec<u32>> =
                problems.iter().map(|&place| self.prompts[place].ids.clone()).collect();
            let mode = |_, _| options.thoughts.mode;
            let made = generate(model, &prompts, &mode, &options, &mut |_, _, _| {})?;
            for (&problem, row) in problems.iter().zip(&made) {
                let thought = match has_thoughts(&options) {
                    true => row.tally.first_thought + row.tally.thoughts,
                    false => after_close(&row.token_ids, &self.close).unwrap_or(0),
                };
                let answer = &row.token_ids[thought.min(row.token_ids.len())..];
                right += usize::from(self.is_right(problem, row, answer));
            }
        }
        Ok(right as f64 / asked.len().max(1) as f64)
    }
}

impl Source for TextSource {
    fn lots(&self, problems: &[usize]) -> Result<Vec<Lot>, Error> {
        Ok(vec![Lot {
            problems: problems.to_vec(),
            places: (0..problems.len()).collect(),
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
            prompt_ids: prompt.ids.clone(),
            expected: prompt.expected.clone(),
            thoughts: completion.thoughts.iter().map(|ids| text(ids)).collect(),
            answer: text(&completion.answer),
        }
    }
}
