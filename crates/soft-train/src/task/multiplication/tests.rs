use std::collections::HashSet;

use super::*;
use crate::config::{Arm, TaskName};

fn task_of(digits: usize, problems: usize, seed: u64) -> Result<Task, Error> {
    let name = TaskName::Multiplication;
    task(&config::Task { name, digits, problems, seed, ..config::Task::default() })
}

fn multiplication(digits: usize, problems: usize) -> Task {
    task_of(digits, problems, 42).expect("a size that can be had")
}

/// The number that a text of digits with the last first stands for, and how many there are.
fn number(text: &str) -> (u64, usize) {
    let digits: Vec<&str> = text.split_whitespace().collect();
    let number = digits.iter().rev().collect::<Vec<_>>();
    (
        number.into_iter().map(|digit| &**digit).collect::<String>().parse().expect("digits"),
        digits.len(),
    )
}

fn factors_of(task: &Task, problem: &Problem) -> (u64, u64) {
    let text = task.tokens.text(&problem.prompt);
    let text = text.strip_prefix("<BOS> ").and_then(|text| text.strip_suffix(" ||"));
    let (a, b) = text.and_then(|text| text.split_once(" * ")).expect("a * b");
    (number(a).0, number(b).0)
}

#[test]
fn every_chain_adds_up_to_the_product_when_read_back() {
    for digits in 1..=5 {
        let task = multiplication(digits, 300);
        for problem in task.problems() {
            let (a, b) = factors_of(&task, problem);
            assert_eq!([a, b].map(|factor| factor.to_string().len()), [digits; 2]);
            let tokens: Vec<u32> = problem.steps.iter().flat_map(|s| s.tokens.clone()).collect();
            let text = task.tokens.text(&tokens);
            let (mut sum, mut b_left, mut sums) = (0, b, 0);
            for (place, part) in text.split(" + ").enumerate() {
                let (partial, so_far) = match part.split_once(" ( ") {
                    Some((partial, so_far)) => (partial, so_far.strip_suffix(" )")),
                    None => (part, None),
                };
                let (partial, width) = number(partial);
                let expected = a * (b_left % 10) * 10_u64.pow(place as u32);
                assert_eq!((partial, width), (expected, digits + 1 + place), "{text}");
                b_left /= 10;
                sum += partial;
                if let Some(so_far) = so_far {
                    assert_eq!(number(so_far), (sum, width), "{text}");
                    sums += 1;
                }
            }
            assert_eq!((b_left, sum), (0, a * b), "{text}");
            assert_eq!(sums, digits.saturating_sub(2), "all sums but the first and the last");
            assert_eq!(number(&task.tokens.text(&problem.answer)), (a * b, 2 * digits));
        }
    }
}

#[test]
fn every_step_is_one_token_that_is_certain() {
    for digits in 1..=5 {
        let task = multiplication(digits, 20);
        for problem in task.problems() {
            assert_eq!(problem.steps.len(), task.pause.len(), "all chains are equally long");
            for step in &problem.steps {
                assert_eq!(step.belief, [(step.tokens[0], 1.0)]);
                assert_eq!(step.tokens.len(), 1);
            }
        }
    }
}

#[test]
fn pairs_are_complete_or_drawn_without_repetition_and_reversed_pairs_stay_on_one_side() {
    for digits in [1, 2, 3] {
        let task = multiplication(digits, 2_000);
        let pairs: Vec<_> = task.problems().map(|problem| factors_of(&task, problem)).collect();
        let different: HashSet<_> = pairs.iter().collect();
        assert_eq!(different.len(), pairs.len(), "no pair comes twice");
        let side = |problem| {
            let (a, b) = factors_of(&task, problem);
            (a.min(b), a.max(b))
        };
        let held_out: HashSet<_> = task.validation.iter().map(side).collect();
        assert!(task.train.iter().all(|problem| !held_out.contains(&side(problem))));
        if digits == 3 {
            assert_eq!((task.train.len(), task.validation.len()), (2_000, 500));
        } else {
            let all = 9 * 10_usize.pow(digits as u32 - 1);
            assert_eq!(pairs.len(), all * all, "every pair");
            assert_eq!(held_out.len(), all * (all + 1) / 2 / 5, "a fifth of the sides");
        }
    }
}

#[test]
fn a_seed_makes_a_task() {
    for digits in [2, 4] {
        assert_eq!(multiplication(digits, 50), multiplication(digits, 50));
        let other = task_of(digits, 50, 43).expect("a task");
        assert_ne!(multiplication(digits, 50).validation, other.validation);
    }
}

#[test]
fn the_lines_of_the_arms_read_as_documented() {
    let task = multiplication(2, 1);
    let problem = problem(12, 34, 2);
    let line = |arm| {
        let example = task.example(arm, &problem);
        example.validate(task.tokens.len(), "multiplication").expect("valid");
        let generated = &example.input_ids[problem.prompt.len()..];
        assert!(task.is_right(arm, &problem, None, generated), "{arm}");
        task.tokens.text(&example.input_ids)
    };
    let chain = "<BOS> 2 1 * 4 3 || 8 4 0 + 0 6 3 0 #### 8 0 4 0";
    assert_eq!(line(Arm::Hard), format!("{chain} <EOS>"));
    assert_eq!(line(Arm::Soft), chain);
    let pause = ["<PAUSE>"; 8].join(" ");
    assert_eq!(line(Arm::NoThought), format!("<BOS> 2 1 * 4 3 || {pause} #### 8 0 4 0 <EOS>"));
    // 8331 x 5015: the zero of 5015 leaves a partial product of zeros, which is written too.
    let steps = super::problem(8_331, 5_015, 4).steps;
    let tokens: Vec<u32> = steps.iter().map(|step| step.tokens[0]).collect();
    assert_eq!(
        task.tokens.text(&tokens),
        "5 5 6 1 4 + 0 1 3 3 8 0 ( 5 6 9 4 2 1 ) + 0 0 0 0 0 0 0 ( 5 6 9 4 2 1 0 ) + \
         0 0 0 5 5 6 1 4"
    );
}

#[test]
fn other_numbers_of_digits_are_refused() {
    for digits in [0, 6, 8] {
        let error = task_of(digits, 10, 42).expect_err("refused");
        assert_eq!(error.exit_code(), 2);
        assert_eq!(
            error.to_string(),
            format!(
                "`task.digits` is {digits} and `task.name` is \"multiplication\", expected 1 to 5: \
                 lower `task.digits`"
            )
        );
    }
}
