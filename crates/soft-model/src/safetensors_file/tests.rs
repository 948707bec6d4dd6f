//! T20: what the format's own library lets through is refused, and so is every cut.

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
fn t20_a_file_cut_at_any_byte_is_refused() {
    let header = format!("{{{},{}}}", f32_entry("a", 2, 0), f32_entry("b", 3, 8));
    let whole = bytes(&header, 20);
    assert_eq!(parse(&whole).unwrap().len(), 2);
    for len in 0..whole.len() {
        assert!(parse(&whole[..len]).is_err(), "cut at {len}");
    }
    assert!(parse(&[&whole[..], &[0]].concat()).unwrap_err().contains("bytes at its end"));
}

#[test]
fn t20_a_cut_file_on_disk_gives_one_error_with_its_path() {
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

/// An entry of any type, shape and place.
fn entry(name: &str, dtype: &str, shape: &str, [begin, end]: [usize; 2]) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
}

/// The table of what the format's library makes of each, in `RELIABILITY.md`.
#[test]
fn t20_every_row_of_the_table_is_refused() {
    let two = |first: &str, second: &str| format!("{{{first},{second}}}");
    let a = entry("a", "F32", "[2]", [0, 8]);
    // Header, bytes of data, what is said.
    let rows = [
        (two(&a, &entry("a", "F32", "[2,1]", [0, 8])), 8, "`a` occurs twice"),
        (two(&a, &entry("a", "I32", "[2]", [0, 8])), 8, "`a` occurs twice"),
        (two(&a, &entry("a", "F32", "[2]", [8, 16])), 16, "`a` occurs twice"),
        (r#"{"__metadata__":{},"__metadata__":{}}"#.into(), 0, "`__metadata__` occurs twice"),
        (
            r#"{"a":{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}}"#.into(),
            4,
            "duplicate field",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"more":1}}"#.into(),
            4,
            "unknown field `more`",
        ),
        (two(&a, &entry("b", "F32", "[2]", [4, 12])), 12, "offset"),
        (two(&a, &entry("b", "F32", "[1]", [12, 16])), 16, "offset"),
        (format!("{{{a}}}"), 9, "bytes at its end"),
        (format!("{{{a}}}"), 7, "truncated"),
        (format!("{{{}}}", entry("a", "F13", "[2]", [0, 8])), 8, "unknown variant `F13`"),
        (r#"{"__metadata__":{"format":1}}"#.into(), 0, "expected a string"),
        (format!("{{{}}}", entry("", "F32", "[2]", [0, 8])), 8, "tensor name \"\""),
        (format!("{{{}}}", entry("../../x", "F32", "[2]", [0, 8])), 8, "tensor name"),
        (
            format!("{{{}}}", entry("a", "F32", &format!("[{}2]", "1,".repeat(100_000)), [0, 8])),
            8,
            "100001 axes, at most 8",
        ),
    ];
    for (header, data_len, expected) in rows {
        let found = refused(&header, data_len);
        let shown: String = header.chars().take(120).collect();
        assert!(found.to_lowercase().contains(&expected.to_lowercase()), "{shown}: {found}");
    }
}

#[test]
fn t20_names_are_of_the_known_pattern() {
    let header = |name: &str| format!("{{{}}}", f32_entry(name, 1, 0));
    for name in ["a b", "ä", "a/b", "a\\\\b", "a\\u0000", "a:b", "..\\n", &"x".repeat(257)] {
        assert!(refused(&header(name), 4).contains("tensor name"), "{name}");
    }
    let longest = "x".repeat(256);
    for name in ["a", "A.b-c_9", "...", &longest] {
        assert_eq!(parse(&bytes(&header(name), 4)).unwrap()[0].name, name);
    }
}

#[test]
fn t20_ranks_and_sizes_are_bounded() {
    let one = |shape: &str, end: usize| format!("{{{}}}", entry("a", "F32", shape, [0, end]));
    assert_eq!(parse(&bytes(&one("[1,1,1,1,1,1,1,1]", 4), 4)).unwrap()[0].shape, [1; 8]);
    assert!(refused(&one("[1,1,1,1,1,1,1,1,1]", 4), 4).contains("9 axes, at most 8"));
    for shape in ["[4294967296,4294967296]", "[18446744073709551615,2]", "[3,6148914691236517206]"]
    {
        assert!(refused(&one(shape, 4), 4).contains("overflows"), "{shape}");
    }
    // The product fits 64 bits, its bytes do not.
    for shape in ["[9223372036854775808]", "[-1]", "[1.5]", "[3]", "[18446744073709551616]"] {
        assert!(parse(&bytes(&one(shape, 4), 4)).is_err(), "{shape}");
    }
    for range in ["[8,4]", "[4,4]", "[0,18446744073709551615]", "[18446744073709551615,4]"] {
        let header = format!(r#"{{"a":{{"dtype":"F32","shape":[1],"data_offsets":{range}}}}}"#);
        assert!(parse(&bytes(&header, 4)).is_err(), "{range}");
    }
}

#[test]
fn t20_tensors_without_values_are_read_as_such() {
    let header = format!(
        "{{{},{}}}",
        entry("none", "F32", "[0,3]", [0, 0]),
        entry("scalar", "F32", "[]", [0, 4])
    );
    let tensors = parse(&bytes(&header, 4)).unwrap();
    let found: Vec<_> =
        tensors.iter().map(|tensor| (&tensor.shape[..], tensor.range.len())).collect();
    assert_eq!(found, [(&[0, 3][..], 0), (&[][..], 4)]);
}

#[test]
fn t20_header_lengths_are_bounded() {
    let with_len = |len: u64| [&len.to_le_bytes()[..], b"{}"].concat();
    assert!(parse(&with_len(u64::MAX)).unwrap_err().contains("over the limit"));
    assert!(parse(&with_len(100_000_001)).unwrap_err().contains("over the limit"));
    assert!(parse(&with_len(100_000_000)).unwrap_err().contains("truncated"));
    assert!(parse(&with_len(3)).unwrap_err().contains("truncated"));
    assert!(parse(&bytes("[]", 0)).unwrap_err().contains("does not begin with"));
    assert!(parse(&bytes(&"[".repeat(10_000), 0)).is_err());
    assert!(parse(&with_len(2)).unwrap().is_empty());
}

#[test]
fn t20_integers_are_known_but_have_no_float_type() {
    let header = r#"{"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}"#;
    assert_eq!(parse(&bytes(header, 8)).unwrap()[0].stored, Err("I64".to_owned()));
}
