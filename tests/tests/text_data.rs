//! Text as training data: what of it is scored, which inputs are soft, what is refused.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::{Value, json};
use soft_model::{ChatTemplate, Message, Tokenizer};
use soft_tests::text::{
    CHATML, ENDLESS, GEMMA, INJECTING, LLAMA3, OPENING, SPECIAL, template, tokenizer,
};
use soft_train::Error;
use soft_train::batch::{Batch, Place};
use soft_train::config::{Config, DataFormat, Loader};
use soft_train::data::{Limits, Reader, Scan, TextEncoder};
use soft_train::example::Example;
use soft_train::objective::StepTotals;

/// The end of a text.
const EOS: u32 = 256;

fn config(settings: &[&str]) -> Config {
    Loader::new().overrides(settings).load().unwrap_or_else(|e| panic!("{e}")).config
}

/// Reads lines with a tokenizer and perhaps a template.
struct Setup {
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    config: Config,
    limits: Limits,
}

impl Setup {
    fn new(source: Option<&str>, settings: &[&str]) -> Self {
        Self {
            tokenizer: tokenizer(&SPECIAL),
            template: source.map(template),
            config: config(settings),
            limits: Limits::default(),
        }
    }

    fn encoder(&self) -> TextEncoder<'_> {
        let stop_ids = [EOS];
        TextEncoder::new(&self.config, &self.tokenizer, self.template.as_ref(), &stop_ids)
            .expect("an encoder")
    }

    fn scan(&self, bytes: &[u8]) -> Result<Scan, Error> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("data.jsonl");
        fs::write(&path, bytes).expect("written");
        let encoder = self.encoder();
        let task = self.config.task.name;
        Reader::new(&self.config.data, task, self.limits, Some(&encoder)).scan(&path)
    }

    fn example(&self, line: &Value) -> Example {
        let scan = self.scan(line.to_string().as_bytes()).expect("readable");
        assert_eq!(scan.bad_count, 0, "{}", scan.bad_report());
        scan.examples[0].clone()
    }

    fn problem(&self, line: &str) -> String {
        let scan = self.scan(line.as_bytes()).expect("readable");
        assert_eq!(scan.bad_count, 1, "{line} must be refused");
        scan.bad[0].problem.clone()
    }

    /// The stretches of positions where `mask` holds, as text.
    fn stretches(&self, example: &Example, mask: impl Fn(usize) -> bool) -> Vec<String> {
        let mut found: Vec<Vec<u32>> = Vec::new();
        for t in 0..example.len() {
            match (mask(t), t > 0 && mask(t - 1)) {
                (true, false) => found.push(vec![example.input_ids[t]]),
                (true, true) => found.last_mut().expect("begun").push(example.input_ids[t]),
                (false, _) => {}
            }
        }
        found.iter().map(|ids| self.tokenizer.decode(ids)).collect()
    }

    fn trained(&self, example: &Example) -> Vec<String> {
        self.stretches(example, |t| example.weight[t] > 0.0)
    }

    fn soft(&self, example: &Example) -> Vec<String> {
        self.stretches(example, |t| example.soft[t])
    }

    fn whole(&self, example: &Example) -> String {
        self.tokenizer.decode(&example.input_ids)
    }
}

fn talk(turns: &[(&str, &str)]) -> Value {
    let messages: Vec<Value> =
        turns.iter().map(|(role, content)| json!({"role": role, "content": content})).collect();
    json!({"messages": messages})
}

fn reasoning() -> Value {
    json!({"question": "2+3?", "reasoning": "2 and 3 are 5", "answer": "5"})
}

/// Every family: its template, its stop token, whether it trims what is said.
const FAMILIES: [(&str, &str, bool); 3] =
    [(CHATML, "<|im_end|>", false), (LLAMA3, "<|eot_id|>", true), (GEMMA, "<end_of_turn>", true)];

