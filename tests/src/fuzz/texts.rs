//! Tokenizers and chat templates.

use std::path::Path;

use soft_model::{ChatTemplate, Message, Tokenizer};

use super::{bounded, must, sections, told, with_files};

/// Characters of the longest text that is encoded: some tokenizers take the square of it.
const MAX_TEXT: usize = 256;
/// The most that a template renders of short messages.
const MAX_RENDERED: usize = 1 << 20;

/// `tokenizer.json`, and a text: ids are below the length of the vocabulary, encoding twice gives
/// the same, any id may be decoded, and what is saved encodes as what was read.
pub fn tokenizer(data: &[u8]) {
    let parts = sections(data);
    let read = || Tokenizer::from_json(parts[0], Path::new("tokenizer.json"));
    let Some(tokenizer) = told(bounded(data, read)) else { return };
    let text =
        parts.get(1).map_or("Hello, 12  wor\u{f6}lds!".into(), |t| String::from_utf8_lossy(t));
    let text: String = text.chars().take(MAX_TEXT).collect();
    let ids = told(bounded(data, || tokenizer.encode(&text, true)));
    for id in ids.iter().flatten() {
        assert!((*id as usize) < tokenizer.vocab_len(), "id {id} of {}", tokenizer.vocab_len());
    }
    assert_eq!(told(tokenizer.encode(&text, true)), ids, "encoding twice");
    let some = [&ids.clone().unwrap_or_default()[..], &[0, 1, u32::MAX]].concat();
    bounded(data, || (tokenizer.decode(&some), tokenizer.decode_visible(&some)));
    for &id in some.iter().take(8) {
        let _ = tokenizer.decode_token(id);
    }
    with_files(&[], |folder| {
        if told(tokenizer.save(folder)).is_none() {
            return;
        }
        let again =
            must("what is saved is read", Tokenizer::open_folder(folder)).expect("it was saved");
        assert_eq!(again.vocab_len(), tokenizer.vocab_len());
        assert_eq!(told(again.encode(&text, true)), ids, "what is saved encodes alike");
    });
}

/// A chat template on a few conversations: it ends, renders at most 1 MiB, and the same twice where
/// it does not ask for the time.
pub fn chat_template(data: &[u8]) {
    let Ok(source) = std::str::from_utf8(data) else { return };
    let tokens = [("bos_token", "<s>"), ("eos_token", "</s>")];
    let compile = || ChatTemplate::new(source, tokens);
    let Some(template) = told(bounded(data, compile)) else { return };
    let talk = [
        Message::new("system", "Be brief."),
        Message::new("user", "a <b> & \"c\"?\n"),
        Message::new("assistant", "<think>\n1\n</think>\n\n \u{e9}"),
        Message::new("user", " why? "),
    ];
    for (messages, opened) in [(&talk[..], true), (&talk[1..3], false), (&[], true)] {
        let render = || template.render(messages, opened);
        // A template is a program: it may hold what its fuel pays for.
        let Some(text) = told(render()) else { continue };
        assert!(text.len() <= MAX_RENDERED, "{} bytes", text.len());
        if !source.contains("strftime_now") {
            assert_eq!(told(render()), Some(text), "rendering twice");
        }
    }
}
