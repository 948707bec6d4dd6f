//! Additions on disk beside the base model that they were trained on: this project's own format,
//! which can hold low-rank branches and a prefix or prompt together.

use std::path::Path;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use soft_core::host_values;

use super::additions::{Additions, Branch, Names};
use super::{Projection, TARGETS};
use crate::capped_file::read_capped;
use crate::config::ModelConfig;
use crate::linear::BranchSettings;
use crate::weights::save_safetensors;
use crate::{Active, Error, NamedTensor, Transformer, Weights};

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests;

/// Name of the description of the additions.
const DESCRIPTION: &str = "soft_adapter.json";
/// Name of their values.
const VALUES: &str = "soft_adapter.safetensors";
/// Name of the tensor of a prompt.
pub(super) const PROMPT: &str = "prompt";

/// Largest description that is read: it is a few hundred bytes, more with branches of chosen layers.
const MAX_DESCRIPTION_BYTES: u64 = 1 << 20;
/// What the description is called in errors.
const FORMAT: &str = "adapter description";

/// The description as it is written. What the first checkpoints did not have is off where absent.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    rank: usize,
    alpha: f64,
    /// Names of projections in every layer, or `layers.N.NAME` for one.
    targets: Vec<String>,
    #[serde(default)]
    dropout: f64,
    #[serde(default)]
    rslora: bool,
    #[serde(default)]
    dora: bool,
    prefix_tokens: usize,
    #[serde(default)]
    prompt_tokens: usize,
    /// Absent where it is everywhere.
    #[serde(default, skip_serializing_if = "Active::is_always")]
    active: Active,
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
        let branches = branches(&description, config)
            .map_err(|problem| Error::format(&path, FORMAT, problem))?;
        let Description { prefix_tokens, prompt_tokens, active, .. } = description;
        let values = Weights::open_file(&values)?;
        let expected = expected(&branches, prefix_tokens, prompt_tokens, config);
        values.compare(expected, |name, tensor| format!("{name} {:?}", tensor.shape))?;
        let names = Names::Own;
        Ok(Some(Self { branches, prefix_tokens, prompt_tokens, active, names, values }))
    }
}

/// The branches of a description, which is checked against the base.
fn branches(description: &Description, config: &ModelConfig) -> Result<Vec<Branch>, String> {
    let Description { rank, alpha, targets, dropout, rslora, dora, .. } = description;
    let Description { prefix_tokens, prompt_tokens, .. } = description;
    if (*rank > 0) == targets.is_empty() || (*rank == 0 && prefix_tokens + prompt_tokens == 0) {
        return Err(format!(
            "found `rank` {rank} with {} `targets` and `prefix_tokens` {prefix_tokens}, expected a \
             rank with targets, or prefix tokens, or both",
            targets.len()
        ));
    }
    if *prefix_tokens > 0 && *prompt_tokens > 0 {
        return Err("found both a prefix and a prompt, expected one of them".to_owned());
    }
    if !(0.0..1.0).contains(dropout) {
        return Err(format!("`dropout`: found {dropout}, expected 0 or more, below 1"));
    }
    for (key, tokens) in [("prefix_tokens", prefix_tokens), ("prompt_tokens", prompt_tokens)] {
        if *tokens >= config.max_positions {
            let most = config.max_positions - 1;
            return Err(format!("`{key}`: found {tokens}, this model has room for {most}"));
        }
    }
    let settings = BranchSettings { alpha: *alpha, rslora: *rslora, dropout: *dropout };
    let mut found: Vec<Branch> = Vec::new();
    for target in targets {
        let (layers, projection) = target_of(target, config).ok_or_else(|| {
            let has = |name: &&str| {
                Projection::from_name(name).is_some_and(|p| p.widths(config).is_some())
            };
            let known: Vec<&str> = TARGETS.into_iter().filter(has).collect();
            format!("`targets`: found {target:?}, expected of {}", known.join(", "))
        })?;
        for layer in layers {
            if found.iter().any(|b| (b.layer, b.projection) == (layer, projection)) {
                return Err(format!("`targets`: {target:?} occurs twice"));
            }
            found.push(Branch { layer, projection, rank: *rank, settings, dora: *dora });
        }
    }
    Ok(found)
}

/// `q_proj` in every layer, or `layers.1.q_proj`.
fn target_of(target: &str, config: &ModelConfig) -> Option<(std::ops::Range<usize>, Projection)> {
    let (layers, name) = match target.strip_prefix("layers.") {
        None => (0..config.n_layers, target),
        Some(rest) => {
            let (layer, name) = rest.split_once('.')?;
            let layer = layer.parse().ok().filter(|&layer| layer < config.n_layers)?;
            (layer..layer + 1, name)
        }
    };
    let projection = Projection::from_name(name).filter(|p| p.widths(config).is_some())?;
    Some((layers, projection))
}

