//! Beam search over tokens, and two soft forms of it.

use burn::tensor::Tensor;
use soft_core::{Distribution, host_values};

use crate::Error;
use crate::active::Cells;
use crate::decoder::manner;
use crate::generate::{GenerateOptions, check_prompts, check_tags};
use crate::kv_cache::KvCache;
use crate::prefill::prefill;
use crate::proposal::where_rows;
use crate::record::{Event, Generation, Mode, Stop, Tally};
use crate::thinking::{Phase, Span, Verdict};
use crate::transformer::{OutputHead, Transformer};

/// What the beams of a thought feed. Outside of thoughts, and in hard mode, it is tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum BeamKind {
    /// The token of each child.
    Tokens,
    /// `(1 - mixing) E_y + mixing p E`: the child's token y, mixed with its parent's distribution.
    Around {
        /// Share of the parent's distribution.
        mixing: f64,
    },
    /// A part of the parent's distribution: each is split in two by direction
    /// ([`Distribution::split`]), and the heaviest parts go on. One beam is never split.
    Mixtures,
}

/// Settings of [`beam_search`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BeamOptions {
    /// What the beams feed.
    pub kind: BeamKind,
    /// Sequences that are followed, at least 1. One that ends keeps its place.
    pub beams: usize,
    /// A sequence's score is its log-probability divided by its length to this power.
    pub length_penalty: f64,
}

/// What beam search found for a prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Beams {
    /// The sequences and their scores, best first. They have no records, modes or inputs.
    pub sequences: Vec<(Generation, f64)>,
    /// Tokens that were generated for all of them, those of sequences that were dropped included.
    pub forward_tokens: usize,
}

/// A sequence that is still followed.
#[derive(Clone)]
struct Beam {
    prompt: usize,
    /// Prompt and generated tokens.
    ids: Vec<u32>,
    phase: Phase,
    tally: Tally,
    /// Sum of the log-probabilities of its choices, or the logarithm of its mass.
    score: f64,
}

/// A child of the beam in row `parent`.
struct Child {
    parent: usize,
    /// Which part of the parent's distribution it feeds, where it feeds one.
    part: Option<usize>,
    /// Whether it feeds a mixture.
    soft: bool,
    beam: Beam,
    stop: Option<Stop>,
}

/// Follows the likeliest sequences of each prompt. The log-probability of a token is that of the
/// distribution after the pipeline's filters; noise is left out, nothing is drawn, and a gate is
/// not asked.
///
/// # Errors
/// Those of [`crate::generate`], or no beam.
pub fn beam_search(
    model: &Transformer,
    prompts: &[Vec<u32>],
    options: &GenerateOptions,
    beams: &BeamOptions,
) -> Result<Vec<Beams>, Error> {
    let no_inputs = vec![Vec::new(); prompts.len()];
    check_prompts(model, prompts, &no_inputs)?;
    check_tags(model, options)?;
    if beams.beams == 0 {
        return Err(Error::Settings("a search needs at least one beam".to_owned()));
    }
    let mut cache = model.new_cache(prompts.len());
    let hidden = prefill(model, prompts, &no_inputs, &mut cache);
    let (head, embedding) = (model.output_head(), model.embedding());
    let lengths = prompts.iter().map(Vec::len).collect();
    let mut search = Search {
        model,
        options,
        beams,
        head,
        embedding,
        cache,
        lengths,
        live: Vec::new(),
        found: Vec::new(),
    };
    let empty = Beams { sequences: Vec::new(), forward_tokens: 0 };
    search.found = vec![empty; prompts.len()];
    search.live = prompts
        .iter()
        .enumerate()
        .map(|(prompt, ids)| Beam {
            prompt,
            ids: ids.clone(),
            phase: Phase::begin(options.thinking.as_ref(), ids),
            tally: Tally::default(),
            score: 0.0,
        })
        .collect();
    let mut logits = search.head.logits(hidden);
    for step in 0..options.max_new {
        let next = search.step(logits, step);
        let Some((next, soft)) = next.filter(|_| step + 1 < options.max_new) else { break };
        logits = search.feed(next, &soft);
    }
    Ok(search.finish())
}

struct Search<'a> {
    model: &'a Transformer,
    options: &'a GenerateOptions,
    beams: &'a BeamOptions,
    head: OutputHead,
    embedding: Tensor<2>,
    cache: KvCache,
    lengths: Vec<usize>,
    /// Row i of the cache is that of `live[i]`.
    live: Vec<Beam>,
    found: Vec<Beams>,
}

/// What the rows of a phase believe.
struct Believed {
    probs: Distribution,
    /// The likeliest tokens of each row.
    top: Vec<Vec<(u32, f64)>>,
    parts: Option<Parts>,
    entropy: Option<Vec<f64>>,
}

/// Both parts of each row's distribution.
struct Parts {
    /// `[rows, d_model]` each.
    mixtures: [Tensor<2>; 2],
    masses: [Vec<f64>; 2],
    heaviest: [Vec<u32>; 2],
}

