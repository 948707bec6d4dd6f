//! The tokens of a task.

use serde_json::{Map, Value, json};

/// Ids of tokens with a part of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpecialTokens {
    /// Padding; never fed and never scored.
    pub pad: u32,
    /// Opens every line.
    pub bos: u32,
    /// Closes the lines without soft thoughts; generation stops at it.
    pub eos: u32,
}

/// Names of tokens by id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    names: Vec<String>,
    special: SpecialTokens,
}

impl Tokens {
    /// The tokens with these names, in the order of their ids.
    ///
    /// # Panics
    /// If two have one name, a name is empty or holds white space, or a special id has no name.
    #[must_use]
    pub fn new(names: Vec<String>, special: SpecialTokens) -> Self {
        let is_word = |name: &&String| !name.is_empty() && !name.contains(char::is_whitespace);
        assert!(names.iter().all(|name| is_word(&name)), "a name is one word");
        let different: std::collections::HashSet<&String> = names.iter().collect();
        assert_eq!(different.len(), names.len(), "every token has a name of its own");
        let SpecialTokens { pad, bos, eos } = special;
        assert!([pad, bos, eos].into_iter().all(|id| (id as usize) < names.len()), "it is named");
        Self { names, special }
    }

    /// Number of tokens.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Never: the special tokens are there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The special tokens.
    #[must_use]
    pub fn special(&self) -> SpecialTokens {
        self.special
    }

    /// The name of a token; `None` outside the vocabulary.
    #[must_use]
    pub fn name(&self, id: u32) -> Option<&str> {
        self.names.get(id as usize).map(String::as_str)
    }

    /// The id of a name.
    #[must_use]
    pub fn id(&self, name: &str) -> Option<u32> {
        self.names.iter().position(|own| own == name).map(|place| place as u32)
    }

    /// The names of a line, parted by spaces; ids outside the vocabulary become `?`.
    #[must_use]
    pub fn text(&self, ids: &[u32]) -> String {
        let names: Vec<&str> = ids.iter().map(|&id| self.name(id).unwrap_or("?")).collect();
        names.join(" ")
    }

    /// A `tokenizer.json` (Hugging Face format): words split at white space, one token a word.
    /// There is no unknown token, so a word that is not in the vocabulary is an error.
    #[must_use]
    pub fn tokenizer_json(&self) -> Value {
        let SpecialTokens { pad, bos, eos } = self.special;
        let mut special = vec![pad, bos, eos];
        special.sort_unstable();
        special.dedup();
        let added: Vec<Value> = special
            .into_iter()
            .map(|id| {
                json!({
                    "id": id, "content": self.name(id), "single_word": false, "lstrip": false,
                    "rstrip": false, "normalized": false, "special": true,
                })
            })
            .collect();
        let names = self.names.iter().enumerate();
        json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
            "normalizer": null, "pre_tokenizer": {"type": "WhitespaceSplit"},
            "post_processor": null, "decoder": null,
            "model": {
                "type": "WordLevel",
                "vocab": names.map(|(id, name)| (name.clone(), json!(id))).collect::<Map<_, _>>(),
                "unk_token": "<UNK>",
            },
        })
    }
}
