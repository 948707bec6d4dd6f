//! A Rust file with its code and its comments told apart.

/// One source file. `code` and `comments` have the layout of `text`, with the other kind (and, in
/// both, the inside of string and character literals) blanked out.
pub(super) struct Source {
    /// Path from the workspace root, with `/`.
    pub(super) name: String,
    pub(super) text: String,
    code: String,
    comments: String,
    /// For each line from 0: whether it belongs to an item under `#[cfg(test)]`.
    test_lines: Vec<bool>,
}

/// What a character of a source file is part of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

impl Source {
    pub(super) fn new(name: &str, text: &str) -> Self {
        let kinds = classify(text);
        let keep = |wanted: Kind| -> String {
            let pairs = text.chars().zip(&kinds);
            pairs.map(|(c, kind)| if c == '\n' || *kind == wanted { c } else { ' ' }).collect()
        };
        let code = keep(Kind::Code);
        let test_lines = mark_tests(&code);
        Self {
            name: name.to_owned(),
            text: text.to_owned(),
            comments: keep(Kind::Comment),
            code,
            test_lines,
        }
    }

    /// The crate of a file under `crates/NAME/src`.
    pub(super) fn package(&self) -> Option<&str> {
        let (package, rest) = self.name.strip_prefix("crates/")?.split_once('/')?;
        rest.starts_with("src/").then_some(package)
    }

    /// Whether the whole file is a test module.
    pub(super) fn is_test_file(&self) -> bool {
        let stem = self.name.trim_end_matches(".rs");
        stem.split('/').any(|part| part == "tests" || part.ends_with("_tests"))
    }

    /// Whether the line, counted from 1, belongs to an item under `#[cfg(test)]`.
    pub(super) fn is_test_line(&self, line: usize) -> bool {
        self.test_lines.get(line - 1).copied().unwrap_or(false)
    }

