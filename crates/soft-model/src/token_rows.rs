//! New tokens, and rows of the embedding that are trained while the rest stays frozen.

use burn::module::{Module, Param};
use burn::tensor::{Device, IndexingUpdateOp, Tensor};
use soft_core::{Distribution, NormMatch, SoftPipeline, float_tensor, int_tensor};

use crate::construct::normal;
use crate::linear::Linear;
use crate::{Error, Transformer};

/// Stream of the first new row: away from those of the base model and of what is added to it.
const FIRST_STREAM: u32 = 4 << 24;

/// Rows of `E`, and of an output head of its own, that are parameters apart from the frozen rest.
///
/// The matrix itself holds zeros at these rows, and what is looked up, mixed or scored there is
/// added: no gradient as large as the vocabulary is ever made.
#[derive(Module, Debug)]
pub(crate) struct TokenRows {
    /// `[rows, d_model]`.
    pub(crate) embedding: Param<Tensor<2>>,
    /// `[rows, d_model]`, where the output head is not the embedding.
    pub(crate) head: Option<Param<Tensor<2>>>,
    /// Token id of each row, ascending.
    #[module(skip)]
    pub(crate) ids: Vec<u32>,
}

impl TokenRows {
    /// The weight that each row of a distribution gives to these tokens: `[batch, rows]`.
    fn weights_in(&self, fed: &Distribution) -> Tensor<2> {
        let (batch, count) = (fed.batch(), self.ids.len());
        let ids = int_tensor(&self.ids, [1, count], &fed.device()).expand([batch, count]);
        fed.weights_at(ids)
    }

    /// The matrix with these rows in their places.
    ///
    /// # Shapes
    /// - base: `[vocab, d_model]`; rows: `[rows, d_model]`
    fn placed(&self, base: Tensor<2>, rows: Tensor<2>) -> Tensor<2> {
        let ids = int_tensor(&self.ids, [self.ids.len()], &base.device());
        base.select_assign(0, ids, rows, IndexingUpdateOp::Add)
    }
}

impl Transformer {
    /// The model with `vocab_size` rows of embedding and output head, where it has fewer. A new row
    /// is the mean of all rows before it, off by a thousandth of their standard deviation so that no
    /// two are the same: what the other tokens' probabilities lose to it is then about a mean share
    /// (Hewitt 2021, "Initializing New Word Embeddings for Pretrained Language Models").
    #[must_use]
    pub fn with_vocabulary(mut self, vocab_size: usize, seed: u64) -> Self {
        let old = self.config.vocab_size;
        if vocab_size <= old {
            return self;
        }
        let count = vocab_size - old;
        let grow = |matrix: Tensor<2>, stream: u32| {
            let rows = new_rows(&matrix, count, seed, stream);
            Tensor::cat(vec![matrix, rows], 0)
        };
        let device = self.embedding.val().device();
        let leaf = |tensor: Tensor<2>, trained: bool| on(&device, tensor).set_require_grad(trained);
        let trained = self.embedding.is_require_grad();
        self.embedding = leaf(grow(self.embedding.val().detach(), FIRST_STREAM), trained);
        self.head = self.head.map(|head| {
            let rows = head.weight.val().detach().transpose();
            let weight = grow(rows, FIRST_STREAM + 1).transpose();
            Linear { weight: leaf(weight, trained), ..head }
        });
        self.config.vocab_size = vocab_size;
        self
    }

    /// The model with fresh rows for tokens that it had a row for and never used, as the padding of
    /// a vocabulary has them: as [`Self::with_vocabulary`] makes new ones.
    ///
    /// # Errors
    /// A token outside the vocabulary.
    pub fn with_fresh_rows(mut self, token_ids: &[u32], seed: u64) -> Result<Self, Error> {
        let mut ids = token_ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        self.check_ids(&ids)?;
        if ids.is_empty() {
            return Ok(self);
        }
        let device = self.embedding.val().device();
        let trained = self.embedding.is_require_grad();
        let fresh = |matrix: Tensor<2>, stream: u32| {
            let rows = new_rows(&matrix, ids.len(), seed, stream);
            let places = int_tensor(&ids, [ids.len()], &matrix.device());
            split(matrix, &ids).0.select_assign(0, places, rows, IndexingUpdateOp::Add)
        };
        let embedding = fresh(self.embedding.val().detach(), FIRST_STREAM + 2);
        self.embedding = on(&device, embedding).set_require_grad(trained);
        self.head = self.head.map(|head| {
            let weight = fresh(head.weight.val().detach().transpose(), FIRST_STREAM + 3);
            Linear { weight: on(&device, weight.transpose()).set_require_grad(trained), ..head }
        });
        Ok(self)
    }

