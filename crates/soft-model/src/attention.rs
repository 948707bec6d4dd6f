//! Grouped-query attention over a K/V prefix and a cache.

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::active::Reach;
use crate::adapter::Projection;
use crate::dropout::{PassDropout, Site};
use crate::kv_cache::{Columns, KvCache, LayerCache};
use crate::linear::{At, ColumnNorms, Linear};
use crate::norm::Norm;
use crate::rope::Rotation;

/// What every layer of one pass shares.
pub(crate) struct Pass<'a> {
    pub(crate) columns: &'a Columns,
    pub(crate) mask: Option<Tensor<4>>,
    pub(crate) rotation: Option<Rotation>,
    /// Drop-out of the model's own sites.
    pub(crate) dropout: Option<&'a PassDropout>,
    /// Drop-out of the low-rank branches, which have rates of their own.
    pub(crate) branch_dropout: Option<&'a PassDropout>,
    /// What weight-decomposed branches divide by, where the cache brings it.
    pub(crate) norms: Option<Arc<ColumnNorms>>,
    /// Where the additions act.
    pub(crate) reach: Reach,
    /// First slots, of a prefix, that no column of the pass sees.
    pub(crate) unseen: usize,
}

impl Pass<'_> {
    /// `x + y`, where some of y is dropped in training.
    pub(crate) fn residual(&self, x: Tensor<2>, y: Tensor<2>, site: Site) -> Tensor<2> {
        match self.dropout {
            Some(dropout) => dropout.residual(x, y, &self.columns.positions, site),
            None => x + y,
        }
    }
}

/// Multi-head attention with `n_kv_heads` key/value heads, each serving a group of query heads.
#[derive(Module, Debug)]
pub(crate) struct Attention {
    pub(crate) query: Linear,
    pub(crate) key: Linear,
    pub(crate) value: Linear,
    pub(crate) output: Linear,
    pub(crate) query_norm: Option<Norm>,
    pub(crate) key_norm: Option<Norm>,
    pub(crate) prefix: Option<Prefix>,
    #[module(skip)]
    pub(crate) n_heads: usize,
    #[module(skip)]
    pub(crate) n_kv_heads: usize,
    #[module(skip)]
    pub(crate) head_dim: usize,
}

/// Learned keys and values before the first position (prefix tuning, Li and Liang 2021,
/// arXiv:2101.00190): `[n_kv_heads, tokens, head_dim]` each. They are not rotated, and the tokens
/// after them take positions from `tokens` on, as PEFT has it.
#[derive(Module, Debug)]
pub(crate) struct Prefix {
    pub(crate) keys: Param<Tensor<3>>,
    pub(crate) values: Param<Tensor<3>>,
}

impl Prefix {
    /// The prefix as the first slots of a cache of one row.
    pub(crate) fn slots(&self) -> LayerCache {
        let one = |x: Tensor<3>| x.unsqueeze::<4>();
        LayerCache { keys: one(self.keys.val()), values: one(self.values.val()) }
    }
}

impl Attention {
    /// # Shapes
    /// - x: `[batch * seq, d_model]`, with `batch` and `seq` those of the pass's columns
    /// - output: as x
    pub(crate) fn forward(
        &self,
        x: Tensor<2>,
        layer: usize,
        cache: &mut KvCache,
        pass: &Pass<'_>,
    ) -> Tensor<2> {
        let batch = pass.columns.positions.len();
        let seq = pass.columns.positions[0].len();
        let (n_heads, n_kv_heads, head_dim) = (self.n_heads, self.n_kv_heads, self.head_dim);
        let at = |projection| At { pass, layer, projection };
        let split = |x, norm: &Option<Norm>, heads| split(x, norm, [batch, seq, heads, head_dim]);
        let query = self.query.forward(x.clone(), at(Projection::Query));
        let query = split(query, &self.query_norm, n_heads);
        let key = self.key.forward(x.clone(), at(Projection::Key));
        let key = split(key, &self.key_norm, n_kv_heads);
        let value = split(self.value.forward(x, at(Projection::Value)), &None, n_kv_heads);
        let (query, key) = match &pass.rotation {
            Some(rotation) => (rotation.apply(query), rotation.apply(key)),
            None => (query, key),
        };
        let all = cache.append(layer, key, value).skip(pass.unseen);

        let mixed = self.mixed(query, &all, layer, cache, pass);
        self.output.forward(mixed, at(Projection::Output))
    }
}

impl Attention {
    /// The values of the slots, weighted.
    ///
    /// # Shapes
    /// - query: `[batch, n_heads, seq, head_dim]`; output: `[batch * seq, n_heads * head_dim]`
    fn mixed(
        &self,
        query: Tensor<4>,
        all: &LayerCache,
        layer: usize,
        cache: &mut KvCache,
        pass: &Pass<'_>,
    ) -> Tensor<2> {
        let [batch, n_heads, seq, head_dim] = query.dims();
        let [_, n_kv_heads, slots, _] = all.keys.dims();
        let group = n_heads / n_kv_heads;
        let flat = [batch * seq, n_heads * head_dim];
        let scale = (head_dim as f64).powf(-0.5);
        let drops = pass.dropout.map(|dropout| {
            let shape = [batch, n_kv_heads, group * seq, slots];
            let like = soft_core::at_least_f32(query.clone());
            dropout.attention(shape, pass.columns, layer, &like)
        });
        if !cache.is_watched() {
            let mask = pass.mask.as_ref();
            let pair = [&all.keys, &all.values];
            let mixed = soft_core::attention_over_few(&query, pair, mask, drops.as_ref(), scale);
            if let Some(mixed) = mixed {
                return mixed.reshape(flat);
            }
        }
        // The heads of a group are more queries of the same key/value head: nothing is repeated.
        let query = (query * scale).reshape([batch, n_kv_heads, group * seq, head_dim]);
        let scores = query.matmul(all.keys.clone().swap_dims(2, 3));
        let scores = match &pass.mask {
            Some(mask) => scores + mask.clone(),
            None => scores,
        };
        let dtype = scores.dtype();
        let mut weights = soft_core::softmax_last(soft_core::at_least_f32(scores)); // [batch, n_kv_heads, group * seq, slots]
        cache.see(&weights);
        if let Some(drops) = drops {
            weights = weights * drops;
        }
        weights
            .cast(dtype)
            .matmul(all.values.clone())
            .reshape([batch, n_heads, seq, head_dim])
            .swap_dims(1, 2)
            .reshape(flat)
    }
}

/// Splits a projection into heads: `[batch * seq, heads * head_dim]` to
/// `[batch, heads, seq, head_dim]`.
fn split(
    mut x: Tensor<2>,
    norm: &Option<Norm>,
    [batch, seq, heads, head_dim]: [usize; 4],
) -> Tensor<4> {
    if let Some(norm) = norm {
        x = norm
            .forward(x.reshape([batch * seq * heads, head_dim]))
            .reshape([batch * seq, heads * head_dim]);
    }
    x.reshape([batch, seq, heads, head_dim]).swap_dims(1, 2)
}
