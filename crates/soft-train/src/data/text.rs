//! From lines of text to examples: tokens, what of them is scored, which inputs are soft.

use std::cell::Cell;

use soft_model::{ChatTemplate, Message, Tokenizer};

use super::chat::{Chat, Part};
use super::draft::{Draft, Piece};
use super::record::Record;
use crate::config::{Config, Cut, Data, DataFormat};
use crate::error::Error;
use crate::example::Example;

/// Makes examples of text with a tokenizer, and with a chat template where there is one.
///
/// What is scored is what the model is to write: what the assistant says, a completion, or a thought
/// with its closing tag and the answer; each with the token that ends it.
#[derive(Debug)]
pub struct TextEncoder<'a> {
    tokenizer: &'a Tokenizer,
    chat: Option<Chat<'a>>,
    /// Ends a text that no template ends.
    eos: Option<u32>,
    open: Tag,
    close: Tag,
    data: Data,
    notes: Vec<String>,
    saw_tags: Cell<bool>,
    /// What a stage of a curriculum makes of a reasoning.
    cut: Option<Cut>,
    /// Most steps of a reasoning so far.
    longest: Cell<usize>,
}

/// A tag of thoughts: its text and its tokens, which are the same wherever it stands, for it is
/// encoded alone.
#[derive(Debug)]
struct Tag {
    text: String,
    ids: Vec<u32>,
}

impl Tag {
    fn new(text: &str, tokenizer: &Tokenizer) -> Result<Self, Error> {
        let ids = match tokenizer.token_id(text) {
            Some(id) => vec![id],
            None => tokenizer.encode(text, false)?,
        };
        Ok(Self { text: text.to_owned(), ids })
    }
}

impl<'a> TextEncoder<'a> {
    /// An encoder by the keys `data.*`, `think.{open,close}` and `generate.chat` of `config`.
    /// `stop_ids` are the tokens that end a generation of the model.
    ///
    /// # Errors
    /// A chat template that fails on a plain conversation, or no token that could end a text.
    pub fn new(
        config: &Config,
        tokenizer: &'a Tokenizer,
        template: Option<&'a ChatTemplate>,
        stop_ids: &[u32],
    ) -> Result<Self, Error> {
        let template = template.filter(|_| config.generate.chat);
        let chat = template.map(|template| Chat::new(template, tokenizer, stop_ids)).transpose()?;
        let eos = tokenizer.eos_id().or_else(|| stop_ids.first().copied());
        let ends_chat = chat.as_ref().is_some_and(|chat| !chat.stop.is_empty());
        if eos.is_none() && !ends_chat {
            let problem = "neither the tokenizer nor the model names a token that ends a text, so the \
                           model could not learn to stop; set `eos_token` in tokenizer_config.json";
            return Err(Error::Model(soft_model::Error::NoText(problem.into())));
        }
        let mut encoder = Self {
            tokenizer,
            eos,
            open: Tag::new(&config.think.open, tokenizer)?,
            close: Tag::new(&config.think.close, tokenizer)?,
            data: config.data.clone(),
            notes: Vec::new(),
            saw_tags: Cell::new(false),
            cut: None,
            longest: Cell::new(0),
            chat,
        };
        encoder.notes = encoder.chat_notes(stop_ids);
        Ok(encoder)
    }

    /// What is unusual about the chat template.
    fn chat_notes(&self, stop_ids: &[u32]) -> Vec<String> {
        let Some(chat) = &self.chat else { return Vec::new() };
        let name = |&id: &u32| format!("{:?}", self.tokenizer.decode(&[id]));
        let names = |ids: &[u32]| ids.iter().map(name).collect::<Vec<_>>().join(", ");
        let mut notes = Vec::new();
        match (chat.stop.last(), self.eos) {
            (None, eos) => notes.push(format!(
                "the chat template ends an assistant's turn with no special token of the tokenizer: \
                 {} is put after the last turn; is the template of another model family?",
                eos.as_ref().map_or_else(String::new, name)
            )),
            (Some(stop), _) if !stop_ids.is_empty() && !stop_ids.contains(stop) => {
                notes.push(format!(
                    "the chat template ends a turn with {}, generation stops at {}: is the template \
                     of another model family?",
                    name(stop),
                    names(stop_ids)
                ));
            }
            _ => {}
        }
        if !chat.injected.is_empty() {
            notes.push(format!(
                "the chat template puts {:?} before what the assistant says; it is trained, for the \
                 model must write it itself",
                chat.injected
            ));
        }
        notes
    }

