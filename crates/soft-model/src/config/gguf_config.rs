//! The header of a GGUF file to [`ModelConfig`].

use std::f64::consts::TAU;

use crate::Error;
use crate::config::hf_rope::DEFAULT_THETA;
use crate::config::{Activation, Family, ModelConfig, Positions, RopeScaling, validate};
use crate::gguf::{Gguf, GgufValue};
use crate::quants::dequantise;
use crate::tokenizer::CONTROL;

/// Frequency divisors of Llama 3.1, stored as a tensor instead of as settings.
const ROPE_FREQS: &str = "rope_freqs.weight";

pub(super) fn read(gguf: &Gguf) -> Result<ModelConfig, Error> {
    let arch = Arch::of(gguf)?;
    let biased = |tensor: &str| gguf.tensors().contains_key(&format!("blk.0.{tensor}.bias"));
    let d_model = arch.required("embedding_length")?;
    let n_heads = arch.required("attention.head_count")?;
    let gpt2 = arch.family == Family::Gpt2;
    // Llama's class has all attention biases or none; those of Qwen2 are these three.
    let family = match arch.family {
        Family::Llama if biased("attn_q") && !biased("attn_output") => Family::Qwen2,
        family => family,
    };
    // The biases that the class of transformers has: others are unexpected tensors, and those that
    // it has and the file has not are missing ones.
    let (qkv_bias, output_bias, mlp_bias) = match family {
        Family::Gpt2 => (true, true, true),
        Family::Qwen2 => (true, false, false),
        Family::Qwen3 => (biased("attn_q"), biased("attn_q"), false),
        Family::Llama | Family::Mistral => (biased("attn_q"), biased("attn_q"), biased("ffn_up")),
    };
    let epsilon =
        if gpt2 { "attention.layer_norm_epsilon" } else { "attention.layer_norm_rms_epsilon" };
    let mut config = ModelConfig {
        family,
        vocab_size: vocab_size(gguf)?,
        d_model,
        d_ff: arch.required("feed_forward_length")?,
        n_layers: arch.required("block_count")?,
        n_heads,
        n_kv_heads: arch.size("attention.head_count_kv")?.unwrap_or(n_heads),
        head_dim: arch.head_dim(d_model, n_heads)?,
        max_positions: arch.required("context_length")?,
        norm_eps: arch.number(epsilon)?.unwrap_or(1e-5),
        positions: Positions::Learned,
        activation: if gpt2 { Activation::GeluTanh } else { Activation::Silu },
        qkv_bias,
        output_bias,
        mlp_bias,
        qk_norm: family == Family::Qwen3,
        sliding_window: None,
        tied_embeddings: tied(gguf),
        dropout: 0.0,
        bos_id: gguf.token_id("tokenizer.ggml.bos_token_id"),
        eos_ids: eos_ids(gguf),
        pad_id: gguf.token_id("tokenizer.ggml.padding_token_id"),
    };
    if !gpt2 {
        config.positions = arch.rotary(config.head_dim, config.max_positions)?;
    }
    drop_ids_outside(&mut config);
    validate::validate(&config)
        .map_err(|refusal| Error::config(gguf.path(), arch.key(refusal.field), refusal.problem))?;
    Ok(config)
}

fn drop_ids_outside(config: &mut ModelConfig) {
    let vocab_size = config.vocab_size;
    let inside = |id: &u32| (*id as usize) < vocab_size;
    config.bos_id = config.bos_id.filter(inside);
    config.pad_id = config.pad_id.filter(inside);
    config.eos_ids.retain(inside);
}

/// End of text and end of turn: those that the metadata names, then control tokens that close a
/// turn in every model that has them, as llama.cpp takes them. `<|endoftext|>` is not among them:
/// chat models have it for padding or between documents, and transformers goes on after it.
fn eos_ids(gguf: &Gguf) -> Vec<u32> {
    const END_OF_TURN: [&str; 4] = ["<|eot_id|>", "<|im_end|>", "<|eom_id|>", "<end_of_turn>"];
    let named = ["eos_token_id", "eot_token_id", "eom_token_id"]
        .iter()
        .filter_map(|key| gguf.token_id(&format!("tokenizer.ggml.{key}")));
    let mut ids: Vec<u32> = Vec::new();
    let mut add = |id| {
        if !ids.contains(&id) {
            ids.push(id);
        }
    };
    named.for_each(&mut add);
    if let (Some(GgufValue::Texts(tokens)), Some(GgufValue::Integers(types))) =
        (gguf.get("tokenizer.ggml.tokens"), gguf.get("tokenizer.ggml.token_type"))
    {
        let known = tokens.iter().zip(types).enumerate().filter(|(_, (token, kind))| {
            **kind == CONTROL && END_OF_TURN.contains(&token.as_str())
        });
        known.filter_map(|(id, _)| u32::try_from(id).ok()).for_each(&mut add);
    }
    ids
}