    /// Lines of code, counted from 1.
    pub(super) fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// Lines of comment text, counted from 1.
    pub(super) fn comment_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.comments.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

/// The kind of each character.
fn classify(text: &str) -> Vec<Kind> {
    let letters: Vec<char> = text.chars().collect();
    let mut kinds = vec![Kind::Code; letters.len()];
    let mut at = 0;
    while at < letters.len() {
        let (kind, end) = match (letters[at], letters.get(at + 1)) {
            ('/', Some('/')) => (Kind::Comment, line_end(&letters, at)),
            ('/', Some('*')) => (Kind::Comment, block_end(&letters, at)),
            ('"', _) => (Kind::Literal, quoted_end(&letters, at + 1, '"')),
            ('r', Some('"' | '#')) if starts_word(&letters, at) => raw_string(&letters, at),
            ('\'', _) if is_char_literal(&letters, at) => {
                (Kind::Literal, quoted_end(&letters, at + 1, '\''))
            }
            _ => (Kind::Code, at + 1),
        };
        kinds[at..end].fill(kind);
        at = end;
    }
    kinds
}

fn line_end(letters: &[char], at: usize) -> usize {
    (at..letters.len()).find(|place| letters[*place] == '\n').unwrap_or(letters.len())
}

/// Block comments nest in Rust.
fn block_end(letters: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at + 1 < letters.len() {
        match (letters[at], letters[at + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    letters.len()
}

fn quoted_end(letters: &[char], mut at: usize, quote: char) -> usize {
    while at < letters.len() {
        match letters[at] {
            '\\' => at += 2,
            found if found == quote => return at + 1,
            _ => at += 1,
        }
    }
    letters.len()
}

/// `r".."` and `r#".."#`; `r#name` is code.
fn raw_string(letters: &[char], at: usize) -> (Kind, usize) {
    let hashes = letters[at + 1..].iter().take_while(|letter| **letter == '#').count();
    let open = at + 1 + hashes;
    if letters.get(open) != Some(&'"') {
        return (Kind::Code, at + 1);
    }
    let closes = |place: &usize| {
        let tail = &letters[place + 1..];
        letters[*place] == '"' && tail.len() >= hashes && tail[..hashes].iter().all(|c| *c == '#')
    };
    let close = (open + 1..letters.len()).find(closes);
    (Kind::Literal, close.map_or(letters.len(), |place| place + 1 + hashes))
}

/// Whether no identifier runs into the letter at `at`; `b` of `br".."` does not count.
fn starts_word(letters: &[char], at: usize) -> bool {
    let in_word = |place: usize| letters[place].is_alphanumeric() || letters[place] == '_';
    match at {
        0 => true,
        1 => !in_word(0) || letters[0] == 'b',
        _ => !in_word(at - 1) || (letters[at - 1] == 'b' && !in_word(at - 2)),
    }
}

/// `'x'` and `'\n'`, but not the lifetime `'a`.
fn is_char_literal(letters: &[char], at: usize) -> bool {
    letters.get(at + 1) == Some(&'\\') || letters.get(at + 2) == Some(&'\'')
}

/// Marks the lines of every item that follows a `#[cfg(test)]` or `#[cfg(all(test, ..))]`.
fn mark_tests(code: &str) -> Vec<bool> {
    let lines: Vec<&str> = code.lines().collect();
    let mut marks = vec![false; lines.len()];
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at].trim_start();
        if !line.starts_with("#[cfg(test)]") && !line.starts_with("#[cfg(all(test") {
            at += 1;
            continue;
        }
        let end = item_end(&lines, at);
        marks[at..end].fill(true);
        at = end;
    }
    marks
}

/// One past the last line of the item that starts with the attribute on line `at`: the line that
/// closes its braces, or ends it with a semicolon.
fn item_end(lines: &[&str], at: usize) -> usize {
    let mut depth = 0;
    for (offset, line) in lines[at..].iter().enumerate() {
        for letter in line.chars() {
            match letter {
                '{' => depth += 1,
                '}' => depth -= 1,
                ';' if depth == 0 => return at + offset + 1,
                _ => continue,
            }
            if depth == 0 {
                return at + offset + 1;
            }
        }
    }
    lines.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        Source::new("x.rs", text).code.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_and_literals_are_no_code() {
        assert_eq!(code("a(); // b()\nc();"), "a(); c();");
        assert_eq!(code("a(/* b /* c */ d */ e)"), "a( e)");
        assert_eq!(code(r#"a("b // c", 'd', '\'', e)"#), "a( , , , e)");
        assert_eq!(code("a(r#\"b \" c\"#, br\"d\", e)"), "a( , b , e)");
    }

    #[test]
    fn a_lifetime_and_a_raw_identifier_are_code() {
        assert_eq!(code("fn f<'a>(x: &'a str) {}"), "fn f<'a>(x: &'a str) {}");
        assert_eq!(code("let r#type = 1;"), "let r#type = 1;");
    }

    #[test]
    fn a_file_knows_its_crate_and_whether_it_is_a_test() {
        let at = |name: &str| Source::new(name, "");
        assert_eq!(at("crates/soft-core/src/mix.rs").package(), Some("soft-core"));
        assert_eq!(at("crates/soft-core/benches/mix.rs").package(), None);
        assert!(at("crates/soft-core/src/mix/tests.rs").is_test_file());
        assert!(at("crates/soft-train/src/data/ids_tests.rs").is_test_file());
        assert!(!at("crates/soft-core/src/mix.rs").is_test_file());
    }

    #[test]
    fn only_the_item_under_the_attribute_is_a_test() {
        let text =
            "a\n#[cfg(test)]\nmod tests;\nb\n#[cfg(all(test, unix))]\nfn f() {\n  {}\n}\nc\n";
        let source = Source::new("x.rs", text);
        let marked: Vec<usize> = (1..=9).filter(|line| source.is_test_line(*line)).collect();
        assert_eq!(marked, [2, 3, 5, 6, 7, 8]);
    }
}
