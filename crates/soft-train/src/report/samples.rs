//! What a model wrote while it learned: held-out prompts, continued at each evaluation.

use serde::Deserialize;
use serde_json::Value;

use super::markup::{details, escape, shortened, table};
use crate::results::thousands;

/// Longest heading of a sample, in characters.
const HEADING: usize = 90;

/// A line of `samples.jsonl`, as far as this page needs it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Sample {
    step: u64,
    sample: u64,
    prompt: Option<String>,
    expected: Option<String>,
    text: Option<String>,
    tokens: Option<u64>,
    stop: Option<String>,
    answer: Option<String>,
    correct: Option<bool>,
}

/// The section; nothing where nothing was written.
pub(super) fn section(records: &[Value]) -> String {
    let samples: Vec<Sample> =
        records.iter().filter_map(|record| Sample::deserialize(record).ok()).collect();
    let mut numbers: Vec<u64> = samples.iter().map(|sample| sample.sample).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let prompts: String = numbers
        .iter()
        .map(|&number| {
            let own: Vec<&Sample> = samples.iter().filter(|s| s.sample == number).collect();
            prompt(number, &own, number == numbers[0])
        })
        .collect();
    match prompts.is_empty() {
        true => prompts,
        false => format!(
            "<section><h2>Samples</h2>\n<p class=\"note\">Held-out prompts, continued as \
             generation would from a checkpoint of each step.</p>\n{prompts}</section>\n"
        ),
    }
}

fn prompt(number: u64, samples: &[&Sample], open: bool) -> String {
    let judged = samples.iter().any(|sample| sample.correct.is_some());
    let mut head = vec!["step", "what it wrote", "tokens", "stopped by"];
    if judged {
        head.extend(["answer", "right"]);
    }
    let dash = || "–".to_owned();
    let row = |sample: &&Sample| {
        let text = sample.text.as_deref().map_or_else(dash, |text| escape(text.trim()));
        let mut cells = vec![
            thousands(sample.step),
            format!("<span class=\"wrote\">{text}</span>"),
            sample.tokens.map_or_else(dash, thousands),
            sample.stop.as_deref().map_or_else(dash, |stop| escape(&stop.replace('_', " "))),
        ];
        if judged {
            cells.push(sample.answer.as_deref().map_or_else(dash, escape));
            cells.push(match sample.correct {
                Some(true) => "<span class=\"right\">✓ yes</span>".into(),
                Some(false) => "<span class=\"wrong\">✗ no</span>".into(),
                None => dash(),
            });
        }
        cells
    };
    let rows: Vec<Vec<String>> = samples.iter().map(row).collect();
    let first = samples.first();
    let asked = first.and_then(|sample| sample.prompt.as_deref()).unwrap_or_default();
    let mut content = String::new();
    if !asked.is_empty() {
        content.push_str(&format!("<pre>{}</pre>\n", escape(asked.trim())));
    }
    if let Some(expected) = first.and_then(|sample| sample.expected.as_deref()) {
        content.push_str(&format!(
            "<p class=\"note\">Expected: <b>{}</b></p>\n",
            escape(expected.trim())
        ));
    }
    content.push_str(&table(&head, &rows, "samples"));
    let line = asked.split_whitespace().collect::<Vec<_>>().join(" ");
    let heading = match line.is_empty() {
        true => format!("Sample {number}"),
        false => format!("Sample {number}: {}", shortened(&line, HEADING)),
    };
    details(&format!("<b>{}</b>", escape(&heading)), &content, open)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_prompt_has_a_row_for_each_step_and_nothing_of_it_is_markup() {
        let line = |step: u64, text: &str| {
            json!({"step": step, "sample": 1, "prompt": "1 + 1 <b>", "expected": "2", "text": text,
                "tokens": 3, "stop": "max_new", "answer": "2", "correct": step > 0})
        };
        let html = section(&[line(0, "</section>"), line(20, "it is 2")]);
        for part in ["1 + 1 &lt;b&gt;", "&lt;/section&gt;", "it is 2", "max new", "✗ no", "✓ yes"]
        {
            assert!(html.contains(part), "{part} is missing in\n{html}");
        }
        assert_eq!(html.matches("<details").count(), 1);
        assert_eq!(section(&[]), "");
    }

    #[test]
    fn a_line_with_the_least_keys_is_shown() {
        let html = section(&[json!({"step": 5, "sample": 2})]);
        assert!(html.contains("Sample 2") && !html.contains("Expected"), "{html}");
    }
}
