//! Attention over few slots and its gradients in one pass each.
//!
//! Tiny models attend over a dozen slots: the two products of a head are then smaller than the
//! cost of calling for them, and each of the operations around them is a node of the graph.

use burn::backend::flex::FlexTensor;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::node::{Kernel, PARALLEL, exp, tensor, values};

/// Slots up to which this is used. Steps of MNNS (9 slots) gain 7 %; steps of ProsQA (60 slots, heads
/// of 16) lose 11 %: the bound is to come down to where both cost the same, which lies between.
pub(super) const MOST_SLOTS: usize = 64;

/// Of queries, keys, values, mask and drop-out scales; the last two are constants.
#[derive(Debug, Clone, Copy)]
pub(super) struct FewSlots {
    /// What the products of queries and keys are multiplied by.
    pub(super) scale: f32,
    /// Whether there is a mask; else the fourth input is ignored.
    pub(super) masked: bool,
    /// Whether there are drop-out scales; else the last input is ignored.
    pub(super) drops: bool,
}

/// What the backward pass needs.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    query: FlexTensor,
    key: FlexTensor,
    value: FlexTensor,
    scales: Option<FlexTensor>,
    weights: Vec<f32>,
}

/// Sizes of an attention.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    batch: usize,
    heads: usize,
    /// Query heads of one key/value head.
    group: usize,
    seq: usize,
    slots: usize,
    depth: usize,
}

impl Sizes {
    fn of(query: &FlexTensor, key: &FlexTensor) -> Self {
        let (q, k) = (query.layout().shape(), key.layout().shape());
        Self { batch: q[0], heads: q[1], group: q[1] / k[1], seq: q[2], slots: k[2], depth: q[3] }
    }

    fn is_long(self) -> bool {
        self.batch * self.heads * self.seq * (self.slots + self.depth) >= 2 * PARALLEL
            && rayon::current_num_threads() > 1
    }
}

/// A tensor whose rows, the last dimension, are read where they lie.
struct Rows<'a> {
    values: &'a [f32],
    strides: [usize; 3],
    depth: usize,
}

impl<'a> Rows<'a> {
    fn of(x: &'a FlexTensor) -> Self {
        let strides = [0, 1, 2].map(|axis| x.layout().strides()[axis].unsigned_abs());
        let values = &x.storage::<f32>()[x.layout().start_offset()..];
        Self { values, strides, depth: x.layout().shape()[3] }
    }

    fn at(&self, batch: usize, head: usize, row: usize) -> &'a [f32] {
        let [a, b, c] = self.strides;
        &self.values[batch * a + head * b + row * c..][..self.depth]
    }
}

fn with_whole_rows(x: &FlexTensor) -> FlexTensor {
    let strides = x.layout().strides();
    if strides[3] == 1 && strides.iter().all(|&stride| stride >= 0) {
        x.clone()
    } else {
        x.to_contiguous()
    }
}

#[inline(always)]
fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (S::as_simd_f32s(a), S::as_simd_f32s(b));
    let mut sum = simd.splat_f32s(0.0);
    for (a, b) in a.iter().zip(b) {
        sum = simd.mul_add_e_f32s(*a, *b, sum);
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    simd.reduce_sum_f32s(sum) + rest
}

/// `to += factor from`.
#[inline(always)]
fn add<S: Simd>(simd: S, to: &mut [f32], factor: f32, from: &[f32]) {
    let wide = simd.splat_f32s(factor);
    let ((to, to_rest), (from, from_rest)) = (S::as_mut_simd_f32s(to), S::as_simd_f32s(from));
    for (to, from) in to.iter_mut().zip(from) {
        *to = simd.mul_add_e_f32s(wide, *from, *to);
    }
    for (to, from) in to_rest.iter_mut().zip(from_rest) {
        *to += factor * from;
    }
}

