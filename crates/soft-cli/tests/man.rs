//! `soft man`.

use std::process::Command;

#[test]
fn t49_every_verb_has_a_manual_page() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let pages = folder.path().join("man");
    let soft = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_soft")).args(arguments).output().expect("it starts")
    };
    let made = soft(&["man", pages.to_str().expect("UTF-8")]);
    assert!(made.status.success(), "{made:?}");
    for page in ["soft.1", "soft-train.1", "soft-data-check.1", "soft-export.1"] {
        let text = std::fs::read_to_string(pages.join(page)).expect(page);
        assert!(text.contains(".SH SYNOPSIS"), "{page}");
    }
    let file = folder.path().join("file");
    std::fs::write(&file, "").expect("written");
    let refused = soft(&["man", file.to_str().expect("UTF-8")]);
    assert_eq!(refused.status.code(), Some(7), "{refused:?}");
}
