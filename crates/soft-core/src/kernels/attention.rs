//! Attention over few slots and its gradients in one pass each.
//!
//! Tiny models attend over a dozen slots: the two products of a head are then smaller than the
//! cost of calling for them, and each of the operations around them is a node of the graph.

use burn::backend::flex::FlexTensor;
use pulp::{Simd, WithSimd, bytemuck};
use rayon::prelude::*;

use super::node::{Kernel, PARALLEL, exp, tensor, values};

/// Slots up to which this is used, and slots times features of a head: up to there it takes 0.3 to 1.0
/// times as long as the operations that it stands for; with heads of 64 at 64 slots, 1.6 times.
const MOST_SLOTS: usize = 128;
const MOST_ENTRIES: usize = MOST_SLOTS * 16;

/// Whether this is the faster way.
pub(super) fn is_fast(slots: usize, depth: usize) -> bool {
    slots <= MOST_SLOTS && slots * depth <= MOST_ENTRIES
}

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
    /// `[batch, heads, seq, wide]`, 0 past the slots.
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

    /// Places of a row of weights: slots in whole vectors of any processor.
    fn wide(self) -> usize {
        self.slots.next_multiple_of(16)
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

    #[inline(always)]
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

/// A matrix whose rows are whole vectors, the last filled up.
struct Tiles<S: Simd> {
    vectors: Vec<S::f32s>,
    /// Vectors of a row.
    wide: usize,
}

impl<S: Simd> Tiles<S> {
    fn filled(simd: S, value: f32, [rows, width]: [usize; 2]) -> Self {
        let wide = width.div_ceil(S::F32_LANES);
        Self { vectors: vec![simd.splat_f32s(value); rows * wide], wide }
    }

    #[inline(always)]
    fn row(&mut self, row: usize) -> &mut [S::f32s] {
        &mut self.vectors[row * self.wide..][..self.wide]
    }

    /// Row i is that of slot or column i.
    #[inline(always)]
    fn fill_along(&mut self, rows: &Rows<'_>, batch: usize, head: usize, count: usize) {
        for slot in 0..count {
            load::<S>(rows.at(batch, head, slot), self.row(slot));
        }
    }

    /// Column i is that of slot i.
    #[inline(always)]
    fn fill_across(&mut self, rows: &Rows<'_>, batch: usize, head: usize, slots: usize) {
        let width = self.wide * S::F32_LANES;
        let to: &mut [f32] = bytemuck::cast_slice_mut(&mut self.vectors);
        for slot in 0..slots {
            for (feature, value) in rows.at(batch, head, slot).iter().enumerate() {
                to[feature * width + slot] = *value;
            }
        }
    }

    /// `out = x M`, where x are the entries of `from` at 0, `stride`, .., one for each row of M.
    #[inline(always)]
    fn times(&self, simd: S, from: &[f32], stride: usize, out: &mut [S::f32s]) {
        for (part, out) in out.chunks_mut(4).enumerate() {
            let at = part * 4;
            match out.len() {
                4 => self.times_part::<4, 1>(simd, from, stride, at, out),
                3 => self.times_part::<3, 1>(simd, from, stride, at, out),
                2 => self.times_part::<2, 2>(simd, from, stride, at, out),
                _ => self.times_part::<1, 2>(simd, from, stride, at, out),
            }
        }
    }

    /// `W` vectors of `x M`, from the one at `at` on, each in `CHAINS` sums: an addition waits for
    /// the one before it in its sum.
    #[inline(always)]
    fn times_part<const W: usize, const CHAINS: usize>(
        &self,
        simd: S,
        from: &[f32],
        stride: usize,
        at: usize,
        out: &mut [S::f32s],
    ) {
        let mut sums = [[simd.splat_f32s(0.0); W]; CHAINS];
        let mut groups = self.vectors.chunks_exact(CHAINS * self.wide);
        let mut x = 0;
        for rows in &mut groups {
            for chain in 0..CHAINS {
                let factor = simd.splat_f32s(from[x]);
                x += stride;
                let row = &rows[chain * self.wide + at..][..W];
                for part in 0..W {
                    sums[chain][part] = simd.mul_add_e_f32s(factor, row[part], sums[chain][part]);
                }
            }
        }
        for row in groups.remainder().chunks_exact(self.wide) {
            let factor = simd.splat_f32s(from[x]);
            x += stride;
            let row = &row[at..][..W];
            for part in 0..W {
                sums[0][part] = simd.mul_add_e_f32s(factor, row[part], sums[0][part]);
            }
        }
        for part in 0..W {
            out[part] = sums[0][part];
            for chain in &sums[1..] {
                out[part] = simd.add_f32s(out[part], chain[part]);
            }
        }
    }
}

/// Into whole vectors; past the end of `from` they stay as they are.
#[inline(always)]
fn load<S: Simd>(from: &[f32], to: &mut [S::f32s]) {
    copy(from, &mut bytemuck::cast_slice_mut(to)[..from.len()]);
}

#[inline(always)]
fn store<S: Simd>(from: &[S::f32s], to: &mut [f32]) {
    copy(&bytemuck::cast_slice(from)[..to.len()], to);
}

#[inline(always)]
fn add<S: Simd>(from: &[S::f32s], to: &mut [f32]) {
    for (to, from) in to.iter_mut().zip(bytemuck::cast_slice::<_, f32>(from)) {
        *to += from;
    }
}

/// Copies, without a call where the length is that of the heads of most models.
#[inline(always)]
fn copy(from: &[f32], to: &mut [f32]) {
    match from.len() {
        8 => to[..8].copy_from_slice(&from[..8]),
        16 => to[..16].copy_from_slice(&from[..16]),
        32 => to[..32].copy_from_slice(&from[..32]),
        64 => to[..64].copy_from_slice(&from[..64]),
        _ => to.copy_from_slice(from),
    }
}

/// Of the batch's row `row`, forward.
struct Forward<'a> {
    sizes: Sizes,
    row: usize,
    scale: f32,
    query: &'a Rows<'a>,
    key: &'a Rows<'a>,
    value: &'a Rows<'a>,
    /// `[seq, slots]`.
    mask: Option<&'a [f32]>,
    /// `[heads, seq, slots]`.
    scales: Option<&'a [f32]>,
    /// `[heads, seq, wide]`.
    weights: &'a mut [f32],
    /// `[seq, heads, depth]`.
    out: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Sizes { heads, group, seq, slots, depth, .. } = self.sizes;
        let wide = self.sizes.wide();
        let mut keys = Tiles::filled(simd, 0.0, [depth, slots]);
        let mut values = Tiles::filled(simd, 0.0, [slots, depth]);
        let mut scores = Tiles::filled(simd, 0.0, [seq, slots]);
        let mut kept = Tiles::filled(simd, 0.0, [1, slots]);
        let mut sums = Tiles::filled(simd, 0.0, [1, depth]);
        let scale = simd.splat_f32s(self.scale);
        let mut masks = Tiles::filled(simd, f32::NEG_INFINITY, [seq, slots]);
        for column in 0..seq {
            match self.mask {
                Some(mask) => load::<S>(&mask[column * slots..][..slots], masks.row(column)),
                None => {
                    bytemuck::cast_slice_mut::<_, f32>(masks.row(column))[..slots].fill(0.0);
                }
            }
        }
        // Each step for all columns before the next one: within a column they wait for each other.
        for head in 0..heads {
            if head % group == 0 {
                keys.fill_across(self.key, self.row, head / group, slots);
                values.fill_along(self.value, self.row, head / group, slots);
            }
            for column in 0..seq {
                let query = self.query.at(self.row, head, column);
                keys.times(simd, query, 1, scores.row(column));
            }
            for column in 0..seq {
                let mut most = simd.splat_f32s(f32::NEG_INFINITY);
                for (score, mask) in scores.row(column).iter_mut().zip(masks.row(column)) {
                    *score = simd.mul_add_e_f32s(*score, scale, *mask);
                    // A NaN comes back with the sum.
                    most = simd.max_f32s(most, *score);
                }
                let most = simd.splat_f32s(simd.reduce_max_f32s(most));
                for score in scores.row(column) {
                    *score = simd.sub_f32s(*score, most);
                }
            }
            for score in &mut scores.vectors {
                let lanes: &mut [f32] = bytemuck::cast_slice_mut(std::slice::from_mut(score));
                for score in lanes {
                    *score = exp(*score);
                }
            }
            let weights = self.weights[head * seq * wide..].chunks_exact_mut(wide);
            for (column, weights) in (0..seq).zip(weights) {
                let mut sum = simd.splat_f32s(0.0);
                for weight in scores.row(column) {
                    sum = simd.add_f32s(sum, *weight);
                }
                let share = simd.splat_f32s(1.0 / simd.reduce_sum_f32s(sum));
                let weights = S::as_mut_simd_f32s(weights).0;
                for (weight, to) in scores.row(column).iter_mut().zip(weights) {
                    *weight = simd.mul_f32s(*weight, share);
                    *to = *weight;
                }
                if let Some(scales) = self.scales {
                    load::<S>(&scales[(head * seq + column) * slots..][..slots], kept.row(0));
                    for (weight, kept) in scores.row(column).iter_mut().zip(kept.row(0)) {
                        *weight = simd.mul_f32s(*weight, *kept);
                    }
                }
            }
            for column in 0..seq {
                values.times(simd, bytemuck::cast_slice(scores.row(column)), 1, sums.row(0));
                store::<S>(sums.row(0), &mut self.out[(column * heads + head) * depth..][..depth]);
            }
        }
    }
}

