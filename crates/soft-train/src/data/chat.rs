//! What a chat template adds around an assistant's turn.

use soft_model::{ChatTemplate, Message, Tokenizer};

use crate::error::Error;

/// A word that no template holds.
const PROBE: &str = "Xyzzy";

/// A chat template, and how it closes an assistant's turn.
#[derive(Debug)]
pub(super) struct Chat<'a> {
    template: &'a ChatTemplate,
    /// All that follows what the assistant says.
    closing: String,
    /// Its tokens up to that which ends the turn; none where none does.
    pub(super) stop: Vec<u32>,
    /// The text of `stop`.
    stop_text: String,
    /// What the template puts before what the assistant says, although the opening of the turn,
    /// with which generation begins, does not have it.
    pub(super) injected: String,
}

/// A part of a rendered conversation.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All up to where the assistant begins to write.
    Given(String),
    /// What it writes, without the token that ends it.
    Written(String),
    /// The token that ends it.
    Stop,
}

impl<'a> Chat<'a> {
    /// Renders a conversation to see how an assistant's turn is closed.
    ///
    /// # Errors
    /// A template that fails, or leaves the assistant's words out.
    pub(super) fn new(
        template: &'a ChatTemplate,
        tokenizer: &Tokenizer,
        stop_ids: &[u32],
    ) -> Result<Self, Error> {
        let talk = [Message::new("user", "Question?"), Message::new("assistant", PROBE)];
        let prompt = template.render(&talk[..1], true)?;
        let whole = template.render(&talk, false)?;
        let Some(at) = whole.rfind(PROBE) else {
            let problem = "it leaves out what the assistant says, so nothing could be learned";
            return Err(soft_model::Error::ChatTemplate(problem.into()).into());
        };
        let closing = whole[at + PROBE.len()..].to_owned();
        let injected = whole[..at].strip_prefix(&prompt).unwrap_or_default().to_owned();
        let mut stop = tokenizer.encode(&closing, false)?;
        let special = tokenizer.special_ids();
        let ends = stop.iter().position(|id| stop_ids.contains(id) || special.contains(id));
        stop.truncate(ends.map_or(0, |at| at + 1));
        let stop_text = tokenizer.decode(&stop);
        if !closing.starts_with(&stop_text) {
            // A tokenizer that does not give its text back: what it closes with is one piece.
            stop.clear();
        }
        let stop_text = if stop.is_empty() { String::new() } else { stop_text };
        Ok(Self { template, closing, stop, stop_text, injected })
    }

    /// The text that generation begins with.
    pub(super) fn prompt(&self, messages: &[Message]) -> Result<String, Error> {
        Ok(self.template.render(messages, true)?)
    }

    /// A conversation in parts, in order.
    ///
    /// Each turn of the assistant is found by rendering the conversation up to where it begins and
    /// up to where it ends: each of these texts must begin the next, or what is trained would not be
    /// what is generated.
    ///
    /// # Errors
    /// What is wrong, for the line.
    pub(super) fn parts(&self, messages: &[Message]) -> Result<Vec<Part>, String> {
        let render = |count: usize, begin: bool| {
            self.template.render(&messages[..count], begin).map_err(|error| error.to_string())
        };
        let whole = render(messages.len(), false)?;
        let mut parts = Vec::new();
        let mut at = 0;
        for (i, message) in messages.iter().enumerate() {
            if message.role != "assistant" {
                continue;
            }
            let begun = render(i, true)?;
            let ended = render(i + 1, false)?;
            check_prefix(i, &begun, &ended)?;
            check_prefix(i, &ended, &whole)?;
            let body = ended[begun.len()..].strip_suffix(&self.closing);
            let (Some(body), true) = (body, begun.len() >= at) else {
                return Err(format!(
                    "the chat template closes messages[{i}] otherwise than with {:?}",
                    self.closing
                ));
            };
            parts.push(Part::Given(begun[at..].to_owned()));
            parts.push(Part::Written(body.to_owned()));
            parts.push(Part::Stop);
            at = begun.len() + body.len() + self.stop_text.len();
        }
        parts.push(Part::Given(whole[at..].to_owned()));
        Ok(parts)
    }
}

fn check_prefix(i: usize, before: &str, after: &str) -> Result<(), String> {
    if after.starts_with(before) {
        return Ok(());
    }
    let differs = before.char_indices().zip(after.chars()).find(|((_, a), b)| a != b);
    let at = differs.map_or(before.len().min(after.len()), |((at, _), _)| at);
    let shown = |text: &str| text[at..].chars().take(40).collect::<String>();
    Err(format!(
        "the chat template changes what comes before as messages[{i}] goes on: {:?} becomes {:?}, so \
         what is trained would not be what is generated; train on single turns, or on the format \
         \"reasoning\", which the template does not see the thoughts of",
        shown(before),
        shown(after)
    ))
}
