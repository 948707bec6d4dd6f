//! The vocabulary of a GGUF file as a `tokenizer.json`.

use serde_json::{Map, Value, json};

use crate::Error;
use crate::gguf::{Gguf, GgufValue};
use crate::tokenizer::sentence_piece;
use crate::tokenizer::special::SpecialTokens;

/// Numbers of `tokenizer.ggml.token_type`.
const UNKNOWN: i64 = 2;
pub(crate) const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;
pub(super) const BYTE: i64 = 6;

/// Pieces of Llama 3: groups of up to three digits.
const LLAMA3_PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Pieces of Qwen2 and Qwen3: single digits.
const QWEN2_PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The lists of a vocabulary.
pub(super) struct Vocab<'a> {
    pub(super) tokens: &'a [String],
    types: &'a [i64],
}

impl Vocab<'_> {
    pub(super) fn kind(&self, id: usize) -> i64 {
        self.types.get(id).copied().unwrap_or(1)
    }

    /// Tokens that are cut out of a text before anything else.
    pub(super) fn is_added(&self, id: usize) -> bool {
        matches!(self.kind(id), CONTROL | USER_DEFINED | UNKNOWN)
    }

    fn ids(&self) -> Map<String, Value> {
        self.tokens.iter().enumerate().map(|(id, token)| (token.clone(), json!(id))).collect()
    }

    fn added_tokens(&self) -> Vec<Value> {
        let added = self.tokens.iter().enumerate().filter(|(id, _)| self.is_added(*id));
        added
            .map(|(id, token)| {
                json!({
                    "id": id, "content": token, "single_word": false, "lstrip": false,
                    "rstrip": false, "normalized": false,
                    "special": self.kind(id) != USER_DEFINED,
                })
            })
            .collect()
    }
}

/// `None` where the file has no tokenizer.
pub(super) fn tokenizer_json(gguf: &Gguf) -> Result<Option<Value>, Error> {
    let Some(kind) = gguf.text("tokenizer.ggml.model") else { return Ok(None) };
    let Some(GgufValue::Texts(tokens)) = gguf.get("tokenizer.ggml.tokens") else {
        return Ok(None);
    };
    let types = match gguf.get("tokenizer.ggml.token_type") {
        Some(GgufValue::Integers(types)) => &types[..],
        _ => &[],
    };
    let vocab = Vocab { tokens, types };
    let json = match kind {
        "gpt2" => byte_pair(gguf, &vocab)?,
        "llama" => sentence_pieces(gguf, &vocab)?,
        other => {
            let problem = format!("kind {other:?} is not supported, only gpt2 and llama are");
            return Err(unsupported(gguf, problem));
        }
    };
    Ok(Some(json))
}

pub(super) fn special_tokens(gguf: &Gguf) -> SpecialTokens {
    let token = |name: &str| token_text(gguf, &format!("tokenizer.ggml.{name}_token_id"));
    SpecialTokens {
        bos: token("bos"),
        eos: token("eos"),
        pad: token("padding"),
        unk: token("unknown"),
    }
}

fn token_text(gguf: &Gguf, key: &str) -> Option<String> {
    let Some(GgufValue::Texts(tokens)) = gguf.get("tokenizer.ggml.tokens") else { return None };
    tokens.get(gguf.token_id(key)? as usize).cloned()
}

fn unsupported(gguf: &Gguf, problem: String) -> Error {
    Error::TokenizerUnsupported { path: gguf.path().to_owned(), problem }
}

fn byte_pair(gguf: &Gguf, vocab: &Vocab<'_>) -> Result<Value, Error> {
    let Some(GgufValue::Texts(lines)) = gguf.get("tokenizer.ggml.merges") else {
        return Err(Error::tokenizer(gguf.path(), "tokenizer.ggml.merges is missing"));
    };
    let mut merges = Vec::with_capacity(lines.len());
    for line in lines {
        match line.split_once(' ') {
            Some((left, right)) => merges.push(json!([left, right])),
            None => {
                let problem = format!("merge {line:?}, expected two tokens and a space");
                return Err(Error::tokenizer(gguf.path(), problem));
            }
        }
    }
    let pre = gguf.text("tokenizer.ggml.pre").unwrap_or("none");
    let Some((normalizer, pre_tokenizer)) = pieces(pre) else {
        let problem = format!(
            "pre-tokenizer {pre:?} is not supported, only smollm, llama-bpe, qwen2 and gpt-2 are"
        );
        return Err(unsupported(gguf, problem));
    };
    let llama3 = is_llama3(pre);
    Ok(json!({
        "version": "1.0",
        "added_tokens": vocab.added_tokens(),
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": around(gguf, llama3),
        "decoder": byte_level(true),
        "model": {
            "type": "BPE", "fuse_unk": false, "byte_fallback": false, "ignore_merges": llama3,
            "vocab": vocab.ids(), "merges": merges,
        },
    }))
}

