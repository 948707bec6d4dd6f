//! One interface over every file: names, orientation, refusals.

use std::fs;

use half::{bf16, f16};
use serde_json::json;

use super::*;
use crate::config::Family;
use crate::config::tests::config;
use crate::gguf::tests::Builder;
use crate::safetensors_file::tests::bytes as safetensors_bytes;

mod index;
mod shards;

/// Values that tell every element of every tensor apart.
fn numbered(config: &ModelConfig) -> Vec<NamedTensor> {
    let fill = |(index, (name, shape)): (usize, (String, Vec<usize>))| {
        let len = shape.iter().product();
        let values = (0..len).map(|i| (index * 10_000 + i) as f32).collect();
        NamedTensor { name, shape, values }
    };
    expected_tensors(config).into_iter().enumerate().map(fill).collect()
}

fn same(weights: &Weights, tensors: &[NamedTensor]) {
    assert_eq!(weights.names().count(), tensors.len());
    for tensor in tensors {
        assert_eq!(weights.shape(&tensor.name), Some(&tensor.shape[..]), "{}", tensor.name);
        assert!(weights.f32_values(&tensor.name).unwrap() == tensor.values, "{}", tensor.name);
    }
}

fn differences(weights: &Weights, config: &ModelConfig) -> [Vec<String>; 3] {
    match weights.check(config).unwrap_err() {
        Error::Tensors { missing, unexpected, mis_shaped, .. } => [missing, unexpected, mis_shaped],
        other => panic!("{other}"),
    }
}

#[test]
fn what_is_saved_is_read_for_every_family() {
    for family in [Family::Llama, Family::Mistral, Family::Qwen2, Family::Qwen3, Family::Gpt2] {
        for tied_embeddings in [true, false] {
            let config = ModelConfig { tied_embeddings, ..config(family) };
            let folder = tempfile::tempdir().unwrap();
            let tensors = numbered(&config);
            save_safetensors(&folder.path().join("model.safetensors"), &tensors).unwrap();
            let weights = Weights::open_folder(folder.path(), &config).unwrap();
            weights.check(&config).unwrap();
            same(&weights, &tensors);
        }
    }
}

#[test]
fn gpt2_matrices_lie_transposed_in_the_file() {
    let config = config(Family::Gpt2);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    save_safetensors(&path, &numbered(&config)).unwrap();
    let file = fs::read(&path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&file).unwrap();
    let stored = file.tensor("transformer.h.0.attn.c_attn.weight").unwrap();
    assert_eq!(stored.shape(), [32, 96]);
    let second = f32::from_le_bytes(stored.data()[4..8].try_into().unwrap());
    let weights = Weights::open_folder(folder.path(), &config).unwrap();
    let canonical = weights.f32_values("transformer.h.0.attn.c_attn.weight").unwrap();
    assert_eq!(second, canonical[32], "the second stored number is output 1 of input 0");
    assert_eq!(file.tensor("transformer.wte.weight").unwrap().shape(), [89, 32]);
}

/// A folder with one safetensors of zeros in these types and shapes.
fn folder_of(tensors: &[(&str, &str, &[usize], usize)]) -> tempfile::TempDir {
    let mut header = serde_json::Map::new();
    let mut begin = 0;
    for (name, dtype, shape, bytes) in tensors {
        let end = begin + shape.iter().product::<usize>() * bytes;
        header.insert(
            (*name).into(),
            json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}),
        );
        begin = end;
    }
    let folder = tempfile::tempdir().unwrap();
    let bytes = safetensors_bytes(&serde_json::Value::Object(header).to_string(), begin);
    fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
    folder
}

