//! Text on its way into a page: escaping, labels of tokens, numbers for people.
//!
//! Tokens, prompts and names come from outside. Everything that is not written in this crate
//! goes through [`escape`], in elements and in attributes alike.

use crate::results::thousands;

/// Longest label of a token in a plot or a table, in characters.
const LABEL: usize = 14;

/// A text that a browser shows as it is: nothing in it opens a tag, ends an attribute, or turns
/// the direction of what follows. Control characters become visible, except line ends and tabs.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\n' | '\t' => safe.push(letter),
            '\x00'..='\x1f' => safe.extend(char::from_u32(0x2400 + u32::from(letter))),
            '\x7f' => safe.push('\u{2421}'),
            _ if hides_or_reorders(letter) => {
                safe.push_str(&format!("[U+{:04X}]", u32::from(letter)));
            }
            _ => safe.push(letter),
        }
    }
    safe
}

/// Later control characters, marks and overrides of direction, and characters without width or
/// picture. The joiners U+200C and U+200D stay: scripts and emoji are written with them.
fn hides_or_reorders(letter: char) -> bool {
    matches!(letter,
        '\u{80}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A token as one short word, not yet escaped: outer spaces and line ends are made visible, a
/// token without text is its number.
pub(super) fn token_label(id: u32, token: Option<&str>) -> String {
    let Some(token) = token.filter(|token| !token.is_empty()) else { return format!("#{id}") };
    let inner = token.trim_matches(' ');
    let outer = |spaces: &str| "␣".repeat(spaces.len().min(LABEL));
    let label = match token.find(inner) {
        Some(start) if !inner.is_empty() => {
            let end = start + inner.len();
            format!("{}{inner}{}", outer(&token[..start]), outer(&token[end..]))
        }
        _ => outer(token),
    };
    shortened(&label.replace('\n', "↵").replace('\t', "⇥"), LABEL)
}

/// At most `most` characters, the last of which says that there are more.
pub(super) fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// A number with about three digits that matter.
pub(super) fn figure(value: f64) -> String {
    let size = value.abs();
    match () {
        () if size == 0.0 => "0".into(),
        () if !(1e-3..1e9).contains(&size) => format!("{value:.1e}"),
        () if size >= 1000.0 && value > 0.0 => thousands(value.round() as u64),
        () if size >= 100.0 => format!("{value:.0}"),
        () if size >= 10.0 => format!("{value:.1}"),
        () if size >= 1.0 => format!("{value:.2}"),
        () => format!("{value:.3}"),
    }
}

/// [`figure`] without zeros at the end, for numbers that are round.
pub(super) fn round_figure(value: f64) -> String {
    let text = figure(value);
    match text.contains('.') && !text.contains('e') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// [`figure`], or a dash where nothing was measured.
pub(super) fn figure_or_dash(value: Option<f64>) -> String {
    value.map_or_else(|| "–".into(), figure)
}

/// The weight of a token, to three places.
pub(super) fn weight(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => figure(value),
        size if size > 0.0 && size < 5e-4 => "≈ 0".into(),
        _ => format!("{value:.3}"),
    }
}

/// A share of 1 as per cent.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// A count and its noun: `1 step`, `2,000 steps`.
pub(super) fn counted(count: usize, noun: &str) -> String {
    format!("{} {noun}{}", thousands(count as u64), if count == 1 { "" } else { "s" })
}

/// A block that opens on a click, and in print.
pub(super) fn details(summary: &str, content: &str, open: bool) -> String {
    let open = if open { " open" } else { "" };
    format!("<details{open}><summary>{summary}</summary>{content}</details>\n")
}

/// A table that scrolls sideways where the page is narrow. Cells are markup already.
pub(super) fn table(head: &[&str], rows: &[Vec<String>], class: &str) -> String {
    let cells = |tag: &str, cells: &mut dyn Iterator<Item = &str>| -> String {
        cells.map(|cell| format!("<{tag}>{cell}")).collect()
    };
    // End tags of cells and rows may be left out in HTML, and a long table has thousands.
    let head = cells("th scope=col", &mut head.iter().copied());
    let rows: String = rows
        .iter()
        .map(|row| format!("<tr>{}\n", cells("td", &mut row.iter().map(String::as_str))))
        .collect();
    format!(
        "<div class=\"wide\"><table class=\"{class}\"><thead><tr>{head}</thead>\n<tbody>{rows}</tbody></table></div>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_opens_a_tag_or_ends_an_attribute() {
        assert_eq!(escape("</script><b a='\">&"), "&lt;/script&gt;&lt;b a=&#39;&quot;&gt;&amp;");
        assert_eq!(escape("a\n\tb"), "a\n\tb");
        assert_eq!(escape("\0\x1b\r\x7f\u{9b}"), "␀␛␍␡[U+009B]");
        assert_eq!(escape("x\u{202e}y\u{2066}\u{feff}"), "x[U+202E]y[U+2066][U+FEFF]");
        assert_eq!(escape("ß 数 👩\u{200d}🚀"), "ß 数 👩\u{200d}🚀");
    }

    #[test]
    fn a_label_shows_what_a_token_hides() {
        assert_eq!(token_label(5, Some(" the")), "␣the");
        assert_eq!(token_label(5, Some("  ")), "␣␣");
        assert_eq!(token_label(5, Some("\n\n")), "↵↵");
        assert_eq!(token_label(5, Some(" a b ")), "␣a b␣");
        assert_eq!(token_label(5, None), "#5");
        assert_eq!(token_label(5, Some("")), "#5");
        assert_eq!(token_label(5, Some("abcdefghijklmnopq")).chars().count(), LABEL);
    }

    #[test]
    fn numbers_keep_about_three_digits() {
        let shown = [0.0, 12345.6, 123.4, 12.34, 1.234, 0.1234, 1e-5, -0.5, -2000.0].map(figure);
        let expected = ["0", "12,346", "123", "12.3", "1.23", "0.123", "1.0e-5", "-0.500", "-2000"];
        assert_eq!(shown, expected);
        assert_eq!([1e-6, 0.0, -0.5, 1e300].map(weight), ["≈ 0", "0.000", "-0.500", "1.0e300"]);
        assert_eq!(counted(1, "step") + &counted(2000, "step"), "1 step2,000 steps");
    }
}
