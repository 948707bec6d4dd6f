use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Device, Tensor};
use soft_model::{Family, ModelConfig, Transformer};

use super::*;
use crate::config::{Arm, MemoryCheck, ModelFamily};
use crate::example::Example;

/// Four rows of very different lengths, an eighth of each soft.
fn workload() -> Workload {
    let example = |len: usize| {
        let ids: Vec<u32> = (0..len as u32).collect();
        let mut example = Example::from_tokens(&ids, len / 8);
        example.soft[len / 8..len / 4].fill(true);
        example
    };
    let examples: Vec<Example> = [400, 80, 40, 200].map(example).to_vec();
    let config = config("");
    Workload {
        shape: config.model.new_shape(5000, 400),
        there: 0,
        new_tokens: 0,
        file_bytes: 0,
        arms: vec![(Arm::Soft, vec![examples.clone()])],
        valid: examples,
        asks: false,
    }
}

fn config(settings: &str) -> Config {
    let base = "model.family = \"llama\"\nmodel.d_model = 128\nmodel.n_heads = 4\n\
                model.n_layers = 6\ntrain.micro_batch = 4\ntrain.steps = 3\n";
    let loaded = crate::config::Loader::new().text("test", format!("{base}{settings}")).load();
    loaded.unwrap_or_else(|error| panic!("{settings}: {error}")).config
}

fn needed(settings: &str) -> u64 {
    estimate(&config(settings), &workload()).expect("it can be estimated").bytes()
}

/// Whether a setting needs less than another one, by more than a percent.
fn saves(less: &str, more: &str) {
    let (less_bytes, more_bytes) = (needed(less), needed(more));
    assert!(less_bytes as f64 <= 0.99 * more_bytes as f64, "{less}: {less_bytes}, {more_bytes}");
}

#[test]
fn t44_what_is_documented_as_less_memory_is_estimated_as_less() {
    saves("train.recompute = 1", "");
    saves("train.recompute = 1", "train.recompute = 3");
    saves("data.pack = 1", "");
    saves("train.loss_chunk = 64", "train.loss_chunk = 0");
    saves("data.max_len = 100", "");
    saves("low_rank.rank = 4", "");
    let group = "task.name = \"mnns\"\nrl.algorithm = \"grpo\"\nrl.group = ";
    saves(&format!("{group}2"), &format!("{group}8"));
    // What a rewarded step is made of: a reference of its own, and a pass that is never recomputed.
    let drawn = format!("{group}8\nrl.beta = ");
    saves(&format!("{drawn}0.0"), &format!("{drawn}0.1"));
    let held = |settings: &str, name: &str| {
        let found = estimate(&config(settings), &workload()).expect("it can be estimated");
        found.held.iter().find(|part| part.name == name).map_or(0, |part| part.bytes)
    };
    let (own, branches) = (format!("{drawn}0.1"), format!("{drawn}0.1\nlow_rank.rank = 4"));
    assert_eq!(held(&own, "weights of the reference"), held(&own, "weights"));
    assert_eq!(held(&branches, "weights of the reference"), 0, "the same weights");
    let changed = format!("{drawn}0.1\ntrain.recompute = 1\ntrain.loss_chunk = 1");
    assert_eq!(needed(&changed), needed(&format!("{drawn}0.1")), "one pass over all draws");
    let parallel = "rollout.kind = \"parallel\"\nrollout.passes = ";
    saves("", &format!("{parallel}2"));
    saves(&format!("{parallel}2"), &format!("{parallel}3"));
    saves(&format!("{parallel}3\nrollout.grad_passes = 1"), &format!("{parallel}3"));
    let sequential = "rollout.kind = \"sequential\"\nrollout.segment = ";
    saves(&format!("{sequential}4"), &format!("{sequential}1000"));
    assert_eq!(needed("train.recompute = 6"), needed("train.recompute = 100"), "all blocks");
    assert!(needed("train.grad_accum = 2") > needed(""), "a sum of gradients waits");
    assert!(needed("model.dropout = 0.1") > needed(""), "masks are kept");
}

#[test]
fn t44_the_estimate_is_the_sum_of_its_parts_and_of_one_phase() {
    let found = estimate(&config(""), &workload()).expect("it can be estimated");
    let held: u64 = found.held.iter().map(|part| part.bytes).sum();
    let largest = found.phases.iter().map(Phase::bytes).max().expect("there are phases");
    assert_eq!(found.bytes(), held + largest);
    let table = found.table();
    for part in ["weights", "moments of Adam", "gradients", "activations", "logits and loss"] {
        assert!(table.contains(part), "{part}: {table}");
    }
    assert!(table.starts_with(&format!("about {} MB", megabytes(found.bytes()))), "{table}");
}

#[test]
fn t44_an_arm_or_a_stage_that_comes_later_counts_too() {
    let mut two = workload();
    let short = vec![two.arms[0].1[0][2].clone()];
    two.arms.insert(0, (Arm::Hard, vec![short.clone()]));
    let of = |workload: &Workload, settings: &str| {
        estimate(&config(settings), workload).expect("it can be estimated").bytes()
    };
    assert_eq!(of(&two, ""), needed(""), "the arm that needs most");
    let mut staged = workload();
    staged.arms[0].1.insert(0, short);
    let mut curriculum = config("");
    (curriculum.curriculum.stages, curriculum.curriculum.first) = (1, 1);
    let found = estimate(&curriculum, &staged).expect("it can be estimated").bytes();
    assert!(found as f64 > 0.95 * needed("") as f64, "the stage that does: {found}");
    // A rollout that begins beyond the steps that are looked at one by one.
    let mut late = config("rollout.stages = [\"teacher 15000\", \"parallel\"]");
    late.train.steps = 20_000;
    let found = estimate(&late, &workload()).expect("it can be estimated").bytes();
    assert!(found as f64 > 1.3 * needed("") as f64, "{found}");
}