#[test]
fn prefixes_are_added_and_buffers_are_left_out() {
    let gpt2 = folder_of(&[
        ("h.0.ln_1.weight", "F32", &[32], 4),
        ("h.0.attn.bias", "U8", &[1, 1, 2, 2], 1),
        ("h.0.attn.masked_bias", "F32", &[], 4),
        ("transformer.h.0.attn.c_attn.bias", "BF16", &[96], 2),
    ]);
    let weights = Weights::open_folder(gpt2.path(), &config(Family::Gpt2)).unwrap();
    let names: Vec<_> = weights.names().collect();
    assert_eq!(names, ["transformer.h.0.attn.c_attn.bias", "transformer.h.0.ln_1.weight"]);
    let llama = folder_of(&[
        ("norm.weight", "F16", &[32], 2),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", "F32", &[4], 4),
    ]);
    let weights = Weights::open_folder(llama.path(), &config(Family::Llama)).unwrap();
    assert_eq!(weights.names().collect::<Vec<_>>(), ["model.norm.weight"]);
    let both =
        folder_of(&[("norm.weight", "F32", &[32], 4), ("model.norm.weight", "F32", &[32], 4)]);
    let error = Weights::open_folder(both.path(), &config(Family::Llama)).unwrap_err();
    assert!(error.to_string().contains("two tensors mean `model.norm.weight`"), "{error}");
}

#[test]
fn t20_all_differences_are_listed_together() {
    let folder = folder_of(&[
        ("model.norm.weight", "F32", &[7], 4),
        ("model.layers.9.extra.weight", "F32", &[2], 4),
    ]);
    let config = config(Family::Llama);
    let weights = Weights::open_folder(folder.path(), &config).unwrap();
    let [missing, unexpected, mis_shaped] = differences(&weights, &config);
    assert_eq!(missing.len(), expected_tensors(&config).len() - 1);
    assert_eq!(unexpected, ["model.layers.9.extra.weight [2]"]);
    assert_eq!(mis_shaped, ["model.norm.weight: found [7], expected [32]"]);
}

#[test]
fn t20_a_tensor_without_values_is_mis_shaped_and_reads_as_nothing() {
    let matrix = "model.layers.0.mlp.up_proj.weight";
    let folder = folder_of(&[("model.norm.weight", "F32", &[0], 4), (matrix, "F16", &[0, 32], 2)]);
    let config = config(Family::Llama);
    let weights = Weights::open_folder(folder.path(), &config).unwrap();
    let [_, _, mis_shaped] = differences(&weights, &config);
    assert_eq!(mis_shaped.len(), 2);
    assert!(mis_shaped.contains(&"model.norm.weight: found [0], expected [32]".to_owned()));
    assert_eq!(weights.f32_values(matrix).unwrap(), [0.0; 0]);
    assert_eq!(weights.non_finite(), []);
    let gpt2 = folder_of(&[("transformer.h.0.mlp.c_fc.weight", "F32", &[32, 0], 4)]);
    let weights = Weights::open_folder(gpt2.path(), &self::config(Family::Gpt2)).unwrap();
    assert_eq!(weights.f32_values("transformer.h.0.mlp.c_fc.weight").unwrap(), [0.0; 0]);
}

#[test]
fn t20_integers_are_refused_by_name() {
    let folder = folder_of(&[("model.norm.weight", "I64", &[32], 8)]);
    let error = Weights::open_folder(folder.path(), &config(Family::Llama)).unwrap_err();
    assert!(error.to_string().contains("`model.norm.weight` has type I64; supported are F32"));
}

#[test]
fn a_head_that_repeats_the_tied_embedding_is_dropped_and_another_is_not() {
    let tied = config(Family::Llama);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let mut tensors = numbered(&tied);
    let mut head = tensors[0].clone();
    head.name = "lm_head.weight".into();
    tensors.push(head);
    save_safetensors(&path, &tensors).unwrap();
    Weights::open_folder(folder.path(), &tied).unwrap().check(&tied).unwrap();
    tensors.last_mut().unwrap().values[5] += 1.0;
    save_safetensors(&path, &tensors).unwrap();
    let [_, unexpected, _] =
        differences(&Weights::open_folder(folder.path(), &tied).unwrap(), &tied);
    assert!(unexpected[0].contains("tie_word_embeddings must be false"));
    let untied = ModelConfig { tied_embeddings: false, ..tied };
    Weights::open_folder(folder.path(), &untied).unwrap().check(&untied).unwrap();
}

