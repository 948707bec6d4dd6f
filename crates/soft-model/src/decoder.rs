//! The decode loop: logits, distribution, next input, stop.

use burn::tensor::Tensor;
use soft_core::{Distribution, NoiseKey, Policy};

use crate::active::Cells;
use crate::drawn::{DrawnStep, Use};
use crate::gate::{Gate, Opening};
use crate::generate::{GenerateOptions, Observe};
use crate::geometry::Norms;
use crate::kv_cache::KvCache;
use crate::prefill::prefill;
use crate::proposal::{Believed, Proposal, Sampler, where_rows};
use crate::record::{Event, Generation, Mode, SoftInput, StepRecord, Stop, Tally};
use crate::thinking::{ColdStop, Feedback, Manner, Phase, Span, Verdict};
use crate::transformer::{OutputHead, Transformer};

/// A row while it runs.
struct Row {
    prompt_len: usize,
    /// Prompt and generated tokens.
    ids: Vec<u32>,
    /// Positions before the first generated one.
    start: usize,
    stop: Option<Stop>,
    phase: Phase,
    tally: Tally,
    modes: Vec<Mode>,
    steps: Vec<StepRecord>,
    inputs: Vec<SoftInput>,
}

/// What a step feeds, row by row.
struct Choice {
    /// Whether the position belongs to a thought.
    thinks: Vec<bool>,
    /// Whether it is decoded in the manner of thoughts: a gate that is shut says no.
    in_thoughts: Vec<bool>,
    modes: Vec<Mode>,
    tokens: Vec<u32>,
    events: Vec<Option<Event>>,
    /// Rows that end with this step by the cold stop.
    stops: Vec<bool>,
}

/// What thoughts and answer propose, in this order.
type Proposals = [Option<Proposal>; 2];

fn place(in_thoughts: bool) -> usize {
    usize::from(!in_thoughts)
}

/// How thoughts, or what is none, are decoded.
pub(crate) fn manner(options: &GenerateOptions, thoughts: bool) -> &Manner {
    match &options.thinking {
        Some(thinking) if !thoughts => &thinking.answer,
        _ => &options.thoughts,
    }
}

