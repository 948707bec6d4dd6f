//! `soft convert` from outside: the same logits from every form, nothing overwritten, no halves.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use burn::tensor::{DType, Device};
use serde_json::{Value, json};
use soft_model::{ModelConfig, ModelFiles, Transformer, expected_tensors, save_safetensors};

const IDS: [u32; 9] = [3, 17, 31, 0, 5, 5, 22, 9, 14];

struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn convert(&self, input: &str, output: &str, flags: &[&str]) -> Output {
        self.soft("convert").arg(self.path(input)).arg(self.path(output)).args(flags).run()
    }

    fn soft(&self, verb: &str) -> Soft {
        let mut command = Command::new(env!("CARGO_BIN_EXE_soft"));
        command.current_dir(self.0.path()).env_remove("SOFT_DEVICE").arg(verb);
        command.env("HF_HUB_CACHE", self.path("hub"));
        Soft(command)
    }

    /// What lies in the folder; nothing of a failed conversion may.
    fn listing(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).expect("a folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().expect("UTF-8")).collect();
        names.sort();
        names
    }
}

struct Soft(Command);

impl Soft {
    fn arg(mut self, argument: impl AsRef<std::ffi::OsStr>) -> Self {
        self.0.arg(argument);
        self
    }

    fn args(mut self, arguments: &[&str]) -> Self {
        self.0.args(arguments);
        self
    }

    fn run(mut self) -> Output {
        self.0.output().expect("the program starts")
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the output is UTF-8")
}

fn succeeded(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn failed(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "");
    text(&output.stderr)
}

fn logits(path: &Path) -> Vec<f64> {
    let files = ModelFiles::open(path).expect("a model");
    let model = Transformer::open(&files, &Device::flex(), DType::F32).expect("it fits");
    model.logits(model.embed(&IDS, 1)).into_data().iter::<f64>().collect()
}

fn assert_same_logits(found: &Path, expected: &Path) {
    let (found, expected) = (logits(found), logits(expected));
    assert_eq!(found.len(), expected.len());
    assert!(expected.iter().any(|value| value.abs() > 0.1), "a model that says something");
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() <= 1e-6, "{found} {expected}");
    }
}

/// A small Llama whose rows are whole blocks of the K types.
fn shape() -> Value {
    json!({
        "model_type": "llama", "vocab_size": 32, "hidden_size": 256, "intermediate_size": 256,
        "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": true, "bos_token_id": 1, "eos_token_id": 2,
    })
}

fn tokens() -> Vec<String> {
    ('a'..='z').chain('0'..='5').map(String::from).collect()
}

/// The model as a Hugging Face folder, with random weights.
fn write_folder(folder: &Path) {
    fs::create_dir_all(folder).expect("made");
    let config = ModelConfig::from_hf(&shape(), Path::new("config.json")).expect("a llama");
    let model = Transformer::from_seed(&config, 5, &Device::flex(), DType::F32);
    let mut tensors = model.named_tensors();
    for tensor in tensors.iter_mut().filter(|tensor| tensor.shape.len() == 2) {
        tensor.values.iter_mut().for_each(|value| *value *= 4.0);
    }
    save_safetensors(&folder.join("model.safetensors"), &tensors).expect("written");
    let vocab: serde_json::Map<String, Value> =
        tokens().into_iter().enumerate().map(|(id, token)| (token, json!(id))).collect();
    let tokenizer = json!({
        "version": "1.0", "added_tokens": [],
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    });
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).expect("written");
    write("config.json", &shape().to_string());
    write("tokenizer.json", &tokenizer.to_string());
    write("tokenizer_config.json", r#"{"bos_token": "b", "chat_template": "{{ messages }}"}"#);
    write("generation_config.json", r#"{"max_new_tokens": 7, "eos_token_id": [2, 3]}"#);
    write("soft_config.toml", "[soft]\nmode = \"soft\"\n");
}

/// One GGUF file in the making.
#[derive(Default)]
struct Gguf {
    metadata: Vec<u8>,
    entries: u64,
    tensors: Vec<u8>,
    count: u64,
    data: Vec<u8>,
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

impl Gguf {
    fn entry(&mut self, key: &str, kind: u32, value: &[u8]) {
        self.metadata.extend(string(key));
        self.metadata.extend(kind.to_le_bytes());
        self.metadata.extend(value);
        self.entries += 1;
    }

    fn tensor(&mut self, name: &str, shape: &[usize], kind: u32, bytes: &[u8]) {
        self.tensors.extend(string(name));
        self.tensors.extend((shape.len() as u32).to_le_bytes());
        shape.iter().rev().for_each(|&size| self.tensors.extend((size as u64).to_le_bytes()));
        self.tensors.extend(kind.to_le_bytes());
        self.tensors.extend((self.data.len() as u64).to_le_bytes());
        self.data.extend(bytes);
        self.data.resize(self.data.len().next_multiple_of(32), 0);
        self.count += 1;
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(self.count.to_le_bytes());
        bytes.extend(self.entries.to_le_bytes());
        bytes.extend(&self.metadata);
        bytes.extend(&self.tensors);
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(&self.data);
        bytes
    }
}

/// Random blocks of 256 weights whose half-precision numbers, at `places`, are small.
fn blocks(seed: &mut u32, weights: usize, size: usize, places: &[usize]) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..weights / 256 * size)
        .map(|_| {
            *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (*seed >> 24) as u8
        })
        .collect();
    for block in bytes.chunks_mut(size) {
        for &place in places {
            // 2^-14, the smallest normal half.
            block[place..place + 2].copy_from_slice(&[0x00, 0x04]);
        }
    }
    bytes
}

