use std::fs;
use std::path::PathBuf;

use crate::data::{Limits, Scan, read_ids, scan_ids};
use crate::example::{Example, Truth};

fn scan(bytes: &[u8], limits: Limits) -> (tempfile::TempDir, Scan) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("data.jsonl");
    fs::write(&path, bytes).expect("the file is written");
    let scan = scan_ids(&path, limits).expect("the file is readable");
    (dir, scan)
}

/// The place and problem of the one bad line of `line`.
fn problem_of(line: &str) -> (usize, String) {
    let (_dir, scan) = scan(line.as_bytes(), Limits { vocab_size: None, context: Some(8) });
    assert_eq!(scan.bad_count, 1, "{line} must be refused");
    (scan.bad[0].column, scan.bad[0].problem.clone())
}

#[test]
fn ids_alone_are_a_hard_line_scored_everywhere_but_at_position_0() {
    let (_dir, scan) = scan(b"{\"ids\": [1, 2, 3]}\n", Limits::default());
    assert_eq!(scan.examples, [Example::from_tokens(&[1, 2, 3], 0)]);
}

#[test]
fn all_keys_are_read_as_written() {
    let line = r#"{"ids": [1,2,3,4], "soft": [0,0,1,true], "weight": [1,0,2,0.5], "truth": [null,null,[[8,0.25],[9,0.75]],4]}"#;
    let (_dir, scan) = scan(line.as_bytes(), Limits::default());
    let example = &scan.examples[0];
    assert_eq!(example.soft, [false, false, true, true]);
    assert_eq!(example.weight, [0.0, 0.0, 2.0, 0.5], "weight[0] is ignored");
    assert_eq!(example.truth[2], Truth::Soft(vec![(8, 0.25), (9, 0.75)]));
    assert_eq!(example.truth[3], Truth::Token(4));
}

#[test]
fn without_weights_a_position_without_truth_is_not_scored() {
    let (_dir, scan) =
        scan(br#"{"ids": [1,2,3], "soft": [0,1,0], "truth": [null,null,3]}"#, Limits::default());
    assert_eq!(scan.examples[0].weight, [0.0, 0.0, 1.0]);
}

#[test]
fn marks_of_editors_and_blank_lines_change_nothing() {
    let plain = b"{\"ids\":[1,2]}\n{\"ids\":[3,4]}\n";
    let edited = b"\xef\xbb\xbf{\"ids\":[1,2]}\r\n\r\n\n{\"ids\":[3,4]}";
    let (_a, plain) = scan(plain, Limits::default());
    let (_b, edited) = scan(edited, Limits::default());
    assert_eq!((edited.bad_count, edited.blank_count), (0, 2));
    assert_eq!(plain.examples, edited.examples);
}

#[test]
fn each_kind_of_bad_line_says_what_was_found_and_expected() {
    let cases: [(&str, &str); 17] = [
        (r#"{"ids": [1, 2"#, "not valid JSON"),
        (r#"{"ids": [1, 2]} x"#, "not valid JSON"),
        (r#"{"ids": ["\ud800", 2]}"#, "not valid JSON"),
        ("[1, 2]", "found a list, expected an object"),
        (r#"{"text": "hello"}"#, "`ids` is missing; found `text`; this looks like text"),
        (r#"{"ids": [1, 2], "lable": 1}"#, "unknown key `lable`"),
        (r#"{"ids": "1 2"}"#, "`ids` is text, expected a list"),
        (r#"{"ids": [1, -2]}"#, "ids[1] is -2, expected a token id"),
        (r#"{"ids": [1, 4294967296]}"#, "ids[1] is 4294967296"),
        (r#"{"ids": [1, 2.5]}"#, "ids[1] is 2.5"),
        (r#"{"ids": []}"#, "0 token ids, expected at least 2"),
        (r#"{"ids": [1, 2], "soft": [1, 0]}"#, "soft[0] is 1, expected 0"),
        (r#"{"ids": [1, 2], "soft": [0, 2]}"#, "soft[1] is 2, expected 0 or 1"),
        (r#"{"ids": [1, 2], "weight": [0]}"#, "`weight` has 1 entries, expected 2"),
        (r#"{"ids": [1, 2], "weight": [0, 0]}"#, "no position is scored"),
        (r#"{"ids": [1, 2], "truth": [null, [[1, 0.2]]]}"#, "truth[1] sums to 0.2, expected 1"),
        (r#"{"ids": [1,1,1,1,1,1,1,1,1]}"#, "9 positions, expected at most 8"),
    ];
    for (line, expected) in cases {
        let (column, problem) = problem_of(line);
        assert!(problem.contains(expected), "{line}: {problem}");
        assert!(column >= 1 && column <= line.len() + 1, "{line}: column {column}");
    }
    assert_eq!(problem_of(r#"{"ids": [1, 2], "soft": [0, 2]}"#).0, 17, "the column of the key");
}

#[test]
fn all_bad_lines_are_counted_and_the_first_five_shown_with_their_places() {
    let text = "{\"ids\":[1,2]}\n".to_string() + &"{\"ids\":1}\n".repeat(7);
    let (dir, scan) = scan(text.as_bytes(), Limits::default());
    assert_eq!((scan.bad_count, scan.bad.len(), scan.examples.len()), (7, 5, 1));
    let error =
        read_ids(&[dir.path().join("data.jsonl")], Limits::default()).expect_err("bad lines");
    assert_eq!(error.exit_code(), 3);
    let message = error.to_string();
    assert!(message.starts_with("7 of 8 lines cannot be used:"), "{message}");
    assert!(message.contains("data.jsonl:2:2: `ids` is a number"), "{message}");
    assert!(message.ends_with("and 2 more bad lines"), "{message}");
}

#[test]
fn a_missing_or_empty_file_is_a_data_error() {
    let missing = [PathBuf::from("no/such/file.jsonl")];
    assert_eq!(read_ids(&missing, Limits::default()).expect_err("missing").exit_code(), 3);
    let (dir, _) = scan(b"\n\n", Limits::default());
    let error = read_ids(&[dir.path().join("data.jsonl")], Limits::default()).expect_err("empty");
    assert!(error.to_string().contains("no examples"), "{error}");
}

#[test]
fn ids_the_model_has_no_row_for_are_a_model_error_unless_lines_are_bad_too() {
    let limits = Limits { vocab_size: Some(5), context: None };
    let (dir, _) = scan(b"{\"ids\":[1,4]}\n{\"ids\":[1,5]}\n", limits);
    let error = read_ids(&[dir.path().join("data.jsonl")], limits).expect_err("5 of 5");
    assert_eq!(error.exit_code(), 4);
    assert!(error.to_string().contains("data.jsonl:2:2: token id 5"), "{error}");
    let (dir, _) = scan(b"{\"ids\":[1,5]}\nx\n", limits);
    let error = read_ids(&[dir.path().join("data.jsonl")], limits).expect_err("bad line");
    assert_eq!(error.exit_code(), 3);
}

#[test]
fn damaged_bytes_are_bad_lines_not_a_crash() {
    let (_dir, scan) = scan(b"{\"ids\":[1,2]}\n\xff\xfe{\n{\"ids\":\0[1]}\n", Limits::default());
    assert_eq!((scan.examples.len(), scan.bad_count), (1, 2));
    assert!(scan.bad[0].problem.contains("UTF-8"));
    assert!(scan.bad[1].problem.contains("NUL"));
}
