//! Settings of a training that change over its steps, or say what is trained.

use std::path::Path;

use burn::tensor::DType;
use serde_json::Value;
use soft_model::{ModelFiles, Transformer};
use soft_tests::device;
use soft_tests::runs::{
    Runs, assert_same_outcome, checkpoint, metrics, series, tensors, write_counting_lines,
};
use soft_train::run::Resume;

/// Name and bytes of each tensor.
type Weights = Vec<(String, Vec<u8>)>;

fn weights(run: &Path, steps: u64) -> Weights {
    let file = checkpoint(run, steps as usize).join("model.safetensors");
    tensors(&file).into_iter().map(|(name, _, bytes)| (name, bytes)).collect()
}

fn changed(a: &Weights, b: &Weights) -> Vec<String> {
    let pairs = a.iter().zip(b).filter(|(a, b)| a.1 != b.1);
    pairs.map(|(a, _)| a.0.clone()).collect()
}

#[test]
fn stages_schedules_and_estimators_are_recorded_and_resume_to_the_bit() {
    let runs = Runs::temporary();
    let settings = [
        "rollout.stages=[\"teacher 6\", \"parallel 6\", \"sequential\"]",
        "guidance.schedule=inverse_sigmoid",
        "guidance.end=0.1",
        "guidance.form=clamp",
        "guidance.over=position",
        "objective.entropy_schedule=linear",
        "objective.entropy_beta=-0.1",
        "objective.entropy_hold=4",
        "estimator.kind=rao_blackwell",
        "estimator.schedule=cosine",
        "estimator.end=0.3",
        "train.schedule=wsd",
        "train.decay=5",
        "train.rates=[\"mlp 2\", \"mlp.up 0.5\"]",
        "save.every=9",
        "save.keep=5",
    ];
    let whole = runs.train("whole", &settings).run_dir;
    let guidance = series(&whole, "guidance");
    assert!(guidance[..6].iter().all(|&a| a == 1.0), "the teacher feeds the truth: {guidance:?}");
    assert!(guidance[6] < 1.0 && guidance[19] == 0.1, "{guidance:?}");
    assert!(guidance[6..].windows(2).all(|pair| pair[0] > pair[1]), "{guidance:?}");
    let beta = series(&whole, "entropy_beta");
    assert!(beta[..5].iter().all(|&beta| beta == 0.0) && beta[19] == -0.1, "{beta:?}");
    let rates = series(&whole, "learning_rate");
    assert!(rates[..15].iter().all(|&rate| rate == 1e-2) && rates[19] == 0.0, "{rates:?}");
    let clamped = series(&whole, "guidance/clamped");
    assert_eq!(clamped.len(), 14, "the teacher clamps nothing");
    assert!(clamped[0] > 0.0, "it knows little yet: {clamped:?}");
    assert!(clamped.iter().all(|share| (0.0..=1.0).contains(share)), "{clamped:?}");
    let records = metrics(&whole);
    let looked: Vec<u64> = records
        .iter()
        .filter(|record| record.get("mixture/norm").is_some_and(Value::is_number))
        .filter_map(|record| record["step"].as_u64())
        .collect();
    assert_eq!(looked, [1, 11], "where the mixtures lie is looked at every tenth step");

    let parts = runs.train("parts", &settings).run_dir;
    std::fs::remove_dir_all(checkpoint(&parts, 20)).expect("its last checkpoint");
    std::fs::remove_dir_all(checkpoint(&parts, 18)).expect("and the one before");
    let parts = runs.resumed("parts", &settings, Resume::Auto).run_dir;
    assert_same_outcome(&whole, &parts, 20, "resumed inside the second stage");
}