    /// Makes the embeddings of some tokens, and their rows of an output head, parameters of their
    /// own that are trained where the rest is frozen. The model computes the same as before.
    ///
    /// # Errors
    /// No token, one outside the vocabulary, or rows that are trained already.
    pub fn with_trained_rows(mut self, token_ids: &[u32]) -> Result<Self, Error> {
        let mut ids = token_ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        self.check_ids(&ids)?;
        if ids.is_empty() || self.token_rows.is_some() {
            let problem = "trained rows need at least one token, and are given to a model once";
            return Err(Error::Settings(problem.to_owned()));
        }
        let device = self.embedding.val().device();
        let (embedding, rows) = split(self.embedding.val().detach(), &ids);
        self.embedding = on(&device, embedding).set_require_grad(false);
        let mut head_rows = None;
        self.head = self.head.map(|head| {
            let (rest, rows) = split(head.weight.val().detach().transpose(), &ids);
            head_rows = Some(on(&device, rows));
            Linear { weight: on(&device, rest.transpose()).set_require_grad(false), ..head }
        });
        self.token_rows = Some(TokenRows { embedding: on(&device, rows), head: head_rows, ids });
        Ok(self)
    }

    /// Token ids of the trained rows; empty without them.
    pub fn trained_rows(&self) -> &[u32] {
        self.token_rows.as_ref().map_or(&[], |rows| &rows.ids)
    }

    /// `q @ E` of each row, with the norm that the pipeline asks for.
    ///
    /// # Shapes
    /// - output: `[batch, d_model]`
    ///
    /// # Gradient
    /// Flows to the weights, to the embedding, and to its trained rows where there are some.
    pub fn mix(&self, pipeline: &SoftPipeline, fed: Distribution) -> Tensor<2> {
        let fed = fed.cast(self.dtype());
        match &self.token_rows {
            // The norm of a token's row is asked for by one way of matching only.
            Some(rows) if pipeline.config().norm_match != NormMatch::Rms => {
                let fed = fed.matched(pipeline.config().norm_match, &self.embedding.val());
                let own = rows.weights_in(&fed).matmul(rows.embedding.val());
                fed.mix(self.embedding.val()) + own
            }
            _ => pipeline.mix(fed, &self.embedding()).0,
        }
    }

    /// The embedding with the trained rows in their places.
    pub(crate) fn whole_embedding(&self) -> Tensor<2> {
        match &self.token_rows {
            Some(rows) => rows.placed(self.embedding.val(), rows.embedding.val()),
            None => self.embedding.val(),
        }
    }

    /// The matrix of an output head of its own as `[vocab, d_model]`, with its trained rows.
    pub(crate) fn whole_head(&self) -> Option<Tensor<2>> {
        let weight = self.head.as_ref()?.weight.val().transpose();
        let rows = self.token_rows.as_ref().and_then(|rows| Some((rows, rows.head.as_ref()?)));
        Some(match rows {
            Some((rows, head)) => rows.placed(weight, head.val()),
            None => weight,
        })
    }

    /// What the trained rows add to a lookup of token ids: `[ids, d_model]`.
    pub(crate) fn looked_up(&self, token_ids: &[u32]) -> Option<Tensor<2>> {
        let rows = self.token_rows.as_ref()?;
        let place = |id: &u32| rows.ids.binary_search(id).ok();
        if !token_ids.iter().any(|id| place(id).is_some()) {
            return None;
        }
        let (count, width) = (token_ids.len(), rows.ids.len());
        let mut one_hot = vec![0.0; count * width];
        for (at, id) in token_ids.iter().enumerate() {
            if let Some(place) = place(id) {
                one_hot[at * width + place] = 1.0;
            }
        }
        let embedding = rows.embedding.val();
        let one_hot = float_tensor(one_hot, [count, width], &embedding.device(), embedding.dtype());
        Some(one_hot.matmul(embedding))
    }

    /// What the trained rows add to the logits: their tokens, and `[d_model, rows]`.
    pub(crate) fn scored_rows(&self) -> Option<(Vec<u32>, Tensor<2>)> {
        let rows = self.token_rows.as_ref()?;
        let weight = rows.head.as_ref().unwrap_or(&rows.embedding).val();
        Some((rows.ids.clone(), weight.transpose()))
    }
}

/// A parameter on a device, a leaf of its graph where it has one.
fn on(device: &Device, tensor: Tensor<2>) -> Param<Tensor<2>> {
    match device.is_autodiff() {
        true => Param::from_tensor(Tensor::from_inner(tensor.inner())),
        false => Param::from_tensor(tensor),
    }
}

/// A matrix with zeros at some rows, and those rows.
fn split(matrix: Tensor<2>, ids: &[u32]) -> (Tensor<2>, Tensor<2>) {
    let [vocab, _] = matrix.dims();
    let rows = matrix.clone().select(0, int_tensor(ids, [ids.len()], &matrix.device()));
    let mut kept = vec![1.0; vocab];
    ids.iter().for_each(|&id| kept[id as usize] = 0.0);
    let kept = float_tensor(kept, [vocab, 1], &matrix.device(), matrix.dtype());
    (matrix * kept, rows)
}

/// `count` rows near the mean of a matrix's rows.
fn new_rows(matrix: &Tensor<2>, count: usize, seed: u64, stream: u32) -> Tensor<2> {
    let [_, d_model] = matrix.dims();
    let mean = matrix.clone().mean_dim(0);
    let spread = (matrix.clone() - mean.clone()).powi_scalar(2).mean_dim(0).sqrt();
    let noise: Vec<f64> = normal(seed, stream, count * d_model).map(|x| 1e-3 * x).collect();
    let noise = float_tensor(noise, [count, d_model], &matrix.device(), matrix.dtype());
    noise * spread + mean
}
