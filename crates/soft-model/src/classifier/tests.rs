//! Classifiers against transformers, against their own laws, and against broken folders.

use std::path::PathBuf;

use serde_json::json;
use soft_core::host_values;

use super::*;
use crate::config::Family;
use crate::config::tests::config;
use crate::{NamedTensor, save_safetensors};

/// f32 on both sides, with sums in another order; the logits are of the size of 3.
const ORACLE_TOLERANCE: f64 = 1e-5;
/// The classifiers that `tests/goldens/make_classifiers.py` wrote.
const GOLDENS: [&str; 2] = ["classifier-llama", "classifier-gpt2"];
/// None of them ends in a padding id.
const ROWS: [&[u32]; 4] = [&[1, 17, 4, 30, 22], &[19], &[1, 0, 2, 31, 14, 7, 9], &[2, 5]];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/goldens/tiny").join(name)
}

fn open(path: &Path, device: &Device, dtype: DType) -> SequenceClassifier {
    SequenceClassifier::open(path, device, dtype).unwrap_or_else(|error| panic!("{error}"))
}

fn open_golden(name: &str, dtype: DType) -> SequenceClassifier {
    open(&golden(name), &Device::flex(), dtype)
}

fn rows() -> Vec<Vec<u32>> {
    ROWS.map(<[u32]>::to_vec).to_vec()
}

fn assert_close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs();
        assert!(error <= tolerance, "{what}: value {at} is {found}, expected {expected}");
    }
}

/// Distributions over the vocabulary for every column, `[batch * seq, vocab]`, row-major, and which
/// columns are real: padding stands before, between and after them.
fn mixtures(vocab: usize) -> (Vec<f64>, Vec<Vec<bool>>) {
    let real = [[true, true, false, true], [false, true, false, false], [true, true, true, true]];
    let mut values = Vec::new();
    for position in 0..real.len() * 4 {
        let score = |id| (2.0 * ((position * vocab + id) as f64 * 1.7).sin()).exp();
        let sum: f64 = (0..vocab).map(score).sum();
        values.extend((0..vocab).map(|id| score(id) / sum));
    }
    (values, real.map(|row| row.to_vec()).to_vec())
}

/// The logits of mixtures of the classifier's own embeddings.
fn logits_of(classifier: &SequenceClassifier, probs: Tensor<2>, real: &[Vec<bool>]) -> Tensor<2> {
    let d_model = classifier.config().d_model;
    let embeds = probs.matmul(classifier.embedding());
    classifier.logits_of_embeds(embeds.reshape([real.len(), real[0].len(), d_model]), real)
}

#[test]
fn logits_are_those_of_transformers() {
    for (name, labels) in GOLDENS.into_iter().zip([1, 3]) {
        let text = fs::read_to_string(golden(name).join("logits.json")).unwrap();
        let oracle: Value = serde_json::from_str(&text).unwrap();
        let rows: Vec<Vec<u32>> = serde_json::from_value(oracle["rows"].clone()).unwrap();
        let expected: Vec<Vec<f64>> = serde_json::from_value(oracle["logits"].clone()).unwrap();
        let classifier = open_golden(name, DType::F32);
        assert_eq!(classifier.num_labels(), labels);
        let found = classifier.logits(&rows);
        assert_eq!(found.dims(), [rows.len(), labels]);
        assert_close(name, &host_values(found), &expected.concat(), ORACLE_TOLERANCE);
    }
}

#[test]
fn a_row_alone_is_the_row_in_a_batch() {
    for name in GOLDENS {
        let classifier = open_golden(name, DType::F64);
        let together = host_values(classifier.logits(&rows()));
        let alone: Vec<f64> =
            rows().into_iter().flat_map(|row| host_values(classifier.logits(&[row]))).collect();
        assert_close(name, &together, &alone, 1e-12);
    }
}

#[test]
fn tokens_with_the_padding_id_at_the_end_are_no_part_of_a_row() {
    for name in GOLDENS {
        let classifier = open_golden(name, DType::F64);
        let pad = classifier.config().pad_id.unwrap();
        let logits = |rows: Vec<Vec<u32>>| host_values(classifier.logits(&rows));
        let padded = rows().into_iter().map(|row| [row, vec![pad; 2]].concat()).collect();
        assert_close(name, &logits(padded), &logits(rows()), 1e-12);
        assert_close(name, &logits(vec![vec![pad; 3]]), &logits(vec![vec![pad]]), 0.0);
        // Within a row it is a token as any other.
        let (within, without) = (logits(vec![vec![1, pad, 4]]), logits(vec![vec![1, 4]]));
        assert!(within.iter().zip(&without).all(|(a, b)| (a - b).abs() > 1e-3));
    }
}

