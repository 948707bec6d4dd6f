//! Random numbers as a pure function of where they are used.
//!
//! A recomputed segment, a resumed run and another batch size must see the same noise, so no
//! generator carries state: each place in a run has its own ChaCha8 stream, keyed by
//! (seed, step, row, position, place), and the number for token `id` is at a fixed offset in it.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// What a random number is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// Noise on the distribution that is fed back.
    Feed,
    /// The draw of one token.
    Draw,
    /// A further draw of the same position, by its number.
    FurtherDraw(u32),
    /// Noise on the share of one token, by its id, where that takes several numbers.
    Share(u32),
    /// Noise on the distribution that is fed, given a draw from it; by the number of the sample.
    Conditional(u32),
    /// The coin of scheduled sampling.
    Coin,
    /// Noise in the place of a thought.
    Control,
    /// Initial values of a parameter, by its index in the model.
    Init(u32),
    /// A drop-out mask, by the index of its site in the model.
    Dropout(u32),
}

impl Place {
    fn code(self) -> u64 {
        match self {
            Place::Feed => 1,
            Place::Draw => 2,
            Place::Coin => 3,
            Place::Control => 4,
            Place::FurtherDraw(number) => (3 << 32) | u64::from(number),
            Place::Share(id) => (4 << 32) | u64::from(id),
            Place::Conditional(sample) => (5 << 32) | u64::from(sample),
            Place::Init(index) => (2 << 32) | u64::from(index),
            Place::Dropout(site) => (1 << 32) | u64::from(site),
        }
    }
}

/// Names one stream of random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NoiseKey {
    /// Seed of the run.
    pub seed: u64,
    /// Optimizer step; 0 in generation.
    pub step: u64,
    /// Row within the optimizer step (not within the micro-batch), or the prompt's index.
    pub row: u32,
    /// Position in the sequence, padding not counted.
    pub position: u32,
}

impl NoiseKey {
    fn stream(self, place: Place) -> ChaCha8Rng {
        let mut key = [0u8; 32];
        key[0..8].copy_from_slice(&self.seed.to_le_bytes());
        key[8..16].copy_from_slice(&self.step.to_le_bytes());
        key[16..20].copy_from_slice(&self.row.to_le_bytes());
        key[20..24].copy_from_slice(&self.position.to_le_bytes());
        key[24..32].copy_from_slice(&place.code().to_le_bytes());
        ChaCha8Rng::from_seed(key)
    }
}

/// The stream of uniform numbers in the open interval (0, 1) of a place.
pub fn uniform_stream(key: NoiseKey, place: Place) -> impl Iterator<Item = f64> {
    let mut stream = key.stream(place);
    std::iter::repeat_with(move || open_uniform(stream.next_u64()))
}

/// Fills `scales` with the factors of inverted drop-out (Srivastava et al. 2014): 0 with
/// probability `rate`, else `1 / (1 - rate)`. Each pair of row and position, as in a [`NoiseKey`], has
/// as many; factor i of one is the same however many are asked for.
///
/// A mask needs one number for every activation of every pass, and no more of them than that they
/// look independent: number i is a hash of i and of the key, so that they can be made many at once,
/// at a fraction of the cost of the streams of the other places.
pub fn dropout_scales(
    [seed, step]: [u64; 2],
    at: &[[u32; 2]],
    place: Place,
    rate: f64,
    scales: &mut [f32],
) {
    let width = (scales.len() / at.len().max(1)).max(1);
    // What all rows have in common is hashed once.
    let common = mixed(mixed(mixed(seed) ^ step) ^ place.code());
    let dropped = (rate * 2f64.powi(32)) as u32;
    let kept = (1.0 / (1.0 - rate)) as f32;
    let mask = Mask { common, at, dropped, kept, width, scales };
    #[cfg(feature = "flex")]
    pulp::Arch::new().dispatch(mask);
    #[cfg(not(feature = "flex"))]
    mask.fill();
}

/// A mask to be filled, row by row.
struct Mask<'a> {
    /// Hash of seed, step and place.
    common: u64,
    at: &'a [[u32; 2]],
    /// Hashes under this are dropped.
    dropped: u32,
    /// The factor of what is kept.
    kept: f32,
    width: usize,
    scales: &'a mut [f32],
}

impl Mask<'_> {
    #[inline(always)]
    fn fill(self) {
        for (&[row, position], scales) in
            self.at.iter().zip(self.scales.chunks_exact_mut(self.width))
        {
            let hash = mixed(self.common ^ (u64::from(row) << 32 | u64::from(position)));
            let words = [hash as u32, (hash >> 32) as u32];
            // In blocks of a length that is known, which become vector code however short a row is.
            let (blocks, rest) = scales.as_chunks_mut::<LANES>();
            let mut first = 0;
            for block in blocks {
                for (lane, scale) in block.iter_mut().enumerate() {
                    let hash = hashed(first + lane as u32, words);
                    *scale = if hash < self.dropped { 0.0 } else { self.kept };
                }
                first += LANES as u32;
            }
            for (lane, scale) in rest.iter_mut().enumerate() {
                let hash = hashed(first + lane as u32, words);
                *scale = if hash < self.dropped { 0.0 } else { self.kept };
            }
        }
    }
}

