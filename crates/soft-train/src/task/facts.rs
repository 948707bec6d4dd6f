//! Facts about nodes and a question about them, as tokens: what "prosqa" and "chains" share.
//!
//! ```text
//! <eos> s t | s t | s t [Q] c1 c2 [R] root        which of c1 and c2 is reached from root?
//! ```
//!
//! | ids | tokens |
//! |---|---|
//! | 0..30 | nodes, `0` to `30` |
//! | 31..33 | `<\|start-latent\|> <\|end-latent\|> <\|latent\|>` |
//! | 34..37 | `\| [Q] [R] [A]` |
//! | 38, 39 | `<eos> <\|no-answer\|>` |
//!
//! These never move: they are those of "Reasoning by Superposition" (Zhu et al., 2025,
//! <https://github.com/Ber666/reasoning-by-superposition>, `stokenizer.py`). More nodes append.

use super::draws::Draws;
use super::{Problem, SpecialTokens, Step, Tokens, kin_of};

/// Nodes of the published vocabulary.
pub(super) const NODES: usize = 31;
const MARKS: [&str; 9] = [
    "<|start-latent|>",
    "<|end-latent|>",
    "<|latent|>",
    "|",
    "[Q]",
    "[R]",
    "[A]",
    "<eos>",
    "<|no-answer|>",
];

/// Stands in the place of a thought where there is none.
pub(super) const LATENT: u32 = 33;
/// Parts facts.
pub(super) const AND: u32 = 34;
/// Opens the candidates.
pub(super) const QUESTION: u32 = 35;
/// Opens the root.
pub(super) const ROOT: u32 = 36;
/// Opens the answer.
pub(super) const ANSWER: u32 = 37;
/// Opens and closes lines, and pads, as in the published code.
pub(super) const EOS: u32 = 38;

/// The tokens for so many nodes; never fewer than 40.
pub(super) fn tokens(nodes: usize) -> Tokens {
    let number = |node: usize| node.to_string();
    let near = (0..NODES).map(number).chain(MARKS.map(str::to_owned));
    let special = SpecialTokens { pad: EOS, bos: EOS, eos: EOS };
    Tokens::new(near.chain((NODES..nodes).map(number)).collect(), special)
}

/// The id of a node.
pub(super) fn node_id(node: usize) -> u32 {
    (if node < NODES { node } else { node + MARKS.len() }) as u32
}

/// Facts with a question, of nodes without names: any numbers from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Puzzle {
    /// From each node to those it points to.
    pub(super) edges: Vec<(usize, usize)>,
    /// Where the walk begins.
    pub(super) root: usize,
    /// The candidate that is reached.
    pub(super) target: usize,
    /// The candidate that is not.
    pub(super) rival: usize,
    /// The steps of the walk: where it is after each, and where it may be as well.
    pub(super) steps: Vec<(usize, Vec<usize>)>,
}

impl Puzzle {
    /// The puzzle in tokens: its nodes get different names of `0..names`, at random, and facts and
    /// candidates a random order. Beside it the facts in ascending order, by which problems that
    /// differ only in their order are known.
    ///
    /// # Panics
    /// If there are fewer names than nodes.
    pub(super) fn named(&self, names: usize, draws: &mut Draws) -> (Vec<(u32, u32)>, Problem) {
        let mut ids: Vec<u32> = (0..names).map(node_id).collect();
        draws.shuffle(&mut ids);
        let mut facts: Vec<_> = self.edges.iter().map(|&(s, t)| (ids[s], ids[t])).collect();
        draws.shuffle(&mut facts);
        let (target, rival) = (ids[self.target], ids[self.rival]);
        let mut candidates = [target, rival];
        draws.shuffle(&mut candidates);
        let prompt = prompt(&facts, candidates, ids[self.root]);
        facts.sort_unstable();
        let step = |(node, layer): &(usize, Vec<usize>)| {
            let share = 1.0 / layer.len() as f32;
            let mut belief: Vec<_> = layer.iter().map(|&node| (ids[node], share)).collect();
            belief.sort_unstable_by_key(|entry| entry.0);
            Step { tokens: vec![ids[*node]], belief }
        };
        let steps = self.steps.iter().map(step).collect();
        let kin = kin_of(&prompt);
        (facts, Problem { prompt, steps, answer: vec![target], kin, rival: Some(rival) })
    }
}

fn prompt(facts: &[(u32, u32)], candidates: [u32; 2], root: u32) -> Vec<u32> {
    let mut line = vec![EOS];
    for (place, &(source, target)) in facts.iter().enumerate() {
        line.extend((place > 0).then_some(AND));
        line.extend([source, target]);
    }
    line.push(QUESTION);
    line.extend(candidates);
    line.extend([ROOT, root]);
    line
}

/// The facts of a prompt, in its order.
pub(super) fn facts(prompt: &[u32]) -> Vec<(u32, u32)> {
    // Candidates, root and the marks before them are the last five.
    let facts = &prompt[1..prompt.len().saturating_sub(5)];
    facts.split(|&id| id == AND).map(|fact| (fact[0], fact[1])).collect()
}

/// Facts that point to a node.
pub(super) fn in_degree(prompt: &[u32], node: u32) -> usize {
    facts(prompt).iter().filter(|fact| fact.1 == node).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_the_published_ones_and_more_nodes_append() {
        for nodes in [5, NODES, NODES + 3] {
            let tokens = tokens(nodes);
            assert_eq!(tokens.len(), 40 + nodes.saturating_sub(NODES));
            let text = tokens.text(&[0, 30, 31, 32, LATENT, AND, QUESTION, ROOT, ANSWER, EOS, 39]);
            assert_eq!(
                text,
                "0 30 <|start-latent|> <|end-latent|> <|latent|> | [Q] [R] [A] <eos> <|no-answer|>"
            );
            for node in 0..nodes {
                assert_eq!(tokens.name(node_id(node)), Some(&node.to_string()[..]));
            }
        }
    }

    #[test]
    fn a_prompt_reads_as_documented_and_back_to_its_facts() {
        let line = prompt(&[(3, 5), (5, 40)], [7, 40], 3);
        assert_eq!(tokens(32).text(&line), "<eos> 3 5 | 5 31 [Q] 7 31 [R] 3");
        assert_eq!(facts(&line), [(3, 5), (5, 40)]);
        assert_eq!((in_degree(&line, 5), in_degree(&line, 3)), (1, 0));
    }
}