#[test]
fn only_what_is_named_is_trained_and_a_rate_of_0_trains_nothing() {
    let runs = Runs::temporary();
    let start = weights(&runs.train("start", &["train.lr=0", "train.weight_decay=0"]).run_dir, 20);
    let settings = ["train.only=[\"layers.1.mlp\", \"^norm\"]", "train.weight_decay=0"];
    let some = weights(&runs.train("some", &settings).run_dir, 20);
    let trained = changed(&start, &some);
    assert!(!trained.is_empty());
    for name in &trained {
        assert!(name.contains("h.1.mlp") || name.contains("ln_f"), "{name} was to stay");
    }
    assert!(trained.iter().any(|name| name.contains("ln_f")), "{trained:?}");
    let settings = ["train.rates=[\".* 0\", \"embed_tokens 1\"]", "train.weight_decay=0"];
    let rated = weights(&runs.train("rated", &settings).run_dir, 20);
    let trained = changed(&start, &rated);
    assert_eq!(trained.len(), 1, "{trained:?}");
    assert!(trained[0].contains("wte"), "{trained:?}");
}

#[test]
fn names_that_no_parameter_has_are_refused_with_some_that_there_are() {
    let runs = Runs::temporary();
    for (key, value) in [("train.only", "layers.9"), ("train.rates", "layers.9 2")] {
        let setting = [format!("{key}=[{value:?}]")];
        let error = runs.try_train(key, &setting, Resume::Never).expect_err(key);
        let text = error.to_string();
        assert_eq!(error.exit_code(), 2, "{text}");
        assert!(text.contains(key) && text.contains("layers.0."), "{text}");
    }
    let frozen = ["low_rank.rank=2".into(), "train.rates=[\"embed_tokens 2\"]".to_owned()];
    let error = runs.try_train("frozen", &frozen, Resume::Never).expect_err("it is frozen");
    assert!(error.to_string().contains("low_rank"), "{error}");
    for bad in ["mlp", "mlp -1", "mlp inf", "( 2"] {
        let setting = [format!("train.rates=[{bad:?}]")];
        let error = runs.try_train("rates", &setting, Resume::Never).expect_err(bad);
        assert!(error.to_string().contains("train.rates"), "{error}");
    }
}

#[test]
fn a_model_that_was_trained_in_part_opens_as_any_other() {
    let runs = Runs::temporary();
    let run = runs.train("part", &["train.only=[\"mlp\"]"]).run_dir;
    let files = ModelFiles::open(&checkpoint(&run, 20)).expect("a checkpoint is a model");
    Transformer::open(&files, &device(), DType::F32).expect("its tensors fit");
}

/// What acts where the input is soft is saved so, trained on alone and resumed to the bit; there
/// must be something soft for it to learn from.
#[test]
fn additions_of_soft_inputs_are_trained_saved_and_resumed() {
    let runs = Runs::temporary();
    let soft = ["adapter.active=soft", "low_rank.rank=2", "prefix.tokens=2", "save.every=10"];
    let whole = runs.train("whole", &soft).run_dir;
    let files = ModelFiles::open(&checkpoint(&whole, 20)).expect("a checkpoint is a model");
    assert_eq!(files.active(), Some(soft_model::Active::Soft));
    let losses = series(&whole, "loss");
    assert!(losses[19] < losses[0], "{losses:?}");
    let first = [&soft[..], &["train.steps=10"]].concat();
    runs.train("parts", &first);
    let parts = runs.resumed("parts", &soft, Resume::Auto).run_dir;
    assert_same_outcome(&whole, &parts, 20, "resumed");
    // A further addition would have to act where the first does.
    let one = runs.train("one", &["adapter.active=soft", "low_rank.rank=2", "train.steps=1"]);
    let model = format!("model.path={:?}", checkpoint(&one.run_dir, 1).display().to_string());
    let error = runs.error("more", &[&*model, "prefix.tokens=2"], Resume::Never);
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("act otherwise"), "{error}");
    let [train, _] = write_counting_lines(&runs, false);
    let ids = ["task.name=ids", &*train, "adapter.active=soft", "low_rank.rank=2"];
    let error = runs.error("tokens", &ids, Resume::Never);
    assert_eq!(error.exit_code(), 3);
    assert!(error.to_string().contains("no example has a soft input"), "{error}");
}
