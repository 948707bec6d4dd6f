use super::*;
use crate::config::Arm;

fn task_of(digits: usize, digit_max: usize, budget: usize) -> Result<Task, Error> {
    let name = config::TaskName::Mnns;
    task(&config::Task { name, digits, digit_max, budget, ..config::Task::default() })
}

fn mnns() -> Task {
    task_of(4, 9, 0).expect("the published size")
}

/// The problems of the published size, before they are tokens.
fn all() -> Vec<Problem> {
    problem::enumerate(4, 9)
}

fn line_of(digits: &[u32], budget: usize) -> super::super::Problem {
    line(&Vocabulary::new(4, 9), &Problem::new(digits.to_vec()), budget)
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
    assert_eq!((task.train.len(), task.validation.len()), (5253, 1308));
    for (digits, digit_max) in [(4, 9), (3, 5), (2, 12), (6, 4)] {
        let task = task_of(digits, digit_max, 0).expect("small");
        let multiset = |problem: &super::super::Problem| {
            let mut digits = problem.prompt[1..].to_vec();
            digits.sort_unstable();
            digits
        };
        let held_out: std::collections::HashSet<_> = task.validation.iter().map(multiset).collect();
        assert!(task.train.iter().all(|problem| !held_out.contains(&multiset(problem))));
        let total = task.train.len() + task.validation.len();
        assert_eq!(total, digit_max.pow(digits as u32));
        assert!(!task.validation.is_empty() && !task.train.is_empty());
    }
}