/// The same shape as a GGUF file: norms in f32, matrices in `Q4_K`, `Q5_K` and `Q6_K` in turn.
fn write_gguf(path: &Path) {
    let mut gguf = Gguf::default();
    gguf.entry("general.architecture", 8, &string("llama"));
    for (key, value) in [
        ("embedding_length", 256u32),
        ("feed_forward_length", 256),
        ("block_count", 1),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
        ("context_length", 64),
    ] {
        gguf.entry(&format!("llama.{key}"), 4, &value.to_le_bytes());
    }
    gguf.entry("tokenizer.ggml.model", 8, &string("gpt2"));
    gguf.entry("tokenizer.ggml.pre", 8, &string("gpt-2"));
    let list = |items: &[String]| {
        let head = [&8u32.to_le_bytes()[..], &(items.len() as u64).to_le_bytes()].concat();
        [head, items.iter().flat_map(|item| string(item)).collect()].concat()
    };
    gguf.entry("tokenizer.ggml.tokens", 9, &list(&tokens()));
    gguf.entry("tokenizer.ggml.merges", 9, &list(&[]));
    gguf.entry("tokenizer.ggml.bos_token_id", 4, &1u32.to_le_bytes());
    gguf.entry("tokenizer.ggml.eos_token_id", 4, &2u32.to_le_bytes());
    let names = [
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("model.layers.0.input_layernorm", "blk.0.attn_norm"),
        ("model.layers.0.post_attention_layernorm", "blk.0.ffn_norm"),
        ("model.layers.0.self_attn.q_proj", "blk.0.attn_q"),
        ("model.layers.0.self_attn.k_proj", "blk.0.attn_k"),
        ("model.layers.0.self_attn.v_proj", "blk.0.attn_v"),
        ("model.layers.0.self_attn.o_proj", "blk.0.attn_output"),
        ("model.layers.0.mlp.gate_proj", "blk.0.ffn_gate"),
        ("model.layers.0.mlp.up_proj", "blk.0.ffn_up"),
        ("model.layers.0.mlp.down_proj", "blk.0.ffn_down"),
    ];
    let kinds = [(12, 144, &[0, 2][..]), (13, 176, &[0, 2]), (14, 210, &[208])];
    let config = ModelConfig::from_hf(&shape(), Path::new("config.json")).expect("a llama");
    let mut seed = 7;
    for (number, (name, shape)) in expected_tensors(&config).into_iter().enumerate() {
        let stem = name.strip_suffix(".weight").expect("no biases");
        let (_, stem) = names.iter().find(|(known, _)| *known == stem).expect("all are known");
        let len: usize = shape.iter().product();
        let (kind, bytes) = match shape.len() {
            1 => (0, 1.5f32.to_le_bytes().repeat(len)),
            _ => {
                let (kind, size, places) = kinds[number % kinds.len()];
                (kind, blocks(&mut seed, len, size, places))
            }
        };
        gguf.tensor(&format!("{stem}.weight"), &shape, kind, &bytes);
    }
    fs::write(path, gguf.bytes()).expect("written");
}

