//! The program from outside: exit codes, messages on stderr, JSON on stdout.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// `soft` without the variables of whoever runs the tests.
fn soft(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_soft"));
    for variable in ["SOFT_DEVICE", "SOFT_MODELS", "RAYON_NUM_THREADS"] {
        command.env_remove(variable);
    }
    command.args(arguments);
    command
}

fn run(arguments: &[&str]) -> Output {
    soft(arguments).output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the output is UTF-8")
}

/// Runs, expects success, returns stdout.
fn stdout(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Runs, expects a failure with nothing on stdout, returns the code and the last line of stderr.
fn failure(arguments: &[&str]) -> (i32, String) {
    let output = run(arguments);
    assert_eq!(text(&output.stdout), "", "{arguments:?}");
    (output.status.code().expect("no signal"), text(&output.stderr).trim_end().to_owned())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A real model; the test is left out, aloud, where there is none.
fn model() -> Option<String> {
    let folders = match std::env::var_os("SOFT_MODELS") {
        Some(folder) => vec![PathBuf::from(folder)],
        None => vec![root().join("models"), root().join("../shared/models")],
    };
    let file = |folder: &PathBuf| folder.join("SmolLM2-135M-Instruct.Q4_1.gguf");
    let found = folders.iter().map(file).find(|path| path.is_file());
    if found.is_none() {
        eprintln!("SKIPPED: no real model in {folders:?}; run `cargo xtask fetch`");
    }
    found.map(|path| path.display().to_string())
}

fn json_lines(text: &str) -> Vec<serde_json::Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect()
}

#[test]
fn a_wrong_command_line_is_2() {
    for arguments in [
        &["frobnicate"][..],
        &[],
        &["generate"],
        &["generate", "--model", "m"],
        &["generate", "--model", "m", "--prompt", "a", "--prompt-ids", "3"],
        &["generate", "--model", "m", "--prompt-ids", "3,-1"],
        &["score", "--model", "m"],
        &["train", "--threads", "0"],
        &["completions", "cmd"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
        assert_ne!(text(&output.stderr), "", "{arguments:?}");
    }
}

#[test]
fn a_wrong_configuration_is_2_and_says_everything_at_once() {
    let expected = "error: 3 problems in the configuration\n  \
        command line: unknown key `train.learning_rate`; the name here is `train.lr`\n  \
        command line: `soft.top_k` is -1; expected a whole number, at least 0\n  \
        command line: `soft.min_p` is 2; expected a number from 0 to 1";
    let settings = ["train.learning_rate=1", "soft.top_k=-1", "soft.min_p=2"];
    for verb in
        [&["train"][..], &["config", "show"], &["generate", "--model", "m", "--prompt", "a"]]
    {
        let arguments = [verb, &settings].concat();
        assert_eq!(failure(&arguments), (2, expected.into()), "{verb:?}");
    }
}

#[test]
fn each_bad_setting_is_2() {
    for setting in [
        "soft.top_k=1.5",
        "soft.top_p=1.1",
        "soft.temperature=-0.1",
        "soft.preset=soft-thinkin",
        "train.steps=0",
    ] {
        let (code, message) = failure(&["config", "show", setting]);
        assert_eq!(code, 2, "{setting}");
        let key = setting.split('=').next().unwrap();
        assert!(
            message.starts_with("error: command line: ") && message.contains(&format!("`{key}`")),
            "{message}"
        );
    }
    let (code, message) =
        failure(&["train", "--dry-run", "task.name=ids", "data.train=missing.jsonl"]);
    assert!(code == 3 && message.contains("missing.jsonl"), "{code} {message}");
    let none = failure(&["train", "task.name=none"]);
    assert_eq!(none, (2, "error: command line: `task.name` is \"none\"; expected a task to train on, \"mnns\", \"ids\" or \"text\"".into()));
}

#[test]
fn a_missing_file_has_the_code_of_what_it_should_have_been() {
    let config = failure(&["train", "-c", "no/such.toml"]);
    assert_eq!(
        config,
        (2, "error: no/such.toml: cannot read the configuration: no such file".into())
    );
    let (model, message) = failure(&["generate", "--model", "no/such.gguf", "--prompt", "a"]);
    assert!(model == 4 && message.contains("no/such.gguf"), "{message}");
    let (model, message) = failure(&["score", "--model", "no/such.gguf", "--ids", "1"]);
    assert!(model == 4 && message.contains("no/such.gguf"), "{message}");
    let (prompts, message) = failure(&["generate", "--model", "m", "--prompts", "no/such.jsonl"]);
    assert!(prompts == 3 && message.contains("no/such.jsonl"), "{message}");
    assert_eq!(failure(&["generate", "--prompt", ""]).0, 3, "an empty prompt is data");
    let nothing = failure(&["generate", "--prompt", "a"]);
    assert_eq!(
        nothing,
        (
            2,
            "error: no model: give one with `--model PATH`, or `model.path` in a configuration"
                .into()
        )
    );
}

#[test]
fn a_broken_line_of_prompts_is_3_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.jsonl");
    let message = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let (code, message) =
            failure(&["generate", "--model", "m", "--prompts", path.to_str().unwrap()]);
        assert_eq!(code, 3, "{message}");
        message.replace(&path.display().to_string(), "p.jsonl")
    };
    let expected =
        "error: p.jsonl:2:1: no key `prompt` in this object; expected {\"prompt\": \"..\"}";
    assert_eq!(message(b"one\n{\"text\": 3}\n"), expected);
    assert_eq!(message(b"one\n\xff\xfe\n"), "error: p.jsonl:2: not UTF-8 text");
    assert_eq!(
        message(b"\n"),
        "error: p.jsonl: no prompts; expected one a line, as text or as {\"prompt\": \"..\"}"
    );
}