fn is_llama3(pre: &str) -> bool {
    matches!(pre, "llama-bpe" | "llama3" | "llama-v3")
}

/// Normalizer and pre-tokenizer by llama.cpp's name.
fn pieces(pre: &str) -> Option<(Value, Value)> {
    let split = |pattern: &str| {
        json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated",
             "invert": false},
            byte_level(false),
        ]})
    };
    match pre {
        "smollm" => {
            let digits = json!({"type": "Digits", "individual_digits": true});
            let both = [digits, byte_level(true)];
            Some((Value::Null, json!({"type": "Sequence", "pretokenizers": both})))
        }
        "gpt-2" => Some((Value::Null, byte_level(true))),
        "qwen2" | "deepseek-r1-qwen" => Some((json!({"type": "NFC"}), split(QWEN2_PATTERN))),
        pre if is_llama3(pre) => Some((Value::Null, split(LLAMA3_PATTERN))),
        _ => None,
    }
}

fn byte_level(use_regex: bool) -> Value {
    json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
        "use_regex": use_regex,
    })
}

fn sentence_pieces(gguf: &Gguf, vocab: &Vocab<'_>) -> Result<Value, Error> {
    let scores = match gguf.get("tokenizer.ggml.scores") {
        Some(GgufValue::Floats(scores)) if scores.len() == vocab.tokens.len() => scores,
        _ => {
            let problem = "tokenizer.ggml.scores is missing or not as long as the tokens";
            return Err(Error::tokenizer(gguf.path(), problem));
        }
    };
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"});
    let prefixed = gguf.flag("tokenizer.ggml.add_space_prefix").unwrap_or(true);
    let (normalizers, strip) = if prefixed {
        (vec![json!({"type": "Prepend", "prepend": "\u{2581}"}), replace], 1)
    } else {
        (vec![replace], 0)
    };
    let merges = sentence_piece::merges(vocab, scores)
        .map_err(|problem| Error::tokenizer(gguf.path(), problem))?;
    let unknown = (0..vocab.tokens.len()).find(|&id| vocab.kind(id) == UNKNOWN);
    Ok(json!({
        "version": "1.0",
        "added_tokens": vocab.added_tokens(),
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": null,
        "post_processor": around(gguf, true),
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": strip, "stop": 0},
        ]},
        "model": {
            "type": "BPE", "unk_token": unknown.map(|id| &vocab.tokens[id]), "fuse_unk": true,
            "byte_fallback": true, "ignore_merges": false,
            "vocab": vocab.ids(), "merges": merges,
        },
    }))
}

/// The tokens put before and after a text; `bos_by_default` is llama.cpp's rule for the kind.
fn around(gguf: &Gguf, bos_by_default: bool) -> Value {
    let wanted = |flag: &str, default, id: &str| {
        let wanted = gguf.flag(&format!("tokenizer.ggml.{flag}")).unwrap_or(default);
        let key = format!("tokenizer.ggml.{id}");
        if wanted { token_text(gguf, &key).zip(gguf.token_id(&key)) } else { None }
    };
    let bos = wanted("add_bos_token", bos_by_default, "bos_token_id");
    let eos = wanted("add_eos_token", false, "eos_token_id");
    if bos.is_none() && eos.is_none() {
        return Value::Null;
    }
    let special = |token: &(String, u32)| json!({"SpecialToken": {"id": token.0, "type_id": 0}});
    let mut single: Vec<Value> = bos.iter().map(special).collect();
    single.push(json!({"Sequence": {"id": "A", "type_id": 0}}));
    single.extend(eos.iter().map(special));
    let known: Map<String, Value> = bos
        .iter()
        .chain(&eos)
        .map(|(text, id)| (text.clone(), json!({"id": text, "ids": [id], "tokens": [text]})))
        .collect();
    let mut pair = single.clone();
    pair.push(json!({"Sequence": {"id": "B", "type_id": 1}}));
    json!({
        "type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": known,
    })
}
