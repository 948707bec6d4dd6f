//! Bias, variance and cosines of gradient estimates, with what chance leaves open.

use super::BLOCK;

/// A length with the interval that holds it in 95 of 100 cases.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Length {
    /// The estimate; 0 where its unbiased square is below 0.
    pub value: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// The figures of one estimator.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// `||E g - t|| / ||t||` with the gradient of the hard goal as the truth t.
    pub hard_bias: Length,
    /// The same with the gradient of its own goal.
    pub own_bias: Length,
    /// `tr Cov(g) / ||t||^2` of one trajectory, t that of the hard goal.
    pub variance: f64,
    /// Mean cosine of a group's gradient with t.
    pub group_cosine: f64,
    /// Cosine of the mean of all blocks with t; what chance is left in the mean counts.
    pub mean_cosine: f64,
    /// Cosine of the own goal's gradient with t.
    pub goal_cosine: f64,
}

impl Figures {
    /// Of observed means over blocks and over groups; `hard` and `own` are the truths, one vector
    /// each, or for `own` one a block where it is itself observed.
    ///
    /// # Panics
    /// If there are less than two blocks, or vectors of unequal lengths.
    pub fn of(
        blocks: &[Vec<f64>],
        groups: &[Vec<f64>],
        hard: &[Vec<f64>],
        own: &[Vec<f64>],
    ) -> Self {
        let truth = &hard[0];
        let cosines: Vec<f64> = groups.iter().map(|group| cosine(group, truth)).collect();
        Self {
            hard_bias: bias(blocks, hard),
            own_bias: bias(blocks, own),
            variance: BLOCK as f64 * trace_of_covariance(blocks) / dot(truth, truth),
            group_cosine: cosines.iter().sum::<f64>() / cosines.len().max(1) as f64,
            mean_cosine: cosine(&mean(blocks), truth),
            goal_cosine: cosine(&mean(own), truth),
        }
    }

    /// `E ||g - t||^2 / ||t||^2` of a step over so many trajectories.
    pub fn error(&self, rows: f64) -> f64 {
        self.hard_bias.value.powi(2) + self.variance / rows
    }

    /// Trajectories a step beyond which an unbiased estimator of this variance is nearer the truth
    /// than this one: 0 where it always is, infinite where no bias is seen against it.
    pub fn overtaken_at(&self, unbiased_variance: f64) -> f64 {
        let ahead = unbiased_variance - self.variance;
        match (ahead > 0.0, self.hard_bias.low > 0.0) {
            (false, _) => 0.0,
            (true, false) => f64::INFINITY,
            (true, true) => ahead / self.hard_bias.value.powi(2),
        }
    }
}

/// The inner product.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len(), "vectors of one length");
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The cosine of the angle between two vectors; 0 where one has no length.
pub fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    if lengths > 0.0 { dot(a, b) / lengths } else { 0.0 }
}

/// The mean vector.
pub fn mean(of: &[Vec<f64>]) -> Vec<f64> {
    let sum = of.iter().fold(vec![0.0; of[0].len()], |sum, x| plus(&sum, x, 1.0));
    sum.into_iter().map(|x| x / of.len() as f64).collect()
}

fn plus(a: &[f64], b: &[f64], times: f64) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + times * b).collect()
}

fn trace_of_covariance(of: &[Vec<f64>]) -> f64 {
    let mean = mean(of);
    let square = |x: &Vec<f64>| x.iter().zip(&mean).map(|(x, m)| (x - m).powi(2)).sum::<f64>();
    of.iter().map(square).sum::<f64>() / (of.len() as f64 - 1.0)
}

/// `||E x||^2` without the part that chance adds: the mean of `x_a . x_b` over all pairs of
/// different observations, and its standard error.
fn squared_mean(of: &[Vec<f64>]) -> (f64, f64) {
    let n = of.len() as f64;
    let sum = of.iter().fold(vec![0.0; of[0].len()], |sum, x| plus(&sum, x, 1.0));
    let (whole, own) = (dot(&sum, &sum), of.iter().map(|x| dot(x, x)).sum::<f64>());
    let value = (whole - own) / (n * (n - 1.0));
    let without = |x: &Vec<f64>| {
        let square = dot(x, x);
        (whole - 2.0 * dot(&sum, x) + square - (own - square)) / ((n - 1.0) * (n - 2.0))
    };
    if n < 3.0 {
        return (value, 0.0);
    }
    let left: Vec<f64> = of.iter().map(without).collect();
    let middle = left.iter().sum::<f64>() / n;
    let spread = left.iter().map(|x| (x - middle).powi(2)).sum::<f64>();
    let jackknife = spread * (n - 1.0) / n;
    // The jackknife sees how the mean moves its own square, which is nothing where the observed
    // mean happens to be 0. What is left then is `2 tr(Cov^2) / n^2`.
    (value, jackknife.max(2.0 * squared_covariance(of) / (n * (n - 1.0))).sqrt())
}