#[test]
fn a_device_is_named_by_file_variable_and_flag_in_this_order() {
    let origin = |command: &mut Command| {
        let output = command.output().unwrap();
        let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (shown["config"]["run"]["device"].clone(), shown["origins"]["run.device"].clone())
    };
    let show = ["config", "show", "--json"];
    assert_eq!(origin(&mut soft(&show)), ("auto".into(), "default".into()));
    assert_eq!(
        origin(soft(&show).env("SOFT_DEVICE", "flex")),
        ("flex".into(), "environment SOFT_DEVICE".into())
    );
    let with_setting = [&show[..], &["run.device=ndarray"]].concat();
    assert_eq!(
        origin(soft(&with_setting).env("SOFT_DEVICE", "flex")),
        ("ndarray".into(), "command line".into())
    );
    let with_flag = [&with_setting[..], &["--device", "cuda"]].concat();
    assert_eq!(
        origin(soft(&with_flag).env("SOFT_DEVICE", "flex")),
        ("cuda".into(), "--device".into())
    );
    let (code, message) = failure(&["train", "--device", "abacus", "--dry-run"]);
    assert!(
        code == 2 && message.starts_with("error: --device: unknown device \"abacus\""),
        "{message}"
    );
}

#[test]
fn show_prints_values_with_origins_as_a_configuration_that_loads() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("base.toml"), "[train]\nlr = 0.5\nsteps = 7\n").unwrap();
    let file = folder.path().join("my.toml");
    std::fs::write(&file, "extends = \"base.toml\"\n[train]\nsteps = 8\n").unwrap();
    let name = file.to_str().unwrap();
    let shown = stdout(&["config", "show", "-c", name, "soft.top_k=5"]);
    let expected = format!(
        "[soft]\ntop_k = 5                                # command line\n\n\
         [train]\nsteps = 8                                # {name}:3:9\n\
         lr = 0.5                                 # {}:2:6\n",
        folder.path().join("base.toml").display()
    );
    assert_eq!(shown, expected);
    let resolved = stdout(&["config", "show", "--resolved", "-c", name]);
    let again = folder.path().join("again.toml");
    std::fs::write(&again, &resolved).unwrap();
    let config = |name: &str| {
        json_lines(&stdout(&["config", "show", "--json", "-c", name])).remove(0)["config"].clone()
    };
    assert_eq!(config(again.to_str().unwrap()), config(name));
}