#[test]
fn half_precisions_are_widened_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let header = json!({
        "model.a": {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]},
        "model.b": {"dtype": "BF16", "shape": [1], "data_offsets": [4, 6]},
        "model.c": {"dtype": "F64", "shape": [1], "data_offsets": [6, 14]},
    });
    let mut bytes = safetensors_bytes(&header.to_string(), 0);
    bytes.extend([f16::from_f32(-0.1), f16::from_f32(6e-8)].iter().flat_map(|x| x.to_le_bytes()));
    bytes.extend(bf16::from_f32(3.25).to_le_bytes());
    bytes.extend(0.1f64.to_le_bytes());
    fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
    let weights = Weights::open_folder(folder.path(), &config(Family::Llama)).unwrap();
    let expected = [f16::from_f32(-0.1).to_f32(), f16::from_f32(6e-8).to_f32()];
    assert_eq!(weights.f32_values("model.a").unwrap(), expected);
    assert_eq!(weights.f32_values("model.b").unwrap(), [3.25]);
    assert_eq!(weights.f32_values("model.c").unwrap(), [0.1f32]);
    let error = weights.f32_values("model.d").unwrap_err();
    assert!(error.to_string().ends_with("no tensor `model.d`"));
}

fn shard_error(folder: &Path) -> String {
    let error = Weights::open_folder(folder, &config(Family::Llama)).unwrap_err();
    assert_eq!(error.exit_code(), 4);
    error.to_string()
}

#[test]
fn t27_pickles_are_refused_with_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let message = shard_error(folder.path());
    assert!(message.contains("no model.safetensors and no model.safetensors.index.json"));
    fs::write(folder.path().join("pytorch_model.bin"), b"PK\x03\x04").unwrap();
    let message = shard_error(folder.path());
    assert!(message.contains("pytorch_model.bin: a pickle can run code"), "{message}");
}

#[test]
fn t20_names_that_would_not_be_read_again_are_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let named = |name: &str| NamedTensor { name: name.into(), shape: vec![1], values: vec![0.0] };
    let message =
        |names: [&str; 2]| save_safetensors(&path, &names.map(named)).unwrap_err().to_string();
    assert!(message(["a", "a"]).contains("unexpected: a for the second time"));
    assert!(message(["a", "../b"]).contains("unexpected: tensor name \"../b\""));
    assert!(message(["a", ""]).contains("unexpected: tensor name \"\""));
    assert!(!path.exists());
}

#[cfg(unix)]
#[test]
fn weights_can_be_read_by_whoever_can_read_a_new_file_there() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (path, other) = (folder.path().join("model.safetensors"), folder.path().join("other"));
    let tensor = NamedTensor { name: "a".into(), shape: vec![2], values: vec![1.0, 2.0] };
    save_safetensors(&path, &[tensor]).unwrap();
    std::fs::write(&other, "").unwrap();
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&path), mode(&other));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left behind");
}

#[test]
fn values_must_fill_their_shape_to_be_saved() {
    let folder = tempfile::tempdir().unwrap();
    let tensor = NamedTensor { name: "a".into(), shape: vec![2, 2], values: vec![0.0; 3] };
    let error = save_safetensors(&folder.path().join("x"), &[tensor]).unwrap_err();
    assert!(error.to_string().contains("mis-shaped: a: 3 values for shape [2, 2]"), "{error}");
}

/// llama.cpp's conversion: rows of a head `[2, head_dim / 2]` to `[head_dim / 2, 2]`.
fn interleaved(values: &[f32], rows: usize, heads: usize) -> Vec<f32> {
    let (row_len, half) = (values.len() / rows, rows / heads / 2);
    let mut out = Vec::new();
    for head in 0..heads {
        for pair in 0..half {
            for side in 0..2 {
                let row = head * 2 * half + side * half + pair;
                out.extend(&values[row * row_len..(row + 1) * row_len]);
            }
        }
    }
    out
}

