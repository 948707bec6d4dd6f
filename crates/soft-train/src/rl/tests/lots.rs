//! What is drawn of a problem, however problems are put together.

use super::*;
use crate::error::Error;
use soft_model::Generation;

/// The problems of a task in two lots, the odd ones first.
#[derive(Debug)]
struct Split(TaskSource);

impl Source for Split {
    fn lots(&self, problems: &[usize]) -> Result<Vec<Lot>, Error> {
        let of = |odd: usize| {
            let places: Vec<usize> =
                (0..problems.len()).filter(|&place| problems[place] % 2 == odd).collect();
            let own: Vec<usize> = places.iter().map(|&place| problems[place]).collect();
            let mut lots = self.0.lots(&own)?;
            assert_eq!(lots.len(), 1, "lines of one length");
            lots[0].places = places;
            Ok(lots.remove(0))
        };
        [1, 0].into_iter().map(of).collect()
    }

    fn is_right(&self, problem: usize, made: &Generation, answer: &[u32]) -> bool {
        self.0.is_right(problem, made, answer)
    }

    fn texts(&self, completion: &Completion) -> Texts {
        self.0.texts(completion)
    }
}

/// A row draws the same in another lot and in another micro-batch: what it draws is a matter of its
/// place in the step alone.
#[test]
fn a_row_draws_the_same_whatever_it_is_drawn_with() {
    let task = task();
    let model = model(&task, 3).valid();
    for &policy in POLICIES {
        let whole = drawing(policy, Arm::Soft);
        let thoughts = SoftPipeline::default();
        let source = TaskSource { task: task.clone(), arm: Arm::Soft, thoughts, eos_ids: vec![] };
        let split = Drawing { source: Arc::new(Split(source)), ..drawing(policy, Arm::Soft) };
        let rows = |drawing: &Drawing, problems: &[usize], first| {
            let drawn = drawing.draw(&model, None, problems, 2, first).expect("drawn");
            let mut found = Vec::new();
            for own in &drawn {
                for (row, completion) in own.completions.iter().enumerate() {
                    let scores: Vec<f64> = own.log_probs.iter().map(|step| step[row]).collect();
                    found.push((completion.problem, completion.answer.clone(), scores));
                }
            }
            // The rows of a problem stay in their order.
            found.sort_by_key(|own| own.0);
            found
        };
        let all = [4, 7, 2, 1];
        let expected = rows(&whole, &all, 0);
        let micro = [rows(&whole, &all[..1], 0), rows(&whole, &all[1..], 8)].concat();
        for mut found in [rows(&split, &all, 0), micro] {
            found.sort_by_key(|own| own.0);
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                assert_eq!((found.0, &found.1), (expected.0, &expected.1), "{policy}");
                let close = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-9 * b.abs().max(1.0);
                assert!(found.2.iter().zip(&expected.2).all(close), "{policy}");
            }
        }
    }
}
