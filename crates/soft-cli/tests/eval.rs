//! `soft eval` from outside: its table and files, its resumption, its refusals.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use burn::tensor::{DType, Device};
use serde_json::{Value, json};
use soft_model::{ModelConfig, Transformer, save_safetensors};

/// A folder with a tiny random model that writes letters and digits, and questions.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let bench = Self(folder);
        fs::create_dir(bench.path("model")).expect("made");
        let letters: Vec<String> = ('0'..='9').chain('a'..='v').map(String::from).collect();
        let vocab: serde_json::Map<String, Value> =
            letters.iter().enumerate().map(|(id, letter)| (letter.clone(), json!(id))).collect();
        let shape = json!({
            "model_type": "llama", "vocab_size": vocab.len(), "hidden_size": 16,
            "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
            "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "tie_word_embeddings": true,
        });
        let tokenizer = json!({
            "version": "1.0", "added_tokens": [],
            "model": {"type": "BPE", "vocab": vocab, "merges": []},
        });
        bench.write("model/config.json", &shape.to_string());
        bench.write("model/tokenizer.json", &tokenizer.to_string());
        let config = ModelConfig::from_hf(&shape, Path::new("config.json")).expect("a llama");
        let model = Transformer::from_seed(&config, 3, &Device::flex(), DType::F32);
        let mut tensors = model.named_tensors();
        for tensor in tensors.iter_mut().filter(|tensor| tensor.shape.len() == 2) {
            tensor.values.iter_mut().for_each(|value| *value *= 12.0);
        }
        save_safetensors(&bench.path("model/model.safetensors"), &tensors).expect("written");
        let question = |i: u32| json!({"question": format!("{i}a"), "answer": i % 10}).to_string();
        let lines: Vec<String> = (10..18).map(question).collect();
        bench.write("q.jsonl", &lines.join("\n"));
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("written");
    }

    /// `soft eval` on two of a batch, with settings over the usual ones.
    fn eval(&self, name: &str, flags: &[&str], settings: &[&str]) -> Output {
        let own = [
            format!("run.dir={:?}", self.path("runs")),
            format!("run.name={name:?}"),
            format!("eval.data={:?}", self.path("q.jsonl")),
            "eval.budget=12".into(),
            "eval.batch=3".into(),
            "eval.traces=1".into(),
        ];
        Command::new(env!("CARGO_BIN_EXE_soft"))
            .env_remove("SOFT_DEVICE")
            .arg("eval")
            .arg("--model")
            .arg(self.path("model"))
            .args(flags)
            .args(own)
            .args(settings)
            .output()
            .expect("the program starts")
    }

    fn lines(&self, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path("runs").join(name)).expect("it is there");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    fn results(&self, name: &str) -> Value {
        let path = self.path("runs").join(name).join("results.json");
        let text = fs::read_to_string(path).expect("it is there");
        serde_json::from_str(&text).expect("JSON")
    }
}

fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

const ARMS: &str = r#"eval.compare=[
    "greedy: soft.mode=hard soft.temperature=0",
    "sampled: soft.mode=hard",
    "one_vote: soft.mode=hard search.kind=vote search.beams=1",
    "votes: soft.mode=hard search.kind=vote search.beams=3",
    "beam: soft.mode=hard search.kind=beam search.beams=2",
    "beam_of_one: soft.mode=hard search.kind=beam search.beams=1",
    "thinks: think.span=first think.first=4 soft.top_k=5 soft.cold_stop=true answer.temperature=0",
    "gated: soft.preset=selar",
]"#;
const CONTROLS: &str = r#"eval.controls=["delete", "top", "shuffle", "noise", "pause", "second"]"#;
const PAUSE: &str = "eval.pause=z";

/// Without what differs from run to run.
fn timeless(mut items: Vec<Value>) -> Vec<Value> {
    for item in &mut items {
        item["seconds"] = Value::Null;
    }
    items
}

