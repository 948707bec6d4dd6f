//! Chat templates of many families against Jinja and the tokenizers of Python: the same text, the
//! same ids, the same exceptions.

use serde_json::Value;
use soft_model::{ChatTemplate, Message};
use soft_tests::text::tokenizer;

/// What `tests/goldens/make_chat_templates.py` wrote.
fn families() -> Vec<Value> {
    let json = include_str!("../goldens/chat-templates.json");
    serde_json::from_str(json).expect("JSON")
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().expect("text")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

#[test]
fn t24_every_family_renders_and_encodes_as_in_python() {
    let families = families();
    assert!(families.len() >= 10);
    for family in &families {
        let name = text(family, "family");
        let tokens = ["bos_token", "eos_token"].map(|token| (token, text(family, token)));
        let template = ChatTemplate::new(text(family, "template"), tokens).expect(name);
        let special: Vec<&str> =
            list(&family["special"]).iter().map(|token| token.as_str().expect("text")).collect();
        let tokenizer = tokenizer(&special);
        let mut rendered = 0;
        for case in list(&family["cases"]) {
            let messages = serde_json::from_value::<Vec<Message>>(case["messages"].clone());
            let opened = case["add_generation_prompt"].as_bool().expect("a flag");
            let found = template.render(&messages.expect("messages"), opened);
            if let Some(exception) = case["exception"].as_str() {
                let error = found.expect_err(exception).to_string();
                assert!(error.contains(exception), "{name}: {error}");
                continue;
            }
            let found = found.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(found, text(case, "text"), "{name}");
            let ids = tokenizer.encode(&found, false).expect("encoded");
            let expected: Vec<u64> = list(&case["ids"]).iter().filter_map(Value::as_u64).collect();
            assert!(ids.iter().map(|&id| u64::from(id)).eq(expected), "{name}: {found:?}");
            rendered += 1;
        }
        assert!(rendered >= 4, "{name}");
    }
}
