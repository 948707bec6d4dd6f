//! What could prove the effect of soft thoughts an illusion: the answer after thoughts that were
//! taken away or replaced.

use burn::tensor::Tensor;
use soft_core::{NoiseKey, Place, host_values, uniform_stream};
use soft_model::{Generation, Mode, SoftInput};

use crate::config::Control;

/// One input of a thought, and whether it was fed softly: a mixture may have one token only, and
/// is no tag for that.
pub(crate) type Thought = (SoftInput, bool);

/// The thoughts of one generation, as they were fed. A tag of several tokens that the model wrote
/// itself belongs to the end of its thought, and is hard.
pub(crate) fn thoughts(generation: &Generation, close: &[u32]) -> Vec<Thought> {
    let first = generation.tally.first_thought;
    // The last position of a row that ended there has an input too, which nothing read.
    let end = (first + generation.tally.thoughts).min(generation.inputs.len());
    let modes = generation.modes[first..end].iter().map(|&mode| mode == Mode::Soft);
    let mut thoughts: Vec<Thought> =
        generation.inputs[first..end].iter().cloned().zip(modes).collect();
    let tag = thoughts.len().saturating_sub(close.len());
    if generation.token_ids[first..end].ends_with(close) {
        for (thought, &id) in thoughts[tag..].iter_mut().zip(close) {
            *thought = (SoftInput::token(id), false);
        }
    }
    thoughts
}

/// What the controls draw on.
pub(crate) struct Source<'a> {
    pub(crate) embedding: &'a Tensor<2>,
    /// The thoughts of another question.
    pub(crate) other: &'a [Thought],
    /// The token of [`Control::Pause`].
    pub(crate) pause: u32,
    /// Seed of the run, and number of the question.
    pub(crate) seed: u64,
    pub(crate) question: u32,
}

/// Thoughts changed by a control. Hard inputs among them stay, in their order.
pub(crate) fn changed(
    control: Control,
    thoughts: &[Thought],
    source: &Source<'_>,
) -> Vec<SoftInput> {
    let others: Vec<&SoftInput> =
        source.other.iter().filter(|thought| thought.1).map(|thought| &thought.0).collect();
    let mut soft = 0;
    let mut out = Vec::with_capacity(thoughts.len());
    for (position, (input, is_soft)) in thoughts.iter().enumerate() {
        if !is_soft {
            out.push(input.clone());
            continue;
        }
        // It is a soft input all the same: what acts on those alone goes on acting.
        let alone = |id| SoftInput::Tokens(vec![(id, 1.0)]);
        let token = |id: Option<u32>| id.map_or_else(|| input.clone(), alone);
        match control {
            Control::Delete => {}
            Control::Top => out.push(token(input.heaviest(0))),
            Control::Second => out.push(token(input.heaviest(1).or(input.heaviest(0)))),
            Control::Pause => out.push(alone(source.pause)),
            Control::Shuffle => match others.is_empty() {
                true => out.push(input.clone()),
                false => out.push(others[soft % others.len()].clone()),
            },
            Control::Noise => out.push(noise(input, position as u32, source)),
        }
        soft += 1;
    }
    out
}

/// A random direction with the norm of the input.
fn noise(input: &SoftInput, position: u32, source: &Source<'_>) -> SoftInput {
    let values = host_values(input.mix(source.embedding));
    let key = NoiseKey { seed: source.seed, step: 0, row: source.question, position };
    let mut uniform = uniform_stream(key, Place::Control);
    let mut next = || uniform.next().unwrap_or(0.5);
    let normal: Vec<f64> = values
        .iter()
        .map(|_| (-2.0 * next().ln()).sqrt() * (2.0 * std::f64::consts::PI * next()).cos())
        .collect();
    let length = |values: &[f64]| values.iter().map(|x| x * x).sum::<f64>().sqrt();
    let scale = length(&values) / length(&normal).max(f64::MIN_POSITIVE);
    SoftInput::Vector(normal.into_iter().map(|x| x * scale).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{DType, Device};

    fn mixture(a: u32, b: u32) -> SoftInput {
        SoftInput::Tokens(vec![(a, 0.6), (b, 0.4)])
    }

    #[test]
    fn each_control_changes_the_soft_inputs_and_keeps_the_tag() {
        let values: Vec<f64> = (0..24).map(|i| f64::from(i).sin()).collect();
        let embedding = soft_core::float_tensor(values, [6, 4], &Device::flex(), DType::F64);
        let tag = SoftInput::token(5);
        let own = [(mixture(0, 1), true), (mixture(2, 1), true), (tag.clone(), false)];
        let other = [(mixture(3, 4), true), (tag.clone(), false)];
        let source =
            Source { embedding: &embedding, other: &other, pause: 4, seed: 1, question: 7 };
        let of = |control| changed(control, &own, &source);
        let token = |id| SoftInput::Tokens(vec![(id, 1.0)]);
        assert_eq!(of(Control::Delete), std::slice::from_ref(&tag));
        assert_eq!(of(Control::Top), [token(0), token(2), tag.clone()]);
        assert_eq!(of(Control::Second), [token(1), token(1), tag.clone()]);
        assert_eq!(of(Control::Pause), [token(4), token(4), tag.clone()]);
        assert_eq!(of(Control::Shuffle), [mixture(3, 4), mixture(3, 4), tag.clone()]);
        let noisy = of(Control::Noise);
        for (noisy, (input, _)) in noisy.iter().zip(&own[..2]) {
            let length = |input: &SoftInput| {
                host_values(input.mix(&embedding)).iter().map(|x| x * x).sum::<f64>().sqrt()
            };
            assert!((length(noisy) - length(input)).abs() < 1e-9);
            assert_ne!(noisy, input);
        }
        assert_ne!(noisy[0], noisy[1]);
        assert_eq!(noisy, of(Control::Noise), "the same noise each time");
        let alone = [(token(2), true), (tag.clone(), false)];
        let gone = changed(Control::Delete, &alone, &source);
        assert_eq!(gone, std::slice::from_ref(&tag), "a mixture of one token is soft all the same");
    }
}
