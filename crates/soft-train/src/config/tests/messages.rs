//! Every message, whole.

use super::super::{Config, Loader};
use super::{load, message, override_message};

#[test]
fn t30_an_unknown_key_is_named_with_its_place_and_the_nearest_known_key() {
    let cases = [
        ("[train]\nstep = 5", "my.toml:2:1: unknown key `train.step`; did you mean `train.steps`?"),
        ("[trian]\nsteps = 5", "my.toml:1:2: unknown key `trian`; did you mean `train`?"),
        (
            "temperature = 0.5",
            "my.toml:1:1: unknown key `temperature`; did you mean `soft.temperature`?",
        ),
        (
            "[soft]\n  tempreature = 1",
            "my.toml:2:3: unknown key `soft.tempreature`; did you mean `soft.temperature`?",
        ),
        (
            "[train]\nmax_new = 5",
            "my.toml:2:1: unknown key `train.max_new`; did you mean `generate.max_new`?",
        ),
        (
            "[guidance]\nevery = 5",
            "my.toml:2:1: unknown key `guidance.every`; did you mean `eval.every` or `log.every` or `save.every`?",
        ),
        ("[zebra]\nstripes = 5", "my.toml:2:1: unknown key `zebra.stripes`"),
        (
            "[soft]\n\"t\u{435}mperature\" = 1",
            "my.toml:2:1: unknown key `soft.t\u{435}mperature`; did you mean `soft.temperature`?",
        ),
        (
            "train.schedule.kind = 1",
            "my.toml:1:7: `train.schedule` is { kind = 1 }; expected one of \"constant\", \"cosine\", \"linear\", \"wsd\"",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(message(text), expected);
    }
}

#[test]
fn a_name_of_another_trainer_is_answered_with_ours() {
    let cases = [
        ("per_device_train_batch_size", "train.micro_batch"),
        ("gradient_accumulation_steps", "train.grad_accum"),
        ("learning_rate", "train.lr"),
        ("max_new_tokens", "generate.max_new"),
        ("lora_r", "low_rank.rank"),
    ];
    for (foreign, ours) in cases {
        let expected =
            format!("my.toml:2:1: unknown key `train.{foreign}`; the name here is `{ours}`");
        assert_eq!(message(&format!("[train]\n{foreign} = 1")), expected);
        let expected = format!("my.toml:1:1: unknown key `{foreign}`; the name here is `{ours}`");
        assert_eq!(message(&format!("{foreign} = 1")), expected);
    }
}

#[test]
fn a_planned_key_is_refused_as_not_there_yet() {
    let expected = "command line: unknown key `grpo.group`; it is planned and not there yet";
    assert_eq!(override_message("grpo.group=1"), expected);
    let expected = "my.toml:1:2: unknown key `grpo`; it is planned and not there yet";
    assert_eq!(message("[grpo]\ngroup = 8\nbeta = 0.1"), expected);
}

#[test]
fn t30_a_value_out_of_range_says_what_was_expected() {
    let cases = [
        ("soft.top_k=-1", "`soft.top_k` is -1; expected a whole number, at least 0"),
        ("soft.top_k=1.5", "`soft.top_k` is 1.5; expected a whole number, at least 0"),
        ("soft.max_top_k=-3", "`soft.max_top_k` is -3; expected a whole number, at least 0"),
        ("soft.top_p=1.2", "`soft.top_p` is 1.2; expected a number from 0 to 1"),
        ("soft.top_p=nan", "`soft.top_p` is nan; expected a number from 0 to 1"),
        ("soft.min_p=-0.1", "`soft.min_p` is -0.1; expected a number from 0 to 1"),
        ("soft.temperature=-1", "`soft.temperature` is -1; expected a finite number, at least 0"),
        ("soft.temperature=inf", "`soft.temperature` is inf; expected a finite number, at least 0"),
        (
            "soft.noise_temperature=0",
            "`soft.noise_temperature` is 0; expected a finite number, above 0",
        ),
        ("guidance.start=1.5", "`guidance.start` is 1.5; expected a number from 0 to 1"),
        (
            "model.dropout=1",
            "`model.dropout` is 1; expected a finite number, at least 0 and below 1",
        ),
        ("train.steps=0", "`train.steps` is 0; expected a whole number, at least 1"),
        ("task.digits=9", "`task.digits` is 9; expected a whole number from 1 to 8"),
        ("run.seed=-1", "`run.seed` is -1; expected a whole number, at least 0"),
        (
            "low_rank.targets=[\"q_porj\"]",
            "`low_rank.targets`: no projection \"q_porj\" to attach a low-rank branch to: expected one of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, \"all-linear\", or a regular expression of module paths; did you mean \"q_proj\"?",
        ),
        (
            "low_rank.targets=[\"(q_proj\"]",
            "`low_rank.targets`: target \"(q_proj\" is no regular expression that is read here: unclosed group",
        ),
        (
            "low_rank.targets=[]",
            "`low_rank.targets` is []; expected a list that is not empty, each entry a string",
        ),
        (
            "eval.arms=[]",
            "`eval.arms` is []; expected a list that is not empty, each entry one of \"soft\", \"hard\", \"no_thought\", \"soft_fed_hard\"",
        ),
    ];
    for (setting, expected) in cases {
        assert_eq!(override_message(setting), format!("command line: {expected}"));
    }
}

#[test]
fn t30_a_value_of_a_wrong_type_says_what_was_expected() {
    let cases = [
        ("train.lr=fast", "`train.lr` is \"fast\"; expected a finite number, at least 0"),
        ("generate.chat=1", "`generate.chat` is 1; expected true or false"),
        ("run.name=7", "`run.name` is 7; expected a string; for the text, quote it: '\"7\"'"),
        (
            "soft.mode=sofd",
            "`soft.mode` is \"sofd\"; expected one of \"soft\", \"hard\"; did you mean \"soft\"?",
        ),
        ("data.train=5", "`data.train` is 5; expected a string, or a list, each entry a string"),
        (
            "data.format=jsonl",
            "`data.format` is \"jsonl\"; expected one of \"auto\", \"ids\", \"text\", \"prompt\", \"messages\", \"reasoning\"",
        ),
        (
            "soft.order=[\"temperatur\"]",
            "`soft.order` is [\"temperatur\"]; expected a list, each entry one of \"temperature\", \"top_k\", \"top_p\", \"min_p\", \"noise\"; did you mean \"temperature\"?",
        ),
        (
            "soft.order=[top_k]",
            "`soft.order` is \"[top_k]\"; expected a list, each entry one of \"temperature\", \"top_k\", \"top_p\", \"min_p\", \"noise\"; a list is written [\"a\", \"b\"], in quotes of the shell",
        ),
        ("train=5", "`train` is 5; expected a section, as in `[train]`"),
        ("extends=base.toml", "`extends` cannot be set here; write it in a file"),
        (
            "train.steps=99999999999999999999",
            "`train.steps` is 99999999999999999999; expected a whole number, at least 1",
        ),
    ];
    for (setting, expected) in cases {
        assert_eq!(override_message(setting), format!("command line: {expected}"));
    }
    assert_eq!(
        override_message("train.steps"),
        "command line: `train.steps` is not a setting; expected `key=value`"
    );
    assert_eq!(
        message("[soft]\ntop_k = 1.5"),
        "my.toml:2:9: `soft.top_k` is 1.5; expected a whole number, at least 0"
    );
    assert_eq!(
        message("train = 5"),
        "my.toml:1:9: `train` is 5; expected a section, as in `[train]`"
    );
}

#[test]
fn t30_settings_that_contradict_are_refused() {
    let cases = [
        (
            "[model]\nd_model = 30\nn_heads = 4",
            "my.toml:3:11: `model.n_heads` is 4 and `model.d_model` is 30; expected heads that divide the width",
        ),
        (
            "[model]\nfamily = \"llama\"\nd_model = 6",
            "my.toml:3:11: `model.d_model` / `model.n_heads` is 3; expected an even head width for rotary positions",
        ),
        (
            "[soft]\norder = [\"top_k\", \"top_k\", \"temperature\"]",
            "my.toml:2:9: `soft.order` holds \"top_k\" twice; expected each entry once",
        ),
        (
            "[soft]\norder = [\"temperature\"]\ntop_k = 5",
            "my.toml:3:9: `soft.top_k` is 5 and `soft.order` leaves \"top_k\" out; expected it there, or off",
        ),
        (
            "[soft]\nnoise = \"gumbel\"\norder = [\"noise\", \"temperature\"]",
            "my.toml:3:9: `soft.order`: order has temperature after noise; noise comes after every filter, so name it last",
        ),
        (
            "think = {span = \"tags\"}\n[answer]\ntop_k = 2\norder = []",
            "my.toml:3:9: `answer.top_k` is 2 and `answer.order` leaves \"top_k\" out; expected it there, or off",
        ),
        (
            "[soft]\nnoise = \"gumbel\"\nfeed = \"samples\"",
            "my.toml:3:8: `soft.feed`: feed draws tokens and noise is on; switch one of them off",
        ),
        (
            "[answer]\npreset = \"multiplex\"",
            "my.toml:2:10: `answer.preset` is \"multiplex\"; expected it as `soft.preset`, which sets `answer` too",
        ),
        (
            "[answer]\ntemperature = 0.5",
            "my.toml:2:15: `answer.temperature` is set and `think.span` is \"everywhere\", which leaves no answer; expected \"first\" or \"tags\", or a gate",
        ),
        (
            "[soft]\ntemperature = 1e-40",
            "my.toml:2:15: `soft.temperature`: temperature = 0.0000000000000000000000000000000000000001: expected 0, or a finite number of 1e-30 or more",
        ),
        (
            "[low_rank]\nrank = 2\ntargets = [\"gate_proj\"]",
            "my.toml:3:11: `low_rank.targets` holds \"gate_proj\" and `model.family` is \"gpt2\", which has no gate; expected \"up_proj\" or \"down_proj\"",
        ),
        (
            "[prefix]\ntokens = 2\n[prompt]\ntokens = 3",
            "my.toml:4:10: `prompt.tokens` is 3 and `prefix.tokens` is 2, and both are the first positions; expected one of them to be 0",
        ),
        (
            "[guidance]\nend = 0.0",
            "my.toml:2:7: `guidance.end` is 0 and `guidance.schedule` is \"constant\", which stays at 1; expected \"linear\", \"cosine\" or \"inverse_sigmoid\"",
        ),
        (
            "[data]\npack = 64\n[train]\nmicro_batch = 1",
            "my.toml:2:8: `data.pack` is 64 and `train.micro_batch` is 1, which leaves one example a row; expected a larger micro-batch, or no packing",
        ),
        (
            "[data]\npack = 64\n[rollout]\nkind = \"sequential\"",
            "my.toml:2:8: `data.pack` is 64 and every step is a \"sequential\" rollout, whose rows are never packed; expected 0, or a \"teacher\" or \"parallel\" rollout",
        ),
        (
            "[train]\nrecompute = 2\n[rollout]\nstages = [\"sequential\"]",
            "my.toml:2:13: `train.recompute` is 2 and every step is a \"sequential\" rollout, which computes its segments again as `rollout.segment` says; expected 0, or a \"teacher\" or \"parallel\" rollout",
        ),
        (
            "[train]\nschedule = \"cosine\"\nmin_lr = 1.0",
            "my.toml:3:10: `train.min_lr` is 1 and `train.lr` is 0.001; expected a smaller one",
        ),
        (
            "[task]\nname = \"mnns\"\ndigits = 8",
            "my.toml:3:10: `task.digits` is 8 and `task.digit_max` is 9, which makes 43046721 problems; expected at most 600000",
        ),
        (
            "[task]\nname = \"mnns\"\ndigits = 1",
            "my.toml:3:10: `task.digits` is 1 and `task.name` is \"mnns\"; expected 2 to 8",
        ),
        (
            "[task]\nname = \"multiplication\"\ndigits = 6",
            "my.toml:3:10: `task.digits` is 6 and `task.name` is \"multiplication\"; expected 1 to 5",
        ),
        (
            "[eval]\narms = [\"hard\", \"soft_fed_hard\"]",
            "my.toml:2:8: `eval.arms` holds \"soft_fed_hard\" without \"soft\"; expected both, for it is the model of the soft arm",
        ),
        (
            "[eval]\narms = [\"hard\", \"hard\"]",
            "my.toml:2:8: `eval.arms` holds \"hard\" twice; expected each entry once",
        ),
        (
            "[task]\nname = \"ids\"\n[eval]\narms = [\"soft\", \"hard\"]",
            "my.toml:4:8: `eval.arms` holds other arms than \"soft\" and `task.name` is \"ids\", whose lines say themselves which inputs are soft; expected [\"soft\"]",
        ),
        (
            "[task]\nname = \"text\"\n[eval]\narms = [\"hard\"]",
            "my.toml:4:8: `eval.arms` holds other arms than \"soft\" and `task.name` is \"text\", where `data.soft` says which inputs are soft; expected [\"soft\"]",
        ),
        (
            "[task]\nname = \"ids\"\n[data]\nformat = \"messages\"",
            "my.toml:4:10: `data.format` is \"messages\" and `task.name` is \"ids\"; expected the format \"ids\", or `task.name` \"text\"",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(message(text), expected);
    }
}

#[test]
fn gates_searches_and_evaluations_that_would_do_nothing_are_refused() {
    let cases = [
        ("[gate]\nkind = \"entropy\"\n[soft]\nmode = \"hard\"", "leaves nothing to choose"),
        ("[gate]\nkind = \"switch\"\nmax_switches = 2", "has no tag to close the thought with"),
        (
            "[gate]\nkind = \"entropy\"\nentropy = \"kept\"\nthreshold = 2.0",
            "`gate.threshold` is 2 and `gate.entropy` is \"kept\", a share",
        ),
        ("[search]\nkind = \"vote\"\n[soft]\ntemperature = 0.0", "all continuations are one"),
        ("[search]\nkind = \"beam\"\n[gate]\nkind = \"entropy\"", "beams have no gate"),
        ("[search]\nkind = \"beam\"\n[soft]\nnoise = \"gumbel\"", "beams draw nothing"),
        (
            "[search]\nkind = \"soft_beam\"\n[soft]\nfeed = \"hidden\"",
            "beams say themselves what they feed",
        ),
        (
            "think = {span = \"first\"}\n[answer]\nfeed = \"hidden\"",
            "`answer.feed` is \"hidden\"; expected it as `soft.feed`",
        ),
        ("[eval]\nextract = \"regex\"", "`eval.pattern` is empty"),
        ("[eval]\npattern = \"x\"", "`eval.extract` is \"last_number\"; expected \"regex\""),
        ("[eval]\ncontrols = [\"top\", \"top\"]", "`eval.controls` holds \"top\" twice"),
    ];
    for (text, expected) in cases {
        let found = message(text);
        assert!(found.contains(expected), "{text}: {found}");
    }
}

#[test]
fn t30_all_errors_are_reported_at_once() {
    let text = "[train]\nlearning_rate = 1.0\nsteps = \"many\"\n\n[soft]\ntop_p = 2\norder = [\"noise\", \"noise\", \"temperature\"]\n";
    let error = Loader::new().text("my.toml", text).overrides(["save.evry=3"]).load().unwrap_err();
    let expected = "5 problems in the configuration\n  \
        my.toml:2:1: unknown key `train.learning_rate`; the name here is `train.lr`\n  \
        my.toml:3:9: `train.steps` is \"many\"; expected a whole number, at least 1\n  \
        my.toml:6:9: `soft.top_p` is 2; expected a number from 0 to 1\n  \
        command line: unknown key `save.evry`; did you mean `save.every`?\n  \
        my.toml:7:9: `soft.order` holds \"noise\" twice; expected each entry once";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn t30_text_that_is_not_toml_is_refused_at_its_place() {
    assert_eq!(
        message("[train]\nsteps = = 3"),
        "2 problems in the configuration\n  \
        my.toml:2:9: not TOML: extra `=`, expected nothing\n  \
        my.toml:2:11: not TOML: unexpected key or value, expected newline, `#`"
    );
    assert_eq!(message("[train]\nsteps = 1\nsteps = 2"), "my.toml:3:1: not TOML: duplicate key");
    assert_eq!(message("[train\nsteps = 1"), "my.toml:1:7: not TOML: unclosed table, expected `]`");
    assert!(load(&format!("a = {}", "[".repeat(100_000))).is_err(), "deep nesting is an error");
    let long = format!("# {}", "x".repeat(2 << 20));
    assert_eq!(
        message(&long),
        "my.toml: the file has more than 1048576 bytes, the most that a configuration may have"
    );
}

#[test]
fn t30_a_file_without_an_end_is_refused_for_its_length() {
    let expected = "the file has more than 1048576 bytes";
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("my.toml");
    // Ends within a character, which is not what is wrong with it.
    std::fs::write(&path, "\u{e9}".repeat(10 << 20)).expect("written");
    let error = Loader::new().file(&path).load().expect_err("too long").to_string();
    assert!(error.contains(expected) && error.contains("my.toml"), "{error}");
    if cfg!(unix) {
        std::fs::write(&path, "extends = \"/dev/zero\"\n").expect("written");
        let error = Loader::new().file(&path).load().expect_err("endless").to_string();
        assert!(error.contains("/dev/zero") && error.contains(expected), "{error}");
    }
}

#[test]
fn t26_what_is_wrong_is_told_in_what_a_terminal_holds() {
    let text: String = (0..500).map(|i| format!("key_{i} = 1\n")).collect();
    let told = message(&text);
    assert!(told.starts_with("500 problems in the configuration\n  my.toml:1:1: "), "{told}");
    assert!(told.len() < 4096 && told.ends_with(" more"), "{told}");
    let shown = told.lines().count() - 2;
    assert!(told.ends_with(&format!("and {} more", 500 - shown)), "{told}");
    let told = message(&format!("[run]\nname = [\"{}\"]\n", "x".repeat(10_000)));
    assert!(told.len() < 1000 && told.contains("bytes in all"), "{told}");
}

#[test]
fn a_missing_file_and_a_missing_base_are_named() {
    let error = Loader::new().file("nowhere/x.toml").load().unwrap_err();
    assert_eq!(error.to_string(), "nowhere/x.toml: cannot read the configuration: no such file");
    let expected = "my.toml:1:11: cannot read `nowhere/base.toml`: no such file";
    assert_eq!(message("extends = \"nowhere/base.toml\""), expected);
    assert_eq!(message("extends = 3"), "my.toml:1:11: `extends` is 3; expected a string");
}

#[test]
fn a_cycle_of_extends_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("a.toml", "extends = \"b.toml\"");
    write("b.toml", "\nextends = \"a.toml\"");
    let error = Loader::new().file(folder.path().join("a.toml")).load().unwrap_err();
    let base = folder.path().display();
    let expected =
        format!("{base}/b.toml:2:11: `extends` leads back to `{base}/a.toml`; expected no cycle");
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_configuration_made_in_code_is_checked_too() {
    let mut config = Config::default();
    assert_eq!(config.validate(), Ok(()));
    config.soft.top_p = 1.5;
    config.soft.min_p = -1.0;
    let expected = "2 problems in the configuration\n  \
        default: `soft.min_p` is -1.0; expected a number from 0 to 1\n  \
        default: `soft.top_p` is 1.5; expected a number from 0 to 1";
    assert_eq!(config.validate().unwrap_err().to_string(), expected);
    let mut config = Config::default();
    config.run.seed = u64::MAX;
    assert!(config.validate().is_err(), "a seed over 2^63 does not fit TOML");
}

#[test]
fn training_without_a_task_is_refused() {
    let none = load("").unwrap().require_training().unwrap_err();
    let expected = "default: `task.name` is \"none\"; expected a task to train on, \"mnns\", \"ids\" or \"text\"";
    assert_eq!(none.to_string(), expected);
    let ids = load("[task]\nname = \"ids\"").unwrap().require_training().unwrap_err();
    let expected = "default: `data.train` is empty; expected files, for `task.name` is \"ids\"";
    assert_eq!(ids.to_string(), expected);
    let text = load("[task]\nname = \"text\"\n[data]\ntrain = \"x\"").unwrap();
    let expected = "default: `model.path` is not set and `task.name` is \"text\", which needs a tokenizer; expected a model";
    assert_eq!(text.require_training().unwrap_err().to_string(), expected);
    assert_eq!(load("[task]\nname = \"mnns\"").unwrap().require_training(), Ok(()));
}

#[test]
fn settings_of_a_training_that_contradict_are_refused_with_what_was_expected() {
    let cases = [
        (
            "rollout.stages = [\"teacher\", \"parallel\"]",
            "\"teacher\"; expected a kind and its steps",
        ),
        (
            "[rollout]\nkind = \"parallel\"\nstages = [\"teacher 5\", \"sequential\"]",
            "`rollout.stages` names the kinds; expected one of the two",
        ),
        (
            "estimator.kind = \"gumbel\"\nsoft.noise = \"gumbel\"",
            "expected \"none\" and \"mixture\": the estimator draws itself",
        ),
        (
            "estimator.kind = \"straight_through\"\nsoft.temperature = 0.0",
            "leaves nothing to draw; expected a temperature above 0",
        ),
        ("estimator.end = 0.5", "`estimator.schedule` is \"constant\", which stays at 1"),
        ("objective.entropy_start = 0.5", "`objective.entropy_schedule` is \"constant\""),
        ("train.schedule = \"wsd\"", "expected a decay over 0 with \"wsd\""),
        ("train.decay = 5", "expected a decay over 0 with \"wsd\", and 0 with the others"),
        (
            "train = {schedule = \"wsd\", steps = 10, warmup = 6, decay = 5}",
            "are 11 steps together, of 10 in `train.steps`",
        ),
        ("train.only = [\"(\"]", "`train.only` holds \"(\", which is no regular expression"),
        ("train.rates = [\"mlp fast\"]", "expected a regular expression and a factor"),
        ("model.new_tokens = [\"<think>\"]", "expected a model with a tokenizer to add them to"),
        ("think.begin = true", "expected \"first\" or \"tags\", and a tag to put after the prompt"),
    ];
    for (text, expected) in cases {
        let found = message(text);
        assert!(found.contains(expected), "{text}\n{found}");
    }
}
