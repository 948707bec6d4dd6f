//! The exact recurrence, differentiated segment by segment from the end.

use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::Tensor;
use soft_core::at_least_f32;
use soft_model::{Cells, Dropout, Feedback, KvCache, ModelConfig, OutputHead, Transformer};

use super::feed::{Feed, predictions};
use super::predicted::Predicted;
use super::{Differentiated, Learned, Rollout, StepContext, backward};
use crate::batch::Place;
use crate::objective::{BatchLoss, LossParts};

/// Steps through the soft positions one by one; a run of hard positions is one parallel pass.
///
/// One graph over the whole recurrence would keep T copies of the growing cache. So the recurrence
/// runs once without gradients, and is then differentiated in segments from the end: each is run
/// again from its recorded boundary (next mixtures, cache), its loss plus the inner products of
/// its boundary outputs with the gradients that arrived for them is differentiated, and the
/// gradients of its boundary inputs go to the segment before. The result is exact.
///
/// With [`Feedback::Hidden`] the hidden state before a soft position is fed in the place of a
/// mixture, and everything else is the same (Coconut, arXiv:2412.06769).
///
/// The last segment is not run twice, since nothing has to be known of what comes after it. Where
/// the gradient is cut, what comes after a cut is a recurrence of its own: with `truncate` of at
/// most `segment` no segment is run twice.
///
/// Within a segment the matrices are constants, and their gradients are taken for all of its
/// positions at once ([`Transformer::for_recurrence`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sequential {
    /// Soft positions a segment: memory against passes. 0 is as many as about 1 GiB of activations allows.
    pub segment: usize,
    /// Soft positions after which the gradient is cut on purpose; 0 never.
    pub truncate: usize,
}

impl Sequential {
    /// One graph over everything: the reference that segments are tested against.
    pub const UNROLLED: Self = Self { segment: usize::MAX, truncate: 0 };
}

/// Bytes of activations that one segment may keep where its length is left open.
const GRAPH_BYTES: usize = 1 << 30;

/// Fewest positions of a segment whose length is left open.
const FEWEST: usize = 16;

/// Consecutive columns that one parallel pass covers: the first may hold mixtures.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Span {
    start: usize,
    end: usize,
}

/// Spans that are differentiated together.
type Segment = std::ops::Range<usize>;

/// What enters a segment: mixtures for its first column, and keys and values before it.
struct Boundary {
    mixtures: Option<Tensor<2>>,
    cache: KvCache,
}

/// Gradients that arrived for what a segment gives to those after it.
#[derive(Default)]
struct Carried {
    mixtures: Option<Tensor<2>>,
    /// One tensor for each of the cache's, as long as the cache at the segment's end.
    cache: Vec<Tensor<4>>,
}

/// What running and differentiating a segment gives.
struct Outcome {
    gradients: GradientsParams,
    parts: LossParts,
    /// Gradients of what entered it.
    before: Carried,
    /// What it gives to the segment after it, as constants.
    after: Boundary,
}

impl Rollout for Sequential {
    fn differentiate(
        &self,
        model: &Transformer,
        loss: &BatchLoss<'_>,
        context: &StepContext,
    ) -> Differentiated {
        let run = Run::new(model, loss, context);
        let mut accumulator = GradientsAccumulator::new();
        let mut parts = BatchLoss::nothing(&model.device().inner(), model.dtype());
        let mut entering = None;
        for segments in self.stretches(run.spans.len(), self.length(&run)) {
            let recorded = run.record(&segments, entering.take());
            let mut carried = Carried::default();
            for (index, segment) in segments.iter().enumerate().rev() {
                let found = run.segment(segment, recorded.at(index), &carried);
                accumulator.accumulate(&run.learned, found.gradients);
                parts = parts.plus(found.parts);
                carried = found.before;
                entering = entering.or(Some(found.after));
            }
        }
        let fed = run.feed.observed.sums(model);
        Differentiated::new(accumulator.grads(), parts, fed)
    }
}

impl Sequential {
    /// The loss alone, for a model that is not on an autodiff device: each position is fed once.
    pub fn forward(model: &Transformer, loss: &BatchLoss<'_>, context: &StepContext) -> LossParts {
        let run = Run::new(model, loss, context);
        let head = model.output_head();
        let mut cache = loss.batch.cache(model);
        let mut parts = BatchLoss::nothing(&model.device(), model.dtype());
        let mut next = None;
        for span in 0..run.spans.len() {
            let hidden = run.pass([model; 2], span, next.take(), &mut cache);
            let scored = run.scored(span);
            if scored.is_empty() {
                continue;
            }
            let logits = run.logits(span, hidden.clone(), &scored, &head);
            parts = parts.plus(loss.parts(logits.clone(), &scored));
            if span + 1 < run.spans.len() {
                let of = |places: &[Place]| rows_of(logits, &scored, places);
                next = Some(run.next_inputs(span, hidden, of, model));
            }
        }
        parts
    }

