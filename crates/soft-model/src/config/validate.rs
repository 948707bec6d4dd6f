//! Bounds that every configuration keeps, checked before anything is allocated.

use crate::config::{Family, ModelConfig, Positions, RopeScaling};

/// Why a configuration is refused, in this project's words; readers add file and key.
pub(super) struct Refusal {
    /// Name of the offending field in [`ModelConfig`].
    pub(super) field: &'static str,
    /// What was found and what was expected.
    pub(super) problem: String,
}

const MAX_LAYERS: usize = 4096;
const MAX_WIDTH: usize = 1 << 20;
const MAX_VOCAB: usize = 1 << 26;
const MAX_POSITIONS: usize = 1 << 30;
/// A learned position is a row of a matrix, so fewer of them are believable.
const MAX_LEARNED_POSITIONS: usize = 1 << 24;
/// Weights of the largest model that is not a mistake: 4 tebi.
const MAX_WEIGHTS: u128 = 1 << 42;

/// Checks every field; the first refusal is returned.
pub(super) fn validate(c: &ModelConfig) -> Result<(), Refusal> {
    in_range("vocab_size", c.vocab_size, MAX_VOCAB)?;
    in_range("d_model", c.d_model, MAX_WIDTH)?;
    in_range("d_ff", c.d_ff, MAX_WIDTH * 4)?;
    in_range("n_layers", c.n_layers, MAX_LAYERS)?;
    in_range("n_heads", c.n_heads, MAX_WIDTH)?;
    in_range("n_kv_heads", c.n_kv_heads, c.n_heads)?;
    in_range("head_dim", c.head_dim, MAX_WIDTH)?;
    in_range("max_positions", c.max_positions, MAX_POSITIONS)?;
    if !c.n_heads.is_multiple_of(c.n_kv_heads) {
        let problem = format!("found {}, which does not divide {} heads", c.n_kv_heads, c.n_heads);
        return refuse("n_kv_heads", problem);
    }
    if c.family == Family::Gpt2 {
        gpt2_heads(c)?;
    }
    if c.sliding_window == Some(0) {
        return refuse("sliding_window", "found 0, expected at least 1");
    }
    if !(c.norm_eps.is_finite() && c.norm_eps > 0.0 && c.norm_eps < 1.0) {
        return refuse("norm_eps", format!("found {}, expected between 0 and 1", c.norm_eps));
    }
    if !(0.0..1.0).contains(&c.dropout) {
        return refuse("dropout", format!("found {}, expected at least 0, below 1", c.dropout));
    }
    positions(c)?;
    weights(c)
}

/// GPT-2 stores query, key and value as one matrix of three times the width.
fn gpt2_heads(c: &ModelConfig) -> Result<(), Refusal> {
    if c.n_kv_heads != c.n_heads {
        let problem =
            format!("found {}, GPT-2 needs as many as heads, {}", c.n_kv_heads, c.n_heads);
        return refuse("n_kv_heads", problem);
    }
    if c.n_heads * c.head_dim != c.d_model {
        let (heads, width) = (c.n_heads, c.d_model);
        let problem =
            format!("found {}, GPT-2's {heads} heads have to make its width, {width}", c.head_dim);
        return refuse("head_dim", problem);
    }
    Ok(())
}

fn positions(c: &ModelConfig) -> Result<(), Refusal> {
    let Positions::Rotary { theta, scaling } = c.positions else {
        return in_range("max_positions", c.max_positions, MAX_LEARNED_POSITIONS);
    };
    if !c.head_dim.is_multiple_of(2) {
        return refuse("head_dim", format!("found {}, rotary positions need it even", c.head_dim));
    }
    if !(theta.is_finite() && theta >= 1.0) {
        return refuse("rope_theta", format!("found {theta}, expected a number of at least 1"));
    }
    match scaling {
        None => Ok(()),
        Some(RopeScaling::Linear { factor }) => rope_factor(factor),
        Some(RopeScaling::Llama3 {
            factor,
            low_freq_factor: low,
            high_freq_factor: high,
            original_max_positions,
        }) => {
            rope_factor(factor)?;
            in_range("rope_original", original_max_positions, MAX_POSITIONS)?;
            if !(low.is_finite() && high.is_finite() && low > 0.0 && high > low) {
                let problem = format!(
                    "found low_freq_factor {low} and high_freq_factor {high}, expected 0 < low < high"
                );
                return refuse("rope_scaling", problem);
            }
            Ok(())
        }
    }
}

fn rope_factor(factor: f64) -> Result<(), Refusal> {
    if factor.is_finite() && factor >= 1.0 {
        return Ok(());
    }
    refuse("rope_scaling", format!("found factor {factor}, expected a number of at least 1"))
}

/// All weights together, without overflow.
fn weights(c: &ModelConfig) -> Result<(), Refusal> {
    let [vocab, d_model, d_ff, layers] =
        [c.vocab_size, c.d_model, c.d_ff, c.n_layers].map(|n| n as u128);
    let heads = (2 * c.n_heads as u128 + 2 * c.n_kv_heads as u128) * c.head_dim as u128;
    let feed_forward = if c.family == Family::Gpt2 { 2 } else { 3 };
    let total = 2 * vocab * d_model + layers * d_model * (heads + feed_forward * d_ff);
    if total > MAX_WEIGHTS {
        let problem = format!("these sizes make {total} weights, more than {MAX_WEIGHTS}");
        return refuse("n_layers", problem);
    }
    Ok(())
}

fn in_range(field: &'static str, value: usize, most: usize) -> Result<(), Refusal> {
    if (1..=most).contains(&value) {
        return Ok(());
    }
    refuse(field, format!("found {value}, expected 1..={most}"))
}

fn refuse<T>(field: &'static str, problem: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { field, problem: problem.into() })
}
