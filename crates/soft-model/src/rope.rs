//! Rotary position embedding in the half-split form of Hugging Face checkpoints.

use burn::tensor::Tensor;

use crate::config::RopeScaling;

/// Rotation frequencies of a head, one for each pair of features (Su et al. 2021,
/// arXiv:2104.09864): `theta^(-2i / head_dim)`, changed as the checkpoint's scaling says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rope {
    frequencies: Vec<f64>,
}

/// Cosines and sines for the positions of one pass, shared by all layers.
#[derive(Debug, Clone)]
pub(crate) struct Rotation {
    /// `[batch or 1, 1, seq, head_dim]`.
    pub(crate) cos: Tensor<4>,
    /// As `cos`.
    pub(crate) sin: Tensor<4>,
}

impl Rope {
    /// The frequencies for heads of width `head_dim`.
    pub(crate) fn new(head_dim: usize, theta: f64, scaling: Option<RopeScaling>) -> Self {
        let frequencies = (0..head_dim / 2)
            .map(|i| scaled(theta.powf(-2.0 * i as f64 / head_dim as f64), scaling))
            .collect();
        Self { frequencies }
    }

    /// The rotation back by `by` positions.
    pub(crate) fn back<const D: usize>(&self, by: u32, like: &Tensor<D>) -> Rotation {
        let Rotation { cos, sin } = self.rotation(&[vec![by]], like);
        Rotation { cos, sin: -sin }
    }

    /// The rotation at `positions[row][column]`; rows that are all the same are computed once.
    pub(crate) fn rotation<const D: usize>(
        &self,
        positions: &[Vec<u32>],
        like: &Tensor<D>,
    ) -> Rotation {
        let shared = positions.windows(2).all(|pair| pair[0] == pair[1]);
        let rows = if shared { &positions[..1] } else { positions };
        let angles: Vec<f64> = rows
            .iter()
            .flatten()
            .flat_map(|&position| {
                let half = self.frequencies.iter().map(move |f| f * f64::from(position));
                half.clone().chain(half)
            })
            .collect();
        let shape = [rows.len(), 1, positions[0].len(), 2 * self.frequencies.len()];
        let tensor = |of: fn(f64) -> f64| {
            let values = angles.iter().map(|&angle| of(angle)).collect();
            soft_core::float_tensor(values, shape, &like.device(), like.dtype())
        };
        Rotation { cos: tensor(f64::cos), sin: tensor(f64::sin) }
    }
}

impl Rotation {
    /// `x cos + rotate_half(x) sin` for `x [batch, heads, seq, head_dim]`.
    pub(crate) fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        soft_core::rotated(x, &self.cos, &self.sin)
    }
}

fn scaled(frequency: f64, scaling: Option<RopeScaling>) -> f64 {
    match scaling {
        None => frequency,
        Some(RopeScaling::Linear { factor }) => frequency / factor,
        Some(RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_positions,
        }) => {
            let wavelength = 2.0 * std::f64::consts::PI / frequency;
            let context = original_max_positions as f64;
            // How far the wavelength lies between "keep" (1) and "divide" (0).
            let keep = ((context / wavelength - low_freq_factor)
                / (high_freq_factor - low_freq_factor))
                .clamp(0.0, 1.0);
            frequency * (keep + (1.0 - keep) / factor)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama3_keeps_short_waves_and_divides_long_ones() {
        let scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_positions: 8192,
        };
        let plain = Rope::new(128, 500_000.0, None).frequencies;
        let changed = Rope::new(128, 500_000.0, Some(scaling)).frequencies;
        assert_eq!(changed[0], plain[0]);
        assert!((changed[63] - plain[63] / 8.0).abs() < 1e-18);
        assert!(changed.windows(2).all(|pair| pair[0] > pair[1]), "still falling");
    }

    #[test]
    fn linear_scaling_is_a_shorter_position() {
        let plain = Rope::new(8, 10_000.0, None).frequencies;
        let halved = Rope::new(8, 10_000.0, Some(RopeScaling::Linear { factor: 2.0 })).frequencies;
        assert!(plain.iter().zip(&halved).all(|(a, b)| a / 2.0 == *b));
    }
}
