//! Numbers and texts as they fit into a few columns.

use ratatui::style::Style;
use ratatui::text::{Line, Span};

/// Some four digits of a figure.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if !(1e-2..1e7).contains(&size) => format!("{value:.2e}"),
        size if size >= 1000.0 => thousands(value.round() as i64),
        size if size >= 100.0 => format!("{value:.1}"),
        size if size >= 10.0 => format!("{value:.2}"),
        size if size >= 1.0 => format!("{value:.3}"),
        _ => format!("{value:.4}"),
    }
}

/// A whole number with commas.
pub(super) fn thousands(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0 { format!("-{text}") } else { text }
}

/// Milliseconds below a second.
pub(super) fn seconds(value: f64) -> String {
    if value < 1.0 { format!("{:.1} ms", value * 1e3) } else { format!("{value:.2} s") }
}

/// Bytes in MiB or GiB.
pub(super) fn bytes(value: f64) -> String {
    let mebibytes = value / f64::from(1 << 20);
    if mebibytes < 1024.0 {
        format!("{mebibytes:.0} MiB")
    } else {
        format!("{:.2} GiB", mebibytes / 1024.0)
    }
}

/// At most `width` columns of a text.
pub(super) fn cut(text: &str, width: usize) -> String {
    if Span::raw(text).width() <= width {
        return text.to_owned();
    }
    let mut short = String::new();
    for c in text.chars() {
        if Span::raw(&short).width() + Span::raw(c.to_string()).width() + 1 > width {
            break;
        }
        short.push(c);
    }
    if width > 0 { short + "…" } else { String::new() }
}

/// Lines of at most `width` columns, broken at spaces where there are some.
pub(super) fn wrap(texts: &[(String, Style)], width: usize) -> Vec<Line<'static>> {
    let width = width.max(1);
    let (mut lines, mut line, mut used) = (Vec::new(), Vec::new(), 0);
    for (text, style) in texts {
        for (row, text) in text.replace('\t', " ").split('\n').enumerate() {
            if row > 0 {
                lines.push(Line::from(std::mem::take(&mut line)));
                used = 0;
            }
            for word in text.split_inclusive(' ') {
                let mut word = word.to_owned();
                loop {
                    let length = Span::raw(word.trim_end_matches(' ')).width();
                    if used > 0 && used + length > width {
                        lines.push(Line::from(std::mem::take(&mut line)));
                        used = 0;
                    }
                    if length <= width {
                        break;
                    }
                    // Longer than a line: broken anywhere.
                    let head = fitting(&word, width);
                    let tail = word.split_off(head);
                    lines.push(Line::from(Span::styled(word, *style)));
                    word = tail;
                }
                used += Span::raw(&word).width();
                if !word.is_empty() {
                    line.push(Span::styled(word, *style));
                }
            }
        }
    }
    if !line.is_empty() {
        lines.push(Line::from(line));
    }
    lines
}

/// Bytes of the characters that fit into `width` columns, of one at least.
fn fitting(text: &str, width: usize) -> usize {
    let mut used = 0;
    for (at, c) in text.char_indices() {
        used += Span::raw(c.to_string()).width();
        if used > width && at > 0 {
            return at;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_four_digits() {
        let values = [0.0, 0.42312, 1.2345, 12.346, 123.46, 12_345.6, 4.1e-4, 1.2e9];
        let words = values.map(number);
        let expected = ["0", "0.4231", "1.234", "12.35", "123.5", "12,346", "4.10e-4", "1.20e9"];
        assert_eq!(words, expected);
        assert_eq!(thousands(-1_234_567), "-1,234,567");
    }

    #[test]
    fn no_line_is_wider_than_asked_and_nothing_is_lost() {
        let text = "ab cd\n\nefghijklmno 漢字漢字 p ".to_owned();
        for width in 1..12 {
            let lines = wrap(&[(text.clone(), Style::new())], width);
            // A character of two columns has no place in one; spaces at the end are no matter.
            let longest = |line: &Line<'_>| {
                Span::raw(line.to_string().trim_end_matches(' ').to_owned()).width()
            };
            assert!(lines.iter().all(|line| longest(line) <= width.max(2)), "{width}: {lines:?}");
            let all: String = lines.iter().map(ToString::to_string).collect();
            assert_eq!(all, text.replace('\n', ""), "{width}");
        }
    }

    #[test]
    fn a_text_is_cut_to_its_columns() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
        assert_eq!(cut("漢字漢", 4), "漢…");
        assert_eq!(cut("abcd", 0), "");
    }
}