    /// Spans a segment.
    fn length(&self, run: &Run<'_>) -> usize {
        let (model, batch) = (run.model, run.loss.batch);
        let number = model.dtype().size();
        self.spans_of(model.config(), batch.tensor_rows(), batch.columns(), number)
    }

    /// Spans a segment, for tensors of `rows` rows and `columns` columns with numbers of so many bytes.
    pub(crate) fn spans_of(
        &self,
        config: &ModelConfig,
        rows: usize,
        columns: usize,
        number: usize,
    ) -> usize {
        if self.segment > 0 {
            return self.segment;
        }
        let column = activations(config, columns) * number;
        (GRAPH_BYTES / (rows * column).max(1)).max(FEWEST)
    }

    /// The spans in segments of `length`, and those in stretches that no gradient crosses. Of a
    /// stretch the first segment is the one that may be shorter: only the last is not run twice.
    pub(crate) fn stretches(&self, spans: usize, length: usize) -> Vec<Vec<Segment>> {
        // Span 0 is the prompt; span i begins with the i-th soft column.
        let every = if self.truncate > 0 { self.truncate } else { usize::MAX };
        let mut stretches = Vec::new();
        let mut start = 0;
        while start < spans {
            let end = (start / every + 1).saturating_mul(every).min(spans);
            let mut segments = Vec::new();
            let mut last = end;
            while last > start {
                let first = last.saturating_sub(length).max(start);
                segments.push(first..last);
                last = first;
            }
            segments.reverse();
            stretches.push(segments);
            start = end;
        }
        stretches
    }
}

/// Numbers that the graph of one row of one column keeps, about: what the blocks compute of it, and
/// its copies of the keys and values of `slots` columns.
fn activations(config: &ModelConfig, slots: usize) -> usize {
    let [queries, keys] = [config.n_heads, config.n_kv_heads].map(|heads| heads * config.head_dim);
    let own = 20 * config.d_model + 8 * queries + 10 * keys + 8 * config.d_ff;
    let past = slots * (2 * keys + 4 * config.n_heads);
    config.n_layers * (own + past) + 4 * config.vocab_size
}

/// Boundaries of the segments of a stretch, all caches taken from that of the last boundary.
struct Recorded {
    /// None where a segment begins with the recurrence itself.
    boundaries: Vec<Option<(Option<Tensor<2>>, usize)>>,
    cache: Option<KvCache>,
}

impl Recorded {
    /// The boundary of a segment as leaves of a new graph.
    fn at(&self, segment: usize) -> Option<Boundary> {
        let ((mixtures, slots), cache) =
            self.boundaries[segment].clone().zip(self.cache.as_ref())?;
        // Nothing asks for the gradient of what enters the first segment.
        let leaf = |x: Tensor<4>| {
            let x = Tensor::from_inner(x.narrow(2, 0, slots));
            if segment > 0 { x.require_grad() } else { x }
        };
        let tensors = cache.tensors().into_iter().map(leaf).collect();
        let mixtures = mixtures.map(Tensor::from_inner);
        Some(Boundary {
            mixtures: if segment > 0 { mixtures.map(Tensor::require_grad) } else { mixtures },
            cache: cache.with_tensors(tensors, slots),
        })
    }
}

/// One batch on its way through the recurrence.
struct Run<'a> {
    model: &'a Transformer,
    learned: Learned,
    loss: &'a BatchLoss<'a>,
    feed: Feed<'a>,
    dropout: Option<Dropout>,
    spans: Vec<Span>,
}

impl<'a> Run<'a> {
    fn new(model: &'a Transformer, loss: &'a BatchLoss<'a>, context: &'a StepContext) -> Self {
        let batch = loss.batch;
        let columns = batch.columns();
        let is_soft = |&column: &usize| !batch.soft_inputs(column..column + 1).is_empty();
        let mut starts = vec![0];
        starts.extend((1..columns).filter(is_soft));
        starts.push(columns);
        let spans = starts.windows(2).map(|pair| Span { start: pair[0], end: pair[1] }).collect();
        let (feed, learned) = (Feed::new(batch, context), context.learned(model));
        Self { model, learned, loss, feed, dropout: context.dropout(batch), spans }
    }

