//! Low-rank branches and a prefix on disk, beside the base model that they were trained on.

use std::path::Path;

use burn::module::Param;
use burn::tensor::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use soft_core::{float_tensor, host_values};

use crate::weights::save_safetensors;
use crate::{Error, ModelFiles, NamedTensor, TARGETS, Transformer};

/// Name of the description of the additions.
const DESCRIPTION: &str = "soft_adapter.json";
/// Name of their values.
const VALUES: &str = "soft_adapter.safetensors";

/// What was added to a frozen base.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Additions {
    pub(crate) rank: usize,
    alpha: f64,
    targets: Vec<String>,
    pub(crate) prefix_tokens: usize,
}

impl Additions {
    /// What the description in a folder names; nothing where there is none.
    ///
    /// # Errors
    /// A description that is not one.
    pub(crate) fn describe(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(DESCRIPTION);
        if !path.is_file() {
            return Ok(Self::default());
        }
        let text = std::fs::read(&path).map_err(|source| Error::io(&path, source))?;
        serde_json::from_slice(&text)
            .map_err(|error| Error::format(&path, "adapter description", error.to_string()))
    }
}

impl Transformer {
    /// The model that a path holds: the base, and the low-rank branches and prefix that lie beside
    /// it in a checkpoint of this project.
    ///
    /// # Errors
    /// Tensors that do not fit.
    pub fn open(files: &ModelFiles, device: &Device, dtype: DType) -> Result<Self, Error> {
        let mut model = Self::from_weights(&files.config, &files.weights, device, dtype)?;
        let Additions { rank, alpha, targets, prefix_tokens } = &files.additions;
        if *rank > 0 {
            model = model.with_low_rank(*rank, *alpha, targets, 0)?;
        }
        if *prefix_tokens > 0 {
            model = model.with_prefix(*prefix_tokens, 0)?;
        }
        if files.additions == Additions::default() {
            return Ok(model);
        }
        model.with_values(&files.weights.path().join(VALUES))
    }

    /// Writes the low-rank branches and the prefix into a checkpoint folder; nothing where the
    /// model has neither.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save_adapter(&self, folder: &Path) -> Result<(), Error> {
        let mut tensors = Vec::new();
        let mut description =
            Additions { prefix_tokens: self.prefix_len(), ..Additions::default() };
        self.for_each_addition(&mut |name, addition| {
            if let Kind::A { rank, scale } = addition.kind {
                description.rank = rank;
                description.alpha = scale * rank as f64;
                let target = name.split('.').nth(2).unwrap_or_default().to_owned();
                if !description.targets.contains(&target) {
                    description.targets.push(target);
                }
            }
            let values = addition.values.iter().map(|&value| value as f32).collect();
            tensors.push(NamedTensor { name, shape: addition.shape, values });
        });
        if tensors.is_empty() {
            return Ok(());
        }
        save_safetensors(&folder.join(VALUES), &tensors)?;
        let path = folder.join(DESCRIPTION);
        let text = serde_json::to_vec_pretty(&description)
            .map_err(|error| Error::format(&path, "adapter description", error.to_string()))?;
        std::fs::write(&path, text).map_err(|source| Error::io(&path, source))
    }

    fn for_each_addition(&self, visit: &mut dyn FnMut(String, Addition)) {
        for (layer, block) in self.blocks.iter().enumerate() {
            for target in TARGETS {
                let Some(branch) = block.projection(target).and_then(|l| l.low_rank.as_ref())
                else {
                    continue;
                };
                let name = |part| format!("layers.{layer}.{target}.low_rank_{part}");
                let rank = branch.a.dims()[1];
                let kind = Kind::A { rank, scale: branch.scale };
                visit(name("a"), Addition::of(branch.a.val(), kind));
                visit(name("b"), Addition::of(branch.b.val(), Kind::Other));
            }
            if let Some(prefix) = &block.attention.prefix {
                let name = |part| format!("layers.{layer}.prefix_{part}");
                visit(name("keys"), Addition::of(prefix.keys.val(), Kind::Other));
                visit(name("values"), Addition::of(prefix.values.val(), Kind::Other));
            }
        }
    }

    /// Sets the additions to stored values; every one of them must be there.
    fn with_values(mut self, path: &Path) -> Result<Self, Error> {
        let bytes = std::fs::read(path).map_err(|source| Error::io(path, source))?;
        let stored = safetensors::SafeTensors::deserialize(&bytes)
            .map_err(|error| Error::format(path, "safetensors", error.to_string()))?;
        let (device, dtype) = (self.device(), self.dtype());
        let read = |name: String, shape: &[usize]| -> Result<Vec<f64>, Error> {
            let view = stored
                .tensor(&name)
                .map_err(|_| Error::NoTensor { path: path.to_owned(), tensor: name.clone() })?;
            if view.shape() != shape || view.dtype() != safetensors::Dtype::F32 {
                let problem = format!(
                    "tensor `{name}` is {:?} {:?}, expected F32 {shape:?}",
                    view.dtype(),
                    view.shape()
                );
                return Err(Error::format(path, "safetensors", problem));
            }
            let words = view.data().chunks_exact(4);
            Ok(words.map(|w| f64::from(f32::from_le_bytes([w[0], w[1], w[2], w[3]]))).collect())
        };
        for (layer, block) in self.blocks.iter_mut().enumerate() {
            for target in TARGETS {
                let Some(branch) =
                    block.projection_mut(target).and_then(|linear| linear.low_rank.as_mut())
                else {
                    continue;
                };
                for (part, param) in [("a", &mut branch.a), ("b", &mut branch.b)] {
                    let shape = param.dims();
                    let values = read(format!("layers.{layer}.{target}.low_rank_{part}"), &shape)?;
                    *param = Param::from_tensor(float_tensor(values, shape, &device, dtype));
                }
            }
            if let Some(prefix) = &mut block.attention.prefix {
                for (part, param) in [("keys", &mut prefix.keys), ("values", &mut prefix.values)] {
                    let shape = param.dims();
                    let values = read(format!("layers.{layer}.prefix_{part}"), &shape)?;
                    *param = Param::from_tensor(float_tensor(values, shape, &device, dtype));
                }
            }
        }
        Ok(self)
    }
}

/// One stored tensor of the additions.
struct Addition {
    kind: Kind,
    shape: Vec<usize>,
    values: Vec<f64>,
}

enum Kind {
    /// The first factor of a branch, which tells its rank and scale.
    A {
        rank: usize,
        scale: f64,
    },
    Other,
}

impl Addition {
    fn of<const D: usize>(tensor: Tensor<D>, kind: Kind) -> Self {
        Self { kind, shape: tensor.dims().to_vec(), values: host_values(tensor.detach()) }
    }
}
