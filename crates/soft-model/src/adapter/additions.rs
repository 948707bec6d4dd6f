//! What a file adds to a base model, checked against it before any value is read.

use std::path::{Path, PathBuf};

use burn::module::Param;
use burn::tensor::{DType, Device, Tensor};
use soft_core::float_tensor;

use super::Projection;
use super::peft_files::{self, ADAPTER_CONFIG};
use crate::attention::Prefix;
use crate::config::ModelConfig;
use crate::linear::BranchSettings;
use crate::{Active, Error, ModelFiles, Transformer, Weights};

/// What was added to a frozen base, checked against it; no value is read yet.
#[derive(Debug)]
pub(crate) struct Additions {
    pub(super) branches: Vec<Branch>,
    pub(super) prefix_tokens: usize,
    pub(super) prompt_tokens: usize,
    /// Where they act.
    pub(crate) active: Active,
    pub(super) names: Names,
    pub(super) values: Weights,
}

/// One low-rank branch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Branch {
    pub(super) layer: usize,
    pub(super) projection: Projection,
    pub(super) rank: usize,
    pub(super) settings: BranchSettings,
    pub(super) dora: bool,
}

/// Whose names and orientation the tensors have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// This project's own: `layers.0.q_proj.low_rank_a [d_in, rank]`.
    Own,
    /// PEFT's: `base_model.model.PATH.lora_A.weight [rank, d_in]`.
    Peft,
}

impl Additions {
    /// The additions that lie beside a base in a checkpoint of this project, or PEFT's in an
    /// adapter folder.
    ///
    /// # Errors
    /// A folder with neither, and what the two formats refuse.
    pub(crate) fn of_adapter(folder: &Path, config: &ModelConfig) -> Result<Self, Error> {
        std::fs::metadata(folder).map_err(|source| Error::io(folder, source))?;
        if folder.is_file() {
            let problem = "give the folder that the adapter lies in";
            return Err(Error::not_a_model(folder, problem));
        }
        if folder.join(ADAPTER_CONFIG).exists() {
            return Ok(peft_files::read(folder, config)?.0);
        }
        Self::open(folder, config)?.ok_or_else(|| {
            let problem = format!(
                "no adapter: expected {ADAPTER_CONFIG} of PEFT, or a checkpoint of this project \
                 with low-rank branches, a prefix or a prompt"
            );
            Error::not_a_model(folder, problem)
        })
    }

    /// Slots of a prefix or prompt.
    fn slots(&self) -> usize {
        self.prefix_tokens + self.prompt_tokens
    }

    /// Positions that a prefix or prompt takes from the tokens.
    pub(crate) fn taken_positions(&self) -> usize {
        match self.active {
            Active::Always => self.slots(),
            Active::Soft => 0,
        }
    }

    /// Number of values in all tensors.
    pub(crate) fn parameters(&self) -> usize {
        let shapes = self.values.names().filter_map(|name| self.values.shape(name));
        shapes.map(|shape| shape.iter().product::<usize>()).sum()
    }

    /// Why additions of these kinds would replace what is there.
    pub(crate) fn conflict(&self, low_rank: bool, prefix: bool, prompt: bool) -> Option<Error> {
        if low_rank && !self.branches.is_empty() {
            return Some(super::already_there("low-rank branches", "low_rank.rank"));
        }
        if prefix && self.slots() > 0 {
            return Some(super::already_there("a prefix or prompt", "prefix.tokens"));
        }
        (prompt && self.slots() > 0)
            .then(|| super::already_there("a prefix or prompt", "prompt.tokens"))
    }

    fn read(&self, name: &str) -> Result<Vec<f64>, Error> {
        Ok(self.values.f32_values(name)?.into_iter().map(f64::from).collect())
    }

    /// Keys and values of one layer's prefix, each `[n_kv_heads, tokens, head_dim]`.
    fn prefix(&self, layer: usize, config: &ModelConfig) -> Result<[Vec<f64>; 2], Error> {
        match self.names {
            Names::Own => {
                let read = |part| self.read(&format!("layers.{layer}.prefix_{part}"));
                Ok([read("keys")?, read("values")?])
            }
            Names::Peft => peft_files::prefix_of_layer(
                &self.read(peft_files::EMBEDDINGS)?,
                layer,
                self.prefix_tokens,
                config,
            ),
        }
    }
}

impl Branch {
    pub(super) fn widths(&self, config: &ModelConfig) -> [usize; 2] {
        self.projection.widths(config).unwrap_or_default()
    }

    /// Names of A, B and, with DoRA, the magnitude.
    pub(super) fn names(&self, names: Names, config: &ModelConfig) -> Vec<String> {
        let parts = match names {
            Names::Own => {
                let module = format!("layers.{}.{}", self.layer, self.projection.name());
                ["a", "b", "magnitude"].map(|part| format!("{module}.low_rank_{part}"))
            }
            Names::Peft => {
                let module = self.projection.path(config.family, self.layer);
                ["lora_A.weight", "lora_B.weight", "lora_magnitude_vector"]
                    .map(|part| format!("base_model.model.{module}.{part}"))
            }
        };
        parts.into_iter().take(if self.dora { 3 } else { 2 }).collect()
    }

