//! T21: an index that lies about its shards.

use std::fs::File;

use super::*;

const ONE: (&str, &[&str]) = ("1.safetensors", &["model.a"]);

fn shards(index: serde_json::Value, files: &[(&str, &[&str])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_shards(folder.path(), &index.to_string(), files);
    folder
}

fn write_shards(folder: &Path, index: &str, files: &[(&str, &[&str])]) {
    for (file, names) in files {
        let tensors: Vec<_> = names
            .iter()
            .map(|name| NamedTensor { name: (*name).into(), shape: vec![1], values: vec![1.0] })
            .collect();
        save_safetensors(&folder.join(file), &tensors).unwrap();
    }
    fs::write(folder.join("model.safetensors.index.json"), index).unwrap();
}

#[test]
fn t21_shards_are_joined_whatever_size_they_announce() {
    // It is a figure for people: nothing is allocated by it, and published ones are wrong.
    let sizes = [json!(999_999_999_999u64), json!(0), json!(-1), json!("x"), json!(null)];
    for size in sizes {
        let index = json!({
            "metadata": {"total_size": size},
            "weight_map": {"model.a": "1.safetensors", "model.b": "2.safetensors"},
        });
        let folder =
            shards(index, &[("1.safetensors", &["model.a"]), ("2.safetensors", &["model.b"])]);
        let weights = Weights::open_folder(folder.path(), &config(Family::Llama)).unwrap();
        assert_eq!(weights.names().collect::<Vec<_>>(), ["model.a", "model.b"]);
    }
}

#[test]
fn t21_a_shard_is_a_plain_file_name() {
    let outside = tempfile::tempdir().unwrap();
    write_shards(outside.path(), "{}", &[ONE]);
    let absolute = outside.path().join("1.safetensors").display().to_string();
    let shards_of = ["../1.safetensors", "/etc/passwd", "a/1.safetensors", "..", ".", "", "x.bin"];
    for shard in shards_of.into_iter().chain(["c:x.safetensors", "a\\1.safetensors", &absolute]) {
        let folder = shards(json!({"weight_map": {"model.a": shard}}), &[ONE]);
        let message = shard_error(folder.path());
        assert!(message.contains("expected a plain .safetensors file name"), "{shard}: {message}");
    }
}

#[test]
fn t21_missing_shards_are_listed_together() {
    let map = json!({"weight_map": {
        "model.a": "1.safetensors", "model.b": "2.safetensors", "model.c": "3.safetensors",
    }});
    let folder = shards(map, &[ONE]);
    let message = shard_error(folder.path());
    let expected = "2 of its 3 shards are not in the folder: 2.safetensors, 3.safetensors; \
                    download them too";
    assert!(message.ends_with(expected), "{message}");
}

#[test]
fn t21_a_tensor_is_in_one_shard_and_in_the_one_that_is_named() {
    let map = json!({"weight_map": {"model.a": "1.safetensors", "model.b": "1.safetensors"}});
    let folder = shards(map, &[ONE]);
    assert!(shard_error(folder.path()).contains("`model.b` is not in its shard 1.safetensors"));
    let map = json!({"weight_map": {"model.a": "1.safetensors", "model.b": "2.safetensors"}});
    let folder = shards(map.clone(), &[ONE, ("2.safetensors", &["model.a", "model.b"])]);
    assert!(shard_error(folder.path()).contains("is in 2.safetensors and in 1.safetensors"));
    // A tensor that the index does not name.
    let [one, two] = [("1.safetensors", "model.a"), ("2.safetensors", "model.b")]
        .map(|(file, name)| (file, [name, "model.c"]));
    let folder = shards(map, &[(one.0, &one.1), (two.0, &two.1)]);
    assert!(shard_error(folder.path()).contains("tensor `model.c` is in two shards"));
}

#[test]
fn t21_broken_indices_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        (r#"{"weight_map": {"model.a": "1.safetensors", "model.a": "2.safetensors"}}"#, "twice"),
        ("{", "not a valid safetensors index"),
        ("", "not a valid safetensors index"),
        ("[]", "not a valid safetensors index"),
        ("{}", "missing field `weight_map`"),
        (r#"{"weight_map": {}, "weight_map": {}}"#, "duplicate field"),
        (r#"{"weight_map": {"model.a": 1}}"#, "invalid type"),
        (r#"{"weight_map": ["1.safetensors"]}"#, "an object of shard names"),
    ];
    for (index, expected) in cases {
        write_shards(folder.path(), index, &[ONE]);
        let message = shard_error(folder.path());
        assert!(message.contains(expected), "{index}: {message}");
    }
    write_shards(folder.path(), &"[".repeat(1 << 20), &[ONE]);
    assert!(shard_error(folder.path()).contains("not a valid safetensors index"));
}

#[test]
fn t21_an_index_of_a_million_entries_is_read_and_a_longer_one_is_not() {
    let mut index = String::from(r#"{"weight_map": {"model.a": "1.safetensors""#);
    for number in 0..1_000_000 {
        index.push_str(&format!(r#","model.{number}": "1.safetensors""#));
    }
    index.push_str("}}");
    let folder = tempfile::tempdir().unwrap();
    write_shards(folder.path(), &index, &[ONE]);
    assert!(shard_error(folder.path()).contains("is not in its shard 1.safetensors"));
    let path = folder.path().join("model.safetensors.index.json");
    File::create(path).unwrap().set_len((128 << 20) + 1).unwrap();
    assert!(shard_error(folder.path()).contains("over the limit of 134217728 bytes"));
}

#[cfg(unix)]
#[test]
fn t21_a_linked_shard_may_lead_to_the_blobs_of_a_cache_only() {
    use std::os::unix::fs::symlink;
    let root = tempfile::tempdir().unwrap();
    let snapshot = root.path().join("snapshots/abc");
    let outside = root.path().join("outside");
    for folder in [&snapshot, &outside, &root.path().join("blobs")] {
        fs::create_dir_all(folder).unwrap();
    }
    let index = r#"{"weight_map": {"model.a": "1.safetensors"}}"#;
    write_shards(&outside, index, &[("1.safetensors", &["model.a"])]);
    write_shards(&snapshot, index, &[]);
    let link = snapshot.join("1.safetensors");
    symlink(outside.join("1.safetensors"), &link).unwrap();
    assert!(shard_error(&snapshot).contains("leads out of the folder"));
    fs::remove_file(&link).unwrap();
    fs::rename(outside.join("1.safetensors"), root.path().join("blobs/f00")).unwrap();
    symlink("../../blobs/f00", &link).unwrap();
    assert!(Weights::open_folder(&snapshot, &config(Family::Llama)).is_ok());
}