/// Names and shapes of all tensors.
fn expected(
    branches: &[Branch],
    prefix_tokens: usize,
    prompt_tokens: usize,
    config: &ModelConfig,
) -> Vec<(String, Vec<usize>)> {
    let mut shapes: Vec<_> =
        branches.iter().flat_map(|branch| branch.expected(Names::Own, config)).collect();
    if prefix_tokens > 0 {
        let shape = vec![config.n_kv_heads, prefix_tokens, config.head_dim];
        for layer in 0..config.n_layers {
            let name = |part| format!("layers.{layer}.prefix_{part}");
            shapes.extend(["keys", "values"].map(|part| (name(part), shape.clone())));
        }
    }
    if prompt_tokens > 0 {
        shapes.push((PROMPT.to_owned(), vec![prompt_tokens, config.d_model]));
    }
    shapes
}

impl Transformer {
    /// Writes the low-rank branches and the prefix or prompt into a checkpoint folder; nothing
    /// where the model has none.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save_adapter(&self, folder: &Path) -> Result<(), Error> {
        let tensors = self.addition_tensors();
        if tensors.is_empty() {
            return Ok(());
        }
        let branches = self.branches();
        let mut description = Description {
            targets: targets(&branches, self.config.n_layers),
            prefix_tokens: self.kv_prefix_len(),
            prompt_tokens: self.prompt_len(),
            active: self.active,
            ..Description::default()
        };
        if let Some(Branch { rank, settings, dora, .. }) = branches.first() {
            (description.rank, description.dora) = (*rank, *dora);
            let BranchSettings { alpha, rslora, dropout } = *settings;
            (description.alpha, description.rslora, description.dropout) = (alpha, rslora, dropout);
        }
        save_safetensors(&folder.join(VALUES), &tensors)?;
        let path = folder.join(DESCRIPTION);
        let text = serde_json::to_vec_pretty(&description)
            .map_err(|error| Error::format(&path, FORMAT, error.to_string()))?;
        std::fs::write(&path, text).map_err(|source| Error::io(&path, source))
    }

    /// What low-rank branches the model has, layer by layer. All have one rank and settings: they
    /// come from one [`super::LowRankSpec`] or one file.
    pub(super) fn branches(&self) -> Vec<Branch> {
        let mut branches = Vec::new();
        for (layer, block) in self.blocks.iter().enumerate() {
            for (projection, linear) in block.projections() {
                let Some(branch) = &linear.low_rank else { continue };
                branches.push(Branch {
                    layer,
                    projection,
                    rank: branch.rank(),
                    settings: branch.settings,
                    dora: branch.magnitude.is_some(),
                });
            }
        }
        branches
    }

    /// Every tensor of the additions in this project's own names and orientation.
    pub(super) fn addition_tensors(&self) -> Vec<NamedTensor> {
        let mut tensors = Vec::new();
        for (layer, block) in self.blocks.iter().enumerate() {
            for (projection, linear) in block.projections() {
                let Some(branch) = &linear.low_rank else { continue };
                let name = |part| format!("layers.{layer}.{}.low_rank_{part}", projection.name());
                tensors.push(named(name("a"), branch.a.val()));
                tensors.push(named(name("b"), branch.b.val()));
                if let Some(magnitude) = &branch.magnitude {
                    tensors.push(named(name("magnitude"), magnitude.val()));
                }
            }
            if let Some(prefix) = &block.attention.prefix {
                let name = |part| format!("layers.{layer}.prefix_{part}");
                tensors.push(named(name("keys"), prefix.keys.val()));
                tensors.push(named(name("values"), prefix.values.val()));
            }
        }
        tensors.extend(self.prompt.as_ref().map(|prompt| named(PROMPT.to_owned(), prompt.val())));
        tensors
    }
}

/// A name for each projection that every layer has, `layers.N.NAME` for the others.
fn targets(branches: &[Branch], n_layers: usize) -> Vec<String> {
    let mut targets = Vec::new();
    for projection in Projection::ALL {
        let layers: Vec<usize> =
            branches.iter().filter(|b| b.projection == projection).map(|b| b.layer).collect();
        if layers.len() == n_layers {
            targets.push(projection.name().to_owned());
        } else {
            let name = |layer| format!("layers.{layer}.{}", projection.name());
            targets.extend(layers.into_iter().map(name));
        }
    }
    targets
}

fn named<const D: usize>(name: String, tensor: Tensor<D>) -> NamedTensor {
    let shape = tensor.dims().to_vec();
    let values = host_values(tensor.detach()).into_iter().map(|value| value as f32).collect();
    NamedTensor { name, shape, values }
}
