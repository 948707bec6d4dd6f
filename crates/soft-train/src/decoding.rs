//! From a configuration and a model's files to how the model generates.

use std::collections::BTreeSet;

use soft_model::{
    BeamKind, BeamOptions, Gate, GenerateOptions, Generation, ModelFiles, Observe, Span, Switch,
    Thinking, Tokenizer, Transformer, beam_search, generate,
};

use crate::Error;
use crate::config::{Active, Config, GateKind, Preset, SearchKind, SpanKind};

/// Entries of `top` and `fed` in a recorded step.
const TOP: usize = 10;

/// How a configuration decodes.
#[derive(Debug, Clone)]
pub struct Decoding {
    /// Settings of one continuation.
    pub options: GenerateOptions,
    /// How many continuations of a prompt are followed.
    pub search: Search,
    /// What the traces are called: the preset, where there is one.
    pub name: Option<String>,
}

/// How many continuations of a prompt are followed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Search {
    /// One.
    One,
    /// Beams.
    Beams(BeamOptions),
    /// So many drawn apart, of which the most frequent answer wins.
    Votes(usize),
}

/// The continuations of one prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Continuations {
    /// One, the votes in the order of their seeds, or the beams, best first.
    pub rows: Vec<Generation>,
    /// Scores of the beams; empty elsewhere.
    pub scores: Vec<f64>,
    /// Tokens generated for all of them, those of dropped beams included.
    pub forward_tokens: usize,
}

impl Search {
    /// Continuations of a prompt that run at once.
    #[must_use]
    pub fn rows(&self) -> usize {
        match self {
            Self::One => 1,
            Self::Beams(beams) => beams.beams,
            Self::Votes(votes) => *votes,
        }
    }
}

impl Decoding {
    /// How `config` decodes with this model; nothing is recorded yet.
    ///
    /// # Errors
    /// A tag that the tokenizer does not have as one token, where several are not accepted, or an
    /// adapter that acts everywhere where `adapter.active` is "soft".
    pub fn new(config: &Config, files: &ModelFiles) -> Result<Self, Error> {
        if config.adapter.active == Active::Soft
            && files.active() == Some(soft_model::Active::Always)
        {
            let report = "`adapter.active` is \"soft\" and the adapter was trained to act \
                          everywhere; expected \"always\", or an adapter that was trained so";
            return Err(Error::Config { report: report.into() });
        }
        Self::with_tokens(config, files.tokenizer.as_ref(), &files.generation.eos_ids)
    }

    /// [`Self::new`] for a model that is not in files: its tokenizer, where there is one, and the
    /// tokens that end a generation.
    pub(crate) fn with_tokens(
        config: &Config,
        tokenizer: Option<&Tokenizer>,
        eos_ids: &[u32],
    ) -> Result<Self, Error> {
        let eos_ids = match config.generate.ignore_eos {
            true => Vec::new(),
            false => eos_ids.to_vec(),
        };
        let options = GenerateOptions {
            thoughts: config.soft.manner()?,
            thinking: thinking(config, tokenizer)?,
            max_new: config.generate.max_new,
            eos_ids,
            seed: config.run.seed,
            first_row: 0,
            rows: Vec::new(),
            record: false,
            record_rows: usize::MAX,
            keep_inputs: false,
            top: TOP,
        };
        let (beams, length_penalty) = (config.search.beams, config.search.length_penalty);
        let of = |kind| Search::Beams(BeamOptions { kind, beams, length_penalty });
        let search = match config.search.kind {
            SearchKind::None => Search::One,
            SearchKind::Beam => of(BeamKind::Tokens),
            SearchKind::SoftBeam => of(BeamKind::Around { mixing: config.search.mixing }),
            SearchKind::MixtureBeam => of(BeamKind::Mixtures),
            SearchKind::Vote => Search::Votes(beams),
        };
        let preset = config.soft.preset;
        let name = (preset != Preset::None).then(|| preset.to_string());
        Ok(Self { options, search, name })
    }

    /// Continues prompts, the first of which is number `first_prompt` of all that are run with this
    /// seed. `observe` sees the steps of the rows, but not those of beams.
    ///
    /// # Errors
    /// Those of [`soft_model::generate`].
    pub fn run(
        &self,
        model: &Transformer,
        prompts: &[Vec<u32>],
        first_prompt: usize,
        observe: Observe<'_>,
    ) -> Result<Vec<Continuations>, Error> {
        if let Search::Beams(beams) = &self.search {
            let found = beam_search(model, prompts, &self.options, beams)?;
            return Ok(found
                .into_iter()
                .map(|beams| {
                    let (rows, scores) = beams.sequences.into_iter().unzip();
                    Continuations { rows, scores, forward_tokens: beams.forward_tokens }
                })
                .collect());
        }
        let votes = self.search.rows();
        let repeated = prompts.iter().flat_map(|ids| std::iter::repeat_n(ids.clone(), votes));
        let repeated: Vec<Vec<u32>> = repeated.collect();
        let options =
            GenerateOptions { first_row: (first_prompt * votes) as u32, ..self.options.clone() };
        let mode = options.thoughts.mode;
        let made = generate(model, &repeated, &|_, _| mode, &options, observe)?;
        let mut made = made.into_iter();
        Ok((0..prompts.len())
            .map(|_| {
                let rows: Vec<Generation> = made.by_ref().take(votes).collect();
                let forward_tokens = rows.iter().map(|row| row.token_ids.len()).sum();
                Continuations { rows, scores: Vec::new(), forward_tokens }
            })
            .collect())
    }
}