    /// Names and shapes of its tensors.
    pub(super) fn expected(&self, names: Names, config: &ModelConfig) -> Vec<(String, Vec<usize>)> {
        let [d_in, d_out] = self.widths(config);
        let shapes = match names {
            Names::Own => [vec![d_in, self.rank], vec![self.rank, d_out], vec![1, d_out]],
            Names::Peft => [vec![self.rank, d_in], vec![d_out, self.rank], vec![d_out]],
        };
        self.names(names, config).into_iter().zip(shapes).collect()
    }
}

impl Transformer {
    /// The model that a path holds: the base, and the low-rank branches and prefix or prompt of a
    /// checkpoint of this project or of an adapter ([`ModelFiles::with_adapter`]).
    ///
    /// # Errors
    /// Tensors that do not fit, or values that are no numbers.
    pub fn open(files: &ModelFiles, device: &Device, dtype: DType) -> Result<Self, Error> {
        let model = Self::from_weights(&files.config, &files.weights, device, dtype)?;
        match &files.additions {
            None => Ok(model),
            Some(additions) => model.with_additions(additions),
        }
    }

    /// Freezes the base and attaches what a file adds, with its values.
    pub(super) fn with_additions(self, additions: &Additions) -> Result<Self, Error> {
        if let Some(error) = self.has_conflict(additions) {
            return Err(error);
        }
        let mut model = self.with_frozen_base().with_active(additions.active);
        let (device, dtype) = (model.device(), model.dtype());
        let config = model.config.clone();
        for branch in &additions.branches {
            let Some(linear) = model.blocks[branch.layer].projection_mut(branch.projection) else {
                continue;
            };
            let [d_in, d_out] = branch.widths(&config);
            let names = branch.names(additions.names, &config);
            let matrix = |name: &str, shape: [usize; 2]| -> Result<Tensor<2>, Error> {
                let values = additions.read(name)?;
                Ok(match additions.names {
                    Names::Own => float_tensor(values, shape, &device, dtype),
                    Names::Peft => {
                        let values = transposed(&values, shape);
                        float_tensor(values, shape, &device, dtype)
                    }
                })
            };
            let a = matrix(&names[0], [d_in, branch.rank])?;
            let b = matrix(&names[1], [branch.rank, d_out])?;
            linear.attach(a, b, branch.settings, false);
            if let (Some(name), Some(attached)) = (names.get(2), &mut linear.low_rank) {
                let values = additions.read(name)?;
                let magnitude = float_tensor(values, [1, d_out], &device, dtype);
                attached.magnitude = Some(Param::from_tensor(magnitude));
            }
        }
        if additions.prefix_tokens > 0 {
            let shape = [config.n_kv_heads, additions.prefix_tokens, config.head_dim];
            for (layer, block) in model.blocks.iter_mut().enumerate() {
                let [keys, values] = additions
                    .prefix(layer, &config)?
                    .map(|part| Param::from_tensor(float_tensor(part, shape, &device, dtype)));
                block.attention.prefix = Some(Prefix { keys, values });
            }
        }
        if additions.prompt_tokens > 0 {
            let shape = [additions.prompt_tokens, config.d_model];
            let name = match additions.names {
                Names::Own => super::own_files::PROMPT,
                Names::Peft => peft_files::EMBEDDINGS,
            };
            let rows = float_tensor(additions.read(name)?, shape, &device, dtype);
            model.prompt = Some(Param::from_tensor(rows));
        }
        Ok(model)
    }

    fn has_conflict(&self, additions: &Additions) -> Option<Error> {
        let one_of = |what: &str| {
            Error::Adapter(format!("the model has {what} already; an adapter would replace it"))
        };
        if !additions.branches.is_empty() && self.num_low_rank() > 0 {
            return Some(one_of("low-rank branches"));
        }
        let others = self.num_low_rank() > 0 || self.prefix_len() > 0;
        if others && self.active != additions.active {
            return Some(Error::Adapter(format!(
                "what the model has already acts {}, the adapter {}: both must act at the same \
                 positions",
                self.active.in_words(),
                additions.active.in_words()
            )));
        }
        (additions.slots() > 0 && self.prefix_len() > 0).then(|| one_of("a prefix or prompt"))
    }
}

/// Values of a matrix of this shape from those of its transpose.
pub(super) fn transposed(values: &[f64], [rows, columns]: [usize; 2]) -> Vec<f64> {
    (0..rows * columns).map(|i| values[i % columns * rows + i / columns]).collect()
}

impl ModelFiles {
    /// The same base with an adapter over it: a PEFT folder, or the additions of a checkpoint of
    /// this project, whose settings for generation come with them.
    ///
    /// # Errors
    /// A base that has additions of its own, and an adapter that does not fit the base.
    pub fn with_adapter(mut self, folder: &Path) -> Result<Self, Error> {
        if self.additions.is_some() {
            let problem = format!(
                "{} has low-rank branches or a prefix of its own; give its base model, or leave \
                 out --adapter",
                self.weights.path().display()
            );
            return Err(Error::not_a_model(folder, problem));
        }
        self.additions = Some(Additions::of_adapter(folder, &self.config)?);
        let soft: PathBuf = folder.join(crate::model_files::SOFT_CONFIG);
        if soft.exists() {
            self.soft = Some(crate::model_files::read_settings(&soft)?);
        }
        Ok(self)
    }
}
