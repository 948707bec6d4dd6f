//! Chat templates: the Jinja programs that models come with, run as transformers runs them.
//!
//! A template is downloaded code, so it runs with fuel and a limited output, and reaches neither
//! files nor other templates.

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, ErrorKind, State, Value};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::chat_template::python::{json_dumps, strftime};

mod operands;
mod python;
mod repeats;
#[cfg(test)]
mod tests;

const NAME: &str = "chat_template";
/// Longest text that is rendered, where the messages are short.
const MAX_OUTPUT_BYTES: usize = 1 << 20;
/// Bytes that are rendered of a byte of the messages: they may be long, but a template writes each
/// once or twice, perhaps as JSON.
const OUTPUT_PER_BYTE: usize = 8;
/// Instructions a template may use, before those for its messages.
const FUEL: u64 = 200_000;
const FUEL_PER_MESSAGE: u64 = 2_000;
/// Instructions for a byte of the messages: a template may look at each in turn.
const FUEL_PER_BYTE: u64 = 16;
/// Items of a container that are looked at for one instruction's fuel.
const ITEMS_PER_FUEL: usize = 4;
/// Bytes that an item counts for beside its text, what parts it from the next included.
const ITEM_BYTES: usize = 8;

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks, such as `system`, `user` or `assistant`.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A turn of `role` saying `content`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// A parsed chat template with the special tokens it may name.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    tokens: Vec<(String, String)>,
}

impl ChatTemplate {
    /// Parses a template; `tokens` are variables such as `("bos_token", "<s>")`.
    ///
    /// # Errors
    /// [`Error::ChatTemplate`] with the line of the mistake, or of a repetition that could fill the
    /// memory.
    pub fn new<N: Into<String>, T: Into<String>>(
        source: &str,
        tokens: impl IntoIterator<Item = (N, T)>,
    ) -> Result<Self, Error> {
        repeats::check(source).map_err(Error::chat_template)?;
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        let syntax = syntax.map_err(failed)?;
        environment.set_syntax(syntax.clone());
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment.add_filter("fromjson", from_json);
        let source = operands::measured(&without_generation_tags(source), NAME, syntax);
        environment.add_template_owned(NAME, source).map_err(failed)?;
        let tokens = tokens.into_iter().map(|(name, token)| (name.into(), token.into())).collect();
        Ok(Self { environment, tokens })
    }

    /// The text of a conversation, with the opening of the assistant's turn at its end where
    /// `add_generation_prompt` asks for it.
    ///
    /// # Errors
    /// [`Error::ChatTemplate`] where the template raises an exception, runs out of fuel or
    /// renders more than 1 MiB and many times what the messages hold: whether a conversation is
    /// too long for a model is not decided here.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, Error> {
        let mut variables: Vec<(&str, Value)> = vec![
            ("messages", Value::from(minijinja::value::Serde(messages))),
            ("add_generation_prompt", add_generation_prompt.into()),
            ("tools", Value::from(())),
            ("documents", Value::from(())),
        ];
        variables.extend(self.tokens.iter().map(|(name, token)| (&name[..], token.into())));
        let mut environment = self.environment.clone();
        let bytes: usize = messages.iter().map(|message| message.content.len()).sum();
        let fuel = FUEL + FUEL_PER_MESSAGE * messages.len() as u64 + FUEL_PER_BYTE * bytes as u64;
        environment.set_fuel(Some(fuel));
        let limit = MAX_OUTPUT_BYTES.max(OUTPUT_PER_BYTE.saturating_mul(bytes));
        measure(&mut environment, limit);
        let template = environment.get_template(NAME).map_err(failed)?;
        let mut out = Capped { text: Vec::new(), limit };
        template.render_captured_to(Value::from_pairs(variables), &mut out).map_err(failed)?;
        String::from_utf8(out.text).map_err(|error| Error::chat_template(error.to_string()))
    }
}

