//! Pages that the code itself writes: they are compared with what it would write now, and written
//! anew with `SOFT_UPDATE=1 cargo test -p soft-cli --test reference`.

use std::path::{Path, PathBuf};
use std::process::Command;

use soft_train::config::{Field, fields};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Fails where the file does not hold this text, at the first line that differs.
fn check(path: &Path, text: &str) {
    if std::env::var_os("SOFT_UPDATE").is_some() {
        std::fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        return;
    }
    let there = std::fs::read_to_string(path).unwrap_or_default();
    let mut lines = there.lines().zip(text.lines()).enumerate();
    if let Some((i, (there, now))) = lines.find(|(_, (there, now))| there != now) {
        panic!(
            "{}:{}: the file has\n  {there}\nand the code says\n  {now}\nSOFT_UPDATE=1 writes it anew",
            path.display(),
            i + 1
        );
    }
    assert_eq!(there.lines().count(), text.lines().count(), "{}", path.display());
}

/// A cell of a table: a bar would end it.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn row(key: &str, field: &Field) -> String {
    let default = field.default.as_ref().map_or_else(String::new, |value| format!("`{value}`"));
    let words = field.words.iter().filter(|(_, doc)| !doc.is_empty());
    let words: Vec<String> = words.map(|(word, doc)| format!("`{word}`: {doc}")).collect();
    let meaning = match words.is_empty() {
        true => field.doc.clone(),
        false => format!("{}<br>{}", field.doc, words.join("<br>")),
    };
    format!(
        "| `{key}` | {} | {} | {} |\n",
        cell(&default),
        cell(&field.kind.to_string()),
        cell(&meaning)
    )
}

#[test]
fn t31_the_page_of_settings_is_that_of_the_code() {
    let mut page = String::from(
        "# Settings\n\nEvery key of a configuration, as `soft config explain` says it. This page is \
         written by a test\n(`crates/soft-cli/tests/reference.rs`), which fails where it is not what \
         the code says.\n",
    );
    let mut keys = 0;
    for (section, doc) in &fields().sections {
        let rows: Vec<String> = fields()
            .keys
            .iter()
            .filter(|(key, _)| {
                key.strip_prefix(section.as_str()).is_some_and(|k| k.starts_with('.'))
            })
            .map(|(key, field)| row(key, field))
            .collect();
        keys += rows.len();
        page.push_str(&format!("\n## {section}\n\n{doc}\n\n"));
        page.push_str("| key | default | accepts | meaning |\n|---|---|---|---|\n");
        page.push_str(&rows.concat());
    }
    assert!(keys > 150, "only {keys} keys");
    check(&root().join("docs/settings.md"), &page);
}

#[test]
fn t49_the_help_of_every_verb_is_on_record() {
    let help = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_soft"))
            .args(words)
            .arg("--help")
            .output()
            .expect("the program starts");
        assert!(output.status.success(), "{words:?}");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        format!("$ soft {} --help\n{text}\n", words.join(" ")).replace("soft  --", "soft --")
    };
    let mut page = help(&[]);
    let verbs: Vec<String> = page
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .map_while(|line| line.split_whitespace().next().map(str::to_owned))
        .collect();
    assert!(verbs.len() > 10, "{verbs:?}");
    for verb in &verbs {
        page.push_str(&help(&[verb]));
        let inner: &[&str] = match verb.as_str() {
            "config" => &["show", "schema", "explain"],
            "data" => &["check"],
            _ => &[],
        };
        inner.iter().for_each(|inner| page.push_str(&help(&[verb, inner])));
    }
    check(&root().join("crates/soft-cli/tests/help.txt"), &page);
}
