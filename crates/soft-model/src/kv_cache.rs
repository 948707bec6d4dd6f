//! Keys and values of the positions seen so far, with a length, positions and a mask per row.

use std::sync::Arc;

use burn::tensor::{Int, Tensor, TensorData};

use crate::active::Reach;
use crate::linear::ColumnNorms;
use crate::packing::Packing;

/// One layer's keys and values: `[batch, n_kv_heads, slots, head_dim]` each.
#[derive(Debug, Clone)]
pub(crate) struct LayerCache {
    pub(crate) keys: Tensor<4>,
    pub(crate) values: Tensor<4>,
}

impl LayerCache {
    /// One row's keys and values as those of `batch` rows.
    pub(crate) fn expand(self, batch: usize) -> Self {
        let rows = |x: Tensor<4>| {
            let [_, n_kv_heads, slots, head_dim] = x.dims();
            x.expand([batch, n_kv_heads, slots, head_dim])
        };
        Self { keys: rows(self.keys), values: rows(self.values) }
    }

    /// All but the first slots.
    pub(crate) fn skip(self, first: usize) -> Self {
        if first == 0 {
            return self;
        }
        let rest = |x: Tensor<4>| {
            let slots = x.dims()[2];
            x.narrow(2, first, slots - first)
        };
        Self { keys: rest(self.keys), values: rest(self.values) }
    }
}

/// The cache of a batch. A *slot* is a column of the tensors; each row knows which slots hold a
/// position of its own and which are padding, so rows of different lengths share a batch.
#[derive(Debug, Clone)]
pub struct KvCache {
    pub(crate) layers: Vec<Option<LayerCache>>,
    /// `rows[row][slot]`: the position that the slot holds, or `None` for padding.
    rows: Vec<Vec<Option<u32>>>,
    /// Slots before the first token: a learned prefix or prompt, visible to every row.
    prefix_len: usize,
    /// What the weight-decomposed branches of the model divide by, taken when the cache was made.
    pub(crate) norms: Option<Arc<ColumnNorms>>,
    /// Which sequence each column belongs to, where rows hold several.
    packing: Option<Arc<Packing>>,
    /// The attention of each layer that was passed, `[batch, n_kv_heads, group * seq, slots]`,
    /// where it is asked for.
    watched: Option<Vec<Tensor<4>>>,
}

/// Where the new columns of a pass stand, and what each may see.
#[derive(Debug, Clone)]
pub(crate) struct Columns {
    /// Position of each new column of each row; a padding column repeats the row's last position.
    pub(crate) positions: Vec<Vec<u32>>,
    /// Position of each slot of each row, the new ones and the prefix included.
    pub(crate) key_positions: Vec<Vec<Option<u32>>>,
    /// Slots before the new columns.
    pub(crate) start: usize,
    /// Slots of the learned prefix, which every sequence sees.
    prefix_len: usize,
    packing: Option<Arc<Packing>>,
    /// Which new columns see the prefix, where not all of them do.
    prefix_seen: Option<Vec<Vec<bool>>>,
}

impl KvCache {
    /// An empty cache for `batch` rows of a model with `n_layers` layers.
    pub(crate) fn new(n_layers: usize, batch: usize) -> Self {
        let (layers, rows) = (vec![None; n_layers], vec![Vec::new(); batch]);
        Self { layers, rows, prefix_len: 0, norms: None, packing: None, watched: None }
    }

    /// Keeps the attention of the passes to come.
    pub(crate) fn watch(&mut self) {
        self.watched = Some(Vec::new());
    }

    /// Whether the attention of the passes is kept.
    pub(crate) fn is_watched(&self) -> bool {
        self.watched.is_some()
    }

    /// The attention that was kept, a layer after another.
    pub(crate) fn watched(self) -> Vec<Tensor<4>> {
        self.watched.unwrap_or_default()
    }

    /// Keeps the attention of a layer, where it is asked for.
    pub(crate) fn see(&mut self, weights: &Tensor<4>) {
        if let Some(watched) = &mut self.watched {
            watched.push(weights.clone());
        }
    }

    /// This cache for rows that hold several sequences: the packing says what every column will
    /// be part of that is fed from now on.
    ///
    /// # Panics
    /// If something was fed already, or the packing has another number of rows.
    #[must_use]
    pub fn packed(mut self, packing: Arc<Packing>) -> Self {
        assert!(self.is_empty(), "rows are packed before anything is fed");
        assert_eq!(packing.rows(), self.batch(), "one row of the packing a row of the cache");
        self.packing = Some(packing);
        self
    }

    /// Number of rows.
    pub fn batch(&self) -> usize {
        self.rows.len()
    }

    /// Number of slots, padding and prefix included.
    pub fn slots(&self) -> usize {
        self.rows.first().map_or(0, Vec::len)
    }

    /// Slots of the learned prefix or prompt.
    pub fn prefix_len(&self) -> usize {
        self.prefix_len
    }