pub(crate) struct Decoder<'a> {
    model: &'a Transformer,
    options: &'a GenerateOptions,
    head: OutputHead,
    embedding: Tensor<2>,
    norms: Option<Norms>,
    cache: KvCache,
    rows: Vec<Row>,
    samplers: [Option<Sampler<'a>>; 2],
    /// Last hidden state of each row, where thoughts feed it.
    hidden: Option<Tensor<2>>,
    /// What draws thoughts, where draws are kept.
    policy: Option<Policy>,
    /// What the last step drew.
    drawn: Option<DrawnStep>,
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(
        model: &'a Transformer,
        prompts: &[Vec<u32>],
        inputs: &[Vec<SoftInput>],
        options: &'a GenerateOptions,
    ) -> Self {
        let rows = prompts.iter().zip(inputs).map(|(prompt, inputs)| Row {
            prompt_len: prompt.len(),
            ids: prompt.clone(),
            start: prompt.len() + inputs.len(),
            stop: None,
            phase: Phase::begin(options.thinking.as_ref(), prompt),
            tally: Tally::default(),
            modes: Vec::new(),
            steps: Vec::new(),
            inputs: Vec::new(),
        });
        let answer = options.thinking.as_ref().map(|thinking| &thinking.answer.pipeline);
        let embedding = model.embedding();
        Self {
            model,
            options,
            head: model.output_head(),
            norms: options.record.then(|| Norms::new(&embedding)),
            embedding,
            cache: model.new_cache(prompts.len()),
            rows: rows.collect(),
            samplers: [Some(Sampler::new(&options.thoughts.pipeline)), answer.map(Sampler::new)],
            hidden: None,
            policy: None,
            drawn: None,
        }
    }

    /// Keeps draws from now on, those of soft thoughts by a policy.
    pub(crate) fn draw_by(&mut self, policy: Policy) {
        self.policy = Some(policy);
    }

    pub(crate) fn take_drawn(&mut self) -> Option<DrawnStep> {
        self.drawn.take()
    }

    pub(crate) fn into_generations(self) -> Vec<Generation> {
        let generation = |mut row: Row| Generation {
            token_ids: row.ids.split_off(row.prompt_len),
            stop: row.stop.unwrap_or(Stop::MaxNew),
            tally: row.tally,
            modes: row.modes,
            steps: row.steps,
            inputs: row.inputs,
        };
        self.rows.into_iter().map(generation).collect()
    }

    /// Feeds the prompts and what follows them; returns the logits after the last of each row.
    pub(crate) fn prefill(&mut self, prompts: &[Vec<u32>], inputs: &[Vec<SoftInput>]) -> Tensor<2> {
        let hidden = prefill(self.model, prompts, inputs, &mut self.cache);
        self.logits(hidden)
    }

    /// [`Self::prefill`] of prompts alone, where equal ones that follow one another are fed once and
    /// share what the cache holds of them.
    pub(crate) fn prefill_groups(&mut self, prompts: &[Vec<u32>]) -> Tensor<2> {
        let mut own: Vec<Vec<u32>> = Vec::new();
        let mut of_row = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            if own.last() != Some(prompt) {
                own.push(prompt.clone());
            }
            of_row.push(own.len() - 1);
        }
        let mut cache = self.model.new_cache(own.len());
        let hidden = prefill(self.model, &own, &vec![Vec::new(); own.len()], &mut cache);
        self.cache = cache.select(&of_row);
        let rows: Vec<i64> = of_row.into_iter().map(|row| row as i64).collect();
        let rows = Tensor::from_data(&rows[..], &hidden.device());
        self.logits(hidden.select(0, rows))
    }

    fn logits(&mut self, hidden: Tensor<2>) -> Tensor<2> {
        if self.options.thoughts.feedback == Feedback::Hidden {
            self.hidden = Some(hidden.clone());
        }
        self.head.logits(hidden)
    }

    /// One step: distribution, token and record of every running row; returns the next inputs.
    pub(crate) fn choose(
        &mut self,
        logits: Tensor<2>,
        step: usize,
        modes: &[Mode],
        observe: Observe<'_>,
    ) -> Tensor<2> {
        let keys = self.noise_keys(step);
        let thinks: Vec<bool> = self.rows.iter().map(|row| row.phase.thinks).collect();
        let openings = self.openings(&logits, step, modes, &thinks);
        let answer_mode = self.options.thinking.as_ref().map_or(Mode::Hard, |t| t.answer.mode);
        let opened = openings.iter().zip(modes).zip(&thinks);
        let modes: Vec<Mode> = opened
            .map(|((opening, &mode), &thinks)| match opening {
                _ if !thinks => answer_mode,
                Some(opening) if !opening.soft => Mode::Hard,
                _ => mode,
            })
            .collect();
        let is_open = |row: usize| openings[row].as_ref().is_none_or(|opening| opening.soft);
        let in_thoughts: Vec<bool> =
            (0..modes.len()).map(|row| thinks[row] && is_open(row)).collect();
        let logits = self.penalized(logits, &in_thoughts);
        let blends: Vec<_> = openings
            .iter()
            .map(|opening| opening.as_ref().and_then(|opening| opening.blend.clone()))
            .collect();
        let events =
            openings.iter().map(|opening| opening.as_ref().and_then(|o| o.event)).collect();
        let stops = vec![false; modes.len()];
        let tokens = vec![0; modes.len()];
        let mut choice = Choice { thinks, in_thoughts, modes, tokens, events, stops };
        let mut proposals = self.propose(&logits, &keys, &blends, &mut choice);
        let draws = self.policy.map(|policy| {
            let soft = choice.modes.contains(&Mode::Soft);
            let [thoughts, tokens] = &mut proposals;
            let thoughts = thoughts.as_mut().map(|proposal| match soft {
                true => proposal.redraw(policy, &self.embedding, &keys),
                false => proposal.tokens(),
            });
            [thoughts, tokens.as_ref().map(Proposal::tokens)]
        });
        for row in 0..choice.tokens.len() {
            let proposal = proposals[place(choice.in_thoughts[row])].as_ref();
            choice.tokens[row] = proposal.map_or(0, |proposal| proposal.chosen[row]);
        }
        let running: Vec<bool> = self.rows.iter().map(|row| row.stop.is_none()).collect();
        self.settle(&logits, step, &openings, &mut choice);
        self.drawn = draws.map(|draws| {
            let used = |row: usize| match choice.events[row] {
                _ if !running[row] => Use::Over,
                Some(Event::ForcedTag) => Use::Forced(choice.tokens[row]),
                Some(Event::OpenTag | Event::CloseTag) => {
                    Use::Tag { thought: choice.in_thoughts[row], token: choice.tokens[row] }
                }
                _ if choice.in_thoughts[row] => Use::Thought,
                _ => Use::Token,
            };
            let soft = choice.modes.contains(&Mode::Soft);
            DrawnStep { draws, uses: (0..running.len()).map(used).collect(), soft }
        });
        self.count(&proposals, &choice);
        let records = self.options.record && self.recorded() > 0;
        let believed = records.then(|| self.believe(&logits, &proposals));
        self.keep_inputs(&proposals, &choice);
        let next = self.next_embeds(proposals, &choice);
        if let Some(believed) = believed {
            self.record(&believed, &next, step, &choice);
        }
        self.advance(&choice, step, observe);
        next
    }

    /// Logits with the repetition penalty of each row's manner.
    fn penalized(&self, logits: Tensor<2>, in_thoughts: &[bool]) -> Tensor<2> {
        let penalty = |&thoughts: &bool| manner(self.options, thoughts).repetition_penalty;
        let penalties: Vec<f64> = in_thoughts.iter().map(penalty).collect();
        if penalties.iter().all(|&penalty| penalty == 1.0) {
            return logits;
        }
        let seen: Vec<Vec<u32>> = self.rows.iter().map(|row| row.ids.clone()).collect();
        soft_core::penalized(logits, &seen, &penalties)
    }

    fn cold_stop(&self, thoughts: bool) -> Option<ColdStop> {
        manner(self.options, thoughts).cold_stop
    }

    /// What the gate says of each row that thinks softly.
    fn openings(
        &mut self,
        logits: &Tensor<2>,
        step: usize,
        modes: &[Mode],
        thinks: &[bool],
    ) -> Vec<Option<Opening>> {
        let mut openings = vec![None; thinks.len()];
        let gate = self.options.thinking.as_ref().map(|thinking| &thinking.gate);
        let Some((gate, of)) = gate.and_then(|gate| Some((gate, gate.entropy_of()?))) else {
            return openings;
        };
        let Some(sampler) = &self.samplers[0] else { return openings };
        let asks = |row: usize, state: &Row| {
            thinks[row] && modes[row] == Mode::Soft && state.stop.is_none()
        };
        if !self.rows.iter().enumerate().any(|(row, state)| asks(row, state)) {
            return openings;
        }
        let entropies = sampler.gate_entropy(of, logits.clone());
        let share = step as f64 / self.options.max_new as f64;
        for (row, state) in self.rows.iter_mut().enumerate() {
            if thinks[row] && modes[row] == Mode::Soft && state.stop.is_none() {
                openings[row] = Some(state.phase.switching.open(gate, entropies[row], share));
            }
        }
        openings
    }

    /// Proposals of thoughts and answer for the rows that are decoded in their manner.
    fn propose(
        &self,
        logits: &Tensor<2>,
        keys: &[NoiseKey],
        blends: &[Option<(f64, Vec<u32>)>],
        choice: &mut Choice,
    ) -> Proposals {
        let hard_ids = self.options.thinking.as_ref().and_then(|t| t.gate.hard_ids());
        let of = |sampler: &Option<Sampler<'_>>, own: Vec<Option<Mode>>, blends: &[_]| {
            let sampler = sampler.as_ref().filter(|_| own.iter().any(Option::is_some))?;
            let draws = self.options.record;
            Some(sampler.propose(logits.clone(), keys, &own, blends, &self.embedding, draws))
        };
        let rows = || choice.modes.iter().zip(&choice.in_thoughts);
        // A gate with tokens that are always hard has to see what the answer would draw.
        let own = rows().map(|(&mode, &thoughts)| match (thoughts, hard_ids) {
            (false, _) => Some(mode),
            (true, Some(_)) => Some(Mode::Hard),
            (true, None) => None,
        });
        let answer = of(&self.samplers[1], own.collect(), &vec![None; choice.modes.len()]);
        if let (Some(hard_ids), Some(answer)) = (hard_ids, &answer) {
            for row in 0..choice.modes.len() {
                if choice.in_thoughts[row] && hard_ids.contains(&answer.chosen[row]) {
                    (choice.in_thoughts[row], choice.modes[row]) = (false, Mode::Hard);
                }
            }
        }
        let rows = choice.modes.iter().zip(&choice.in_thoughts);
        let own = rows.map(|(&mode, &thoughts)| thoughts.then_some(mode)).collect();
        [of(&self.samplers[0], own, blends), answer]
    }

    /// Tags and stops: what the rules of thinking make of the chosen tokens.
    fn settle(
        &mut self,
        logits: &Tensor<2>,
        step: usize,
        openings: &[Option<Opening>],
        choice: &mut Choice,
    ) {
        let entropies = [true, false].map(|thinks| {
            let watched = self.cold_stop(thinks).is_some() && choice.thinks.contains(&thinks);
            let sampler = self.samplers[place(thinks)].as_ref().filter(|_| watched)?;
            Some(sampler.entropy(logits.clone()))
        });
        let cold_stops = [true, false].map(|thinks| self.cold_stop(thinks));
        let everywhere = Span::Everywhere;
        let thinking = self.options.thinking.as_ref();
        let span = thinking.map_or(&everywhere, |thinking| &thinking.span);
        for (row, state) in self.rows.iter_mut().enumerate() {
            if state.stop.is_some() {
                continue;
            }
            if let Some(token) = state.phase.forced.pop_front() {
                state.ids.push(token);
                (choice.tokens[row], choice.modes[row]) = (token, Mode::Hard);
                choice.events[row] = Some(Event::ForcedTag);
                continue;
            }
            state.ids.push(choice.tokens[row]);
            let own = place(choice.thinks[row]);
            let entropy = entropies[own].as_ref().map(|all| all[row]);
            let mut verdict = state.phase.after(span, cold_stops[own], step, &state.ids, entropy);
            let closes = openings[row].as_ref().is_some_and(|opening| opening.closes);
            if let (true, true, Some(Gate::Switch(switch))) =
                (closes, state.phase.thinks, thinking.map(|thinking| &thinking.gate))
                && !switch.close.is_empty()
            {
                verdict = state.phase.close(&switch.close, Event::SwitchLimit);
            }
            match verdict {
                Verdict::Feed => {}
                Verdict::Note(event) => choice.events[row] = Some(event),
                Verdict::Force(token, event) => {
                    (choice.tokens[row], choice.modes[row]) = (token, Mode::Hard);
                    choice.events[row] = Some(event);
                    *state.ids.last_mut().expect("pushed just above") = token;
                }
                Verdict::Stop => {
                    choice.stops[row] = true;
                    choice.events[row] = Some(Event::ColdStop);
                }
            }
        }
    }

    fn count(&mut self, proposals: &Proposals, choice: &Choice) {
        for (row, state) in self.rows.iter_mut().enumerate() {
            if state.stop.is_some() {
                continue;
            }
            state.modes.push(choice.modes[row]);
            let soft = choice.modes[row] == Mode::Soft;
            let proposal = proposals[place(choice.in_thoughts[row])].as_ref();
            let weight = proposal.map_or(0.0, |proposal| proposal.weight[row]);
            let generated = state.ids.len() - state.prompt_len;
            let tally = &mut state.tally;
            if choice.thinks[row] && tally.thoughts == 0 {
                tally.first_thought = generated - 1;
            }
            tally.thoughts += usize::from(choice.thinks[row]);
            tally.soft += usize::from(soft);
            tally.nearly_hard += usize::from(soft && weight > 0.99);
            tally.cold_stops += usize::from(choice.events[row] == Some(Event::ColdStop));
            tally.switches = state.phase.switching.switches;
        }
    }

    fn noise_keys(&self, step: usize) -> Vec<NoiseKey> {
        self.rows
            .iter()
            .enumerate()
            .map(|(row, state)| NoiseKey {
                seed: self.options.seed,
                step: 0,
                row: self.options.row(row),
                position: (state.start + step) as u32,
            })
            .collect()
    }

    /// The fed mixture of soft rows and the token's embedding of hard ones: `[batch, d_model]`.
    fn next_embeds(&self, proposals: Proposals, choice: &Choice) -> Tensor<2> {
        let hard =
            || Distribution::one_hot(&choice.tokens, &self.embedding).mix(self.embedding.clone());
        let mut next = None;
        for (proposal, thoughts) in proposals.into_iter().zip([true, false]) {
            let hidden = self.hidden.as_ref().filter(|_| self.feeds_hidden(thoughts)).cloned();
            let mixture = proposal.and_then(|proposal| proposal.mixture);
            let Some(mixture) = mixture.map(|mixture| hidden.unwrap_or(mixture)) else { continue };
            let fed = choice.modes.iter().zip(&choice.in_thoughts);
            let fed: Vec<bool> =
                fed.map(|(&mode, &own)| mode == Mode::Soft && own == thoughts).collect();
            if fed.iter().all(|&fed| fed) {
                return mixture;
            }
            let others = next.take().unwrap_or_else(hard);
            next = Some(where_rows(&fed, others, mixture));
        }
        next.unwrap_or_else(hard)
    }

    fn feeds_hidden(&self, thoughts: bool) -> bool {
        thoughts && self.options.thoughts.feedback == Feedback::Hidden
    }

    fn advance(&mut self, choice: &Choice, step: usize, observe: Observe<'_>) {
        let max_positions = self.model.config().max_positions - self.model.taken_positions();
        for (row, state) in self.rows.iter_mut().enumerate() {
            if state.stop.is_some() {
                continue;
            }
            let token = choice.tokens[row];
            // What the logits of a hidden thought say is not meant as text.
            let is_text = choice.modes[row] == Mode::Hard
                || !choice.in_thoughts[row]
                || self.options.thoughts.feedback == Feedback::Mixture;
            state.stop = if is_text && self.options.eos_ids.contains(&token) {
                Some(Stop::Eos)
            } else if choice.stops[row] {
                Some(Stop::ColdStop)
            } else if state.start + step >= max_positions {
                Some(Stop::MaxPositions)
            } else {
                None
            };
            let record = state.steps.last().filter(|_| self.options.record);
            observe(row, token, record);
        }
    }

    pub(crate) fn finished(&self, step: usize) -> bool {
        step + 1 == self.options.max_new || self.rows.iter().all(|row| row.stop.is_some())
    }

    /// Feeds one column; rows that have stopped get padding.
    pub(crate) fn feed(&mut self, next: Tensor<2>) -> Tensor<2> {
        let [batch, d_model] = next.dims();
        let real: Vec<Vec<bool>> = self.rows.iter().map(|row| vec![row.stop.is_none()]).collect();
        let is_soft = |row: &Row| row.stop.is_none() && row.modes.last() == Some(&Mode::Soft);
        let soft: Vec<Vec<bool>> = self.rows.iter().map(|row| vec![is_soft(row)]).collect();
        let embeds = next.reshape([batch, 1, d_model]);
        let cells = Cells { real: &real, soft: Some(&soft) };
        let hidden = self.model.forward_cells(embeds, cells, &mut self.cache, None);
        self.logits(hidden)
    }

    fn believe(&self, logits: &Tensor<2>, proposals: &Proposals) -> [Option<Believed>; 2] {
        [0, 1].map(|place| {
            let (sampler, proposal) = (self.samplers[place].as_ref()?, proposals[place].as_ref()?);
            Some(sampler.believed(logits.clone(), proposal, self.options.top, self.recorded()))
        })
    }

    /// Rows that are recorded, the first so many.
    fn recorded(&self) -> usize {
        self.options.record_rows.min(self.rows.len())
    }

    /// Keeps what each row feeds, exactly.
    fn keep_inputs(&mut self, proposals: &Proposals, choice: &Choice) {
        if !self.options.keep_inputs {
            return;
        }
        let soft = |thoughts: bool| {
            let mut rows = choice.modes.iter().zip(&choice.in_thoughts);
            rows.any(|(&mode, &own)| mode == Mode::Soft && own == thoughts)
        };
        let inputs = [true, false].map(|thoughts| match &self.hidden {
            Some(hidden) if self.feeds_hidden(thoughts) => {
                let values = soft_core::host_values(hidden.clone());
                let rows = values.chunks_exact(hidden.dims()[1]);
                Some(rows.map(|row| SoftInput::Vector(row.to_vec())).collect())
            }
            _ => proposals[place(thoughts)].as_ref().filter(|_| soft(thoughts)).map(|p| p.inputs()),
        });
        for (row, state) in self.rows.iter_mut().enumerate() {
            if state.stop.is_some() {
                continue;
            }
            let own: Option<&Vec<SoftInput>> = inputs[place(choice.in_thoughts[row])].as_ref();
            state.inputs.push(match (choice.modes[row], own) {
                (Mode::Soft, Some(inputs)) => inputs[row].clone(),
                _ => SoftInput::token(choice.tokens[row]),
            });
        }
    }

    /// Keeps what the step believed, chose and fed.
    fn record(
        &mut self,
        believed: &[Option<Believed>; 2],
        next: &Tensor<2>,
        step: usize,
        choice: &Choice,
    ) {
        let Some(norms) = &self.norms else { return };
        let recorded = self.recorded();
        let own = |row: usize| believed[place(choice.in_thoughts[row])].as_ref();
        let mixed: Vec<(Vec<(u32, f64)>, bool)> = (0..recorded)
            .map(|row| match (choice.modes[row], own(row)) {
                (Mode::Soft, Some(believed)) => {
                    let fed = believed.fed.as_ref().unwrap_or(&believed.top);
                    let hidden = self.feeds_hidden(choice.in_thoughts[row]);
                    (fed[row].clone(), believed.convex[row] && !hidden)
                }
                _ => (vec![(choice.tokens[row], 1.0)], true),
            })
            .collect();
        let next = next.clone().narrow(0, 0, recorded);
        let geometry = norms.locate(&next, &self.embedding, &mixed);
        for (row, state) in self.rows.iter_mut().enumerate().take(recorded) {
            let believed = believed[place(choice.in_thoughts[row])].as_ref();
            let Some(believed) = believed.filter(|_| state.stop.is_none()) else { continue };
            let (mode, token_id) = (choice.modes[row], choice.tokens[row]);
            let soft = mode == Mode::Soft;
            state.steps.push(StepRecord {
                decode_step: step,
                position: state.start + step,
                thinks: choice.thinks[row],
                mode,
                token_id,
                sampled_id: believed.drawn[row],
                entropy_nats: believed.entropy[row],
                top: believed.top[row].clone(),
                kept_mass: believed.kept_mass[row],
                fed: match soft
                    && self.options.thoughts.feedback == Feedback::Hidden
                    && choice.in_thoughts[row]
                {
                    true => Some(Vec::new()),
                    false => believed.fed.as_ref().filter(|_| soft).map(|fed| fed[row].clone()),
                },
                geometry: geometry[row],
                event: choice.events[row],
            });
        }
    }
}