/// Of the batch's row `row`, backward.
struct Backward<'a> {
    sizes: Sizes,
    row: usize,
    scale: f32,
    query: &'a Rows<'a>,
    key: &'a Rows<'a>,
    value: &'a Rows<'a>,
    scales: Option<&'a [f32]>,
    /// `[heads, seq, wide]`.
    weights: &'a [f32],
    /// `[seq, heads, depth]`.
    gradient: &'a [f32],
    /// `[seq, heads, depth]`.
    to_query: &'a mut [f32],
    /// `[slots, heads / group, depth]`, as those of the values.
    to_key: &'a mut [f32],
    to_value: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Sizes { heads, group, seq, slots, depth, .. } = self.sizes;
        let wide = self.sizes.wide();
        let mut keys = Tiles::filled(simd, 0.0, [slots, depth]);
        let mut values = Tiles::filled(simd, 0.0, [depth, slots]);
        let mut queries = Tiles::filled(simd, 0.0, [seq, depth]);
        let mut gradients = Tiles::filled(simd, 0.0, [seq, depth]);
        let mut changes = Tiles::filled(simd, 0.0, [seq, slots]);
        let mut weights = Tiles::filled(simd, 0.0, [seq, slots]);
        let mut kept = Tiles::filled(simd, 1.0, [1, slots]);
        let mut sums = Tiles::filled(simd, 0.0, [1, depth]);
        let scale = simd.splat_f32s(self.scale);
        for head in 0..heads {
            if head % group == 0 {
                keys.fill_along(self.key, self.row, head / group, slots);
                values.fill_across(self.value, self.row, head / group, slots);
            }
            queries.fill_along(self.query, self.row, head, seq);
            for column in 0..seq {
                let gradient = &self.gradient[(column * heads + head) * depth..][..depth];
                load::<S>(gradient, gradients.row(column));
                values.times(simd, gradient, 1, changes.row(column));
            }
            let from = self.weights[head * seq * wide..].chunks_exact(wide);
            for (column, from) in (0..seq).zip(from) {
                if let Some(scales) = self.scales {
                    load::<S>(&scales[(head * seq + column) * slots..][..slots], kept.row(0));
                }
                let from = S::as_simd_f32s(from).0;
                let mut inner = simd.splat_f32s(0.0);
                let all = changes.row(column).iter_mut().zip(kept.row(0)).zip(from);
                for ((change, kept), weight) in all {
                    *change = simd.mul_f32s(*change, *kept);
                    inner = simd.mul_add_e_f32s(*weight, *change, inner);
                }
                let inner = simd.splat_f32s(simd.reduce_sum_f32s(inner));
                let all = changes.row(column).iter_mut().zip(weights.row(column));
                for (((change, to), kept), weight) in all.zip(kept.row(0)).zip(from) {
                    let scaled = simd.mul_f32s(scale, *weight);
                    *change = simd.mul_f32s(scaled, simd.sub_f32s(*change, inner));
                    *to = simd.mul_f32s(*weight, *kept);
                }
            }
            for column in 0..seq {
                keys.times(simd, bytemuck::cast_slice(changes.row(column)), 1, sums.row(0));
                let to_query = &mut self.to_query[(column * heads + head) * depth..][..depth];
                store::<S>(sums.row(0), to_query);
            }
            let stride = changes.wide * S::F32_LANES;
            let changes: &[f32] = bytemuck::cast_slice(&changes.vectors);
            let weights: &[f32] = bytemuck::cast_slice(&weights.vectors);
            for slot in 0..slots {
                let at = (slot * heads + head) / group * depth;
                queries.times(simd, &changes[slot..], stride, sums.row(0));
                add::<S>(sums.row(0), &mut self.to_key[at..][..depth]);
                gradients.times(simd, &weights[slot..], stride, sums.row(0));
                add::<S>(sums.row(0), &mut self.to_value[at..][..depth]);
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
        let (of_row, of_weights) = (heads * seq * slots, heads * seq * sizes.wide());
        let mut weights = vec![0.0; batch * of_weights];
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
                let parts = weights.par_chunks_mut(of_weights).zip(out.par_chunks_mut(width));
                parts.enumerate().for_each(run);
            } else {
                let parts = weights.chunks_mut(of_weights).zip(out.chunks_mut(width));
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
        let of_weights = heads * seq * sizes.wide();
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
                weights: &kept.weights[row * of_weights..][..of_weights],
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
        // As projections lie that are split into heads.
        let like_keys = [batch, slots, heads / group, depth];
        [
            wanted[0].then(|| tensor(to_query, &[batch, seq, heads, depth]).transpose(1, 2)),
            wanted[1].then(|| tensor(to_key, &like_keys).transpose(1, 2)),
            wanted[2].then(|| tensor(to_value, &like_keys).transpose(1, 2)),
            None,
            None,
        ]
    }
}