#[test]
fn a_folder_keeps_its_logits_its_tokenizer_and_its_advice_in_one_file_or_several() {
    let bench = Bench::new();
    write_folder(&bench.path("in"));
    let before = ModelFiles::open(&bench.path("in")).expect("a model");
    // embedding, norm and query; key and value; output and norm; gate; up; down and norm.
    for (output, flags, files) in
        [("one", &[][..], "1 file"), ("many", &["--max-shard-size", "300KB"], "6 files")]
    {
        let said = succeeded(&bench.convert("in", output, flags));
        assert!(said.contains("11 tensors") && said.trim_end().ends_with(files), "{said}");
        assert_same_logits(&bench.path(output), &bench.path("in"));
        let after = ModelFiles::open(&bench.path(output)).expect("a model");
        assert_eq!(after.config, before.config);
        assert_eq!(after.generation, before.generation);
        assert_eq!(after.soft, before.soft);
        for name in before.weights.names() {
            let values = |files: &ModelFiles| files.weights.f32_values(name).expect("finite");
            assert_eq!(values(&after), values(&before), "{name}");
        }
        let [before, after] =
            [&before, &after].map(|files| files.require_tokenizer().expect("there is one"));
        assert_eq!(after.encode("abc0", true).unwrap(), before.encode("abc0", true).unwrap());
        assert_eq!(after.bos_id(), Some(1));
        assert_eq!(after.chat_template_source(), before.chat_template_source());
    }
    let expected = [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "soft_config.toml",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(bench.listing("one"), expected);
    assert!(bench.listing("many").contains(&"model-00001-of-00006.safetensors".to_owned()));
    assert_eq!(bench.listing(""), ["in", "many", "one"], "no half is left");
}

#[test]
fn a_quantised_file_keeps_its_logits_as_a_folder_and_as_a_folder_of_that() {
    let bench = Bench::new();
    write_gguf(&bench.path("in.gguf"));
    succeeded(&bench.convert("in.gguf", "new/out", &[]));
    assert_same_logits(&bench.path("new/out"), &bench.path("in.gguf"));
    succeeded(&bench.convert("new/out", "again", &["--max-shard-size", "100KB"]));
    assert_same_logits(&bench.path("again"), &bench.path("in.gguf"));
    let [before, after] = ["in.gguf", "again"].map(|name| {
        let files = ModelFiles::open(&bench.path(name)).expect("a model");
        files.require_tokenizer().expect("there is one").encode("abz5", true).expect("known")
    });
    assert_eq!(before, after);
    assert_eq!(before, [0, 1, 25, 31]);
}

#[test]
fn nothing_is_overwritten_and_a_failure_leaves_nothing() {
    let bench = Bench::new();
    write_folder(&bench.path("in"));
    fs::create_dir(bench.path("full")).expect("made");
    fs::write(bench.path("full/notes.txt"), "mine").expect("written");
    let message = failed(&bench.convert("in", "full", &[]), 2);
    assert!(message.contains("not empty, and nothing is overwritten"), "{message}");
    assert_eq!(bench.listing("full"), ["notes.txt"]);
    failed(&bench.convert("in", "in", &[]), 2);
    fs::write(bench.path("file"), "mine").expect("written");
    assert!(failed(&bench.convert("in", "file", &[]), 2).contains("is no folder"));
    assert_eq!(fs::read_to_string(bench.path("file")).expect("there"), "mine");
    failed(&bench.convert("in", "out", &["--max-shard-size", "0"]), 2);
    assert!(failed(&bench.convert("none", "out", &[]), 4).contains("cannot access"));
    // Every broken tensor is named before the first one is written.
    let path = bench.path("in/model.safetensors");
    let whole = fs::read(&path).expect("there");
    let mut broken = whole.clone();
    let end = broken.len();
    broken[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, &broken).expect("written");
    let message = failed(&bench.convert("in", "out", &[]), 4);
    assert!(message.contains("values are NaN or infinite"), "{message}");
    fs::write(&path, &whole[..end - 1]).expect("written");
    assert!(failed(&bench.convert("in", "out", &[]), 4).contains("truncated"));
    assert_eq!(bench.listing(""), ["file", "full", "in"]);
    // An empty folder is as good as none.
    fs::write(&path, &whole).expect("written");
    fs::create_dir(bench.path("out")).expect("made");
    succeeded(&bench.convert("in", "out", &[]));
    assert_eq!(bench.listing(""), ["file", "full", "in", "out"]);
}

#[test]
fn what_lies_beside_a_checkpoint_is_not_left_out_in_silence() {
    let bench = Bench::new();
    write_folder(&bench.path("in"));
    let files = ModelFiles::open(&bench.path("in")).expect("a model");
    let model = Transformer::open(&files, &Device::flex(), DType::F32).expect("it fits");
    let model = model.with_low_rank(2, 4.0, &["q_proj".to_owned()], 3).expect("added");
    model.save_adapter(&bench.path("in")).expect("written");
    let message = failed(&bench.convert("in", "out", &[]), 4);
    assert!(message.contains("`soft merge`"), "{message}");
    assert_eq!(bench.listing(""), ["in"]);
}

#[test]
fn a_model_is_found_by_name_in_the_cache() {
    let bench = Bench::new();
    let model = bench.path("hub/models--org--tiny");
    write_folder(&model.join("snapshots/abc123"));
    fs::create_dir_all(model.join("refs")).expect("made");
    fs::write(model.join("refs/main"), "abc123").expect("written");
    let score =
        |name: &str| bench.soft("score").args(&["--model", name, "--ids", "3,4,5", "--json"]).run();
    let by_name = succeeded(&score("org/tiny"));
    assert_eq!(by_name, succeeded(&score("hub/models--org--tiny/snapshots/abc123")));
    succeeded(&bench.soft("convert").args(&["org/tiny", "out"]).run());
    assert_same_logits(&bench.path("out"), &model.join("snapshots/abc123"));
    let message = failed(&score("org/other"), 4);
    assert!(message.contains("models--org--other"), "{message}");
    assert!(message.contains("hf download org/other"), "{message}");
    // A folder of that name is nearer than the cache.
    fs::create_dir_all(bench.path("org/tiny")).expect("made");
    assert!(failed(&score("org/tiny"), 4).contains("no config.json"));
}
