//! Prompts and what follows them, fed at once.

use burn::tensor::{Int, Tensor};

use crate::active::Cells;
use crate::kv_cache::KvCache;
use crate::record::SoftInput;
use crate::transformer::Transformer;

/// Feeds prompts and inputs after them, padded on the left, and returns the hidden state after the
/// last position of each row.
///
/// # Shapes
/// - output: `[batch, d_model]`
pub(crate) fn prefill(
    model: &Transformer,
    prompts: &[Vec<u32>],
    inputs: &[Vec<SoftInput>],
    cache: &mut KvCache,
) -> Tensor<2> {
    let after_prompts = feed_ids(model, prompts, cache);
    let longest = inputs.iter().map(Vec::len).max().unwrap_or(0);
    if longest == 0 {
        return after_prompts;
    }
    let embedding = model.embedding();
    let [batch, d_model] = after_prompts.dims();
    let mut embeds = Vec::with_capacity(batch);
    let (mut real, mut soft) = (Vec::with_capacity(batch), Vec::with_capacity(batch));
    for inputs in inputs {
        let padding = longest - inputs.len();
        let mut row: Vec<Tensor<2>> = inputs.iter().map(|input| input.mix(&embedding)).collect();
        if padding > 0 {
            row.insert(0, embedding.clone().narrow(0, 0, 1).repeat_dim(0, padding));
        }
        embeds.push(Tensor::cat(row, 0).reshape([1, longest, d_model]));
        real.push((0..longest).map(|column| column >= padding).collect::<Vec<bool>>());
        let flags = inputs.iter().map(SoftInput::is_soft);
        soft.push(std::iter::repeat_n(false, padding).chain(flags).collect::<Vec<bool>>());
    }
    let cells = Cells { real: &real, soft: Some(&soft) };
    let hidden = model.forward_cells(Tensor::cat(embeds, 0), cells, cache, None);
    let after_inputs = last_column(hidden, batch);
    // A row without inputs goes on from its prompt.
    let bare: Vec<bool> = inputs.iter().map(Vec::is_empty).collect();
    crate::proposal::where_rows(&bare, after_inputs, after_prompts)
}

fn feed_ids(model: &Transformer, prompts: &[Vec<u32>], cache: &mut KvCache) -> Tensor<2> {
    let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
    let mut ids = Vec::with_capacity(prompts.len());
    let mut real = Vec::with_capacity(prompts.len());
    for prompt in prompts {
        let padding = longest - prompt.len();
        let padded = std::iter::repeat_n(prompt[0], padding).chain(prompt.iter().copied());
        ids.push(padded.collect::<Vec<u32>>());
        real.push((0..longest).map(|column| column >= padding).collect::<Vec<bool>>());
    }
    let last_chunk = model.forward_ids(&ids, &real, cache).last();
    last_column(last_chunk.expect("no prompt is empty"), prompts.len())
}

/// `[batch * seq, d_model]` to the last position of each row.
fn last_column(hidden: Tensor<2>, batch: usize) -> Tensor<2> {
    let [rows, d_model] = hidden.dims();
    let seq = rows / batch;
    let last: Vec<i32> = (1..=batch).map(|row| (row * seq - 1) as i32).collect();
    let last = Tensor::<1, Int>::from_data(&last[..], &hidden.device());
    debug_assert_eq!(last.dims(), [batch]);
    hidden.reshape([rows, d_model]).select(0, last)
}
