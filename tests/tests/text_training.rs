//! Text as training data, with a whole model: its own tokenizer and template, and a run.

use std::fs;

use serde_json::{Value, json};
use soft_model::ModelFiles;
use soft_tests::runs::Runs;
use soft_tests::text::{SPECIAL, write_model};
use soft_train::config::Config;
use soft_train::data::Reader;
use soft_train::run::{Resume, text_encoder};

/// The tokens of a prompt are those of transformers; what follows them is trained.
#[test]
fn t35_golden_prompts_of_smollm2_open_its_examples() {
    let Some(path) = soft_tests::smollm2() else { return };
    let files = ModelFiles::open(&path).expect("the model opens");
    let config = Config::default();
    let encoder = text_encoder(&config, &files).expect("an encoder");
    assert_eq!(encoder.notes(), [""; 0], "its template ends turns with its own stop token");
    let golden: Value =
        serde_json::from_str(include_str!("../goldens/smollm2.json")).expect("valid JSON");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("data.jsonl");
    let reader = Reader { encoder: Some(&encoder), ..Reader::default() };
    let mut chats = 0;
    for case in golden["cases"].as_array().expect("cases") {
        if case["kind"] != "chat" {
            continue;
        }
        chats += 1;
        let line = json!({"prompt": case["prompt"], "completion": "The answer is 7."});
        fs::write(&path, line.to_string()).expect("written");
        let example = reader.scan(&path).expect("readable").examples.remove(0);
        let prompt: Vec<u32> = case["input_ids"]
            .as_array()
            .expect("ids")
            .iter()
            .map(|id| id.as_u64().expect("an id") as u32)
            .collect();
        assert_eq!(example.input_ids[..prompt.len()], prompt);
        assert_eq!(example.scored_len(), example.len() - prompt.len());
        let tokenizer = files.tokenizer.as_ref().expect("it has one");
        let written = tokenizer.decode(&example.input_ids[prompt.len()..]);
        assert_eq!(written, "The answer is 7.<|im_end|>");
        assert_eq!(example.input_ids.last(), Some(&2));
    }
    assert!(chats > 2);
}

#[test]
fn t34_a_text_task_trains_validates_and_goes_on_only_with_its_tokenizer() {
    let runs = Runs::temporary();
    let model = runs.path("model");
    write_model(&model, &SPECIAL);
    let data = runs.path("data.jsonl");
    let lines: Vec<String> = (1..9)
        .map(|n| {
            let (question, answer) = (format!("{n}+1?"), (n + 1).to_string());
            json!({"question": question, "reasoning": "one more", "answer": answer}).to_string()
        })
        .collect();
    fs::write(&data, lines.join("\n")).expect("written");
    let model = format!("model.path={:?}", model.display().to_string());
    let train = format!("data.train={:?}", data.display().to_string());
    let valid = format!("data.valid={:?}", data.display().to_string());
    let rollout = ["rollout.kind=parallel", "guidance.start=0.5", "train.micro_batch=4"];
    let settings =
        [&["task.name=text", &*model, &*train, &*valid, "train.steps=2"][..], &rollout].concat();
    let trained = runs.train("run", &settings);
    let checkpoint = trained.run_dir.join("checkpoints").join("step-000002");
    let files = ModelFiles::open(&checkpoint).expect("a checkpoint is a model");
    assert_eq!(files.require_tokenizer().expect("its own").token_id("</think>"), Some(259));
    // Tokens of other numbers are other data.
    let mut other = SPECIAL;
    other.swap(2, 4);
    write_model(&runs.path("model"), &other);
    let more = [&settings[..], &["train.steps=3"]].concat();
    let error = runs.error("run", &more, Resume::Auto);
    assert_eq!(error.exit_code(), 3);
    assert!(error.to_string().contains("the training data is not that"), "{error}");
    // Other numbers of tokens that the data does not have, and one token less.
    let mut other = SPECIAL;
    other.swap(9, 10);
    for (special, token) in [(&other[..], "<end_of_turn>"), (&SPECIAL[..10], "<end_of_turn>")] {
        write_model(&runs.path("model"), special);
        let error = runs.error("run", &more, Resume::Auto);
        assert_eq!(error.exit_code(), 4, "{error}");
        let expected = format!(
            "its tokenizer is not that of `model.path`, which has another id or none for {token:?}"
        );
        assert!(error.to_string().contains(&expected), "{error}");
    }
    write_model(&runs.path("model"), &SPECIAL);
    runs.resumed("run", &more, Resume::Auto);
}
