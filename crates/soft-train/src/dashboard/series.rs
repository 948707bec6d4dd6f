//! A figure over the steps of a training, in bounded memory.

/// Points kept; more than any terminal has columns of dots.
const POINTS: usize = 4096;
/// What the smoothed figure keeps of itself at each step: a mean over some 20 steps.
const KEPT: f64 = 0.95;

/// Points (step, value), thinned out by means of neighbours when they become many.
#[derive(Debug, Clone, Default)]
pub(super) struct Series {
    points: Vec<(f64, f64)>,
    /// Points that make one: a power of 2; 0 stands for 1.
    stride: usize,
    gathered: (f64, f64),
    gathering: usize,
    latest: Option<(f64, f64)>,
}

impl Series {
    /// Adds a value; one that is no finite number has no place on a chart.
    pub(super) fn push(&mut self, step: usize, value: f64) {
        if !value.is_finite() {
            return;
        }
        let at = step as f64;
        self.latest = Some((at, value));
        self.gathered = (self.gathered.0 + at, self.gathered.1 + value);
        self.gathering += 1;
        let stride = self.stride.max(1);
        if self.gathering < stride {
            return;
        }
        let count = self.gathering as f64;
        self.points.push((self.gathered.0 / count, self.gathered.1 / count));
        (self.gathered, self.gathering) = ((0.0, 0.0), 0);
        if self.points.len() >= POINTS {
            let mean = |pair: &[(f64, f64)]| {
                ((pair[0].0 + pair[1].0) / 2.0, (pair[0].1 + pair[1].1) / 2.0)
            };
            self.points = self.points.chunks_exact(2).map(mean).collect();
            self.stride = stride * 2;
        }
    }

    pub(super) fn points(&self) -> &[(f64, f64)] {
        &self.points
    }

    /// The last value, as it was given.
    pub(super) fn latest(&self) -> Option<f64> {
        self.latest.map(|(_, value)| value)
    }

    /// The step of the last value.
    pub(super) fn latest_step(&self) -> Option<usize> {
        self.latest.map(|(step, _)| step as usize)
    }
}

/// `m <- 0.95 m + 0.05 x`, over the weights so far: the first value is its own mean.
#[derive(Debug, Clone, Default)]
pub(super) struct Smoothed {
    sum: f64,
    weight: f64,
    pub(super) series: Series,
}

impl Smoothed {
    pub(super) fn push(&mut self, step: usize, value: f64) {
        if !value.is_finite() {
            return;
        }
        self.sum = KEPT * self.sum + (1.0 - KEPT) * value;
        self.weight = KEPT * self.weight + (1.0 - KEPT);
        self.series.push(step, self.sum / self.weight);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_series_keeps_its_mean_its_ends_and_few_points() {
        let mut series = Series::default();
        let steps = 100_000;
        for step in 1..=steps {
            series.push(step, (step % 2) as f64);
        }
        let points = series.points();
        assert!((POINTS / 4..POINTS).contains(&points.len()), "{}", points.len());
        assert!(points.iter().all(|(_, value)| (value - 0.5).abs() < 1e-9));
        assert!(points[0].0 < 100.0 && points[points.len() - 1].0 > 0.99 * steps as f64);
        assert!(points.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!((series.latest(), series.latest_step()), (Some(0.0), Some(steps)));
    }

    #[test]
    fn what_is_no_number_is_left_out() {
        let mut smoothed = Smoothed::default();
        for (step, value) in [f64::NAN, 2.0, f64::INFINITY].into_iter().enumerate() {
            smoothed.push(step, value);
        }
        assert_eq!(smoothed.series.points(), [(1.0, 2.0)]);
    }

    #[test]
    fn the_smoothed_figure_begins_at_the_first_and_follows_a_change() {
        let mut smoothed = Smoothed::default();
        smoothed.push(1, 8.0);
        assert_eq!(smoothed.series.latest(), Some(8.0));
        (2..1000).for_each(|step| smoothed.push(step, 1.0));
        assert!((smoothed.series.latest().expect("a value") - 1.0).abs() < 1e-6);
    }
}