#[test]
fn without_a_padding_id_every_token_counts() {
    let (from, to) = (golden(GOLDENS[0]), tempfile::tempdir().unwrap());
    let json = fs::read_to_string(from.join("config.json")).unwrap();
    let json = json.replace("\"pad_token_id\": 0", "\"pad_token_id\": null");
    fs::write(to.path().join("config.json"), json).unwrap();
    fs::copy(from.join("model.safetensors"), to.path().join("model.safetensors")).unwrap();
    let classifier = open(to.path(), &Device::flex(), DType::F64);
    let logits = host_values(classifier.logits(&[vec![1, 4], vec![1, 4, 0], vec![1, 4, 0, 0]]));
    assert!((logits[0] - logits[1]).abs() > 1e-3 && (logits[1] - logits[2]).abs() > 1e-3);
}

#[test]
fn one_hot_mixtures_are_tokens() {
    for name in GOLDENS {
        let classifier = open_golden(name, DType::F64);
        let (vocab, longest) = (classifier.config().vocab_size, 7);
        let (mut probs, mut real) = (Vec::new(), Vec::new());
        for row in ROWS {
            // Padding is on the right here; `logits` pads on the left.
            for column in 0..longest {
                let id = row.get(column).map_or(3, |&id| id as usize);
                probs.extend((0..vocab).map(|other| f64::from(u8::from(other == id))));
            }
            real.push((0..longest).map(|column| column < row.len()).collect::<Vec<bool>>());
        }
        let shape = [ROWS.len() * longest, vocab];
        let probs = float_tensor(probs, shape, &Device::flex(), DType::F64);
        let found = host_values(logits_of(&classifier, probs, &real));
        assert_close(name, &found, &host_values(classifier.logits(&rows())), 1e-12);
    }
}

#[test]
fn the_gradient_through_mixtures_is_that_of_finite_differences() {
    for name in GOLDENS {
        let device = Device::flex().autodiff();
        let classifier = open(&golden(name), &device, DType::F64);
        assert!(!classifier.embedding().is_require_grad(), "its parameters are constants");
        let vocab = classifier.config().vocab_size;
        let (values, real) = mixtures(vocab);
        let shape = [values.len() / vocab, vocab];
        let leaf = |values: Vec<f64>| float_tensor(values, shape, &device, DType::F64);
        let loss = |probs: Tensor<2>| {
            let logits = logits_of(&classifier, probs, &real);
            let weights = (0..logits.shape().num_elements()).map(|at| 1.0 + at as f64).collect();
            let weights = float_tensor(weights, logits.dims(), &device, DType::F64);
            (logits.clone() * weights + logits.square()).sum()
        };
        let input = leaf(values.clone()).require_grad();
        let mut grads = loss(input.clone()).backward();
        let found = host_values(input.grad_remove(&mut grads).expect("the logits depend on it"));

        let step = 1e-5;
        let at = |entry: usize, delta: f64| {
            let mut moved = values.clone();
            moved[entry] += delta;
            host_values(loss(leaf(moved)))[0]
        };
        let expected: Vec<f64> = (0..found.len())
            .map(|entry| (at(entry, step) - at(entry, -step)) / (2.0 * step))
            .collect();
        let largest = expected.iter().fold(0.0f64, |most, x| most.max(x.abs()));
        assert!(largest > 0.1, "something depends on the mixtures");
        assert_close(name, &found, &expected, 1e-7 * largest);
        let columns = real.iter().flatten().zip(found.chunks(vocab));
        for (&real, gradient) in columns {
            assert_eq!(gradient.iter().any(|&x| x != 0.0), real, "padding alone has none");
        }
    }
}

/// Of the random GPT-2 alone: the random Llama makes much of rounding, and in transformers too its
/// logits in bf16 are off by 0.24.
#[test]
fn a_half_precision_classifier_has_logits_of_f32() {
    let logits = open_golden(GOLDENS[1], DType::BF16).logits(&rows());
    assert_eq!(logits.dtype(), DType::F32);
    let exact = host_values(open_golden(GOLDENS[1], DType::F32).logits(&rows()));
    assert_close("bf16", &host_values(logits), &exact, 0.05);
}

