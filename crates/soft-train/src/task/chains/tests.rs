use std::collections::{BTreeSet, HashMap, HashSet};

use super::super::Problem;
use super::super::facts::{facts, in_degree};
use super::*;
use crate::config::{Arm, TaskName};

fn task_of(hops: usize, problems: usize, seed: u64) -> Result<Task, Error> {
    let name = TaskName::Chains;
    task(&config::Task { name, hops, problems, seed, ..config::Task::default() })
}

fn chains(hops: usize, problems: usize) -> Task {
    task_of(hops, problems, 42).expect("a size that can be had")
}

/// The concepts after each hop up from `from`, by the facts of a prompt.
fn walk(problem: &Problem, from: u32) -> Vec<u32> {
    let facts = facts(&problem.prompt);
    let parents: HashMap<u32, u32> = facts.iter().copied().collect();
    assert_eq!(parents.len(), facts.len(), "one parent each");
    let mut way = Vec::new();
    let mut at = from;
    while let Some(&parent) = parents.get(&at) {
        assert!(way.len() < facts.len(), "no cycle");
        way.push(parent);
        at = parent;
    }
    way
}

#[test]
fn the_answer_is_the_end_of_the_way_up_after_as_many_hops() {
    for hops in [0, 1, 3, 13] {
        let task = chains(hops, 300);
        let expected = if hops == 0 { 5 } else { hops };
        for problem in task.problems() {
            let way = walk(problem, *problem.prompt.last().expect("a root"));
            assert_eq!(way.len(), expected);
            let steps: Vec<u32> = problem.steps.iter().map(|step| step.tokens[0]).collect();
            assert_eq!(steps, way);
            assert_eq!(problem.answer[..], way[way.len() - 1..]);
            for step in &problem.steps {
                assert_eq!(step.belief, [(step.tokens[0], 1.0)], "one path, no branching");
            }
            // The rival ends a chain of the same length, which begins at a concept of no other.
            let rival = problem.rival.expect("a rival");
            assert!(!way.contains(&rival) && walk(problem, rival).is_empty());
            let concepts: BTreeSet<u32> =
                facts(&problem.prompt).into_iter().flat_map(|fact| [fact.0, fact.1]).collect();
            let feet = concepts.iter().filter(|&&id| in_degree(&problem.prompt, id) == 0);
            let to_rival =
                feet.map(|&foot| walk(problem, foot)).filter(|w| w.last() == Some(&rival));
            assert_eq!(to_rival.map(|way| way.len()).max(), Some(expected));
        }
    }
}

/// Rules that never look at the root: each is right as often as a coin.
#[test]
fn rules_that_do_not_walk_are_at_chance() {
    let task = chains(0, 8_000);
    // Four standard errors of a share of one half.
    let within = 4.0 * 0.5 / (task.train.len() as f64).sqrt();
    let check = |name: &str, score: &dyn Fn(&Problem, u32) -> usize| {
        let right = |problem: &Problem| {
            let (own, rival) = (problem.answer[0], problem.rival.expect("a rival"));
            match score(problem, own).cmp(&score(problem, rival)) {
                std::cmp::Ordering::Greater => 1.0,
                std::cmp::Ordering::Equal => 0.5,
                std::cmp::Ordering::Less => 0.0,
            }
        };
        let share = task.train.iter().map(right).sum::<f64>() / task.train.len() as f64;
        assert!((share - 0.5).abs() < within, "{name}: {share}");
    };
    check("more facts about it", &|problem, id| in_degree(&problem.prompt, id));
    check("named first in the question", &|problem, id| {
        usize::from(problem.prompt[problem.prompt.len() - 4] == id)
    });
    check("its fact stands later", &|problem, id| {
        facts(&problem.prompt).iter().rposition(|fact| fact.1 == id).unwrap_or(0)
    });
    check("its fact stands earlier", &|problem, id| {
        problem.prompt.len() - facts(&problem.prompt).iter().position(|f| f.1 == id).unwrap_or(0)
    });
    check("the larger id", &|_, id| id as usize);
    check("the nearer id to the root's", &|problem, id| {
        1_000 - problem.prompt.last().map_or(0, |root| root.abs_diff(id) as usize)
    });
    check("more concepts lead to it", &|problem, id| {
        let facts = facts(&problem.prompt);
        facts.iter().filter(|fact| walk(problem, fact.0).contains(&id)).count()
    });
    // And the test itself can fail: the walk from the root is always right.
    let walks = task.train.iter().all(|problem| {
        let way = walk(problem, *problem.prompt.last().expect("a root"));
        way.contains(&problem.answer[0]) && !way.contains(&problem.rival.expect("a rival"))
    });
    assert!(walks);
}

#[test]
fn no_set_of_facts_is_on_both_sides_and_a_seed_makes_a_task() {
    let set = |problem: &Problem| facts(&problem.prompt).into_iter().collect::<BTreeSet<_>>();
    for hops in [1, 5] {
        let task = chains(hops, 900);
        assert_eq!((task.train.len(), task.validation.len()), (900, 500));
        let held_out: HashSet<_> = task.validation.iter().map(set).collect();
        assert!(task.train.iter().all(|problem| !held_out.contains(&set(problem))));
        assert_eq!(task, chains(hops, 900));
        assert_ne!(task.train, task_of(hops, 900, 43).expect("a task").train);
    }
}

#[test]
fn the_lines_of_the_arms_read_as_documented() {
    let task = chains(2, 50);
    for problem in task.problems() {
        let [first, end] = [0, 1].map(|step| task.tokens.text(&problem.steps[step].tokens));
        let tail = |arm| {
            let example = task.example(arm, problem);
            example.validate(task.tokens.len(), "chains").expect("valid");
            let tail = &example.input_ids[problem.prompt.len()..];
            assert!(task.is_right(arm, problem, None, tail), "{arm}");
            task.tokens.text(tail)
        };
        assert_eq!(tail(Arm::Soft), format!("{first} {end} [A] {end}"));
        assert_eq!(tail(Arm::Hard), format!("{first} {end} [A] {end} <eos>"));
        assert_eq!(tail(Arm::NoThought), format!("<|latent|> <|latent|> [A] {end} <eos>"));
    }
    assert_eq!(task.tokens.len(), 40);
    assert_eq!(chains(14, 1).tokens.len(), 43, "34 concepts");
}
