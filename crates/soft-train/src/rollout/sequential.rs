//! The exact recurrence, differentiated segment by segment from the end.

use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::Tensor;
use soft_model::{Dropout, KvCache, OutputHead, Transformer};

use super::feed::{Feed, predictions};
use super::{Differentiated, Rollout, StepContext};
use crate::batch::Place;
use crate::objective::{BatchLoss, LossParts};

/// Steps through the soft positions one by one; a run of hard positions is one parallel pass.
///
/// One graph over the whole recurrence would keep T copies of the growing cache. So the recurrence
/// runs once without gradients, and is then differentiated in segments from the end: each is run
/// again from its recorded boundary (next mixtures, cache), its loss plus the inner products of
/// its boundary outputs with the gradients that arrived for them is differentiated, and the
/// gradients of its boundary inputs go to the segment before. The result is exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sequential {
    /// Soft positions a segment: memory against passes; at least 1.
    pub segment: usize,
    /// Soft positions after which the gradient is cut on purpose; 0 never.
    pub truncate: usize,
}

impl Sequential {
    /// One graph over everything: the reference that segments are tested against.
    pub const UNROLLED: Self = Self { segment: usize::MAX, truncate: 0 };
}

/// Consecutive columns that one parallel pass covers: the first may hold mixtures.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Span {
    start: usize,
    end: usize,
}

/// Spans that are differentiated together.
struct Segment {
    spans: std::ops::Range<usize>,
    /// Whether the gradient stops at the segment's start.
    cut: bool,
}

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

impl Rollout for Sequential {
    fn differentiate(
        &self,
        model: &Transformer,
        loss: &BatchLoss<'_>,
        context: &StepContext,
    ) -> Differentiated {
        let run = Run::new(model, loss, context);
        let segments = self.segments(run.spans.len());
        let recorded = if segments.len() > 1 { Some(run.record(&segments)) } else { None };
        let mut accumulator = GradientsAccumulator::new();
        let mut parts = BatchLoss::nothing(&model.device().inner(), model.dtype());
        let mut carried = Carried::default();
        for (index, segment) in segments.iter().enumerate().rev() {
            let entering = recorded.as_ref().filter(|_| index > 0).map(|all| all.at(&run, index));
            let (grads, own, before) = run.segment(segment, entering, &carried);
            accumulator.accumulate(model, grads);
            parts = parts.plus(own);
            carried = if segment.cut { Carried::default() } else { before };
        }
        let fed = run.feed.observed.sums(&model.embedding());
        Differentiated::new(accumulator.grads(), parts, fed)
    }
}

impl Sequential {
    /// The loss alone, for a model that is not on an autodiff device: each position is fed once.
    pub fn forward(model: &Transformer, loss: &BatchLoss<'_>, context: &StepContext) -> LossParts {
        let run = Run::new(model, loss, context);
        let head = model.output_head();
        let mut cache = model.new_cache(loss.batch.len());
        let mut parts = BatchLoss::nothing(&model.device(), model.dtype());
        let mut next = None;
        for span in 0..run.spans.len() {
            let hidden = run.pass(model, span, next.take(), &mut cache);
            if let Some(own) = run.span_loss(span, &hidden, &head) {
                parts = parts.plus(own);
            }
            next = run.next_mixtures(span, &hidden, model, &head);
        }
        parts
    }

    fn segments(&self, spans: usize) -> Vec<Segment> {
        // Span 0 is the prompt; span i begins with the i-th soft column.
        let truncates = |span: usize| self.truncate > 0 && span.is_multiple_of(self.truncate);
        let mut starts: Vec<usize> = (0..spans)
            .filter(|&span| {
                span == 0 || span.is_multiple_of(self.segment.max(1)) || truncates(span)
            })
            .collect();
        starts.push(spans);
        starts
            .windows(2)
            .map(|pair| Segment { spans: pair[0]..pair[1], cut: truncates(pair[0]) })
            .collect()
    }
}

/// Boundaries of all segments, taken from one final cache.
struct Recorded {
    mixtures: Vec<Option<Tensor<2>>>,
    starts: Vec<usize>,
    cache: KvCache,
}

impl Recorded {
    /// The boundary of a segment as leaves of a new graph.
    fn at(&self, run: &Run<'_>, segment: usize) -> Boundary {
        let slots = self.cache.prefix_len() + self.starts[segment];
        let leaf = |x: Tensor<4>| Tensor::from_inner(x.narrow(2, 0, slots)).require_grad();
        let tensors = self.cache.tensors().into_iter().map(leaf).collect();
        debug_assert!(run.model.device().is_autodiff());
        Boundary {
            mixtures: self.mixtures[segment]
                .clone()
                .map(|mixtures| Tensor::from_inner(mixtures).require_grad()),
            cache: self.cache.with_tensors(tensors, slots),
        }
    }
}

/// One batch on its way through the recurrence.
struct Run<'a> {
    model: &'a Transformer,
    loss: &'a BatchLoss<'a>,
    feed: Feed<'a>,
    dropout: Option<Dropout>,
    spans: Vec<Span>,
}

impl<'a> Run<'a> {
    fn new(model: &'a Transformer, loss: &'a BatchLoss<'a>, context: &'a StepContext) -> Self {
        let batch = loss.batch;
        let columns = batch.columns();
        let is_soft =
            |&column: &usize| (0..batch.len()).any(|row| batch.feeds_mixture(row, column));
        let mut starts = vec![0];
        starts.extend((1..columns).filter(is_soft));
        starts.push(columns);
        let spans = starts.windows(2).map(|pair| Span { start: pair[0], end: pair[1] }).collect();
        let feed = Feed::new(batch, context);
        Self { model, loss, feed, dropout: context.dropout(batch), spans }
    }

