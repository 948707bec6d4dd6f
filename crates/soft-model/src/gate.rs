//! Which positions of a thought are soft: a gate on entropy, and a switch between blocks.

use std::collections::BTreeSet;

use crate::record::Event;

/// Whose entropy a gate looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EntropyOf {
    /// `softmax(z / temperature)` over the whole vocabulary, in nats.
    #[default]
    Tempered,
    /// `softmax(z)` over the whole vocabulary, in nats.
    Raw,
    /// What the filters of the thoughts left, as a share of the largest possible
    /// ([`soft_core::SoftPipeline::entropy_share`]).
    Kept,
}

/// Which positions of a thought are soft; the others feed one token, chosen as the answer is.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Gate {
    /// All of them.
    #[default]
    Open,
    /// Those whose entropy is at least the threshold: soft where the model is unsure. As SeLaR
    /// has it, with [`EntropyOf::Kept`].
    Entropy {
        /// Whose entropy.
        of: EntropyOf,
        /// Its least value of a soft position, in nats or as a share.
        threshold: f64,
        /// Tokens that are fed hard wherever they are drawn.
        hard_ids: BTreeSet<u32>,
    },
    /// Blocks of soft and of hard positions in turn.
    Switch(Switch),
}

/// SwiReasoning's switch (arXiv:2510.05069): a thought begins soft. It turns hard as soon as the
/// entropy is under that of the block's first position, and soft again once the entropy is over
/// that, after a window. The position of a turn mixes in the embedding of a tag.
#[derive(Debug, Clone, PartialEq)]
pub struct Switch {
    /// Least positions of a hard block.
    pub window: usize,
    /// Turns to hard after which the thought is closed; none to go on.
    pub max_switches: Option<usize>,
    /// Share of the mixture in the first input of a soft block at step 0; the rest is `open`. It
    /// grows to 1 at the last step.
    pub enter: f64,
    /// The same for the first input of a hard block, with `close`.
    pub leave: f64,
    /// Tokens of the tag that soft blocks begin with; empty to mix nothing in.
    pub open: Vec<u32>,
    /// Tokens of the tag that they end with, which also closes the thought.
    pub close: Vec<u32>,
    /// Tokens that are fed hard wherever they are drawn.
    pub hard_ids: BTreeSet<u32>,
}

impl Gate {
    /// Whose entropy decides.
    pub(crate) fn entropy_of(&self) -> Option<EntropyOf> {
        match self {
            Self::Open => None,
            Self::Entropy { of, .. } => Some(*of),
            Self::Switch(_) => Some(EntropyOf::Raw),
        }
    }

    /// Tokens that are fed hard wherever they are drawn.
    pub(crate) fn hard_ids(&self) -> Option<&BTreeSet<u32>> {
        let ids = match self {
            Self::Open => return None,
            Self::Entropy { hard_ids, .. } => hard_ids,
            Self::Switch(switch) => &switch.hard_ids,
        };
        (!ids.is_empty()).then_some(ids)
    }
}

/// Where the switch of a row stands.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Switching {
    /// Entropy of the block's first position; none before the first step.
    reference: Option<f64>,
    hard: bool,
    stay: usize,
    /// Turns to hard.
    pub(crate) switches: usize,
}

/// What the gate says of a position.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Opening {
    /// Whether it is soft.
    pub(crate) soft: bool,
    /// Share of its own weights in what is fed, and the tokens that get the rest.
    pub(crate) blend: Option<(f64, Vec<u32>)>,
    pub(crate) event: Option<Event>,
    /// The thought is to be closed after this position.
    pub(crate) closes: bool,
}

impl Switching {
    /// What the gate says of a position with this entropy, at `share` of the generation.
    pub(crate) fn open(&mut self, gate: &Gate, entropy: f64, share: f64) -> Opening {
        match gate {
            Gate::Open => Opening { soft: true, ..Opening::default() },
            Gate::Entropy { threshold, .. } => {
                Opening { soft: entropy >= *threshold, ..Opening::default() }
            }
            Gate::Switch(switch) => self.step(switch, entropy, share),
        }
    }

