//! Adapter folders of Python PEFT: `adapter_config.json` and `adapter_model.safetensors`.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::additions::{Additions, Names, transposed};
use super::peft_config::{self, Kind};
use crate::capped_file::read_capped;
use crate::config::{Family, ModelConfig};
use crate::weights::save_safetensors;
use crate::{Active, Error, NamedTensor, Transformer, Weights};

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests;

/// Name of PEFT's description.
pub(super) const ADAPTER_CONFIG: &str = "adapter_config.json";
/// Name of its values.
const ADAPTER_MODEL: &str = "adapter_model.safetensors";
/// The one tensor of prefix and prompt tuning.
pub(super) const EMBEDDINGS: &str = "prompt_embeddings";
/// Largest description that is read.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// A PEFT adapter that fits a base model; no value is read yet.
///
/// LoRA (with rsLoRA and DoRA), prefix tuning and prompt tuning are read. Everything else that a
/// description may switch on is refused by name, and so is every tensor that does not bind.
#[derive(Debug)]
pub struct PeftAdapter {
    additions: Additions,
    base_model: Option<String>,
}

impl PeftAdapter {
    /// Opens an adapter folder for a base of this shape.
    ///
    /// # Errors
    /// A file that is missing or broken; a description of a kind or with a feature that is not
    /// read, all problems at once; tensors that are missing, unexpected or mis-shaped, listed
    /// together.
    pub fn open(folder: &Path, config: &ModelConfig) -> Result<Self, Error> {
        let (additions, base_model) = read(folder, config)?;
        Ok(Self { additions, base_model })
    }

    /// The base model that the description names.
    pub fn base_model(&self) -> Option<&str> {
        self.base_model.as_deref()
    }

    /// Number of trained values.
    pub fn parameters(&self) -> usize {
        self.additions.parameters()
    }
}

/// The additions of an adapter folder, and the name of its base.
pub(super) fn read(
    folder: &Path,
    config: &ModelConfig,
) -> Result<(Additions, Option<String>), Error> {
    let path = folder.join(ADAPTER_CONFIG);
    let bytes = read_capped(&path, "JSON", MAX_CONFIG_BYTES)?;
    let json: Value = serde_json::from_slice(&bytes)
        .map_err(|error| Error::format(&path, "JSON", error.to_string()))?;
    let kind = peft_config::read(&json, config)
        .map_err(|problems| Error::not_a_model(&path, problems.join("\n  ")))?;
    let values_path = folder.join(ADAPTER_MODEL);
    if !values_path.exists() && folder.join("adapter_model.bin").exists() {
        let problem = "adapter_model.bin is a pickle, which can run code, and is not read; save \
                       the adapter with `model.save_pretrained(folder)` of a newer PEFT";
        return Err(Error::not_a_model(folder, problem));
    }
    let values = Weights::open_file(&values_path)?;
    values.compare(expected(&kind, config), |name, tensor| format!("{name} {:?}", tensor.shape))?;
    let base_model = json["base_model_name_or_path"].as_str().map(str::to_owned);
    let (branches, prefix_tokens, prompt_tokens) = match kind {
        Kind::LowRank(branches) => (branches, 0, 0),
        Kind::Prefix { tokens } => (Vec::new(), tokens, 0),
        Kind::Prompt { tokens } => (Vec::new(), 0, tokens),
    };
    let names = Names::Peft;
    let active = Active::Always;
    Ok((Additions { branches, prefix_tokens, prompt_tokens, active, names, values }, base_model))
}

/// Names and shapes of the tensors that a description asks for.
fn expected(kind: &Kind, config: &ModelConfig) -> Vec<(String, Vec<usize>)> {
    let embeddings = |tokens, width| vec![(EMBEDDINGS.to_owned(), vec![tokens, width])];
    match kind {
        Kind::LowRank(branches) => {
            branches.iter().flat_map(|branch| branch.expected(Names::Peft, config)).collect()
        }
        Kind::Prefix { tokens } => {
            embeddings(*tokens, 2 * config.n_layers * config.n_kv_heads * config.head_dim)
        }
        Kind::Prompt { tokens } => embeddings(*tokens, config.d_model),
    }
}

/// Keys and values of a layer, each `[n_kv_heads, tokens, head_dim]`, from PEFT's
/// `[tokens, 2 n_layers, n_kv_heads, head_dim]`, in which keys lie at even places.
pub(super) fn prefix_of_layer(
    values: &[f64],
    layer: usize,
    tokens: usize,
    config: &ModelConfig,
) -> Result<[Vec<f64>; 2], Error> {
    let ModelConfig { n_layers, n_kv_heads, head_dim, .. } = *config;
    let part = |place: usize| {
        let mut part = Vec::with_capacity(tokens * n_kv_heads * head_dim);
        for head in 0..n_kv_heads {
            for token in 0..tokens {
                let first = ((token * 2 * n_layers + place) * n_kv_heads + head) * head_dim;
                part.extend_from_slice(&values[first..first + head_dim]);
            }
        }
        part
    };
    Ok([part(2 * layer), part(2 * layer + 1)])
}

