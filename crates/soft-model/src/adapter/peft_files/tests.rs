//! T25: a PEFT adapter that does not fit, or that asks for what is not read, is refused with all
//! that is wrong.

use burn::tensor::{DType, Device};
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::adapter::LowRankSpec;
use crate::config::tests::config;

fn spec() -> LowRankSpec {
    LowRankSpec { rank: 3, alpha: 6.0, ..LowRankSpec::default() }
}

fn model(family: Family) -> Transformer {
    Transformer::from_seed(&config(family), 7, &Device::flex(), DType::F32)
}

/// A LoRA adapter of rank 3 on `q_proj` and `v_proj`.
fn adapter() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let model = model(Family::Llama).with_branches(&spec(), 5).unwrap();
    model.save_peft(folder.path(), "the-base").unwrap();
    folder
}

fn described(folder: &Path, change: impl FnOnce(&mut Value)) {
    let path = folder.join(ADAPTER_CONFIG);
    let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut json);
    fs::write(path, json.to_string()).unwrap();
}

fn refused(folder: &Path, family: Family) -> Error {
    let error = PeftAdapter::open(folder, &config(family)).unwrap_err();
    assert_eq!(error.exit_code(), 4, "{error}");
    error
}

#[test]
fn t25_each_foreign_setting_is_refused_by_name() {
    let cases = [
        ("peft_type", json!("IA3"), "`peft_type`: found \"IA3\", expected \"LORA\""),
        ("peft_type", json!(null), "`peft_type`: found null"),
        ("modules_to_save", json!(["lm_head"]), "`modules_to_save`: found [\"lm_head\"]"),
        ("bias", json!("all"), "`bias`: found \"all\", expected \"none\""),
        ("lora_bias", json!(true), "`lora_bias`: found true"),
        ("fan_in_fan_out", json!(true), "`fan_in_fan_out`: found true"),
        ("rank_pattern", json!({"q_proj": 2}), "`rank_pattern`: found {\"q_proj\":2}"),
        ("init_lora_weights", json!("pissa"), "change the base model"),
        ("use_qalora", json!(true), "`use_qalora`: found true, a feature that is not read"),
        ("exclude_modules", json!("q_proj"), "`exclude_modules`: found \"q_proj\""),
        ("task_type", json!("SEQ_CLS"), "`task_type`: found \"SEQ_CLS\", expected \"CAUSAL_LM\""),
        ("r", json!(0), "`r`: found 0, expected a whole number"),
        ("lora_alpha", json!("x"), "`lora_alpha`: found \"x\""),
        ("lora_dropout", json!(1.0), "`lora_dropout`: found 1.0"),
        ("target_modules", json!([]), "`target_modules`: found []"),
        ("target_modules", json!(["q_proj", "lm_head"]), "no projection \"lm_head\""),
        ("target_modules", json!("(a+)+$("), "no regular expression that is read here"),
        ("target_modules", json!("nothing"), "names no projection of this model"),
        ("layers_to_transform", json!([0, 9]), "`layers_to_transform`: found [0,9]"),
        ("lora_parameters", json!({}), "this is an adapter of mlx-lm"),
    ];
    for (key, value, expected) in cases {
        let folder = adapter();
        described(folder.path(), |json| json[key] = value);
        let error = refused(folder.path(), Family::Llama).to_string();
        assert!(error.contains(ADAPTER_CONFIG) && error.contains(expected), "{key}: {error}");
    }
}

#[test]
fn t25_all_problems_of_a_description_are_told_at_once() {
    let folder = adapter();
    described(folder.path(), |json| {
        json["bias"] = json!("all");
        json["r"] = json!(-1);
        json["loftq_config"] = json!({"loftq_bits": 4});
    });
    let error = refused(folder.path(), Family::Llama).to_string();
    for key in ["`bias`", "`r`", "`loftq_config`"] {
        assert!(error.contains(key), "{error}");
    }
}

#[test]
fn t25_a_rank_that_the_tensors_do_not_have_is_mis_shaped() {
    let folder = adapter();
    described(folder.path(), |json| json["r"] = json!(1_000_000_000_000u64));
    let Error::Tensors { mis_shaped, missing, unexpected, .. } =
        refused(folder.path(), Family::Llama)
    else {
        panic!("shapes")
    };
    assert_eq!((mis_shaped.len(), missing.len(), unexpected.len()), (3 * 4, 0, 0));
    let first = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight: found [3, 32], \
                 expected [1000000000000, 32]";
    assert_eq!(mis_shaped[0], first);
}

