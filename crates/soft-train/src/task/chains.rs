//! Chains: up a small ontology in which every concept has one parent, which of two concepts is
//! reached? The shape of ProntoQA (Saparov and He, 2023), in symbols.
//!
//! Thinking is a walk without a choice, so the exact belief of every step is one token: soft
//! thoughts have nothing to hold at once here, as against "prosqa".
//!
//! ```text
//! soft        <eos> x y | .. | x y [Q] c1 c2 [R] root ~ ~ ~ ~ ~ [A] target    ~: one concept
//! hard        <eos> x y | .. | x y [Q] c1 c2 [R] root n1 n2 n3 n4 n5 [A] target <eos>
//! no_thought  <eos> x y | .. | x y [Q] c1 c2 [R] root <|latent|>.. [A] target <eos>
//! ```
//!
//! Two chains of the same length are drawn alike, with concepts beside that join them on the way.
//! The question begins at the foot of one and names the end of both: without the root in it
//! nothing tells them apart.

use super::Task;
use super::draws::{Draws, Parted, part};
use super::facts::{self, Puzzle};
use crate::config;
use crate::error::Error;

/// Hops of ProntoQA's longest problems.
const PUBLISHED_HOPS: usize = 5;
/// Concepts beside each chain.
const BESIDE: usize = 2;

/// Draws `task.problems` problems to train on and 500 to validate, from `task.seed` alone, of
/// `task.hops` hops, 5 where it is 0; no set of facts is on both sides.
///
/// # Errors
/// [`Error::Config`] if there are too few different problems.
pub(super) fn task(settings: &config::Task) -> Result<Task, Error> {
    let hops = if settings.hops == 0 { PUBLISHED_HOPS } else { settings.hops };
    let names = concepts(hops).max(facts::NODES);
    let mut draws = Draws::new(settings.seed, "chains");
    let Parted { train, validation } =
        part(settings.problems, || Ok(puzzle(hops, &mut draws).named(names, &mut draws)))?;
    Ok(Task {
        name: settings.name,
        tokens: facts::tokens(names),
        open: Vec::new(),
        pause: vec![facts::LATENT; hops],
        close: vec![facts::ANSWER],
        train,
        validation,
        baseline: Some(("either candidate".to_owned(), 0.5)),
        published: None,
    })
}

/// Concepts of a problem: two chains, and those beside them.
fn concepts(hops: usize) -> usize {
    2 * (hops + 1 + BESIDE)
}

fn puzzle(hops: usize, draws: &mut Draws) -> Puzzle {
    let mut edges = Vec::with_capacity(concepts(hops));
    for foot in [0, hops + 1] {
        edges.extend((foot..foot + hops).map(|concept| (concept, concept + 1)));
    }
    // Concepts beside are numbered after both chains.
    let mut beside = 2 * (hops + 1);
    for foot in [0, hops + 1] {
        for _ in 0..BESIDE {
            edges.push((beside, foot + 1 + draws.below(hops)));
            beside += 1;
        }
    }
    Puzzle {
        edges,
        root: 0,
        target: hops,
        rival: 2 * hops + 1,
        steps: (1..=hops).map(|concept| (concept, vec![concept])).collect(),
    }
}

#[cfg(test)]
mod tests;
