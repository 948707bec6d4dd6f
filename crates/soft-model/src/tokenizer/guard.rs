//! Loading a `tokenizer.json` that nobody vouches for.
//!
//! The `tokenizers` library (0.23) panics on merges longer than every token, on a subword prefix
//! longer than a merged token, and, when it encodes, on a truncation stride not below the
//! maximum length and on a template around the text that names what is not there: each is looked
//! for here first, and a panic that is left is caught.

use std::any::Any;
use std::collections::HashMap;
use std::panic::catch_unwind;
use std::path::Path;

use serde_json::Value;

use crate::Error;

/// Largest file that is read: the biggest published vocabularies take 35 MB.
pub(super) const MAX_BYTES: u64 = 64 << 20;

/// The tokenizer, and whether its tokens are bytes in GPT-2's alphabet.
pub(super) fn load(bytes: &[u8], path: &Path) -> Result<(tokenizers::Tokenizer, bool), Error> {
    let fail = |problem: String| Error::tokenizer(path, problem);
    if bytes.len() as u64 > MAX_BYTES {
        return Err(fail(format!("{} bytes are over the limit of {MAX_BYTES}", bytes.len())));
    }
    let json: Value = serde_json::from_slice(bytes).map_err(|error| fail(error.to_string()))?;
    check_merges(&json["model"]).map_err(fail)?;
    check_truncation(&json["truncation"]).map_err(fail)?;
    let byte_level = names_byte_level(&json["decoder"]);
    let loaded = catch_unwind(|| tokenizers::Tokenizer::from_bytes(bytes));
    let mut tokenizer = match loaded {
        Ok(Ok(tokenizer)) => tokenizer,
        Ok(Err(error)) => return Err(fail(error.to_string())),
        Err(panic) => return Err(fail(panic_text(&*panic))),
    };
    tokenizer.with_truncation(None).map_err(|error| fail(error.to_string()))?;
    tokenizer.with_padding(None);
    check_added(&json["added_tokens"], &tokenizer).map_err(fail)?;
    check_ids(&tokenizer).map_err(fail)?;
    check_put_around(&tokenizer).map_err(fail)?;
    Ok((tokenizer, byte_level))
}

/// What a caught panic said.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown");
    format!("the tokenizers library panicked: {text}")
}

fn check_merges(model: &Value) -> Result<(), String> {
    let (Some(vocab), Some(merges)) = (model["vocab"].as_object(), model["merges"].as_array())
    else {
        return Ok(());
    };
    let longest = vocab.keys().map(String::len).max().unwrap_or(0);
    let prefix = model["continuing_subword_prefix"].as_str().unwrap_or("").len();
    for (index, merge) in merges.iter().enumerate() {
        let pair = match merge {
            Value::String(text) if text.starts_with("#version") => continue,
            Value::String(text) => text.split_once(' '),
            pair => pair[0].as_str().zip(pair[1].as_str()),
        };
        let Some((left, right)) = pair else {
            return Err(format!("merge {index} is {merge}, expected two tokens"));
        };
        if !right.is_char_boundary(prefix) {
            let problem = "shorter than continuing_subword_prefix";
            return Err(format!("merge {index}: token {right:?} is {problem}"));
        }
        if left.len() + right.len() - prefix > longest {
            return Err(format!(
                "merge {index} of {left:?} and {right:?} is longer than any token"
            ));
        }
    }
    Ok(())
}

fn check_truncation(truncation: &Value) -> Result<(), String> {
    let (stride, max_length) = (truncation["stride"].as_u64(), truncation["max_length"].as_u64());
    match stride.zip(max_length) {
        Some((stride, max_length)) if stride >= max_length => {
            Err(format!("truncation.stride is {stride}, expected below max_length {max_length}"))
        }
        _ => Ok(()),
    }
}

/// The library numbers added tokens itself, and only warns where the file has other numbers: those
/// that the embedding was trained with.
fn check_added(added: &Value, tokenizer: &tokenizers::Tokenizer) -> Result<(), String> {
    for token in added.as_array().into_iter().flatten() {
        let (Some(content), Some(id)) = (token["content"].as_str(), token["id"].as_u64()) else {
            continue;
        };
        match tokenizer.token_to_id(content) {
            Some(found) if u64::from(found) != id => {
                return Err(format!(
                    "added token {content:?} has id {id}, which is another token's or leaves a gap: \
                     its place in the vocabulary is {found}"
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Of two tokens with one id the library forgets one when it is saved, and in one of its maps.
fn check_ids(tokenizer: &tokenizers::Tokenizer) -> Result<(), String> {
    let vocab = tokenizer.get_vocab(true);
    let mut by_id = HashMap::with_capacity(vocab.len());
    for (token, id) in &vocab {
        if let Some(other) = by_id.insert(id, token) {
            let (first, second) = (token.min(other), token.max(other));
            return Err(format!("tokens {first:?} and {second:?} have both id {id}"));
        }
    }
    Ok(())
}

/// What is put before and after a text has to be there. The library's own reading of the file is
/// looked at: it takes a part without a known `type` for whatever its other fields fit.
fn check_put_around(tokenizer: &tokenizers::Tokenizer) -> Result<(), String> {
    let processor = serde_json::to_value(tokenizer.get_post_processor());
    let ids = put_around(&processor.map_err(|error| error.to_string())?)?;
    match ids.iter().find(|&&id| tokenizer.id_to_token(id).is_none()) {
        Some(id) => Err(format!("post_processor puts id {id} around a text: no token has it")),
        None => Ok(()),
    }
}

/// The ids that a post-processor puts before and after a text.
fn put_around(processor: &Value) -> Result<Vec<u32>, String> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match processor["type"].as_str() {
        Some("Sequence") => {
            let parts = processor["processors"].as_array().into_iter().flatten();
            Ok(parts.map(put_around).collect::<Result<Vec<_>, _>>()?.concat())
        }
        Some("BertProcessing" | "RobertaProcessing") => {
            Ok(["sep", "cls"].iter().filter_map(|name| id(&processor[name][1])).collect())
        }
        Some("TemplateProcessing") => {
            let mut ids = Vec::new();
            for piece in processor["single"].as_array().into_iter().flatten() {
                if piece["Sequence"]["id"] == "B" {
                    return Err("post_processor.single has a second text".to_owned());
                }
                let Some(name) = piece["SpecialToken"]["id"].as_str() else { continue };
                let Some(token) = processor["special_tokens"].get(name) else {
                    return Err(format!(
                        "post_processor.single has {name:?}, no special token of it"
                    ));
                };
                ids.extend(token["ids"].as_array().into_iter().flatten().filter_map(id));
            }
            Ok(ids)
        }
        _ => Ok(Vec::new()),
    }
}

/// Whether a decoder is, or holds, the byte-level one.
fn names_byte_level(decoder: &Value) -> bool {
    decoder["type"] == "ByteLevel"
        || decoder["decoders"].as_array().is_some_and(|list| list.iter().any(names_byte_level))
}