#[test]
fn arms_and_controls_are_compared_and_a_stopped_evaluation_goes_on() {
    let bench = Bench::new();
    let settings = [ARMS, CONTROLS, "eval.pause=b", "eval.seeds=2"];
    let (code, out, err) = told(&bench.eval("a", &[], &settings));
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("  / shuffle") && out.contains("thinks: cold_stop"), "{out}");
    assert!(out.contains("report: "), "{out}");
    assert!(bench.path("runs/a/report.html").is_file());

    let results = bench.results("a");
    assert_eq!((&results["kind"], &results["questions"]), (&json!("eval"), &json!(8)));
    let arms = results["arms"].as_array().expect("a list");
    assert_eq!(arms.len(), 8 + 6);
    assert!(arms[0]["difference"].is_null() && arms[1]["difference"]["p"].is_number());
    let items = bench.lines("a/items.jsonl");
    // Four arms draw and run with both seeds, `thinks` answers greedily and draws nothing.
    assert_eq!(items.len(), 8 * (4 * 2 + 3 + 1 + 6));
    let of = |arm: &str| -> Vec<Value> {
        let own = items.iter().filter(|item| item["arm"] == arm && item["control"].is_null());
        own.map(|item| item["text"].clone()).collect()
    };
    assert_eq!(of("one_vote"), of("sampled"), "one vote is a sample");
    assert_eq!(of("beam_of_one"), of("greedy"), "one beam is greedy");
    assert!(items.iter().all(|item| item["tokens"].as_u64().expect("a count") <= 12));
    assert_eq!(bench.lines("a/traces.jsonl").len(), 6, "the arms but beams, first seed");

    // Killed in the middle of a batch, and in the middle of a line.
    fs::create_dir_all(bench.path("runs/b")).expect("made");
    let text = fs::read_to_string(bench.path("runs/a/items.jsonl")).expect("there");
    fs::write(bench.path("runs/b/items.jsonl"), &text[..text.len() * 5 / 8]).expect("written");
    let (code, _, err) = told(&bench.eval("b", &["--resume", "auto"], &settings));
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(timeless(bench.lines("b/items.jsonl")), timeless(items.clone()));

    let (code, _, err) = told(&bench.eval("a", &[], &settings));
    assert_eq!((code, err.contains("already exists")), (Some(2), true), "{err}");
    let other = [ARMS, CONTROLS, "eval.pause=b", "eval.seeds=2", "eval.budget=8"];
    let (code, _, err) = told(&bench.eval("a", &["--resume", "auto"], &other));
    assert_eq!(code, Some(2));
    assert!(err.contains("`eval.budget` was 12, is 8"), "{err}");
}

#[test]
fn a_fixed_seed_gives_the_same_answers_and_json_is_one_object() {
    let bench = Bench::new();
    for name in ["a", "b"] {
        let (code, out, err) = told(&bench.eval(name, &["--json"], &[ARMS]));
        assert_eq!(code, Some(0), "{err}");
        let outcome: Value = serde_json::from_str(&out).expect("one object");
        assert_eq!(outcome["baseline"], "greedy");
    }
    let of = |name: &str| timeless(bench.lines(&format!("{name}/items.jsonl")));
    assert_eq!(of("a"), of("b"));
}

#[test]
fn an_extractor_that_finds_nothing_is_told_of_at_once() {
    let bench = Bench::new();
    let extract = ["eval.extract=regex", "eval.pattern=nowhere", "eval.seeds=3"];
    let arm = r#"eval.compare=["sampled: soft.mode=hard"]"#;
    let (code, _, err) = told(&bench.eval("a", &[], &[&extract[..], &[arm]].concat()));
    assert_eq!(code, Some(0), "{err}");
    assert!(err.starts_with("warning: `eval.extract` is \"regex\" and found no answer"), "{err}");
    let (_, _, err) = told(&bench.eval("b", &[], &[arm, "eval.seeds=3"]));
    assert!(!err.contains("warning"), "{err}");
}

#[test]
fn what_cannot_be_compared_is_refused_before_anything_runs() {
    let bench = Bench::new();
    let refused = |settings: &[&str]| {
        let (code, out, err) = told(&bench.eval("a", &[], settings));
        assert!(out.is_empty() && !bench.path("runs/a").exists(), "{out} {err}");
        (code, err)
    };
    let tag = r#"eval.compare=["t: think.span=tags think.open=\"\" think.close=<t>"]"#;
    let (code, err) = refused(&[tag]);
    assert_eq!(code, Some(4));
    assert!(err.contains("`think.close` is \"<t>\", which is not one token"), "{err}");
    let (code, err) = refused(&[r#"eval.compare=["t: soft.preset=sela"]"#]);
    assert_eq!((code, err.contains("did you mean \"selar\"?")), (Some(2), true), "{err}");
    let (code, err) = refused(&["eval.extract=regex", "eval.pattern=("]);
    assert_eq!((code, err.contains("no regular expression")), (Some(2), true), "{err}");
    let (code, err) = refused(&["eval.extract=regex"]);
    assert_eq!((code, err.contains("`eval.pattern` is empty")), (Some(2), true), "{err}");
    let thinks = r#"eval.compare=["t: think.span=first"]"#;
    let (code, err) = refused(&[thinks, CONTROLS, PAUSE]);
    assert_eq!(
        (code, err.contains("`eval.pause` is \"z\", which has no token")),
        (Some(2), true),
        "{err}"
    );

    bench.write("q.jsonl", "{\"question\": \"1\", \"answer\": \"1\"}\n{\"question\": 1,,}\n");
    let (code, err) = refused(&[]);
    assert_eq!(code, Some(3));
    assert!(err.contains("q.jsonl:2:16: broken JSON"), "{err}");
    bench.write("q.jsonl", "\n");
    let (code, err) = refused(&[]);
    assert_eq!((code, err.contains("no questions")), (Some(3), true), "{err}");
}

#[test]
fn a_dry_run_says_what_would_run() {
    let bench = Bench::new();
    let (code, out, _) = told(&bench.eval("a", &["--dry-run"], &[ARMS]));
    assert_eq!(code, Some(0));
    assert!(
        out.starts_with("8 questions, 8 arms:") && out.contains("votes: 3 x 4 tokens"),
        "{out}"
    );
    assert!(!bench.path("runs").exists());
}
