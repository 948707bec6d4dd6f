//! What the cross-crate tests and benchmarks share: tiny real models, batches, oracles.

mod allocator;
pub mod bench;
pub mod classifiers;
pub mod estimators;
pub mod fuzz;
pub mod nudge;
pub mod runs;
pub mod soak;
pub mod steps;
pub mod study;
pub mod text;

use std::path::PathBuf;

use burn::tensor::{DType, Device};
use soft_model::{Activation, Family, ModelConfig, Positions, Transformer};
use soft_train::batch::Batch;
use soft_train::example::{Example, Truth};

/// Compared with the system's allocator, large tensors are not mapped and unmapped each time.
#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::Allocator;

/// The device the tests run on: `SOFT_DEVICE`, else the CPU backend.
///
/// # Panics
/// If the name is not that of a compiled backend.
pub fn device() -> Device {
    let name = std::env::var("SOFT_DEVICE").unwrap_or_else(|_| "flex".to_owned());
    soft_core::device_from_name(&name).unwrap_or_else(|error| panic!("SOFT_DEVICE: {error}"))
}

/// The real model's file: in `SOFT_MODELS` if that is set, else in `models`, where
/// `cargo xtask fetch` puts it, or `../shared/models`. Says so when it is in none.
pub fn smollm2() -> Option<PathBuf> {
    const FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let folders = match std::env::var_os("SOFT_MODELS") {
        Some(folder) => vec![PathBuf::from(folder)],
        None => vec![root.join("models"), root.join("../shared/models")],
    };
    let found = folders.iter().map(|folder| folder.join(FILE)).find(|path| path.is_file());
    if found.is_none() {
        eprintln!("SKIPPED: no {FILE} in {folders:?}; run `cargo xtask fetch`");
    }
    found
}

/// A small decoder with vocabulary 20 of either family; Llama has grouped heads.
pub fn tiny_config(family: Family) -> ModelConfig {
    let gpt2 = family == Family::Gpt2;
    ModelConfig {
        family,
        vocab_size: 20,
        d_model: 16,
        d_ff: 32,
        n_layers: 2,
        n_heads: 4,
        n_kv_heads: if gpt2 { 4 } else { 2 },
        head_dim: 4,
        max_positions: 64,
        norm_eps: 1e-5,
        positions: if gpt2 {
            Positions::Learned
        } else {
            Positions::Rotary { theta: 10_000.0, scaling: None }
        },
        activation: if gpt2 { Activation::GeluTanh } else { Activation::Silu },
        qkv_bias: gpt2,
        output_bias: gpt2,
        mlp_bias: gpt2,
        qk_norm: family == Family::Qwen3,
        sliding_window: None,
        tied_embeddings: true,
        dropout: 0.0,
        bos_id: None,
        eos_ids: Vec::new(),
        pad_id: None,
    }
}

/// A tiny model whose weights are large enough for its distributions to differ from uniform.
pub fn tiny_model(family: Family, device: &Device, dtype: DType) -> Transformer {
    let model = Transformer::from_seed(&tiny_config(family), 7, &device.clone().inner(), dtype);
    let model = scale_weights(model, 12.0);
    if device.is_autodiff() { burn::module::Module::train(model) } else { model }
}

/// Multiplies every parameter but norms by `factor`.
fn scale_weights(model: Transformer, factor: f64) -> Transformer {
    use burn::module::{Module, ModuleMapper, Param};
    use burn::tensor::Tensor;
    struct Scale(f64);
    impl ModuleMapper for Scale {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let is_norm = param.val().dims()[0] == 1;
            let factor = if is_norm { 1.0 } else { self.0 };
            param.map(|x| x * factor)
        }
    }
    model.map(&mut Scale(factor))
}

/// A batch of ragged rows with soft spans of different places and lengths, soft and hard truth,
/// a soft position without truth, and positions that are not scored.
pub fn ragged_batch() -> Batch {
    let soft_truth = Truth::Soft(vec![(3, 0.5), (4, 0.25), (9, 0.25)]);
    let row = |ids: &[u32], soft: &[usize], unscored: &[usize], blind: &[usize]| {
        let mut example = Example::from_tokens(ids, 1);
        for &t in soft {
            example.soft[t] = true;
            example.truth[t] = soft_truth.clone();
        }
        for &t in unscored {
            example.weight[t] = 0.0;
        }
        for &t in blind {
            example.truth[t] = Truth::None;
            example.weight[t] = 0.0;
        }
        example
    };
    Batch::new(vec![
        row(&[1, 5, 6, 7, 8, 9, 10, 11], &[3, 4, 5], &[1, 4], &[]),
        row(&[2, 12, 3, 4, 5], &[2, 3], &[], &[]),
        row(&[3, 7, 7, 2, 1, 6, 13, 14, 15], &[2, 6, 7], &[], &[6]),
    ])
}

/// A small configuration of every family with its peculiarity: grouped heads (Llama, tied and
/// not), a sliding window of 3 (Mistral), biases (Qwen2), head norms and heads wider than
/// `d_model / n_heads` (Qwen3), learned positions (GPT-2).
pub fn every_family() -> Vec<(&'static str, ModelConfig)> {
    let config = tiny_config;
    vec![
        ("llama", config(Family::Llama)),
        ("untied llama", ModelConfig { tied_embeddings: false, ..config(Family::Llama) }),
        ("mistral", ModelConfig { sliding_window: Some(3), ..config(Family::Mistral) }),
        ("qwen2", ModelConfig { qkv_bias: true, ..config(Family::Qwen2) }),
        ("qwen3", ModelConfig { head_dim: 8, ..config(Family::Qwen3) }),
        ("gpt2", config(Family::Gpt2)),
    ]
}

/// An f32 model of the configuration on [`device`] whose every parameter matters: matrices as
/// those of [`tiny_model`], biases not 0 and norms not 1.
pub fn lively_model(config: &ModelConfig) -> Transformer {
    use burn::module::{Module, ModuleMapper, Param};
    use burn::tensor::Tensor;
    struct Uneven;
    impl ModuleMapper for Uneven {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let dims = param.val().dims();
            if dims[0] != 1 {
                return param;
            }
            param.map(|x| {
                let uneven = (0..dims.iter().product::<usize>()).map(|i| (i as f64).sin() * 0.3);
                x.clone() + soft_core::float_tensor(uneven.collect(), dims, &x.device(), x.dtype())
            })
        }
    }
    let model = Transformer::from_seed(config, 7, &device(), DType::F32);
    scale_weights(model, 12.0).map(&mut Uneven)
}

/// Moves every trained parameter away from where it started, where a branch changes nothing.
#[derive(Debug)]
pub struct MoveTrained;

impl burn::module::ModuleMapper for MoveTrained {
    fn map_float<const D: usize>(
        &mut self,
        param: burn::module::Param<burn::tensor::Tensor<D>>,
    ) -> burn::module::Param<burn::tensor::Tensor<D>> {
        if !param.is_require_grad() {
            return param;
        }
        let dims = param.val().dims();
        param.map(|x| {
            let more = (0..dims.iter().product::<usize>()).map(|i| 0.2 * (1.7 * i as f64).sin());
            let (device, dtype) = (x.device(), x.dtype());
            let moved = x.detach() + soft_core::float_tensor(more.collect(), dims, &device, dtype);
            let values = soft_core::host_values(moved);
            soft_core::float_tensor(values, dims, &device, dtype).require_grad()
        })
    }
}
