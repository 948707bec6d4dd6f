//! A byte-level tokenizer and chat templates in the idioms of published families.

use std::fs;
use std::path::Path;

use burn::tensor::DType;
use serde_json::{Value, json};
use soft_model::{ChatTemplate, Family, ModelConfig, Tokenizer, Transformer, save_safetensors};

use crate::{device, tiny_config};

/// Tokens beside the 256 bytes; the first is the last of a text.
pub const SPECIAL: [&str; 11] = [
    "</s>",
    "<s>",
    "<think>",
    "</think>",
    "<|im_start|>",
    "<|im_end|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<start_of_turn>",
    "<end_of_turn>",
];

/// ChatML, as Qwen and SmolLM have it.
pub const CHATML: &str = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// Headers around roles, as Llama 3 has them; it trims what is said.
pub const LLAMA3: &str = "{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}";

/// Roles that alternate, the assistant being called "model", as Gemma has it; it trims too.
pub const GEMMA: &str = "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate') }}{% endif %}{% if message['role'] == 'assistant' %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}";

/// ChatML that puts an empty thought before the last answer, as Qwen 3 does.
pub const INJECTING: &str = "{% for message in messages %}{% if message.role == 'assistant' and loop.last %}{{ '<|im_start|>assistant\n<think>\n\n</think>\n\n' + message.content + '<|im_end|>\n' }}{% else %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// ChatML that opens a thought for the model, as those of R1 do.
pub const OPENING: &str = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}";

/// Turns without a token that ends them.
pub const ENDLESS: &str = "{% for message in messages %}{{ message.role + ': ' + message.content + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}";

/// Ids 0..=255 are the bytes; then come [`SPECIAL`] and what a few merges make.
///
/// # Panics
/// Never: the text is valid.
pub fn tokenizer_json(special: &[&str]) -> Value {
    let printable = |byte: &u32| {
        matches!(char::from_u32(*byte), Some('!'..='~' | '\u{a1}'..='\u{ac}' | '\u{ae}'..='\u{ff}'))
    };
    let mut others = 256..;
    let mut vocab = serde_json::Map::new();
    for byte in 0..256_u32 {
        let code = if printable(&byte) { byte } else { others.next().expect("endless") };
        let character = char::from_u32(code).expect("below the surrogates");
        vocab.insert(character.to_string(), json!(byte));
    }
    let first = 256 + special.len();
    for (i, token) in special.iter().enumerate() {
        vocab.insert((*token).to_owned(), json!(256 + i));
    }
    // Merges over spaces, line ends and brackets, where borders lie.
    let merges = [["\u{120}", "a"], ["\u{10a}", "\u{10a}"], [">", "\u{10a}"], ["a", "a"]];
    for (i, [left, right]) in merges.iter().enumerate() {
        vocab.insert(format!("{left}{right}"), json!(first + i));
    }
    let added: Vec<Value> = special
        .iter()
        .enumerate()
        .map(|(i, token)| {
            json!({"id": 256 + i, "content": token, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true})
        })
        .collect();
    json!({
        "version": "1.0", "added_tokens": added, "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
            "use_regex": false},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
            "use_regex": false},
        "truncation": null, "padding": null,
        "model": {"type": "BPE", "vocab": vocab, "merges": merges},
    })
}

/// The tokenizer with these special tokens.
///
/// # Panics
/// If it cannot be read.
pub fn tokenizer(special: &[&str]) -> Tokenizer {
    let bytes = serde_json::to_vec(&tokenizer_json(special)).expect("JSON");
    Tokenizer::from_json(&bytes, "tokenizer.json".as_ref()).expect("a tokenizer")
}

/// A template with the tokens that it may name.
///
/// # Panics
/// If it does not compile.
pub fn template(source: &str) -> ChatTemplate {
    ChatTemplate::new(source, [("bos_token", "<s>"), ("eos_token", "</s>")]).expect("it compiles")
}

/// A folder with a tiny model and the tokenizer with these special tokens.
///
/// # Panics
/// If it cannot be written.
pub fn write_model(folder: &Path, special: &[&str]) {
    let shape = ModelConfig {
        vocab_size: 280,
        max_positions: 128,
        eos_ids: vec![256],
        ..tiny_config(Family::Llama)
    };
    let model = Transformer::from_seed(&shape, 1, &device(), DType::F32);
    fs::create_dir_all(folder).expect("a folder");
    let write = |name: &str, json: Value| {
        fs::write(folder.join(name), json.to_string()).expect("written");
    };
    write("config.json", model.config().to_hf());
    write("tokenizer.json", tokenizer_json(special));
    let weights = folder.join("model.safetensors");
    save_safetensors(&weights, &model.named_tensors()).expect("written");
}
