//! One source of values (a file, a model's own settings, `a.b=v`) as a list of checked settings.

use toml::Value;
use toml::de::{DeTable, DeValue};

use super::error::Problem;
use super::fields::{Field, Kind, fields};
use super::origin::Origin;
use super::suggest;

/// A file larger than this is not a configuration.
pub(super) const MAX_BYTES: usize = 1 << 20;
/// Syntax errors that are reported for one file: the rest tend to follow from the first.
const MAX_SYNTAX_ERRORS: usize = 5;

/// A key with a value that fits it.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) key: String,
    pub(crate) value: Value,
    pub(crate) origin: Origin,
}

/// What one source says.
#[derive(Debug, Default)]
pub(crate) struct Layer {
    pub(crate) settings: Vec<Setting>,
    pub(crate) problems: Vec<Problem>,
    /// The `extends` of a file.
    pub(crate) extends: Option<(String, Origin)>,
}

impl Layer {
    /// Reads a TOML text; `name` is how its places are reported.
    pub(crate) fn from_text(name: &str, text: &str) -> Self {
        let mut layer = Self::default();
        if text.len() > MAX_BYTES {
            let message = format!(
                "the file has more than {MAX_BYTES} bytes, the most that a configuration may have"
            );
            layer.problems.push(Problem::at(Origin::WholeFile(name.to_owned()), message));
            return layer;
        }
        let (table, errors) = DeTable::parse_recoverable(text);
        if errors.is_empty() {
            layer.read_top(table.get_ref(), &|byte| Origin::in_file(name, text, byte));
            return layer;
        }
        layer.problems.extend(errors.iter().take(MAX_SYNTAX_ERRORS).map(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let message = format!("not TOML: {}", error.message().replace('\n', ", "));
            Problem::at(Origin::in_file(name, text, start), message)
        }));
        layer
    }

    /// Reads one `a.b=v` of a command line. The value is TOML; what is not TOML is a string.
    pub(crate) fn from_override(text: &str) -> Self {
        let mut layer = Self::default();
        let Some((key, value)) = text.split_once('=') else {
            let message = format!("`{text}` is not a setting; expected `key=value`");
            layer.problems.push(Problem::at(Origin::Override, message));
            return layer;
        };
        let (key, value) = (key.trim(), value.trim());
        let document = format!("v = {value}");
        let parsed = DeTable::parse(&document).ok();
        let typed = parsed.as_ref().and_then(|table| match table.get_ref().iter().next() {
            Some((_, v)) if table.get_ref().len() == 1 => Some(v.get_ref()),
            _ => None,
        });
        let bare = DeValue::String(value.into());
        layer.read_dotted(key, typed.unwrap_or(&bare));
        layer
    }

    /// Takes one value that a flag or a variable gives to a key.
    pub(crate) fn from_value(key: &str, value: Value, origin: Origin) -> Self {
        let mut layer = Self::default();
        match fields().keys.get(key) {
            Some(field) => layer.set(key, field, value, origin),
            None => layer.unknown(key, origin),
        }
        layer
    }

    fn read_dotted(&mut self, key: &str, value: &DeValue<'_>) {
        let place = |_: usize| Origin::Override;
        match (fields().sections.contains_key(key), value) {
            (true, DeValue::Table(table)) => self.read_section(key, table, &place),
            (true, _) => self.not_a_section(key, value, Origin::Override),
            (false, _) if key == "extends" => {
                let message = "`extends` cannot be set here; write it in a file";
                self.problems.push(Problem::new(Origin::Override, key, message));
            }
            (false, _) => self.read_leaf(key, value, Origin::Override, Origin::Override),
        }
    }

    fn read_top(&mut self, table: &DeTable<'_>, place: &dyn Fn(usize) -> Origin) {
        for (name, value) in table {
            let key = name.get_ref().as_ref();
            let origin = place(value.span().start);
            match value.get_ref() {
                DeValue::String(path) if key == "extends" => {
                    self.extends = Some((path.to_string(), origin));
                }
                other if key == "extends" => {
                    let message = format!("`extends` is {}; expected a string", show(other));
                    self.problems.push(Problem::new(origin, key, message));
                }
                DeValue::Table(section) if fields().sections.contains_key(key) => {
                    self.read_section(key, section, place);
                }
                other if fields().sections.contains_key(key) => {
                    self.not_a_section(key, other, origin);
                }
                // Each key of a foreign or planned section gets its own hint.
                DeValue::Table(section) if suggest::for_key(key).is_none() => {
                    for (leaf, _) in section {
                        let dotted = format!("{key}.{}", leaf.get_ref());
                        self.unknown(&dotted, place(leaf.span().start));
                    }
                    if section.is_empty() {
                        self.unknown(key, place(name.span().start));
                    }
                }
                _ => self.unknown(key, place(name.span().start)),
            }
        }
    }

    fn read_section(&mut self, section: &str, table: &DeTable<'_>, at: &dyn Fn(usize) -> Origin) {
        for (leaf, value) in table {
            let key = format!("{section}.{}", leaf.get_ref());
            let (key_at, value_at) = (at(leaf.span().start), at(value.span().start));
            self.read_leaf(&key, value.get_ref(), key_at, value_at);
        }
    }

    fn read_leaf(&mut self, key: &str, value: &DeValue<'_>, key_at: Origin, value_at: Origin) {
        let Some(field) = fields().keys.get(key) else {
            return self.unknown(key, key_at);
        };
        match plain(value) {
            Some(value) => self.set(key, field, value, value_at),
            None => self.misfit(key, field, &show(value), value_at),
        }
    }

    fn set(&mut self, key: &str, field: &Field, value: Value, origin: Origin) {
        match field.kind.accept(&value) {
            Some(value) => self.settings.push(Setting { key: key.to_owned(), value, origin }),
            None => {
                let help = misfit_help(&field.kind, &value, &origin);
                self.misfit(key, field, &value.to_string(), origin);
                if let Some(problem) = self.problems.last_mut() {
                    problem.help = help;
                }
            }
        }
    }

    fn misfit(&mut self, key: &str, field: &Field, found: &str, origin: Origin) {
        let message = format!("`{key}` is {found}; expected {}", field.kind);
        self.problems.push(Problem::new(origin, key, message));
    }

    fn not_a_section(&mut self, key: &str, value: &DeValue<'_>, origin: Origin) {
        let message = format!("`{key}` is {}; expected a section, as in `[{key}]`", show(value));
        self.problems.push(Problem::new(origin, key, message));
    }

    fn unknown(&mut self, key: &str, origin: Origin) {
        let problem = Problem::new(origin, key, format!("unknown key `{key}`"));
        self.problems.push(problem.help(suggest::for_key(key)));
    }
}

