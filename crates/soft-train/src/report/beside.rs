//! Rows with the same prompt beside each other: where they part, and what becomes of them.

use std::collections::HashMap;

use super::belief::heaviest;
use super::markup::{counted, details, escape, token_label};
use super::row::outcome_line;
use super::trace::{Step, Trace};
use super::verdict::stop_reason;

/// Rows that are set beside the first of their prompt.
const OTHERS: usize = 4;
/// Tokens shown before the divergence, and after it.
const BEFORE: usize = 40;
const AFTER: usize = 400;

/// The rows that share a prompt with others, in groups; numbers are places in `rows`.
fn groups(rows: &[&Trace]) -> Vec<Vec<usize>> {
    let mut by_prompt: HashMap<&[u32], usize> = HashMap::new();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (number, row) in rows.iter().enumerate().filter(|(_, row)| !row.prompt_ids.is_empty()) {
        match by_prompt.get(row.prompt_ids.as_slice()) {
            Some(&group) => groups[group].push(number),
            None => {
                by_prompt.insert(&row.prompt_ids, groups.len());
                groups.push(vec![number]);
            }
        }
    }
    groups.retain(|group| group.len() > 1);
    groups
}

/// The first place at which two rows of tokens differ; `None` where they are equal. A row that
/// goes on where the other ends differs there.
fn divergence(left: &[u32], right: &[u32]) -> Option<usize> {
    let both = left.len().min(right.len());
    let differs = (0..both).find(|&at| left[at] != right[at]);
    differs.or((left.len() != right.len()).then_some(both))
}

/// The comparisons among rows, each with its title; empty where no two have the same prompt.
pub(super) fn section(rows: &[&Trace], titles: &[String]) -> String {
    let mut html = String::new();
    for group in groups(rows) {
        // What goes softly is held against what goes hard, where there is such a row.
        let is_hard = |&&row: &&usize| !rows[row].steps.iter().any(Step::is_soft);
        let first = group.iter().find(is_hard).copied().unwrap_or(group[0]);
        let mut others: Vec<usize> = group.iter().copied().filter(|&row| row != first).collect();
        // What goes softly first.
        others.sort_by_key(|row| is_hard(&row));
        for &other in others.iter().take(OTHERS) {
            let open = html.is_empty();
            let titles = [&titles[first], &titles[other]].map(String::as_str);
            html.push_str(&pair([rows[first], rows[other]], titles, open));
        }
        if let Some(more) = others.len().checked_sub(OTHERS).filter(|&more| more > 0) {
            let more = counted(more, "further row");
            html.push_str(&format!("<p class=\"note\">{more} of this prompt not compared.</p>\n"));
        }
    }
    html
}

fn pair(rows: [&Trace; 2], titles: [&str; 2], open: bool) -> String {
    let at = divergence(&rows[0].token_ids, &rows[1].token_ids);
    let heading = format!("<h3>{} and {}</h3>", escape(titles[0]), escape(titles[1]));
    let (fact, shared) = match at {
        None => (format!("the same {}", counted(rows[0].token_ids.len(), "token")), String::new()),
        Some(0) => ("differ from the first token on".into(), String::new()),
        Some(at) => {
            let start = at.saturating_sub(BEFORE);
            let lead = if start > 0 { "… " } else { "" };
            let shared = tokens(rows[0], start, at);
            (
                format!("the same for {}, part at step {at}", counted(at, "token")),
                format!("<p class=\"text shared\" dir=\"auto\">{lead}{shared}</p>"),
            )
        }
    };
    let summary = format!("{heading} <span class=\"note\">{fact}</span>");
    let columns = columns(rows, titles, at.unwrap_or(0), at.is_some());
    details(&summary, &(shared + &columns), open)
}