fn said() -> impl Strategy<Value = String> {
    // Brackets, blanks and line ends, where tokens reach across; letters of one to four bytes.
    "[a<>| \n\tzé漢🙂.]{1,24}".prop_filter("some text", |text| !text.trim().is_empty())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn t35_what_is_trained_is_what_the_assistant_says_and_its_stop_token(
        turns in prop::collection::vec((said(), said()), 1..4),
        family in 0..FAMILIES.len(),
        all in any::<bool>(),
    ) {
        let (source, stop, trims) = FAMILIES[family];
        let mut messages = Vec::new();
        for (user, assistant) in &turns {
            messages.push(("user", user.as_str()));
            messages.push(("assistant", assistant.as_str()));
        }
        let setup = Setup::new(Some(source), &[]);
        let example = setup.example(&talk(&messages));
        let expected: Vec<String> = turns
            .iter()
            .map(|(_, text)| format!("{}{stop}", if trims { text.trim() } else { text }))
            .collect();
        prop_assert_eq!(setup.trained(&example), expected);
        prop_assert!(example.scored_len() > 0);
        // The tokens are those of the rendered conversation, up to the last stop token.
        let chat: Vec<Message> =
            messages.iter().map(|(role, text)| Message::new(*role, *text)).collect();
        let rendered = template(source).render(&chat, false).expect("rendered");
        prop_assert!(rendered.starts_with(&setup.whole(&example)));
        // And they begin with those that generation begins with.
        let prompt = template(source).render(&chat[..1], true).expect("rendered");
        let prompt = setup.tokenizer.encode(&prompt, false).expect("encoded");
        prop_assert!(example.input_ids.starts_with(&prompt));
        if all {
            let setup = Setup::new(Some(source), &["data.train_on=all"]);
            let example = setup.example(&talk(&messages));
            prop_assert_eq!(example.scored_len(), example.len() - 1);
            prop_assert_eq!(setup.whole(&example), rendered);
        }
    }

    #[test]
    fn t35_padding_is_never_trained_although_it_is_the_stop_token(
        texts in prop::collection::vec(said(), 2..5),
    ) {
        let setup = Setup::new(None, &[]);
        let examples: Vec<Example> =
            texts.iter().map(|text| setup.example(&json!({"prompt": "", "completion": text}))).collect();
        let own: usize = examples.iter().map(Example::scored_len).sum();
        for example in &examples {
            prop_assert_eq!(example.input_ids.last(), Some(&EOS));
            prop_assert_eq!(example.weight.last(), Some(&1.0), "the stop token is trained");
        }
        // Rows of a batch are padded; a position after the end has no truth, whatever is fed there.
        let lens: Vec<usize> = examples.iter().map(Example::len).collect();
        let batch = Batch::new(examples);
        prop_assert_eq!(StepTotals::of([&batch]).weight, own as f64);
        let real = batch.real(0..batch.columns());
        for (row, len) in lens.into_iter().enumerate() {
            prop_assert_eq!(real[row].iter().filter(|&&fed| fed).count(), len - 1);
            for position in len..=batch.columns() {
                let past = Place { row, position };
                prop_assert!(!batch.has_truth(past));
            }
        }
    }

    #[test]
    fn t35_a_thought_is_soft_between_its_tags_and_the_answer_follows(
        question in said(), thought in said(), answer in said(), family in 0..4_usize,
    ) {
        let source = FAMILIES.get(family).map(|family| family.0);
        let stop = FAMILIES.get(family).map_or("</s>", |family| family.1);
        let setup = Setup::new(source, &[]);
        let line = json!({"question": question, "reasoning": thought, "answer": answer});
        let example = setup.example(&line);
        prop_assert_eq!(setup.soft(&example), [thought.clone()]);
        let trained = format!("{thought}</think>\n{answer}{stop}");
        prop_assert_eq!(setup.trained(&example), [trained]);
        let before = example.soft.iter().position(|&soft| soft).expect("a thought") - 1;
        prop_assert_eq!(setup.tokenizer.decode(&example.input_ids[before..=before]), "<think>");
        let from = example.answer_from.expect("an answer");
        prop_assert_eq!(setup.tokenizer.decode(&example.input_ids[from - 1..from]), "</think>");
        let found = setup.tokenizer.decode(&example.input_ids[from..]);
        prop_assert_eq!(found, format!("\n{answer}{stop}"));
        prop_assert_eq!(example.answer_positions().count(), example.len() - from);
    }
}