#[test]
fn t44_what_does_not_fit_is_refused_with_what_would_help_and_by_how_much() {
    let workload = workload();
    let config = config("train.loss_chunk = 0");
    let bytes = estimate(&config, &workload).expect("it can be estimated").bytes();
    let check = |mode, share: f64| {
        let mut config = config.clone();
        config.run.memory_check = mode;
        let available =
            Available { free: Some((share * bytes as f64) as u64), ..Available::default() };
        Check::of(&config, &workload, true, available).expect("it can be estimated")
    };
    let verdict = |share| check(MemoryCheck::Refuse, share).verdict();
    assert_eq!(verdict(1.01), Verdict::Fits);
    assert_eq!(verdict(0.9), Verdict::Tight);
    assert_eq!(verdict(0.5), Verdict::TooMuch);

    let tight = check(MemoryCheck::Refuse, 0.9);
    let error = tight.refuse_what_does_not_fit().expect_err("a dry run is strict");
    assert_eq!(error.exit_code(), 6);
    let warning = tight.refuse_what_clearly_does_not_fit().expect("a training tries it");
    assert_eq!(warning, Some(error.to_string()));
    let much = check(MemoryCheck::Refuse, 0.5);
    let text = much.refuse_what_clearly_does_not_fit().expect_err("it cannot fit").to_string();
    assert!(text.contains(&megabytes(bytes)) && text.contains("run.memory_check=warn"), "{text}");
    assert_eq!(much.savings.len(), 3, "{text}");
    assert!(much.savings.is_sorted_by_key(|saving| std::cmp::Reverse(saving.bytes)));
    for Saving { settings, bytes: saved } in &much.savings {
        assert!(text.contains(settings), "{text}");
        let lines = settings.replace(' ', "\n");
        let loaded = crate::config::Loader::new()
            .text("test", config.to_toml())
            .overrides(lines.lines())
            .load()
            .expect("advice can be followed");
        let after = estimate(&loaded.config, &workload).expect("it can be estimated").bytes();
        assert_eq!(bytes - after, *saved, "{settings}");
    }
    assert!(check(MemoryCheck::Warn, 0.5).refuse_what_does_not_fit().expect("warns").is_some());
    assert!(check(MemoryCheck::Off, 0.5).refuse_what_does_not_fit().expect("off").is_none());

    let unknown = Check::of(&config, &workload, true, Available::default()).expect("estimated");
    assert_eq!(unknown.verdict(), Verdict::Unknown);
    assert!(unknown.table().contains("is not known on this system"), "{}", unknown.table());
    let little = Available { free: Some(1), ..Available::default() };
    let gpu = Check::of(&config, &workload, false, little).expect("estimated");
    assert_eq!(gpu.verdict(), Verdict::Unknown, "host memory says nothing of a device's");
}

/// Names and sizes of the parameters of a real model.
fn of_model(shape: &ModelConfig) -> Vec<(String, usize)> {
    struct Sizes(Vec<usize>);
    impl ModuleVisitor for Sizes {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push(param.dims().iter().product());
        }
    }
    let model = Transformer::from_seed(shape, 1, &Device::flex(), DType::F32);
    let mut sizes = Sizes(Vec::new());
    model.visit(&mut sizes);
    let names = model.parameter_names().into_iter().map(|(_, name)| name);
    let mut all: Vec<_> = names.zip(sizes.0).collect();
    all.sort();
    all
}

#[test]
fn the_parameters_of_a_shape_are_those_of_its_model() {
    let new = |family| {
        let model = crate::config::Model { family, ..crate::config::Model::default() };
        model.new_shape(50, 20)
    };
    let llama = new(ModelFamily::Llama);
    for shape in [
        new(ModelFamily::Gpt2),
        ModelConfig { tied_embeddings: false, ..llama.clone() },
        ModelConfig { family: Family::Qwen2, qkv_bias: true, ..llama.clone() },
        ModelConfig { family: Family::Qwen3, qk_norm: true, n_kv_heads: 1, ..llama.clone() },
        llama,
    ] {
        let mut own = parameters::base(&shape);
        own.sort();
        assert_eq!(own, of_model(&shape), "{:?}", shape.family);
    }
}

#[test]
fn what_is_trained_follows_from_the_settings() {
    let shape = workload().shape;
    let of = |settings: &str, new_tokens| {
        Parameters::of(&config(settings), &shape, 0, new_tokens).expect("valid settings")
    };
    let whole = of("", 0);
    assert_eq!((whole.trained, whole.trained_tokens), (whole.all, 5000 * 128));
    let branches = of("low_rank.rank = 4", 0);
    // q_proj and v_proj of 6 layers, 4 x (128 + 128) each.
    assert_eq!(branches.trained, 6 * 2 * 4 * 256);
    assert_eq!((branches.all - whole.all, branches.trained_in_blocks), (branches.trained, 0));
    assert!(branches.in_blocks.attention && !branches.in_blocks.output);
    let rows = of("low_rank.rank = 4", 2);
    assert_eq!((rows.trained - branches.trained, rows.has_rows), (2 * 128, true));
    let only = of("train.only = ['^layers\\.0\\.mlp\\.down_proj']", 0);
    assert_eq!(only.trained, 128 * shape.d_ff);
    assert!(only.in_blocks.down && !only.in_blocks.up && !only.in_blocks.attention);
}
