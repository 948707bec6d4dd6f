//! Writing a checkpoint in files of bounded size, as transformers does.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{Error as IoError, ErrorKind};
use std::ops::Range;
use std::path::Path;

use serde_json::json;

use crate::weights::hf_folder::{INDEX, SINGLE};
use crate::weights::save::{NamedTensor, save_safetensors};
use crate::{Error, Weights};

/// Bytes of tensors in one file where nothing else is asked for: transformers' 5 GB.
pub const DEFAULT_SHARD_BYTES: u64 = 5_000_000_000;

/// Writes f32 tensors into a folder: `model.safetensors` where they take at most `max_bytes`, else
/// `model-00001-of-0000N.safetensors` .. and, last, `model.safetensors.index.json`, which names
/// the file of each tensor. Gives the number of files of tensors.
///
/// A file takes tensors in the order of `shapes` as long as they fit; a tensor that is larger than
/// `max_bytes` has a file of its own. `values` is asked for each tensor once and in that order,
/// and only those of one file are held at a time.
///
/// # Errors
/// A tensor that occurs twice or whose size overflows; a folder that has weights already, of which
/// a reader could take the old ones; what `values` and [`save_safetensors`] fail with. Files that
/// were written before a failure stay, but no index that names them.
pub fn save_sharded(
    folder: &Path,
    shapes: &[(String, Vec<usize>)],
    max_bytes: u64,
    mut values: impl FnMut(&str) -> Result<Vec<f32>, Error>,
) -> Result<usize, Error> {
    for there in [SINGLE, INDEX].map(|name| folder.join(name)) {
        if there.exists() {
            return Err(Error::io(&there, IoError::from(ErrorKind::AlreadyExists)));
        }
    }
    let sizes = sizes(folder, shapes)?;
    let files = split(&sizes, max_bytes);
    let count = files.len();
    let mut weight_map = BTreeMap::new();
    for (number, range) in files.into_iter().enumerate() {
        let file = match count {
            1 => SINGLE.to_owned(),
            _ => format!("model-{:05}-of-{count:05}.safetensors", number + 1),
        };
        let mut tensors = Vec::with_capacity(range.len());
        for (name, shape) in &shapes[range] {
            let (name, shape) = (name.clone(), shape.clone());
            let values = values(&name)?;
            weight_map.insert(name.clone(), file.clone());
            tensors.push(NamedTensor { name, shape, values });
        }
        save_safetensors(&folder.join(&file), &tensors)?;
    }
    if count > 1 {
        let total_size: u64 = sizes.iter().sum();
        let index = json!({"metadata": {"total_size": total_size}, "weight_map": weight_map});
        write_whole(&folder.join(INDEX), &format!("{index:#}\n"))?;
    }
    Ok(count)
}

impl Weights {
    /// Writes all tensors in f32 with [`save_sharded`], sorted by name.
    ///
    /// # Errors
    /// As [`save_sharded`]; a value that is no finite number.
    pub fn save(&self, folder: &Path, max_bytes: u64) -> Result<usize, Error> {
        let shapes: Vec<_> = self
            .names()
            .filter_map(|name| Some((name.to_owned(), self.shape(name)?.to_vec())))
            .collect();
        save_sharded(folder, &shapes, max_bytes, |name| self.f32_values(name))
    }
}

/// Bytes of each tensor in f32.
fn sizes(folder: &Path, shapes: &[(String, Vec<usize>)]) -> Result<Vec<u64>, Error> {
    let mut names = HashSet::new();
    let mut sizes = Vec::with_capacity(shapes.len());
    let mut total = 0u64;
    for (name, shape) in shapes {
        let refused =
            |problem: &str| Error::format(folder, "checkpoint", format!("`{name}` {problem}"));
        if !names.insert(name) {
            return Err(refused("occurs twice among the tensors to be written"));
        }
        let size = shape.iter().try_fold(size_of::<f32>() as u64, |size, &axis| {
            size.checked_mul(axis as u64).filter(|&size| total.checked_add(size).is_some())
        });
        let size = size.ok_or_else(|| refused(&format!("of shape {shape:?} is too large")))?;
        total += size;
        sizes.push(size);
    }
    Ok(sizes)
}

/// The tensors of each file; one file, perhaps an empty one, where they all fit.
fn split(sizes: &[u64], max_bytes: u64) -> Vec<Range<usize>> {
    let mut files = Vec::new();
    let (mut first, mut bytes) = (0, 0);
    for (index, &size) in sizes.iter().enumerate() {
        if index > first && bytes + size > max_bytes {
            files.push(first..index);
            (first, bytes) = (index, 0);
        }
        bytes += size;
    }
    files.push(first..sizes.len());
    files
}

/// By rename, so that an index that is there is a whole one.
fn write_whole(path: &Path, text: &str) -> Result<(), Error> {
    let half = path.with_extension("json.part");
    fs::write(&half, text).map_err(|source| Error::io(&half, source))?;
    fs::rename(&half, path).map_err(|source| Error::io(path, source))
}