#[test]
fn explain_knows_every_key_and_the_nearest_to_a_wrong_one() {
    let expected = "rollout.kind\n  The kind of rollout: exactness against cost.\n  \
        accepts: one of \"teacher\", \"sequential\", \"parallel\"\n    \
        \"teacher\"        The truth is fed: one parallel pass.\n    \
        \"sequential\"     The model's own mixtures, position after position: exact, memory bounded by `rollout.segment`.\n    \
        \"parallel\"       The model's own mixtures of the pass before, all positions at once, `rollout.passes` times.\n  \
        default: \"teacher\"\n";
    assert_eq!(stdout(&["config", "explain", "rollout.kind"]), expected);
    let wrong = failure(&["config", "explain", "rollout.kindd"]);
    assert_eq!(
        wrong,
        (2, "error: unknown key `rollout.kindd`; did you mean `rollout.kind`?".into())
    );
    let all = stdout(&["config", "explain"]);
    let schema: serde_json::Value = serde_json::from_str(&stdout(&["config", "schema"])).unwrap();
    for (section, body) in schema["properties"].as_object().unwrap() {
        for (key, _) in body["properties"].as_object().into_iter().flatten() {
            assert!(all.contains(&format!("\n  {section}.{key} = ")), "{section}.{key}");
        }
    }
}

#[test]
fn t49_help_names_only_what_is_there() {
    let help = stdout(&["--help"]);
    let verbs: Vec<_> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .map_while(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(
        verbs,
        [
            "train",
            "generate",
            "eval",
            "score",
            "convert",
            "data",
            "merge",
            "export",
            "report",
            "config",
            "doctor",
            "completions",
            "man"
        ]
    );
    for verb in ["generate", "eval", "score", "merge"] {
        assert!(stdout(&[verb, "--help"]).contains("--adapter"), "{verb}");
    }
}

#[test]
fn the_doctor_runs_the_devices_of_this_build() {
    let report = json_lines(&stdout(&["doctor", "--json", "--threads", "1"])).remove(0);
    assert_eq!(report["burn"], "0.22.1");
    assert_eq!(report["threads"], 1);
    let devices = report["devices"].as_array().unwrap();
    let flex = devices.iter().find(|device| device["name"] == "flex");
    if cfg!(feature = "flex") {
        assert_eq!(flex.expect("the CPU is compiled in")["works"], true);
    }
    assert!(stdout(&["doctor"]).contains("device   "));
}

#[test]
fn t49_completions_are_printed_for_each_shell() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(stdout(&["completions", shell]).contains("generate"), "{shell}");
    }
}