/// Observations whose pairs are enough for a variance of a variance.
const PAIRED: usize = 96;

/// `tr(Cov^2)`: the mean square of the inner products of different observations around their mean.
fn squared_covariance(of: &[Vec<f64>]) -> f64 {
    let of = &of[..of.len().min(PAIRED)];
    let mean = mean(of);
    let around: Vec<Vec<f64>> = of.iter().map(|x| plus(x, &mean, -1.0)).collect();
    let square = |a: usize, b: usize| dot(&around[a], &around[b]).powi(2);
    let pairs: f64 = (1..of.len()).flat_map(|a| (0..a).map(move |b| square(a, b))).sum();
    pairs * 2.0 / (of.len() as f64 * (of.len() as f64 - 1.0))
}

/// `||E g - t|| / ||t||`. Where t is observed too, each block of estimates goes with one of it, so
/// that the chance in both is counted.
fn bias(blocks: &[Vec<f64>], truth: &[Vec<f64>]) -> Length {
    let t = |block: usize| &truth[block % truth.len()];
    let count = if truth.len() == 1 { blocks.len() } else { blocks.len().min(truth.len()) };
    let errors: Vec<Vec<f64>> =
        blocks[..count].iter().enumerate().map(|(block, g)| plus(g, t(block), -1.0)).collect();
    let size = if truth.len() == 1 { dot(t(0), t(0)) } else { squared_mean(truth).0 };
    let (square, error) = squared_mean(&errors);
    let root = |x: f64| (x.max(0.0) / size).sqrt();
    Length {
        value: root(square),
        low: root(square - 1.96 * error),
        high: root(square + 1.96 * error),
    }
}

#[cfg(test)]
mod tests {
    use soft_core::{NoiseKey, Place, uniform_stream};

    use super::*;

    /// Blocks of 6 even numbers around a vector.
    fn blocks(around: f64, width: f64, count: usize, seed: u64) -> Vec<Vec<f64>> {
        let key = NoiseKey { seed, step: 0, row: 0, position: 0 };
        let mut noise = uniform_stream(key, Place::Feed).map(|u| around + width * (u - 0.5));
        (0..count).map(|_| noise.by_ref().take(6).collect()).collect()
    }

    #[test]
    fn intervals_hold_a_bias_as_often_as_they_say_and_none_seldom_shows_one() {
        let truth = [vec![1.0; 6]];
        let found = |bias_of: f64, seed| bias(&blocks(1.0 + bias_of, 2.0, 50, seed), &truth);
        let holds = |of: &Length| of.low < 0.2 && of.high > 0.2;
        let missed = (0..400).filter(|&seed| !holds(&found(0.2, seed))).count();
        // 20 of 400, and three and a half standard deviations.
        assert!(missed < 36, "{missed} of 400 intervals miss a bias of 0.2");
        assert!((0..400).all(|seed| found(0.5, seed).low > 0.0), "a bias of 0.5 is not seen");
        let shown = (0..400).filter(|&seed| found(0.0, seed).low > 0.0).count();
        // On one side: 10 of 400, with room for a skewed distribution.
        assert!(shown < 32, "{shown} of 400 intervals show a bias where none is");
        assert!((0..400).all(|seed| found(0.0, seed).high > 0.0), "an interval of no width");
    }

    #[test]
    fn an_observed_truth_widens_the_interval_and_moves_nothing() {
        let truth = blocks(1.0, 4.0, 200, 77);
        let found = bias(&blocks(1.5, 1.0, 200, 3), &truth);
        let sharp = bias(&blocks(1.5, 1.0, 200, 3), &[vec![1.0; 6]]);
        assert!(found.low < 0.5 && found.high > 0.5, "{found:?}");
        assert!(found.high - found.low > 2.0 * (sharp.high - sharp.low), "{found:?} {sharp:?}");
    }

    #[test]
    fn the_variance_is_that_of_one_trajectory() {
        let blocks = blocks(1.0, 2.0, 4000, 5);
        let figures = Figures::of(&blocks, &blocks[..2], &[vec![1.0; 6]], &[vec![1.0; 6]]);
        // Even numbers of width 2 have the variance 1/3.
        assert!((figures.variance / BLOCK as f64 * 3.0 - 1.0).abs() < 0.05, "{figures:?}");
    }

    #[test]
    fn an_unbiased_estimator_overtakes_where_the_errors_are_equal() {
        let half = Length { value: 0.5, low: 0.4, high: 0.6 };
        let figures = Figures {
            hard_bias: half,
            own_bias: half,
            variance: 3.0,
            group_cosine: 0.0,
            mean_cosine: 0.0,
            goal_cosine: 0.0,
        };
        let rows = figures.overtaken_at(23.0);
        assert!((figures.error(rows) - 23.0 / rows).abs() < 1e-12, "{rows}");
        assert_eq!(figures.overtaken_at(2.0).to_string(), "0");
    }
}