#[test]
fn t35_golden_texts_of_the_families() {
    let line = talk(&[("user", "hi"), ("assistant", "yes"), ("user", "why?"), ("assistant", "so")]);
    let cases = [
        (
            CHATML,
            "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n[yes<|im_end|>]\n\
             <|im_start|>user\nwhy?<|im_end|>\n<|im_start|>assistant\n[so<|im_end|>]",
        ),
        (
            LLAMA3,
            "<s><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>\
             <|start_header_id|>assistant<|end_header_id|>\n\n[yes<|eot_id|>]\
             <|start_header_id|>user<|end_header_id|>\n\nwhy?<|eot_id|>\
             <|start_header_id|>assistant<|end_header_id|>\n\n[so<|eot_id|>]",
        ),
        (
            GEMMA,
            "<s><start_of_turn>user\nhi<end_of_turn>\n<start_of_turn>model\n[yes<end_of_turn>]\n\
             <start_of_turn>user\nwhy?<end_of_turn>\n<start_of_turn>model\n[so<end_of_turn>]",
        ),
    ];
    for (source, expected) in cases {
        let setup = Setup::new(Some(source), &[]);
        let example = setup.example(&line);
        let mut text = String::new();
        for t in 0..example.len() {
            let scored = |t: usize| example.weight.get(t).is_some_and(|&weight| weight > 0.0);
            if scored(t) && !scored(t - 1) {
                text.push('[');
            }
            text.push_str(&setup.tokenizer.decode(&example.input_ids[t..=t]));
            if scored(t) && !scored(t + 1) {
                text.push(']');
            }
        }
        assert_eq!(text, expected);
        // A first token that the template writes is not doubled.
        let bos = setup.tokenizer.token_id("<s>").expect("a token");
        assert!(example.input_ids.iter().filter(|&&id| id == bos).count() < 2);
    }
}

