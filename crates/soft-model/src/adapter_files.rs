//! Low-rank branches and a prefix on disk, beside the base model that they were trained on.

use std::path::Path;

use burn::module::Param;
use burn::tensor::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use soft_core::{float_tensor, host_values};

use crate::capped_file::read_capped;
use crate::config::{Family, ModelConfig};
use crate::weights::save_safetensors;
use crate::{Error, ModelFiles, NamedTensor, TARGETS, Transformer, Weights};

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests;

/// Name of the description of the additions.
const DESCRIPTION: &str = "soft_adapter.json";
/// Name of their values.
const VALUES: &str = "soft_adapter.safetensors";

/// Largest description that is read: it is a few hundred bytes.
const MAX_DESCRIPTION_BYTES: u64 = 1 << 20;
/// What the description is called in errors.
const FORMAT: &str = "adapter description";

/// The description as it is written.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    rank: usize,
    alpha: f64,
    targets: Vec<String>,
    prefix_tokens: usize,
}

/// What was added to a frozen base, checked against it; no value is read yet.
#[derive(Debug)]
pub(crate) struct Additions {
    pub(crate) rank: usize,
    alpha: f64,
    targets: Vec<String>,
    pub(crate) prefix_tokens: usize,
    values: Weights,
}

impl Additions {
    /// The additions that lie in a folder beside a base of this shape; `None` where there are none.
    ///
    /// # Errors
    /// One of the two files without the other, a description that does not fit the base, and
    /// tensors that are not those of the description, listed together.
    pub(crate) fn open(folder: &Path, config: &ModelConfig) -> Result<Option<Self>, Error> {
        let (path, values) = (folder.join(DESCRIPTION), folder.join(VALUES));
        match (path.exists(), values.exists()) {
            (false, false) => return Ok(None),
            (true, true) => {}
            (true, false) => {
                return Err(Error::format(&path, FORMAT, format!("{VALUES} is not beside it")));
            }
            (false, true) => {
                let problem = format!("{DESCRIPTION}, which describes it, is not beside it");
                return Err(Error::format(&values, "adapter", problem));
            }
        }
        let text = read_capped(&path, FORMAT, MAX_DESCRIPTION_BYTES)?;
        let description: Description = serde_json::from_slice(&text)
            .map_err(|error| Error::format(&path, FORMAT, error.to_string()))?;
        let expected = expected(&description, config)
            .map_err(|problem| Error::format(&path, FORMAT, problem))?;
        let values = Weights::open_file(&values)?;
        values.compare(expected, |name, tensor| format!("{name} {:?}", tensor.shape))?;
        let Description { rank, alpha, targets, prefix_tokens } = description;
        Ok(Some(Self { rank, alpha, targets, prefix_tokens, values }))
    }
}

impl Additions {
    /// The tensors, not read yet.
    pub(crate) fn values(&self) -> &Weights {
        &self.values
    }
}

/// Names and shapes of the tensors that a description asks for on a base of this shape.
fn expected(
    description: &Description,
    config: &ModelConfig,
) -> Result<Vec<(String, Vec<usize>)>, String> {
    let Description { rank, targets, prefix_tokens, .. } = description;
    if (*rank > 0) == targets.is_empty() || (*rank == 0 && *prefix_tokens == 0) {
        return Err(format!(
            "found `rank` {rank} with {} `targets` and `prefix_tokens` {prefix_tokens}, expected a \
             rank with targets, or prefix tokens, or both",
            targets.len()
        ));
    }
    if *prefix_tokens >= config.max_positions {
        let most = config.max_positions - 1;
        return Err(format!(
            "`prefix_tokens`: found {prefix_tokens}, this model has room for {most}"
        ));
    }
    let mut shapes = Vec::new();
    for (index, target) in targets.iter().enumerate() {
        let Some([d_in, d_out]) = widths(target, config) else {
            let known: Vec<&str> =
                TARGETS.into_iter().filter(|name| widths(name, config).is_some()).collect();
            return Err(format!("`targets`: found {target:?}, expected of {}", known.join(", ")));
        };
        if targets[..index].contains(target) {
            return Err(format!("`targets`: {target:?} occurs twice"));
        }
        shapes.push((format!("{target}.low_rank_a"), vec![d_in, *rank]));
        shapes.push((format!("{target}.low_rank_b"), vec![*rank, d_out]));
    }
    if *prefix_tokens > 0 {
        let shape = vec![config.n_kv_heads, *prefix_tokens, config.head_dim];
        shapes
            .extend(["prefix_keys", "prefix_values"].map(|part| (part.to_owned(), shape.clone())));
    }
    let of_layer = |layer| {
        shapes.iter().map(move |(name, shape)| (format!("layers.{layer}.{name}"), shape.clone()))
    };
    Ok((0..config.n_layers).flat_map(of_layer).collect())
}