/// The rows from `at` on, side by side.
fn columns(rows: [&Trace; 2], titles: [&str; 2], at: usize, parted: bool) -> String {
    let column = |(row, title): (&Trace, &str)| {
        let belief = match row.steps.get(at) {
            Some(step) if parted => {
                let mode = if step.is_soft() { "fed" } else { "believed" };
                format!("<p class=\"note\">Step {at} {mode}: {}</p>", heaviest(step, 4))
            }
            _ => String::new(),
        };
        let outcome = match row.answer.is_some() || row.correct.is_some() {
            true => format!("<p>{}</p>", outcome_line(row)),
            false => String::new(),
        };
        format!(
            "<div><p class=\"phase\">{} · {}</p>{belief}<p class=\"text\" dir=\"auto\">{}</p>\
             {outcome}<p class=\"note\">{}</p></div>",
            escape(title),
            counted(row.token_ids.len(), "token"),
            rest(row, at, parted),
            stop_reason(row)
        )
    };
    let columns = rows.into_iter().zip(titles).map(column);
    format!("<div class=\"columns\">{}</div>", columns.collect::<String>())
}

/// What a row puts out from `at` on, its first token marked.
fn rest(row: &Trace, at: usize, parted: bool) -> String {
    let length = row.token_ids.len();
    if at >= length {
        return "<mark>(ends here)</mark>".into();
    }
    let end = length.min(at + AFTER);
    let more = if end < length { " …" } else { "" };
    if !parted {
        return tokens(row, at, end) + more;
    }
    format!("<mark>{}</mark>{}{more}", tokens(row, at, at + 1), tokens(row, at + 1, end))
}

/// The tokens `start..end` as text, escaped.
fn tokens(row: &Trace, start: usize, end: usize) -> String {
    let token = |at: usize| {
        let id = row.token_ids[at];
        // Steps and tokens go together, unless a record is cut short.
        let step = row.steps.get(at).filter(|step| step.token_id == id);
        match step.and_then(|step| step.token.as_deref()).filter(|token| !token.is_empty()) {
            Some(token) => escape(token).replace('\n', "↵\n"),
            None => format!(" {}", token_label(id, None)),
        }
    };
    (start..end).map(token).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_part_where_tokens_differ_or_one_ends() {
        assert_eq!(divergence(&[1, 2, 3], &[1, 2, 3]), None);
        assert_eq!(divergence(&[1, 2, 3], &[1, 9, 3]), Some(1));
        assert_eq!(divergence(&[1, 2], &[1, 2, 3]), Some(2));
        assert_eq!(divergence(&[], &[4]), Some(0));
        assert_eq!(divergence(&[], &[]), None);
    }

    fn row(ids: &[u32], mode: &str) -> Trace {
        let steps: Vec<_> = ids
            .iter()
            .map(|id| serde_json::json!({"token_id": id, "token": format!(" w{id}"), "mode": mode}))
            .collect();
        let row = serde_json::json!({"prompt_ids": [7], "token_ids": ids, "steps": steps});
        serde_json::from_value(row).unwrap()
    }

    #[test]
    fn a_soft_row_is_held_against_the_hard_one_from_where_they_part() {
        let (soft, hard) = (row(&[1, 2, 3], "soft"), row(&[1, 2, 4, 5], "hard"));
        let html = section(&[&soft, &hard], &["soft".into(), "hard".into()]);
        assert!(html.contains("<h3>hard and soft</h3>"), "{html}");
        assert!(html.contains("the same for 2 tokens, part at step 2"), "{html}");
        assert!(html.contains("> w1 w2</p>"), "{html}");
        assert!(html.contains("<mark> w4</mark> w5</p>"), "{html}");
        assert!(html.contains("<mark> w3</mark></p>"), "{html}");
    }

    #[test]
    fn rows_of_other_prompts_or_of_none_are_not_compared() {
        let other = Trace { prompt_ids: vec![8], ..row(&[1], "soft") };
        let none = Trace { prompt_ids: vec![], ..row(&[1], "soft") };
        let rows = [&row(&[1], "soft"), &other, &none, &none];
        let titles: Vec<String> = (0..4).map(|number| number.to_string()).collect();
        assert_eq!(section(&rows, &titles), "");
    }

    #[test]
    fn a_row_that_ends_first_is_said_to() {
        let html = section(&[&row(&[1], "hard"), &row(&[1, 2], "soft")], &["a".into(), "b".into()]);
        assert!(html.contains("<mark>(ends here)</mark>"), "{html}");
    }
}
