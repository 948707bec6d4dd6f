//! What each key accepts, read from the JSON schema of [`Config`]: kind, range, words, meaning.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;

use schemars::generate::SchemaSettings;
use serde_json::Value as Json;
use toml::Value;

use super::Config;

/// What a key accepts.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number within a range, ends included.
    Integer {
        /// Smallest accepted value.
        min: i64,
        /// Largest accepted value, where there is one.
        max: Option<i64>,
    },
    /// A finite number within a range.
    Number(Range),
    /// Any text.
    Text,
    /// One of some words.
    Word(Vec<String>),
    /// A list of at least so many values of one kind.
    List(Box<Kind>, usize),
    /// A value of any of these kinds.
    AnyOf(Vec<Kind>),
}

/// Bounds of a number; absent ones do not bound.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Range {
    /// Smallest accepted value.
    pub min: Option<f64>,
    /// All accepted values are above this one.
    pub above: Option<f64>,
    /// Largest accepted value.
    pub max: Option<f64>,
    /// All accepted values are below this one.
    pub below: Option<f64>,
}

impl Range {
    fn contains(&self, x: f64) -> bool {
        x.is_finite()
            && self.min.is_none_or(|m| x >= m)
            && self.above.is_none_or(|m| x > m)
            && self.max.is_none_or(|m| x <= m)
            && self.below.is_none_or(|m| x < m)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(min), Some(max)) = (self.min, self.max) {
            return write!(f, "a number from {min} to {max}");
        }
        f.write_str("a finite number")?;
        let bounds = [
            ("at least", self.min),
            ("above", self.above),
            ("at most", self.max),
            ("below", self.below),
        ];
        let mut separator = ", ";
        for (word, bound) in bounds {
            if let Some(bound) = bound {
                write!(f, "{separator}{word} {bound}")?;
                separator = " and ";
            }
        }
        Ok(())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.write_str("true or false"),
            Self::Integer { min, max: Some(max) } if *max < i64::MAX => {
                write!(f, "a whole number from {min} to {max}")
            }
            Self::Integer { min, .. } => write!(f, "a whole number, at least {min}"),
            Self::Number(range) => range.fmt(f),
            Self::Text => f.write_str("a string"),
            Self::Word(words) if words.len() == 1 => write!(f, "{:?}", words[0]),
            Self::Word(words) => {
                let quoted: Vec<_> = words.iter().map(|w| format!("{w:?}")).collect();
                write!(f, "one of {}", quoted.join(", "))
            }
            Self::List(item, 0) => write!(f, "a list, each entry {item}"),
            Self::List(item, 1) => write!(f, "a list that is not empty, each entry {item}"),
            Self::List(item, n) => write!(f, "a list of at least {n} entries, each {item}"),
            Self::AnyOf(kinds) => {
                let kinds: Vec<_> = kinds.iter().map(ToString::to_string).collect();
                f.write_str(&kinds.join(", or "))
            }
        }
    }
}

impl Kind {
    /// The value as this kind stores it (a whole number where a number is expected becomes one),
    /// or `None` where it does not fit.
    #[must_use]
    pub fn accept(&self, value: &Value) -> Option<Value> {
        match (self, value) {
            (Self::Bool, Value::Boolean(_)) | (Self::Text, Value::String(_)) => Some(value.clone()),
            (Self::Integer { min, max }, Value::Integer(n)) => {
                (n >= min && max.is_none_or(|m| *n <= m)).then(|| value.clone())
            }
            (Self::Number(range), Value::Float(x)) => range.contains(*x).then(|| value.clone()),
            #[expect(clippy::cast_precision_loss, reason = "a setting above 2^53 has no meaning")]
            (Self::Number(range), Value::Integer(n)) => {
                let x = *n as f64;
                range.contains(x).then_some(Value::Float(x))
            }
            (Self::Word(words), Value::String(s)) => words.contains(s).then(|| value.clone()),
            (Self::List(kind, least), Value::Array(items)) if items.len() >= *least => {
                items.iter().map(|v| kind.accept(v)).collect::<Option<_>>().map(Value::Array)
            }
            (Self::AnyOf(kinds), _) => kinds.iter().find_map(|kind| kind.accept(value)),
            _ => None,
        }
    }

    /// The words that this kind knows, for suggestions.
    pub(crate) fn words(&self) -> &[String] {
        match self {
            Self::Word(words) => words,
            Self::List(item, _) => item.words(),
            _ => &[],
        }
    }
}