    /// Places whose mixture is the first input of a span.
    fn soft_places(&self, span: usize) -> Vec<Place> {
        let start = self.spans[span].start;
        self.loss.batch.soft_inputs(start..start + 1).into_iter().filter(|_| start > 0).collect()
    }

    /// Runs a span and returns its hidden states.
    ///
    /// `tokens` looks tokens up and `blocks` runs, one model unless its matrices are constants.
    fn pass(
        &self,
        [tokens, blocks]: [&Transformer; 2],
        span: usize,
        mixtures: Option<Tensor<2>>,
        cache: &mut KvCache,
    ) -> Tensor<2> {
        let Span { start, end } = self.spans[span];
        let places = if mixtures.is_some() { self.soft_places(span) } else { Vec::new() };
        let embeds = self.feed.embeds(tokens, start..end, &places, mixtures);
        let batch = self.loss.batch;
        let (real, soft) = (batch.real(start..end), batch.soft(start..end));
        let cells = Cells { real: &real, soft: Some(&soft) };
        blocks.forward_cells(embeds, cells, cache, self.dropout.as_ref())
    }

    /// Places that a span predicts and that the loss needs; the soft places of the next span are
    /// among them.
    fn scored(&self, span: usize) -> Vec<Place> {
        let Span { start, end } = self.spans[span];
        self.loss.batch.predicted(start..end, |place| self.loss.counts(place))
    }

    /// Logits of some of the places that a span predicts: `[places, vocab]`.
    fn logits(
        &self,
        span: usize,
        hidden: Tensor<2>,
        places: &[Place],
        head: &OutputHead,
    ) -> Tensor<2> {
        let Span { start, end } = self.spans[span];
        head.logits(predictions(self.loss.batch, hidden, places, start..end))
    }

    /// What the soft places that follow a span are fed: `[places, d_model]`. `logits` gives those
    /// of some places, where they are needed.
    fn next_inputs(
        &self,
        span: usize,
        hidden: Tensor<2>,
        logits: impl FnOnce(&[Place]) -> Tensor<2>,
        model: &Transformer,
    ) -> Tensor<2> {
        let places = self.soft_places(span + 1);
        match self.feed.context.feedback {
            Feedback::Mixture => {
                let fed = self.feed.distribution(logits(&places), &places);
                self.feed.mixtures(model, fed, &places)
            }
            Feedback::Hidden => {
                let Span { start, end } = self.spans[span];
                let hidden = predictions(self.loss.batch, hidden, &places, start..end);
                self.feed.hidden(hidden, &places)
            }
        }
    }

    /// The recurrence up to the last of these segments without gradients, and what enters each.
    fn record(&self, segments: &[Segment], entering: Option<Boundary>) -> Recorded {
        let first = entering.as_ref().map(|e| (e.mixtures.clone(), e.cache.slots()));
        let (mut next, mut cache) = match entering {
            Some(Boundary { mixtures, cache }) => (mixtures, Some(cache)),
            None => (None, None),
        };
        let mut boundaries = vec![first];
        if segments.len() > 1 {
            let model = self.model.valid();
            let head = model.output_head();
            let mut grown = cache.take().unwrap_or_else(|| self.loss.batch.cache(&model));
            for segment in &segments[..segments.len() - 1] {
                for span in segment.clone() {
                    let hidden = self.pass([&model; 2], span, next.take(), &mut grown);
                    let of = |places: &[Place]| self.logits(span, hidden.clone(), places, &head);
                    next = Some(self.next_inputs(span, hidden.clone(), of, &model));
                }
                boundaries.push(Some((next.clone(), grown.slots())));
            }
            cache = Some(grown);
        }
        Recorded { boundaries, cache }
    }

