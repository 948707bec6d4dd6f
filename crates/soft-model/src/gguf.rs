//! GGUF, the single-file format of llama.cpp: typed metadata, then tensors, memory mapped.
//!
//! Layout (version 3, little-endian): magic, version, tensor count, metadata count; metadata as
//! key, type, value; for each tensor its name, rank, sizes (fastest first), type and offset; then
//! the data, aligned. Source: `docs/gguf.md` of ggml-org/ggml.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::Error;
use crate::gguf::reader::Reader;
use crate::mapped_file::MappedFile;
use crate::quants::StoredType;

mod reader;
#[cfg(test)]
pub(crate) mod tests;

/// Sizes of a tensor have at most this many axes in GGUF.
const MAX_RANK: usize = 4;
/// Bytes of the longest name of a tensor; llama.cpp has 64.
const MAX_NAME: usize = 256;
/// The tensor types that are read, for messages.
const SUPPORTED: &str = "F32, F16, BF16, F64, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K";

/// One metadata value; integers of all widths share a variant.
#[derive(Debug, Clone, PartialEq)]
pub enum GgufValue {
    /// An unsigned integer.
    Unsigned(u64),
    /// A signed integer.
    Signed(i64),
    /// A float of either width.
    Float(f64),
    /// A boolean.
    Bool(bool),
    /// A UTF-8 string.
    Text(String),
    /// A list of integers, of either sign.
    Integers(Vec<i64>),
    /// A list of floats.
    Floats(Vec<f64>),
    /// A list of booleans.
    Bools(Vec<bool>),
    /// A list of strings.
    Texts(Vec<String>),
}

/// Where a tensor lies in the file.
#[derive(Debug, Clone)]
pub(crate) struct GgufTensor {
    /// Sizes in row-major order, slowest first, as torch has them.
    pub(crate) shape: Vec<usize>,
    pub(crate) stored: StoredType,
    /// Bytes of the file.
    pub(crate) range: Range<usize>,
}

/// An open GGUF file: its metadata and where its tensors lie.
#[derive(Debug)]
pub struct Gguf {
    file: Arc<MappedFile>,
    metadata: BTreeMap<String, GgufValue>,
    tensors: BTreeMap<String, GgufTensor>,
}

impl Gguf {
    /// Maps a file and checks its whole header; no tensor is read yet.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Format`] for a broken header, [`Error::TensorType`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = Arc::new(MappedFile::open(path)?);
        let (metadata, tensors) = parse(path, &file)?;
        Ok(Self { file, metadata, tensors })
    }

    /// Path of the file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The value of a metadata key.
    pub fn get(&self, key: &str) -> Option<&GgufValue> {
        self.metadata.get(key)
    }

    /// A metadata string, if the key is there with that type.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.get(key) {
            Some(GgufValue::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// A metadata boolean, if the key is there with that type.
    pub fn flag(&self, key: &str) -> Option<bool> {
        match self.get(key) {
            Some(GgufValue::Bool(flag)) => Some(*flag),
            _ => None,
        }
    }

    /// A token id, if the key is there as an integer of 32 bits.
    pub(crate) fn token_id(&self, key: &str) -> Option<u32> {
        match self.get(key) {
            Some(GgufValue::Unsigned(id)) => u32::try_from(*id).ok(),
            Some(GgufValue::Signed(id)) => u32::try_from(*id).ok(),
            _ => None,
        }
    }

    pub(crate) fn file(&self) -> &Arc<MappedFile> {
        &self.file
    }

    pub(crate) fn tensors(&self) -> &BTreeMap<String, GgufTensor> {
        &self.tensors
    }
}

type Header = (BTreeMap<String, GgufValue>, BTreeMap<String, GgufTensor>);

fn parse(path: &Path, bytes: &[u8]) -> Result<Header, Error> {
    let mut reader = Reader::new(path, bytes);
    if reader.take(4, "the magic")? != b"GGUF" {
        return reader.fail("it does not begin with the magic `GGUF`");
    }
    match reader.u32("the version")? {
        2 | 3 => {}
        version if (1..=3).contains(&version.swap_bytes()) => {
            return reader.fail("it is big-endian; only little-endian files are read");
        }
        version => return reader.fail(format!("version is {version}, supported are 2 and 3")),
    }
    // A tensor entry takes at least 24 bytes, a metadata entry at least 13.
    let n_tensors = reader.count(24, "tensors")?;
    let n_metadata = reader.count(13, "metadata entries")?;
    let mut metadata = BTreeMap::new();
    for _ in 0..n_metadata {
        let key = reader.text("a metadata key")?;
        let value = reader.value(&key)?;
        if metadata.contains_key(&key) {
            return reader.fail(format!("metadata key `{key}` occurs twice"));
        }
        metadata.insert(key, value);
    }
    let mut entries = Vec::with_capacity(n_tensors);
    let mut names = HashSet::new();
    for _ in 0..n_tensors {
        let entry = tensor_entry(&mut reader)?;
        if !names.insert(entry.name.clone()) {
            return reader.fail(format!("tensor `{}` occurs twice", entry.name));
        }
        entries.push(entry);
    }
    let alignment = alignment(&metadata, &reader)?;
    let start = reader.position().next_multiple_of(alignment);
    let tensors = entries
        .into_iter()
        .map(|entry| placed(entry, start, alignment, bytes.len(), &reader))
        .collect::<Result<_, _>>()?;
    Ok((metadata, tensors))
}

