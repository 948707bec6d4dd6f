//! ProsQA in symbols: which of two nodes of a directed graph can be reached from a root?
//!
//! Thinking is a search: after k hops a thinker may be at any node of distance k, and which of them
//! leads to a candidate is only known at the end. A hard chain of thought must name one node a
//! step; a soft thought can hold the whole frontier of a breadth-first search. Format and
//! vocabulary are those of "Reasoning by Superposition" (Zhu et al., 2025, arXiv 2505.12514).
//!
//! ```text
//! soft        <eos> s t | .. | s t [Q] c1 c2 [R] root ~ ~ ~ [A] target     ~: a frontier is fed
//! hard        <eos> s t | .. | s t [Q] c1 c2 [R] root n1 n2 n3 [A] target <eos>
//! no_thought  <eos> s t | .. | s t [Q] c1 c2 [R] root <|latent|>.. [A] target <eos>
//! ```
//!
//! The target is the last node of the walk, a leaf; its rival a leaf that only the other seed of
//! the graph reaches. That it has more parents on average gives some answers away, in the published
//! graphs too: the baseline says how many.

mod graph;

use super::draws::{Draws, Parted, part};
use super::facts::{self, Puzzle};
use super::{Problem, Task};
use crate::config;
use crate::error::Error;
use graph::Graph;

/// Nodes of the published test graphs, and how many graphs have as many.
const PUBLISHED_NODES: [(usize, usize); 13] = [
    (14, 1),
    (17, 3),
    (18, 2),
    (19, 15),
    (20, 32),
    (21, 55),
    (22, 81),
    (23, 86),
    (24, 79),
    (25, 43),
    (26, 16),
    (27, 5),
    (28, 1),
];
/// Hops of the published problems, half and half.
const PUBLISHED_HOPS: [usize; 2] = [3, 4];
/// A graph of `task.nodes` nodes has at most so many fewer.
const SPREAD: usize = 4;
/// Beside the nodes of the walk: its root, the other seed and the rival.
const BESIDE_WALK: usize = 3;
/// Graphs that are drawn for one problem. Of the published size three are enough in the mean.
const MAX_TRIES: usize = 5_000;

/// Draws `task.problems` problems to train on and 500 to validate, from `task.seed` alone; no set
/// of edges is on both sides.
///
/// Graphs have the nodes of the published ones, or where `task.nodes` is n, n - 4 to n. Their names
/// are drawn from all node tokens. Targets are `task.hops` hops away, 3 or 4 where it is 0. The
/// belief of step k is uniform over the nodes at distance k from the root.
///
/// # Errors
/// [`Error::Config`] if graphs are too small for so many hops, or next to none has such a target.
pub(super) fn task(settings: &config::Task) -> Result<Task, Error> {
    let hops = match settings.hops {
        0 => PUBLISHED_HOPS.to_vec(),
        hops => vec![hops],
    };
    let longest = hops.iter().max().copied().unwrap_or_default();
    check_size(settings, longest)?;
    let names = if settings.nodes == 0 { facts::NODES } else { settings.nodes };
    let mut draws = Draws::new(settings.seed, "prosqa");
    let Parted { train, validation } = part(settings.problems, || {
        let hops = draws.one_of(&hops);
        let nodes = number_of_nodes(settings.nodes, hops, &mut draws);
        let puzzle = puzzle(nodes, hops, &mut draws).ok_or_else(|| too_rare(nodes, hops))?;
        Ok(puzzle.named(names, &mut draws))
    })?;
    let share = fewer_parents_share(&validation);
    Ok(Task {
        name: settings.name,
        tokens: facts::tokens(names),
        open: Vec::new(),
        pause: vec![facts::LATENT; longest],
        close: vec![facts::ANSWER],
        train,
        validation,
        baseline: Some(("fewer parents".to_owned(), share)),
        // "About 100 % and 75 %" is published, for 2 layers of width 768: no figures to compare to.
        published: None,
    })
}

fn check_size(settings: &config::Task, hops: usize) -> Result<(), Error> {
    let (nodes, least) = (settings.nodes, hops + BESIDE_WALK);
    let largest = if nodes == 0 { PUBLISHED_NODES[0].0 } else { nodes };
    if largest >= least {
        return Ok(());
    }
    let report = format!(
        "`task.nodes` is {nodes} and `task.hops` is {}, which needs graphs of at least {least} \
         nodes: set `task.nodes` to twice that or more, or lower `task.hops`",
        settings.hops
    );
    Err(Error::Config { report })
}

fn too_rare(nodes: usize, hops: usize) -> Error {
    let report = format!(
        "none of {MAX_TRIES} graphs of {nodes} nodes had a leaf {hops} hops from the root: raise \
         `task.nodes`, or lower `task.hops`"
    );
    Error::Config { report }
}

/// The nodes of a graph: a published number, or at most `largest`.
fn number_of_nodes(largest: usize, hops: usize, draws: &mut Draws) -> usize {
    if largest == 0 {
        let counts = PUBLISHED_NODES.map(|(_, graphs)| graphs as f64);
        return PUBLISHED_NODES[draws.weighted(&counts)].0;
    }
    let least = largest.saturating_sub(SPREAD).max(hops + BESIDE_WALK);
    least + draws.below(largest + 1 - least)
}

/// A puzzle on the first graph that has one. Nodes and hops stay what they are from graph to graph:
/// else those that rarely fit would be rare.
fn puzzle(nodes: usize, hops: usize, draws: &mut Draws) -> Option<Puzzle> {
    (0..MAX_TRIES).find_map(|_| Graph::draw(nodes, draws).puzzle(hops, draws))
}

/// The share of `problems` that are answered by the candidate with fewer parents; half of those
/// where both have as many.
fn fewer_parents_share(problems: &[Problem]) -> f64 {
    let score = |problem: &Problem| {
        let parents = |id| facts::in_degree(&problem.prompt, id);
        let target = parents(problem.answer[0]);
        match problem.rival.map(|rival| target.cmp(&parents(rival))) {
            Some(std::cmp::Ordering::Less) => 1.0,
            Some(std::cmp::Ordering::Greater) => 0.0,
            Some(std::cmp::Ordering::Equal) | None => 0.5,
        }
    };
    problems.iter().map(score).sum::<f64>() / problems.len().max(1) as f64
}

#[cfg(test)]
mod tests;
