//! Repetition in templates: `[1] * 100000000` is made in no time, and costs gigabytes once it is
//! turned into text, which the library charges for only afterwards, or at compile time not at all.

/// A string may be repeated by a number of at most this.
const MOST: u64 = 10_000;

/// What stands beside a `*`.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Operand {
    Text,
    Number(u64),
    Other,
}

/// Refuses a `*` that may repeat a list: one that is not of two numbers, or of a string literal and
/// something that is no large number. No published template that we know multiplies.
pub(super) fn check(source: &str) -> Result<(), String> {
    let mut rest = source;
    while let Some(at) = rest.find("{{").into_iter().chain(rest.find("{%")).min() {
        let end = if rest[at..].starts_with("{{") { "}}" } else { "%}" };
        let line = || source[..source.len() - rest.len() + at].matches('\n').count() + 1;
        rest = check_code(&rest[at + 2..], end).map_err(|()| {
            format!(
                "line {}: `*` that may repeat a list, which could fill the memory; expected it \
                 between numbers, or with a string literal and a number of at most {MOST}",
                line()
            )
        })?;
    }
    Ok(())
}

/// Reads up to `end` and gives what follows it.
fn check_code<'a>(code: &'a str, end: &str) -> Result<&'a str, ()> {
    let mut rest = code;
    let mut before = Operand::Other;
    loop {
        rest = rest.trim_start();
        let Some(first) = rest.chars().next() else { return Ok("") };
        if let Some(after) = rest.strip_prefix(end) {
            return Ok(after);
        }
        if let Some(after) = rest.strip_prefix("**") {
            (rest, before) = (after, Operand::Other);
        } else if let Some(after) = rest.strip_prefix('*') {
            let (by, after) = operand(after.trim_start());
            // What it makes stands before the next.
            before = match (before, by) {
                (Operand::Number(a), Operand::Number(b)) => Operand::Number(a.saturating_mul(b)),
                (Operand::Text, Operand::Number(n)) | (Operand::Number(n), Operand::Text)
                    if n <= MOST =>
                {
                    Operand::Other
                }
                (Operand::Text, Operand::Other) | (Operand::Other, Operand::Text) => Operand::Other,
                _ => return Err(()),
            };
            rest = after;
        } else if first.is_alphanumeric() || matches!(first, '_' | '\'' | '"') {
            (before, rest) = operand(rest);
        } else {
            (rest, before) = (&rest[first.len_utf8()..], Operand::Other);
        }
    }
}

/// The literal or name that a text begins with, and what follows it.
fn operand(text: &str) -> (Operand, &str) {
    match text.chars().next() {
        Some(quote @ ('\'' | '"')) => {
            let mut escaped = false;
            let closes = |letter: char| {
                let closes = letter == quote && !escaped;
                escaped = letter == '\\' && !escaped;
                closes
            };
            match text[1..].find(closes) {
                Some(at) => (Operand::Text, &text[at + 2..]),
                None => (Operand::Text, ""),
            }
        }
        Some(first) if first.is_alphanumeric() || first == '_' => {
            let word = |letter: char| letter.is_alphanumeric() || letter == '_';
            let end = text.find(|letter| !word(letter)).unwrap_or(text.len());
            let operand = match first.is_ascii_digit() {
                // Too large for 64 bits is too large.
                true => Operand::Number(text[..end].replace('_', "").parse().unwrap_or(u64::MAX)),
                false => Operand::Other,
            };
            (operand, &text[end..])
        }
        _ => (Operand::Other, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t24_a_list_is_not_repeated() {
        for source in [
            "{{ [1] * 100000000 }}",
            "{{ 100000000*[1] }}",
            "{% set a = messages * 9 %}",
            "\n\n{{ a['x'] * 9 }}",
            "{{ 'a' * 10001 }}",
            "{{ 'a' * 9999 * 9999 }}",
            "{{ 9999 * 9999 * 'a' }}",
            "{{ 99999999999999999999 * 'a' }}",
            "{{ ('a') * 9 }}",
            "{{ '}}' }}{{ x * y }}",
            r"{{ 'it\'s' ~ x * 2 }}",
        ] {
            let problem = check(source).expect_err(source);
            let line = if source.starts_with('\n') { 3 } else { 1 };
            assert!(problem.starts_with(&format!("line {line}: `*`")), "{problem}");
        }
    }

    #[test]
    fn what_repeats_no_list_passes() {
        for source in [
            "a * b",
            "{{ '=' * 40 }}{{ 40*'=' }}{{ '-' * width }}",
            "{{ 2 * 3 + 1_000 * 2 }}{{ 2 ** 8 }}{{ x ** y }}",
            "{{ '* ' ~ \"**\" }} * {% if a %} * {% endif %}",
            r"{{ 'it\'s *' }}",
            "{{ 'open",
            "{% ",
        ] {
            assert_eq!(check(source), Ok(()), "{source}");
        }
    }
}