fn vocab_size(gguf: &Gguf) -> Result<usize, Error> {
    match gguf.tensors().get("token_embd.weight").map(|tensor| &tensor.shape[..]) {
        Some(&[rows, _]) => Ok(rows),
        Some(shape) => {
            let problem =
                format!("tensor `token_embd.weight` has shape {shape:?}, expected two axes");
            Err(Error::format(gguf.path(), "GGUF", problem))
        }
        None => Err(Error::format(gguf.path(), "GGUF", "tensor `token_embd.weight` is missing")),
    }
}

/// No output matrix, or (GPT-2 of older converters) a copy of the embedding.
fn tied(gguf: &Gguf) -> bool {
    let tensors = gguf.tensors();
    match (tensors.get("output.weight"), tensors.get("token_embd.weight")) {
        (Some(output), Some(embedding)) => {
            output.stored == embedding.stored
                && gguf.file()[output.range.clone()] == gguf.file()[embedding.range.clone()]
        }
        (None, _) => true,
        (Some(_), None) => false,
    }
}

/// The architecture's name is the prefix of its keys.
struct Arch<'a> {
    gguf: &'a Gguf,
    name: &'a str,
    family: Family,
}

impl<'a> Arch<'a> {
    fn of(gguf: &'a Gguf) -> Result<Self, Error> {
        let name = gguf.text("general.architecture").unwrap_or("none");
        let family = match name {
            "llama" => Family::Llama,
            "qwen2" => Family::Qwen2,
            "qwen3" => Family::Qwen3,
            "gpt2" => Family::Gpt2,
            other => {
                let problem = format!("found {other:?}, supported are llama, qwen2, qwen3, gpt2");
                return Err(Error::config(gguf.path(), "general.architecture", problem));
            }
        };
        let arch = Self { gguf, name, family };
        match arch.size("expert_count")? {
            None | Some(0) => Ok(arch),
            Some(n) => arch.fail("expert_count", format!("found {n}, experts are not supported")),
        }
    }

    /// The file's spelling of a field or of the rest of a key.
    fn key(&self, field: &str) -> String {
        let rest = match field {
            "vocab_size" => return "token_embd.weight".to_owned(),
            "d_model" => "embedding_length",
            "d_ff" => "feed_forward_length",
            "n_layers" => "block_count",
            "n_heads" => "attention.head_count",
            "n_kv_heads" => "attention.head_count_kv",
            "head_dim" => "attention.key_length",
            "max_positions" => "context_length",
            "norm_eps" => "attention.layer_norm_rms_epsilon",
            "rope_theta" => "rope.freq_base",
            "rope_scaling" => "rope.scaling",
            "rope_original" => "rope.scaling.original_context_length",
            other => other,
        };
        format!("{}.{rest}", self.name)
    }

    fn fail<T>(&self, rest: &str, problem: impl Into<String>) -> Result<T, Error> {
        Err(Error::config(self.gguf.path(), self.key(rest), problem))
    }