/// Has containers measured before they become text, or others are made of them, which the library
/// charges for afterwards.
fn measure(environment: &mut Environment<'_>, limit: usize) {
    environment.set_formatter(move |out, state, value| {
        check_size(state, value, limit)?;
        minijinja::escape_formatter(out, state, value)
    });
    environment.set_unknown_method_callback(move |state, value, method, arguments| {
        let values = [value].into_iter().chain(arguments);
        values.into_iter().try_for_each(|value| check_size(state, value, limit))?;
        minijinja_contrib::pycompat::unknown_method_callback(state, value, method, arguments)
    });
    environment.add_filter(operands::MEASURE, move |state: &State<'_, '_>, value: Value| {
        check_size(state, &value, limit).map(|()| value)
    });
    environment.add_filter(
        "tojson",
        move |state: &State<'_, '_>, value: &Value, options: Kwargs| {
            check_size(state, value, limit)?;
            to_json(value, options)
        },
    );
}

/// Refuses a container whose text would be longer than `limit`, having looked at no more of it: a
/// list that was added to itself twenty times has a million items. Looking costs fuel.
fn check_size(state: &State<'_, '_>, value: &Value, limit: usize) -> Result<(), minijinja::Error> {
    let is_container = |value: &Value| {
        matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::Iterable)
    };
    let too_long = || {
        let problem = format!("a list or object of more than {limit} bytes of text");
        minijinja::Error::new(ErrorKind::InvalidOperation, problem)
    };
    let mut left = limit;
    let mut open = if is_container(value) { vec![value.clone()] } else { Vec::new() };
    let mut seen = 0;
    while let Some(container) = open.pop() {
        for item in container.try_iter()? {
            let value = match container.kind() {
                ValueKind::Map => container.get_item(&item)?,
                _ => Value::UNDEFINED,
            };
            for part in [item, value] {
                let len = ITEM_BYTES + part.as_str().map_or(0, str::len);
                left = left.checked_sub(len).ok_or_else(too_long)?;
                if is_container(&part) {
                    open.push(part);
                }
            }
            seen += 1;
            if seen % ITEMS_PER_FUEL == 0 {
                state.consume_fuel(1)?;
            }
        }
    }
    Ok(())
}

fn failed(error: minijinja::Error) -> Error {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    Error::chat_template(text)
}

/// The tags that mark an assistant's words for training; here they only group.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let Some(len) = rest[at..].find("%}") else { break };
        let tag = &rest[at..at + len];
        out.push_str(&rest[..at]);
        match tag.trim_start_matches(['{', '%', '-', '+']).trim_end_matches('-').trim() {
            "generation" => out.push_str(&tag.replacen("generation", "if true", 1)),
            "endgeneration" => out.push_str(&tag.replacen("endgeneration", "endif", 1)),
            _ => out.push_str(tag),
        }
        rest = &rest[at + len..];
    }
    out + rest
}

fn raise_exception(message: String) -> Result<Value, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
}

/// The time of day in UTC, as `datetime.strftime` writes it.
fn strftime_now(format: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    strftime(format, now)
}

/// As transformers registers it: `json.dumps` without escapes for HTML.
fn to_json(value: &Value, options: Kwargs) -> Result<Value, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    let ascii: Option<bool> = options.get("ensure_ascii")?;
    // Keys keep their order, and separators are Python's, unless others are asked for.
    let _: Option<Value> = options.get("sort_keys")?;
    let _: Option<Value> = options.get("separators")?;
    options.assert_all_used()?;
    let text = json_dumps(value, indent, ascii.unwrap_or(false)).map_err(|error| {
        minijinja::Error::new(ErrorKind::BadSerialization, "cannot write as JSON")
            .with_source(error)
    })?;
    Ok(Value::from(text))
}

fn from_json(text: &str) -> Result<Value, minijinja::Error> {
    let json: serde_json::Value = serde_json::from_str(text).map_err(|error| {
        minijinja::Error::new(ErrorKind::InvalidOperation, "not valid JSON").with_source(error)
    })?;
    Ok(Value::from(minijinja::value::Serde(json)))
}

/// A buffer that refuses to grow over its limit.
struct Capped {
    text: Vec<u8>,
    limit: usize,
}

impl Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.text.len() + bytes.len() > self.limit {
            let problem = format!("the rendered text is over the limit of {} bytes", self.limit);
            return Err(io::Error::other(problem));
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