fn alignment(metadata: &BTreeMap<String, GgufValue>, reader: &Reader<'_>) -> Result<usize, Error> {
    match metadata.get("general.alignment") {
        None => Ok(32),
        Some(&GgufValue::Unsigned(n)) if n.is_power_of_two() && n <= 1 << 20 => Ok(n as usize),
        Some(other) => reader.fail(format!(
            "general.alignment is {other:?}, expected a power of two of at most 1048576"
        )),
    }
}

struct Entry {
    name: String,
    shape: Vec<usize>,
    stored: StoredType,
    byte_len: usize,
    offset: u64,
}

fn tensor_entry(reader: &mut Reader<'_>) -> Result<Entry, Error> {
    let name = reader.text("a tensor name")?;
    if name.len() > MAX_NAME {
        return reader.fail(format!("a tensor name has {} bytes, at most {MAX_NAME}", name.len()));
    }
    let rank = reader.u32("a rank")? as usize;
    if !(1..=MAX_RANK).contains(&rank) {
        return reader.fail(format!("tensor `{name}` has {rank} axes, expected 1 to {MAX_RANK}"));
    }
    let mut shape = Vec::with_capacity(rank);
    for _ in 0..rank {
        let size = reader.u64("a size")?;
        match usize::try_from(size) {
            Ok(size) if size > 0 => shape.push(size),
            _ => return reader.fail(format!("tensor `{name}` has an axis of size {size}")),
        }
    }
    shape.reverse();
    let stored = stored_type(reader.u32("a type")?).map_err(|found| Error::TensorType {
        path: reader.path().to_owned(),
        tensor: name.clone(),
        found,
        supported: SUPPORTED,
    })?;
    let offset = reader.u64("an offset")?;
    let row = shape.last().copied().unwrap_or(1);
    if !row.is_multiple_of(stored.block_len()) {
        let (kind, block) = (stored.name(), stored.block_len());
        return reader
            .fail(format!("tensor `{name}` has rows of {row}, {kind} needs multiples of {block}"));
    }
    let len = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    match len.and_then(|len| stored.byte_len(len)) {
        Some(byte_len) => Ok(Entry { name, shape, stored, byte_len, offset }),
        None => reader.fail(format!("tensor `{name}` of shape {shape:?} is too large")),
    }
}

/// Checks that the tensor lies aligned and whole within the file.
fn placed(
    entry: Entry,
    start: usize,
    alignment: usize,
    file_len: usize,
    reader: &Reader<'_>,
) -> Result<(String, GgufTensor), Error> {
    let Entry { name, shape, stored, byte_len, offset } = entry;
    if !offset.is_multiple_of(alignment as u64) {
        let problem = format!("tensor `{name}` has offset {offset}, not aligned to {alignment}");
        return reader.fail(problem);
    }
    let begin = usize::try_from(offset).ok().and_then(|offset| start.checked_add(offset));
    let range = begin.and_then(|begin| Some(begin..begin.checked_add(byte_len)?));
    match range {
        Some(range) if range.end <= file_len => Ok((name, GgufTensor { shape, stored, range })),
        _ => reader.fail(format!(
            "tensor `{name}` needs {byte_len} bytes at offset {offset} of the data, which begin at \
             byte {start}, but the file has {file_len}: it is truncated or corrupt"
        )),
    }
}

/// GGML's numbering; the error names the type as well as this reader can.
fn stored_type(number: u32) -> Result<StoredType, String> {
    const NAMES: [&str; 31] = [
        "F32", "F16", "Q4_0", "Q4_1", "4", "5", "Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q2_K", "Q3_K",
        "Q4_K", "Q5_K", "Q6_K", "Q8_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S",
        "IQ2_S", "IQ4_XS", "I8", "I16", "I32", "I64", "F64", "IQ1_M", "BF16",
    ];
    match number {
        0 => Ok(StoredType::F32),
        1 => Ok(StoredType::F16),
        2 => Ok(StoredType::Q4_0),
        3 => Ok(StoredType::Q4_1),
        6 => Ok(StoredType::Q5_0),
        7 => Ok(StoredType::Q5_1),
        8 => Ok(StoredType::Q8_0),
        12 => Ok(StoredType::Q4K),
        13 => Ok(StoredType::Q5K),
        14 => Ok(StoredType::Q6K),
        28 => Ok(StoredType::F64),
        30 => Ok(StoredType::Bf16),
        other => match NAMES.get(other as usize) {
            Some(name) => Err(format!("{other} ({name})")),
            None => Err(format!("{other} (unknown)")),
        },
    }
}
