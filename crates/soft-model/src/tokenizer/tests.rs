//! The oracle's ids; files that make the library panic; vocabularies of GGUF.

use std::fs;

use serde_json::{Value, json};

use super::*;
use crate::gguf::tests::Builder;

fn load(json: &Value) -> Result<Tokenizer, Error> {
    Tokenizer::from_json(&serde_json::to_vec(json).unwrap(), Path::new("tokenizer.json"))
}

fn refused(json: &Value) -> String {
    let error = load(json).unwrap_err();
    assert_eq!(error.exit_code(), 4);
    error.to_string()
}

fn bpe(vocab: Value, merges: Value) -> Value {
    json!({
        "version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null,
        "post_processor": null, "decoder": null, "truncation": null, "padding": null,
        "model": {"type": "BPE", "vocab": vocab, "merges": merges},
    })
}

fn small() -> Value {
    bpe(json!({"a": 0, "b": 1, "ab": 2}), json!([["a", "b"]]))
}

/// Ids 0..=255 are the bytes in GPT-2's alphabet, then what a test adds.
fn byte_tokens() -> Vec<String> {
    let printable = |byte: &u32| {
        matches!(char::from_u32(*byte), Some('!'..='~' | '\u{a1}'..='\u{ac}' | '\u{ae}'..='\u{ff}'))
    };
    let mut others = 256..;
    (0..256)
        .map(|byte| if printable(&byte) { byte } else { others.next().unwrap() })
        .filter_map(char::from_u32)
        .map(String::from)
        .collect()
}

fn byte_gguf(pre: &str, added: &[(&str, i32)], merges: &[&str]) -> Builder {
    let mut tokens = byte_tokens();
    let mut types = vec![1; 256];
    for (token, kind) in added {
        tokens.push((*token).to_owned());
        types.push(*kind);
    }
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    Builder::default()
        .text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", pre)
        .texts("tokenizer.ggml.tokens", &tokens)
        .i32s("tokenizer.ggml.token_type", &types)
        .texts("tokenizer.ggml.merges", merges)
}

fn tokenizer(builder: Builder) -> Tokenizer {
    Tokenizer::from_gguf(&builder.open().unwrap()).unwrap().unwrap()
}

#[test]
fn t22_merges_longer_than_every_token_are_refused() {
    let error = refused(&bpe(json!({"a": 0, "bb": 1}), json!([["a", "bb"]])));
    assert_eq!(
        error,
        "tokenizer.json: tokenizer: merge 0 of \"a\" and \"bb\" is longer than any token"
    );
    assert!(refused(&bpe(json!({"a": 0, "bb": 1}), json!(["a bb"]))).contains("longer"));
}

#[test]
fn t22_a_subword_prefix_longer_than_a_merged_token_is_refused() {
    let mut json = small();
    json["model"]["continuing_subword_prefix"] = json!("####");
    assert!(refused(&json).contains("shorter than continuing_subword_prefix"));
}

#[test]
fn t22_a_stride_not_below_the_length_is_refused_and_other_truncation_is_left_out() {
    let mut json = small();
    json["truncation"] = json!({
        "direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 2,
    });
    assert!(refused(&json).contains("truncation.stride is 2, expected below max_length 2"));
    json["truncation"]["stride"] = json!(0);
    json["padding"] = json!({
        "strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
        "pad_type_id": 0, "pad_token": "a",
    });
    assert_eq!(load(&json).unwrap().encode("ababab", true).unwrap(), [2, 2, 2]);
}

#[test]
fn t22_broken_files_are_refused() {
    let path = Path::new("tokenizer.json");
    for bytes in [&b""[..], b"{", b"[]", b"null", b"\xff\xfe", &[b'['; 200_000]] {
        assert!(Tokenizer::from_json(bytes, path).is_err());
    }
    assert!(refused(&bpe(json!({"a": 0}), json!([["a", "z"]]))).contains("longer"));
    assert!(refused(&bpe(json!({"a": 0, "bcd": 1}), json!([["a", "z"]]))).contains('z'));
    assert!(refused(&bpe(json!({"a": 0}), json!([7]))).contains("expected two tokens"));
    let folder = tempfile::tempdir().unwrap();
    let huge = fs::File::create(folder.path().join("tokenizer.json")).unwrap();
    huge.set_len((64 << 20) + 1).unwrap();
    let error = Tokenizer::open_folder(folder.path()).unwrap_err();
    assert!(error.to_string().contains("over the limit"), "{error}");
}

