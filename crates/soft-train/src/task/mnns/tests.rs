use super::*;
use crate::config::Arm;
use crate::example::Truth;

fn mnns() -> Mnns {
    Mnns::new(4, 9).expect("the published size")
}

fn all(task: &Mnns) -> impl Iterator<Item = &Problem> {
    task.train().iter().chain(task.validation())
}

/// The answer by another route: the smallest non-negative number that signed digits can reach.
fn brute_force(digits: &[u32]) -> u32 {
    let mut sums = vec![0_i64];
    for &digit in digits {
        sums = sums.iter().flat_map(|s| [s + i64::from(digit), s - i64::from(digit)]).collect();
    }
    sums.into_iter().filter_map(|sum| u32::try_from(sum).ok()).min().expect("all plus")
}

#[test]
fn the_published_split_has_its_published_sizes_and_no_permutation_crosses_it() {
    let task = mnns();
    assert_eq!((task.train().len(), task.validation().len()), (5253, 1308));
    for (digits, digit_max) in [(4, 9), (3, 5), (2, 12), (6, 4)] {
        let task = Mnns::new(digits, digit_max).expect("small");
        let held_out: std::collections::HashSet<_> =
            task.validation().iter().map(Problem::multiset).collect();
        assert!(task.train().iter().all(|problem| !held_out.contains(&problem.multiset())));
        let total = task.train().len() + task.validation().len();
        assert_eq!(total, digit_max.pow(digits as u32));
        assert!(!task.validation().is_empty() && !task.train().is_empty());
    }
}

#[test]
fn every_answer_is_the_smallest_reachable_number_and_ends_the_path() {
    let task = mnns();
    for problem in all(&task) {
        assert_eq!(problem.answer, brute_force(&problem.digits));
        assert_eq!(problem.path.last(), Some(&i64::from(problem.answer)));
        let mut previous = 0;
        for (&sum, &digit) in problem.path.iter().zip(&problem.digits) {
            assert_eq!((sum - previous).unsigned_abs(), u64::from(digit));
            previous = sum;
        }
    }
    let mut answers: Vec<u32> = all(&task).map(|problem| problem.answer).collect();
    answers.sort_unstable();
    answers.dedup();
    assert_eq!(answers, (0..=8).collect::<Vec<_>>());
}

#[test]
fn among_equal_answers_the_path_with_the_earliest_plus_signs_is_chosen() {
    assert_eq!(Problem::new(vec![3, 1, 2, 5]).path, [3, 4, 6, 1]);
    // +1+1-2 and -1-1+2 both reach 0.
    assert_eq!(Problem::new(vec![1, 1, 2]).path, [1, 2, 0]);
}

#[test]
fn soft_truths_sum_to_1_hold_the_path_and_end_in_the_answer() {
    let task = mnns();
    for problem in all(&task) {
        let example = task.example(Arm::Soft, problem).expect("of this size");
        example.validate(task.vocabulary().len(), "mnns").expect("valid");
        assert_eq!(example.len(), 9);
        for step in 1..4 {
            let Truth::Soft(truth) = &example.truth[4 + step] else {
                panic!("step {step} is soft")
            };
            assert_eq!(truth.iter().map(|(_, p)| p).sum::<f32>(), 1.0);
            let on_path = task.vocabulary().sum_id(problem.path[step - 1]).expect("a sum");
            assert!(truth.iter().any(|&(id, p)| id == on_path && p > 0.0));
            assert!(truth.len() <= 1 << step);
        }
        let answer = task.vocabulary().sum_id(i64::from(brute_force(&problem.digits)));
        assert_eq!(example.truth[8], Truth::Token(answer.expect("a sum")));
    }
    let example = task.example(Arm::Soft, &Problem::new(vec![2, 2, 1, 1])).expect("of this size");
    let id = |sum| task.vocabulary().sum_id(sum).expect("a sum");
    assert_eq!(example.truth[6], Truth::Soft(vec![(id(-4), 0.25), (id(0), 0.5), (id(4), 0.25)]));
}

