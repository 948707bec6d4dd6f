//! T48: adapters exchanged with Python PEFT. `tests/fixtures/peft` holds adapters that PEFT wrote
//! for a tiny Llama with grouped heads, and the logits that it computes with them;
//! `check_ours.py` there loads what is written here in PEFT.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::DType;
use serde_json::{Value, json};
use soft_core::host_values;
use soft_model::{LowRankSpec, ModelFiles, PeftAdapter, Transformer};
use soft_tests::{MoveTrained, device};

/// f32 on both sides, with sums in another order; measured: below 5e-6 with every adapter.
const TOLERANCE: f64 = 1e-4;
/// Every adapter of the fixtures.
const KINDS: [&str; 6] = ["lora", "lora-one-layer", "rslora", "dora", "prefix", "prompt"];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/peft").join(name)
}

fn base() -> Transformer {
    let files = ModelFiles::open(&folder("base")).unwrap_or_else(|error| panic!("{error}"));
    Transformer::open(&files, &device(), DType::F32).expect("its tensors fit")
}

fn adapted(name: &str) -> Transformer {
    let base = base();
    let adapter = PeftAdapter::open(&folder(name), base.config())
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(adapter.base_model(), Some("tiny-llama"));
    base.with_peft(&adapter).expect("its values are numbers")
}

fn read_json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    serde_json::from_str(&text).expect("valid JSON")
}

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(list) => list.iter().flat_map(numbers).collect(),
        other => vec![other.as_f64().expect("a number")],
    }
}

/// The greatest difference from PEFT's logits.
fn difference(model: &Transformer, name: &str) -> f64 {
    let oracle = read_json(&folder("logits.json"));
    let ids: Vec<u32> = numbers(&oracle["ids"]).into_iter().map(|id| id as u32).collect();
    let expected = numbers(&oracle["logits"][name]);
    let found = host_values(model.logits(model.embed(&ids, 2)));
    assert_eq!(found.len(), expected.len());
    found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn t48_the_base_has_the_logits_of_transformers() {
    assert!(difference(&base(), "base") < TOLERANCE);
}

#[test]
fn t48_adapters_of_peft_have_its_logits_here() {
    for name in KINDS {
        let model = adapted(name);
        let apart = difference(&model, name);
        assert!(apart < TOLERANCE, "{name}: logits differ by {apart:e}");
        assert!(difference(&model, "base") > 0.1, "{name} does something");
        eprintln!("{name}: {apart:e}");
    }
}

/// Branches that are turned off, and adapters that are not read, leave the base to the bit.
#[test]
fn t48_branches_turned_off_are_the_base() {
    let ids = [3, 17, 101];
    let logits = |model: &Transformer| host_values(model.logits(model.embed(&ids, 1)));
    for name in ["lora", "rslora", "dora"] {
        let mut model = adapted(name);
        model.set_low_rank(false);
        assert_eq!(logits(&model), logits(&base()));
    }
}

type Tensors = BTreeMap<String, (Vec<usize>, Vec<u8>)>;

fn tensors(folder: &Path) -> Tensors {
    let bytes = std::fs::read(folder.join("adapter_model.safetensors")).expect("the file");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let owned = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
        (name, (view.shape().to_vec(), view.data().to_vec()))
    };
    file.tensors().into_iter().map(owned).collect()
}

/// What is loaded and saved again has PEFT's keys, shapes and bytes, and its settings.
#[test]
fn t48_saving_what_was_loaded_gives_the_same_files() {
    for name in KINDS {
        let out = tempfile::tempdir().expect("a folder");
        adapted(name).save_peft(out.path(), "tiny-llama").expect("it is saved");
        assert_eq!(tensors(out.path()), tensors(&folder(name)), "{name}");
        let theirs = read_json(&folder(name).join("adapter_config.json"));
        let Value::Object(ours) = read_json(&out.path().join("adapter_config.json")) else {
            panic!("an object")
        };
        for (key, value) in ours {
            let mut expected = theirs[&key].clone();
            if key == "target_modules" && name == "lora-one-layer" {
                // A pattern is written as the modules that it named.
                let modules = ["k_proj", "q_proj"];
                expected = modules.map(|m| format!("model.layers.1.self_attn.{m}")).to_vec().into();
            } else if let Value::Array(list) = &mut expected {
                list.sort_by_key(ToString::to_string);
            }
            if key != "encoder_hidden_size" {
                // The width of a projection that is folded away; PEFT keeps the model's width.
                assert_eq!(value, expected, "{name}: {key}");
            }
        }
    }
}

