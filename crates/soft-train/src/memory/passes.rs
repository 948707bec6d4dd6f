//! What the passes of a step keep for their backward pass, in numbers.
//!
//! On the CPU backend an operation keeps exactly the inputs that its gradient needs (see
//! `soft-core/src/kernels.rs` and Burn's autodiff); everything else is freed as it is used. The
//! counts below are read off `soft-model/src/block.rs` and `attention.rs`.

use soft_model::{Activation, Family, ModelConfig};

use super::parameters::Parameters;
use super::workload::Sizes;

/// A model as its passes see it.
pub(super) struct Passes<'a> {
    pub(super) shape: &'a ModelConfig,
    pub(super) parameters: &'a Parameters,
    /// Whether drop-out draws masks.
    pub(super) drops: bool,
    /// Slots of a learned prefix or prompt.
    pub(super) prefix: usize,
    /// Bytes of a number in the blocks: 4, or 2 in "bf16".
    pub(super) number: f64,
}

/// Bytes of a number from the logits on, and of the attention's weights.
const WIDE: f64 = 4.0;

impl Passes<'_> {
    fn widths(&self) -> [f64; 4] {
        let shape = self.shape;
        let heads = |heads: usize| (heads * shape.head_dim) as f64;
        [shape.d_model as f64, heads(shape.n_heads), heads(shape.n_kv_heads), shape.d_ff as f64]
    }

    fn layers(&self) -> f64 {
        self.shape.n_layers as f64
    }

    /// Numbers that one block keeps of one cell in a full-width pass, the attention's weights left
    /// out: what enters the norms, what they give where a matrix behind them is trained, the
    /// rotated and scaled queries, keys, values, the mixed values, and the feed-forward's.
    fn kept(&self) -> f64 {
        let [d, queries, keys, f] = self.widths();
        let shape = self.shape;
        let layer_norm = f64::from(u8::from(shape.family == Family::Gpt2));
        let of = |kept: bool| f64::from(u8::from(kept));
        let read = self.parameters.in_blocks;
        let norms = 2.0 + of(read.attention) + of(read.up);
        let attention = queries * (1.0 + of(read.output)) + keys * 2.0;
        let head_norms = of(shape.qk_norm) * (queries + keys);
        // The gate and the other half; or what the activation reads, which is made of small
        // operations where there is no kernel for it.
        let inner = match (layer_norm > 0.0, shape.activation) {
            (true, Activation::GeluTanh) if self.is_short() => 3.0,
            (true, _) => 1.0,
            (false, _) => 2.0,
        };
        let dropped = if self.drops { 2.0 * d } else { 0.0 };
        // Norms are composed then, in numbers of twice the size, and so is the gate.
        let composed = if self.is_short() { 6.0 * d + 2.0 * f } else { 0.0 };
        norms * d + attention + head_norms + (inner + of(read.down)) * f + dropped + composed
    }

    /// Whether the blocks compute in a precision for which the CPU backend has no kernels of ours.
    fn is_short(&self) -> bool {
        self.number < 4.0
    }

    /// Copies of the attention's weights that one block keeps.
    fn kept_weights(&self) -> f64 {
        // As exponentials, as weights and in short numbers.
        let composed = if self.is_short() { 0.5 } else { 0.0 };
        composed + if self.drops { 3.0 } else { 1.0 }
    }

    /// Attention weights of `columns` new columns over `slots` in one layer, all rows.
    fn weights(&self, rows: usize, columns: usize, slots: usize) -> f64 {
        (rows * self.shape.n_heads * columns) as f64 * slots as f64
    }

    /// Bytes that `blocks` blocks of a full-width pass keep for the backward pass.
    fn graph(&self, sizes: &Sizes, blocks: f64) -> f64 {
        let (rows, columns) = (sizes.rows, sizes.columns);
        let weights = self.weights(rows, columns, columns + self.prefix) * WIDE;
        blocks * (sizes.cells() as f64 * self.kept() * self.number + self.kept_weights() * weights)
    }

    /// Bytes in use at once within one block, forward without a graph or backward through one.
    fn working(&self, rows: usize, columns: usize, slots: usize) -> f64 {
        let [d, queries, _, f] = self.widths();
        let cells = (rows * columns) as f64;
        cells * (3.0 * f + 2.0 * d + 2.0 * queries) * self.number
            + 2.0 * self.weights(rows, columns, slots) * WIDE
    }

    /// Bytes of the keys and values of all layers.
    pub(super) fn cache(&self, rows: usize, slots: usize) -> f64 {
        let [_, _, keys, _] = self.widths();
        (rows * (slots + self.prefix)) as f64 * 2.0 * keys * self.layers() * self.number
    }

    /// Bytes of `passes` full-width passes with gradient, `recompute` blocks of them at once; 0 is all.
    pub(super) fn full_width(&self, sizes: &Sizes, passes: usize, recompute: usize) -> f64 {
        let [d, ..] = self.widths();
        let (n_layers, passes) = (self.shape.n_layers, passes as f64);
        let cells = sizes.cells() as f64;
        let working = self.working(sizes.rows, sizes.columns, sizes.columns + self.prefix);
        let outer = cells * d * self.number;
        if recompute == 0 {
            return passes * (self.graph(sizes, self.layers()) + 3.0 * outer) + working;
        }
        let groups = n_layers.div_ceil(recompute) as f64;
        // What enters each group; without a graph the keys and values of a group are kept alone.
        let entering = passes * groups * outer;
        let at_once = recompute.min(n_layers) as f64;
        entering + 3.0 * outer + self.graph(sizes, at_once) + working
    }

    /// Bytes of a recurrence whose segments have `length` spans, cut into stretches of `stretch`.
    pub(super) fn recurrence(
        &self,
        sizes: &Sizes,
        segments: &[Vec<std::ops::Range<usize>>],
    ) -> f64 {
        let all = segments.iter().flatten();
        let largest = all.map(|segment| self.segment(sizes, segment)).fold(0.0, f64::max);
        let several = segments.iter().any(|stretch| stretch.len() > 1);
        // The recorded cache, the gradients that arrive for it, and those of a segment's leaves.
        let caches = if several { 3.0 } else { 0.0 };
        largest + caches * self.cache(sizes.rows, sizes.columns)
    }

    /// Bytes that the graph of some spans keeps.
    fn segment(&self, sizes: &Sizes, spans: &std::ops::Range<usize>) -> f64 {
        let [_, _, keys, _] = self.widths();
        let rows = sizes.rows;
        let spans = sizes.starts[spans.start..=spans.end].windows(2);
        let of_span = |span: &[usize]| {
            let (columns, slots) = (span[1] - span[0], span[1] + self.prefix);
            let cells = (rows * columns) as f64;
            // Appending to the cache copies what is in it.
            let appended = if span[0] > 0 { (rows * slots) as f64 * 2.0 * keys } else { 0.0 };
            let weights = self.kept_weights() * self.weights(rows, columns, slots) * WIDE;
            let own = cells * (self.kept() + self.deferred()) + appended;
            self.layers() * (own * self.number + weights)
        };
        spans.map(of_span).sum()
    }

    /// Numbers that one block keeps of one cell for the gradients of its matrices that are taken
    /// later: a zero leaf for each product's output, its sum with the product, and its gradient.
    fn deferred(&self) -> f64 {
        let [d, queries, keys, f] = self.widths();
        if self.parameters.trained_in_blocks == 0 {
            return 0.0;
        }
        let gated = if self.shape.family == Family::Gpt2 { 1.0 } else { 2.0 };
        2.0 * (queries + 2.0 * keys + 2.0 * d + gated * f)
    }

    /// Bytes of a recurrence without gradients: the cache, one block's work on its widest span, and
    /// the copy that appending makes of a layer.
    pub(super) fn running(&self, sizes: &Sizes) -> f64 {
        let widest = sizes.starts.windows(2).map(|span| span[1] - span[0]).max().unwrap_or(0);
        let cache = self.cache(sizes.rows, sizes.columns);
        let slots = sizes.columns + self.prefix;
        cache + 2.0 * cache / self.layers() + self.working(sizes.rows, widest, slots)
    }

    /// Bytes of the logits of `places` and of what the loss makes of them, forward and backward.
    pub(super) fn loss(&self, places: usize, chunk: usize) -> f64 {
        let at_once = if chunk == 0 { places } else { places.min(chunk) };
        LOSS_COPIES * at_once as f64 * self.shape.vocab_size as f64 * WIDE
    }

    /// Bytes of rows as wide as the vocabulary, `copies` of each.
    pub(super) fn rows(&self, places: usize, copies: f64) -> f64 {
        copies * places as f64 * self.shape.vocab_size as f64 * WIDE
    }
}

/// Tensors as wide as the vocabulary that are alive at once in the loss of some places: logits, their
/// logarithms, the entropy's, and the gradients of both.
pub(super) const LOSS_COPIES: f64 = 5.0;
