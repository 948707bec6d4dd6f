//! Building a [`Transformer`]: from a checkpoint's tensors, or from a seed.

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor, TensorData};
use soft_core::{NoiseKey, Place, uniform_stream};

use crate::attention::Attention;
use crate::block::{Block, Mlp};
use crate::config::{Family, ModelConfig, Positions};
use crate::linear::Linear;
use crate::names::{BlockNames, QueryKeyValue, block_names, outer_names};
use crate::norm::Norm;
use crate::{Error, Transformer, Weights};

/// Values a tensor starts with when no checkpoint gives them.
#[derive(Debug, Clone, Copy)]
enum Start {
    Zeros,
    Ones,
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
}

/// Where tensors come from, by Hugging Face name and `[out, in]` shape.
trait TensorSource {
    fn values(&mut self, name: &str, shape: &[usize], start: Start) -> Result<Vec<f32>, Error>;
}

struct FromWeights<'a>(&'a Weights);

impl TensorSource for FromWeights<'_> {
    fn values(&mut self, name: &str, _: &[usize], _: Start) -> Result<Vec<f32>, Error> {
        self.0.f32_values(name)
    }
}

/// A stream of its own for every tensor, so that the same seed gives the same model everywhere.
struct FromSeed {
    seed: u64,
    tensors: u32,
}

impl TensorSource for FromSeed {
    fn values(&mut self, _: &str, shape: &[usize], start: Start) -> Result<Vec<f32>, Error> {
        let count = shape.iter().product();
        self.tensors += 1;
        Ok(match start {
            Start::Zeros => vec![0.0; count],
            Start::Ones => vec![1.0; count],
            Start::Normal(std) => {
                normal(self.seed, self.tensors, count).map(|x| (x * std) as f32).collect()
            }
        })
    }
}

/// Standard normal numbers (Box-Muller) from the stream of a parameter.
pub(crate) fn normal(seed: u64, index: u32, count: usize) -> impl Iterator<Item = f64> {
    let key = NoiseKey { seed, step: 0, row: 0, position: 0 };
    let mut uniform = uniform_stream(key, Place::Init(index));
    std::iter::from_fn(move || {
        let radius = (-2.0 * uniform.next()?.ln()).sqrt();
        Some(radius * (2.0 * std::f64::consts::PI * uniform.next()?).cos())
    })
    .take(count)
}

impl Transformer {
    /// A model with the tensors of a checkpoint, in precision `dtype`.
    ///
    /// # Errors
    /// Missing, unexpected and mis-shaped tensors, listed together, or an unreadable file.
    pub fn from_weights(
        config: &ModelConfig,
        weights: &Weights,
        device: &Device,
        dtype: DType,
    ) -> Result<Self, Error> {
        weights.check(config)?;
        Self::from_checked_weights(config, weights, device, dtype)
    }

    /// [`Self::from_weights`] where the caller has compared the tensors with the configuration,
    /// and allows others beside them.
    ///
    /// # Errors
    /// A missing tensor, or values that are no numbers.
    pub(crate) fn from_checked_weights(
        config: &ModelConfig,
        weights: &Weights,
        device: &Device,
        dtype: DType,
    ) -> Result<Self, Error> {
        Builder { config, source: FromWeights(weights), device: device.clone().inner(), dtype }
            .transformer()
            .map(|model| on(device, model))
    }

    /// A fresh model. Matrices are normal with standard deviation 0.02, those that write into the
    /// residual stream with 0.02 / sqrt(2 n_layers), biases are 0 and norms 1 (GPT-2's scheme).
    pub fn from_seed(config: &ModelConfig, seed: u64, device: &Device, dtype: DType) -> Self {
        let source = FromSeed { seed, tensors: 0 };
        let model = Builder { config, source, device: device.clone().inner(), dtype }
            .transformer()
            .expect("a seed gives every tensor that is asked for");
        on(device, model)
    }
}

/// Parameters are views of stored matrices, which on an autodiff device would be no leaves: they
/// are made without autodiff and moved there.
fn on(device: &Device, model: Transformer) -> Transformer {
    if device.is_autodiff() { model.train() } else { model }
}

struct Builder<'a, S> {
    config: &'a ModelConfig,
    source: S,
    device: Device,
    dtype: DType,
}

const INIT_STD: f64 = 0.02;