/// One key: what it means, what it accepts, what it is by default.
#[derive(Debug, Clone)]
pub struct Field {
    /// Meaning, from the doc comment.
    pub doc: String,
    /// Accepted values.
    pub kind: Kind,
    /// Meaning of each accepted word, where the key takes words.
    pub words: Vec<(String, String)>,
    /// Default, or `None` where the key is absent by default.
    pub default: Option<Value>,
}

/// All sections and keys of a configuration.
#[derive(Debug)]
pub struct Fields {
    /// Meaning of each section.
    pub sections: BTreeMap<String, String>,
    /// Each key by its dotted name, `section.key`.
    pub keys: BTreeMap<String, Field>,
}

/// The sections and keys of [`Config`].
#[must_use]
pub fn fields() -> &'static Fields {
    static FIELDS: OnceLock<Fields> = OnceLock::new();
    FIELDS.get_or_init(read_schema)
}

/// The JSON schema (draft 2020-12) of a configuration file, for editors.
///
/// `extends`, which only a file has, is part of it.
#[must_use]
pub fn json_schema() -> Json {
    let mut schema = config_schema();
    if let Some(properties) = schema.get_mut("properties").and_then(Json::as_object_mut) {
        let extends = serde_json::json!({
            "description": "Configuration file whose values hold where this file has none. Relative to this file.",
            "type": "string",
        });
        properties.insert("extends".into(), extends);
    }
    schema
}

fn config_schema() -> Json {
    let generator = SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true);
    Json::from(generator.into_generator().into_root_schema_for::<Config>())
}

fn read_schema() -> Fields {
    let schema = config_schema();
    let defaults = Value::try_from(Config::default()).unwrap_or(Value::Table(toml::Table::new()));
    let mut fields = Fields { sections: BTreeMap::new(), keys: BTreeMap::new() };
    for (section, body) in properties(&schema) {
        fields.sections.insert(section.clone(), description(body));
        for (key, body) in properties(body) {
            let field = Field {
                doc: description(body),
                kind: read_kind(body),
                words: read_words(body),
                default: defaults.get(section).and_then(|s| s.get(key)).cloned(),
            };
            fields.keys.insert(format!("{section}.{key}"), field);
        }
    }
    fields
}

fn properties(schema: &Json) -> impl Iterator<Item = (&String, &Json)> {
    schema.get("properties").and_then(Json::as_object).into_iter().flatten()
}

fn description(schema: &Json) -> String {
    schema.get("description").and_then(Json::as_str).unwrap_or_default().to_owned()
}

fn read_kind(schema: &Json) -> Kind {
    let number = |key: &str| schema.get(key).and_then(Json::as_f64);
    let whole = |key: &str| schema.get(key).and_then(Json::as_i64);
    match type_name(schema) {
        "boolean" => Kind::Bool,
        "integer" => Kind::Integer { min: whole("minimum").unwrap_or(0), max: whole("maximum") },
        "number" => Kind::Number(Range {
            min: number("minimum"),
            above: number("exclusiveMinimum"),
            max: number("maximum"),
            below: number("exclusiveMaximum"),
        }),
        "array" => {
            let least = schema.get("minItems").and_then(Json::as_u64).unwrap_or(0);
            let item = schema.get("items").map_or(Kind::Text, read_kind);
            Kind::List(Box::new(item), usize::try_from(least).unwrap_or(0))
        }
        _ => match (schema.get("anyOf").and_then(Json::as_array), read_words(schema)) {
            (Some(kinds), _) => Kind::AnyOf(kinds.iter().map(read_kind).collect()),
            (None, words) if words.is_empty() => Kind::Text,
            (None, words) => Kind::Word(words.into_iter().map(|(word, _)| word).collect()),
        },
    }
}

/// The type; that of the value where the key may be absent (`["string", "null"]`).
fn type_name(schema: &Json) -> &str {
    match schema.get("type") {
        Some(Json::String(name)) => name,
        Some(Json::Array(names)) => {
            names.iter().filter_map(Json::as_str).find(|n| *n != "null").unwrap_or_default()
        }
        _ => "",
    }
}

fn read_words(schema: &Json) -> Vec<(String, String)> {
    let schema = schema.get("items").unwrap_or(schema);
    let described = schema.get("oneOf").and_then(Json::as_array).into_iter().flatten();
    described
        .filter_map(|word| Some((word.get("const")?.as_str()?.to_owned(), description(word))))
        .collect()
}