/// One row of the batch, forward.
struct Forward<'a> {
    sizes: Sizes,
    row: usize,
    scale: f32,
    query: &'a Rows<'a>,
    key: &'a Rows<'a>,
    value: &'a Rows<'a>,
    /// `[seq, slots]`.
    mask: Option<&'a [f32]>,
    /// `[heads, seq, slots]`, as the weights.
    scales: Option<&'a [f32]>,
    weights: &'a mut [f32],
    /// `[seq, heads, depth]`.
    out: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Sizes { heads, group, seq, slots, depth, .. } = self.sizes;
        for head in 0..heads {
            for column in 0..seq {
                let query = self.query.at(self.row, head, column);
                let mask = self.mask.map(|mask| &mask[column * slots..][..slots]);
                let at = (head * seq + column) * slots;
                let weights = &mut self.weights[at..][..slots];
                let mut most = f32::NEG_INFINITY;
                for (slot, weight) in weights.iter_mut().enumerate() {
                    let added = mask.map_or(0.0, |mask| mask[slot]);
                    *weight = f32::NEG_INFINITY;
                    if added > f32::NEG_INFINITY {
                        let key = self.key.at(self.row, head / group, slot);
                        *weight = dot(simd, query, key) * self.scale + added;
                        // A NaN comes back with the sum.
                        most = most.max(*weight);
                    }
                }
                let mut sum = 0.0;
                for weight in weights.iter_mut() {
                    *weight = exp(*weight - most);
                    sum += *weight;
                }
                let share = 1.0 / sum;
                weights.iter_mut().for_each(|weight| *weight *= share);
                let out = &mut self.out[(column * heads + head) * depth..][..depth];
                for (slot, weight) in weights.iter().enumerate() {
                    let kept = self.scales.map_or(1.0, |scales| scales[at + slot]);
                    // Not equal to 0, so that a NaN is added too.
                    if *weight != 0.0 {
                        add(simd, out, weight * kept, self.value.at(self.row, head / group, slot));
                    }
                }
            }
        }
    }
}

/// One row of the batch, backward.
struct Backward<'a> {
    sizes: Sizes,
    row: usize,
    scale: f32,
    query: &'a Rows<'a>,
    key: &'a Rows<'a>,
    value: &'a Rows<'a>,
    scales: Option<&'a [f32]>,
    weights: &'a [f32],
    /// `[seq, heads, depth]`.
    gradient: &'a [f32],
    /// `[heads, seq, depth]`.
    to_query: &'a mut [f32],
    /// `[heads / group, slots, depth]`, as those of the values.
    to_key: &'a mut [f32],
    to_value: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Sizes { heads, group, seq, slots, depth, .. } = self.sizes;
        let mut change = [0.0; MOST_SLOTS];
        for head in 0..heads {
            for column in 0..seq {
                let at = (head * seq + column) * slots;
                let weights = &self.weights[at..][..slots];
                let gradient = &self.gradient[(column * heads + head) * depth..][..depth];
                let own = head / group * slots;
                let mut inner = 0.0;
                for (slot, &weight) in weights.iter().enumerate() {
                    change[slot] = 0.0;
                    if weight != 0.0 {
                        let kept = self.scales.map_or(1.0, |scales| scales[at + slot]);
                        let value = self.value.at(self.row, head / group, slot);
                        change[slot] = kept * dot(simd, gradient, value);
                        inner += weight * change[slot];
                        let to_value = &mut self.to_value[(own + slot) * depth..][..depth];
                        add(simd, to_value, weight * kept, gradient);
                    }
                }
                let query = self.query.at(self.row, head, column);
                let to_query = &mut self.to_query[(head * seq + column) * depth..][..depth];
                for (slot, &weight) in weights.iter().enumerate() {
                    if weight != 0.0 {
                        let factor = self.scale * weight * (change[slot] - inner);
                        add(simd, to_query, factor, self.key.at(self.row, head / group, slot));
                        let to_key = &mut self.to_key[(own + slot) * depth..][..depth];
                        add(simd, to_key, factor, query);
                    }
                }
            }
        }
    }
}

impl Kernel<5> for FewSlots {
    type Kept = Kept;