impl<S: TensorSource> Builder<'_, S> {
    fn transformer(mut self) -> Result<Transformer, Error> {
        let config = self.config;
        let names = outer_names(config.family);
        let (vocab, d_model) = (config.vocab_size, config.d_model);
        let embedding = self.matrix(names.embedding, [vocab, d_model], Start::Normal(INIT_STD))?;
        let positions = match config.positions {
            Positions::Learned => {
                let shape = [config.max_positions, d_model];
                Some(self.matrix(names.positions, shape, Start::Normal(INIT_STD))?)
            }
            Positions::Rotary { .. } => None,
        };
        let blocks = (0..config.n_layers)
            .map(|layer| self.block(&block_names(config.family, layer)))
            .collect::<Result<_, _>>()?;
        let final_norm = self.norm(names.final_norm, d_model)?;
        let head = if config.tied_embeddings {
            None
        } else {
            let weight = self.matrix(names.head, [vocab, d_model], Start::Normal(INIT_STD))?;
            Some(Linear::new(weight.transpose(), None))
        };
        Ok(Transformer {
            embedding: burn::module::Param::from_tensor(embedding),
            positions: positions.map(burn::module::Param::from_tensor),
            prompt: None,
            blocks,
            final_norm,
            head,
            token_rows: None,
            config: config.clone(),
            rope: Transformer::rope_of(config),
            active: crate::Active::Always,
        })
    }

    fn block(&mut self, names: &BlockNames) -> Result<Block, Error> {
        let c = self.config;
        let [d_q, d_kv] = [c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim];
        let plain = Start::Normal(INIT_STD);
        let residual = Start::Normal(INIT_STD / (2.0 * c.n_layers as f64).sqrt());
        let attention_norm = self.norm(&names.attention_norm, c.d_model)?;
        let [query, key, value] = match &names.query_key_value {
            QueryKeyValue::Separate([q, k, v]) => [
                self.linear(q, [d_q, c.d_model], c.qkv_bias, plain)?,
                self.linear(k, [d_kv, c.d_model], c.qkv_bias, plain)?,
                self.linear(v, [d_kv, c.d_model], c.qkv_bias, plain)?,
            ],
            QueryKeyValue::Fused(name) => self.fused(name, [d_q, d_kv, d_kv])?,
        };
        let output =
            self.linear(&names.attention_output, [c.d_model, d_q], c.output_bias, residual)?;
        let (query_norm, key_norm) = if c.qk_norm {
            let query_norm = self.norm(&names.query_norm, c.head_dim)?;
            (Some(query_norm), Some(self.norm(&names.key_norm, c.head_dim)?))
        } else {
            (None, None)
        };
        let mlp_norm = self.norm(&names.mlp_norm, c.d_model)?;
        let gate = if c.family == Family::Gpt2 {
            None
        } else {
            Some(self.linear(&names.gate, [c.d_ff, c.d_model], c.mlp_bias, plain)?)
        };
        let up = self.linear(&names.up, [c.d_ff, c.d_model], c.mlp_bias, plain)?;
        let down = self.linear(&names.down, [c.d_model, c.d_ff], c.mlp_bias, residual)?;
        Ok(Block {
            attention_norm,
            attention: Attention {
                query,
                key,
                value,
                output,
                query_norm,
                key_norm,
                prefix: None,
                n_heads: c.n_heads,
                n_kv_heads: c.n_kv_heads,
                head_dim: c.head_dim,
            },
            mlp_norm,
            mlp: Mlp { gate, up, down, activation: c.activation },
        })
    }

    fn matrix(&mut self, name: &str, shape: [usize; 2], start: Start) -> Result<Tensor<2>, Error> {
        let values = self.source.values(name, &shape, start)?;
        Ok(self.tensor(values, shape))
    }

    fn vector(&mut self, name: &str, width: usize, start: Start) -> Result<Tensor<2>, Error> {
        let values = self.source.values(name, &[width], start)?;
        Ok(self.tensor(values, [1, width]))
    }

    fn tensor(&self, values: Vec<f32>, shape: [usize; 2]) -> Tensor<2> {
        let data = TensorData::new(values, shape).convert_dtype(self.dtype);
        Tensor::from_data(data, (&self.device, self.dtype))
    }

    fn linear(
        &mut self,
        name: &str,
        shape: [usize; 2],
        bias: bool,
        start: Start,
    ) -> Result<Linear, Error> {
        let weight = self.matrix(&format!("{name}.weight"), shape, start)?.transpose();
        let bias = if bias {
            Some(self.vector(&format!("{name}.bias"), shape[0], Start::Zeros)?)
        } else {
            None
        };
        Ok(Linear::new(weight, bias))
    }

    /// Splits GPT-2's one input projection into query, key and value.
    fn fused(&mut self, name: &str, widths: [usize; 3]) -> Result<[Linear; 3], Error> {
        let total = widths.iter().sum();
        let shape = [total, self.config.d_model];
        let weight = self.matrix(&format!("{name}.weight"), shape, Start::Normal(INIT_STD))?;
        let bias = self.vector(&format!("{name}.bias"), total, Start::Zeros)?;
        let mut first = 0;
        Ok(widths.map(|width| {
            let rows = weight.clone().narrow(0, first, width);
            let bias = bias.clone().narrow(1, first, width);
            first += width;
            // A copy of its own: the three parts are three parameters.
            Linear::new(rows.transpose(), Some(bias))
        }))
    }

    fn norm(&mut self, name: &str, width: usize) -> Result<Norm, Error> {
        let weight = self.vector(&format!("{name}.weight"), width, Start::Ones)?;
        let bias = if self.config.family == Family::Gpt2 {
            Some(self.vector(&format!("{name}.bias"), width, Start::Zeros)?)
        } else {
            None
        };
        Ok(Norm::new(weight, bias, self.config.norm_eps))
    }
}
