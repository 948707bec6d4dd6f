//! The safetensors of a Hugging Face folder: one file, or shards with an index.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use crate::Error;
use crate::capped_file::read_capped;
use crate::mapped_file::MappedFile;
use crate::safetensors_file::{self, FileTensor};

/// Name of a checkpoint in one file.
pub(super) const SINGLE: &str = "model.safetensors";
/// Name of the list of files of a checkpoint in several.
pub(super) const INDEX: &str = "model.safetensors.index.json";
/// Largest index that is read; a million tensors take some 80 MB.
const MAX_INDEX_BYTES: u64 = 128 << 20;

/// All tensors of the folder with the file each lies in.
pub(super) fn open(folder: &Path) -> Result<Vec<(Arc<MappedFile>, FileTensor)>, Error> {
    let single = folder.join(SINGLE);
    if single.exists() {
        let (file, tensors) = safetensors_file::open(&single)?;
        return Ok(tensors.into_iter().map(|tensor| (file.clone(), tensor)).collect());
    }
    let index = folder.join(INDEX);
    if index.exists() { sharded(folder, &index) } else { Err(no_weights(folder)) }
}

/// Names what is there instead; pickles can run code and are never opened.
fn no_weights(folder: &Path) -> Error {
    let pickle = fs::read_dir(folder).ok().and_then(|entries| {
        entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| matches!(extension(path), "bin" | "pt" | "pth" | "ckpt"))
    });
    let problem = match pickle {
        Some(path) => format!(
            "no {SINGLE}, but {}: a pickle can run code and is not read; convert it with \
             `model.save_pretrained(folder, safe_serialization=True)` of transformers",
            path.file_name().unwrap_or_default().display()
        ),
        None => format!("no {SINGLE} and no {INDEX}; expected a Hugging Face model folder"),
    };
    Error::not_a_model(folder, problem)
}

fn extension(path: &Path) -> &str {
    path.extension().and_then(|extension| extension.to_str()).unwrap_or("")
}

fn sharded(folder: &Path, index: &Path) -> Result<Vec<(Arc<MappedFile>, FileTensor)>, Error> {
    let fail = |problem: String| Error::format(index, "safetensors index", problem);
    let map = read_index(index)?;
    let mut shards: Vec<&str> = map.values().map(String::as_str).collect();
    shards.sort_unstable();
    shards.dedup();
    shards.iter().try_for_each(|shard| check_plain(index, shard))?;
    let missing: Vec<&str> =
        shards.iter().copied().filter(|shard| !folder.join(shard).exists()).collect();
    if !missing.is_empty() {
        return Err(fail(format!(
            "{} of its {} shards are not in the folder: {}; download them too",
            missing.len(),
            shards.len(),
            missing.join(", ")
        )));
    }
    let mut found = HashSet::new();
    let mut tensors = Vec::new();
    for shard in shards {
        let (file, in_shard) = safetensors_file::open(&shard_path(folder, index, shard)?)?;
        for tensor in in_shard {
            match map.get(&tensor.name) {
                Some(named) if named != shard => {
                    let name = &tensor.name;
                    return Err(fail(format!("tensor `{name}` is in {shard} and in {named}")));
                }
                _ if !found.insert(tensor.name.clone()) => {
                    return Err(fail(format!("tensor `{}` is in two shards", tensor.name)));
                }
                _ => tensors.push((file.clone(), tensor)),
            }
        }
    }
    match map.iter().find(|(name, _)| !found.contains(*name)) {
        Some((name, shard)) => Err(fail(format!("tensor `{name}` is not in its shard {shard}"))),
        None => Ok(tensors),
    }
}

/// A shard is a plain file name.
fn check_plain(index: &Path, shard: &str) -> Result<(), Error> {
    let plain =
        !shard.is_empty() && shard != "." && shard != ".." && !shard.contains(['/', '\\', ':']);
    if plain && extension(Path::new(shard)) == "safetensors" {
        return Ok(());
    }
    let problem = format!("shard {shard:?}, expected a plain .safetensors file name");
    Err(Error::format(index, "safetensors index", problem))
}

/// Through links a shard may lead to the blobs of a download cache and nowhere else outside the
/// folder.
fn shard_path(folder: &Path, index: &Path, shard: &str) -> Result<PathBuf, Error> {
    let path = folder.join(shard);
    let real = path.canonicalize().map_err(|source| Error::io(&path, source))?;
    let inside = [folder.to_owned(), folder.join("../../blobs")]
        .iter()
        .filter_map(|allowed| allowed.canonicalize().ok())
        .any(|allowed| real.parent() == Some(&allowed));
    if inside {
        return Ok(path);
    }
    let problem = format!("shard {shard:?} leads out of the folder, to {}", real.display());
    Err(Error::format(index, "safetensors index", problem))
}

fn read_index(path: &Path) -> Result<HashMap<String, String>, Error> {
    let text = read_capped(path, "safetensors index", MAX_INDEX_BYTES)?;
    let index: Index = serde_json::from_slice(&text)
        .map_err(|error| Error::format(path, "safetensors index", error.to_string()))?;
    Ok(index.weight_map.0)
}

/// `total_size` is announced too; nothing is allocated by it, so it is not read.
#[derive(Deserialize)]
struct Index {
    weight_map: UniqueMap,
}

struct UniqueMap(HashMap<String, String>);

impl<'de> Deserialize<'de> for UniqueMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(UniqueVisitor)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = UniqueMap;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("an object of shard names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UniqueMap, A::Error> {
        let mut names = HashMap::new();
        while let Some((name, shard)) = map.next_entry::<String, String>()? {
            if let Some(other) = names.insert(name.clone(), shard) {
                let problem = format!("tensor `{name}` is named twice, once in {other}");
                return Err(de::Error::custom(problem));
            }
        }
        Ok(UniqueMap(names))
    }
}
