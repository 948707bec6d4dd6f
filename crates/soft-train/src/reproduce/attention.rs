//! Where the second layer looks while a thought is made, edge by edge: whether a search in a graph
//! goes on there as Zhu et al. (2025, "Reasoning by Superposition", table 1) say.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use soft_model::{SoftInput, Transformer, attention_weights};

use crate::comparison::Thought;
use crate::error::Error;
use crate::task::{Problem, Task};

/// The layer, from 0: the first one only gathers an edge's nodes in one place.
const LAYER: usize = 1;
/// Tokens of an edge: its source, its target and the mark after them.
const EDGE: usize = 3;

/// What an edge is to the step of a thought. The step k finds nodes at distance k from the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EdgeKind {
    /// Its source is not reached within k - 1 steps.
    NotReachable,
    /// Its source is reached within k - 1 steps.
    Reachable,
    /// Its source is reached in k - 1 steps and not in fewer: part of `Reachable`.
    Frontier,
    /// The kth edge of a shortest path to the answer: part of `Frontier`.
    Optimal,
}

impl EdgeKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::NotReachable, Self::Reachable, Self::Frontier, Self::Optimal];

    /// The words for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotReachable => "not reachable",
            Self::Reachable => "reachable",
            Self::Frontier => "frontier",
            Self::Optimal => "optimal",
        }
    }
}

/// The attention to the edges of one kind at one step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EdgeAttention {
    /// The step, from 1.
    pub step: usize,
    /// The kind.
    pub kind: EdgeKind,
    /// Attention to an edge's tokens, summed over them and over heads; the mean over all edges of
    /// the kind. At most the number of heads.
    pub mean: f64,
    /// Its standard deviation over edges.
    pub deviation: f64,
    /// The edges.
    pub edges: u64,
}

/// Sums over edges.
#[derive(Default)]
struct Sums {
    count: u64,
    sum: f64,
    squares: f64,
}

/// Attention from the position before each thought, which makes the thought, to the edges of the
/// prompt. Empty where the task has no graph or the model no second layer.
///
/// # Errors
/// Weights that the device does not give back as numbers.
pub(super) fn edge_attention(
    model: &Transformer,
    task: &Task,
    problems: &[Problem],
    thoughts: &[Vec<Thought>],
) -> Result<Vec<EdgeAttention>, Error> {
    let mut all: BTreeMap<(usize, EdgeKind), Sums> = BTreeMap::new();
    for (problem, thoughts) in problems.iter().zip(thoughts) {
        let edges = task.edges(problem);
        if edges.is_empty() || model.config().n_layers <= LAYER {
            continue;
        }
        let inputs: Vec<SoftInput> = thoughts.iter().map(|(input, _)| input.clone()).collect();
        let columns = problem.prompt.len() + inputs.len();
        let weights = attention_weights(model, &problem.prompt, &inputs).swap_remove(LAYER);
        let summed: Vec<f32> = weights.sum_dim(0).into_data().try_to_vec().map_err(|error| {
            Error::Runtime { what: format!("attention cannot be read: {error:?}") }
        })?;
        let kinds = Kinds::of(problem, &edges);
        for step in 1..=problem.steps.len().min(inputs.len()) {
            let query = problem.prompt.len() + step - 2;
            let row = &summed[query * columns..][..columns];
            for (place, &edge) in edges.iter().enumerate() {
                let first = 1 + EDGE * place;
                // The last edge is followed by the question, which is no part of it.
                let tokens = if place + 1 < edges.len() { EDGE } else { EDGE - 1 };
                let score = row[first..first + tokens].iter().map(|&w| f64::from(w)).sum();
                for kind in kinds.at(step, edge) {
                    all.entry((step, kind)).or_default().add(score);
                }
            }
        }
    }
    let of = |((step, kind), sums): ((usize, EdgeKind), Sums)| {
        let count = sums.count as f64;
        let mean = sums.sum / count;
        let deviation = (sums.squares / count - mean * mean).max(0.0).sqrt();
        EdgeAttention { step, kind, mean, deviation, edges: sums.count }
    };
    Ok(all.into_iter().map(of).collect())
}

impl Sums {
    fn add(&mut self, score: f64) {
        self.count += 1;
        self.sum += score;
        self.squares += score * score;
    }
}

/// Distances in the graph of one problem.
struct Kinds {
    root: u32,
    from_root: BTreeMap<u32, usize>,
    to_answer: BTreeMap<u32, usize>,
}

impl Kinds {
    fn of(problem: &Problem, edges: &[(u32, u32)]) -> Self {
        let root = problem.prompt[problem.prompt.len() - 1];
        let backwards: Vec<(u32, u32)> = edges.iter().map(|&(s, t)| (t, s)).collect();
        let from_root = distances(root, edges);
        Self { root, from_root, to_answer: distances(problem.answer[0], &backwards) }
    }

    /// What an edge is at a step.
    fn at(&self, step: usize, (source, target): (u32, u32)) -> Vec<EdgeKind> {
        let Some(&distance) = self.from_root.get(&source).filter(|&&far| far < step) else {
            return vec![EdgeKind::NotReachable];
        };
        let mut kinds = vec![EdgeKind::Reachable];
        if distance + 1 == step {
            kinds.push(EdgeKind::Frontier);
            let left = |node| self.to_answer.get(&node).copied();
            let whole = left(self.root);
            if whole.is_some() && left(target).map(|left| left + step) == whole {
                kinds.push(EdgeKind::Optimal);
            }
        }
        kinds
    }
}

/// Edges from `start` to every node that it reaches.
fn distances(start: u32, edges: &[(u32, u32)]) -> BTreeMap<u32, usize> {
    let mut found = BTreeMap::from([(start, 0)]);
    let mut waiting = VecDeque::from([start]);
    while let Some(node) = waiting.pop_front() {
        let far = found[&node] + 1;
        for &(_, next) in edges.iter().filter(|edge| edge.0 == node) {
            found.entry(next).or_insert_with(|| {
                waiting.push_back(next);
                far
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::EdgeKind::{Frontier, NotReachable, Optimal, Reachable};
    use super::*;

    /// ```text
    /// 0 -> 1 -> 2      0 -> 3      3 -> 2 (also shortest)      4 -> 5
    /// ```
    #[test]
    fn kinds_follow_distances_from_the_root_and_to_the_answer() {
        let edges = [(0, 1), (1, 2), (0, 3), (3, 2), (4, 5), (1, 6)];
        let problem =
            Problem { prompt: vec![0], steps: Vec::new(), answer: vec![2], kin: 0, rival: None };
        let kinds = Kinds::of(&problem, &edges);
        assert_eq!(kinds.at(1, (0, 1)), [Reachable, Frontier, Optimal]);
        assert_eq!(kinds.at(1, (1, 2)), [NotReachable]);
        assert_eq!(kinds.at(2, (0, 1)), [Reachable]);
        assert_eq!(kinds.at(2, (1, 2)), [Reachable, Frontier, Optimal]);
        assert_eq!(kinds.at(2, (3, 2)), [Reachable, Frontier, Optimal]);
        assert_eq!(kinds.at(2, (1, 6)), [Reachable, Frontier]);
        assert_eq!(kinds.at(3, (4, 5)), [NotReachable]);
    }
}