    fn forward(self, inputs: [&FlexTensor; 5], _: [bool; 5]) -> (FlexTensor, Self::Kept) {
        let [query, key, value] = [inputs[0], inputs[1], inputs[2]].map(with_whole_rows);
        let mask = self.masked.then(|| inputs[3].to_contiguous());
        let scales = self.drops.then(|| inputs[4].to_contiguous());
        let sizes = Sizes::of(&query, &key);
        let Sizes { batch, heads, group, seq, slots, depth } = sizes;
        let of_row = heads * seq * slots;
        let mut weights = vec![0.0; batch * of_row];
        let mut out = vec![0.0; batch * seq * heads * depth];
        {
            let [query, key, value] = [&query, &key, &value].map(Rows::of);
            // One for all rows of the batch, or one each; the heads of a group have the same.
            let masks = mask.as_ref().map_or(1, |mask| mask.layout().shape()[0]);
            let (mask, scales) = (mask.as_ref().map(values), scales.as_ref().map(values));
            let of_mask = group * seq * slots;
            let run = |(row, (weights, out)): (usize, (&mut [f32], &mut [f32]))| {
                pulp::Arch::new().dispatch(Forward {
                    sizes,
                    row,
                    scale: self.scale,
                    query: &query,
                    key: &key,
                    value: &value,
                    mask: mask.map(|mask| &mask[row % masks * of_mask..][..seq * slots]),
                    scales: scales.map(|scales| &scales[row * of_row..][..of_row]),
                    weights,
                    out,
                });
            };
            let width = seq * heads * depth;
            if sizes.is_long() {
                let parts = weights.par_chunks_mut(of_row).zip(out.par_chunks_mut(width));
                parts.enumerate().for_each(run);
            } else {
                let parts = weights.chunks_mut(of_row).zip(out.chunks_mut(width));
                parts.enumerate().for_each(run);
            }
        }
        let out = tensor(out, &[batch, seq, heads, depth]);
        (out, Kept { query, key, value, scales, weights })
    }

    /// With p the weights, s the drop-out scales, g the gradient and `u = s (g V^T)`: that of the
    /// scores is `p (u - sum(p u))`, that of V `(p s)^T g`.
    fn backward(
        self,
        kept: Self::Kept,
        gradient: FlexTensor,
        wanted: [bool; 5],
    ) -> [Option<FlexTensor>; 5] {
        let sizes = Sizes::of(&kept.query, &kept.key);
        let Sizes { batch, heads, group, seq, slots, depth } = sizes;
        let gradient = gradient.to_contiguous();
        let gradient = values(&gradient);
        let [query, key, value] = [&kept.query, &kept.key, &kept.value].map(Rows::of);
        let scales = kept.scales.as_ref().map(values);
        let (of_row, width) = (heads * seq * slots, heads * seq * depth);
        let of_keys = heads / group * slots * depth;
        let mut to_query = vec![0.0; batch * width];
        let mut to_key = vec![0.0; batch * of_keys];
        let mut to_value = vec![0.0; batch * of_keys];
        type Parts<'a> = ((&'a mut [f32], &'a mut [f32]), &'a mut [f32]);
        let run = |(row, ((to_query, to_key), to_value)): (usize, Parts<'_>)| {
            pulp::Arch::new().dispatch(Backward {
                sizes,
                row,
                scale: self.scale,
                query: &query,
                key: &key,
                value: &value,
                scales: scales.map(|scales| &scales[row * of_row..][..of_row]),
                weights: &kept.weights[row * of_row..][..of_row],
                gradient: &gradient[row * width..][..width],
                to_query,
                to_key,
                to_value,
            });
        };
        if sizes.is_long() {
            let keys = to_query.par_chunks_mut(width).zip(to_key.par_chunks_mut(of_keys));
            keys.zip(to_value.par_chunks_mut(of_keys)).enumerate().for_each(run);
        } else {
            let keys = to_query.chunks_mut(width).zip(to_key.chunks_mut(of_keys));
            keys.zip(to_value.chunks_mut(of_keys)).enumerate().for_each(run);
        }
        let like_keys = [batch, heads / group, slots, depth];
        [
            wanted[0].then(|| tensor(to_query, &[batch, heads, seq, depth])),
            wanted[1].then(|| tensor(to_key, &like_keys)),
            wanted[2].then(|| tensor(to_value, &like_keys)),
            None,
            None,
        ]
    }
}
