//! `soft report` from outside: where the page lies, and how broken input ends.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const ROW: &str =
    r#"{"trace_version": 1, "token_ids": [5], "steps": [{"token_id": 5, "token": "</script>"}]}"#;

fn report(arguments: &[&Path]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_soft"));
    command.arg("report").args(arguments).output().expect("the program starts")
}

/// The exit code and the two outputs.
fn ended(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_page_lies_beside_its_trace_or_where_it_is_asked_to() {
    let folder = tempfile::tempdir().unwrap();
    let (trace, elsewhere) = (folder.path().join("t.jsonl"), folder.path().join("x.html"));
    fs::write(&trace, ROW).unwrap();
    let (code, out, _) = ended(&report(&[&trace]));
    assert_eq!((code, out), (Some(0), folder.path().join("t.html").display().to_string()));
    let page = fs::read_to_string(folder.path().join("t.html")).unwrap();
    assert!(page.contains("&lt;/script&gt;") && !page.contains("</script>"), "{page}");
    let (code, out, _) = ended(&report(&[&trace, Path::new("-o"), &elsewhere]));
    assert_eq!((code, out), (Some(0), elsewhere.display().to_string()));
}

#[test]
fn a_run_directory_holds_its_report() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("traces.jsonl"), ROW).unwrap();
    let (code, out, _) = ended(&report(&[folder.path()]));
    assert_eq!((code, out), (Some(0), folder.path().join("report.html").display().to_string()));
}

#[test]
fn a_broken_trace_is_3_and_leaves_no_page() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("t.jsonl");
    fs::write(&trace, format!("{ROW}\n{{\"trace_version\": 1,\n")).unwrap();
    let (code, out, error) = ended(&report(&[&trace]));
    assert_eq!((code, out.as_str()), (Some(3), ""));
    assert!(error.starts_with(&format!("error: {}:2:20: broken JSON", trace.display())), "{error}");
    assert!(!folder.path().join("t.html").exists());
}

#[test]
fn a_page_that_cannot_be_written_is_7_and_one_over_its_trace_is_2() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("t.html");
    fs::write(&trace, ROW).unwrap();
    let absent = folder.path().join("absent/x.html");
    let (code, _, error) = ended(&report(&[&trace, Path::new("-o"), &absent]));
    assert_eq!(code, Some(7), "{error}");
    let (code, _, error) = ended(&report(&[&trace]));
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("would overwrite"), "{error}");
    assert_eq!(fs::read_to_string(&trace).unwrap(), ROW);
}
