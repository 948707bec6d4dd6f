//! Reasoning that becomes soft stage by stage: what a stage trains on, the optimizer that begins
//! anew, and that a checkpoint thinks as its stage did.

use std::fs;

use burn::tensor::DType;
use soft_model::{ModelFiles, Transformer};
use soft_tests::device;
use soft_tests::runs::{Runs, assert_same_outcome, checkpoint, mnns, series};
use soft_tests::text::{SPECIAL, write_model};
use soft_train::config::{Arm, Config, Cut, Loader};
use soft_train::data::Reader;
use soft_train::decoding::Decoding;
use soft_train::example::{Example, Truth};
use soft_train::run::{Resume, text_encoder};
use soft_train::task::Problem;

/// Stages that begin at the steps 6, 11 and 16 (of "mnns" with 3 digits: only two).
const STAGES: [&str; 7] = [
    "curriculum.stages=2",
    "curriculum.positions=2",
    "curriculum.first=6",
    "curriculum.steps=5",
    "soft.feed=hidden",
    "rollout.kind=sequential",
    "guidance.start=0",
];

#[test]
fn a_stage_replaces_the_first_sums_by_soft_positions() {
    let task = mnns(4, 9);
    let is_it = |problem: &&Problem| task.tokens.text(&problem.prompt) == "<BOS> D3 D1 D2 D5";
    let problem = task.train.iter().find(is_it).expect("a training problem");
    let line = |steps, soft| {
        let cut = Cut { steps, soft };
        let example = task.cut_example(problem, cut);
        example.validate(task.tokens.len(), "mnns").expect("valid");
        let len = task.len_after_prompt(Arm::Soft, problem, Some(cut));
        assert_eq!((example.len(), soft), (5 + len.0, len.1));
        assert_eq!(task.cut_positions(cut), example.len());
        assert!(task.is_right(Arm::Soft, problem, Some(cut), &example.input_ids[5..]));
        let name = |(t, &id): (usize, &u32)| match example.soft[t] {
            true => "~".to_owned(),
            false => task.tokens.name(id).expect("a token").to_owned(),
        };
        let names: Vec<String> = example.input_ids.iter().enumerate().map(name).collect();
        for t in 0..example.len() {
            let scored = t >= 5 && !example.soft[t];
            assert_eq!(example.weight[t], f32::from(u8::from(scored)));
            assert_eq!(example.truth[t] == Truth::None, example.soft[t]);
        }
        names.join(" ")
    };
    assert_eq!(line(0, 0), "<BOS> D3 D1 D2 D5 S3 S4 S6 S1");
    assert_eq!(line(1, 1), "<BOS> D3 D1 D2 D5 ~ S4 S6 S1");
    assert_eq!(line(3, 3), "<BOS> D3 D1 D2 D5 ~ ~ ~ S1");
    assert_eq!(line(1, 2), "<BOS> D3 D1 D2 D5 ~ ~ S4 S6 S1");
    assert_eq!(line(usize::MAX, 2), "<BOS> D3 D1 D2 D5 ~ ~ S1", "the answer stays");
}

/// Resumed within a stage and at its border, where the optimizer begins anew.
#[test]
fn stages_are_recorded_and_resume_to_the_bit() {
    let runs = Runs::temporary();
    let settings = [&STAGES[..], &["save.every=1", "save.keep=20", "eval.every=5"]].concat();
    let whole = runs.train("whole", &settings).run_dir;
    let stages = series(&whole, "curriculum/stage");
    assert_eq!(stages, [[0.0; 6].to_vec(), vec![1.0; 5], vec![2.0; 9]].concat());
    for from in [6, 8, 11] {
        let name = format!("from-{from}");
        let steps = format!("train.steps={}", from.max(12));
        let first = [&settings[..], &[&*steps]].concat();
        runs.train(&name, &first);
        let from = Resume::From(checkpoint(&runs.path(&name), from));
        let parts = runs.resumed(&name, &settings, from);
        assert_same_outcome(&whole, &parts.run_dir, 20, &name);
    }
    let keeps = runs.train("keeps", &[&settings[..], &["curriculum.reset=false"]].concat()).run_dir;
    let (reset, kept) = (series(&whole, "loss"), series(&keeps, "loss"));
    // The first update of a stage is the first that differs: its loss is that before it.
    assert_eq!(reset[..7], kept[..7]);
    assert_ne!(reset[7], kept[7], "an optimizer that begins anew steps otherwise");
    assert!(reset[5] < reset[0], "{reset:?}");
}

