//! `soft data check` from the outside.

use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_soft")).args(arguments).output().expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

#[test]
fn data_check_shows_masks_and_ends_with_3_at_a_bad_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.jsonl");
    let write = |text: &str| std::fs::write(&path, text).unwrap();
    let file = path.to_str().unwrap();
    write("{\"ids\": [7, 8, 9], \"soft\": [0, 1, 0]}\n\n{\"ids\": [1, 2]}\n");
    let page = text(&run(&["data", "check", file]).stdout);
    assert!(page.contains("line 1: 3 tokens, 2 trained, 1 soft\n7 {{8}} [[9]]\n"), "{page}");
    assert!(
        page.contains("lines      3: 2 good, 0 bad, 0 too long and dropped, 1 blank"),
        "{page}"
    );
    // 3 of 2 x 2 cells, or of one row of 3.
    let page = text(&run(&["data", "check", file, "train.micro_batch=2", "data.pack=8"]).stdout);
    let rows = "rows       75.0% full in batches of 2 examples; packed in rows of 8: 100.0%";
    assert!(page.contains(rows), "{page}");
    write("{\"ids\": [7, 8, 9]}\n{\"ids\": 5}\n");
    let output = run(&["data", "check", file, "--json"]);
    assert_eq!(output.status.code(), Some(3));
    let found = serde_json::from_str::<serde_json::Value>(&text(&output.stdout)).unwrap();
    assert_eq!((&found["bad"]["count"], &found["trained_tokens"]), (&1.into(), &2.into()));
    assert_eq!((&found["bad"]["first"][0]["line"], &found["format"]), (&2.into(), &"ids".into()));
    assert_eq!((&found["rows"]["full"], &found["rows"]["packed"]), (&1.0.into(), &().into()));
    let skipped = text(&run(&["data", "check", file, "data.bad_lines=skip"]).stdout);
    assert!(skipped.contains("data.jsonl:2:2: `ids` is a number"), "{skipped}");
    write("{\"prompt\": \"2+3?\", \"completion\": \"It is 5.\"}\n");
    let output = run(&["data", "check", file]);
    let message = text(&output.stderr);
    assert!(output.status.code() == Some(2) && message.contains("--model"), "{message}");
}
