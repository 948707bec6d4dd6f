//! A task is added as anyone would add one: this file, and its line in the table of tasks.

use super::*;
use crate::config::{Arm, Cut, Loader};
use crate::run::{TrainOptions, train};

const NAMES: [&str; 7] = ["<pad>", "<s>", "</s>", "a", "b", "?", "!"];
const PAD: u32 = 0;
const BOS: u32 = 1;
const EOS: u32 = 2;
const A: u32 = 3;
const B: u32 = 4;
const ASK: u32 = 5;
const SAY: u32 = 6;

/// Which of two letters comes last? One step of thought, which may be either letter.
pub(super) fn last_letter(settings: &config::Task) -> Result<Task, Error> {
    let problem = |number: usize| {
        let letters = [number & 1, number >> 1 & 1].map(|bit| [A, B][bit]);
        Problem {
            prompt: vec![BOS, letters[0], letters[1], ASK],
            steps: vec![Step { tokens: vec![letters[0]], belief: vec![(A, 0.5), (B, 0.5)] }],
            answer: vec![letters[1]],
            kin: number as u32 % 4,
            rival: None,
        }
    };
    let special = SpecialTokens { pad: PAD, bos: BOS, eos: EOS };
    Ok(Task {
        name: settings.name,
        tokens: Tokens::new(NAMES.map(str::to_owned).to_vec(), special),
        open: Vec::new(),
        pause: vec![ASK],
        close: vec![SAY],
        train: (0..16).map(problem).collect(),
        validation: (0..4).map(problem).collect(),
        baseline: Some(("always a".to_owned(), 0.5)),
        published: None,
    })
}

fn task() -> Task {
    let settings = config::Task { name: TaskName::Last, ..config::Task::default() };
    Task::new(&settings).expect("no settings to refuse").expect("it is in the table")
}

#[test]
fn lines_follow_from_the_problem() {
    let task = task();
    let problem = &task.train[2];
    let line = |example: crate::example::Example| {
        example.validate(task.tokens.len(), "last").expect("valid");
        assert!((0..4).all(|t| example.weight[t] == 0.0), "the prompt is not scored");
        let name = |t: usize| match example.soft[t] {
            true => "~",
            false => task.tokens.name(example.input_ids[t]).expect("a token"),
        };
        (0..example.len()).map(name).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line(task.example(Arm::Soft, problem)), "<s> a b ? ~ ! b");
    assert_eq!(line(task.example(Arm::Hard, problem)), "<s> a b ? a ! b </s>");
    assert_eq!(line(task.example(Arm::NoThought, problem)), "<s> a b ? ? ! b </s>");
    let cut = |steps, soft| line(task.cut_example(problem, Cut { steps, soft }));
    assert_eq!(cut(0, 0), "<s> a b ? a ! b");
    assert_eq!(cut(1, 2), "<s> a b ? ~ ~ ! b");
}

#[test]
fn the_answer_stands_after_its_mark() {
    let task = task();
    let problem = &task.train[2];
    let answer = |arm, cut, generated: &[u32]| {
        task.answer_of(arm, problem, cut, generated).map(<[u32]>::to_vec)
    };
    assert_eq!(answer(Arm::Soft, None, &[A, SAY, B]), Some(vec![B]));
    assert_eq!(answer(Arm::Soft, None, &[A, B, SAY]), None, "the thought is one position");
    assert_eq!(answer(Arm::Hard, None, &[A, SAY, A, EOS]), Some(vec![A]));
    assert_eq!(answer(Arm::Hard, None, &[A, A, SAY, B]), Some(vec![B]), "a longer chain");
    assert_eq!(answer(Arm::Hard, None, &[A, B, EOS]), None);
    assert_eq!(answer(Arm::Hard, None, &[A, SAY]), None);
    assert_eq!(answer(Arm::NoThought, None, &[ASK, SAY, B]), Some(vec![B]));
    assert_eq!(answer(Arm::NoThought, None, &[SAY, B]), None);
    let cut = Some(Cut { steps: 1, soft: 2 });
    assert_eq!(answer(Arm::Soft, cut, &[A, A, SAY, B]), Some(vec![B]));
    assert_eq!(answer(Arm::Soft, cut, &[A, SAY]), None);
    for arm in [Arm::Soft, Arm::Hard, Arm::NoThought] {
        for problem in task.problems() {
            let line = task.example(arm, problem).input_ids;
            let generated = &line[problem.prompt.len()..];
            assert!(task.is_right(arm, problem, None, generated), "{arm}");
            assert_eq!(generated.len(), task.len_after_prompt(arm, problem, None).0);
        }
    }
}

/// A run as any other: trained, measured, and every arm answers right what is that easy.
#[test]
fn a_new_task_trains_and_is_measured() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = format!(
        "run.dir = {:?}\ntask.name = \"last\"\nmodel.d_model = 16\nmodel.n_layers = 2\n\
         model.n_heads = 2\ntrain.steps = 400\ntrain.micro_batch = 8\ntrain.lr = 1e-2\n\
         eval.arms = [\"soft\", \"hard\", \"no_thought\", \"soft_fed_hard\"]\nlog.every = 1000\n",
        folder.path().display().to_string()
    );
    let resolved = Loader::new().text("last.toml", settings).load().expect("valid settings");
    let trained = train(&resolved, &burn::tensor::Device::flex(), &TrainOptions::default())
        .expect("it trains");
    let found: Vec<(Arm, u64, u64)> =
        trained.results.arms.iter().map(|own| (own.arm, own.correct, own.total)).collect();
    // Fed with tokens, the soft model answers what it was not trained for, in its own way.
    let fed_hard = (Arm::SoftFedHard, found[1].1, 4);
    let right = [Arm::Soft, Arm::Hard, Arm::NoThought].map(|arm| (arm, 4, 4));
    assert_eq!(found, [right[0], fed_hard, right[1], right[2]]);
    assert!(trained.table.contains("always a"), "{}", trained.table);
}

#[test]
fn a_task_without_steps_enough_for_a_curriculum_is_refused() {
    let settings = "task.name = \"last\"\ncurriculum.stages = 2\nrollout.kind = \"sequential\"\n\
                    guidance.start = 0.0\nsoft.feed = \"hidden\"\ncurriculum.first = 1\n\
                    curriculum.steps = 1\n";
    let resolved = Loader::new().text("last.toml", settings).load().expect("each is in range");
    let error = train(&resolved, &burn::tensor::Device::flex(), &TrainOptions::default());
    let error = error.expect_err("refused");
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("have 1 steps"), "{error}");
}