/// What a checkpoint says of itself makes generation think as its stage was trained.
#[test]
fn a_checkpoint_thinks_as_its_stage() {
    let runs = Runs::temporary();
    let settings = [&STAGES[..], &["save.every=5", "save.keep=20", "train.steps=15"]].concat();
    let trained = runs.train("run", &settings);
    let task = mnns(3, 5);
    for (steps, cut) in [(5, (0, 0)), (10, (1, 2)), (15, (2, 4))] {
        let cut = Cut { steps: cut.0, soft: cut.1 };
        let files = ModelFiles::open(&checkpoint(&trained.run_dir, steps)).expect("a model");
        let soft = files.soft.clone().expect("it says how it thinks");
        let config = Loader::new().model(soft).load().expect("valid").config;
        assert_eq!(config.generate.max_new, task.max_new(Arm::Soft, Some(cut)));
        let model = Transformer::open(&files, &device(), DType::F32).expect("a model");
        let prompts = task.validation.iter().map(|problem| problem.prompt.clone());
        let prompts: Vec<Vec<u32>> = prompts.collect();
        let decoding = Decoding::new(&config, &files).expect("valid");
        let made = decoding.run(&model, &prompts, 0, &mut |_, _, _| {}).expect("it fits");
        let mut correct = 0;
        for (problem, made) in task.validation.iter().zip(&made) {
            let row = &made.rows[0];
            assert_eq!(row.tally.soft, cut.soft);
            let right = task.is_right(Arm::Soft, problem, Some(cut), &row.token_ids);
            correct += usize::from(right);
        }
        if steps == 15 {
            let ours = &trained.results.arms[0];
            assert_eq!((ours.arm, ours.correct), (Arm::Soft, correct as u64));
            assert_eq!(ours.total, task.validation.len() as u64);
        }
    }
}

const LINES: [&str; 3] = [
    r#"{"question": "1+2+3?", "reasoning": "1+2=3\n\n3+3=6", "answer": "6"}"#,
    r#"{"question": "2+2?", "reasoning": ["2+2=4"], "answer": "4"}"#,
    r#"{"question": "1+1+1+1?", "reasoning": ["1+1=2", "2+1=3", "3+1=4"], "answer": "4"}"#,
];

