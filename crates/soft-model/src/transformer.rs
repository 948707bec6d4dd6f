//! The decoder: embeddings in, hidden states and logits out.

use std::ops::Range;

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, IndexingUpdateOp, Int, Tensor};
use soft_core::{at_least_f32, int_tensor};

use crate::active::{Active, Cells, Reach};
use crate::attention::{Pass, Prefix};
use crate::block::Block;
use crate::config::{ModelConfig, Positions};
use crate::dropout::{Dropout, Site};
use crate::kv_cache::{KvCache, LayerCache};
use crate::linear::Linear;
use crate::norm::Norm;
use crate::rope::Rope;
use crate::token_rows::TokenRows;

/// Columns that are fed at once of a long sequence: attention takes memory in proportion to the
/// new columns times the slots.
const CHUNK: usize = 512;

/// A decoder-only transformer. Token ids enter only through [`Self::embed`]; the blocks read
/// embeddings, so a mixture of tokens is fed just as a token is.
#[derive(Module, Debug)]
pub struct Transformer {
    /// `E [vocab, d_model]`.
    pub(crate) embedding: Param<Tensor<2>>,
    /// Learned positions `[max_positions, d_model]` (GPT-2).
    pub(crate) positions: Option<Param<Tensor<2>>>,
    /// Learned embeddings before the sequence `[tokens, d_model]` (prompt tuning).
    pub(crate) prompt: Option<Param<Tensor<2>>>,
    pub(crate) blocks: Vec<Block>,
    pub(crate) final_norm: Norm,
    /// The output head where it is not the embedding matrix.
    pub(crate) head: Option<Linear>,
    /// Rows of the embedding and the head that are trained apart from the rest.
    pub(crate) token_rows: Option<TokenRows>,
    #[module(skip)]
    pub(crate) config: ModelConfig,
    #[module(skip)]
    pub(crate) rope: Option<Rope>,
    /// Where the low-rank branches, the prefix or the prompt act.
    #[module(skip)]
    pub(crate) active: Active,
}

/// The matrix that turns hidden states into logits, taken once for a pass or a recurrence: a
/// transpose of the shared embedding inside a loop over positions would keep a gradient of its
/// size for every position.
#[derive(Debug, Clone)]
pub struct OutputHead {
    /// `[d_model, vocab]`.
    weight: Tensor<2>,
    /// Tokens whose columns are trained apart: their ids, and `[d_model, rows]`.
    rows: Option<(Vec<u32>, Tensor<2>)>,
}

impl OutputHead {
    /// Logits in at least f32.
    ///
    /// # Shapes
    /// - hidden: `[rows, d_model]`; output: `[rows, vocab]`
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        let mut logits = soft_core::product(hidden.clone(), self.weight.clone());
        if let Some((ids, weight)) = &self.rows {
            let (count, width) = (hidden.dims()[0], ids.len());
            let ids = int_tensor(ids, [1, width], &hidden.device()).expand([count, width]);
            logits = logits.scatter(1, ids, hidden.matmul(weight.clone()), IndexingUpdateOp::Add);
        }
        at_least_f32(logits)
    }

    /// Logits of some tokens alone, from their columns of the matrix; trained rows apart from it are
    /// not added.
    ///
    /// # Shapes
    /// - hidden: `[rows, d_model]`; ids: `[rows, k]`; output: `[rows, k]`
    pub fn logits_at(&self, hidden: Tensor<2>, ids: Tensor<2, Int>) -> Tensor<2> {
        let ([rows, d_model], [_, k]) = (hidden.dims(), ids.dims());
        let columns = self.weight.clone().transpose().select(0, ids.reshape([rows * k]));
        let columns = columns.reshape([rows, k, d_model]);
        at_least_f32(columns.matmul(hidden.reshape([rows, d_model, 1])).reshape([rows, k]))
    }
}

impl Transformer {
    /// The shape of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The device of the weights.
    pub fn device(&self) -> Device {
        self.embedding.val().device()
    }

    /// Precision of the weights.
    pub fn dtype(&self) -> DType {
        self.embedding.val().dtype()
    }

    /// The embedding matrix `E [vocab, d_model]`; to be taken once for a generation, since trained
    /// rows are put in their places each time. Training mixes with [`Self::mix`].
    pub fn embedding(&self) -> Tensor<2> {
        self.whole_embedding()
    }

    /// The output head, to be taken once and used for every position of a pass.
    pub fn output_head(&self) -> OutputHead {
        OutputHead {
            weight: match &self.head {
                Some(head) => head.weight.val(),
                None => self.embedding.val().transpose(),
            },
            rows: self.scored_rows(),
        }
    }

