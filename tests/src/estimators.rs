//! Estimators of the gradient through thoughts, held against the truth on problems so small that
//! every trajectory can be counted.

mod chart;
pub mod figures;
mod page;
pub mod problem;
pub mod ways;

pub use page::{page, picture, table_of};

use figures::Figures;
use problem::{Goal, Problem};
use ways::{Terms, Way};

/// Rows of the smallest step: a group, within which baselines are taken.
pub const GROUP: usize = 4;
/// Rows of a block, whose mean gradient is one observation.
pub const BLOCK: usize = 64;

/// How much is drawn.
#[derive(Debug, Clone, Copy)]
pub struct Counts {
    /// Blocks of [`BLOCK`] rows for the mean and the variance.
    pub blocks: usize,
    /// Steps of [`GROUP`] rows for the cosine.
    pub groups: usize,
}

/// What was found of one estimator on one problem.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The estimator.
    pub way: Way,
    /// Its figures.
    pub figures: Figures,
}

/// What was found on one problem.
#[derive(Debug, Clone)]
pub struct Findings {
    /// Seed of the model.
    pub seed: u64,
    /// Factor of its fresh weights.
    pub factor: f64,
    /// What is known of the problem by enumeration.
    pub facts: problem::Facts,
    /// All estimators in their order.
    pub found: Vec<Finding>,
}

/// Measures every estimator on the problem of a seed and a factor of the weights.
pub fn measure(seed: u64, factor: f64, counts: Counts) -> Findings {
    let problem = Problem::new(seed, factor);
    let truth = problem.enumerated_gradient(1);
    let mut owns: Vec<(Goal, Vec<Vec<f64>>)> = vec![(Goal::Samples { count: 1 }, vec![truth])];
    let mut found = Vec::new();
    for way in ways::all(&problem) {
        let goal = way.goal();
        if !owns.iter().any(|own| own.0 == goal) {
            owns.push((goal, true_gradients(&problem, goal, counts.blocks)));
        }
        let own = owns.iter().find(|own| own.0 == goal).map_or(&[][..], |own| &own.1[..]);
        let blocks = gradients(&problem, way, counts.blocks, BLOCK, 1);
        let groups = gradients(&problem, way, counts.groups, GROUP, 2);
        let figures = Figures::of(&blocks, &groups, &owns[0].1, own);
        found.push(Finding { way, figures });
    }
    Findings { seed, factor, facts: problem.facts(), found }
}

/// The gradient of a goal: one vector by enumeration, or one a block of noise that no estimator
/// sees.
fn true_gradients(problem: &Problem, goal: Goal, blocks: usize) -> Vec<Vec<f64>> {
    match goal {
        Goal::Samples { count } => vec![problem.enumerated_gradient(count)],
        Goal::Mixture => vec![problem.gradient(problem.noise_loss(goal, 1, 0, 0))],
        Goal::Gumbel { .. } | Goal::Gaussian { .. } => (0..blocks as u64)
            .map(|block| problem.gradient(problem.noise_loss(goal, BLOCK, 9, block)))
            .collect(),
    }
}

/// Gradient estimates, each the mean over `rows` trajectories. What draws nothing is computed
/// twice, to show that it is always the same.
pub fn gradients(
    problem: &Problem,
    way: Way,
    count: usize,
    rows: usize,
    seed: u64,
) -> Vec<Vec<f64>> {
    let (count, rows) = if way.draws() { (count, rows) } else { (2, 1) };
    let one = |block| {
        let Terms { path, score } = way.terms(problem, rows, seed, block);
        problem.gradient(score.map_or_else(|| path.clone(), |score| path.clone() + score))
    };
    (0..count as u64).map(one).collect()
}