#[cfg(feature = "flex")]
impl pulp::WithSimd for Mask<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        self.fill();
    }
}

/// Numbers of a mask that are made at once.
const LANES: usize = 16;

/// A bijection of the 32 bits of `index` for each pair of keys: the mixing function `lowbias32` of
/// Wellons (Prospecting for hash functions, 2018), one key before it and one within it.
#[inline(always)]
fn hashed(index: u32, keys: [u32; 2]) -> u32 {
    let bits = index.wrapping_add(keys[0]);
    let bits = (bits ^ bits >> 16).wrapping_mul(0x7feb_352d) ^ keys[1];
    let bits = (bits ^ bits >> 15).wrapping_mul(0x846c_a68b);
    bits ^ bits >> 16
}

/// A bijection of 64 bits after which neighbours have nothing in common (SplitMix64, Steele et al.
/// 2014).
#[inline(always)]
fn mixed(bits: u64) -> u64 {
    let bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

/// Standard Gumbel noise `-log(-log u)` for tokens `0..count` of a place.
pub fn gumbel(key: NoiseKey, place: Place, count: usize) -> Vec<f64> {
    uniform_stream(key, place).take(count).map(gumbel_of).collect()
}

/// Standard Gumbel noise for the tokens `ids`: entry i is that of token `ids[i]`, the same as
/// [`gumbel`] has there, whichever tokens a filter kept.
pub fn gumbel_at(key: NoiseKey, place: Place, ids: &[u32]) -> Vec<f64> {
    let mut stream = key.stream(place);
    let words_per_draw = 2;
    // A place in the stream is found by making its block anew: not where it is the next one.
    let mut next = 0;
    ids.iter()
        .map(|&id| {
            if u64::from(id) != next {
                stream.set_word_pos(u128::from(id) * words_per_draw);
            }
            next = u64::from(id) + 1;
            gumbel_of(open_uniform(stream.next_u64()))
        })
        .collect()
}

/// Standard normal numbers of a place (Box and Muller 1958).
pub(crate) fn normal(key: NoiseKey, place: Place, count: usize) -> Vec<f64> {
    let mut uniform = uniform_stream(key, place);
    let mut next = move || uniform.next().unwrap_or(0.5);
    let draw = || (-2.0 * next().ln()).sqrt() * (2.0 * std::f64::consts::PI * next()).cos();
    std::iter::repeat_with(draw).take(count).collect()
}

/// The logarithm of a Gamma variate of shape `shape` and scale 1, the noise of one share of a
/// Dirichlet draw. In logarithms, since a variate of a small shape underflows.
///
/// # Source
/// Marsaglia and Tsang (2000), with their step down for a shape under 1:
/// `log G(a) = log G(a + 1) + log(U) / a`.
pub(crate) fn log_gamma_variate(key: NoiseKey, place: Place, shape: f64) -> f64 {
    let mut uniform = uniform_stream(key, place);
    let mut next = move || uniform.next().unwrap_or(0.5);
    let d = shape + 1.0 - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    let log_of_larger = loop {
        let normal = (-2.0 * next().ln()).sqrt() * (2.0 * std::f64::consts::PI * next()).cos();
        let v = (1.0 + c * normal).powi(3);
        let accepts = v > 0.0 && next().ln() < normal * normal / 2.0 + d * (1.0 - v + v.ln());
        if accepts {
            break d.ln() + v.ln();
        }
    };
    log_of_larger + next().ln() / shape
}

/// 53 random bits, at the middle of their cell: never 0 and never 1.
fn open_uniform(bits: u64) -> f64 {
    ((bits >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

fn gumbel_of(uniform: f64) -> f64 {
    -(-uniform.ln()).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: NoiseKey = NoiseKey { seed: 7, step: 3, row: 2, position: 5 };

    #[test]
    fn a_token_has_the_same_noise_whatever_else_is_kept() {
        let all = gumbel(KEY, Place::Feed, 1000);
        // Forth, back, the same again, and several that follow one another.
        let ids = [999, 0, 1, 2, 17, 17, 18, 40, 41, 39];
        let some = gumbel_at(KEY, Place::Feed, &ids);
        assert_eq!(some, ids.map(|id| all[id as usize]));
    }

    #[test]
    fn every_part_of_the_key_changes_the_stream() {
        let draw = |key| gumbel(key, Place::Feed, 1)[0];
        let keys = [
            KEY,
            NoiseKey { seed: 8, ..KEY },
            NoiseKey { step: 4, ..KEY },
            NoiseKey { row: 3, ..KEY },
            NoiseKey { position: 6, ..KEY },
        ];
        let mut values: Vec<f64> = keys.into_iter().map(draw).collect();
        values.push(gumbel(KEY, Place::Draw, 1)[0]);
        values.push(gumbel(KEY, Place::Dropout(0), 1)[0]);
        values.push(gumbel(KEY, Place::Dropout(1), 1)[0]);
        values.push(gumbel(KEY, Place::FurtherDraw(1), 1)[0]);
        values.push(gumbel(KEY, Place::Share(1), 1)[0]);
        values.sort_by(f64::total_cmp);
        values.dedup();
        assert_eq!(values.len(), 10);
    }

    fn scales(key: NoiseKey, place: Place, count: usize) -> Vec<f32> {
        let mut scales = vec![0.0; count];
        let at = [[key.row, key.position]];
        dropout_scales([key.seed, key.step], &at, place, 0.3, &mut scales);
        scales
    }

    #[test]
    fn drop_out_drops_its_share_and_keeps_the_mean() {
        let count = 100_000;
        let all = scales(KEY, Place::Dropout(2), count);
        let kept = (1.0_f64 / 0.7) as f32;
        assert!(all.iter().all(|&scale| scale == 0.0 || scale == kept));
        let dropped = all.iter().filter(|scale| **scale == 0.0).count() as f64;
        let error = (count as f64 * 0.3 * 0.7).sqrt();
        assert!((dropped - 0.3 * count as f64).abs() < 4.0 * error, "{dropped}");
        assert_eq!(scales(KEY, Place::Dropout(2), 50), all[..50], "however many are asked for");
        let mut none = [7.0; 9];
        dropout_scales([1, 2], &[[3, 4], [5, 6], [7, 8]], Place::Dropout(2), 0.0, &mut none);
        assert_eq!(none, [1.0; 9]);
    }

    /// Masks of keys that differ in one word by one agree as often as independent ones.
    #[test]
    fn masks_of_neighbours_are_independent() {
        let count = 100_000;
        let own = scales(KEY, Place::Dropout(2), count);
        let others = [
            scales(NoiseKey { seed: KEY.seed + 1, ..KEY }, Place::Dropout(2), count),
            scales(NoiseKey { step: KEY.step + 1, ..KEY }, Place::Dropout(2), count),
            scales(NoiseKey { row: KEY.row + 1, ..KEY }, Place::Dropout(2), count),
            scales(NoiseKey { position: KEY.position + 1, ..KEY }, Place::Dropout(2), count),
            scales(
                NoiseKey { row: KEY.position, position: KEY.row, ..KEY },
                Place::Dropout(2),
                count,
            ),
            scales(KEY, Place::Dropout(3), count),
            own[1..].iter().chain(&own[..1]).copied().collect(),
        ];
        let (share, n) = (0.3 * 0.3 + 0.7 * 0.7, count as f64);
        for (number, other) in others.iter().enumerate() {
            let agree = own.iter().zip(other).filter(|(a, b)| a == b).count() as f64;
            let error = (n * share * (1.0 - share)).sqrt();
            assert!((agree - share * n).abs() < 4.0 * error, "{number}: {}", agree / n);
        }
    }

    #[test]
    fn gamma_variates_have_their_mean_and_variance() {
        for shape in [0.05, 0.7, 3.0, 40.0] {
            let count = 40_000;
            let draw = |row| log_gamma_variate(NoiseKey { row, ..KEY }, Place::Share(3), shape);
            let draws: Vec<f64> = (0..count).map(|row| draw(row).exp()).collect();
            let mean = draws.iter().sum::<f64>() / f64::from(count);
            let square = draws.iter().map(|x| (x - shape).powi(2)).sum::<f64>() / f64::from(count);
            // Both are the shape; five standard errors, that of the variance by its fourth moment.
            let error = (shape / f64::from(count)).sqrt();
            assert!((mean - shape).abs() < 5.0 * error, "{shape}: mean {mean}");
            let error = ((2.0 * shape * shape + 6.0 * shape) / f64::from(count)).sqrt();
            assert!((square - shape).abs() < 5.0 * error, "{shape}: variance {square}");
        }
    }

    #[test]
    fn normal_numbers_have_the_moments_of_the_normal_distribution() {
        let count = 200_000;
        let draws = normal(KEY, Place::Feed, count);
        // Five standard errors each: the variance of x^n is E[x^2n] - E[x^n]^2.
        for (power, expected, variance) in
            [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)]
        {
            let mean = draws.iter().map(|x| x.powi(power)).sum::<f64>() / count as f64;
            let error = (variance / count as f64).sqrt();
            assert!((mean - expected).abs() < 5.0 * error, "moment {power}: {mean}");
        }
    }

    #[test]
    fn gumbel_noise_follows_its_distribution_function() {
        let count = 200_000;
        let mut draws = gumbel(KEY, Place::Feed, count);
        draws.sort_by(f64::total_cmp);
        let distance = draws
            .iter()
            .enumerate()
            .map(|(i, &x)| ((i as f64 + 0.5) / count as f64 - (-(-x).exp()).exp()).abs())
            .fold(0.0, f64::max);
        // Kolmogorov-Smirnov at the 0.1 % level.
        assert!(distance < 1.95 / (count as f64).sqrt(), "distance {distance}");
    }
}