/// An added token of this id.
fn added(id: u64, content: &str) -> Value {
    json!({
        "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true,
    })
}

#[test]
fn t22_an_added_token_that_clashes_with_another_is_refused() {
    let with = |tokens: &[Value]| {
        let mut json = small();
        json["added_tokens"] = json!(tokens);
        json
    };
    // The library gives each of these an id of its own, in silence.
    for (id, place) in [(0, 3), (2, 3), (7, 3), (4_000_000_000, 3)] {
        let error = refused(&with(&[added(id, "<x>")]));
        let expected = format!("added token \"<x>\" has id {id}");
        assert!(error.contains(&expected) && error.ends_with(&format!("is {place}")), "{error}");
    }
    assert!(refused(&with(&[added(3, "<x>"), added(3, "<y>")])).contains("\"<y>\" has id 3"));
    assert!(refused(&with(&[added(1, "a")])).contains("\"a\" has id 1"));
    let tokenizer = load(&with(&[added(3, "<x>"), added(4, "<y>"), added(1, "b")])).unwrap();
    assert_eq!(tokenizer.encode("ab<y>b<x>", false).unwrap(), [0, 1, 4, 1, 3]);
    assert_eq!(tokenizer.vocab_len(), 5);
}

#[test]
fn t22_two_tokens_of_one_id_are_refused() {
    let error = refused(&bpe(json!({"a": 0, "b": 1, "ab": 0}), json!([["a", "b"]])));
    assert!(error.ends_with("tokens \"a\" and \"ab\" have both id 0"), "{error}");
}

#[test]
fn t22_what_is_put_around_a_text_is_there() {
    let around = |special: Value, name: &str, sequence: &str| {
        let mut json = small();
        json["added_tokens"] = json!([added(3, "<s>")]);
        json["post_processor"] = json!({
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": name, "type_id": 0}},
                {"Sequence": {"id": sequence, "type_id": 0}},
            ],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": special},
        });
        json
    };
    let start = json!({"id": "<s>", "ids": [3], "tokens": ["<s>"]});
    let tokenizer = load(&around(start.clone(), "<s>", "A")).unwrap();
    assert_eq!(tokenizer.encode("ab", true).unwrap(), [3, 2]);
    assert!(refused(&around(start.clone(), "<t>", "A")).contains("single has \"<t>\""));
    assert!(refused(&around(start.clone(), "<s>", "B")).contains("a second text"));
    // The library knows it by its other fields.
    let mut untyped = around(start, "<t>", "A");
    untyped["post_processor"]["type"] = json!("?");
    assert!(refused(&untyped).contains("single has \"<t>\""));
    let outside = json!({"id": "<s>", "ids": [3, 9], "tokens": ["<s>", "<t>"]});
    assert!(refused(&around(outside, "<s>", "A")).contains("puts id 9 around a text"));
    let mut nested = small();
    let bert = json!({"type": "BertProcessing", "sep": ["b", 1], "cls": ["<s>", 8]});
    nested["post_processor"] = json!({"type": "Sequence", "processors": [bert]});
    assert!(refused(&nested).contains("puts id 8 around a text"));
}

#[test]
fn t22_a_token_that_is_not_text_is_refused_and_half_a_character_is_not() {
    let json = br#"{"version": "1.0", "model": {"type": "BPE", "vocab": {"X": 0}, "merges": []}}"#;
    let at = json.iter().position(|&byte| byte == b'X').unwrap();
    let mut broken = json.to_vec();
    broken[at] = 0xff;
    let path = Path::new("tokenizer.json");
    let error = Tokenizer::from_json(&broken, path).unwrap_err().to_string();
    assert!(error.contains("invalid unicode"), "{error}");
    // Half of a character is a token of every byte-level vocabulary.
    let bytes = tokenizer(byte_gguf("gpt-2", &[], &[]));
    let ids = bytes.encode("\u{e9}", false).unwrap();
    assert_eq!(ids.len(), 2);
    assert_eq!(bytes.decode(&ids[..1]), "\u{fffd}");
    assert_eq!(bytes.decode(&ids), "\u{e9}");
}