#[test]
fn rows_that_cannot_be_scored_are_named() {
    let classifier = open_golden(GOLDENS[0], DType::F32);
    let refused = |rows: &[Vec<u32>]| classifier.check(rows).unwrap_err().to_string();
    assert_eq!(refused(&[]), "generation settings: there are no rows to score");
    assert_eq!(refused(&[vec![1], vec![]]), "generation settings: row 1 has no tokens to score");
    assert!(refused(&[vec![1, 32]]).contains("token id 32 at position 1"));
    assert!(refused(&[vec![1; 65]]).contains("65 tokens"));
    assert!(classifier.check(&[vec![1; 64], [vec![1; 64], vec![0; 9]].concat()]).is_ok());
}

#[test]
#[should_panic(expected = "rows that cannot be scored: generation settings: row 0 has no tokens")]
fn an_empty_row_has_no_logits() {
    drop(open_golden(GOLDENS[0], DType::F32).logits(&[vec![]]));
}

#[test]
#[should_panic(expected = "row 1 has 0 real columns, expected 1 to 64")]
fn a_row_of_padding_has_no_logits() {
    let classifier = open_golden(GOLDENS[0], DType::F32);
    let embeds = Tensor::zeros([2, 2, 16], (&Device::flex(), DType::F32));
    drop(classifier.logits_of_embeds(embeds, &[vec![true, false], vec![false, false]]));
}

/// A folder with a decoder of zeros, whose hidden states are 0, and these tensors.
fn folder(
    family: Family,
    change: impl Fn(&mut Value),
    more: &[(&str, &[usize])],
) -> tempfile::TempDir {
    let config = config(family);
    let folder = tempfile::tempdir().expect("a folder");
    let tensor = |name: &str, shape: &[usize], value: fn(usize) -> f32| NamedTensor {
        name: name.to_owned(),
        shape: shape.to_vec(),
        values: (0..shape.iter().product()).map(value).collect(),
    };
    let decoder = expected_tensors(&config);
    let decoder = decoder.iter().map(|(name, shape)| tensor(name, shape, |_| 0.0));
    let more = more.iter().map(|&(name, shape)| tensor(name, shape, |at| at as f32 - 0.5));
    let tensors: Vec<NamedTensor> = decoder.chain(more).collect();
    save_safetensors(&folder.path().join("model.safetensors"), &tensors).expect("written");
    let mut json = config.to_hf();
    json["architectures"] = json!(["AnyForSequenceClassification"]);
    // What a language model had; classifiers have no output head.
    json["tie_word_embeddings"] = json!(false);
    change(&mut json);
    fs::write(folder.path().join("config.json"), json.to_string()).expect("written");
    folder
}

fn refused(path: &Path) -> String {
    let error = SequenceClassifier::open(path, &Device::flex(), DType::F32).expect_err("refused");
    assert_eq!(error.exit_code(), 4, "{error}");
    error.to_string()
}

#[test]
fn every_family_has_classifiers_and_a_bias_is_added() {
    for family in [Family::Llama, Family::Mistral, Family::Qwen2, Family::Qwen3, Family::Gpt2] {
        let folder = folder(family, |_| {}, &[("score.weight", &[2, 32]), ("score.bias", &[2])]);
        let classifier = open(folder.path(), &Device::flex(), DType::F32);
        assert_eq!(classifier.embedding().dims(), [89, 32]);
        assert_eq!(host_values(classifier.logits(&[vec![1, 2]])), [-0.5, 0.5]);
        let note = classifier.require_tokenizer().unwrap_err().to_string();
        assert!(note.ends_with("has no tokenizer.json"), "{note}");
    }
}

#[test]
fn the_tokenizer_is_that_of_the_folder() {
    let folder = folder(Family::Llama, |_| {}, &[("score.weight", &[2, 32])]);
    let write = |id: u32| {
        let json = json!({
            "version": "1.0", "added_tokens": [],
            "model": {"type": "BPE", "vocab": {"a": 0, "b": id}, "merges": []},
        });
        fs::write(folder.path().join("tokenizer.json"), json.to_string()).unwrap();
    };
    write(7);
    let classifier = open(folder.path(), &Device::flex(), DType::F32);
    let ids = classifier.require_tokenizer().unwrap().encode("ba", false).unwrap();
    assert_eq!(ids, [7, 0]);
    assert!(classifier.tokenizer().is_some());
    write(89);
    let message = refused(folder.path());
    assert!(message.contains("its largest id is 89, but the model has 89 embeddings"), "{message}");
}

