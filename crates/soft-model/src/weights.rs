//! Trained weights behind one interface, whatever file they lie in.
//!
//! Names are Hugging Face's, GPT-2's with their `transformer.` prefix. Matrices are handed out as
//! torch's `Linear` has them, `[out, in]` row-major, GPT-2's Conv1D ones (`[in, out]` in Hugging
//! Face files) included: they are transposed on reading and on writing.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Error;
use crate::config::ModelConfig;
use crate::gguf::Gguf;
use crate::mapped_file::MappedFile;
use crate::safetensors_file::{self, FileTensor};
use crate::weights::expected::embedding_name;
pub use crate::weights::expected::expected_tensors;
pub use crate::weights::save::{NamedTensor, save_safetensors};
pub use crate::weights::shards::{DEFAULT_SHARD_BYTES, save_sharded};
use crate::weights::stored::{Layout, StoredTensor};

mod expected;
mod hf_folder;
mod names;
mod save;
mod shards;
mod stored;
#[cfg(test)]
mod tests;

const OUTPUT_HEAD: &str = "lm_head.weight";

/// How many values of a tensor are no numbers; its `Display` is a line for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NonFinite {
    /// Name of the tensor.
    pub tensor: String,
    /// Values that are NaN or infinite.
    pub count: usize,
    /// All values.
    pub len: usize,
}

impl NonFinite {
    fn of(name: &str, values: &[f32]) -> Self {
        let count = values.iter().filter(|value| !value.is_finite()).count();
        Self { tensor: name.to_owned(), count, len: values.len() }
    }
}

impl fmt::Display for NonFinite {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tensor, count, len } = self;
        write!(formatter, "tensor `{tensor}`: {count} of {len} values are NaN or infinite")
    }
}

/// The tensors of a checkpoint, memory mapped; values are converted when they are asked for.
#[derive(Debug)]
pub struct Weights {
    path: PathBuf,
    tensors: BTreeMap<String, StoredTensor>,
}

impl Weights {
    /// Opens `model.safetensors`, or the shards of `model.safetensors.index.json`, in a folder.
    ///
    /// Known buffers are left out, and so is an output head that repeats a tied embedding.
    ///
    /// # Errors
    /// [`Error::NotAModel`] where there is neither (a pickle is named with a hint),
    /// [`Error::Format`] for a broken file or index, [`Error::TensorType`] for integers and
    /// floats of 8 bits.
    pub fn open_folder(folder: &Path, config: &ModelConfig) -> Result<Self, Error> {
        let mut weights = Self { path: folder.to_owned(), tensors: BTreeMap::new() };
        for (file, tensor) in hf_folder::open(folder)? {
            if let Some(name) = names::from_hf(config.family, &tensor.name) {
                let stored = from_file(file, tensor, &name)?;
                weights.insert(name, stored)?;
            }
        }
        weights.drop_repeated_head(config);
        Ok(weights)
    }

    /// The tensors of a GGUF file under their Hugging Face names; queries and keys of
    /// architecture llama are put back into the order that rotates halves.
    ///
    /// # Errors
    /// [`Error::Format`] where two tensors have one name.
    pub fn from_gguf(gguf: &Gguf, config: &ModelConfig) -> Result<Self, Error> {
        let interleaved = gguf.text("general.architecture") == Some("llama");
        let mut weights = Self { path: gguf.path().to_owned(), tensors: BTreeMap::new() };
        for (name, tensor) in gguf.tensors() {
            let Some((name, layout)) = names::from_gguf(config, interleaved, name) else {
                continue;
            };
            let stored = StoredTensor {
                file: gguf.file().clone(),
                range: tensor.range.clone(),
                stored: tensor.stored,
                layout: fitting(layout, &tensor.shape),
                shape: tensor.shape.clone(),
            };
            weights.insert(name, stored)?;
        }
        weights.drop_repeated_head(config);
        Ok(weights)
    }

    /// The tensors of one safetensors file under the names that they have there.
    ///
    /// # Errors
    /// As [`Self::open_folder`].
    pub(crate) fn open_file(path: &Path) -> Result<Self, Error> {
        let mut weights = Self { path: path.to_owned(), tensors: BTreeMap::new() };
        let (file, tensors) = safetensors_file::open(path)?;
        for tensor in tensors {
            let name = tensor.name.clone();
            let stored = from_file(file.clone(), tensor, &name)?;
            weights.insert(name, stored)?;
        }
        Ok(weights)
    }

