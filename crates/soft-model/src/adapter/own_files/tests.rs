//! Additions come back as they were saved, and broken ones are refused with the file's name before
//! anything of their size is made.

use std::fs;

use burn::tensor::{DType, Device};
use serde_json::{Value, json};

use super::*;
use crate::adapter::LowRankSpec;
use crate::config::tests::config;
use crate::{Family, ModelFiles};

fn targets() -> Vec<String> {
    ["q_proj", "down_proj"].map(str::to_owned).to_vec()
}

/// A checkpoint with branches of rank 3 on two projections and a prefix of 2 tokens.
fn checkpoint(family: Family) -> (tempfile::TempDir, Transformer) {
    let config = config(family);
    let model = Transformer::from_seed(&config, 7, &Device::flex(), DType::F32);
    let model = model.with_low_rank(3, 6.0, &targets(), 5).unwrap().with_prefix(2, 5).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), config.to_hf().to_string()).unwrap();
    save_safetensors(&folder.path().join("model.safetensors"), &model.named_tensors()).unwrap();
    model.save_adapter(folder.path()).unwrap();
    (folder, model)
}

fn added(model: &Transformer) -> Vec<NamedTensor> {
    model.addition_tensors()
}

fn refused(folder: &Path) -> Error {
    let error = ModelFiles::open(folder).unwrap_err();
    assert_eq!(error.exit_code(), 4, "{error}");
    assert!(error.to_string().contains("soft_adapter."), "{error}");
    error
}

/// Changes one value of the description.
fn described(folder: &Path, key: &str, value: Value) {
    let path = folder.join(DESCRIPTION);
    let mut description: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    description[key] = value;
    fs::write(path, description.to_string()).unwrap();
}

#[test]
fn what_is_saved_is_opened() {
    for family in [Family::Llama, Family::Qwen3, Family::Gpt2] {
        let (folder, model) = checkpoint(family);
        let files = ModelFiles::open(folder.path()).unwrap();
        assert_eq!(files.context(), 75);
        let opened = Transformer::open(&files, &Device::flex(), DType::F32).unwrap();
        assert_eq!(added(&opened), added(&model));
        assert_eq!(added(&opened).len(), 3 * 6);
    }
}

/// The first checkpoints said less: what they did not have is off.
#[test]
fn a_description_of_the_first_checkpoints_is_read() {
    let (folder, model) = checkpoint(Family::Llama);
    let path = folder.path().join(DESCRIPTION);
    let first = json!({
        "rank": 3, "alpha": 6.0, "targets": ["q_proj", "down_proj"], "prefix_tokens": 2
    });
    fs::write(path, first.to_string()).unwrap();
    let files = ModelFiles::open(folder.path()).unwrap();
    let opened = Transformer::open(&files, &Device::flex(), DType::F32).unwrap();
    assert_eq!(opened.branches(), model.branches());
    assert_eq!(added(&opened), added(&model));
}

/// Branches of chosen layers, with everything that a branch can have, beside a prompt.
#[test]
fn branches_of_chosen_layers_and_a_prompt_come_back() {
    let config = config(Family::Llama);
    let spec = LowRankSpec {
        rank: 2,
        alpha: 5.0,
        targets: vec!["v_proj".to_owned(), r"model\.layers\.1\.mlp\..*".to_owned()],
        dropout: 0.25,
        rslora: true,
        dora: true,
    };
    let model = Transformer::from_seed(&config, 7, &Device::flex(), DType::F32);
    let model = model.with_branches(&spec, 5).unwrap().with_prompt(4, 5).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), config.to_hf().to_string()).unwrap();
    save_safetensors(&folder.path().join("model.safetensors"), &model.named_tensors()).unwrap();
    model.save_adapter(folder.path()).unwrap();
    let files = ModelFiles::open(folder.path()).unwrap();
    assert_eq!(files.context(), 73);
    let opened = Transformer::open(&files, &Device::flex(), DType::F32).unwrap();
    assert_eq!(opened.branches(), model.branches());
    assert_eq!(model.branches().len(), 3 + 3);
    assert_eq!(added(&opened), added(&model));
    assert_eq!(added(&opened).len(), 6 * 3 + 1);
}

#[test]
fn a_rank_that_the_values_do_not_have_is_refused_before_anything_is_drawn() {
    let (folder, _) = checkpoint(Family::Llama);
    described(folder.path(), "rank", json!(1_000_000_000_000u64));
    let Error::Tensors { mis_shaped, .. } = refused(folder.path()) else { panic!("shapes") };
    assert_eq!(mis_shaped.len(), 3 * 4);
    let first = "layers.0.down_proj.low_rank_a: found [96, 3], expected [96, 1000000000000]";
    assert_eq!(mis_shaped[0], first);
}