    /// Rows of the embedding matrix.
    ///
    /// # Shapes
    /// - token_ids: `rows * columns` ids, row by row; output: `[rows, columns, d_model]`
    ///
    /// # Panics
    /// If the ids are not a whole number of rows; an id outside the vocabulary is the caller's
    /// mistake too ([`Self::check_ids`]).
    pub fn embed(&self, token_ids: &[u32], rows: usize) -> Tensor<3> {
        let columns = token_ids.len() / rows;
        let ids = int_tensor(token_ids, [rows * columns], &self.device());
        let mut looked_up = self.embedding.val().select(0, ids);
        if let Some(trained) = self.looked_up(token_ids) {
            looked_up = looked_up + trained;
        }
        looked_up.reshape([rows, columns, self.config.d_model])
    }

    /// Checks that every id is a row of the embedding matrix.
    ///
    /// # Errors
    /// The first id that is not, with its place.
    pub fn check_ids(&self, token_ids: &[u32]) -> Result<(), crate::Error> {
        let vocab_size = self.config.vocab_size;
        match token_ids.iter().position(|&id| id as usize >= vocab_size) {
            None => Ok(()),
            Some(position) => Err(crate::Error::TokenOutOfVocabulary {
                token: token_ids[position],
                vocab_size,
                position,
            }),
        }
    }

    /// An empty cache for `batch` rows, with the learned prefix or prompt where the model has one:
    /// a prompt is run through the blocks here, once for all rows and without drop-out. A
    /// weight-decomposed branch divides by the norms that its matrix has now, so a cache belongs
    /// to one state of the model.
    pub fn new_cache(&self, batch: usize) -> KvCache {
        let mut cache = KvCache::new(self.blocks.len(), batch);
        cache.norms = self.column_norms();
        let prefixes = self.blocks.iter().filter_map(|block| block.attention.prefix.as_ref());
        let mut slots: Vec<LayerCache> = prefixes.map(Prefix::slots).collect();
        if let Some(prompt) = &self.prompt {
            let [tokens, _] = prompt.dims();
            let mut one = KvCache::new(self.blocks.len(), 1);
            one.norms = cache.norms.clone();
            let all = [vec![true; tokens]];
            // A prompt is an addition itself.
            let cells = Cells { real: &all, soft: Some(&all) };
            self.forward_cells(prompt.val().unsqueeze::<3>(), cells, &mut one, None);
            slots = one.layers.into_iter().flatten().collect();
        }
        if !slots.is_empty() {
            let slots = slots.into_iter().map(|layer| self.before_the_start(layer).expand(batch));
            cache.set_prefix(slots.collect());
        }
        cache
    }

    /// A prefix as tokens from position 0 on see it: where its own positions are not taken from
    /// them, its keys are turned back by its length.
    fn before_the_start(&self, slots: LayerCache) -> LayerCache {
        match (&self.rope, self.active) {
            (Some(rope), Active::Soft) => {
                let back = rope.back(slots.keys.dims()[2] as u32, &slots.keys);
                LayerCache { keys: back.apply(slots.keys), ..slots }
            }
            _ => slots,
        }
    }

    /// [`Self::forward_cells`] where every input is a token.
    ///
    /// # Panics
    /// As there.
    pub fn forward(
        &self,
        embeds: Tensor<3>,
        real: &[Vec<bool>],
        cache: &mut KvCache,
        dropout: Option<&Dropout>,
    ) -> Tensor<2> {
        self.forward_cells(embeds, Cells::hard(real), cache, dropout)
    }

    /// Hidden states of new columns, whose keys and values are added to the cache.
    ///
    /// # Shapes
    /// - embeds: `[batch, seq, d_model]`
    /// - cells: which columns are padding in a row, and which are soft
    /// - output: `[batch * seq, d_model]`, ready for [`OutputHead::logits`]
    ///
    /// # Panics
    /// If the cells or the cache do not match the batch.
    pub fn forward_cells(
        &self,
        embeds: Tensor<3>,
        cells: Cells<'_>,
        cache: &mut KvCache,
        dropout: Option<&Dropout>,
    ) -> Tensor<2> {
        let [batch, seq, d_model] = embeds.dims();
        let x = embeds.reshape([batch * seq, d_model]);
        self.forward_blocks(0..self.blocks.len(), x, cells, cache, dropout)
    }