    /// Positions that `row` holds, padding and prefix not counted.
    pub fn len(&self, row: usize) -> usize {
        self.rows[row].iter().flatten().count() - self.prefix_len
    }

    /// Whether no row holds a position.
    pub fn is_empty(&self) -> bool {
        (0..self.batch()).all(|row| self.len(row) == 0)
    }

    /// Registers the learned prefix as the first slots of every row.
    pub(crate) fn set_prefix(&mut self, layers: Vec<LayerCache>) {
        self.prefix_len = layers[0].keys.dims()[2];
        for row in &mut self.rows {
            *row = (0..self.prefix_len as u32).map(Some).collect();
        }
        self.layers = layers.into_iter().map(Some).collect();
    }

    /// Registers new columns; `real[row][column]` is false for padding.
    pub(crate) fn extend(&mut self, real: &[Vec<bool>]) -> Columns {
        assert_eq!(real.len(), self.batch(), "one row of columns a row of the cache");
        let start = self.slots();
        let (prefix_len, packing) = (self.prefix_len, self.packing.clone());
        let mut positions = Vec::with_capacity(real.len());
        for (row, (slots, columns)) in self.rows.iter_mut().zip(real).enumerate() {
            // Of an unpacked row all slots are of one sequence.
            let sequence = |slot: usize| {
                packing.as_ref().map_or(0, |packing| packing.sequence(row, slot - prefix_len))
            };
            let mut current = None;
            let mut next = 0;
            let mut at = Vec::with_capacity(columns.len());
            for &real in columns {
                let own = sequence(slots.len());
                if current != Some(own) {
                    current = Some(own);
                    let before = slots.iter().enumerate();
                    let before = before.filter(|(s, _)| *s < prefix_len || sequence(*s) == own);
                    next = before.filter_map(|(_, slot)| *slot).max().map_or(0, |last| last + 1);
                }
                at.push(if real { next } else { next.saturating_sub(1) });
                slots.push(real.then_some(next));
                next += u32::from(real);
            }
            positions.push(at);
        }
        let key_positions = self.rows.clone();
        Columns { positions, key_positions, start, prefix_len, packing, prefix_seen: None }
    }

    /// Appends a layer's keys and values for the columns registered by [`Self::extend`] and
    /// returns all of them, old and new.
    pub(crate) fn append(
        &mut self,
        layer: usize,
        keys: Tensor<4>,
        values: Tensor<4>,
    ) -> LayerCache {
        let all = match self.layers[layer].take() {
            None => LayerCache { keys, values },
            Some(past) => LayerCache {
                keys: Tensor::cat(vec![past.keys, keys], 2),
                values: Tensor::cat(vec![past.values, values], 2),
            },
        };
        self.layers[layer] = Some(all.clone());
        all
    }

    /// Rows `rows`, in that order; a row may be taken several times, or not at all (beams, groups).
    pub fn select(&self, rows: &[usize]) -> Self {
        let selected = self.rows_tensor(rows);
        Self {
            layers: self
                .layers
                .iter()
                .map(|layer| {
                    let ids = selected.as_ref()?;
                    layer.as_ref().map(|layer| LayerCache {
                        keys: layer.keys.clone().select(0, ids.clone()),
                        values: layer.values.clone().select(0, ids.clone()),
                    })
                })
                .collect(),
            rows: rows.iter().map(|&row| self.rows[row].clone()).collect(),
            prefix_len: self.prefix_len,
            norms: self.norms.clone(),
            packing: self.packing.as_ref().map(|packing| Arc::new(packing.select(rows))),
            watched: None,
        }
    }

    fn rows_tensor(&self, rows: &[usize]) -> Option<Tensor<1, Int>> {
        let device = self.layers.first()?.as_ref()?.keys.device();
        let ids: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
        Some(Tensor::from_data(TensorData::new(ids, [rows.len()]), &device))
    }

    /// Forgets the positions of `row` from `len` on. Slots that no row uses any more are cut off.
    pub fn truncate(&mut self, row: usize, len: usize) {
        let first_forgotten = (self.prefix_len + len) as u32;
        for slot in &mut self.rows[row] {
            *slot = slot.filter(|&position| position < first_forgotten);
        }
        let used = self
            .rows
            .iter()
            .map(|slots| slots.iter().rposition(Option::is_some).map_or(0, |last| last + 1))
            .max()
            .unwrap_or(0);
        self.keep_slots(used);
    }

    /// Drops every slot from `slots` on, in all rows.
    pub(crate) fn keep_slots(&mut self, slots: usize) {
        if slots >= self.slots() {
            return;
        }
        for row in &mut self.rows {
            row.truncate(slots);
        }
        for layer in &mut self.layers {
            *layer = layer.take().filter(|_| slots > 0).map(|layer| LayerCache {
                keys: layer.keys.narrow(2, 0, slots),
                values: layer.values.narrow(2, 0, slots),
            });
        }
    }