/// T18: a merged model is the adapted one.
#[test]
fn t18_merged_branches_are_the_unmerged_ones() {
    let sequences = vec![vec![3, 17, 101, 5, 64, 2, 90], vec![7, 7, 1, 33, 120, 8, 9]];
    for name in ["lora", "lora-one-layer", "rslora", "dora"] {
        let model = adapted(name);
        let merged = model.clone().merged().expect("branches can be merged");
        let difference = model.difference(&merged, &sequences).expect("valid ids");
        assert!(difference.greatest < 2e-5, "{name}: {difference:?}");
        assert_eq!((difference.same_greedy, difference.positions), (14, 14), "{name}");
        // And not the base, from which it differs.
        let from_base = model.difference(&base(), &sequences).expect("valid ids");
        assert!(from_base.greatest > 0.1 && from_base.same_greedy < 14, "{name}: {from_base:?}");
    }
    for name in ["prefix", "prompt"] {
        let error = adapted(name).merged().expect_err("positions are no weights").to_string();
        assert!(error.contains(&format!("a learned {name} takes positions")), "{error}");
    }
}

/// What is written here, of every kind, by its name.
fn ours() -> Vec<(&'static str, Transformer)> {
    let spec = |targets: &[&str], rslora, dora| LowRankSpec {
        rank: 3,
        alpha: 7.5,
        targets: targets.iter().map(|target| (*target).to_owned()).collect(),
        dropout: 0.1,
        rslora,
        dora,
    };
    // Only on an autodiff device does a parameter know whether it is trained.
    let base = || base().train();
    let low_rank = |spec| base().with_branches(&spec, 5).expect("valid");
    let models = vec![
        ("lora", low_rank(spec(&["q_proj", "down_proj"], false, false))),
        (
            "lora-some-layers",
            low_rank(spec(&["o_proj", r"model\.layers\.1\.mlp\..*"], false, false)),
        ),
        ("rslora", low_rank(spec(&["all-linear"], true, false))),
        ("dora", low_rank(spec(&["all-linear"], false, true))),
        ("dora-rslora", low_rank(spec(&["v_proj", "up_proj"], true, true))),
        ("prefix", base().with_prefix(4, 5).expect("valid")),
        ("prompt", base().with_prompt(4, 5).expect("valid")),
    ];
    models.into_iter().map(|(name, model)| (name, model.map(&mut MoveTrained).valid())).collect()
}

/// Where there is a Python with PEFT, named by `SOFT_PYTHON`: it loads what is written here, binds
/// every key and computes the same logits. Says so when there is none.
#[test]
fn t48_python_reads_ours() {
    let Some(python) = std::env::var_os("SOFT_PYTHON") else {
        eprintln!("SKIPPED: SOFT_PYTHON names no Python with torch, transformers and peft");
        return;
    };
    let out = tempfile::tempdir().expect("a folder");
    let ids: Vec<u32> = vec![3, 17, 101, 5, 64, 2, 90, 11];
    let mut logits = serde_json::Map::new();
    for (name, model) in ours() {
        model.save_peft(&out.path().join(name), "tiny-llama").expect("it is saved");
        let computed = host_values(model.logits(model.embed(&ids, 1)));
        let plain = host_values(base().logits(base().embed(&ids, 1)));
        let apart = computed.iter().zip(&plain).map(|(a, b)| (a - b).abs());
        assert!(apart.fold(0.0, f64::max) > 0.1, "{name} does something");
        logits.insert(name.to_owned(), computed.into());
    }
    let oracle = json!({"ids": [ids], "logits": logits});
    std::fs::write(out.path().join("logits.json"), oracle.to_string()).expect("it is written");
    let checked = std::process::Command::new(python)
        .arg(folder("check_ours.py"))
        .arg(out.path())
        .output()
        .expect("Python starts");
    eprintln!("{}", String::from_utf8_lossy(&checked.stdout));
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
