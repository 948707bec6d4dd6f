//! What the format's own library lets through is refused, and so is every cut.

use std::fs;

use safetensors::tensor::{Dtype, TensorView, serialize};

use super::*;

/// A file with this header and `data_len` zero bytes.
pub(crate) fn bytes(header: &str, data_len: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data_len, 0);
    bytes
}

fn refused(header: &str, data_len: usize) -> String {
    parse(&bytes(header, data_len)).unwrap_err()
}

fn f32_entry(name: &str, len: usize, begin: usize) -> String {
    let end = begin + 4 * len;
    format!(r#""{name}":{{"dtype":"F32","shape":[{len}],"data_offsets":[{begin},{end}]}}"#)
}

#[test]
fn a_file_of_the_library_is_read() {
    let data: Vec<u8> = [1.0f32, 2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    let view = TensorView::new(Dtype::F32, vec![2, 1], &data).unwrap();
    let whole = serialize([("a.weight", view)], None).unwrap();
    let tensors = parse(&whole).unwrap();
    assert_eq!(tensors[0].name, "a.weight");
    assert_eq!(tensors[0].shape, [2, 1]);
    assert_eq!(tensors[0].stored, Ok(StoredType::F32));
    assert_eq!(whole[tensors[0].range.clone()], data);
}

#[test]
fn a_file_cut_at_any_byte_is_refused() {
    let header = format!("{{{},{}}}", f32_entry("a", 2, 0), f32_entry("b", 3, 8));
    let whole = bytes(&header, 20);
    assert_eq!(parse(&whole).unwrap().len(), 2);
    for len in 0..whole.len() {
        assert!(parse(&whole[..len]).is_err(), "cut at {len}");
    }
    assert!(parse(&[&whole[..], &[0]].concat()).unwrap_err().contains("bytes at its end"));
}

#[test]
fn a_cut_file_on_disk_gives_one_error_with_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    fs::write(&path, bytes(&format!("{{{}}}", f32_entry("a", 2, 0)), 7)).unwrap();
    let error = open(&path).unwrap_err();
    assert_eq!(error.exit_code(), 4);
    assert_eq!(
        error.to_string(),
        format!(
            "{}: not a valid safetensors file: the header describes 8 bytes of data, the file has \
             7: it is truncated or has bytes at its end",
            path.display()
        )
    );
}

#[test]
fn what_two_readers_could_read_differently_is_refused() {
    let twice = format!(
        r#"{{{},"a":{{"dtype":"I32","shape":[2,1],"data_offsets":[0,8]}}}}"#,
        f32_entry("a", 2, 0)
    );
    assert!(refused(&twice, 8).contains("`a` occurs twice"));
    let metadata = r#"{"__metadata__":{},"__metadata__":{}}"#;
    assert!(refused(metadata, 0).contains("occurs twice"));
    let field = r#"{"a":{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}}"#;
    assert!(refused(field, 4).contains("duplicate field"));
    let extra = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"more":1}}"#;
    assert!(refused(extra, 4).contains("unknown field"));
    let overlap = format!("{{{},{}}}", f32_entry("a", 2, 0), f32_entry("b", 2, 4));
    assert!(parse(&bytes(&overlap, 12)).is_err());
    let hole = format!("{{{},{}}}", f32_entry("a", 1, 0), f32_entry("b", 1, 8));
    assert!(parse(&bytes(&hole, 12)).is_err());
}

#[test]
fn names_ranks_and_sizes_are_bounded() {
    for name in ["", "../../x", "a b", "ä", "a/b", &"x".repeat(257)] {
        let header = format!("{{{}}}", f32_entry(name, 1, 0));
        assert!(refused(&header, 4).contains("tensor name"), "{name}");
    }
    let deep = format!(
        r#"{{"a":{{"dtype":"F32","shape":[{}1],"data_offsets":[0,4]}}}}"#,
        "1,".repeat(100_000)
    );
    assert!(refused(&deep, 4).contains("100001 axes"));
    let large = r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}"#;
    assert!(refused(large, 4).contains("overflows"));
    let wrong = r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,4]}}"#;
    assert!(parse(&bytes(wrong, 4)).is_err());
}

#[test]
fn header_lengths_are_bounded() {
    let with_len = |len: u64| [&len.to_le_bytes()[..], b"{}"].concat();
    assert!(parse(&with_len(u64::MAX)).unwrap_err().contains("over the limit"));
    assert!(parse(&with_len(100_000_001)).unwrap_err().contains("over the limit"));
    assert!(parse(&with_len(3)).unwrap_err().contains("truncated"));
    assert!(parse(&bytes("[]", 0)).unwrap_err().contains("does not begin with"));
    assert!(parse(&bytes(&"[".repeat(10_000), 0)).is_err());
    assert!(parse(&with_len(2)).unwrap().is_empty());
}

#[test]
fn integers_are_known_but_have_no_float_type() {
    let header = r#"{"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}"#;
    assert_eq!(parse(&bytes(header, 8)).unwrap()[0].stored, Err("I64".to_owned()));
}
