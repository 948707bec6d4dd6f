//! Finding the answer in what a model wrote, and comparing it with the right one.

use regex::Regex;

use crate::config::{Eval, ExtractKind};
use crate::error::Error;

/// How an answer is found.
#[derive(Debug, Clone)]
pub enum Extractor {
    /// The whole text, blanks aside.
    Exact,
    /// The last number.
    LastNumber,
    /// The last letter that stands alone.
    Choice,
    /// The last match of a pattern: its first group where it has one.
    Regex(Regex),
}

impl Extractor {
    /// The extractor of a configuration.
    ///
    /// # Errors
    /// A pattern that is no regular expression.
    pub fn new(eval: &Eval) -> Result<Self, Error> {
        Ok(match eval.extract {
            ExtractKind::Exact => Self::Exact,
            ExtractKind::LastNumber => Self::LastNumber,
            ExtractKind::Choice => Self::Choice,
            ExtractKind::Regex => {
                Self::Regex(Regex::new(&eval.pattern).map_err(|error| Error::Config {
                    report: format!("`eval.pattern` is no regular expression: {error}"),
                })?)
            }
        })
    }

    /// The answer in a text. For numbers and letters, what stands in the last `\boxed{..}` or
    /// after the last `####` comes before all else.
    #[must_use]
    pub fn extract(&self, text: &str) -> Option<String> {
        let marked =
            |find: fn(&str) -> Option<String>| marked(text).and_then(find).or_else(|| find(text));
        match self {
            Self::Exact => {
                let folded = text.split_whitespace().collect::<Vec<_>>().join(" ");
                (!folded.is_empty()).then_some(folded)
            }
            Self::LastNumber => marked(last_number),
            Self::Choice => marked(last_letter),
            Self::Regex(pattern) => {
                let found = pattern.captures_iter(text).last()?;
                let group = found.get(1).or_else(|| found.get(0))?;
                Some(group.as_str().trim().to_owned())
            }
        }
    }

    /// The right answer as [`Extractor::extract`] would give it: a file may say "18 dollars".
    #[must_use]
    pub fn expected(&self, answer: &str) -> String {
        match self {
            Self::Exact => answer.split_whitespace().collect::<Vec<_>>().join(" "),
            Self::LastNumber => self.extract(answer).unwrap_or_else(|| answer.to_owned()),
            Self::Choice if answer.trim().len() == 1 => answer.trim().to_uppercase(),
            Self::Choice => self.extract(answer).unwrap_or_else(|| answer.to_owned()),
            Self::Regex(_) => answer.trim().to_owned(),
        }
    }

    /// Whether two answers are the same: numbers as numbers, letters in either case.
    #[must_use]
    pub fn same(&self, a: &str, b: &str) -> bool {
        let (a, b) = (a.trim(), b.trim());
        match (self, number(a), number(b)) {
            (Self::LastNumber | Self::Regex(_), Some(a), Some(b)) => a == b,
            (Self::Choice, ..) => a.eq_ignore_ascii_case(b),
            _ => a == b,
        }
    }

    /// Place of the vote that wins: the first with the most frequent answer, of equally frequent
    /// ones the earliest. Votes without an answer count only where none has one.
    #[must_use]
    pub fn majority(&self, answers: &[Option<String>]) -> usize {
        let count = |answer: &str| {
            answers.iter().flatten().filter(|other| self.same(answer, other)).count()
        };
        let mut best = (0, 0);
        for (place, answer) in answers.iter().enumerate() {
            let votes = answer.as_deref().map_or(0, count);
            if votes > best.1 {
                best = (place, votes);
            }
        }
        best.0
    }
}

/// What stands in the last `\boxed{..}`, or after the last `####` of a text.
fn marked(text: &str) -> Option<&str> {
    if let Some((_, after)) = text.rsplit_once("\\boxed{") {
        let mut depth = 1;
        let end = after.find(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            depth == 0
        });
        return Some(&after[..end.unwrap_or(after.len())]);
    }
    let (_, after) = text.rsplit_once("####")?;
    after.trim_start().lines().next()
}

/// The last number: digits that no letter touches, with a sign, thousands separators, a fraction.
fn last_number(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let is_word = |at: Option<usize>| {
        at.and_then(|at| bytes.get(at)).is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_')
    };
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if !bytes[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let start = at;
        while at < bytes.len() && continues_number(bytes, at) {
            at += 1;
        }
        // A unit after the digits is no harm ("16mL"), a letter before them is a name ("x2").
        if !is_word(start.checked_sub(1)) {
            found.push(start..at);
        }
    }
    // Of "12.05.2024" and the like nothing is a number; the one before it may be.
    found.into_iter().rev().find_map(|range| signed(text, range))
}

/// The number at `range` with the sign before it.
fn signed(text: &str, range: std::ops::Range<usize>) -> Option<String> {
    let before = &text[..range.start];
    let point = before.strip_suffix('.').filter(|rest| !rest.ends_with(char::is_alphanumeric));
    let before = point.unwrap_or(before);
    let before = before.strip_suffix('$').unwrap_or(before);
    let head = before.strip_suffix(['-', '\u{2212}']);
    // "9-5" is a difference, "is -5" a negative number.
    let negative =
        head.is_some_and(|head| !head.ends_with(|c: char| c.is_alphanumeric() || c == ')'));
    let digits = text[range].replace(',', "");
    let sign = if negative { "-" } else { "" };
    let point = if point.is_some() { "0." } else { "" };
    number(&format!("{sign}{point}{digits}"))
}