    fn get(&self, rest: &str) -> Option<&'a GgufValue> {
        self.gguf.get(&format!("{}.{rest}", self.name))
    }

    /// A size; a list with one number a layer is read where all are equal.
    fn size(&self, rest: &str) -> Result<Option<usize>, Error> {
        let number = match self.get(rest) {
            None => return Ok(None),
            Some(GgufValue::Unsigned(number)) => i64::try_from(*number).ok(),
            Some(GgufValue::Signed(number)) => Some(*number),
            Some(GgufValue::Integers(list)) => {
                list.first().copied().filter(|first| list.iter().all(|other| other == first))
            }
            Some(_) => None,
        };
        match number.and_then(|number| usize::try_from(number).ok()) {
            Some(size) => Ok(Some(size)),
            None => self.fail(rest, "expected one whole number, the same for all layers"),
        }
    }

    fn required(&self, rest: &str) -> Result<usize, Error> {
        match self.size(rest)? {
            Some(size) => Ok(size),
            None => self.fail(rest, "is missing, expected a whole number"),
        }
    }

    fn number(&self, rest: &str) -> Result<Option<f64>, Error> {
        match self.get(rest) {
            None => Ok(None),
            Some(GgufValue::Float(number)) => Ok(Some(*number)),
            Some(_) => self.fail(rest, "expected a float"),
        }
    }

    fn head_dim(&self, d_model: usize, n_heads: usize) -> Result<usize, Error> {
        let head_dim = match self.size("attention.key_length")? {
            Some(head_dim) => head_dim,
            None if n_heads > 0 && d_model.is_multiple_of(n_heads) => d_model / n_heads,
            None => {
                let problem = format!("found {n_heads}, which does not divide width {d_model}");
                return self.fail("attention.head_count", problem);
            }
        };
        for key in ["attention.value_length", "rope.dimension_count"] {
            if let Some(found) = self.size(key)?
                && found != head_dim
                && self.family != Family::Gpt2
            {
                return self.fail(key, format!("found {found}, only {head_dim} is supported"));
            }
        }
        Ok(head_dim)
    }

    fn rotary(&self, head_dim: usize, max_positions: usize) -> Result<Positions, Error> {
        let theta = self.number("rope.freq_base")?.unwrap_or(DEFAULT_THETA);
        let original =
            self.size("rope.scaling.original_context_length")?.unwrap_or(max_positions.min(8192));
        let kind = match self.get("rope.scaling.type") {
            None => "linear",
            Some(GgufValue::Text(kind)) => kind,
            Some(_) => return self.fail("rope.scaling.type", "expected a string"),
        };
        let divisors = self.frequency_divisors(head_dim)?;
        if !(matches!(kind, "none" | "linear") || (kind == "llama3" && divisors.is_some())) {
            let problem = format!("found {kind:?}, supported are none and linear");
            return self.fail("rope.scaling.type", problem);
        }
        let factor = if kind == "none" { None } else { self.linear_factor()? };
        let scaling = match (factor, divisors) {
            (Some((key, factor)), Some(_)) => {
                let problem =
                    format!("found {factor} beside `{ROPE_FREQS}`: only one of the two can scale");
                return self.fail(key, problem);
            }
            (None, Some(divisors)) => Some(self.llama3(&divisors, theta, original)?),
            (Some((_, factor)), None) => Some(RopeScaling::Linear { factor }),
            (None, None) => None,
        };
        Ok(Positions::Rotary { theta, scaling })
    }

    /// The factor that positions are divided by and its key, where it is not 1.
    fn linear_factor(&self) -> Result<Option<(&'static str, f64)>, Error> {
        for key in ["rope.scaling.factor", "rope.scale_linear"] {
            if let Some(factor) = self.number(key)? {
                return Ok((factor != 1.0).then_some((key, factor)));
            }
        }
        Ok(None)
    }

    fn frequency_divisors(&self, head_dim: usize) -> Result<Option<Vec<f32>>, Error> {
        let Some(tensor) = self.gguf.tensors().get(ROPE_FREQS) else { return Ok(None) };
        if tensor.shape != [head_dim / 2] {
            let problem = format!(
                "tensor `{ROPE_FREQS}` has shape {:?}, expected [{}]",
                tensor.shape,
                head_dim / 2
            );
            return Err(Error::format(self.gguf.path(), "GGUF", problem));
        }
        let mut divisors = vec![0.0; head_dim / 2];
        dequantise(tensor.stored, &self.gguf.file()[tensor.range.clone()], &mut divisors);
        Ok(Some(divisors))
    }

    /// The settings that give these divisors: llama.cpp stores the divisors only.
    fn llama3(
        &self,
        divisors: &[f32],
        theta: f64,
        original_max_positions: usize,
    ) -> Result<RopeScaling, Error> {
        let factor = f64::from(divisors.iter().copied().fold(1.0f32, f32::max));
        let (low_freq_factor, high_freq_factor) = (1.0, 4.0);
        let context = original_max_positions as f64;
        let fits = divisors.iter().enumerate().all(|(i, &found)| {
            let wavelength = TAU * theta.powf(i as f64 / divisors.len() as f64);
            let blend =
                (context / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
            let blend = blend.clamp(0.0, 1.0);
            let expected = 1.0 / ((1.0 - blend) / factor + blend);
            (f64::from(found) / expected - 1.0).abs() < 1e-3
        });
        if fits {
            return Ok(RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_positions,
            });
        }
        let problem = format!(
            "tensor `{ROPE_FREQS}` holds other divisors than those of Llama 3.1 to 3.3 (factor \
             {factor}, original context {original_max_positions}); use the safetensors of this model"
        );
        Err(Error::config(self.gguf.path(), "rope.scaling", problem))
    }
}
