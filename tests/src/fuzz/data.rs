//! Lines of data, and what describes a checkpoint.

use std::path::Path;
use std::sync::OnceLock;

use serde_json::{Value, json};
use soft_model::{ChatTemplate, Tokenizer};
use soft_train::checkpoint_dir::{MANIFEST, STATE, TrainState, verify};
use soft_train::config::{Config, DataFormat, TooLong};
use soft_train::data::{Limits, Reader, Scan, TextEncoder};
use soft_train::example::{Example, Truth};

use super::{assert_short, bounded, must, sections, told, with_files};
use crate::text::{CHATML, SPECIAL, template, tokenizer};

/// Rows of the embedding, and positions, that examples must fit.
const LIMITS: Limits = Limits { vocab_size: Some(300), context: Some(64) };

/// What text needs to become examples.
struct Reading {
    config: Config,
    tokenizer: Tokenizer,
    template: ChatTemplate,
}

fn reading() -> &'static Reading {
    static READING: OnceLock<Reading> = OnceLock::new();
    READING.get_or_init(|| Reading {
        config: Config::default(),
        tokenizer: tokenizer(&SPECIAL),
        template: template(CHATML),
    })
}

/// A data file of any format: every line is an example, a bad one or blank, and is told by its
/// number; examples fit the limits; reading twice gives the same, and so does reading with line
/// ends of another system; an example that is written as ids is read as it was.
pub fn jsonl(data: &[u8]) {
    let Reading { config, tokenizer, template } = reading();
    let encoder = TextEncoder::new(config, tokenizer, Some(template), &[256]).expect("an encoder");
    for (long, format) in [(TooLong::Truncate, DataFormat::Auto), (TooLong::Error, DataFormat::Ids)]
    {
        let encoder = Some(&encoder);
        let reader = Reader { format, limits: LIMITS, long, encoder, ..Reader::default() };
        let read = |bytes: &[u8]| {
            with_files(&[("data.jsonl", bytes)], |folder| {
                told(bounded(data, || reader.scan(&folder.join("data.jsonl"))))
            })
        };
        let Some(scan) = read(data) else { continue };
        assert_scan_holds(data, &scan, &reader);
        let again = read(data).expect("it was read before");
        assert_eq!((&again.examples, &again.bad), (&scan.examples, &scan.bad));
        let returns: Vec<u8> =
            data.split_inclusive(|&byte| byte == b'\n').flat_map(returned).collect();
        let returned = read(&returns).expect("it was read before");
        assert_eq!((&returned.examples, &returned.lines), (&scan.examples, &scan.lines));
        assert_eq!(returned.bad_count, scan.bad_count);
        let written: Vec<String> = scan.examples.iter().map(|e| as_ids(e).to_string()).collect();
        let plain = Reader { format: DataFormat::Ids, limits: LIMITS, ..Reader::default() };
        let again = with_files(&[("ids.jsonl", written.join("\n").as_bytes())], |folder| {
            must("readable", plain.scan(&folder.join("ids.jsonl")))
        });
        assert_eq!(again.bad_report(), "");
        let stripped = |example: &Example| Example { answer_from: None, ..example.clone() };
        assert!(again.examples.iter().eq(&scan.examples.iter().map(stripped).collect::<Vec<_>>()));
    }
}

/// A line with the line end of another system.
fn returned(line: &[u8]) -> Vec<u8> {
    match line.strip_suffix(b"\n") {
        Some(line) => [line, b"\r\n"].concat(),
        None => line.to_vec(),
    }
}

fn assert_scan_holds(data: &[u8], scan: &Scan, reader: &Reader<'_>) {
    let lines: Vec<&[u8]> = data.split_inclusive(|&byte| byte == b'\n').collect();
    assert_eq!(scan.line_count() + scan.blank_count, lines.len(), "each line is one of three");
    assert_eq!(scan.examples.len(), scan.lines.len());
    assert!(scan.lines.is_sorted_by(|a, b| a < b));
    assert!(scan.lines.iter().all(|&line| (1..=lines.len() as u64).contains(&line)));
    for bad in &scan.bad {
        let line = lines.get(bad.line as usize - 1).expect("a line of the file");
        assert!(
            (1..=line.len() + 1).contains(&bad.column),
            "column {} of {}",
            bad.column,
            line.len()
        );
    }
    for text in scan.remarks().iter().chain([&scan.bad_report()]).filter(|text| !text.is_empty()) {
        assert_short(text);
    }
    let usable = told(scan.check(reader.limits, reader.bad_lines)).is_some();
    assert_eq!(usable, scan.bad_count == 0 && !scan.examples.is_empty());
    for example in &scan.examples {
        example.validate(300, "an example").expect("what was read is valid");
        assert!(example.len() <= 64 && !example.is_empty());
    }
}

/// An example as a line of `data.format = "ids"`.
fn as_ids(example: &Example) -> Value {
    let truth = |truth: &Truth| match truth {
        Truth::None => Value::Null,
        Truth::Token(id) => json!(id),
        Truth::Soft(pairs) => json!(pairs),
    };
    json!({
        "ids": example.input_ids,
        "soft": example.soft.iter().map(|&soft| u8::from(soft)).collect::<Vec<_>>(),
        "weight": example.weight,
        "truth": example.truth.iter().map(truth).collect::<Vec<_>>(),
    })
}

/// `manifest.json`, `state.json` and the contents of a third file, `c.bin`, of a checkpoint: what is
/// whole stays so when its manifest is written again, and is not after a change of a file that the
/// manifest names; a state that is read is written as it was.
pub fn manifest(data: &[u8]) {
    let names = [MANIFEST, STATE, "c.bin"];
    let files: Vec<(&str, &[u8])> = names.into_iter().zip(sections(data)).collect();
    with_files(&files, |folder| {
        if let Some(state) = told(bounded(data, || TrainState::read(folder))) {
            write(folder, STATE, serde_json::to_vec(&state));
            let again = must("what is written is read", TrainState::read(folder));
            assert_eq!(again, state);
            let original = files.iter().find(|(name, _)| *name == STATE).expect("it was read");
            std::fs::write(folder.join(STATE), original.1).expect("written");
        }
        let Some(manifest) = told(bounded(data, || verify(folder))) else { return };
        write(folder, MANIFEST, serde_json::to_vec(&manifest));
        if manifest.files.contains_key(MANIFEST) {
            // It names itself, with a checksum that its first wording had.
            return;
        }
        assert_eq!(told(verify(folder)).as_ref(), Some(&manifest), "what is whole stays whole");
        for name in manifest.files.keys() {
            let path = folder.join(name);
            let before = std::fs::read(&path).expect("a file of the manifest");
            std::fs::write(&path, [&before[..], b"x"].concat()).expect("written");
            assert!(told(verify(folder)).is_none(), "{name} was changed");
            std::fs::write(&path, before).expect("written");
        }
    });
}

fn write(folder: &Path, name: &str, text: serde_json::Result<Vec<u8>>) {
    std::fs::write(folder.join(name), text.expect("JSON")).expect("written");
}