/// The reverse of [`prefix_of_layer`]: keys and values of all layers, layer by layer.
fn prefix_embeddings(parts: &[Vec<f32>], tokens: usize, config: &ModelConfig) -> NamedTensor {
    let ModelConfig { n_kv_heads, head_dim, .. } = *config;
    let width = parts.len() * n_kv_heads * head_dim;
    let mut values = Vec::with_capacity(tokens * width);
    for token in 0..tokens {
        for part in parts {
            for head in 0..n_kv_heads {
                let first = (head * tokens + token) * head_dim;
                values.extend_from_slice(&part[first..first + head_dim]);
            }
        }
    }
    NamedTensor { name: EMBEDDINGS.to_owned(), shape: vec![tokens, width], values }
}

impl Transformer {
    /// Freezes the base and attaches a PEFT adapter.
    ///
    /// # Errors
    /// Additions of the same kind already there, or values that are no numbers.
    pub fn with_peft(self, adapter: &PeftAdapter) -> Result<Self, Error> {
        self.with_additions(&adapter.additions)
    }

    /// Writes what was added to the base as a PEFT adapter folder, which may exist; `base_model` is
    /// the name or path that PEFT will load the base from.
    ///
    /// # Errors
    /// A model with nothing added, or with what one PEFT adapter cannot say: branches beside a
    /// prefix or prompt, additions that act where the input is soft alone, and LoRA on GPT-2, whose
    /// input projections PEFT has fused. A file that cannot be written.
    pub fn save_peft(&self, folder: &Path, base_model: &str) -> Result<(), Error> {
        let config = &self.config;
        let (kind, tensors) = self.as_peft()?;
        fs::create_dir_all(folder).map_err(|source| Error::io(folder, source))?;
        save_safetensors(&folder.join(ADAPTER_MODEL), &tensors)?;
        let path = folder.join(ADAPTER_CONFIG);
        let text = format!("{:#}\n", peft_config::write(&kind, base_model, config));
        fs::write(&path, text).map_err(|source| Error::io(&path, source))
    }

    fn as_peft(&self) -> Result<(Kind, Vec<NamedTensor>), Error> {
        let config = &self.config;
        let branches = self.branches();
        let own = self.addition_tensors();
        let refused = |problem: &str| Err(Error::Adapter(problem.to_owned()));
        if self.active == Active::Soft && !own.is_empty() {
            return refused(
                "PEFT has no adapter that acts where the input is soft alone: it would act \
                 everywhere; keep the checkpoint as it is",
            );
        }
        match (branches.is_empty(), self.kv_prefix_len(), self.prompt_len()) {
            (true, 0, 0) => refused("the model has nothing added to its base: there is no adapter"),
            (false, 0, 0) if config.family == Family::Gpt2 => refused(
                "PEFT's LoRA on GPT-2 works on the fused `c_attn`, which is three projections \
                 here: export the merged model instead (`hf`)",
            ),
            (false, 0, 0) => {
                let mut tensors = Vec::with_capacity(own.len());
                let mut own = own.into_iter();
                for branch in &branches {
                    for (name, shape) in branch.expected(Names::Peft, config) {
                        let Some(tensor) = own.next() else { break };
                        tensors.push(turned(tensor, name, shape));
                    }
                }
                Ok((Kind::LowRank(branches), tensors))
            }
            (true, tokens @ 1.., 0) => {
                let parts: Vec<Vec<f32>> = own.into_iter().map(|tensor| tensor.values).collect();
                Ok((Kind::Prefix { tokens }, vec![prefix_embeddings(&parts, tokens, config)]))
            }
            (true, 0, tokens) => {
                let rename = |tensor| NamedTensor { name: EMBEDDINGS.to_owned(), ..tensor };
                Ok((Kind::Prompt { tokens }, own.into_iter().map(rename).collect()))
            }
            _ => refused(
                "one PEFT adapter cannot hold low-rank branches beside a prefix or prompt: keep \
                 the checkpoint as it is",
            ),
        }
    }
}

/// A tensor of this project under PEFT's name: matrices are transposed, vectors have one axis.
fn turned(tensor: NamedTensor, name: String, shape: Vec<usize>) -> NamedTensor {
    let values = match shape[..] {
        [rows, columns] => {
            let values: Vec<f64> = tensor.values.iter().map(|&value| value.into()).collect();
            transposed(&values, [rows, columns]).into_iter().map(|value| value as f32).collect()
        }
        _ => tensor.values,
    };
    NamedTensor { name, shape, values }
}
