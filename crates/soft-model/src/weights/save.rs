//! Writing safetensors that transformers reads.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::path::Path;

use safetensors::tensor::{Dtype, View, serialize_to_file};

use crate::Error;
use crate::safetensors_file::check_name;
use crate::weights::names::hf_layout;
use crate::weights::stored::{Layout, transposed};

/// A tensor to be written: canonical name, shape and row-major values.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTensor {
    /// Name as in [`crate::expected_tensors`].
    pub name: String,
    /// Sizes; `[out, in]` for a matrix.
    pub shape: Vec<usize>,
    /// As many values as the shape has.
    pub values: Vec<f32>,
}

/// Writes f32 tensors with the metadata of a torch file; GPT-2's Conv1D matrices are turned to
/// the `[in, out]` of Hugging Face. The file appears whole, by rename.
///
/// # Errors
/// [`Error::Tensors`] for tensors whose values do not fill their shape, or whose name cannot be
/// read again or occurs twice; [`Error::Io`].
pub fn save_safetensors(path: &Path, tensors: &[NamedTensor]) -> Result<(), Error> {
    let mis_shaped: Vec<String> = tensors
        .iter()
        .filter(|tensor| tensor.shape.iter().product::<usize>() != tensor.values.len())
        .map(|t| format!("{}: {} values for shape {:?}", t.name, t.values.len(), t.shape))
        .collect();
    let mut names = HashSet::new();
    let unexpected: Vec<String> = tensors
        .iter()
        .filter_map(|tensor| match check_name(&tensor.name) {
            Ok(()) if names.insert(&tensor.name) => None,
            Ok(()) => Some(format!("{} for the second time", tensor.name)),
            Err(problem) => Some(problem),
        })
        .collect();
    if !mis_shaped.is_empty() || !unexpected.is_empty() {
        let (path, missing) = (path.to_owned(), Vec::new());
        return Err(Error::Tensors { path, missing, unexpected, mis_shaped });
    }
    let views = tensors.iter().map(|tensor| (tensor.name.as_str(), Written::new(tensor)));
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let permissions = new_file_permissions(path).map_err(|source| Error::io(path, source))?;
    serialize_to_file(views, Some(metadata), path).map_err(|error| match error {
        safetensors::SafeTensorError::IoError(source) => Error::io(path, source),
        other => Error::io(path, std::io::Error::other(other)),
    })?;
    std::fs::set_permissions(path, permissions).map_err(|source| Error::io(path, source))
}

/// What the system gives a new file here: the library makes files that only their owner can read.
fn new_file_permissions(path: &Path) -> std::io::Result<std::fs::Permissions> {
    let probe = path.with_extension("safetensors.new");
    let permissions = std::fs::File::create(&probe)?.metadata()?.permissions();
    std::fs::remove_file(&probe)?;
    Ok(permissions)
}

/// A tensor in the orientation of the file; its bytes are made when they are written.
struct Written<'a> {
    tensor: &'a NamedTensor,
    shape: Vec<usize>,
    layout: Layout,
}

impl<'a> Written<'a> {
    fn new(tensor: &'a NamedTensor) -> Self {
        let mut shape = tensor.shape.clone();
        let layout = if shape.len() == 2 { hf_layout(&tensor.name) } else { Layout::Canonical };
        if layout == Layout::Transposed {
            shape.reverse();
        }
        Self { tensor, shape, layout }
    }
}

impl View for Written<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let turned;
        let values = match (self.layout, &self.shape[..]) {
            (Layout::Transposed, &[rows, columns]) => {
                turned = transposed(&self.tensor.values, rows, columns);
                &turned
            }
            _ => &self.tensor.values,
        };
        Cow::Owned(values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    fn data_len(&self) -> usize {
        self.tensor.values.len() * size_of::<f32>()
    }
}