#[test]
fn t22_gaps_between_ids_count() {
    let tokenizer = load(&bpe(json!({"a": 0, "b": 7}), json!([]))).unwrap();
    assert_eq!(tokenizer.vocab_len(), 8);
    assert_eq!(tokenizer.decode_token(3), None);
    assert_eq!(tokenizer.decode(&[3]), "");
}

#[test]
fn a_folder_without_a_tokenizer_has_none() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Tokenizer::open_folder(folder.path()).unwrap().is_none());
}

#[test]
fn what_is_saved_is_read() {
    let builder = byte_gguf("gpt-2", &[("<|end|>", 3), ("Ġa", 1)], &["Ġ a"])
        .u32("tokenizer.ggml.eos_token_id", 256)
        .text("tokenizer.chat_template", "{{ eos_token }}");
    let first = tokenizer(builder);
    let folder = tempfile::tempdir().unwrap();
    first.save(folder.path()).unwrap();
    let second = Tokenizer::open_folder(folder.path()).unwrap().unwrap();
    let text = "a a<|end|> été\n";
    assert_eq!(first.encode(text, true).unwrap(), second.encode(text, true).unwrap());
    assert_eq!(first.special, second.special);
    assert_eq!(first.special_ids, second.special_ids);
    assert_eq!(second.chat_template_source(), Some("{{ eos_token }}"));
    assert_eq!((second.eos_id(), second.bos_id()), (Some(256), None));
    assert_eq!(second.decode_token(257).unwrap(), " a");
    let ids = second.encode(text, true).unwrap();
    assert_eq!(second.decode(&ids), text);
    assert_eq!(second.decode_visible(&ids), "a a été\n");
}

#[test]
fn templates_are_found_in_each_place_a_folder_keeps_them() {
    let folder = tempfile::tempdir().unwrap();
    let template = || special::chat_template(folder.path()).unwrap();
    fs::write(folder.path().join("chat_template.json"), r#"{"chat_template": "one"}"#).unwrap();
    assert_eq!(template().as_deref(), Some("one"));
    let list = r#"{"chat_template": [{"name": "rag", "template": "x"},
        {"name": "default", "template": "two"}], "bos_token": {"content": "<s>"}}"#;
    fs::write(folder.path().join("tokenizer_config.json"), list).unwrap();
    assert_eq!(template().as_deref(), Some("two"));
    fs::write(folder.path().join("chat_template.jinja"), "three").unwrap();
    assert_eq!(template().as_deref(), Some("three"));
    let tokens = SpecialTokens::read(folder.path()).unwrap();
    assert_eq!(tokens.bos.as_deref(), Some("<s>"));
}

#[test]
fn the_first_token_of_a_sequence_is_never_doubled() {
    let builder =
        byte_gguf("llama-bpe", &[("<s>", 3)], &[]).u32("tokenizer.ggml.bos_token_id", 256);
    let llama = tokenizer(builder);
    assert_eq!(llama.encode("A", true).unwrap(), [256, 65]);
    assert_eq!(llama.encode("<s>A", true).unwrap(), [256, 65]);
    assert_eq!(llama.encode("<s><s>A", true).unwrap(), [256, 256, 65]);
    assert_eq!(llama.encode("<s>A", false).unwrap(), [256, 65]);
    let builder = byte_gguf("gpt-2", &[("<s>", 3)], &[]).u32("tokenizer.ggml.bos_token_id", 256);
    let gpt2 = tokenizer(builder);
    assert_eq!(gpt2.encode("A", true).unwrap(), [65]);
    assert_eq!(gpt2.encode("<s><s>A", true).unwrap(), [256, 256, 65]);
}

#[test]
fn pre_tokenizers_cut_digits_each_in_their_way() {
    let added = [("12", 1), ("34", 1), ("123", 1), ("1234", 1)];
    let merges = ["1 2", "12 3", "3 4", "12 34"];
    let ids = |pre: &str| tokenizer(byte_gguf(pre, &added, &merges)).encode("1234", false).unwrap();
    let digit = |digit: char| digit as u32;
    assert_eq!(ids("smollm"), ['1', '2', '3', '4'].map(digit));
    assert_eq!(ids("qwen2"), ['1', '2', '3', '4'].map(digit));
    assert_eq!(ids("llama-bpe"), [258, digit('4')]);
    assert_eq!(ids("gpt-2"), [258, digit('4')]);
    // "12" merges first, then "123", before "34" can.
    let error = Tokenizer::from_gguf(&byte_gguf("tekken", &[], &[]).open().unwrap()).unwrap_err();
    assert!(matches!(error, Error::TokenizerUnsupported { .. }));
    assert!(error.to_string().contains("\"tekken\" is not supported, only smollm"), "{error}");
}