/// Targets that the tensors lack, and tensors that no target names: nothing is left unbound.
#[test]
fn t25_a_missing_b_and_an_unbound_key_are_listed_together() {
    let folder = adapter();
    let (_, mut tensors) =
        model(Family::Llama).with_branches(&spec(), 5).unwrap().as_peft().unwrap();
    assert!(tensors[1].name.ends_with("layers.0.self_attn.q_proj.lora_B.weight"));
    tensors[1].name = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.bias".to_owned();
    save_safetensors(&folder.path().join(ADAPTER_MODEL), &tensors).unwrap();
    let Error::Tensors { missing, unexpected, .. } = refused(folder.path(), Family::Llama) else {
        panic!("tensors")
    };
    assert_eq!(missing, ["base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight [32, 3]"]);
    assert_eq!(unexpected.len(), 1);

    // Disjoint targets, which other readers serve as the unchanged base.
    let folder = adapter();
    described(folder.path(), |json| json["target_modules"] = json!(["up_proj"]));
    let Error::Tensors { missing, unexpected, .. } = refused(folder.path(), Family::Llama) else {
        panic!("tensors")
    };
    assert_eq!((missing.len(), unexpected.len()), (3 * 2, 3 * 4));
}

#[test]
fn t25_files_that_are_missing_or_pickled_are_named() {
    let folder = adapter();
    fs::rename(folder.path().join(ADAPTER_MODEL), folder.path().join("adapter_model.bin")).unwrap();
    assert!(refused(folder.path(), Family::Llama).to_string().contains("is a pickle"));
    fs::remove_file(folder.path().join("adapter_model.bin")).unwrap();
    assert!(refused(folder.path(), Family::Llama).to_string().contains(ADAPTER_MODEL));
    fs::remove_file(folder.path().join(ADAPTER_CONFIG)).unwrap();
    assert!(refused(folder.path(), Family::Llama).to_string().contains(ADAPTER_CONFIG));
}

#[test]
fn low_rank_branches_of_gpt2_are_refused_both_ways() {
    let folder = adapter();
    assert!(refused(folder.path(), Family::Gpt2).to_string().contains("fused `c_attn`"));
    let model = model(Family::Gpt2).with_branches(&spec(), 5).unwrap();
    let error = model.save_peft(folder.path(), "b").unwrap_err().to_string();
    assert!(error.contains("fused `c_attn`"), "{error}");
}

#[test]
fn what_one_adapter_cannot_say_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let save = |model: &Transformer| model.save_peft(folder.path(), "b").unwrap_err().to_string();
    assert!(save(&model(Family::Llama)).contains("nothing added"));
    let both = model(Family::Llama).with_branches(&spec(), 5).unwrap().with_prefix(2, 5).unwrap();
    assert!(save(&both).contains("beside a prefix or prompt"));
    assert!(!folder.path().join(ADAPTER_MODEL).exists());
}

/// Every family and kind: what is written is read back with the same values.
#[test]
fn what_is_written_is_read() {
    let families = [Family::Llama, Family::Qwen3, Family::Gpt2];
    for family in families {
        let base = model(family);
        let mut all =
            vec![base.clone().with_prefix(2, 5).unwrap(), base.clone().with_prompt(2, 5).unwrap()];
        if family != Family::Gpt2 {
            let pattern = r"model\.layers\.[12]\.(mlp|self_attn)\..*".to_owned();
            for (dora, rslora) in [(false, false), (true, false), (false, true)] {
                let targets = vec!["o_proj".to_owned(), pattern.clone()];
                let spec = LowRankSpec { dora, rslora, dropout: 0.1, targets, ..spec() };
                all.push(base.clone().with_branches(&spec, 5).unwrap());
            }
        }
        for model in all {
            let folder = tempfile::tempdir().unwrap();
            model.save_peft(folder.path(), "b").unwrap();
            let adapter = PeftAdapter::open(folder.path(), &model.config).unwrap();
            assert_eq!(adapter.base_model(), Some("b"));
            let opened = base.clone().with_peft(&adapter).unwrap();
            assert_eq!(opened.addition_tensors(), model.addition_tensors());
            assert_eq!(opened.branches(), model.branches());
            let values: usize = model.addition_tensors().iter().map(|t| t.values.len()).sum();
            assert_eq!(adapter.parameters(), values);
        }
    }
}
