//! The truth that estimators are held against, and who meets it.

use soft_core::{Estimator, NoiseKey, Place, Policy, uniform_stream};
use soft_tests::estimators::figures::{cosine, dot, mean};
use soft_tests::estimators::problem::{Goal, Problem, SHARP};
use soft_tests::estimators::ways::{self, Way};
use soft_tests::estimators::{BLOCK, gradients};

const SEED: u64 = 1;

/// A random direction of length 1.
fn direction(width: usize, number: u32) -> Vec<f64> {
    let key = NoiseKey { seed: 5, step: 0, row: number, position: 0 };
    let uneven: Vec<f64> = uniform_stream(key, Place::Feed).take(width).map(|u| u - 0.5).collect();
    let length = dot(&uneven, &uneven).sqrt();
    uneven.into_iter().map(|x| x / length).collect()
}

/// Checks a gradient along random directions against central finite differences of the loss.
#[track_caller]
fn assert_gradient(
    what: &str,
    problem: &Problem,
    gradient: &[f64],
    loss: impl Fn(&Problem) -> f64,
) {
    let size = dot(gradient, gradient).sqrt();
    assert!(size > 1e-2, "{what}: nothing to test, the gradient has the length {size}");
    for number in 0..6 {
        let direction = direction(gradient.len(), number);
        let step = 1e-5;
        let at = |by: f64| loss(&problem.moved(&direction, by));
        let expected = (at(step) - at(-step)) / (2.0 * step);
        let found = dot(gradient, &direction);
        assert!((found - expected).abs() < 1e-7 * size, "{what} {number}: {found}, {expected}");
    }
}

#[test]
fn the_enumerated_gradient_is_that_of_finite_differences_of_the_enumerated_loss() {
    let problem = Problem::new(SEED, SHARP);
    for count in [1, 2] {
        let found = problem.enumerated_gradient(count);
        let loss = |problem: &Problem| problem.enumerated_loss(count);
        assert_gradient(&format!("{count} tokens"), &problem, &found, loss);
    }
}

#[test]
fn gradients_of_mixtures_and_under_common_noise_are_those_of_finite_differences() {
    let problem = Problem::new(SEED, SHARP);
    let goals = [
        Goal::Mixture,
        Goal::Gumbel { temperature: 0.5 },
        Goal::Gaussian { sigma: 0.33 * problem.scale },
    ];
    for goal in goals {
        let loss = |problem: &Problem| problem.noise_loss(goal, 16, 9, 0);
        let found = problem.gradient(loss(&problem));
        assert_gradient(&goal.to_string(), &problem, &found, |problem| {
            soft_core::host_values(loss(problem))[0]
        });
    }
}

#[test]
fn the_exact_estimator_is_the_gradient_of_the_mixture_and_the_same_every_time() {
    let problem = Problem::new(SEED, SHARP);
    let found = gradients(&problem, Way::Through(Estimator::Exact), 2, 1, 1);
    let expected = problem.gradient(problem.noise_loss(Goal::Mixture, 1, 0, 0));
    let error = soft_tests::bench::relative_error(&expected, &found[0]);
    assert!(error < 1e-12 && found[0] == found[1], "{error:e}");
}

/// Observations whose mean should be 0 along these directions: the largest of their t statistics.
fn largest_t(errors: &[Vec<f64>], directions: &[Vec<f64>]) -> f64 {
    let t = |direction: &Vec<f64>| {
        let along: Vec<f64> = errors.iter().map(|error| dot(error, direction)).collect();
        let n = along.len() as f64;
        let mean = along.iter().sum::<f64>() / n;
        let variance = along.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
        mean.abs() / (variance / n).sqrt()
    };
    directions.iter().map(t).fold(0.0, f64::max)
}

/// A policy, the two terms of its estimate in each block, and the gradient of its goal.
struct Observed {
    name: String,
    path: Vec<Vec<f64>>,
    score: Vec<Vec<f64>>,
    truth: Vec<Vec<f64>>,
}