    /// Places whose mixture is the first input of a span.
    fn soft_places(&self, span: usize) -> Vec<Place> {
        let start = self.spans[span].start;
        self.loss.batch.soft_inputs(start..start + 1).into_iter().filter(|_| start > 0).collect()
    }

    /// Runs a span and returns its hidden states.
    fn pass(
        &self,
        model: &Transformer,
        span: usize,
        mixtures: Option<Tensor<2>>,
        cache: &mut KvCache,
    ) -> Tensor<2> {
        let Span { start, end } = self.spans[span];
        let places = if mixtures.is_some() { self.soft_places(span) } else { Vec::new() };
        let embeds = self.feed.embeds(model, start..end, &places, mixtures);
        model.forward(embeds, &self.loss.batch.real(start..end), cache, self.dropout.as_ref())
    }

    /// The mixtures that follow a span: `[soft places, d_model]`.
    fn next_mixtures(
        &self,
        span: usize,
        hidden: &Tensor<2>,
        model: &Transformer,
        head: &OutputHead,
    ) -> Option<Tensor<2>> {
        if span + 1 == self.spans.len() {
            return None;
        }
        let Span { start, end } = self.spans[span];
        let places = self.soft_places(span + 1);
        let logits = head.logits(predictions(hidden.clone(), &places, start, end - start));
        let fed = self.feed.distribution(logits, &places);
        Some(self.feed.mixtures(model, fed, &places))
    }

    /// The recurrence without gradients, and what enters each segment.
    fn record(&self, segments: &[Segment]) -> Recorded {
        let model = self.model.valid();
        let head = model.output_head();
        let mut cache = model.new_cache(self.loss.batch.len());
        let mut next = None;
        let mut mixtures = Vec::with_capacity(segments.len());
        for segment in segments {
            mixtures.push(next.clone());
            for span in segment.spans.clone() {
                let hidden = self.pass(&model, span, next.take(), &mut cache);
                next = self.next_mixtures(span, &hidden, &model, &head);
            }
        }
        let starts = segments.iter().map(|s| self.spans[s.spans.start].start).collect();
        Recorded { mixtures, starts, cache }
    }

    /// Runs one segment with gradients and differentiates it: parameter gradients, its part of
    /// the loss, and the gradients of what entered it.
    fn segment(
        &self,
        segment: &Segment,
        entering: Option<Boundary>,
        carried: &Carried,
    ) -> (GradientsParams, LossParts, Carried) {
        let model = self.model;
        let head = model.output_head();
        let first = entering.is_none();
        let (mut next, mut cache) = match entering {
            Some(Boundary { mixtures, cache }) => (mixtures, cache),
            None => (None, model.new_cache(self.loss.batch.len())),
        };
        let leaves = (next.clone(), if first { Vec::new() } else { cache.tensors() });
        let mut parts: Option<LossParts> = None;
        for span in segment.spans.clone() {
            let hidden = self.pass(model, span, next.take(), &mut cache);
            if let Some(own) = self.span_loss(span, &hidden, &head) {
                let own = LossParts {
                    loss: own.loss,
                    cross_entropy: own.cross_entropy.inner(),
                    answer: own.answer.inner(),
                    entropy: own.entropy.inner(),
                };
                parts = Some(match parts {
                    Some(parts) => parts.plus(own),
                    None => own,
                });
            }
            next = self.next_mixtures(span, &hidden, model, &head);
        }
        let own = parts.clone().map_or_else(
            || BatchLoss::nothing(&model.device().inner(), model.dtype()),
            |parts| LossParts { loss: parts.loss.inner(), ..parts },
        );
        let start = leaves.1.first().map_or(0, |leaf| leaf.dims()[2]);
        let outputs = seeded(next, &cache, start, carried);
        let terms = parts.map(|parts| parts.loss).into_iter().chain(outputs);
        let Some(total) = terms.reduce(|a, b| a + b) else {
            return (GradientsParams::new(), own, Carried::default());
        };
        let mut grads = total.backward();
        let before = Carried {
            mixtures: leaves.0.and_then(|leaf| leaf.grad_remove(&mut grads)),
            cache: earlier_gradients(leaves.1, &mut grads, start, carried),
        };
        (GradientsParams::from_grads(grads, model), own, before)
    }

    /// Loss of the positions that a span predicts.
    fn span_loss(&self, span: usize, hidden: &Tensor<2>, head: &OutputHead) -> Option<LossParts> {
        let Span { start, end } = self.spans[span];
        let places = self
            .loss
            .batch
            .places(start + 1..end + 1, |row, position| self.loss.counts(Place { row, position }));
        if places.is_empty() {
            return None;
        }
        let logits = head.logits(predictions(hidden.clone(), &places, start, end - start));
        Some(self.loss.parts(logits, &places))
    }
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
        terms.push((mixtures * gradient.clone()).sum());
    }
    for (rows, gradient) in cache.tensors().into_iter().zip(&carried.cache) {
        let new = rows.dims()[2] - start;
        let rows = rows.narrow(2, start, new);
        terms.push((rows * gradient.clone().narrow(2, start, new)).sum());
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
