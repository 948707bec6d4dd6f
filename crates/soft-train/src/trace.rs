//! A generation as one object of a trace: the format that `soft generate --json` prints and
//! `soft report` reads.

use serde_json::{Value, json};
use soft_model::{Generation, StepRecord, Tokenizer};

use crate::config::{Config, EntropyOf, GateKind};

/// Version of the format; a reader refuses others.
pub const TRACE_VERSION: u32 = 1;

/// What surrounds the generations of a trace.
#[derive(Debug, Clone)]
pub struct Context {
    /// The preset or the arm.
    pub name: Option<String>,
    /// Thresholds of the rules in force.
    pub thresholds: Value,
    /// The 5th, 50th and 95th percentile of the norms of the model's embeddings.
    pub embedding_norms: [f64; 3],
}

impl Context {
    /// The thresholds of a configuration.
    #[must_use]
    pub fn new(config: &Config, name: Option<String>, embedding_norms: [f64; 3]) -> Self {
        let (soft, gate) = (&config.soft, &config.gate);
        let is_gated = gate.kind == GateKind::Entropy;
        let unit = if gate.entropy == EntropyOf::Kept { "share" } else { "nats" };
        let thresholds = json!({
            "cold_stop_nats": soft.cold_stop.then_some(soft.cold_stop_entropy),
            "gate": is_gated.then_some(gate.threshold),
            "gate_unit": is_gated.then_some(unit),
        });
        Self { name, thresholds, embedding_norms }
    }
}

/// One prompt and what came of it.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// The prompt's text, where it was given as one.
    pub prompt: Option<&'a str>,
    /// Its tokens.
    pub prompt_ids: &'a [u32],
    /// What was generated.
    pub generation: &'a Generation,
    /// Gives the tokens' texts, where there is one.
    pub tokenizer: Option<&'a Tokenizer>,
}

impl Row<'_> {
    /// The object of a trace, on one line when printed.
    #[must_use]
    pub fn json(&self, context: &Context) -> Value {
        let generation = self.generation;
        let steps: Vec<Value> = generation.steps.iter().map(|step| self.step(step)).collect();
        let [low, median, high] = context.embedding_norms;
        json!({
            "trace_version": TRACE_VERSION,
            "name": context.name,
            "prompt": self.prompt,
            "prompt_ids": self.prompt_ids,
            "text": self.text(),
            "token_ids": generation.token_ids,
            "stop": generation.stop,
            "tally": generation.tally,
            "thresholds": context.thresholds,
            "embedding_norm": {"low": low, "median": median, "high": high},
            "steps": steps,
        })
    }

    fn step(&self, step: &StepRecord) -> Value {
        let place = &step.geometry;
        let mut object = json!({
            "decode_step": step.decode_step,
            "position": step.position,
            "phase": if step.thinks { "think" } else { "answer" },
            "mode": step.mode,
            "token_id": step.token_id,
            "token": self.token(step.token_id),
            "sampled_id": step.sampled_id,
            "entropy_nats": step.entropy_nats,
            "effective_tokens": step.entropy_nats.exp(),
            "top": self.triples(&step.top),
            "kept_mass": step.kept_mass,
            "nearest": [place.nearest_id, self.token(place.nearest_id), place.distance],
            "cosine": place.cosine,
            "hull_distance": place.hull_distance,
            "norm": place.norm,
            "token_norm": place.token_norm,
        });
        if let Some(fed) = &step.fed {
            object["fed"] = self.triples(fed);
        }
        if let Some(event) = step.event {
            object["event"] = json!(event);
        }
        object
    }

    fn triples(&self, entries: &[(u32, f64)]) -> Value {
        entries.iter().map(|&(id, weight)| json!([id, self.token(id), weight])).collect()
    }

    fn token(&self, id: u32) -> Option<String> {
        self.tokenizer.and_then(|tokenizer| tokenizer.decode_token(id))
    }

    /// The text, without special tokens; none without a tokenizer.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        self.tokenizer.map(|tokenizer| tokenizer.decode_visible(&self.generation.token_ids))
    }
}