#[cfg(unix)]
#[test]
fn t42_a_reader_that_goes_away_is_no_panic() {
    for arguments in [
        &["config", "schema"][..],
        &["config", "explain"],
        &["doctor", "--json"],
        &["completions", "zsh"],
    ] {
        let mut child =
            soft(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(text(&output.stderr), "", "{arguments:?}");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
    }
}

#[test]
fn a_dry_run_says_what_would_be_trained_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let output = soft(&["train", "--dry-run"]).current_dir(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    assert!(shown.contains("28,672 parameters"), "{shown}");
    assert!(shown.contains("5,253 training and 1,308 validation problems"), "{shown}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn generate_prints_the_contract_s_object_for_each_prompt() {
    let Some(model) = model() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (prompts, trace) = (folder.path().join("p.jsonl"), folder.path().join("t.jsonl"));
    std::fs::write(&prompts, "The capital of France is\n{\"prompt\": \"One, two,\"}\n").unwrap();
    let arguments = [
        "generate",
        "--model",
        &model,
        "--prompts",
        prompts.to_str().unwrap(),
        "--json",
        "--trace",
        trace.to_str().unwrap(),
        "generate.max_new=3",
        "generate.chat=false",
        "soft.top_k=30",
        "run.seed=7",
    ];
    let printed = stdout(&arguments);
    assert_eq!(
        std::fs::read_to_string(&trace).unwrap(),
        printed,
        "the trace holds the same objects"
    );
    let objects = json_lines(&printed);
    assert_eq!(objects.len(), 2);
    assert_eq!(objects[0]["prompt"], "The capital of France is");
    assert_eq!(objects[1]["prompt"], "One, two,");
    for object in &objects {
        let keys: Vec<_> = object.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            keys.join(" "),
            "trace_version name prompt prompt_ids text token_ids stop tally thresholds \
             embedding_norm steps"
        );
        assert_eq!(object["stop"], "max_new");
        let first = object["prompt_ids"].as_array().unwrap().len();
        for (i, step) in object["steps"].as_array().unwrap().iter().enumerate() {
            let keys: Vec<_> = step.as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(
                keys.join(" "),
                "decode_step position phase mode token_id token sampled_id entropy_nats \
                 effective_tokens top kept_mass nearest cosine hull_distance norm token_norm"
            );
            assert_eq!((&step["decode_step"], &step["position"]), (&i.into(), &(first + i).into()));
            assert_eq!(
                (&step["mode"], &step["token_id"]),
                (&"soft".into(), &object["token_ids"][i])
            );
            let top = step["top"].as_array().unwrap();
            assert!(top.len() >= 5, "{step}");
            let weight = |entry: &serde_json::Value| entry[2].as_f64().unwrap();
            assert!(top.windows(2).all(|pair| weight(&pair[0]) >= weight(&pair[1])), "{step}");
            assert_eq!(top[0][0], step["token_id"]);
            assert_eq!(top[0][1], step["token"]);
        }
    }
    assert_eq!(stdout(&arguments), printed, "a seed gives the same output again");
}

#[test]
fn a_prompt_alone_and_in_a_batch_gives_the_same_greedy_tokens() {
    let Some(model) = model() else { return };
    let greedy = ["soft.mode=hard", "soft.temperature=0", "generate.max_new=5"];
    let alone = |ids: &str| {
        let arguments =
            [&["generate", "--model", &model, "--prompt-ids", ids, "--json"][..], &greedy].concat();
        json_lines(&stdout(&arguments)).remove(0)
    };
    let prompts = ["The capital of France is", "Once", "The opposite of hot is not warm but"];
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prompts.txt");
    std::fs::write(&file, prompts.join("\n")).unwrap();
    let together = |with: &[&str]| {
        let arguments = [&["generate", "--model", &model, "generate.chat=false"], with, &greedy];
        stdout(&arguments.concat())
    };
    let batch = json_lines(&together(&["--prompts", file.to_str().unwrap(), "--json"]));
    for (prompt, in_batch) in prompts.iter().zip(&batch) {
        let alone = json_lines(&together(&["--prompt", prompt, "--json"])).remove(0);
        assert_eq!(in_batch["prompt"], *prompt);
        assert_eq!(in_batch["token_ids"], alone["token_ids"], "{prompt}");
    }
    let made = alone("504,3575,282,4649,314");
    assert_eq!(made["prompt"], serde_json::Value::Null);
    assert_eq!(made["steps"][0]["token"], " Paris");
    assert!(made["steps"].as_array().unwrap().iter().all(|step| step["mode"] == "hard"));
    let printed = stdout(
        &[&["generate", "--model", &model, "--prompt-ids", "504,3575,282,4649,314"][..], &greedy]
            .concat(),
    );
    assert_eq!(printed.trim_end_matches('\n'), made["text"].as_str().unwrap());
}

#[test]
fn a_prompt_goes_through_the_chat_template_unless_told_not_to() {
    let Some(model) = model() else { return };
    let question = "What is the capital of France?";
    let made = |setting: &str| {
        let arguments = [
            "generate",
            "--model",
            &model,
            "--prompt",
            question,
            "--json",
            "soft.mode=hard",
            "soft.temperature=0",
            "generate.max_new=12",
            setting,
        ];
        json_lines(&stdout(&arguments)).remove(0)
    };
    let (chat, plain) = (made("generate.chat=true"), made("generate.chat=false"));
    assert_eq!((&chat["prompt"], &plain["prompt"]), (&question.into(), &question.into()));
    assert_eq!(chat["text"], "The capital of France is Paris.");
    assert_eq!(chat["stop"], "eos");
    let length = |object: &serde_json::Value| object["prompt_ids"].as_array().unwrap().len();
    assert!(length(&plain) == 7 && length(&chat) > 20, "{} {}", length(&plain), length(&chat));
}

#[test]
fn thoughts_are_soft_and_the_answer_is_hard() {
    let Some(model) = model() else { return };
    let question = "What is the capital of France?";
    let base = ["generate", "--model", &model, "--prompt", question, "--json"];
    let made = |settings: &[&str]| json_lines(&stdout(&[&base[..], settings].concat())).remove(0);
    let soft = ["soft.temperature=0.3", "soft.top_k=5", "answer.temperature=0"];
    let first = made(&[&soft[..], &["think.span=first", "think.first=3"]].concat());
    let modes: Vec<_> = first["steps"].as_array().unwrap().iter().map(|s| &s["mode"]).collect();
    assert!(modes[..3].iter().all(|mode| **mode == "soft"), "{modes:?}");
    assert!(modes.len() > 3 && modes[3..].iter().all(|mode| **mode == "hard"), "{modes:?}");
    assert_eq!(first["text"], "The capital of France is Paris.");
    // A tag of this model's own template closes the thought; certainty is what it asks for.
    let cold = ["think.span=tags", "think.open=", "think.close=<|im_end|>", "soft.cold_stop=true"];
    let rule =
        ["soft.cold_stop_entropy=100", "soft.cold_stop_length=2", "generate.ignore_eos=true"];
    let stopped = made(&[&soft[..], &cold, &rule, &["generate.max_new=4"]].concat());
    let step = &stopped["steps"][1];
    assert_eq!((&step["mode"], &step["token"]), (&"hard".into(), &"<|im_end|>".into()));
    let settings = ["think.span=tags", "generate.max_new=1"];
    let (code, message) = failure(&[&base[..], &settings].concat());
    assert_eq!(code, 4);
    assert!(
        message.starts_with("error: `think.close` is \"</think>\"")
            || message.starts_with("error: `think.open` is \"<think>\""),
        "{message}"
    );
}

#[test]
fn score_prints_the_contract_s_object() {
    let Some(model) = model() else { return };
    let object = json_lines(&stdout(&[
        "score",
        "--model",
        &model,
        "--text",
        "The capital of France is Paris.",
        "--json",
    ]))
    .remove(0);
    let keys: Vec<_> = object.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["token_ids", "logprobs", "nll_mean", "top"]);
    let ids = object["token_ids"].as_array().unwrap();
    assert_eq!(object["logprobs"].as_array().unwrap().len(), ids.len());
    assert_eq!(object["logprobs"][0], serde_json::Value::Null);
    let top = object["top"].as_array().unwrap();
    assert!(
        top.len() == ids.len() && top.iter().all(|entries| entries.as_array().unwrap().len() == 5)
    );
    let joined: Vec<_> = ids.iter().map(ToString::to_string).collect();
    let again =
        json_lines(&stdout(&["score", "--model", &model, "--ids", &joined.join(","), "--json"]))
            .remove(0);
    assert_eq!(again, object);
}