#[test]
fn a_stage_of_text_keeps_the_steps_that_are_left_as_text() {
    let runs = Runs::temporary();
    write_model(&runs.path("model"), &SPECIAL);
    let files = ModelFiles::open(&runs.path("model")).expect("the model opens");
    let config = Config::default();
    let mut encoder = text_encoder(&config, &files).expect("an encoder");
    fs::write(runs.path("data.jsonl"), LINES.join("\n")).expect("written");
    let broken = [
        (r#"{"question": "q", "reasoning": ["a", 5], "answer": "b"}"#, "reasoning[1] is"),
        (
            r#"{"question": "q", "reasoning": 5, "answer": "b"}"#,
            "expected text, or a list of texts",
        ),
    ];
    for (line, expected) in broken {
        fs::write(runs.path("bad.jsonl"), line).expect("written");
        let reader = Reader { encoder: Some(&encoder), ..Reader::default() };
        let scan = reader.scan(&runs.path("bad.jsonl")).expect("readable");
        assert!(scan.bad[0].problem.contains(expected), "{}", scan.bad_report());
    }
    let mut examples = |cut: Option<(usize, usize)>| -> Vec<Example> {
        encoder.set_cut(cut.map(|(steps, soft)| Cut { steps, soft }));
        let reader = Reader { encoder: Some(&encoder), ..Reader::default() };
        let scan = reader.scan(&runs.path("data.jsonl")).expect("readable");
        assert_eq!((scan.examples.len(), encoder.longest_reasoning()), (3, 3));
        scan.examples
    };
    let tokenizer = files.tokenizer.as_ref().expect("it has one");
    let text = |example: &Example| -> String {
        let one = |t: usize| match (example.soft[t], &example.truth[t]) {
            (true, Truth::None) => "~".to_owned(),
            _ => tokenizer.decode(&example.input_ids[t..=t]),
        };
        (0..example.len()).map(one).collect()
    };
    let mut texts = |cut| examples(cut).iter().map(text).collect::<Vec<_>>();
    let whole = texts(None);
    assert_eq!(whole[0], "1+2+3?<think>1+2=3\n\n3+3=6</think>\n6</s>", "{whole:?}");
    assert_eq!(whole[2], "1+1+1+1?<think>1+1=2\n2+1=3\n3+1=4</think>\n4</s>");
    let none = texts(Some((0, 0)));
    assert_eq!(none[0], "1+2+3?<think></think>\n1+2=3\n\n3+3=6\n6</s>");
    let one = texts(Some((1, 2)));
    assert_eq!(one[0], "1+2+3?<think>~~</think>\n3+3=6\n6</s>");
    assert_eq!(one[1], "2+2?<think>~~</think>\n4</s>", "as many positions for fewer steps");
    assert_eq!(texts(Some((usize::MAX, 4)))[2], "1+1+1+1?<think>~~~~</think>\n4</s>");
    for example in examples(Some((1, 2))) {
        let first = example.soft.iter().position(|&soft| soft).expect("soft positions");
        assert_eq!(example.weight[..first + 2], vec![0.0; first + 2], "nothing before is scored");
        assert_eq!(example.weight[first + 2..], vec![1.0; example.len() - first - 2]);
        let from = example.answer_from.expect("an answer");
        assert_eq!(tokenizer.decode(&example.input_ids[from..from + 1]), "\n");
    }
}

#[test]
fn a_curriculum_over_text_trains_and_says_how_to_think() {
    let runs = Runs::temporary();
    write_model(&runs.path("model"), &SPECIAL);
    fs::write(runs.path("data.jsonl"), LINES.join("\n")).expect("written");
    let key = |key: &str, name: &str| format!("{key}={:?}", runs.path(name).display().to_string());
    let (model, data) = (key("model.path", "model"), key("data.train", "data.jsonl"));
    let valid = key("data.valid", "data.jsonl");
    let text = ["task.name=text", &*model, &*data, &*valid, "train.micro_batch=2"];
    let settings = [&STAGES[..], &text, &["train.steps=18"]].concat();
    let run = runs.train("run", &settings).run_dir;
    // One reasoning has three steps: a stage after the second leaves out its rest.
    let stages = series(&run, "curriculum/stage");
    assert_eq!((stages[0], stages[6], stages[11], stages[16]), (0.0, 1.0, 2.0, 3.0));
    let files = ModelFiles::open(&checkpoint(&run, 18)).expect("a model");
    let soft = files.soft.clone().expect("it says how it thinks");
    let config = Loader::new().model(soft).load().expect("valid").config;
    assert_eq!((config.think.first, config.think.begin), (4, true));
    let ids = soft_train::decoding::encode_prompt(&config, &files, "1+1?").expect("a prompt");
    let close = files.require_tokenizer().expect("one").token_id("<think>");
    assert_eq!(ids.last().copied(), close, "it begins with its thought");
    fs::write(runs.path("other.jsonl"), r#"{"text": "no reasoning"}"#).expect("written");
    let other = key("data.train", "other.jsonl");
    let error = runs.error("other", &[&settings[..], &[&*other]].concat(), Resume::Never);
    assert_eq!(error.exit_code(), 3);
    assert!(error.to_string().contains("a curriculum needs the reasoning in steps"), "{error}");
}