    /// The tensors of all layers, keys before values; empty while nothing is stored.
    ///
    /// # Shapes
    /// - each: `[batch, n_kv_heads, slots, head_dim]`
    pub fn tensors(&self) -> Vec<Tensor<4>> {
        self.layers.iter().flatten().flat_map(|l| [l.keys.clone(), l.values.clone()]).collect()
    }

    /// The same rows and slots, up to `slots`, with other tensors, in the order of
    /// [`Self::tensors`]: how a rollout enters a segment from its recorded boundary.
    ///
    /// # Panics
    /// If there are not two tensors a layer.
    pub fn with_tensors(&self, tensors: Vec<Tensor<4>>, slots: usize) -> Self {
        assert_eq!(tensors.len(), 2 * self.layers.len(), "keys and values of every layer");
        let mut tensors = tensors.into_iter();
        let mut layers = Vec::with_capacity(self.layers.len());
        while let (Some(keys), Some(values)) = (tensors.next(), tensors.next()) {
            layers.push(Some(LayerCache { keys, values }));
        }
        let rows = self.rows.iter().map(|row| row[..slots].to_vec()).collect();
        let (norms, packing) = (self.norms.clone(), self.packing.clone());
        Self { layers, rows, prefix_len: self.prefix_len, norms, packing, watched: None }
    }
}

impl Columns {
    /// The sequence that a new column belongs to: that of its row, where rows are not packed.
    pub(crate) fn sequence(&self, row: usize, column: usize) -> usize {
        let column = self.start - self.prefix_len + column;
        self.packing.as_ref().map_or(row, |packing| packing.sequence(row, column) as usize)
    }

    /// Whether a slot is part of the sequence of a new column, or of the prefix.
    fn same_sequence(&self, row: usize, column: usize, slot: usize) -> bool {
        let Some(packing) = self.packing.as_ref().filter(|_| slot >= self.prefix_len) else {
            return true;
        };
        packing.sequence(row, slot - self.prefix_len) as usize == self.sequence(row, column)
    }

    /// Hides the learned prefix from the columns that additions do not reach. Where it is nobody's
    /// its slots are left out: attention is then that of the bare base to the bit. Returns how many
    /// slots were left out.
    pub(crate) fn limit_prefix(&mut self, reach: &Reach) -> usize {
        match reach {
            Reach::Everywhere => 0,
            Reach::At { flags, .. } => {
                self.prefix_seen = Some(flags.clone());
                0
            }
            Reach::Nowhere => {
                let left_out = std::mem::take(&mut self.prefix_len);
                self.start -= left_out;
                for slots in &mut self.key_positions {
                    slots.drain(..left_out);
                }
                left_out
            }
        }
    }

    /// Additive attention mask, 0 where a query sees a slot and minus infinity elsewhere, with the
    /// queries of a group of heads one after another; `None` when everything is visible.
    ///
    /// A padding column sees itself, so that its unused output is a number.
    ///
    /// # Shapes
    /// - output: `[batch or 1, 1, group * seq, slots]`
    pub(crate) fn mask(
        &self,
        group: usize,
        window: Option<usize>,
        like: &Tensor<2>,
    ) -> Option<Tensor<4>> {
        let seq = self.positions[0].len();
        let slots = self.key_positions[0].len();
        let same = |rows: &[Vec<Option<u32>>]| rows.windows(2).all(|pair| pair[0] == pair[1]);
        let same_rows = |seen: &Vec<Vec<bool>>| seen.windows(2).all(|pair| pair[0] == pair[1]);
        let alike = self.packing.is_none()
            && same(&self.key_positions)
            && self.prefix_seen.as_ref().is_none_or(same_rows);
        let rows = if alike { 1 } else { self.key_positions.len() };
        let mut mask = Vec::with_capacity(rows * seq * slots);
        let mut everything = true;
        for row in 0..rows {
            for column in 0..seq {
                for slot in 0..slots {
                    let seen = self.sees(row, column, slot, window);
                    everything &= seen;
                    mask.push(if seen { 0.0 } else { f64::NEG_INFINITY });
                }
            }
        }
        if everything {
            return None;
        }
        let shape = [rows, 1, seq, slots];
        let mask = soft_core::float_tensor(mask, shape, &like.device(), like.dtype());
        Some(mask.repeat_dim(2, group))
    }

    fn sees(&self, row: usize, column: usize, slot: usize, window: Option<usize>) -> bool {
        let own = self.start + column;
        if slot == own {
            return true;
        }
        let hidden = |seen: &Vec<Vec<bool>>| !seen[row][column];
        if slot < self.prefix_len && self.prefix_seen.as_ref().is_some_and(hidden) {
            return false;
        }
        let Some(key) = self.key_positions[row][slot] else { return false };
        let query = self.positions[row][column];
        // Of another sequence a key may have a later position than the query.
        slot < own
            && self.same_sequence(row, column, slot)
            && window.is_none_or(|window| ((query - key) as usize) < window)
    }
}
