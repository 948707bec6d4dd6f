//! The header of a safetensors file, read more strictly than the format's own library does.
//!
//! The library takes the last of two tensors of one name, any rank and any name; here each of
//! them is an error, so that no two readers can see different weights in one file.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use crate::Error;
use crate::mapped_file::MappedFile;
use crate::quants::StoredType;

#[cfg(test)]
pub(crate) mod tests;

const FORMAT: &str = "safetensors";
/// The format's own limit.
const MAX_HEADER: u64 = 100_000_000;
const MAX_RANK: usize = 8;
const MAX_NAME: usize = 256;
const LEN_BYTES: usize = 8;

/// One tensor of a file; its type is `Err` with a name where it is none of the float types.
#[derive(Debug)]
pub(crate) struct FileTensor {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) stored: Result<StoredType, String>,
    /// Bytes of the file.
    pub(crate) range: Range<usize>,
}

/// Maps a file and checks its whole header.
///
/// # Errors
/// [`Error::Io`]; [`Error::Format`] for a header that is broken, ambiguous or does not fit the
/// length of the file.
pub(crate) fn open(path: &Path) -> Result<(Arc<MappedFile>, Vec<FileTensor>), Error> {
    let file = Arc::new(MappedFile::open(path)?);
    let tensors = parse(&file).map_err(|problem| Error::format(path, FORMAT, problem))?;
    Ok((file, tensors))
}

fn parse(bytes: &[u8]) -> Result<Vec<FileTensor>, String> {
    let header = header(bytes)?;
    let scan: Scan = serde_json::from_slice(header).map_err(|error| error.to_string())?;
    let data_start = LEN_BYTES + header.len();
    let data_len = (bytes.len() - data_start) as u64;
    let announced = scan.tensors.iter().map(|(_, info)| info.data_offsets.1).max().unwrap_or(0);
    if announced != data_len {
        return Err(format!(
            "the header describes {announced} bytes of data, the file has {data_len}: it is \
             truncated or has bytes at its end"
        ));
    }
    for (name, info) in &scan.tensors {
        check(name, info)?;
    }
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
    scan.tensors
        .into_iter()
        .map(|(name, _)| {
            let info = metadata.info(&name).ok_or_else(|| format!("tensor `{name}` vanished"))?;
            let (begin, end) = info.data_offsets;
            Ok(FileTensor {
                stored: stored_type(info.dtype),
                shape: info.shape.clone(),
                range: data_start + begin..data_start + end,
                name,
            })
        })
        .collect()
}

/// The JSON between the length and the data.
fn header(bytes: &[u8]) -> Result<&[u8], String> {
    let Some((len, rest)) = bytes.split_first_chunk::<LEN_BYTES>() else {
        return Err(format!("{} bytes are too few for a header", bytes.len()));
    };
    let len = u64::from_le_bytes(*len);
    if len > MAX_HEADER {
        return Err(format!("a header of {len} bytes is over the limit of {MAX_HEADER}"));
    }
    match rest.get(..len as usize) {
        Some(header) if header.first() == Some(&b'{') => Ok(header),
        Some(_) => Err("the header does not begin with `{`".to_owned()),
        None => Err(format!(
            "the header has {len} bytes, but only {} follow: the file is truncated",
            rest.len()
        )),
    }
}

/// Names that are read and written: `^[A-Za-z0-9_.\-]{1,256}$`.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    if !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(known) {
        return Ok(());
    }
    let shown: String = name.chars().take(80).collect();
    Err(format!(
        "tensor name {shown:?}, expected 1 to {MAX_NAME} of letters, digits, `_`, `.`, `-`"
    ))
}

fn check(name: &str, info: &Info) -> Result<(), String> {
    check_name(name)?;
    if info.shape.len() > MAX_RANK {
        return Err(format!("tensor `{name}` has {} axes, at most {MAX_RANK}", info.shape.len()));
    }
    let product = info.shape.iter().try_fold(1u64, |product, &size| product.checked_mul(size));
    if product.is_none() {
        return Err(format!("tensor `{name}` of shape {:?} overflows", info.shape));
    }
    Ok(())
}

fn stored_type(dtype: Dtype) -> Result<StoredType, String> {
    match dtype {
        Dtype::F64 => Ok(StoredType::F64),
        Dtype::F32 => Ok(StoredType::F32),
        Dtype::F16 => Ok(StoredType::F16),
        Dtype::BF16 => Ok(StoredType::Bf16),
        other => Err(format!("{other:?}")),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Info {
    #[expect(dead_code, reason = "checked for presence here; read by the library")]
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// The header with each tensor once; serde's own maps would keep the last of two.
struct Scan {
    tensors: Vec<(String, Info)>,
}

impl<'de> Deserialize<'de> for Scan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ScanVisitor)
    }
}

struct ScanVisitor;

impl<'de> Visitor<'de> for ScanVisitor {
    type Value = Scan;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scan, A::Error> {
        let mut tensors = Vec::new();
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if !seen.insert(key.clone()) {
                return Err(de::Error::custom(format_args!("`{key}` occurs twice")));
            }
            if key == "__metadata__" {
                map.next_value::<de::IgnoredAny>()?;
            } else {
                tensors.push((key, map.next_value()?));
            }
        }
        Ok(Scan { tensors })
    }
}