/// A vocabulary in the manner of Llama 2: control, bytes, pieces with scores.
fn sentence_piece() -> Builder {
    let pieces = [
        ("<unk>", 0.0, 2),
        ("<s>", 0.0, 3),
        ("</s>", 0.0, 3),
        ("<0xC3>", 0.0, 6),
        ("<0xA9>", 0.0, 6),
        ("\u{2581}a", -1.0, 1),
        ("bc", -2.0, 1),
        ("ab", -3.0, 1),
        ("\u{2581}abc", -4.0, 1),
        ("\u{2581}", -5.0, 1),
        ("a", -6.0, 1),
        ("b", -7.0, 1),
        ("c", -8.0, 1),
    ];
    Builder::default()
        .text("tokenizer.ggml.model", "llama")
        .texts("tokenizer.ggml.tokens", &pieces.map(|(token, ..)| token))
        .f32s("tokenizer.ggml.scores", &pieces.map(|(_, score, _)| score))
        .i32s("tokenizer.ggml.token_type", &pieces.map(|(.., kind)| kind))
        .u32("tokenizer.ggml.bos_token_id", 1)
        .u32("tokenizer.ggml.eos_token_id", 2)
}

#[test]
fn sentence_pieces_join_by_score_and_fall_back_to_bytes() {
    let llama = tokenizer(sentence_piece());
    // The best pair is `▁a`, then `bc`, and these two make `▁abc`.
    assert_eq!(llama.encode("abc", true).unwrap(), [1, 8]);
    // Within a word `bc` is better than `ab`.
    assert_eq!(llama.encode("aabc", true).unwrap(), [1, 5, 10, 6]);
    assert_eq!(llama.encode("é c", false).unwrap(), [9, 3, 4, 9, 12]);
    assert_eq!(llama.decode(&[1, 8, 9, 12, 3, 4]), "<s> abc cé");
    assert_eq!(llama.decode_visible(&[1, 8, 9, 12]), "abc c");
    assert_eq!(llama.decode_token(8).unwrap(), " abc");
    assert_eq!(llama.decode_token(3).unwrap(), "\u{fffd}");
    assert_eq!(llama.special_ids().iter().copied().collect::<Vec<_>>(), [0, 1, 2]);
    let bare = tokenizer(sentence_piece().flag("tokenizer.ggml.add_bos_token", false));
    assert_eq!(bare.encode("abc", true).unwrap(), [8]);
    let both = tokenizer(sentence_piece().flag("tokenizer.ggml.add_eos_token", true));
    assert_eq!(both.encode("abc", true).unwrap(), [1, 8, 2]);
    let no_space = tokenizer(sentence_piece().flag("tokenizer.ggml.add_space_prefix", false));
    assert_eq!(no_space.encode("abc", false).unwrap(), [10, 6]);
}

#[test]
fn another_kind_of_vocabulary_is_named() {
    let builder = Builder::default()
        .text("tokenizer.ggml.model", "bert")
        .texts("tokenizer.ggml.tokens", &["a"]);
    let error = Tokenizer::from_gguf(&builder.open().unwrap()).unwrap_err();
    assert!(error.to_string().contains("\"bert\" is not supported"), "{error}");
    assert!(Tokenizer::from_gguf(&Builder::default().open().unwrap()).unwrap().is_none());
}

#[test]
fn t22_a_small_vocabulary_of_endless_merges_is_refused() {
    let tokens: Vec<String> = (1..1000).map(|len| "a".repeat(len)).collect();
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let builder = Builder::default()
        .text("tokenizer.ggml.model", "llama")
        .texts("tokenizer.ggml.tokens", &tokens)
        .f32s("tokenizer.ggml.scores", &vec![0.0; tokens.len()]);
    let error = Tokenizer::from_gguf(&builder.open().unwrap()).unwrap_err();
    assert!(matches!(error, Error::Tokenizer { .. }), "{error}");
    assert!(error.to_string().contains("merges of this vocabulary are over the limit"), "{error}");
}