/// The token ids of a prompt of text, put through the chat template where the configuration asks
/// for it, and with the opening tag after it where the thought begins with what is generated and the
/// template has not put it there.
///
/// # Errors
/// A model without a tokenizer, a template or tokenizer that fails, or a tag that it splits.
pub fn encode_prompt(config: &Config, files: &ModelFiles, text: &str) -> Result<Vec<u32>, Error> {
    let mut ids = files.encode_prompt(text, config.generate.chat)?;
    let begun = |ids: &[u32]| {
        let tokenizer = files.tokenizer.as_ref();
        tokenizer.is_some_and(|it| it.decode(ids).trim_end().ends_with(&config.think.open))
    };
    if config.think.begin && !begun(&ids) {
        ids.extend(tag(config, files.tokenizer.as_ref(), "think.open", &config.think.open)?);
    }
    Ok(ids)
}

/// How a row is divided into thoughts and an answer; none where all of it is a thought.
fn thinking(config: &Config, tokenizer: Option<&Tokenizer>) -> Result<Option<Thinking>, Error> {
    let think = &config.think;
    let span = match think.span {
        SpanKind::Everywhere if config.gate.kind == GateKind::Open => return Ok(None),
        SpanKind::Everywhere => Span::Everywhere,
        SpanKind::First => Span::First(think.first),
        SpanKind::Tags => Span::Tags {
            open: tag(config, tokenizer, "think.open", &think.open)?,
            close: tag(config, tokenizer, "think.close", &think.close)?,
        },
    };
    let answer = config.answer.manner()?;
    Ok(Some(Thinking { span, gate: gate(config, tokenizer)?, answer }))
}

fn gate(config: &Config, tokenizer: Option<&Tokenizer>) -> Result<Gate, Error> {
    let gate = &config.gate;
    if gate.kind == GateKind::Open {
        return Ok(Gate::Open);
    }
    let hard_ids = match gate.hard.is_empty() {
        true => BTreeSet::new(),
        false => {
            let missing = "`gate.hard` names tokens by their text, and the model has no tokenizer";
            let missing = || soft_model::Error::NoText(missing.to_owned());
            tokens_of(tokenizer.ok_or_else(missing)?, &gate.hard)
        }
    };
    if gate.kind == GateKind::Entropy {
        let (of, threshold) = (gate.entropy.into(), gate.threshold);
        return Ok(Gate::Entropy { of, threshold, hard_ids });
    }
    // A tag is needed only where something of it is fed.
    let tag = |share: f64, key, text: &str| match share < 1.0 || gate.max_switches > 0 {
        true => tag(config, tokenizer, key, text),
        false => Ok(Vec::new()),
    };
    Ok(Gate::Switch(Switch {
        window: gate.window,
        max_switches: (gate.max_switches > 0).then_some(gate.max_switches),
        enter: gate.enter,
        leave: gate.leave,
        open: tag(gate.enter, "think.open", &config.think.open)?,
        close: tag(gate.leave, "think.close", &config.think.close)?,
        hard_ids,
    }))
}

/// Tokens whose text, blanks around it aside, is one of `texts`.
fn tokens_of(tokenizer: &Tokenizer, texts: &[String]) -> BTreeSet<u32> {
    let wanted: BTreeSet<&str> = texts.iter().map(|text| text.trim()).collect();
    let ids = 0..tokenizer.vocab_len() as u32;
    let is_wanted =
        |&id: &u32| tokenizer.decode_token(id).is_some_and(|text| wanted.contains(text.trim()));
    ids.filter(is_wanted).collect()
}

/// The tokens of a tag; none of an empty one.
fn tag(
    config: &Config,
    tokenizer: Option<&Tokenizer>,
    key: &str,
    text: &str,
) -> Result<Vec<u32>, Error> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    if let Some(id) = tokenizer.and_then(|tokenizer| tokenizer.token_id(text)) {
        return Ok(vec![id]);
    }
    match tokenizer {
        Some(tokenizer) if config.think.split_tags => Ok(tokenizer.encode(text, false)?),
        _ => Err(Error::Model(soft_model::Error::NoText(format!(
            "`{key}` is {text:?}, which is not one token of this model's tokenizer; name a tag \
             that is, accept several tokens with think.split_tags=true, or do without it \
             (`think.span` \"first\"; for a switch `gate.enter` and `gate.leave` 1)"
        )))),
    }
}
