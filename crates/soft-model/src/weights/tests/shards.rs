//! A checkpoint in files of bounded size: names, bounds, index, and the same bits read back.

use std::cell::RefCell;
use std::fs;

use serde_json::Value;

use super::*;

const FAMILIES: [Family; 5] =
    [Family::Llama, Family::Mistral, Family::Qwen2, Family::Qwen3, Family::Gpt2];

fn shapes(tensors: &[NamedTensor]) -> Vec<(String, Vec<usize>)> {
    tensors.iter().map(|tensor| (tensor.name.clone(), tensor.shape.clone())).collect()
}

fn save(folder: &Path, tensors: &[NamedTensor], max_bytes: u64) -> Result<usize, Error> {
    save_sharded(folder, &shapes(tensors), max_bytes, |name| {
        let tensor = tensors.iter().find(|tensor| tensor.name == name).unwrap();
        Ok(tensor.values.clone())
    })
}

fn bytes_of(tensors: &[NamedTensor]) -> u64 {
    tensors.iter().map(|tensor| 4 * tensor.values.len() as u64).sum()
}

fn index_of(folder: &Path) -> Value {
    let text = fs::read_to_string(folder.join("model.safetensors.index.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn listing(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn shards_are_read_back_to_the_bit_for_every_family_and_bound() {
    for family in FAMILIES {
        let config = ModelConfig { tied_embeddings: false, ..config(family) };
        let tensors = numbered(&config);
        let total = bytes_of(&tensors);
        for max_bytes in [1, 4096, 20_000, total / 2, total - 1] {
            let folder = tempfile::tempdir().unwrap();
            let count = save(folder.path(), &tensors, max_bytes).unwrap();
            assert!(count > 1);
            let mut expected: Vec<String> = (1..=count)
                .map(|number| format!("model-{number:05}-of-{count:05}.safetensors"))
                .collect();
            expected.push("model.safetensors.index.json".into());
            assert_eq!(listing(folder.path()), expected);
            let weights = Weights::open_folder(folder.path(), &config).unwrap();
            weights.check(&config).unwrap();
            same(&weights, &tensors);
        }
    }
}

#[test]
fn no_shard_is_over_the_bound_unless_one_tensor_is() {
    let tensors = numbered(&config(Family::Llama));
    for max_bytes in [0, 1000, 8192, 30_000] {
        let folder = tempfile::tempdir().unwrap();
        let count = save(folder.path(), &tensors, max_bytes).unwrap();
        let index = index_of(folder.path());
        assert_eq!(index["metadata"]["total_size"], bytes_of(&tensors));
        let map = index["weight_map"].as_object().unwrap();
        assert_eq!(map.len(), tensors.len());
        let mut sizes = vec![(0, 0); count];
        for tensor in &tensors {
            let file = map[&tensor.name].as_str().unwrap();
            let number: usize = file["model-".len()..][..5].parse().unwrap();
            sizes[number - 1].0 += 4 * tensor.values.len() as u64;
            sizes[number - 1].1 += 1;
        }
        for (number, (bytes, held)) in sizes.iter().enumerate() {
            assert!(*held == 1 || *bytes <= max_bytes, "{number}: {bytes} in {held}");
        }
        // Greedy: the next tensor would not have fitted.
        for pair in sizes.windows(2) {
            assert!(pair[0].0 + pair[1].0 > max_bytes);
        }
    }
}

#[test]
fn what_fits_is_one_file_without_an_index() {
    let config = config(Family::Gpt2);
    let tensors = numbered(&config);
    for max_bytes in [bytes_of(&tensors), DEFAULT_SHARD_BYTES, u64::MAX] {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(save(folder.path(), &tensors, max_bytes).unwrap(), 1);
        assert_eq!(listing(folder.path()), ["model.safetensors"]);
        same(&Weights::open_folder(folder.path(), &config).unwrap(), &tensors);
    }
}

#[test]
fn each_file_is_written_before_the_next_one_is_read() {
    let config = config(Family::Llama);
    let tensors = numbered(&config);
    let folder = tempfile::tempdir().unwrap();
    let log = RefCell::new(Vec::new());
    let count = save_sharded(folder.path(), &shapes(&tensors), 10_000, |name| {
        let tensor = tensors.iter().find(|tensor| tensor.name == name).unwrap();
        log.borrow_mut().push((name.to_owned(), listing(folder.path()).len()));
        Ok(tensor.values.clone())
    })
    .unwrap();
    let map = index_of(folder.path())["weight_map"].clone();
    let log = log.into_inner();
    assert_eq!(log.len(), tensors.len());
    for (name, files_before) in log {
        let file = format!("model-{:05}-of-{count:05}.safetensors", files_before + 1);
        assert_eq!(map[&name], file, "{name} was read when {files_before} files were there");
    }
}

#[test]
fn weights_are_saved_from_whatever_they_lie_in() {
    let config = config(Family::Qwen3);
    let tensors = numbered(&config);
    let [one, many] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    save_safetensors(&one.path().join("model.safetensors"), &tensors).unwrap();
    let weights = Weights::open_folder(one.path(), &config).unwrap();
    assert!(weights.save(many.path(), 9_000).unwrap() > 1);
    same(&Weights::open_folder(many.path(), &config).unwrap(), &tensors);
}

#[test]
fn a_failure_leaves_no_index_and_old_weights_are_not_mixed_with_new_ones() {
    let tensors = numbered(&config(Family::Llama));
    let folder = tempfile::tempdir().unwrap();
    let fails = |name: &str| -> Result<Vec<f32>, Error> {
        if name == "model.norm.weight" {
            return Err(Error::Settings("stop".into()));
        }
        Ok(tensors.iter().find(|tensor| tensor.name == name).unwrap().values.clone())
    };
    let error = save_sharded(folder.path(), &shapes(&tensors), 9_000, fails).unwrap_err();
    assert!(error.to_string().contains("stop"));
    assert!(!folder.path().join("model.safetensors.index.json").exists());
    for there in ["model.safetensors", "model.safetensors.index.json"] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(there), "").unwrap();
        let message = save(folder.path(), &tensors, 9_000).unwrap_err().to_string();
        assert!(message.contains(there), "{message}");
        assert_eq!(listing(folder.path()), [there]);
    }
}

#[test]
fn lists_that_make_no_checkpoint_are_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let message = |shapes: &[(&str, &[usize])]| {
        let shapes: Vec<_> =
            shapes.iter().map(|(name, shape)| ((*name).into(), shape.to_vec())).collect();
        save_sharded(folder.path(), &shapes, 8, |_| panic!("nothing is read"))
            .unwrap_err()
            .to_string()
    };
    assert!(message(&[("a", &[1]), ("a", &[1])]).contains("`a` occurs twice"));
    assert!(message(&[("a", &[usize::MAX, 2])]).contains("is too large"));
    assert!(message(&[("a", &[1 << 61]), ("b", &[1 << 61])]).contains("is too large"));
    assert!(listing(folder.path()).is_empty());
}