#[test]
fn a_prompt_that_is_too_long_is_named_before_anything_is_generated() {
    let Some(model) = model() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prompts.txt");
    let long = "word ".repeat(9000);
    std::fs::write(&file, format!("short\n{long}\n")).unwrap();
    let file = file.to_str().unwrap();
    let arguments = ["generate", "--model", &model, "--prompts", file, "generate.max_new=1"];
    let (code, message) = failure(&arguments);
    assert!(code == 3 && message.starts_with("error: prompt 2: "), "{message:.200}");
}

#[test]
fn ids_outside_the_vocabulary_are_4_and_a_prompt_over_the_context_is_3() {
    let Some(model) = model() else { return };
    let expected = "error: token id 49152 at position 1 is outside the vocabulary: ids of this model are 0..49152";
    assert_eq!(failure(&["score", "--model", &model, "--ids", "1,49152"]), (4, expected.into()));
    assert_eq!(
        failure(&["generate", "--model", &model, "--prompt-ids", "1,49152"]),
        (4, expected.into())
    );
    let long = vec!["1"; 9000].join(",");
    let (code, message) = failure(&["generate", "--model", &model, "--prompt-ids", &long]);
    assert!(code == 3 && message.contains("9000 tokens"), "{message}");
}

/// Settings of a run that takes a second.
const TINY: [&str; 9] = [
    "model.d_model=8",
    "task.digits=2",
    "task.digit_max=5",
    "train.steps=12",
    "train.warmup=0",
    "train.micro_batch=4",
    "save.every=4",
    "eval.arms=[\"soft\", \"soft_fed_hard\"]",
    "run.name=tiny",
];

