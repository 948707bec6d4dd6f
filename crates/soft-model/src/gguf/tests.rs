//! Broken files give one error each; whole ones are read as they were written.

use std::fs;
use std::path::PathBuf;

use super::*;

/// Writes small GGUF files.
#[derive(Default)]
pub(crate) struct Builder {
    metadata: Vec<u8>,
    n_metadata: u64,
    tensors: Vec<u8>,
    n_tensors: u64,
    data: Vec<u8>,
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

impl Builder {
    fn entry(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.metadata.extend(text(key));
        self.metadata.extend(kind.to_le_bytes());
        self.metadata.extend(value);
        self.n_metadata += 1;
        self
    }

    pub(crate) fn u32(self, key: &str, value: u32) -> Self {
        self.entry(key, 4, &value.to_le_bytes())
    }

    pub(crate) fn f32(self, key: &str, value: f32) -> Self {
        self.entry(key, 6, &value.to_le_bytes())
    }

    pub(crate) fn flag(self, key: &str, value: bool) -> Self {
        self.entry(key, 7, &[u8::from(value)])
    }

    pub(crate) fn text(self, key: &str, value: &str) -> Self {
        self.entry(key, 8, &text(value))
    }

    fn list(self, key: &str, kind: u32, items: &[Vec<u8>]) -> Self {
        let mut value = kind.to_le_bytes().to_vec();
        value.extend((items.len() as u64).to_le_bytes());
        value.extend(items.concat());
        self.entry(key, 9, &value)
    }

    pub(crate) fn texts(self, key: &str, values: &[&str]) -> Self {
        let items: Vec<_> = values.iter().map(|value| text(value)).collect();
        self.list(key, 8, &items)
    }

    pub(crate) fn i32s(self, key: &str, values: &[i32]) -> Self {
        let items: Vec<_> = values.iter().map(|value| value.to_le_bytes().to_vec()).collect();
        self.list(key, 5, &items)
    }

    pub(crate) fn f32s(self, key: &str, values: &[f32]) -> Self {
        let items: Vec<_> = values.iter().map(|value| value.to_le_bytes().to_vec()).collect();
        self.list(key, 6, &items)
    }

    /// `shape` is row-major; `bytes` are stored as they are.
    pub(crate) fn tensor(mut self, name: &str, shape: &[usize], kind: u32, bytes: &[u8]) -> Self {
        self.tensors.extend(text(name));
        self.tensors.extend((shape.len() as u32).to_le_bytes());
        shape.iter().rev().for_each(|&size| self.tensors.extend((size as u64).to_le_bytes()));
        self.tensors.extend(kind.to_le_bytes());
        self.tensors.extend((self.data.len() as u64).to_le_bytes());
        self.data.extend(bytes);
        self.data.resize(self.data.len().next_multiple_of(32), 0);
        self.n_tensors += 1;
        self
    }

    pub(crate) fn f32_tensor(self, name: &str, shape: &[usize], values: &[f32]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensor(name, shape, 0, &bytes)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(self.n_tensors.to_le_bytes());
        bytes.extend(self.n_metadata.to_le_bytes());
        bytes.extend(&self.metadata);
        bytes.extend(&self.tensors);
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(&self.data);
        bytes
    }

    pub(crate) fn open(&self) -> Result<Gguf, Error> {
        opened(&self.bytes())
    }
}

fn opened(bytes: &[u8]) -> Result<Gguf, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    fs::write(&path, bytes).unwrap();
    Gguf::open(&path)
}

fn refused(bytes: &[u8]) -> String {
    parse(&PathBuf::from("m.gguf"), bytes).unwrap_err().to_string()
}

fn small() -> Builder {
    Builder::default()
        .text("general.architecture", "llama")
        .u32("llama.block_count", 2)
        .f32("eps", 1e-5)
        .texts("tokens", &["a", "bc"])
        .f32_tensor("t", &[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
        .tensor("q", &[1, 32], 3, &[0; 20])
}

#[test]
fn a_file_is_read_as_it_was_written() {
    let gguf = small().open().unwrap();
    assert_eq!(gguf.text("general.architecture"), Some("llama"));
    assert_eq!(gguf.get("llama.block_count"), Some(&GgufValue::Unsigned(2)));
    assert_eq!(gguf.get("eps"), Some(&GgufValue::Float(1e-5)));
    assert_eq!(gguf.get("tokens"), Some(&GgufValue::Texts(vec!["a".into(), "bc".into()])));
    let tensor = &gguf.tensors()["t"];
    assert_eq!(tensor.shape, [2, 3]);
    assert_eq!(gguf.file()[tensor.range.clone()][4..8], 1.0f32.to_le_bytes());
    assert_eq!(gguf.tensors()["q"].stored, StoredType::Q4_1);
}

#[test]
fn a_file_cut_at_any_byte_is_refused() {
    let bytes = small().bytes();
    // The last 12 bytes only fill up the alignment of the last tensor.
    for len in 0..bytes.len() - 12 {
        let error = parse(&PathBuf::from("m.gguf"), &bytes[..len]).unwrap_err();
        assert!(matches!(error, Error::Format { .. }), "{len}: {error}");
    }
}

#[test]
fn a_flip_of_any_byte_ends_in_a_result() {
    let bytes = small().bytes();
    for at in 0..bytes.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut broken = bytes.clone();
            broken[at] = value;
            let _ = parse(&PathBuf::from("m.gguf"), &broken);
        }
    }
}

