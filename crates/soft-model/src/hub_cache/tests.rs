//! What is found in a cache, and what is said where it is not.

use super::*;

const REVISION: &str = "0123456789abcdef0123456789abcdef01234567";

/// A cache with the model `org/tiny`, whose snapshot has these files.
fn cache(files: &[&str]) -> tempfile::TempDir {
    let cache = tempfile::tempdir().unwrap();
    let model = cache.path().join("models--org--tiny");
    let snapshot = model.join("snapshots").join(REVISION);
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(model.join("refs")).unwrap();
    fs::write(model.join("refs/main"), format!("{REVISION}\n")).unwrap();
    for file in files {
        fs::write(snapshot.join(file), "{}").unwrap();
    }
    cache
}

fn found(cache: &tempfile::TempDir) -> PathBuf {
    let path = find(Some(cache.path()), "org/tiny").unwrap();
    path.strip_prefix(cache.path().join("models--org--tiny/snapshots")).unwrap().to_owned()
}

fn refused(cache: &tempfile::TempDir, id: &str) -> String {
    let error = find(Some(cache.path()), id).unwrap_err();
    assert_eq!(error.exit_code(), 4);
    error.to_string()
}

#[test]
fn the_newest_revision_is_found() {
    assert_eq!(found(&cache(&["config.json"])), Path::new(REVISION));
    assert_eq!(found(&cache(&["config.json", "a.gguf"])), Path::new(REVISION));
    assert_eq!(found(&cache(&["README.md", "a.gguf"])), Path::new(REVISION).join("a.gguf"));
    // What is missing in it is said by whoever opens it.
    assert_eq!(found(&cache(&["README.md"])), Path::new(REVISION));
}

#[test]
fn what_is_not_there_is_said_with_the_place() {
    let whole = cache(&["a.gguf", "b.gguf"]);
    let message = refused(&whole, "org/other");
    let looked = whole.path().join("models--org--other").display().to_string();
    assert!(message.starts_with("org/other: no such file or folder"), "{message}");
    assert!(message.contains(&looked) && message.contains("hf download org/other"), "{message}");
    assert!(refused(&whole, "org/tiny").ends_with("give the path of one: a.gguf, b.gguf"));
    let main = whole.path().join("models--org--tiny/refs/main");
    for wrong in ["../../../outside", "", "a b", "/etc"] {
        fs::write(&main, wrong).unwrap();
        assert!(refused(&whole, "org/tiny").contains("expected the hash of a revision"), "{wrong}");
    }
    fs::write(&main, "f".repeat(300)).unwrap();
    assert!(refused(&whole, "org/tiny").contains("over the limit"));
    fs::write(&main, "f00").unwrap();
    assert!(refused(&whole, "org/tiny").contains("names revision f00"));
    fs::remove_file(&main).unwrap();
    assert!(refused(&whole, "org/tiny").ends_with(REVISION));
    let error = find(None, "org/tiny").unwrap_err().to_string();
    assert!(error.contains("none of HF_HUB_CACHE, HF_HOME and HOME is set"), "{error}");
}

#[test]
fn the_cache_is_where_the_variables_say_the_nearest_first() {
    let all = [
        ("HF_HUB_CACHE", "/a"),
        ("HUGGINGFACE_HUB_CACHE", "/b"),
        ("HF_HOME", "/c"),
        ("XDG_CACHE_HOME", "/d"),
        ("HOME", "/e"),
    ];
    let expected = ["/a", "/b", "/c/hub", "/d/huggingface/hub", "/e/.cache/huggingface/hub"];
    for (first, expected) in expected.iter().enumerate() {
        let variable = |name: &str| {
            all[first..].iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
        };
        assert_eq!(cache_folder(variable), Some(PathBuf::from(expected)));
    }
    assert_eq!(cache_folder(|_| None), None);
}

#[test]
fn only_names_of_models_are_looked_up() {
    for id in ["org/name", "HuggingFaceTB/SmolLM2-135M", "a/b.c_d", "Qwen/Qwen2.5-0.5B"] {
        assert_eq!(model_id(Path::new(id)), Some(id));
    }
    let long = format!("a/{}", "b".repeat(95));
    for path in [
        "name",
        "/org/name",
        "./name",
        "../name",
        "org/..",
        "a/b/c",
        "a/",
        "/b",
        "a b/c",
        "ä/b",
        "models/x.gguf",
        "runs/x.safetensors",
        "a--b/c",
        "a/.b",
        "",
        &long,
    ] {
        assert_eq!(model_id(Path::new(path)), None, "{path}");
    }
    // Anything that is really there is taken as it is.
    assert_eq!(locate(Path::new("src/weights")).unwrap(), Path::new("src/weights"));
    assert_eq!(locate(Path::new("no/such/path")).unwrap(), Path::new("no/such/path"));
}

#[cfg(unix)]
#[test]
fn a_sharded_snapshot_of_links_opens_as_a_model() {
    use crate::config::Family;
    use crate::config::tests::config;
    use crate::weights::save_sharded;
    use crate::{ModelFiles, expected_tensors};
    use std::os::unix::fs::symlink;

    let cache = cache(&[]);
    let snapshot = find(Some(cache.path()), "org/tiny").unwrap();
    let blobs = cache.path().join("models--org--tiny/blobs");
    fs::create_dir(&blobs).unwrap();
    let config = config(Family::Llama);
    fs::write(blobs.join("config.json"), config.to_hf().to_string()).unwrap();
    let files = save_sharded(&blobs, &expected_tensors(&config), 20_000, |name| {
        let shapes = expected_tensors(&config);
        let (_, shape) = shapes.iter().find(|(known, _)| known == name).unwrap();
        Ok(vec![0.5; shape.iter().product()])
    });
    assert!(files.unwrap() > 1);
    for (number, entry) in fs::read_dir(&blobs).unwrap().map(Result::unwrap).enumerate() {
        let blob = blobs.join(format!("blob{number}"));
        fs::rename(entry.path(), &blob).unwrap();
        let link = Path::new("../../blobs").join(blob.file_name().unwrap());
        symlink(link, snapshot.join(entry.file_name())).unwrap();
    }
    let files = ModelFiles::open(&snapshot).unwrap();
    assert_eq!(files.config, config);
    assert_eq!(files.weights.f32_values("model.norm.weight").unwrap()[0], 0.5);
}