fn train_in(folder: &Path, arguments: &[&str]) -> Output {
    let arguments = [&["train"], arguments, &TINY].concat();
    soft(&arguments).current_dir(folder).output().expect("the program starts")
}

#[test]
fn a_run_is_trained_continued_and_its_checkpoint_generates() {
    let folder = tempfile::tempdir().unwrap();
    let output = train_in(folder.path(), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("soft_fed_hard"), "{}", text(&output.stdout));
    let again = train_in(folder.path(), &[]);
    assert_eq!(again.status.code(), Some(2), "the name is in use");
    assert!(text(&again.stderr).contains("already exists"), "{}", text(&again.stderr));
    let resumed = train_in(folder.path(), &["--resume", "auto"]);
    assert_eq!(resumed.status.code(), Some(0), "{}", text(&resumed.stderr));
    let checkpoints = folder.path().join("runs/tiny/checkpoints");
    let newest = std::fs::read_dir(&checkpoints).unwrap().map(|entry| entry.unwrap().path()).max();
    let checkpoint = newest.expect("there is a checkpoint");
    let model = checkpoint.to_str().unwrap();
    let made =
        json_lines(&stdout(&["generate", "--model", model, "--prompt-ids", "1,6,7", "--json"]));
    assert_eq!(made[0]["steps"][0]["mode"], "soft");
    assert!(json_lines(&stdout(&["score", "--model", model, "--ids", "1,6,7", "--json"]))[0]["nll_mean"].is_f64());
}

#[cfg(unix)]
#[test]
fn t41_an_interrupted_run_is_130_with_a_checkpoint_that_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let long = ["train", "--resume", "auto", "train.steps=1000000", "log.every=1", "save.every=0"];
    let settings = TINY.iter().filter(|s| !s.starts_with("train.steps") && !s.starts_with("save."));
    let arguments: Vec<&str> = long.into_iter().chain(settings.copied()).collect();
    for round in 0..2 {
        let mut child = soft(&arguments)
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let seen: Vec<String> = lines.by_ref().take(6).map(Result::unwrap).collect();
        let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
        assert!(interrupt.unwrap().success());
        let rest = std::thread::spawn(move || lines.count());
        let output = child.wait_with_output().unwrap();
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "round {round}: {stderr}");
        assert!(stderr.contains("--resume auto"), "{stderr}");
        assert_eq!(round == 1, seen[0].contains("going on from"), "{seen:?}");
        rest.join().unwrap();
    }
}
