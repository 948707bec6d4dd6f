//! What a run ran with: its data, the settings that were chosen and by whom, the machine.

use serde_json::Value;
use toml::Table;

use super::markup::{details, escape, percent, table};
use super::run::Run;
use crate::config::Config;
use crate::results::thousands;
use crate::run::data_card::{DataCard, Part};

/// The section; empty where nothing of that is there.
pub(super) fn section(run: &Run) -> String {
    let mut html = String::new();
    if let Some(card) = &run.data {
        html.push_str(&data(card));
    }
    let config = run.config.as_deref();
    if let Some(settings) = config.and_then(|text| settings(text, run)) {
        html.push_str(&settings);
    }
    if let Some(machine) = run.environment.as_deref().and_then(machine) {
        html.push_str(&machine);
    }
    let file = |name: &str, text: &Option<String>| {
        let text = text.as_ref()?;
        Some(details(name, &format!("<pre>{}</pre>", escape(text)), false))
    };
    let files = [file("config.toml", &run.config), file("environment.json", &run.environment)];
    html.extend(files.into_iter().flatten());
    match html.is_empty() {
        true => html,
        false => format!("<section><h2>What it ran with</h2>\n{html}</section>\n"),
    }
}

fn data(card: &DataCard) -> String {
    let row = |(name, part): (&str, &Part)| {
        let share = |count: usize| percent(count as f64 / (part.tokens.max(1)) as f64);
        vec![
            name.to_owned(),
            thousands(part.examples as u64),
            thousands(part.tokens as u64),
            share(part.scored),
            share(part.soft),
            thousands(part.median_length as u64),
            thousands(part.longest as u64),
        ]
    };
    let parts = [("training", Some(&card.train)), ("held out", card.valid.as_ref())];
    let rows = parts.into_iter().filter_map(|(name, part)| Some((name, part?))).map(row);
    let head = ["data", "examples", "positions", "scored", "soft", "median length", "longest"];
    let notes: Vec<String> =
        card.notes.iter().map(|note| format!("<li>{}", escape(note))).collect();
    let notes = match notes.is_empty() {
        true => String::new(),
        false => format!("<ul class=\"note\">{}</ul>\n", notes.concat()),
    };
    format!("<h3>Data</h3>\n{}{notes}", table(&head, &rows.collect::<Vec<_>>(), "data"))
}

/// The settings that some source set to something else than the default, each with its source.
fn settings(config: &str, run: &Run) -> Option<String> {
    let values: Table = config.parse().ok()?;
    let defaults = Config::default().to_table();
    let mut rows = Vec::new();
    for (section, body) in &values {
        for (leaf, value) in body.as_table()? {
            let default = defaults.get(section).and_then(|section| section.get(leaf));
            if default == Some(value) {
                continue;
            }
            let key = format!("{section}.{leaf}");
            let from = run.origins.get(&key).map_or("–", String::as_str);
            rows.push(vec![
                format!("<code>{}</code>", escape(&key)),
                escape(&value.to_string()),
                default.map_or_else(|| "–".to_owned(), |value| escape(&value.to_string())),
                escape(from),
            ]);
        }
    }
    if rows.is_empty() {
        return Some(
            "<h3>Settings</h3>\n<p class=\"note\">Every setting is its default.</p>\n".into(),
        );
    }
    let table = table(&["key", "value", "default", "set by"], &rows, "texts settings");
    Some(format!("<h3>Settings that are not the defaults</h3>\n{table}"))
}

/// The machine in a line.
fn machine(environment: &str) -> Option<String> {
    let known: Value = serde_json::from_str(environment).ok()?;
    let text = |key: &str| known.get(key).and_then(Value::as_str);
    let version = |key: &str| known.get("versions")?.get(key)?.as_str();
    let parts = [
        text("cpu").map(str::to_owned),
        known.get("threads").and_then(Value::as_u64).map(|n| format!("{n} threads")),
        text("device").map(|device| format!("device {device}")),
        text("os").map(str::to_owned),
        version("soft").map(|version| format!("soft {version}")),
        version("burn").map(|version| format!("Burn {version}")),
        text("revision").map(|revision| format!("revision {revision}")),
        known.get("seed").and_then(Value::as_u64).map(|seed| format!("seed {seed}")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    let line = (!parts.is_empty()).then(|| parts.join(", "))?;
    Some(format!("<h3>Machine</h3>\n<p class=\"note\">{}</p>\n", escape(&line)))
}