#[test]
fn every_answer_is_the_smallest_reachable_number_and_ends_the_path() {
    for problem in &all() {
        assert_eq!(problem.answer, brute_force(&problem.digits));
        assert_eq!(problem.path.last(), Some(&i64::from(problem.answer)));
        let mut previous = 0;
        for (&sum, &digit) in problem.path.iter().zip(&problem.digits) {
            assert_eq!((sum - previous).unsigned_abs(), u64::from(digit));
            previous = sum;
        }
    }
    let mut answers: Vec<u32> = all().iter().map(|problem| problem.answer).collect();
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
fn beliefs_sum_to_1_hold_the_path_and_end_in_the_answer() {
    let vocabulary = Vocabulary::new(4, 9);
    for problem in &all() {
        let line = line(&vocabulary, problem, 0);
        for (step, belief) in line.steps.iter().map(|step| &step.belief).enumerate() {
            assert_eq!(belief.iter().map(|(_, p)| p).sum::<f32>(), 1.0);
            let on_path = vocabulary.sum_id(problem.path[step]).expect("a sum");
            assert_eq!(line.steps[step].tokens, [on_path]);
            assert!(belief.iter().any(|&(id, p)| id == on_path && p > 0.0));
            assert!(belief.len() <= 2 << step);
        }
        assert_eq!(line.steps.len(), 3);
        let answer = vocabulary.sum_id(i64::from(brute_force(&problem.digits)));
        assert_eq!(line.answer, [answer.expect("a sum")]);
    }
    let id = |sum| vocabulary.sum_id(sum).expect("a sum");
    let belief = &line_of(&[2, 2, 1, 1], 0).steps[1].belief;
    assert_eq!(belief[..], [(id(-4), 0.25), (id(0), 0.5), (id(4), 0.25)]);
}

#[test]
fn a_budget_keeps_the_sign_choices_that_end_nearest_to_0() {
    let reachable = |step, budget| Problem::new(vec![3, 1, 2, 5]).reachable(step, budget);
    // -3+1-2+5 and +3+1+2-5 are 1: minus comes first. Their negatives are as near, and negative.
    assert_eq!(reachable(1, 1), [(-3, 1.0)]);
    assert_eq!(reachable(3, 2), [(-4, 0.5), (6, 0.5)]);
    assert_eq!(reachable(3, 4), [(-6, 0.25), (-4, 0.25), (4, 0.25), (6, 0.25)]);
    let ends: Vec<i64> = reachable(4, 4).iter().map(|own| own.0).collect();
    assert!(ends.iter().all(|end| end.abs() <= 1), "{ends:?}");
    for problem in all().iter().step_by(7) {
        for step in 1..=4 {
            assert_eq!(problem.reachable(step, 16), problem.reachable(step, 0));
            for budget in [1, 2, 4, 5] {
                let kept = problem.reachable(step, budget);
                assert!((kept.iter().map(|own| own.1).sum::<f32>() - 1.0).abs() < 1e-6);
                assert!(kept.len() <= budget);
            }
        }
        let nearest = problem.reachable(4, 1)[0].0;
        assert_eq!(nearest, i64::from(problem.answer), "the smallest sum is no nearer below 0");
    }
    // Of choices that end alike, the one with minus first: -1+1 of 1 and 1.
    assert_eq!(Problem::new(vec![1, 1]).reachable(1, 1), [(-1, 1.0)]);
}

#[test]
fn the_lines_of_the_arms_read_as_documented() {
    let task = mnns();
    let problem = line_of(&[3, 1, 2, 5], 0);
    let line = |arm| {
        let example = task.example(arm, &problem);
        (task.tokens.text(&example.input_ids), example)
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
fn lines_that_end_early_or_wander_have_no_answer() {
    let task = mnns();
    let problem = line_of(&[3, 1, 2, 5], 0);
    let id = |name: &str| task.tokens.id(name).expect("a token");
    let answer = |arm, names: &str| {
        let ids: Vec<u32> = names.split_whitespace().map(id).collect();
        task.answer_of(arm, &problem, None, &ids).map(|ids| task.tokens.text(ids))
    };
    assert_eq!(answer(Arm::Hard, "-> S3 S4 S6 S1 <EOS>"), Some("S1".to_owned()));
    assert_eq!(answer(Arm::Hard, ""), None);
    assert_eq!(answer(Arm::Hard, "-> S1 S2 <EOS>"), None);
    assert_eq!(answer(Arm::Hard, "S0 S1 S2 S3 S4"), None);
    assert_eq!(answer(Arm::Soft, "S1 S2 S3"), None);
    assert_eq!(answer(Arm::NoThought, "S1"), None);
    assert_eq!(answer(Arm::NoThought, "-> -> -> -> <EOS>"), Some("<EOS>".to_owned()));
    assert!(!task.is_right(Arm::NoThought, &problem, None, &[Vocabulary::ARROW; 5]));
}

#[test]
fn always_answering_1_scores_37_percent_of_all_problems_and_34_of_the_validation_split() {
    assert!((always_one_share(&all()) - 0.3725).abs() < 5e-5);
    let (name, share) = mnns().baseline.expect("there is one");
    assert_eq!(name, "always 1");
    assert!((share - 0.3425).abs() < 5e-5);
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
    assert_eq!(mnns().tokens.len(), 89);
    assert_eq!(Vocabulary::new(3, 12).len(), 92, "D10..D12; its sums end at 36");
    assert_eq!(Vocabulary::new(6, 9).len(), 89 + 2 * 18);
}

#[test]
fn wider_tasks_make_valid_examples_and_impossible_ones_are_refused() {
    for (digits, digit_max) in [(2, 20), (3, 15), (6, 4)] {
        let task = task_of(digits, digit_max, 0).expect("small");
        for problem in task.problems() {
            for arm in [Arm::Soft, Arm::Hard, Arm::NoThought] {
                task.example(arm, problem).validate(task.tokens.len(), "mnns").expect("valid");
            }
        }
    }
    for (digits, digit_max) in [(1, 9), (4, 0), (2, 1), (7, 9), (200, 9)] {
        assert_eq!(task_of(digits, digit_max, 0).expect_err("refused").exit_code(), 2);
    }
}

#[test]
fn published_figures_are_given_only_for_the_task_and_model_they_are_of() {
    let figure = |task: &Task, arm, layers, heads| task.published(arm, false, (layers, heads, 32));
    assert_eq!(figure(&mnns(), Arm::Soft, 2, 2), Some(0.9894));
    assert_eq!(mnns().published(Arm::Soft, true, (2, 2, 32)), Some(0.9258));
    assert_eq!(figure(&mnns(), Arm::NoThought, 2, 2), Some(0.6835));
    assert_eq!(figure(&mnns(), Arm::Soft, 2, 4), None);
    assert_eq!(figure(&mnns(), Arm::SoftFedHard, 2, 2), None);
    let four = task_of(4, 9, 4).expect("a budget");
    assert_eq!(four.published(Arm::Soft, false, (2, 2, 16)), Some(0.642));
    assert_eq!(figure(&task_of(4, 9, 5).expect("a budget"), Arm::Soft, 2, 2), None);
    assert_eq!(figure(&task_of(3, 9, 0).expect("small"), Arm::Soft, 2, 2), None);
}

#[test]
fn the_tokenizer_file_loads_and_reads_every_line_back_to_its_ids() {
    for task in [mnns(), task_of(3, 12, 0).expect("small")] {
        let file = task.tokens.tokenizer_json().to_string();
        let tokenizer =
            soft_model::Tokenizer::from_json(file.as_bytes(), std::path::Path::new("mnns"))
                .expect("a tokenizer file");
        assert_eq!(tokenizer.vocab_len(), task.tokens.len());
        for problem in task.train.iter().step_by(97) {
            let ids = task.example(Arm::Hard, problem).input_ids;
            let text = task.tokens.text(&ids);
            assert_eq!(tokenizer.encode(&text, false).expect("known words"), ids);
            assert_eq!(tokenizer.decode(&ids), text);
        }
        tokenizer.encode("D3 unheard", false).expect_err("an unknown word");
    }
}
