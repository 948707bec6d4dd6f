//! Random graphs as those of ProsQA, and puzzles on them.

use super::super::draws::Draws;
use super::super::facts::Puzzle;

/// Of the root's descendants.
pub(super) const OF_ROOT: u8 = 1;
/// Of the other seed's descendants.
pub(super) const OF_OTHER: u8 = 2;
/// The seed whose descendants hold the target; the other one is node 1.
const SEED_ROOT: usize = 0;

/// Share of nodes without a parent.
const PARENTLESS: f64 = 0.03;
/// Mean of the Poisson number of parents, before zero is cut off.
const MEAN_PARENTS: f64 = 1.5;
/// e^-1.5 / (1 - e^-1.5): what divides by k! and multiplies by 1.5^k to the probability of k
/// parents.
const NO_PARENTS_ODDS: f64 = 0.287_216_916_788_868;
/// Shares of nodes whose parents are no descendants of the other seed, or none of the root.
const FROM_ROOT: f64 = 0.45;
const FROM_OTHER: f64 = 0.41;
/// How much deeper nodes are preferred as parents: a node of depth d weighs 1 + 0.75 d.
const DEPTH_WEIGHT: f64 = 0.75;

/// A graph without cycles that grows from two seeds, node 0 and node 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Graph {
    /// By node: whose descendant it is, [`OF_ROOT`], [`OF_OTHER`], both or 0 for neither; a seed is
    /// its own.
    pub(super) labels: Vec<u8>,
    /// From parent to child.
    pub(super) edges: Vec<(usize, usize)>,
    /// By node: edges of the longest way to it.
    depths: Vec<usize>,
}

impl Graph {
    /// Draws a graph.
    ///
    /// # Source
    /// Coconut (Hao et al., 2024, <https://arxiv.org/abs/2412.06769>), appendix A, algorithm 1. The
    /// constants differ from those printed there (Poisson with zero, .35 / .35 / .30, weight
    /// 1 + 1.5 d): these are fitted to the 419 published test graphs.
    pub(super) fn draw(nodes: usize, draws: &mut Draws) -> Self {
        let mut graph =
            Self { labels: vec![OF_ROOT, OF_OTHER], edges: Vec::new(), depths: vec![0, 0] };
        for node in 2..nodes {
            let parents = graph.parents(draws);
            let label = parents.iter().fold(0, |label, &parent| label | graph.labels[parent]);
            let depth = parents.iter().map(|&parent| graph.depths[parent] + 1).max();
            graph.labels.push(label);
            graph.depths.push(depth.unwrap_or(0));
            graph.edges.extend(parents.into_iter().map(|parent| (parent, node)));
        }
        graph
    }

    /// The parents of a new node.
    fn parents(&self, draws: &mut Draws) -> Vec<usize> {
        let count = if draws.unit() < PARENTLESS { 0 } else { parent_count(draws) };
        let kind = draws.unit();
        let may_be = |&node: &usize| match self.labels[node] {
            0 => true,
            OF_ROOT => !(FROM_ROOT..FROM_ROOT + FROM_OTHER).contains(&kind),
            OF_OTHER => kind >= FROM_ROOT,
            _ => kind >= FROM_ROOT + FROM_OTHER,
        };
        let candidates: Vec<usize> = (0..self.labels.len()).filter(may_be).collect();
        let weight = |&node: &usize| DEPTH_WEIGHT * self.depths[node] as f64 + 1.0;
        let mut weights: Vec<f64> = candidates.iter().map(weight).collect();
        let mut parents = Vec::with_capacity(count);
        // A seed may always be a parent, so there is at least one candidate.
        for _ in 0..count.min(candidates.len()) {
            let drawn = draws.weighted(&weights);
            weights[drawn] = 0.0;
            parents.push(candidates[drawn]);
        }
        parents
    }

    /// By node: edges of the shortest way from `from`; none where there is no way.
    pub(super) fn distances(&self, from: usize) -> Vec<Option<usize>> {
        let mut distances = vec![None; self.labels.len()];
        distances[from] = Some(0);
        let mut reached = vec![from];
        let mut next = 0;
        while let Some(&node) = reached.get(next) {
            next += 1;
            for &(_, child) in self.edges.iter().filter(|edge| edge.0 == node) {
                if distances[child].is_none() {
                    distances[child] = distances[node].map(|distance| distance + 1);
                    reached.push(child);
                }
            }
        }
        distances
    }

    /// Nodes with this label that are no seed and nobody's parent.
    fn leaves(&self, label: u8) -> Vec<usize> {
        let is_parent = |node| self.edges.iter().any(|edge| edge.0 == node);
        let of_label = |&node: &usize| self.labels[node] == label && !is_parent(node);
        (2..self.labels.len()).filter(of_label).collect()
    }

    /// A question on the graph whose answer is so many hops away: a descendant of the root alone
    /// against one of the other seed alone, both leaves. None where the graph has no such pair.
    pub(super) fn puzzle(&self, hops: usize, draws: &mut Draws) -> Option<Puzzle> {
        let distances = self.distances(SEED_ROOT);
        let mut targets = self.leaves(OF_ROOT);
        targets.retain(|&leaf| distances[leaf] == Some(hops));
        let rivals = self.leaves(OF_OTHER);
        if targets.is_empty() || rivals.is_empty() {
            return None;
        }
        let (target, rival) = (draws.one_of(&targets), draws.one_of(&rivals));
        let layer = |step| {
            let at = |node: &usize| distances[*node] == Some(step);
            (0..distances.len()).filter(at).collect::<Vec<_>>()
        };
        // Backwards from the target, by parents that are one step nearer to the root.
        let mut path = vec![target];
        for step in (1..hops).rev() {
            let child = path[path.len() - 1];
            let edges = self.edges.iter().filter(|edge| edge.1 == child);
            let nearer = edges.map(|edge| edge.0).filter(|&node| distances[node] == Some(step));
            path.push(draws.one_of(&nearer.collect::<Vec<_>>()));
        }
        let steps = path.into_iter().rev().zip(1..).map(|(node, step)| (node, layer(step)));
        let steps = steps.collect();
        Some(Puzzle { edges: self.edges.clone(), root: SEED_ROOT, target, rival, steps })
    }
}

/// A Poisson number that is not 0, by its distribution function.
fn parent_count(draws: &mut Draws) -> usize {
    let mut left = draws.unit();
    let mut probability = NO_PARENTS_ODDS;
    // Beyond 30 nothing is left that a draw could tell from 0.
    for count in 1..30 {
        probability *= MEAN_PARENTS / count as f64;
        left -= probability;
        if left < 0.0 {
            return count;
        }
    }
    30
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_constant_of_the_poisson_number_is_what_it_says() {
        let zero = (-MEAN_PARENTS).exp();
        assert!((NO_PARENTS_ODDS - zero / (1.0 - zero)).abs() < 1e-12, "{}", zero / (1.0 - zero));
    }

    #[test]
    fn parents_are_at_least_one_and_1_93_in_the_mean() {
        let mut draws = Draws::new(1, "parents");
        let counts: Vec<usize> = (0..20_000).map(|_| parent_count(&mut draws)).collect();
        assert!(counts.iter().all(|&count| count >= 1));
        let mean = counts.iter().sum::<usize>() as f64 / 20_000.0;
        // 1.5 / (1 - e^-1.5); a count has a deviation of 1.05.
        assert!((mean - 1.9308).abs() < 4.0 * 1.05 / 20_000_f64.sqrt(), "{mean}");
    }
}