const EXPECTED: &str = "; expected a folder of safetensors whose config.json has an architecture \
                        that ends in ForSequenceClassification, with a tensor `score.weight \
                        [num_labels, d_model]`";

#[test]
fn what_is_no_classifier_is_named_with_what_is_expected() {
    let named = |class: &'static str| {
        let change = |json: &mut Value| json["architectures"] = json!([class]);
        folder(Family::Llama, change, &[("score.weight", &[2, 32])])
    };
    let unnamed = folder(Family::Gpt2, |json| json["architectures"] = Value::Null, &[]);
    let cases = [
        (named("LlamaForCausalLM"), "LlamaForCausalLM is a language model"),
        (named("GPT2LMHeadModel"), "GPT2LMHeadModel is a language model"),
        (named("LlamaModel"), "LlamaModel is no sequence classifier"),
        (unnamed, "no tensor `score.weight`: this is a language model, or its score is lost"),
    ];
    for (folder, found) in &cases {
        let folder = folder.path();
        assert_eq!(refused(folder), format!("{}: {found}{EXPECTED}", folder.display()));
    }
    let empty = tempfile::tempdir().unwrap();
    assert!(refused(empty.path()).ends_with(&format!(": no config.json{EXPECTED}")));
    fs::write(empty.path().join("adapter_config.json"), "{}").unwrap();
    assert!(refused(empty.path()).contains("an adapter, to be merged with `merge_and_unload`"));
    let file = empty.path().join("model.gguf");
    fs::write(&file, "GGUF").unwrap();
    let found = "this is a file: classifiers are not read from GGUF";
    assert_eq!(refused(&file), format!("{}: {found}{EXPECTED}", file.display()));
    assert!(refused(&empty.path().join("none")).contains("cannot access"));
}

#[test]
fn a_score_has_as_many_rows_as_there_are_labels() {
    let names = |count: usize| -> Value {
        (0..count).map(|label| (label.to_string(), json!(format!("LABEL_{label}")))).collect()
    };
    let made = |number: Value, names: Value, rows: usize| {
        let change = |json: &mut Value| {
            json["num_labels"] = number.clone();
            json["id2label"] = names.clone();
        };
        folder(Family::Llama, change, &[("score.weight", &[rows, 32])])
    };
    let labels =
        |folder: tempfile::TempDir| open(folder.path(), &Device::flex(), DType::F32).num_labels();
    let none = Value::Null;
    assert_eq!(labels(made(json!(1), none.clone(), 1)), 1);
    assert_eq!(labels(made(none.clone(), names(5), 5)), 5);
    assert_eq!(labels(made(json!(3), names(3), 3)), 3);
    assert_eq!(labels(made(none.clone(), none.clone(), 2)), 2);

    let cases = [
        (made(json!(2), none.clone(), 1), "`num_labels`: 2 labels, but `score.weight` is [1, 32]"),
        (made(none.clone(), names(1), 4), "`id2label`: 1 labels, but `score.weight` is [4, 32]"),
        (
            made(none.clone(), none.clone(), 1),
            "`num_labels`: 2 labels (transformers' default where neither it nor id2label is \
             there), but `score.weight` is [1, 32]",
        ),
        (made(json!(2), names(3), 2), "`id2label`: it names 3 labels, but num_labels is 2"),
        (
            made(json!(0), none.clone(), 1),
            "`num_labels`: found 0, expected a whole number, 1 or more",
        ),
        (
            made(none, json!({}), 1),
            "`id2label`: found {}, expected an object with a name for each label",
        ),
    ];
    for (folder, problem) in &cases {
        let path = folder.path().join("config.json");
        assert_eq!(refused(folder.path()), format!("{}: key {problem}", path.display()));
    }
}

#[test]
fn all_tensors_that_do_not_fit_are_listed() {
    let more: [(&str, &[usize]); 3] =
        [("score.weight", &[2, 31]), ("score.bias", &[3]), ("lm_head.weight", &[89, 32])];
    let folder = folder(Family::Llama, |json| json["num_hidden_layers"] = json!(4), &more);
    let message = refused(folder.path());
    for part in [
        "missing: model.layers.3.input_layernorm.weight [32], ",
        "unexpected: lm_head.weight [89, 32]\n",
        "mis-shaped: score.bias: found [3], expected [2], \
         score.weight: found [2, 31], expected [2, 32]",
    ] {
        assert!(message.contains(part), "{part:?} in {message}");
    }
}