    /// From now on reasonings are cut as in a stage of a curriculum, or left whole.
    pub fn set_cut(&mut self, cut: Option<Cut>) {
        self.cut = cut;
    }

    /// Most steps of the reasonings that were encoded so far.
    pub fn longest_reasoning(&self) -> usize {
        self.longest.get()
    }

    /// What a user should know about what was encoded so far, a sentence each.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.notes.clone();
        let split = [("think.open", &self.open), ("think.close", &self.close)]
            .into_iter()
            .filter(|(_, tag)| self.saw_tags.get() && tag.ids.len() > 1);
        for (key, tag) in split {
            notes.push(format!(
                "`{key}` {:?} is {} tokens of this tokenizer: to generate, set \
                 think.split_tags=true; or make it one token with `model.new_tokens`, or name a tag \
                 that is one",
                tag.text,
                tag.ids.len()
            ));
        }
        notes
    }

    /// Checks that a format can be encoded.
    ///
    /// # Errors
    /// Conversations without a chat template, reasoning without a closing tag.
    pub fn check_format(&self, format: DataFormat) -> Result<(), Error> {
        match format {
            DataFormat::Messages if self.chat.is_none() => {
                let problem = "`data.format` \"messages\" needs a chat template, and the model has \
                               none that is used: take a model that was tuned for chat, or put each \
                               example as \"prompt\" and \"completion\"";
                Err(Error::Model(soft_model::Error::NoText(problem.into())))
            }
            DataFormat::Reasoning if self.close.ids.is_empty() => Err(Error::Config {
                report: "`think.close` is empty; expected the tag that ends the reasoning".into(),
            }),
            _ => Ok(()),
        }
    }

    /// The example of a line.
    ///
    /// # Errors
    /// What is wrong, for the line.
    pub(crate) fn encode(&self, record: &Record) -> Result<Example, String> {
        let mut draft = Draft::new(self.tokenizer);
        let built = match record {
            Record::Text(text) => self.plain(&mut draft, "", text),
            Record::Prompt { prompt, completion } => {
                let prompt = format!("{prompt}{}", self.data.suffix);
                match &self.chat {
                    Some(chat) => {
                        let turns =
                            [Message::new("user", prompt), Message::new("assistant", completion)];
                        self.conversation(&mut draft, chat, &turns)
                    }
                    None => self.plain(&mut draft, &prompt, completion),
                }
            }
            Record::Messages(messages) => match &self.chat {
                Some(chat) => self.conversation(&mut draft, chat, messages),
                None => Err("a conversation needs a chat template".into()),
            },
            Record::Reasoning { question, steps, answer } => {
                let question = format!("{question}{}", self.data.suffix);
                self.reasoning(&mut draft, question, steps, answer)
            }
        };
        if self.cut.is_some() && !matches!(record, Record::Reasoning { .. }) {
            return Err("a curriculum needs the reasoning in steps: expected `question`, \
                        `reasoning` and `answer`"
                .into());
        }
        built?;
        let example = draft.finish(&self.data);
        example.check_structure()?;
        Ok(example)
    }

    /// A prompt and how it goes on, without a template.
    fn plain(&self, draft: &mut Draft<'_>, prompt: &str, text: &str) -> Result<(), String> {
        self.begin(draft, if prompt.is_empty() { text } else { prompt })?;
        add(draft, prompt, Piece::Given)?;
        self.written(draft, text, false)?;
        self.end(draft);
        Ok(())
    }

    /// A conversation through the template.
    fn conversation(
        &self,
        draft: &mut Draft<'_>,
        chat: &Chat<'_>,
        messages: &[Message],
    ) -> Result<(), String> {
        let parts = chat.parts(messages)?;
        let last_stop = parts.iter().rposition(|part| *part == Part::Stop);
        let mut opened = false;
        for (i, part) in parts.iter().enumerate() {
            match part {
                Part::Given(text) => {
                    add(draft, text, Piece::Given)?;
                    opened = self.ends_open(text);
                }
                Part::Written(text) => self.written(draft, text, opened)?,
                Part::Stop if !chat.stop.is_empty() => draft.tokens(&chat.stop, Piece::Written),
                Part::Stop if Some(i) == last_stop => {
                    // The template goes on without an end; what it adds is not the model's to write.
                    self.end(draft);
                    break;
                }
                Part::Stop => {}
            }
        }
        Ok(())
    }

    /// Question, opening tag | thought, closing tag, answer, end: what follows the bar is scored.
    ///
    /// In a stage of a curriculum the thought is soft positions of which nothing is known, which are
    /// not scored, and the steps that they do not stand for are written before the answer.
    fn reasoning(
        &self,
        draft: &mut Draft<'_>,
        question: String,
        steps: &[String],
        answer: &str,
    ) -> Result<(), String> {
        self.saw_tags.set(true);
        let prompt = match &self.chat {
            Some(chat) => {
                chat.prompt(&[Message::new("user", question)]).map_err(|error| error.to_string())?
            }
            None => {
                self.begin(draft, &question)?;
                question
            }
        };
        add(draft, &prompt, Piece::Given)?;
        if !self.ends_open(&prompt) {
            draft.tokens(&self.open.ids, Piece::Given);
        }
        let from = draft.len();
        self.longest.set(self.longest.get().max(steps.len()));
        let left = match self.cut {
            None => {
                add(draft, &steps.concat(), Piece::Thought)?;
                String::new()
            }
            Some(cut) => {
                draft.blind_thought(cut.soft, self.close.ids[0]);
                steps[cut.steps.min(steps.len())..].concat()
            }
        };
        draft.tokens(&self.close.ids, Piece::Written);
        if !left.trim().is_empty() {
            add(draft, &format!("\n{}", left.trim_end()), Piece::Written)?;
        }
        draft.answer_here();
        add(draft, "\n", Piece::Written)?;
        add(draft, answer, Piece::Written)?;
        draft.wrote_since(from);
        match &self.chat {
            Some(chat) if !chat.stop.is_empty() => draft.tokens(&chat.stop, Piece::Written),
            _ => self.end(draft),
        }
        Ok(())
    }

    /// What the model is to write; thoughts in it lie between the tags. `opened` says that the text
    /// before ends with the opening tag.
    fn written(&self, draft: &mut Draft<'_>, text: &str, opened: bool) -> Result<(), String> {
        let from = draft.len();
        let mut rest = text;
        let mut thinks = opened;
        while let Some(close) = self.close_of(rest, thinks) {
            self.saw_tags.set(true);
            let (thought, after) = if thinks {
                (&rest[..close], &rest[close + self.close.text.len()..])
            } else {
                let open = rest.find(&self.open.text).unwrap_or(0);
                add(draft, &rest[..open], Piece::Written)?;
                draft.tokens(&self.open.ids, Piece::Written);
                let inside = open + self.open.text.len();
                (&rest[inside..close], &rest[close + self.close.text.len()..])
            };
            // A template's empty thought is nothing to think about.
            let is_blank = thought.trim().is_empty();
            add(draft, thought, if is_blank { Piece::Written } else { Piece::Thought })?;
            draft.tokens(&self.close.ids, Piece::Written);
            draft.answer_here();
            (rest, thinks) = (after, false);
        }
        add(draft, rest, Piece::Written)?;
        draft.wrote_since(from);
        Ok(())
    }

    /// Where the next thought of a text is closed, where there is one.
    fn close_of(&self, text: &str, thinks: bool) -> Option<usize> {
        let (open, close) = (&self.open.text, &self.close.text);
        if close.is_empty() || (open.is_empty() && !thinks) {
            return None;
        }
        let from = if thinks { 0 } else { text.find(open)? + open.len() };
        text[from..].find(close).map(|at| from + at)
    }

    fn ends_open(&self, text: &str) -> bool {
        !self.open.text.is_empty() && text.trim_end().ends_with(&self.open.text)
    }

    /// The tokens that the tokenizer puts before a text: a first token, unless the text has it.
    fn begin(&self, draft: &mut Draft<'_>, text: &str) -> Result<(), String> {
        let encode = |special| self.tokenizer.encode(text, special).map_err(|e| e.to_string());
        let (with, plain) = (encode(true)?, encode(false)?);
        let at = with.windows(plain.len().max(1)).position(|ids| ids == plain).unwrap_or(0);
        if at > 0 {
            draft.tokens(&with[..at], Piece::Given);
        }
        Ok(())
    }

    fn end(&self, draft: &mut Draft<'_>) {
        if let Some(eos) = self.eos {
            draft.tokens(&[eos], Piece::Written);
        }
    }
}

fn add(draft: &mut Draft<'_>, text: &str, piece: Piece) -> Result<(), String> {
    draft.text(text, piece).map_err(|error| error.to_string())
}