impl Search<'_> {
    /// Replaces the live beams by their best children; returns what these feed and which of it is
    /// soft, if any is left.
    fn step(&mut self, logits: Tensor<2>, step: usize) -> Option<(Tensor<2>, Vec<bool>)> {
        let logits = self.penalized(logits);
        let believed = [true, false].map(|thinks| self.believe(&logits, thinks));
        let mut children: Vec<Vec<Child>> = self.found.iter().map(|_| Vec::new()).collect();
        for (row, beam) in self.live.iter().enumerate() {
            let own = believed[usize::from(!beam.phase.thinks)].as_ref();
            let Some(own) = own else { continue };
            children[beam.prompt].extend(self.children(row, beam, own, step));
        }
        let mut kept = Vec::new();
        for (prompt, children) in children.into_iter().enumerate() {
            let places = self.beams.beams - self.found[prompt].sequences.len();
            for child in best(children, places) {
                self.found[prompt].forward_tokens += 1;
                match child.stop {
                    Some(stop) => {
                        let sequence = self.ended(child.beam, stop);
                        self.found[prompt].sequences.push(sequence);
                    }
                    None => kept.push(child),
                }
            }
        }
        if kept.is_empty() {
            self.live.clear();
            return None;
        }
        let next = self.next_embeds(&kept, &believed);
        let soft = kept.iter().map(|child| child.soft).collect();
        let parents: Vec<usize> = kept.iter().map(|child| child.parent).collect();
        self.cache = self.cache.select(&parents);
        self.live = kept.into_iter().map(|child| child.beam).collect();
        Some((next, soft))
    }

    fn penalized(&self, logits: Tensor<2>) -> Tensor<2> {
        let penalties: Vec<f64> = self
            .live
            .iter()
            .map(|beam| manner(self.options, beam.phase.thinks).repetition_penalty)
            .collect();
        let seen: Vec<Vec<u32>> = self.live.iter().map(|beam| beam.ids.clone()).collect();
        soft_core::penalized(logits, &seen, &penalties)
    }

    fn splits(&self, thinks: bool) -> bool {
        thinks && self.beams.kind == BeamKind::Mixtures && self.is_soft(thinks)
    }

    fn is_soft(&self, thinks: bool) -> bool {
        manner(self.options, thinks).mode == Mode::Soft && self.beams.kind != BeamKind::Tokens
    }

    fn believe(&self, logits: &Tensor<2>, thinks: bool) -> Option<Believed> {
        if !self.live.iter().any(|beam| beam.phase.thinks == thinks) {
            return None;
        }
        let manner = manner(self.options, thinks);
        let probs = manner.pipeline.probs(logits.clone());
        let parts = self.splits(thinks).then(|| {
            // One beam stays whole: it is the plain mixture.
            let parts = match self.beams.beams {
                1 => [Some(probs.clone()), None],
                _ => probs.split(&self.embedding).map(Some),
            };
            let masses = parts.clone().map(|part| match part {
                Some(part) => host_values(part.mass()),
                None => vec![0.0; self.live.len()],
            });
            let heaviest = parts.clone().map(|part| match part {
                Some(part) => {
                    part.to_rows(1).iter().map(|row| row.first().map_or(0, |e| e.0)).collect()
                }
                None => vec![0; self.live.len()],
            });
            let mixtures = parts.map(|part| {
                let part = part.map_or_else(
                    || probs.clone(),
                    |part| match self.beams.beams {
                        1 => part,
                        _ => part.normalized(),
                    },
                );
                manner.pipeline.mix(part, &self.embedding).0
            });
            Parts { mixtures, masses, heaviest }
        });
        let entropy =
            manner.cold_stop.map(|_| host_values(manner.pipeline.entropy_nats(logits.clone())));
        let top = probs.to_rows(2 * self.beams.beams);
        Some(Believed { probs, top, parts, entropy })
    }

    fn children(&self, row: usize, beam: &Beam, own: &Believed, step: usize) -> Vec<Child> {
        let thinks = beam.phase.thinks;
        if let Some(&token) = beam.phase.forced.front() {
            let mut child = beam.clone();
            child.phase.forced.pop_front();
            child.ids.push(token);
            return vec![self.child(row, None, false, child, None, thinks)];
        }
        let choices: Vec<(u32, f64, Option<usize>)> = match &own.parts {
            Some(parts) => (0..2)
                .filter(|&part| parts.masses[part][row] > 0.0)
                .map(|part| (parts.heaviest[part][row], parts.masses[part][row], Some(part)))
                .collect(),
            None => own.top[row].iter().map(|&(id, p)| (id, p, None)).collect(),
        };
        let everywhere = Span::Everywhere;
        let span = self.options.thinking.as_ref().map_or(&everywhere, |thinking| &thinking.span);
        let cold_stop = manner(self.options, thinks).cold_stop;
        let entropy = own.entropy.as_ref().map(|all| all[row]);
        let mut children: Vec<Child> = Vec::new();
        for (token, p, part) in choices {
            let mut child = beam.clone();
            child.ids.push(token);
            child.score += p.ln();
            let mut soft = self.is_soft(thinks) && thinks;
            let mut stops = None;
            match child.phase.after(span, cold_stop, step, &child.ids, entropy) {
                Verdict::Feed => {}
                Verdict::Note(event) => {
                    child.tally.cold_stops += usize::from(event == Event::ColdStop);
                }
                Verdict::Force(token, event) => {
                    if event == Event::ColdStop {
                        // Nobody chose it: it costs nothing.
                        child.score = beam.score;
                        child.tally.cold_stops += 1;
                    }
                    *child.ids.last_mut().expect("pushed just above") = token;
                    soft = false;
                }
                Verdict::Stop => {
                    child.tally.cold_stops += 1;
                    stops = Some(Stop::ColdStop);
                }
            }
            // Two parts may have the same heaviest token and differ; two hard children may not.
            let same = |other: &Child| !soft && !other.soft && other.beam.ids == child.ids;
            if !children.iter().any(same) {
                let part = part.filter(|_| soft);
                children.push(self.child(row, part, soft, child, stops, thinks));
            }
        }
        children
    }

    fn child(
        &self,
        parent: usize,
        part: Option<usize>,
        soft: bool,
        mut beam: Beam,
        stops: Option<Stop>,
        thinks: bool,
    ) -> Child {
        beam.tally.thoughts += usize::from(thinks);
        beam.tally.soft += usize::from(soft);
        let token = beam.ids[beam.ids.len() - 1];
        let max_positions = self.model.config().max_positions - self.model.taken_positions();
        let stop = match stops {
            _ if self.options.eos_ids.contains(&token) => Some(Stop::Eos),
            None if beam.ids.len() > max_positions => Some(Stop::MaxPositions),
            stops => stops,
        };
        Child { parent, part, soft, beam, stop }
    }

    /// What the children feed: `[children, d_model]`.
    fn next_embeds(&self, children: &[Child], believed: &[Option<Believed>; 2]) -> Tensor<2> {
        let tokens: Vec<u32> =
            children.iter().map(|child| child.beam.ids[child.beam.ids.len() - 1]).collect();
        let hard = Distribution::one_hot(&tokens, &self.embedding).mix(self.embedding.clone());
        let soft: Vec<bool> = children.iter().map(|child| child.soft).collect();
        let Some(thoughts) = believed[0].as_ref().filter(|_| soft.contains(&true)) else {
            return hard;
        };
        let parents: Vec<u32> = children.iter().map(|child| child.parent as u32).collect();
        let parents = soft_core::int_tensor(&parents, [children.len()], &hard.device());
        let mixture = match (&thoughts.parts, self.beams.kind) {
            (Some(parts), _) => {
                let second: Vec<bool> =
                    children.iter().map(|child| child.part == Some(1)).collect();
                let [a, b] = parts.mixtures.clone().map(|part| part.select(0, parents.clone()));
                where_rows(&second, a, b)
            }
            (None, BeamKind::Around { mixing }) => {
                let pipeline = &self.options.thoughts.pipeline;
                let mixture = pipeline.mix(thoughts.probs.clone(), &self.embedding).0;
                hard.clone() * (1.0 - mixing) + mixture.select(0, parents) * mixing
            }
            (None, _) => return hard,
        };
        where_rows(&soft, hard, mixture)
    }

    fn feed(&mut self, next: Tensor<2>, soft: &[bool]) -> Tensor<2> {
        let [rows, d_model] = next.dims();
        let real = vec![vec![true]; rows];
        let soft: Vec<Vec<bool>> = soft.iter().map(|&soft| vec![soft]).collect();
        let embeds = next.reshape([rows, 1, d_model]);
        let cells = Cells { real: &real, soft: Some(&soft) };
        let hidden = self.model.forward_cells(embeds, cells, &mut self.cache, None);
        self.head.logits(hidden)
    }

    fn ended(&self, beam: Beam, stop: Stop) -> (Generation, f64) {
        let mut ids = beam.ids;
        let token_ids = ids.split_off(self.lengths[beam.prompt]);
        let length = token_ids.len().max(1) as f64;
        let score = beam.score / length.powf(self.beams.length_penalty);
        let (steps, inputs) = (Vec::new(), Vec::new());
        let modes = Vec::new();
        (Generation { token_ids, stop, tally: beam.tally, modes, steps, inputs }, score)
    }

    fn finish(mut self) -> Vec<Beams> {
        for beam in std::mem::take(&mut self.live) {
            let prompt = beam.prompt;
            let sequence = self.ended(beam, Stop::MaxNew);
            self.found[prompt].sequences.push(sequence);
        }
        for beams in &mut self.found {
            beams.sequences.sort_by(|a, b| b.1.total_cmp(&a.1));
        }
        self.found
    }
}

/// The `places` children of the highest scores, the earlier of equal ones first.
fn best(mut children: Vec<Child>, places: usize) -> Vec<Child> {
    children.sort_by(|a, b| b.beam.score.total_cmp(&a.beam.score));
    children.truncate(places);
    children
}