impl Observed {
    fn of(problem: &Problem, way: Way, blocks: u64) -> Self {
        let (mut path, mut score) = (Vec::new(), Vec::new());
        for block in 0..blocks {
            // Computed twice: a graph is used up when it is differentiated.
            let terms = || way.terms(problem, BLOCK, 1, block);
            path.push(problem.gradient(terms().path));
            score.push(problem.gradient(terms().score.expect("a policy has a score")));
        }
        let goal = way.goal();
        let truth = match goal {
            Goal::Samples { count } => vec![problem.enumerated_gradient(count); path.len()],
            _ => (0..blocks)
                .map(|block| problem.gradient(problem.noise_loss(goal, BLOCK, 9, block)))
                .collect(),
        };
        Self { name: way.to_string(), path, score, truth }
    }

    /// The largest t statistic of `path + factor score - truth` in the second half of the blocks,
    /// along what the first half says of the truth and of its part by the score, and along random
    /// directions.
    fn t(&self, factor: f64) -> f64 {
        let (half, width) = (self.path.len() / 2, self.path[0].len());
        let error = |block: usize| {
            let terms = self.path[block].iter().zip(&self.score[block]).zip(&self.truth[block]);
            terms.map(|((path, score), truth)| path + factor * score - truth).collect()
        };
        let errors: Vec<Vec<f64>> = (half..self.path.len()).map(error).collect();
        let (truth, path) = (mean(&self.truth[..half]), mean(&self.path[..half]));
        let by_score = minus(&truth, &path);
        let mut directions = vec![truth, by_score, mean(&self.score[..half])];
        directions.extend((0..7).map(|number| direction(width, number)));
        largest_t(&errors, &directions)
    }
}

fn minus(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

/// Ten directions for each of eight policies: 4.5 standard errors would be exceeded by
/// chance under one seed in a thousand or so. The seeds are fixed.
const BOUND: f64 = 4.5;

#[test]
fn policies_are_unbiased_and_a_wrong_sign_a_missing_term_or_a_factor_would_show() {
    let problem = Problem::new(SEED, SHARP);
    let score = |policy, baseline| Way::Score { policy, relative: 0.0, baseline };
    let policies = [
        score(Policy::Token, false),
        score(Policy::Token, true),
        score(Policy::Samples { count: 2 }, true),
        score(Policy::Samples { count: 3 }, true),
        score(Policy::Gumbel { temperature: 2.0 }, true),
        score(Policy::Gumbel { temperature: 1.0 }, true),
        score(Policy::Gaussian { sigma: 0.33 * problem.scale }, true),
        score(Policy::Gaussian { sigma: problem.scale }, true),
    ];
    for way in policies {
        let observed = Observed::of(&problem, way, 120);
        let found = observed.t(1.0);
        let broken = [-1.0, 0.0, 0.5, 2.0].map(|factor| observed.t(factor));
        println!("{}: {found:.2}, broken {broken:.2?}", observed.name);
        assert!(found < BOUND, "{}: {found} standard errors from the truth", observed.name);
        assert!(broken.iter().all(|&t| t > BOUND), "{}: {broken:?}", observed.name);
    }
}

#[test]
fn straight_through_has_a_bias_that_shows() {
    let problem = Problem::new(SEED, SHARP);
    let truth = problem.enumerated_gradient(1);
    let relaxed = Estimator::StraightThrough { temperature: 1.0 };
    for way in [Way::StraightThrough, Way::Through(relaxed)] {
        let found = gradients(&problem, way, 60, BLOCK, 1);
        let errors: Vec<Vec<f64>> = found.iter().map(|g| minus(g, &truth)).collect();
        let along = [mean(&errors[..30])];
        assert!(largest_t(&errors[30..], &along) > 8.0, "{way}");
        assert!(cosine(&mean(&found), &truth) < 0.999, "{way}");
    }
}

#[test]
fn every_way_has_a_name_of_its_own() {
    let mut names: Vec<String> =
        ways::all(&Problem::new(SEED, SHARP)).iter().map(ToString::to_string).collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count, "{names:?}");
}