#[test]
fn t35_a_thought_that_the_template_injects_is_trained_hard_and_said_aloud() {
    let setup = Setup::new(Some(INJECTING), &[]);
    let example = setup.example(&talk(&[("user", "hi"), ("assistant", "yes")]));
    assert_eq!(setup.trained(&example), ["<think>\n\n</think>\n\nyes<|im_end|>"]);
    assert_eq!(setup.soft(&example), [""; 0], "there is nothing to think about");
    let notes = setup.encoder().notes().join("\n");
    assert!(notes.contains(r#"puts "<think>\n\n</think>\n\n" before"#), "{notes}");
    // The first of two answers changes once it is no longer the last.
    let two = talk(&[("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]);
    let problem = setup.problem(&two.to_string());
    assert!(problem.contains("changes what comes before as messages[1] goes on"), "{problem}");
    assert!(problem.contains("<think>"), "{problem}");
}

#[test]
fn t35_a_thought_that_the_template_opens_is_opened_once() {
    let setup = Setup::new(Some(OPENING), &[]);
    let example = setup.example(&reasoning());
    let text = setup.whole(&example);
    assert_eq!(text.matches("<think>").count(), 1, "{text}");
    assert_eq!(setup.soft(&example), ["2 and 3 are 5"]);
    let problem = setup.problem(&talk(&[("user", "a"), ("assistant", "b")]).to_string());
    assert!(problem.contains("\"reasoning\""), "it says which format does: {problem}");
}

#[test]
fn t34_a_template_without_a_stop_token_of_this_tokenizer_ends_with_the_tokenizers() {
    let setup = Setup::new(Some(ENDLESS), &[]);
    let example = setup.example(&talk(&[("user", "hi"), ("assistant", "yes")]));
    assert_eq!(setup.whole(&example), "user: hi\nassistant: yes</s>");
    assert_eq!(setup.trained(&example), ["yes</s>"]);
    let notes = setup.encoder().notes().join("\n");
    assert!(notes.contains("no special token") && notes.contains("\"</s>\""), "{notes}");
    // ChatML closes with another token than the model stops at: both are named.
    let notes = Setup::new(Some(CHATML), &[]).encoder().notes().join("\n");
    assert!(notes.contains("\"<|im_end|>\"") && notes.contains("\"</s>\""), "{notes}");
}

#[test]
fn t34_an_id_without_a_row_is_a_model_error() {
    let mut setup = Setup::new(Some(CHATML), &[]);
    setup.limits.vocab_size = Some(258);
    let scan = setup.scan(reasoning().to_string().as_bytes()).expect("readable");
    let error = scan.check(setup.limits, setup.config.data.bad_lines).expect_err("ids over 257");
    assert_eq!(error.exit_code(), 4);
    assert!(error.to_string().contains("data.jsonl:1:2: token id"), "{error}");
}

#[test]
fn tags_of_several_tokens_are_the_same_tokens_everywhere() {
    let mut setup = Setup::new(None, &[]);
    setup.tokenizer = tokenizer(&["</s>"]);
    let close = setup.tokenizer.encode("</think>", false).expect("encoded");
    assert!(close.len() > 1);
    // Each of these would make other tokens where the text runs into the tag or out of it.
    for (thought, answer) in [("a", "a"), ("a\n", "\n\na"), (" a ", " a")] {
        let line = json!({"question": "q ", "reasoning": thought, "answer": answer});
        let example = setup.example(&line);
        let from = example.answer_from.expect("an answer");
        assert_eq!(example.input_ids[from - close.len()..from], close[..]);
        assert_eq!(setup.soft(&example), [thought]);
    }
    let encoder = setup.encoder();
    assert_eq!(encoder.notes().len(), 0, "no tag was needed yet");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("data.jsonl");
    fs::write(&path, reasoning().to_string()).expect("written");
    let reader = Reader { encoder: Some(&encoder), ..Reader::default() };
    reader.scan(&path).expect("readable");
    let notes = encoder.notes().join("\n");
    assert!(notes.contains("think.split_tags=true"), "{notes}");
    assert!(notes.contains("model.new_tokens"), "{notes}");
}

#[test]
fn thoughts_in_messages_and_completions_are_found_by_their_tags() {
    let text = "Hm. <think>one two</think>yes";
    let chat = Setup::new(Some(CHATML), &[]);
    let plain = Setup::new(None, &[]);
    let examples = [
        (&chat, chat.example(&talk(&[("user", "hi"), ("assistant", text)]))),
        (&chat, chat.example(&json!({"prompt": "hi", "completion": text}))),
        (&plain, plain.example(&json!({"prompt": "hi", "completion": text}))),
        (&plain, plain.example(&json!({"text": text}))),
    ];
    for (setup, example) in &examples {
        assert_eq!(setup.soft(example), ["one two"]);
        let from = example.answer_from.expect("an answer");
        assert!(setup.tokenizer.decode(&example.input_ids[from..]).starts_with("yes"));
    }
    assert_eq!(examples[0].1, examples[1].1, "a prompt is a conversation of two turns");
    assert_eq!(plain.trained(&examples[2].1), [format!("{text}</s>")]);
    // What is not closed is no thought.
    let open = plain.example(&json!({"text": "a <think> b"}));
    assert_eq!((open.soft_len(), open.answer_from), (0, None));
}

#[test]
fn which_inputs_are_soft_can_be_chosen() {
    let soft = |settings: &[&str]| {
        let setup = Setup::new(None, settings);
        let example = setup.example(&reasoning());
        example.validate(1000, "example").expect("a valid example");
        setup.soft(&example)
    };
    assert_eq!(soft(&["data.soft=first", "data.soft_first=4"]), ["2 and"]);
    assert_eq!(soft(&["data.soft=all"]), ["2 and 3 are 5</think>\n5"]);
    assert_eq!(soft(&["data.soft=none"]), [""; 0]);
    let setup = Setup::new(None, &["data.soft=all"]);
    let text = setup.example(&json!({"text": "abc"}));
    assert_eq!(setup.soft(&text), ["bc"], "nothing predicts position 0");
    let suffix = Setup::new(None, &["data.suffix=' Think.'"]);
    assert!(suffix.whole(&suffix.example(&reasoning())).starts_with("2+3? Think.<think>"));
}

#[test]
fn the_mask_does_not_depend_on_generation_tags() {
    let tagged = CHATML.replace(
        "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}",
        "{{'<|im_start|>' + message['role'] + '\n'}}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}",
    );
    assert_ne!(tagged, CHATML);
    let line = talk(&[("system", "s"), ("user", "hi"), ("assistant", "yes")]);
    let example = |source: &str| Setup::new(Some(source), &[]).example(&line);
    assert_eq!(example(&tagged), example(CHATML));
}

#[test]
fn t32_the_format_is_found_by_the_keys_and_named() {
    let found = |line: Value| {
        let setup = Setup::new(Some(CHATML), &[]);
        setup.scan(line.to_string().as_bytes()).expect("readable").format
    };
    assert_eq!(found(json!({"ids": [1, 2]})), DataFormat::Ids);
    assert_eq!(found(json!({"text": "x y"})), DataFormat::Text);
    assert_eq!(found(json!({"prompt": "x", "completion": "y", "text": "z"})), DataFormat::Prompt);
    assert_eq!(found(talk(&[("user", "a"), ("assistant", "b")])), DataFormat::Messages);
    assert_eq!(found(reasoning()), DataFormat::Reasoning);
    let setup = Setup::new(Some(CHATML), &[]);
    let scan = setup.scan(b"x\n{\"text\": \"ab\"}\n{\"ids\": [1, 2]}").expect("readable");
    assert_eq!((scan.format, scan.bad_count, scan.examples.len()), (DataFormat::Text, 2, 1));
    assert!(scan.bad[1].problem.contains("`text` is missing"), "{}", scan.bad_report());
    assert!(scan.bad[1].problem.contains("the format \"text\""), "{}", scan.bad_report());
}

#[test]
fn t32_each_kind_of_bad_line_says_what_was_found_and_expected() {
    let setup = Setup::new(Some(CHATML), &[]);
    let cases = [
        (r#"{"text": "a"#, "not valid JSON"),
        (r#"{"text": "\ud800"}"#, "not valid JSON"),
        (r#"["a"]"#, "found a list, expected an object"),
        (r#"{"txt": "a"}"#, "no key of a known format: found `txt`"),
        (r#"{"question": "a", "reasoning": "b"}"#, "`answer` is missing"),
        (r#"{"question": "a", "reasoning": "b", "answer": 4}"#, "`answer` is a number"),
        (r#"{"question": " ", "reasoning": "b", "answer": "c"}"#, "`question` is empty"),
        (r#"{"prompt": "a", "completion": ""}"#, "`completion` is empty"),
        (r#"{"text": ""}"#, "`text` is empty"),
        (r#"{"messages": "hi"}"#, "`messages` is text, expected a list"),
        (r#"{"messages": [{"role": "user"}]}"#, "messages[0].content is missing"),
        (
            r#"{"messages": [{"role": "asistant", "content": "a"}]}"#,
            r#"messages[0].role is "asistant", expected one of "system", "user", "assistant""#,
        ),
        (
            r#"{"messages": [{"role": "assistant", "content": " "}]}"#,
            "messages[0].content is empty",
        ),
        (
            r#"{"messages": [{"role": "user", "content": "a"}]}"#,
            "no token would be trained: none of 1 messages is the assistant's",
        ),
        ("{\"text\": \"a\0\"}", "NUL"),
    ];
    for (line, expected) in cases {
        let problem = setup.problem(line);
        assert!(problem.contains(expected), "{line}: {problem}");
    }
    let scan = setup.scan(b"{\"text\": \"ab\"}\n{\"text\": \"a\xff\"}\n").expect("readable");
    assert!(scan.bad_report().contains("data.jsonl:2:12: byte 0xff"), "{}", scan.bad_report());
    let raised = Setup::new(Some(GEMMA), &[]);
    let problem = raised.problem(&talk(&[("system", "s"), ("assistant", "b")]).to_string());
    assert!(problem.contains("System role not supported"), "{problem}");
}

#[test]
fn t32_marks_of_editors_and_blank_lines_change_nothing() {
    let setup = Setup::new(None, &[]);
    let plain = setup.scan(b"{\"text\":\"ab\"}\n{\"text\":\"cd\"}\n").expect("readable");
    let edited = setup
        .scan(b"\xef\xbb\xbf{\"text\":\"ab\"}\r\n\r\n\n{\"text\":\"cd\", \"id\": 7}")
        .expect("readable");
    assert_eq!((edited.bad_count, edited.blank_count), (0, 2));
    assert_eq!(plain.examples, edited.examples);
    assert_eq!((plain.lines, edited.lines), (vec![1, 2], vec![1, 4]));
}

#[test]
fn t32_what_is_too_long_is_refused_cut_or_dropped_and_counted() {
    // With the end of the text, 3, 9 and 21 tokens.
    let lines = ["ab", "bcdefghi", "bcdefghijklmnopqrstu"]
        .map(|text| json!({"prompt": "", "completion": text}).to_string())
        .join("\n");
    let scan = |settings: &[&str]| {
        let setup = Setup::new(None, &[settings, &["data.max_len=9"]].concat());
        let scan = setup.scan(lines.as_bytes()).expect("readable");
        let check = scan.check(setup.limits, setup.config.data.bad_lines);
        (scan, check.map_err(|error| (error.exit_code(), error.to_string())))
    };
    let (refused, check) = scan(&[]);
    assert_eq!((refused.bad_count, refused.examples.len()), (1, 2));
    let (code, message) = check.expect_err("one is too long");
    assert_eq!(code, 3);
    assert!(message.contains("21 positions, expected at most 9"), "{message}");
    let (cut, check) = scan(&["data.long=truncate"]);
    assert_eq!((cut.truncated_count, cut.dropped_count, check), (1, 0, Ok(())));
    assert_eq!(cut.examples.iter().map(Example::len).collect::<Vec<_>>(), [3, 9, 9]);
    let (dropped, check) = scan(&["data.long=drop"]);
    assert_eq!((dropped.dropped_count, dropped.examples.len(), check), (1, 2, Ok(())));
    assert!(dropped.remarks()[0].contains("1 examples are too long: dropped"));
    let setup = Setup::new(None, &["data.long=drop", "data.max_len=2"]);
    let scan = setup.scan(lines.as_bytes()).expect("readable");
    let error = scan.check(setup.limits, setup.config.data.bad_lines).expect_err("none is left");
    assert_eq!(error.exit_code(), 3);
    assert!(error.to_string().contains("all 3 examples are too long"), "{error}");
    // Where the prompt alone is too long, cutting leaves nothing to learn.
    let setup = Setup::new(None, &["data.long=truncate", "data.max_len=4"]);
    let line = json!({"prompt": "bcdefgh", "completion": "i"});
    let scan = setup.scan(line.to_string().as_bytes()).expect("readable");
    assert_eq!((scan.dropped_count, scan.truncated_count), (1, 0));
}

#[test]
fn t32_a_line_over_50_mib_is_refused_and_the_next_is_read() {
    let setup = Setup::new(None, &[]);
    let long = |len: usize| [&vec![b' '; len][..], b"{\"text\":\"ab\"}\n"].concat();
    let most = (50 << 20) - long(0).len();
    let bytes = [long(most), long(most + 1), long(0)].concat();
    let scan = setup.scan(&bytes).expect("readable");
    assert_eq!((scan.examples.len(), scan.bad_count), (2, 1));
    assert_eq!(scan.lines, [1, 3]);
    let report = scan.bad_report();
    assert!(report.contains("data.jsonl:2:1: the line is longer than 52428800 bytes"), "{report}");
}

#[test]
fn t26_what_a_line_says_at_length_is_repeated_in_part() {
    let setup = Setup::new(None, &[]);
    let keys: Vec<String> = (0..5000).map(|i| format!("\"key{i}\": 1")).collect();
    let line = format!("{{{}}}\n", keys.join(", "));
    let scan = setup.scan(line.repeat(9).as_bytes()).expect("readable");
    assert_eq!(scan.bad_count, 9);
    let report = scan.bad_report();
    assert!(report.len() < 4096 && report.contains("bytes in all"), "{report}");
}

#[test]
fn t32_bad_lines_can_be_skipped_and_are_listed() {
    let text = "{\"text\":\"ab\"}\n".to_string() + &"{\"text\":1}\n".repeat(7);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("data.jsonl");
    fs::write(&path, &text).expect("written");
    let read = |settings: &[&str], path: &PathBuf| {
        let setup = Setup::new(None, settings);
        let encoder = setup.encoder();
        let task = setup.config.task.name;
        Reader::new(&setup.config.data, task, setup.limits, Some(&encoder))
            .read(std::slice::from_ref(path))
    };
    let error = read(&[], &path).expect_err("bad lines");
    assert_eq!(error.exit_code(), 3);
    assert!(error.to_string().starts_with("7 of 8 lines cannot be used:"), "{error}");
    let (examples, remarks) = read(&["data.bad_lines=skip"], &path).expect("one is good");
    assert_eq!(examples.len(), 1);
    let remarks = remarks.join("\n");
    assert!(remarks.contains("format \"text\""), "{remarks}");
    assert!(remarks.contains("7 of 8 lines cannot be used and are skipped"), "{remarks}");
    assert!(remarks.contains("data.jsonl:6:2:") && remarks.contains("and 2 more"), "{remarks}");
    fs::write(&path, "{\"text\":1}\n").expect("written");
    let error = read(&["data.bad_lines=skip"], &path).expect_err("nothing is left");
    assert_eq!(error.exit_code(), 3);
}

#[test]
fn what_a_format_needs_and_is_not_there_is_said_once() {
    let no_template = Setup::new(None, &[]);
    let line = talk(&[("user", "a"), ("assistant", "b")]).to_string();
    let error = no_template.scan(line.as_bytes()).expect_err("no template");
    assert_eq!(error.exit_code(), 4);
    assert!(error.to_string().contains("chat template"), "{error}");
    let no_close = Setup::new(None, &["think.close=''"]);
    let error = no_close.scan(reasoning().to_string().as_bytes()).expect_err("no tag");
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("think.close"), "{error}");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("data.jsonl");
    fs::write(&path, line).expect("written");
    let error = Reader::default().scan(&path).expect_err("no tokenizer");
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("model.path"), "{error}");
}

#[cfg(not(feature = "parquet"))]
#[test]
fn t33_parquet_without_its_feature_names_it() {
    let error = Reader::default().scan("data.parquet".as_ref()).expect_err("not built in");
    assert_eq!(error.exit_code(), 3);
    assert!(error.to_string().contains("--features parquet"), "{error}");
}