    /// Runs one segment with gradients and differentiates it.
    fn segment(&self, segment: &Segment, entering: Option<Boundary>, carried: &Carried) -> Outcome {
        let model = self.model;
        let recurrent = model.for_recurrence();
        let (mut next, mut cache, start) = match entering {
            Some(Boundary { mixtures, cache }) => (mixtures, cache.clone(), cache.slots()),
            None => (None, self.loss.batch.cache(&recurrent), 0),
        };
        let asked = |x: &Tensor<4>| start > 0 && x.is_require_grad();
        let leaves: Vec<_> = cache.tensors().into_iter().filter(asked).collect();
        let leaf = next.clone().filter(Tensor::is_require_grad);
        let mut predicted = Predicted::new(&self.feed, model, &recurrent);
        for span in segment.clone() {
            let hidden = self.pass([model, &recurrent], span, next.take(), &mut cache);
            let scored = self.scored(span);
            if scored.is_empty() {
                continue;
            }
            let Span { start, end } = self.spans[span];
            let hidden = predictions(self.loss.batch, hidden, &scored, start..end);
            if span + 1 < self.spans.len() {
                let places = self.soft_places(span + 1);
                let hidden = rows_of(hidden.clone(), &scored, &places);
                next = Some(predicted.next(hidden, &places));
            }
            predicted.score(hidden, scored);
        }
        let constants = cache.tensors().into_iter().map(Tensor::inner).collect();
        let after = Boundary {
            mixtures: next.clone().map(Tensor::inner),
            cache: cache.with_tensors(constants, cache.slots()),
        };
        let learned = &self.learned;
        let mut accumulator = GradientsAccumulator::new();
        let mut parts = BatchLoss::nothing(&model.device().inner(), model.dtype());
        let mut terms = seeded(next, &cache, start, carried);
        if let Some((found, term)) = predicted.loss(self.loss) {
            accumulator.accumulate(learned, found.gradients);
            parts = found.parts;
            terms.push(term);
        }
        let mut before = Carried::default();
        if let Some(total) = terms.into_iter().reduce(|a, b| a + b) {
            let mut grads = backward(total);
            before.mixtures = leaf.and_then(|leaf| leaf.grad_remove(&mut grads));
            before.cache = earlier_gradients(leaves, &mut grads, start, carried);
            accumulator.accumulate(learned, predicted.tokens(&mut grads));
            let mut blocks = GradientsParams::new();
            for (id, gradient) in recurrent.deferred_gradients(&mut grads) {
                blocks.register(id, gradient);
            }
            accumulator.accumulate(learned, blocks);
            accumulator.accumulate(learned, GradientsParams::from_grads(grads, learned));
        }
        Outcome { gradients: accumulator.grads(), parts, before, after }
    }
}

/// Rows of `x [scored, width]` that belong to `places`, all of which are scored.
fn rows_of(x: Tensor<2>, scored: &[Place], places: &[Place]) -> Tensor<2> {
    if scored == places {
        return x;
    }
    let rows: Vec<u32> =
        (0..scored.len() as u32).filter(|&row| places.contains(&scored[row as usize])).collect();
    let rows = soft_core::int_tensor(&rows, [places.len()], &x.device());
    x.select(0, rows)
}

/// Inner products of a segment's outputs with the gradients that arrived for them.
fn seeded(
    next: Option<Tensor<2>>,
    cache: &KvCache,
    start: usize,
    carried: &Carried,
) -> Vec<Tensor<1>> {
    let mut terms = Vec::new();
    if let (Some(mixtures), Some(gradient)) = (next, &carried.mixtures) {
        terms.push(at_least_f32((mixtures * gradient.clone()).sum()));
    }
    for (rows, gradient) in cache.tensors().into_iter().zip(&carried.cache) {
        let new = rows.dims()[2] - start;
        let rows = rows.narrow(2, start, new);
        terms.push(at_least_f32((rows * gradient.clone().narrow(2, start, new)).sum()));
    }
    terms
}

/// Gradients of the cache before a segment: what this segment adds to what arrived from later.
fn earlier_gradients(
    leaves: Vec<Tensor<4>>,
    grads: &mut burn::tensor::Gradients,
    start: usize,
    carried: &Carried,
) -> Vec<Tensor<4>> {
    let mut arrived = carried.cache.iter();
    leaves
        .into_iter()
        .map(|leaf| {
            let own = leaf.grad_remove(grads);
            let later = arrived.next().map(|gradient| gradient.clone().narrow(2, 0, start));
            match (own, later) {
                (Some(own), Some(later)) => own + later,
                (Some(own), None) => own,
                (None, Some(later)) => later,
                (None, None) => leaf.inner().zeros_like(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_segment_of_a_stretch_is_the_short_one() {
        let starts = |truncate, spans, length| -> Vec<Vec<usize>> {
            let rollout = Sequential { segment: 0, truncate };
            let stretches = rollout.stretches(spans, length);
            let ends: Vec<usize> = stretches.iter().flatten().map(|segment| segment.end).collect();
            let all: Vec<usize> = stretches.iter().flatten().map(|segment| segment.start).collect();
            assert_eq!((&all[1..], ends.last()), (&ends[..ends.len() - 1], Some(&spans)));
            stretches.iter().map(|s| s.iter().map(|segment| segment.start).collect()).collect()
        };
        assert_eq!(starts(0, 100, 40), [[0, 20, 60]]);
        assert_eq!(starts(0, 3, usize::MAX), [[0]]);
        // The gradient is cut where a position's number is a multiple, and nowhere else.
        assert_eq!(starts(8, 20, 5), [vec![0, 3], vec![8, 11], vec![16]]);
    }
}
