//! A pre-norm residual block: attention, then feed-forward.

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::activation::{gelu, silu};
use soft_core::{gated_silu, gelu_tanh};

use crate::adapter::Projection;
use crate::attention::{Attention, Pass};
use crate::config::Activation;
use crate::dropout::Site;
use crate::kv_cache::KvCache;
use crate::linear::{At, Linear};
use crate::norm::Norm;

/// `x + attention(norm(x))`, then `x + mlp(norm(x))`.
#[derive(Module, Debug)]
pub(crate) struct Block {
    pub(crate) attention_norm: Norm,
    pub(crate) attention: Attention,
    pub(crate) mlp_norm: Norm,
    pub(crate) mlp: Mlp,
}

/// Feed-forward: `down(act(gate(x)) * up(x))` with a gate, else `down(act(up(x)))`.
#[derive(Module, Debug)]
pub(crate) struct Mlp {
    pub(crate) gate: Option<Linear>,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
    #[module(skip)]
    pub(crate) activation: Activation,
}

impl Block {
    /// # Shapes
    /// - x: `[batch * seq, d_model]`; output: the same
    pub(crate) fn forward(
        &self,
        x: Tensor<2>,
        layer: usize,
        cache: &mut KvCache,
        pass: &Pass<'_>,
    ) -> Tensor<2> {
        let attended =
            self.attention.forward(self.attention_norm.forward(x.clone()), layer, cache, pass);
        let x = pass.residual(x, attended, Site::AttentionOutput { layer });
        let fed = self.mlp.forward(self.mlp_norm.forward(x.clone()), layer, pass);
        pass.residual(x, fed, Site::FeedForward { layer })
    }
}

impl Mlp {
    /// # Shapes
    /// - x: `[rows, d_model]`; output: the same
    pub(crate) fn forward(&self, x: Tensor<2>, layer: usize, pass: &Pass<'_>) -> Tensor<2> {
        let at = |projection| At { pass, layer, projection };
        let inner = match &self.gate {
            Some(gate) => {
                let gate = gate.forward(x.clone(), at(Projection::Gate));
                let up = self.up.forward(x, at(Projection::Up));
                match self.activation {
                    Activation::Silu => gated_silu(gate, up),
                    other => activate(gate, other) * up,
                }
            }
            None => activate(self.up.forward(x, at(Projection::Up)), self.activation),
        };
        self.down.forward(inner, at(Projection::Down))
    }
}

fn activate(x: Tensor<2>, activation: Activation) -> Tensor<2> {
    match activation {
        Activation::Silu => silu(x),
        Activation::Gelu => gelu(x),
        Activation::GeluTanh => gelu_tanh(x),
    }
}