    /// The file or folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Canonical shape of a tensor; `None` where there is none of this name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|tensor| &tensor.shape[..])
    }

    /// Counts the values that are NaN or infinite, in every tensor that has any. Reads all of
    /// them: a model is judged before something long is begun with it.
    pub fn non_finite(&self) -> Vec<NonFinite> {
        let count = |(name, tensor): (&String, &StoredTensor)| {
            let found = NonFinite::of(name, &tensor.read());
            (found.count > 0).then_some(found)
        };
        self.tensors.iter().filter_map(count).collect()
    }

    /// Values of a tensor, row-major in its canonical shape; large ones are converted on several
    /// threads.
    ///
    /// # Errors
    /// [`Error::NoTensor`]; [`Error::Format`] where a value is no finite f32.
    pub fn f32_values(&self, name: &str) -> Result<Vec<f32>, Error> {
        let Some(tensor) = self.tensors.get(name) else {
            return Err(Error::NoTensor { path: self.path.clone(), tensor: name.to_owned() });
        };
        let values = tensor.read();
        let found = NonFinite::of(name, &values);
        if found.count == 0 {
            return Ok(values);
        }
        let problem = format!("{found}, expected numbers");
        Err(Error::format(tensor.file.path(), "checkpoint", problem))
    }

    /// Compares all names and shapes with those that the configuration asks for.
    ///
    /// # Errors
    /// [`Error::Tensors`] with every difference.
    pub fn check(&self, config: &ModelConfig) -> Result<(), Error> {
        self.compare(expected_tensors(config), |name, tensor| unexpected(name, tensor, config))
    }

    /// Compares all names and shapes with those of a list; `unexpected` describes a tensor that is
    /// not in it.
    ///
    /// # Errors
    /// [`Error::Tensors`] with every difference.
    pub(crate) fn compare(
        &self,
        expected: Vec<(String, Vec<usize>)>,
        unexpected: impl Fn(&str, &StoredTensor) -> String,
    ) -> Result<(), Error> {
        let expected: BTreeMap<String, Vec<usize>> = expected.into_iter().collect();
        let mut missing = Vec::new();
        let mut mis_shaped = Vec::new();
        for (name, expected) in &expected {
            match self.shape(name) {
                None => missing.push(format!("{name} {expected:?}")),
                Some(found) if found != expected => {
                    mis_shaped.push(format!("{name}: found {found:?}, expected {expected:?}"));
                }
                Some(_) => {}
            }
        }
        let unexpected: Vec<String> = self
            .tensors
            .iter()
            .filter(|(name, _)| !expected.contains_key(*name))
            .map(|(name, tensor)| unexpected(name, tensor))
            .collect();
        if missing.is_empty() && unexpected.is_empty() && mis_shaped.is_empty() {
            return Ok(());
        }
        Err(Error::Tensors { path: self.path.clone(), missing, unexpected, mis_shaped })
    }

    fn insert(&mut self, name: String, tensor: StoredTensor) -> Result<(), Error> {
        let path = tensor.file.path().to_owned();
        match self.tensors.insert(name.clone(), tensor) {
            None => Ok(()),
            Some(_) => {
                let problem = format!("two tensors mean `{name}`, by different names in the file");
                Err(Error::format(&path, "checkpoint", problem))
            }
        }
    }

    fn drop_repeated_head(&mut self, config: &ModelConfig) {
        let embedding = self.tensors.get(embedding_name(config.family));
        let repeated = match (self.tensors.get(OUTPUT_HEAD), embedding) {
            (Some(head), Some(embedding)) => {
                config.tied_embeddings
                    && head.stored == embedding.stored
                    && head.shape == embedding.shape
                    && head.bytes() == embedding.bytes()
            }
            _ => false,
        };
        if repeated {
            self.tensors.remove(OUTPUT_HEAD);
        }
    }
}

fn unexpected(name: &str, tensor: &StoredTensor, config: &ModelConfig) -> String {
    if name == OUTPUT_HEAD && config.tied_embeddings {
        return format!("{name} (not equal to the embedding: tie_word_embeddings must be false)");
    }
    format!("{name} {:?}", tensor.shape)
}

fn from_file(file: Arc<MappedFile>, tensor: FileTensor, name: &str) -> Result<StoredTensor, Error> {
    let FileTensor { name: in_file, mut shape, stored, range } = tensor;
    let stored = stored.map_err(|found| Error::TensorType {
        path: file.path().to_owned(),
        tensor: in_file,
        found,
        supported: "F32, F16, BF16, F64",
    })?;
    let layout = fitting(names::hf_layout(name), &shape);
    if layout == Layout::Transposed {
        shape.reverse();
    }
    Ok(StoredTensor { file, range, stored, shape, layout })
}

/// A tensor whose shape cannot have the layout keeps its order; `check` names it as mis-shaped.
fn fitting(layout: Layout, shape: &[usize]) -> Layout {
    let fits = match layout {
        Layout::Canonical => true,
        Layout::Transposed => shape.len() == 2,
        Layout::Interleaved { heads } => {
            shape.first().is_some_and(|rows| heads > 0 && rows.is_multiple_of(2 * heads))
        }
    };
    if fits { layout } else { Layout::Canonical }
}