#[test]
fn the_lines_of_the_arms_read_as_documented() {
    let task = mnns();
    let problem = Problem::new(vec![3, 1, 2, 5]);
    let line = |arm| {
        let example = task.example(arm, &problem).expect("of this size");
        let names: Vec<_> =
            example.input_ids.iter().filter_map(|&id| task.vocabulary().token_name(id)).collect();
        (names.join(" "), example)
    };
    let (text, example) = line(Arm::Hard);
    assert_eq!(text, "<BOS> D3 D1 D2 D5 -> S3 S4 S6 S1 <EOS>");
    assert_eq!(example.weight, [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
    assert_eq!(example.len(), task.max_positions());
    let (text, _) = line(Arm::NoThought);
    assert_eq!(text, "<BOS> D3 D1 D2 D5 -> -> -> -> S1 <EOS>");
    let (text, example) = line(Arm::Soft);
    assert_eq!(text, "<BOS> D3 D1 D2 D5 S3 S4 S6 S1");
    assert_eq!(example.soft, [0, 0, 0, 0, 0, 1, 1, 1, 0].map(|m| m == 1));
    assert_eq!(example.weight, [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]);
}

#[test]
fn the_answer_read_from_the_right_line_is_the_answer_in_every_arm() {
    let task = mnns();
    for problem in all(&task) {
        let prompt = task.prompt(problem).expect("of this size");
        for arm in [Arm::Soft, Arm::Hard, Arm::NoThought, Arm::SoftFedHard] {
            let line = task.example(arm, problem).expect("of this size").input_ids;
            assert_eq!(line[..prompt.len()], prompt);
            let generated = &line[prompt.len()..];
            assert_eq!(generated.len(), task.max_new(arm));
            assert_eq!(task.answer_of(arm, generated), Some(problem.answer));
        }
    }
}

#[test]
fn lines_that_end_early_or_wander_have_no_answer() {
    let task = mnns();
    let s = |sum| task.vocabulary().sum_id(sum).expect("a sum");
    let (arrow, eos) = (Vocabulary::ARROW, Vocabulary::EOS);
    assert_eq!(task.answer_of(Arm::Hard, &[]), None);
    assert_eq!(task.answer_of(Arm::Hard, &[arrow, s(1), s(2), eos]), None);
    assert_eq!(task.answer_of(Arm::Hard, &[s(0), s(1), s(2), s(3), s(4)]), None);
    assert_eq!(task.answer_of(Arm::Hard, &[arrow, s(1), s(2), s(3), s(-1)]), None);
    assert_eq!(task.answer_of(Arm::Soft, &[s(1), s(2), s(3)]), None);
    assert_eq!(task.answer_of(Arm::NoThought, &[s(1)]), None);
    assert_eq!(task.answer_of(Arm::NoThought, &[arrow, arrow, arrow, arrow, eos]), None);
}

#[test]
fn always_answering_1_scores_37_percent_of_all_problems_and_34_of_the_validation_split() {
    let task = mnns();
    let whole: Vec<Problem> = all(&task).cloned().collect();
    assert!((always_one_share(&whole) - 0.3725).abs() < 5e-5);
    assert!((always_one_share(task.validation()) - 0.3425).abs() < 5e-5);
}

#[test]
fn ids_of_the_contract_never_move_and_wider_tasks_append() {
    for (digits, digit_max) in [(4, 9), (2, 3), (6, 9), (3, 12), (2, 99)] {
        let vocabulary = Vocabulary::new(digits, digit_max);
        let name = |id| vocabulary.token_name(id).expect("in the vocabulary");
        let fixed = (0..6).map(name).collect::<Vec<_>>().join(" ");
        assert_eq!(fixed, "<PAD> <BOS> <EOS> -> + -");
        assert_eq!((name(6), name(15)), ("D0".into(), "D9".into()));
        assert_eq!((name(16), name(52), name(88)), ("S-36".into(), "S0".into(), "S36".into()));
        let names: std::collections::HashSet<_> = (0..vocabulary.len() as u32).map(name).collect();
        assert_eq!(names.len(), vocabulary.len(), "every id has a name of its own");
        assert_eq!(vocabulary.token_name(vocabulary.len() as u32), None);
        let reach = (digits * digit_max) as i64;
        for sum in -reach..=reach {
            let id = vocabulary.sum_id(sum).expect("reachable");
            assert_eq!((vocabulary.sum_of(id), name(id)), (Some(sum), format!("S{sum}")));
        }
        for digit in 0..=digit_max as u32 {
            assert_eq!(name(vocabulary.digit_id(digit).expect("a digit")), format!("D{digit}"));
        }
    }
    assert_eq!(mnns().vocabulary().len(), 89);
    assert_eq!(Vocabulary::new(3, 12).len(), 92, "D10..D12; its sums end at 36");
    assert_eq!(Vocabulary::new(6, 9).len(), 89 + 2 * 18);
}

#[test]
fn wider_tasks_make_valid_examples_and_impossible_ones_are_refused() {
    for (digits, digit_max) in [(2, 20), (3, 15), (6, 4)] {
        let task = Mnns::new(digits, digit_max).expect("small");
        for problem in all(&task) {
            for arm in [Arm::Soft, Arm::Hard, Arm::NoThought] {
                let example = task.example(arm, problem).expect("of this size");
                example.validate(task.vocabulary().len(), "mnns").expect("valid");
            }
        }
    }
    for (digits, digit_max) in [(1, 9), (4, 0), (2, 1), (7, 9), (200, 9)] {
        assert_eq!(Mnns::new(digits, digit_max).expect_err("refused").exit_code(), 2);
    }
}

#[test]
fn published_figures_are_given_only_for_the_task_and_model_they_are_of() {
    assert_eq!(mnns().published(Arm::Soft, 2, 2, 32), Some(0.9894));
    assert_eq!(mnns().published(Arm::NoThought, 2, 2, 32), Some(0.6835));
    assert_eq!(mnns().published(Arm::Soft, 2, 4, 32), None);
    assert_eq!(mnns().published(Arm::SoftFedHard, 2, 2, 32), None);
    assert_eq!(Mnns::new(3, 9).expect("small").published(Arm::Soft, 2, 2, 32), None);
}

#[test]
fn the_tokenizer_file_loads_and_reads_every_line_back_to_its_ids() {
    for task in [mnns(), Mnns::new(3, 12).expect("small")] {
        let file = task.vocabulary().tokenizer_json().to_string();
        let tokenizer =
            soft_model::Tokenizer::from_json(file.as_bytes(), std::path::Path::new("mnns"))
                .expect("a tokenizer file");
        assert_eq!(tokenizer.vocab_len(), task.vocabulary().len());
        for problem in task.train().iter().step_by(97) {
            let ids = task.example(Arm::Hard, problem).expect("of this size").input_ids;
            let name = |&id: &u32| task.vocabulary().token_name(id).expect("in the vocabulary");
            let text = ids.iter().map(name).collect::<Vec<_>>().join(" ");
            assert_eq!(tokenizer.encode(&text, false).expect("known words"), ids);
            assert_eq!(tokenizer.decode(&ids), text);
        }
        tokenizer.encode("D3 unheard", false).expect_err("an unknown word");
    }
}