#[test]
fn an_unknown_type_is_named_with_its_tensor() {
    let error = refused(&Builder::default().tensor("w", &[1, 256], 10, &[0; 84]).bytes());
    assert_eq!(
        error,
        "m.gguf: tensor `w` has type 10 (Q2_K); supported are F32, F16, BF16, F64, Q4_0, Q4_1, \
         Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K"
    );
    let error = refused(&Builder::default().tensor("w", &[1], 99, &[0; 4]).bytes());
    assert!(error.contains("type 99 (unknown)"), "{error}");
}

#[test]
fn absurd_headers_are_refused_before_anything_is_allocated() {
    assert!(refused(b"").contains("truncated"));
    assert!(refused(b"PK\x03\x04aaaaaaaa").contains("magic"));
    assert!(refused(b"GGUF\x07\0\0\0").contains("version is 7"));
    assert!(refused(b"GGUF\0\0\0\x03").contains("big-endian"));
    assert!(refused(b"GGUF\0\0\0\0").contains("version is 0"));
    let counts = [&b"GGUF\x03\0\0\0"[..], &[0xff; 16]].concat();
    assert!(refused(&counts).contains("18446744073709551615 tensors"));
    let alignment = small().u32("general.alignment", 3).bytes();
    assert!(refused(&alignment).contains("general.alignment"));
    let huge = Builder::default().tensor("w", &[1 << 40, 1 << 40], 0, &[]).bytes();
    assert!(refused(&huge).contains("too large"));
    let outside = Builder::default().tensor("w", &[1 << 20], 0, &[0; 32]).bytes();
    assert!(refused(&outside).contains("truncated or corrupt"));
    let broken_rows = Builder::default().tensor("w", &[32, 3], 8, &[0; 102]).bytes();
    assert!(refused(&broken_rows).contains("needs multiples of 32"));
    let twice = small().f32_tensor("t", &[1], &[0.0]).bytes();
    assert!(refused(&twice).contains("`t` occurs twice"));
    let named = Builder::default().f32_tensor(&"n".repeat(257), &[1], &[0.0]).bytes();
    assert!(refused(&named).contains("a tensor name has 257 bytes, at most 256"));
    let key_twice = small().u32("eps", 1).bytes();
    assert!(refused(&key_twice).contains("`eps` occurs twice"));
    let nested = small().entry("n", 9, &[[9, 0, 0, 0].as_slice(), &[1; 8]].concat()).bytes();
    assert!(refused(&nested).contains("list of lists"));
    let long = [&0u32.to_le_bytes()[..], &(1u64 << 25).to_le_bytes(), &[0; 1 << 25]].concat();
    let long = Builder::default().entry("n", 9, &long).bytes();
    assert!(refused(&long).contains("list `n` has 33554432 items, at most 16777216"));
}

#[test]
fn quantised_tensors_are_whole_blocks_of_whole_rows() {
    // Number in GGML, weights and bytes of a block.
    let types = [
        (2, 32, 18),
        (3, 32, 20),
        (6, 32, 22),
        (7, 32, 24),
        (8, 32, 34),
        (12, 256, 144),
        (13, 256, 176),
        (14, 256, 210),
    ];
    for (kind, len, bytes) in types {
        let whole = Builder::default().tensor("w", &[3, 2 * len], kind, &vec![0; 6 * bytes]);
        let gguf = whole.open().unwrap();
        assert_eq!(gguf.tensors()["w"].range.len(), 6 * bytes, "type {kind}");
        let short = Builder::default().tensor("w", &[3, 2 * len], kind, &vec![0; 6 * bytes - 32]);
        assert!(refused(&short.bytes()).contains("it is truncated or corrupt"), "type {kind}");
        // As many weights as two blocks have, but in rows that end within one.
        let rows = Builder::default().tensor("w", &[4, len / 2], kind, &vec![0; 2 * bytes]);
        let expected = format!("has rows of {}, ", len / 2);
        let message = refused(&rows.bytes());
        assert!(message.contains(&expected), "type {kind}: {message}");
        assert!(message.contains(&format!("needs multiples of {len}")), "type {kind}: {message}");
    }
}
