//! `soft config show|schema|explain`.

use serde_json::{Map, Value, json};
use soft_train::config::{Field, Resolved, fields, json_schema, suggestion};

use crate::arguments::{Config, ConfigVerb, Global};
use crate::failure::Failure;
use crate::output::Output;
use crate::settings::{Without, loader};

/// Runs the verb.
pub(crate) fn run(arguments: &Config, global: &Global) -> Result<(), Failure> {
    let mut out = Output::new();
    match &arguments.verb {
        ConfigVerb::Show { source, resolved, json } => {
            let config = loader(Some(source), global, Without::Defaults).load()?;
            match json {
                true => out.json(&as_json(&config))?,
                false => out.line(as_text(&config, *resolved))?,
            }
        }
        ConfigVerb::Schema => out.line(format!("{:#}", json_schema()))?,
        ConfigVerb::Explain { key } => out.line(explain(key.as_deref())?)?,
    }
    out.flush()
}

fn as_text(config: &Resolved, all: bool) -> String {
    let text = config.with_origins(all);
    if text.is_empty() {
        return "# every value is a default; `--resolved` prints them".into();
    }
    text.trim_end().to_owned()
}

fn as_json(resolved: &Resolved) -> Value {
    let keys = fields().keys.keys();
    let origins: Map<String, Value> =
        keys.map(|key| (key.clone(), resolved.origin(key).to_string().into())).collect();
    let hash = format!("{:08x}", resolved.config.config_hash());
    json!({ "config": resolved.config, "origins": origins, "config_hash": hash })
}

fn explain(key: Option<&str>) -> Result<String, Failure> {
    let Some(key) = key else {
        let sections = fields().sections.keys();
        return Ok(sections.map(|name| section(name)).collect::<Vec<_>>().join("\n\n"));
    };
    if let Some(field) = fields().keys.get(key) {
        return Ok(field_text(key, field));
    }
    if fields().sections.contains_key(key) {
        return Ok(section(key));
    }
    let help = suggestion(key).map_or(String::new(), |help| format!("; {help}"));
    Err(Failure::usage(format!("unknown key `{key}`{help}")))
}

/// A section: its meaning, then each key on a line.
fn section(name: &str) -> String {
    let doc = fields().sections.get(name).map_or("", String::as_str);
    let mut text = format!("[{name}]  {doc}");
    for (key, field) in &fields().keys {
        if key.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')) {
            let value = format!("{key} = {}", default_text(field));
            text.push_str(&format!("\n  {value:<36} {}", field.doc));
        }
    }
    text
}

fn field_text(key: &str, field: &Field) -> String {
    let mut text = format!("{key}\n  {}\n  accepts: {}", field.doc, field.kind);
    for (word, doc) in &field.words {
        text.push_str(&format!("\n    {:<16} {doc}", format!("{word:?}")));
    }
    text.push_str(&format!("\n  default: {}", default_text(field)));
    text
}

fn default_text(field: &Field) -> String {
    field.default.as_ref().map_or_else(|| "(not set)".into(), ToString::to_string)
}
