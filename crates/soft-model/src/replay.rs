//! A generation once more, in one parallel pass.

use burn::tensor::Tensor;

use crate::active::Cells;
use crate::kv_cache::KvCache;
use crate::record::SoftInput;
use crate::transformer::Transformer;

/// Logits after each position of a prompt and the inputs that a generation fed after it, in one
/// parallel pass: what [`crate::generate`] computed step by step, within rounding.
///
/// # Shapes
/// - output: `[prompt + inputs, vocab]`
pub fn replay(model: &Transformer, prompt: &[u32], inputs: &[SoftInput]) -> Tensor<2> {
    let hidden = fed(model, prompt, inputs, &mut model.new_cache(1));
    model.output_head().logits(hidden)
}

/// How much every position of a prompt and the inputs after it attends to every other: the weights
/// of each layer, before drop-out, in one parallel pass.
///
/// # Shapes
/// - each layer: `[n_heads, prompt + inputs, slots]`, with a learned prefix as the first slots; a
///   row sums to 1 and is 0 after its own position
pub fn attention_weights(
    model: &Transformer,
    prompt: &[u32],
    inputs: &[SoftInput],
) -> Vec<Tensor<3>> {
    let mut cache = model.new_cache(1);
    cache.watch();
    let columns = prompt.len() + inputs.len();
    drop(fed(model, prompt, inputs, &mut cache));
    let heads = model.config().n_heads;
    let whole = |weights: Tensor<4>| {
        let [_, _, _, slots] = weights.dims();
        weights.reshape([heads, columns, slots])
    };
    cache.watched().into_iter().map(whole).collect()
}

/// Hidden states after each position.
fn fed(
    model: &Transformer,
    prompt: &[u32],
    inputs: &[SoftInput],
    cache: &mut KvCache,
) -> Tensor<2> {
    let embedding = model.embedding();
    let d_model = embedding.dims()[1];
    let given = model.embed(prompt, 1);
    let fed = inputs.iter().map(|input| input.mix(&embedding).reshape([1, 1, d_model]));
    let embeds = Tensor::cat(std::iter::once(given).chain(fed).collect(), 1);
    let flags = prompt.iter().map(|_| false).chain(inputs.iter().map(SoftInput::is_soft));
    let soft = [flags.collect::<Vec<bool>>()];
    let real = [vec![true; soft[0].len()]];
    let cells = Cells { real: &real, soft: Some(&soft) };
    model.forward_cells(embeds, cells, cache, None)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::tensor::{DType, Device};

    use super::*;
    use crate::config::tests::config;
    use crate::config::{Family, ModelConfig};

    fn values(weights: &Tensor<3>) -> Vec<f32> {
        weights.clone().into_data().try_to_vec().expect("f32")
    }

    /// Two key/value heads for four query heads, so that the order of the heads matters.
    fn model() -> Transformer {
        let config = ModelConfig { n_heads: 4, n_kv_heads: 2, ..config(Family::Llama) };
        Transformer::from_seed(&config, 3, &Device::flex(), DType::F32)
    }

    #[test]
    fn attention_sums_to_one_and_looks_back_only() {
        let model = model();
        let inputs = [SoftInput::Tokens(vec![(1, 0.5), (2, 0.5)]), SoftInput::token(4)];
        let layers = attention_weights(&model, &[5, 6, 7], &inputs);
        assert_eq!(layers.len(), model.config().n_layers);
        for layer in &layers {
            assert_eq!(layer.dims(), [4, 5, 5]);
            for (row, weights) in values(layer).chunks(5).enumerate() {
                let at = row % 5;
                assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-5);
                assert!(weights[at + 1..].iter().all(|&weight| weight == 0.0), "{at} {weights:?}");
                assert!(weights[..=at].iter().all(|&weight| weight > 0.0));
            }
        }
    }

    /// The first layer sees embeddings alone, so a position's weights do not change with what
    /// stands after it; a key that is repeated gets the same weight where positions are not told
    /// apart, which is so for a query of zeros: all weights are equal.
    #[test]
    fn heads_without_a_query_attend_to_all_alike() {
        let mut model = model();
        let attention = &mut model.blocks[0].attention;
        let head_dim = attention.head_dim;
        // Heads 0, 1 and 3 lose their queries; head 2 keeps its own.
        let query = attention.query.weight.val();
        let keep: Vec<f32> =
            (0..4 * head_dim).map(|at| if at / head_dim == 2 { 1.0 } else { 0.0 }).collect();
        let mask = Tensor::<1>::from_floats(&keep[..], &Device::flex()).unsqueeze::<2>();
        attention.query.weight = burn::module::Param::from_tensor(query * mask);
        let layers = attention_weights(&model, &[5, 6, 7, 8], &[]);
        let all = values(&layers[0]);
        let row = |head: usize, at: usize| &all[(head * 4 + at) * 4..][..=at];
        for at in 1..4 {
            let even = 1.0 / (at + 1) as f32;
            for head in [0, 1, 3] {
                assert!(row(head, at).iter().all(|weight| (weight - even).abs() < 1e-6), "{head}");
            }
            assert!(row(2, at).iter().any(|weight| (weight - even).abs() > 1e-4));
        }
    }
}