/// Name of a canonical tensor in GGUF.
fn gguf_name(name: &str) -> String {
    const PARTS: [(&str, &str); 25] = [
        ("model.embed_tokens", "token_embd"),
        ("transformer.wte", "token_embd"),
        ("transformer.wpe", "position_embd"),
        ("model.norm", "output_norm"),
        ("transformer.ln_f", "output_norm"),
        ("lm_head", "output"),
        ("model.layers", "blk"),
        ("transformer.h", "blk"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.q_norm", "attn_q_norm"),
        ("self_attn.k_norm", "attn_k_norm"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("attn.c_attn", "attn_qkv"),
        ("attn.c_proj", "attn_output"),
        ("mlp.c_fc", "ffn_up"),
        ("mlp.c_proj", "ffn_down"),
        ("ln_1", "attn_norm"),
        ("ln_2", "ffn_norm"),
    ];
    PARTS.iter().fold(name.to_owned(), |name, (from, to)| name.replace(from, to))
}

#[test]
fn gguf_tensors_take_their_hugging_face_names_and_order() {
    let cases = [
        (Family::Llama, "llama"),
        (Family::Qwen2, "qwen2"),
        (Family::Qwen3, "qwen3"),
        (Family::Gpt2, "gpt2"),
    ];
    for (family, arch) in cases {
        let biased = family == Family::Llama;
        let base = ModelConfig { tied_embeddings: false, ..config(family) };
        let config = ModelConfig {
            qkv_bias: base.qkv_bias || biased,
            output_bias: base.output_bias || biased,
            ..base
        };
        let tensors = numbered(&config);
        let mut builder = Builder::default().text("general.architecture", arch).f32_tensor(
            "rope_freqs.weight",
            &[4],
            &[1.0; 4],
        );
        for tensor in &tensors {
            let (heads, rows) = match &tensor.name {
                name if name.contains("q_proj") => (config.n_heads, tensor.shape[0]),
                name if name.contains("k_proj") => (config.n_kv_heads, tensor.shape[0]),
                _ => (0, 0),
            };
            let values = match (arch, heads) {
                ("llama", 1..) => interleaved(&tensor.values, rows, heads),
                _ => tensor.values.clone(),
            };
            builder = builder.f32_tensor(&gguf_name(&tensor.name), &tensor.shape, &values);
        }
        let weights = Weights::from_gguf(&builder.open().unwrap(), &config).unwrap();
        weights.check(&config).unwrap();
        same(&weights, &tensors);
    }
}

#[test]
fn an_unknown_gguf_tensor_is_listed_as_unexpected() {
    let gguf = Builder::default()
        .text("general.architecture", "llama")
        .f32_tensor("blk.0.ffn_gate_inp.weight", &[2], &[0.0; 2])
        .open()
        .unwrap();
    let config = config(Family::Llama);
    let [_, unexpected, _] = differences(&Weights::from_gguf(&gguf, &config).unwrap(), &config);
    assert_eq!(unexpected, ["blk.0.ffn_gate_inp.weight [2]"]);
}

#[test]
fn two_gguf_names_of_one_tensor_are_refused() {
    let builder = Builder::default().text("general.architecture", "llama");
    let builder = builder.f32_tensor("blk.0.ffn_up.weight", &[2], &[0.0; 2]);
    let gguf = builder.f32_tensor("blk.00.ffn_up.weight", &[2], &[0.0; 2]).open().unwrap();
    let error = Weights::from_gguf(&gguf, &config(Family::Llama)).unwrap_err().to_string();
    let expected = "two tensors mean `model.layers.0.mlp.up_proj.weight`, by different names";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn t20_values_that_are_no_finite_numbers_are_counted_and_refused() {
    let config = config(Family::Llama);
    let gguf = Builder::default()
        .f32_tensor("output_norm.weight", &[4], &[1.0, f32::NAN, f32::INFINITY, -1.0])
        .f32_tensor("blk.0.attn_norm.weight", &[1], &[f32::MAX])
        .open()
        .unwrap();
    let weights = Weights::from_gguf(&gguf, &config).unwrap();
    let error = weights.f32_values("model.norm.weight").unwrap_err();
    assert_eq!(error.exit_code(), 4);
    let expected = "model.gguf: not a valid checkpoint file: tensor `model.norm.weight`: 2 of 4 \
                    values are NaN or infinite, expected numbers";
    assert!(error.to_string().ends_with(expected), "{error}");
    let counted = weights.non_finite();
    let tensor = "model.norm.weight".to_owned();
    assert_eq!(counted, [NonFinite { tensor, count: 2, len: 4 }]);
    let line = "tensor `model.norm.weight`: 2 of 4 values are NaN or infinite";
    assert_eq!(counted[0].to_string(), line);
    let name = "model.layers.0.input_layernorm.weight";
    assert_eq!(weights.f32_values(name).unwrap(), [f32::MAX]);
}
