//! Trainings that learn the temperature and the filters: recorded, saved, resumed, decoded.

use soft_core::LearnedValues;
use soft_tests::runs::{Runs, assert_same_outcome, checkpoint, metrics, read, read_json, series};
use soft_train::config::{Config, Loader};
use soft_train::run::Resume;

const LEARNS: [&str; 10] = [
    "learnable.settings=[\"temperature\", \"top_k\", \"min_p\"]",
    "learnable.least_temperature=0.3",
    "learnable.most_min_p=0.5",
    "learnable.lr=0.05",
    "soft.temperature=0.9",
    "soft.top_k=6",
    "soft.min_p=0.02",
    "rollout.kind=sequential",
    "rollout.segment=2",
    "guidance.start=0.3",
];

fn learned(run: &std::path::Path, step: usize) -> LearnedValues {
    let file = read_json(&checkpoint(run, step).join("learned_filters.json"));
    serde_json::from_value(file["values"].clone()).expect("values")
}

/// The configuration of a generation with this checkpoint.
fn decoding(run: &std::path::Path, step: usize) -> Config {
    let text = read(&checkpoint(run, step).join("soft_config.toml"));
    let text = String::from_utf8(text).expect("UTF-8");
    Loader::new().model(text).load().expect("a checkpoint's own settings").config
}

#[test]
fn what_is_learned_is_recorded_saved_and_decoded_with() {
    let runs = Runs::temporary();
    let run = runs.train("run", &LEARNS).run_dir;
    let (first, last) = (&metrics(&run)[0], &metrics(&run)[19]);
    for (key, start) in [("temperature", 0.9), ("top_k", 6.0), ("min_p", 0.02)] {
        let key = format!("learnable/{key}");
        let values = series(&run, &key);
        assert_eq!(values.len(), 20, "{key} is in every step");
        assert!((values[0] - start).abs() < 0.2 * start, "{key} starts at {start}: {values:?}");
        assert!(first[&key] != last[&key], "{key} is learned: {values:?}");
    }
    let gaps = series(&run, "learnable/gap");
    assert_eq!(gaps.len(), 2, "looked at every tenth step");
    assert!(gaps.iter().all(|gap| (0.0..1.0).contains(gap)), "{gaps:?}");

    let saved = learned(&run, 20);
    assert_eq!(last["learnable/temperature"].as_f64(), saved.temperature, "after the last step");
    let decoded = decoding(&run, 20).soft;
    assert_eq!(Some(decoded.temperature), saved.temperature);
    assert_eq!(Some(decoded.top_k as f64), saved.top_k.map(f64::round));
    assert_eq!(Some(decoded.min_p), saved.min_p);
    let text =
        String::from_utf8(read(&checkpoint(&run, 20).join("soft_config.toml"))).expect("UTF-8");
    assert!(text.contains("# learned: temperature") && text.contains("% of the weight"), "{text}");
}

#[test]
fn a_resumed_training_of_filters_is_the_uninterrupted_one_to_the_bit() {
    let runs = Runs::temporary();
    for extra in [
        ["rollout.kind=sequential", "train.grad_accum=2"],
        ["rollout.kind=parallel", "rollout.passes=3"],
    ] {
        let settings = [&LEARNS[..], &extra, &["model.dropout=0.1", "train.warmup=3"]].concat();
        let settings: Vec<&str> =
            settings.into_iter().filter(|s| *s != "rollout.segment=2").collect();
        let straight = runs.train(&format!("straight-{}", extra[0]), &settings).run_dir;
        let name = format!("stopped-{}", extra[0]);
        runs.train(&name, &[&settings[..], &["train.steps=7"]].concat());
        let resumed = runs.resumed(&name, &settings, Resume::Auto).run_dir;
        assert_same_outcome(&straight, &resumed, 20, extra[0]);
        for file in ["learned_filters.json", "soft_config.toml"] {
            let [a, b] = [&straight, &resumed].map(|run| read(&checkpoint(run, 20).join(file)));
            assert_eq!(a, b, "{extra:?}: {file}");
        }
        // The optimizer's state of what is learned is there too.
        let further = [&settings[..], &["train.steps=23"]].concat();
        let a = runs.resumed(&name, &further, Resume::Auto).run_dir;
        let b = runs.resumed(&format!("straight-{}", extra[0]), &further, Resume::Auto).run_dir;
        assert_eq!(learned(&a, 23), learned(&b, 23));
    }
}

#[test]
fn weights_and_rates_of_the_model_leave_what_is_learned_alone() {
    let runs = Runs::temporary();
    // Without a gradient a decay would pull at theta; a rate of 0 keeps it where it is.
    let still = [&LEARNS[..], &["train.weight_decay=10"]].concat();
    let still: Vec<&str> = still
        .into_iter()
        .map(|setting| if setting.starts_with("learnable.lr") { "learnable.lr=0" } else { setting })
        .collect();
    let run = runs.train("still", &still).run_dir;
    let values = series(&run, "learnable/temperature");
    assert!(values.windows(2).all(|pair| pair[0] == pair[1]), "{values:?}");
    // And the filters alone can be learned, of a model that stays as it is.
    let alone = [&LEARNS[..], &["train.lr=0", "train.weight_decay=0"]].concat();
    let run = runs.train("alone", &alone).run_dir;
    let values = series(&run, "learnable/temperature");
    assert!(values[0] != values[19], "{values:?}");
}

#[test]
fn only_the_arm_that_thinks_in_mixtures_learns_them() {
    let runs = Runs::temporary();
    let settings = [&LEARNS[..], &["eval.arms=[\"soft\", \"hard\"]"]].concat();
    let run = runs.train("arms", &settings).run_dir;
    assert!(checkpoint(&run, 20).join("learned_filters.json").exists());
    let hard = run.join("arms/hard");
    assert!(!checkpoint(&hard, 20).join("learned_filters.json").exists());
    assert!(series(&hard, "learnable/temperature").is_empty());
}

#[test]
fn a_checkpoint_whose_learned_filters_are_gone_or_broken_is_refused() {
    let runs = Runs::temporary();
    let longer = [&LEARNS[..], &["train.steps=25"]].concat();
    for (name, text) in [("broken", "{"), ("other", "{\"values\": {}, \"thetas\": {}}")] {
        let run = runs.train(name, &LEARNS).run_dir;
        let folder = checkpoint(&run, 20);
        std::fs::write(folder.join("learned_filters.json"), text).expect("written");
        // As if it had been written so: the manifest would find the damage first.
        let mut manifest = read_json(&folder.join("manifest.json"));
        let entry = &mut manifest["files"]["learned_filters.json"];
        entry["size"] = text.len().into();
        entry["crc32"] = crc32(text.as_bytes()).into();
        std::fs::write(folder.join("manifest.json"), manifest.to_string()).expect("written");
        let error = runs.error(name, &longer, Resume::Auto);
        assert_eq!(error.exit_code(), 4, "{error}");
        assert!(error.to_string().contains("learned_filters.json"), "{error}");
    }
}

/// CRC-32 (IEEE), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        crc = (0..8).fold(crc, |crc, _| step(crc));
    }
    !crc
}
