//! The merges behind the scores of a SentencePiece byte-pair vocabulary.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::tokenizer::gguf_vocab::{BYTE, Vocab};
use crate::tokenizer::guard::MAX_BYTES;

/// Every way to join two tokens into a third, the best score first.
///
/// SentencePiece joins the neighbours whose union scores best; a list of merges in that order
/// does the same. Order and ties follow `generate_merges` of transformers'
/// `convert_slow_tokenizer.py`.
///
/// # Errors
/// Merges of more text than a `tokenizer.json` may have: a few long tokens of one letter can be
/// joined in millions of ways.
pub(super) fn merges(vocab: &Vocab<'_>, scores: &[f64]) -> Result<Vec<Value>, String> {
    let joins = |id: usize| !vocab.is_added(id) && vocab.kind(id) != BYTE;
    let ids: HashMap<&str, usize> = vocab
        .tokens
        .iter()
        .enumerate()
        .filter(|(id, _)| joins(*id))
        .map(|(id, token)| (token.as_str(), id))
        .collect();
    let mut found = Vec::new();
    let mut bytes = 0;
    for (id, token) in vocab.tokens.iter().enumerate().filter(|(id, _)| joins(*id)) {
        let mut ways: Vec<_> = token
            .char_indices()
            .skip(1)
            .filter_map(|(at, _)| {
                let (left, right) = token.split_at(at);
                Some((*ids.get(left)?, *ids.get(right)?, left, right))
            })
            .collect();
        bytes += ways.len() * token.len();
        if bytes as u64 > MAX_BYTES {
            return Err(format!(
                "the merges of this vocabulary are over the limit of {MAX_BYTES} bytes, with those \
                 of token {id} and {} bytes",
                token.len()
            ));
        }
        ways.sort_by_key(|&(left_id, right_id, ..)| (left_id, right_id));
        found.extend(ways.into_iter().map(|(_, _, left, right)| (scores[id], left, right)));
    }
    let lengths = |left: &str, right: &str| (left.chars().count(), right.chars().count());
    found.sort_by(|a, b| {
        b.0.total_cmp(&a.0).then_with(|| lengths(b.1, b.2).cmp(&lengths(a.1, a.2)))
    });
    Ok(found.into_iter().map(|(_, left, right)| json!([left, right])).collect())
}