#[test]
fn all_differences_of_the_values_are_listed_together() {
    let (folder, model) = checkpoint(Family::Llama);
    let mut tensors = added(&model);
    tensors[0].name = "layers.9.q_proj.low_rank_a".to_owned();
    tensors[1].shape.reverse();
    save_safetensors(&folder.path().join(VALUES), &tensors).unwrap();
    let Error::Tensors { missing, unexpected, mis_shaped, .. } = refused(folder.path()) else {
        panic!("tensors")
    };
    assert_eq!(missing, ["layers.0.q_proj.low_rank_a [32, 3]"]);
    assert_eq!(unexpected, ["layers.9.q_proj.low_rank_a [32, 3]"]);
    assert_eq!(mis_shaped, ["layers.0.q_proj.low_rank_b: found [32, 3], expected [3, 32]"]);
}

#[test]
fn a_description_that_does_not_fit_the_base_is_refused() {
    let cases = [
        ("targets", json!(["c_attn"]), "found \"c_attn\", expected of q_proj"),
        ("targets", json!(["gate_proj"]), "found \"gate_proj\""),
        ("targets", json!(["q_proj", "q_proj"]), "\"q_proj\" occurs twice"),
        ("targets", json!([]), "`rank` 3 with 0 `targets`"),
        ("rank", json!(0), "`rank` 0 with 2 `targets`"),
        ("rank", json!(-1), "invalid value"),
        ("prefix_tokens", json!(77), "found 77, this model has room for 76"),
        ("more", json!(1), "unknown field"),
    ];
    for (key, value, expected) in cases {
        let (folder, _) = checkpoint(Family::Gpt2);
        described(folder.path(), key, value);
        let error = refused(folder.path()).to_string();
        assert!(error.contains("soft_adapter.json: not a valid adapter description"), "{error}");
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_description_and_its_values_come_together() {
    for (gone, named) in [(DESCRIPTION, VALUES), (VALUES, DESCRIPTION)] {
        let (folder, _) = checkpoint(Family::Llama);
        fs::remove_file(folder.path().join(gone)).unwrap();
        let error = refused(folder.path()).to_string();
        assert!(error.contains(&format!("{named}: not a valid adapter")), "{error}");
        assert!(error.contains(gone) && error.ends_with("not beside it"), "{error}");
    }
}

#[test]
fn a_description_of_absurd_length_is_not_read() {
    let (folder, _) = checkpoint(Family::Llama);
    fs::File::create(folder.path().join(DESCRIPTION)).unwrap().set_len(1 << 25).unwrap();
    let error = refused(folder.path()).to_string();
    assert!(error.contains("over the limit of 1048576 bytes"), "{error}");
}

#[test]
fn a_value_that_is_no_number_is_refused() {
    let (folder, model) = checkpoint(Family::Llama);
    let mut tensors = added(&model);
    tensors.iter_mut().for_each(|tensor| tensor.values.fill(f32::NAN));
    save_safetensors(&folder.path().join(VALUES), &tensors).unwrap();
    let files = ModelFiles::open(folder.path()).unwrap();
    let error = Transformer::open(&files, &Device::flex(), DType::F32).unwrap_err();
    let expected = "tensor `layers.0.q_proj.low_rank_a`: 96 of 96 values are NaN or infinite";
    assert!(error.to_string().contains(expected), "{error}");
}

/// They say that they act where the input is soft, and go nowhere that could not be said.
#[test]
fn additions_of_soft_inputs_come_back_and_are_neither_merged_nor_exported() {
    let (folder, model) = checkpoint(Family::Llama);
    let text = fs::read_to_string(folder.path().join(DESCRIPTION)).unwrap();
    assert!(!text.contains("active"), "what acts everywhere is written as before: {text}");
    let softly = model.with_active(Active::Soft);
    softly.save_adapter(folder.path()).unwrap();
    let files = ModelFiles::open(folder.path()).unwrap();
    assert_eq!((files.active(), files.context()), (Some(Active::Soft), 77));
    let opened = Transformer::open(&files, &Device::flex(), DType::F32).unwrap();
    assert_eq!((opened.active(), opened.taken_positions()), (Active::Soft, 0));
    assert_eq!(added(&opened), added(&softly));
    let out = folder.path().join("peft");
    let error = opened.save_peft(&out, "base").unwrap_err().to_string();
    assert!(error.contains("PEFT has no adapter that acts where the input is soft"), "{error}");
    assert!(!out.exists());
    let base = Transformer::from_seed(&config(Family::Llama), 7, &Device::flex(), DType::F32);
    let branches = base.with_low_rank(3, 6.0, &targets(), 5).unwrap();
    let error = branches.clone().with_active(Active::Soft).merged().unwrap_err().to_string();
    assert!(error.contains("a merged matrix would act everywhere"), "{error}");
    branches.merged().unwrap();
    described(folder.path(), "active", json!("sometimes"));
    let error = refused(folder.path()).to_string();
    assert!(error.contains("expected `always` or `soft`"), "{error}");
}