fn misfit_help(kind: &Kind, value: &Value, origin: &Origin) -> Option<String> {
    match (kind, value) {
        (Kind::Text, Value::Integer(_) | Value::Float(_) | Value::Boolean(_))
            if *origin == Origin::Override =>
        {
            Some(format!("for the text, quote it: '\"{value}\"'"))
        }
        (_, Value::String(text)) if *origin == Origin::Override && text.starts_with(['[', '{']) => {
            Some("a list is written [\"a\", \"b\"], in quotes of the shell".into())
        }
        (_, Value::String(word)) => suggest::for_word(word, kind.words()),
        (_, Value::Array(items)) => items
            .iter()
            .filter_map(Value::as_str)
            .find(|word| !kind.words().iter().any(|known| known == word))
            .and_then(|word| suggest::for_word(word, kind.words())),
        _ => None,
    }
}

/// The value without its spans, or `None` for a number that does not fit 64 bits.
fn plain(value: &DeValue<'_>) -> Option<Value> {
    Some(match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(n) => Value::Integer(i64::from_str_radix(n.as_str(), n.radix()).ok()?),
        DeValue::Float(x) => Value::Float(x.as_str().parse().ok()?),
        DeValue::Boolean(b) => Value::Boolean(*b),
        DeValue::Datetime(date) => Value::Datetime(*date),
        DeValue::Array(items) => {
            Value::Array(items.iter().map(|item| plain(item.get_ref())).collect::<Option<_>>()?)
        }
        DeValue::Table(table) => {
            let entry = |(k, v): (
                &toml::Spanned<std::borrow::Cow<'_, str>>,
                &toml::Spanned<DeValue<'_>>,
            )| { Some((k.get_ref().to_string(), plain(v.get_ref())?)) };
            Value::Table(table.iter().map(entry).collect::<Option<_>>()?)
        }
    })
}

fn show(value: &DeValue<'_>) -> String {
    match (plain(value), value) {
        (Some(value), _) => value.to_string(),
        (None, DeValue::Integer(n)) => n.to_string(),
        (None, _) => "a number too large to hold".into(),
    }
}