    fn step(&mut self, switch: &Switch, entropy: f64, share: f64) -> Opening {
        let Some(reference) = self.reference else {
            self.reference = Some(entropy);
            return Opening { soft: true, ..Opening::default() };
        };
        self.stay += 1;
        let leaves = !self.hard && entropy < reference;
        let enters = self.hard && entropy > reference && self.stay >= switch.window;
        if leaves || enters {
            (self.hard, self.stay, self.reference) = (leaves, 0, Some(entropy));
            self.switches += usize::from(leaves);
        }
        let grown = |start: f64| start + (1.0 - start) * share;
        let blend = |start: f64, tag: &[u32]| {
            let own = grown(start);
            (own < 1.0 && !tag.is_empty()).then(|| (own, tag.to_vec()))
        };
        match (leaves, enters) {
            (true, _) => Opening {
                // The first input of a hard block still is a mixture.
                soft: true,
                blend: blend(switch.leave, &switch.close),
                event: Some(Event::SwitchToHard),
                closes: switch.max_switches.is_some_and(|most| self.switches >= most),
            },
            (_, true) => Opening {
                soft: true,
                blend: blend(switch.enter, &switch.open),
                event: Some(Event::SwitchToSoft),
                closes: false,
            },
            _ => Opening { soft: !self.hard, ..Opening::default() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn switch() -> Switch {
        Switch {
            window: 3,
            max_switches: None,
            enter: 0.4,
            leave: 0.7,
            open: vec![1],
            close: vec![2],
            hard_ids: BTreeSet::new(),
        }
    }

    /// Softness of each position, and the switch afterwards.
    fn walk(switch: &Switch, entropies: &[f64]) -> (Vec<Opening>, Switching) {
        let gate = Gate::Switch(switch.clone());
        let mut state = Switching::default();
        let openings = entropies.iter().map(|&entropy| state.open(&gate, entropy, 0.5)).collect();
        (openings, state)
    }

    #[test]
    fn blocks_turn_on_the_entropy_of_their_first_position() {
        //                soft......  turn  hard (window 3).....  turn  soft  turn
        let entropies = [1.0, 1.0, 1.2, 0.9, 1.5, 1.5, 0.9, 0.8, 1.5, 1.6, 1.4, 9.0];
        let (openings, state) = walk(&switch(), &entropies);
        let events: Vec<(usize, Event)> =
            openings.iter().enumerate().filter_map(|(i, o)| Some((i, o.event?))).collect();
        use Event::{SwitchToHard, SwitchToSoft};
        assert_eq!(events, [(3, SwitchToHard), (8, SwitchToSoft), (10, SwitchToHard)]);
        let soft: Vec<usize> = (0..12).filter(|&i| openings[i].soft).collect();
        assert_eq!(soft, [0, 1, 2, 3, 8, 9, 10]);
        assert_eq!(state.switches, 2);
        // Half way, the shares have grown half of the way to 1.
        assert_eq!(openings[3].blend, Some((0.85, vec![2])));
        assert_eq!(openings[8].blend, Some((0.7, vec![1])));
        assert!(openings[9].blend.is_none() && openings[4].blend.is_none());
    }

    #[test]
    fn a_switch_that_has_turned_often_enough_closes_the_thought() {
        let often = Switch { window: 1, max_switches: Some(2), ..switch() };
        let (openings, _) = walk(&often, &[1.0, 0.5, 0.9, 0.5]);
        let closes: Vec<bool> = openings.iter().map(|opening| opening.closes).collect();
        assert_eq!(closes, [false, false, false, true]);
        let silent = Switch { enter: 1.0, leave: 1.0, ..switch() };
        assert!(walk(&silent, &[1.0, 0.5]).0.iter().all(|opening| opening.blend.is_none()));
    }

    #[test]
    fn a_gate_at_the_ends_of_its_range_is_open_or_shut() {
        let mut state = Switching::default();
        for entropy in [0.0, 0.3, 0.999] {
            let mut soft = |threshold| {
                let hard_ids = BTreeSet::new();
                let gate = Gate::Entropy { of: EntropyOf::Kept, threshold, hard_ids };
                state.open(&gate, entropy, 0.0).soft
            };
            assert!(soft(0.0) && !soft(1.0));
            assert_eq!(soft(0.3), entropy >= 0.3);
            assert!(state.open(&Gate::Open, entropy, 0.0).soft);
        }
    }
}
