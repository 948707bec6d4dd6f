//! Lines of text: which of the formats they have, and what they say.

use serde_json::Value;
use soft_model::Message;

use super::object::{LineProblem, Object, kind};
use crate::config::DataFormat;

/// Roles of a message.
const ROLES: [&str; 4] = ["system", "user", "assistant", "tool"];

/// One line of text data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    /// A text as it is.
    Text(String),
    /// What is given, and how it goes on.
    Prompt { prompt: String, completion: String },
    /// A conversation.
    Messages(Vec<Message>),
    /// A question, the thought about it in steps, which are its text one after another, and the
    /// answer.
    Reasoning { question: String, steps: Vec<String>, answer: String },
}

/// The keys that a format needs.
pub(crate) fn keys_of(format: DataFormat) -> &'static [&'static str] {
    match format {
        DataFormat::Auto => &[],
        DataFormat::Ids => &["ids"],
        DataFormat::Text => &["text"],
        DataFormat::Prompt => &["prompt", "completion"],
        DataFormat::Messages => &["messages"],
        DataFormat::Reasoning => &["question", "reasoning", "answer"],
    }
}

/// The formats in the order in which their first key is looked for.
const FORMATS: [DataFormat; 5] = [
    DataFormat::Ids,
    DataFormat::Messages,
    DataFormat::Reasoning,
    DataFormat::Prompt,
    DataFormat::Text,
];

/// The format that has the most of its keys among `has`, where there is one with any.
pub(crate) fn format_of(has: impl Fn(&str) -> bool) -> Option<DataFormat> {
    let whole = |format: &&DataFormat| keys_of(**format).iter().all(|key| has(key));
    let begun = |format: &&DataFormat| has(keys_of(**format)[0]);
    FORMATS.iter().find(whole).or_else(|| FORMATS.iter().find(begun)).copied()
}

/// What the formats of text look like, for messages.
pub(crate) fn expected_keys() -> String {
    let keys = |format: &DataFormat| {
        let keys: Vec<String> = keys_of(*format).iter().map(|key| format!("`{key}`")).collect();
        format!("{} ({format})", keys.join(" + "))
    };
    FORMATS.iter().map(keys).collect::<Vec<_>>().join(", ")
}

impl Record {
    /// Reads a line of `format`, one of text. Keys that the format does not have are passed over.
    pub(super) fn from_object(
        object: &Object<'_>,
        format: DataFormat,
    ) -> Result<Self, LineProblem> {
        check_keys(object, format)?;
        let text = |key: &str| text(object, key);
        let record = match format {
            DataFormat::Prompt => {
                Self::Prompt { prompt: text("prompt")?, completion: text("completion")? }
            }
            DataFormat::Messages => Self::Messages(messages(object)?),
            DataFormat::Reasoning => Self::Reasoning {
                question: text("question")?,
                steps: steps(object)?,
                answer: text("answer")?,
            },
            DataFormat::Text | DataFormat::Auto | DataFormat::Ids => Self::Text(text("text")?),
        };
        record.check().map_err(|(key, problem)| object.at(key, problem))?;
        Ok(record)
    }

    /// What must not be empty; a prompt may be, and a thought.
    pub(crate) fn check(&self) -> Result<(), (&'static str, String)> {
        let texts: &[(&'static str, &String)] = match self {
            Self::Text(text) => &[("text", text)],
            Self::Prompt { completion, .. } => &[("completion", completion)],
            Self::Messages(messages) => return check_messages(messages),
            Self::Reasoning { question, answer, .. } => {
                &[("question", question), ("answer", answer)]
            }
        };
        match texts.iter().find(|(_, text)| text.trim().is_empty()) {
            Some((key, _)) => Err((key, format!("`{key}` is empty, expected some text"))),
            None => Ok(()),
        }
    }
}

fn check_keys(object: &Object<'_>, format: DataFormat) -> Result<(), LineProblem> {
    let missing = keys_of(format).iter().find(|key| !object.has(key));
    let Some(key) = missing else { return Ok(()) };
    Err(LineProblem::at_start(format!(
        "the key `{key}` is missing, expected {} in the format \"{format}\"; found {}",
        keys_of(format).iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", "),
        object.found()
    )))
}

fn text(object: &Object<'_>, key: &str) -> Result<String, LineProblem> {
    match object.get(key) {
        Some(Value::String(text)) => Ok(text.clone()),
        other => {
            let found = other.map_or("missing", kind);
            Err(object.at(key, format!("`{key}` is {found}, expected text")))
        }
    }
}

/// The steps of a reasoning: the lines of a text, each with the line end after it and blank lines
/// with the step before them, or the entries of a list, which become such lines.
fn steps(object: &Object<'_>) -> Result<Vec<String>, LineProblem> {
    let Some(Value::Array(entries)) = object.get("reasoning") else {
        return match object.get("reasoning") {
            Some(Value::String(text)) => Ok(lines(text)),
            other => {
                let found = other.map_or("missing", kind);
                let problem = format!("`reasoning` is {found}, expected text, or a list of texts");
                Err(object.at("reasoning", problem))
            }
        };
    };
    let mut steps = Vec::with_capacity(entries.len());
    for (i, entry) in entries.iter().enumerate() {
        let Value::String(step) = entry else {
            let problem = format!("reasoning[{i}] is {}, expected text", kind(entry));
            return Err(object.at("reasoning", problem));
        };
        let last = i + 1 == entries.len();
        steps.push(if last { step.clone() } else { format!("{step}\n") });
    }
    Ok(steps)
}

fn lines(text: &str) -> Vec<String> {
    let mut steps: Vec<String> = Vec::new();
    for line in text.split_inclusive('\n') {
        match steps.last_mut() {
            Some(before) if line.trim().is_empty() || before.trim().is_empty() => {
                before.push_str(line);
            }
            _ => steps.push(line.to_owned()),
        }
    }
    steps
}

fn messages(object: &Object<'_>) -> Result<Vec<Message>, LineProblem> {
    let value = object.get("messages").unwrap_or(&Value::Null);
    let Value::Array(turns) = value else {
        let problem = format!("`messages` is {}, expected a list", kind(value));
        return Err(object.at("messages", problem));
    };
    let read = |(i, turn): (usize, &Value)| {
        let part = |name: &str| match &turn[name] {
            Value::String(text) => Ok(text.clone()),
            other => {
                let found = if turn.get(name).is_none() { "missing" } else { kind(other) };
                let problem = format!("messages[{i}].{name} is {found}, expected text");
                Err(object.at("messages", problem))
            }
        };
        Ok(Message { role: part("role")?, content: part("content")? })
    };
    turns.iter().enumerate().map(read).collect()
}

fn check_messages(messages: &[Message]) -> Result<(), (&'static str, String)> {
    let wrong = |problem| Err(("messages", problem));
    for (i, message) in messages.iter().enumerate() {
        let role = message.role.as_str();
        if !ROLES.contains(&role) {
            let shown: String = role.chars().take(40).collect();
            return wrong(format!(
                "messages[{i}].role is {shown:?}, expected one of {}",
                ROLES.map(|role| format!("{role:?}")).join(", ")
            ));
        }
        if role == "assistant" && message.content.trim().is_empty() {
            return wrong(format!(
                "messages[{i}].content is empty, expected what the assistant says"
            ));
        }
    }
    match messages.iter().any(|message| message.role == "assistant") {
        true => Ok(()),
        false => wrong(format!(
            "no token would be trained: none of {} messages is the assistant's",
            messages.len()
        )),
    }
}