/// Whether the byte at `at`, after a digit, belongs to the same number.
fn continues_number(bytes: &[u8], at: usize) -> bool {
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    match bytes[at] {
        b'0'..=b'9' => true,
        b'.' => digit(at + 1),
        b',' => (1..=3).all(|step| digit(at + step)) && !digit(at + 4),
        _ => false,
    }
}

/// A number in one spelling: no separators, no `+`, no zeros that say nothing.
fn number(text: &str) -> Option<String> {
    let text = text.trim().trim_end_matches(['%', '.']).replace([',', '$'], "");
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(&text)),
    };
    let (whole, part) = rest.split_once('.').unwrap_or((rest, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + part.len() == 0 || !is_digits(whole) || !is_digits(part) {
        return None;
    }
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        whole => whole,
    };
    let part = part.trim_end_matches('0');
    let point = if part.is_empty() { "" } else { "." };
    let sign = if whole == "0" && part.is_empty() { "" } else { sign };
    Some(format!("{sign}{whole}{point}{part}"))
}

/// The last letter from A to J that stands alone; one in brackets before all others.
fn last_letter(text: &str) -> Option<String> {
    let letters: Vec<(usize, char)> = text.char_indices().collect();
    let alone = |place: usize| {
        let is_word = |at: Option<&(usize, char)>| at.is_some_and(|(_, c)| c.is_alphanumeric());
        !is_word(place.checked_sub(1).and_then(|at| letters.get(at)))
            && !is_word(letters.get(place + 1))
            && letters.get(place + 1).is_none_or(|(_, c)| *c != '\'')
    };
    // "I hope", "A bird": a word of a sentence, not a choice.
    let is_word = |place: usize| {
        matches!(letters[place].1, 'A' | 'I')
            && letters.get(place + 1).is_some_and(|(_, c)| *c == ' ')
            && letters.get(place + 2).is_some_and(|(_, c)| c.is_lowercase())
    };
    let places: Vec<usize> = (0..letters.len())
        .filter(|&place| ('A'..='J').contains(&letters[place].1) && alone(place) && !is_word(place))
        .collect();
    let bracketed = |place: &&usize| letters.get(**place + 1).is_some_and(|(_, c)| *c == ')');
    let place = places.iter().rev().find(bracketed).or(places.last())?;
    Some(letters[*place].1.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eval(extract: ExtractKind, pattern: &str) -> Eval {
        Eval { extract, pattern: pattern.into(), ..Eval::default() }
    }

    #[test]
    fn the_last_number_is_found_as_people_write_numbers() {
        for (text, expected) in [
            ("They have 9 + 4 = 13 toys.", "13"),
            ("so $1,234.50.", "1234.5"),
            ("= -5", "-5"),
            ("it is 9-5", "5"),
            ("1,300 or 1300.0", "1300"),
            ("about 50%", "50"),
            ("16mL", "16"),
            ("the 3rd of x2", "3"),
            ("4, 5, 6", "6"),
            ("a) 12,34", "34"),
            ("\\boxed{7} and then 8", "7"),
            ("9\n#### 11\n12", "11"),
            ("007", "7"),
            ("-$20", "-20"),
            ("\u{2212}3", "-3"),
            ("the answer is -5.", "-5"),
            ("so .5", "0.5"),
            ("7 on 12.05.2024", "7"),
            ("\\boxed{\\frac{1}{24}}", "24"),
        ] {
            let found = Extractor::LastNumber.extract(text);
            assert_eq!(found.as_deref(), Some(expected), "{text}");
        }
        assert_eq!(Extractor::LastNumber.extract("none at all, x2"), None);
    }

    #[test]
    fn letters_texts_and_patterns() {
        let letter = |text: &str| Extractor::Choice.extract(text);
        assert_eq!(letter("The answer is (B), A said."), Some("B".into()));
        assert_eq!(letter("A or C. So C"), Some("C".into()));
        assert_eq!(letter("BAD Idea"), None);
        assert_eq!(letter("The answer is C. I hope A bird helps."), Some("C".into()));
        assert_eq!(letter("\\boxed{D} (A)"), Some("D".into()));
        assert_eq!(Extractor::Exact.extract(" a \n b "), Some("a b".into()));
        assert_eq!(Extractor::Exact.extract(" \n"), None);
        let last = Extractor::new(&eval(ExtractKind::Regex, "x=(\\d+)")).expect("it compiles");
        assert_eq!(last.extract("x=1, x=02"), Some("02".into()));
        assert!(last.same("02", "2") && !last.same("2", "3"));
        let error = Extractor::new(&eval(ExtractKind::Regex, "(")).expect_err("unclosed");
        assert!(error.to_string().contains("`eval.pattern` is no regular expression"));
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        let same = |a, b| Extractor::LastNumber.same(a, b);
        assert!(same("13", "13.0") && same("1,300", "1300") && same("-0", "0") && same("+4", "4"));
        assert!(!same("13", "-13") && !same("0.1", "0.10000000000000001") && same("$5", "5"));
        assert!(Extractor::Choice.same("b", "B") && !Extractor::Exact.same("b", "B"));
    }

    #[test]
    fn the_most_frequent_answer_wins_and_one_vote_is_itself() {
        let majority = |answers: &[&str]| {
            let answer = |a: &&str| (!a.is_empty()).then(|| (*a).to_owned());
            Extractor::LastNumber.majority(&answers.iter().map(answer).collect::<Vec<_>>())
        };
        assert_eq!(majority(&["7"]), 0);
        assert_eq!(majority(&["", ""]), 0);
        assert_eq!(majority(&["", "", "3"]), 2);
        assert_eq!(majority(&["1", "2.0", "2"]), 1);
        assert_eq!(majority(&["1", "2", "2", "1"]), 0, "the earliest of equals");
    }
}