    /// A part of [`Self::forward_cells`]: some of the blocks, the first with what is added to the
    /// embeddings before it, the last with the final norm. The parts one after another are the
    /// whole; each registers the new columns in the cache that it is given, so that either all get
    /// fresh caches of their own, or there is one part.
    ///
    /// # Shapes
    /// - x: `[batch * seq, d_model]`, the embeddings or the output of the part before
    /// - cells: which columns are padding in a row, and which are soft
    /// - output: as x
    ///
    /// # Panics
    /// If the cells or the cache do not match the batch.
    pub fn forward_blocks(
        &self,
        blocks: Range<usize>,
        mut x: Tensor<2>,
        cells: Cells<'_>,
        cache: &mut KvCache,
        dropout: Option<&Dropout>,
    ) -> Tensor<2> {
        let [rows, _] = x.dims();
        let (batch, seq) = (cells.real.len(), cells.real.first().map_or(0, Vec::len));
        cells.check([batch, seq]);
        assert_eq!(batch * seq, rows, "one row of x a cell");
        let reach = Reach::of(self.active, cells, &self.device());
        let mut columns = cache.extend(cells.real);
        let places = self.places(&columns.positions, cache.prefix_len());
        let unseen = columns.limit_prefix(&reach);
        let group = self.config.n_heads / self.config.n_kv_heads;
        let rotation = self.rope.as_ref().map(|rope| rope.rotation(&places, &x));
        let mask = columns.mask(group, self.config.sliding_window, &x);
        let branch_dropout = dropout.map(|dropout| dropout.over(&columns));
        let branch_dropout = branch_dropout.as_ref();
        let dropout = branch_dropout.filter(|dropout| dropout.rate > 0.0);
        let norms = cache.norms.clone();
        let columns = &columns;
        let pass = Pass { columns, mask, rotation, dropout, branch_dropout, norms, reach, unseen };

        if blocks.start == 0 {
            if let Some(table) = &self.positions {
                let places: Vec<u32> = places.into_iter().flatten().collect();
                x = x + table.val().select(0, int_tensor(&places, [rows], &self.device()));
            }
            if let Some(dropout) = dropout {
                x = dropout.features(x, &columns.positions, Site::Embedding);
            }
        }
        for layer in blocks.clone() {
            x = self.blocks[layer].forward(x, layer, cache, &pass);
        }
        if blocks.end < self.blocks.len() { x } else { self.final_norm.forward(x) }
    }

    /// Where columns stand in the base, given their positions after the slots of a prefix.
    fn places(&self, positions: &[Vec<u32>], prefix_len: usize) -> Vec<Vec<u32>> {
        let taken = match self.active {
            Active::Always => 0,
            Active::Soft => prefix_len as u32,
        };
        // Padding before the first token stands where that does.
        let of_row = |row: &Vec<u32>| row.iter().map(|&p| p.saturating_sub(taken)).collect();
        positions.iter().map(of_row).collect()
    }

    /// Feeds token ids in chunks of columns, each when it is asked for, so that a long prompt
    /// needs little more memory than its cache; gives the hidden states of each chunk.
    ///
    /// # Shapes
    /// - ids, real: `[batch][seq]`, as [`Self::embed`] and [`Self::forward`] have them
    /// - each item: `[batch * columns, d_model]`
    pub(crate) fn forward_ids<'a>(
        &'a self,
        ids: &'a [Vec<u32>],
        real: &'a [Vec<bool>],
        cache: &'a mut KvCache,
    ) -> impl Iterator<Item = Tensor<2>> + 'a {
        let seq = ids[0].len();
        (0..seq).step_by(CHUNK).map(move |first| {
            let columns = first..seq.min(first + CHUNK);
            let ids_of = |row: &'a Vec<u32>| row[columns.clone()].iter().copied();
            let chunk: Vec<u32> = ids.iter().flat_map(ids_of).collect();
            let real: Vec<Vec<bool>> =
                real.iter().map(|row| row[columns.clone()].to_vec()).collect();
            self.forward(self.embed(&chunk, ids.len()), &real, cache, None)
        })
    }

    /// Logits of a batch of embeddings in one pass without padding or drop-out.
    ///
    /// # Shapes
    /// - embeds: `[batch, seq, d_model]`; output: `[batch * seq, vocab]`
    pub fn logits(&self, embeds: Tensor<3>) -> Tensor<2> {
        let [batch, seq, _] = embeds.dims();
        let mut cache = self.new_cache(batch);
        let hidden = self.forward(embeds, &vec![vec![true; seq]; batch], &mut cache, None);
        self.output_head().logits(hidden)
    }

    pub(crate) fn rope_of(config: &ModelConfig) -> Option<Rope> {
        match config.positions {
            Positions::Learned => None,
            Positions::Rotary { theta, scaling } => {
                Some(Rope::new(config.head_dim, theta, scaling))
            }
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::config::Family;
    use crate::config::tests::config;

    #[test]
    fn a_long_prompt_is_fed_in_chunks() {
        let config = ModelConfig { max_positions: 1100, ..config(Family::Llama) };
        let model = Transformer::from_seed(&config, 7, &Device::flex(), DType::F32);
        let mut cache = model.new_cache(2);
        let (ids, real) = (vec![vec![5; 1030]; 2], vec![vec![true; 1030]; 2]);
        let sizes: Vec<_> =
            model.forward_ids(&ids, &real, &mut cache).map(|hidden| hidden.dims()).collect();
        assert_eq!(sizes, [[1024, 32], [1024, 32], [12, 32]]);
        assert_eq!(cache.slots(), 1030);
    }
}