/// Input and output widths of a projection; `None` for one that the model does not have.
fn widths(target: &str, config: &ModelConfig) -> Option<[usize; 2]> {
    let (d_model, d_ff) = (config.d_model, config.d_ff);
    let (queries, keys) = (config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim);
    match target {
        "q_proj" => Some([d_model, queries]),
        "k_proj" | "v_proj" => Some([d_model, keys]),
        "o_proj" => Some([queries, d_model]),
        "gate_proj" if config.family == Family::Gpt2 => None,
        "gate_proj" | "up_proj" => Some([d_model, d_ff]),
        "down_proj" => Some([d_ff, d_model]),
        _ => None,
    }
}

impl Transformer {
    /// The model that a path holds: the base, and the low-rank branches and prefix that lie beside
    /// it in a checkpoint of this project.
    ///
    /// # Errors
    /// Tensors that do not fit, or values that are no numbers.
    pub fn open(files: &ModelFiles, device: &Device, dtype: DType) -> Result<Self, Error> {
        let mut model = Self::from_weights(&files.config, &files.weights, device, dtype)?;
        let Some(additions) = &files.additions else { return Ok(model) };
        if additions.rank > 0 {
            model = model.with_low_rank(additions.rank, additions.alpha, &additions.targets, 0)?;
        }
        if additions.prefix_tokens > 0 {
            model = model.with_prefix(additions.prefix_tokens, 0)?;
        }
        model.with_values(&additions.values)
    }

    /// Writes the low-rank branches and the prefix into a checkpoint folder; nothing where the
    /// model has neither.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save_adapter(&self, folder: &Path) -> Result<(), Error> {
        let mut tensors = Vec::new();
        let mut description =
            Description { prefix_tokens: self.prefix_len(), ..Description::default() };
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
            .map_err(|error| Error::format(&path, FORMAT, error.to_string()))?;
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

    /// Sets the additions to stored values, which have their shapes.
    fn with_values(mut self, stored: &Weights) -> Result<Self, Error> {
        let (device, dtype) = (self.device(), self.dtype());
        let read = |name: String| -> Result<Vec<f64>, Error> {
            Ok(stored.f32_values(&name)?.into_iter().map(f64::from).collect())
        };
        for (layer, block) in self.blocks.iter_mut().enumerate() {
            for target in TARGETS {
                let Some(branch) =
                    block.projection_mut(target).and_then(|linear| linear.low_rank.as_mut())
                else {
                    continue;
                };
                for (part, param) in [("a", &mut branch.a), ("b", &mut branch.b)] {
                    let values = read(format!("layers.{layer}.{target}.low_rank_{part}"))?;
                    let tensor = float_tensor(values, param.dims(), &device, dtype);
                    *param = Param::from_tensor(tensor);
                }
            }
            if let Some(prefix) = &mut block.attention.prefix {
                for (part, param) in [("keys", &mut prefix.keys), ("values", &mut prefix.values)] {
                    let values = read(format!("layers.{layer}.prefix_{part}"))?;
                    let tensor = float_tensor(values, param.dims(), &device, dtype);
                    *param = Param::from_tensor(tensor);
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
