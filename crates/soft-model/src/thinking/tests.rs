//! The rules of thinking, on entropies and tokens that are made up.

use super::*;

const OPEN: u32 = 8;
const CLOSE: u32 = 9;

fn tags() -> Span {
    Span::Tags { open: vec![OPEN], close: vec![CLOSE] }
}

fn begin(span: Span, prompt: &[u32]) -> Phase {
    let answer = Manner::new(SoftPipeline::default(), Mode::Hard);
    Phase::begin(Some(&Thinking { span, gate: Gate::Open, answer }), prompt)
}

/// Phase and verdict after each (token, entropy).
fn walk(
    span: &Span,
    cold: Option<ColdStop>,
    prompt: &[u32],
    steps: &[(u32, f64)],
) -> Vec<(bool, Verdict)> {
    let mut phase = begin(span.clone(), prompt);
    let mut row = prompt.to_vec();
    let walk = steps.iter().enumerate().map(|(step, &(token, entropy))| {
        let thought = phase.thinks;
        row.push(token);
        (thought, phase.after(span, cold, step, &row, Some(entropy)))
    });
    walk.collect()
}

#[test]
fn the_prompt_decides_whether_a_row_begins_with_a_thought() {
    let thinks = |span, prompt: &[u32]| begin(span, prompt).thinks;
    assert!(thinks(tags(), &[1, OPEN]) && thinks(tags(), &[OPEN, CLOSE, OPEN, 3]));
    assert!(!thinks(tags(), &[1]) && !thinks(tags(), &[OPEN, 1, CLOSE, 2]));
    assert!(thinks(Span::Tags { open: vec![], close: vec![CLOSE] }, &[1]));
    assert!(thinks(Span::First(1), &[1]) && !thinks(Span::First(0), &[1]));
    assert!(thinks(Span::Everywhere, &[1]) && Phase::begin(None, &[1]).thinks);
}

#[test]
fn what_lies_between_the_tags_is_a_thought_and_the_tags_are_not() {
    let steps = [1, OPEN, 2, 3, CLOSE, 4, OPEN, 5].map(|token| (token, 1.0));
    let found = walk(&tags(), None, &[1], &steps);
    let thoughts: Vec<bool> = found.iter().map(|step| step.0).collect();
    // The closing tag is what a thought led to; it is fed hard. There is one thought a row.
    assert_eq!(thoughts, [false, false, true, true, true, false, false, false]);
    assert_eq!(
        (found[1].1, found[4].1),
        (Verdict::Force(OPEN, Event::OpenTag), Verdict::Force(CLOSE, Event::CloseTag))
    );
    let others = found.iter().enumerate().filter(|(i, _)| *i != 1 && *i != 4);
    assert!(others.into_iter().all(|(_, step)| step.1 == Verdict::Feed));
    let closed = walk(&tags(), None, &[OPEN, CLOSE], &[(OPEN, 1.0), (2, 1.0)]);
    assert_eq!(closed, [(false, Verdict::Feed); 2], "the prompt had the one thought");
}

#[test]
fn an_answer_without_a_thought_has_its_cold_stop_too() {
    let cold = Some(ColdStop { entropy: 0.5, length: 2 });
    for span in [Span::First(0), tags()] {
        let verdicts = walk(&span, cold, &[1], &[(2, 0.1), (2, 0.1)]);
        assert_eq!(verdicts, [(false, Verdict::Feed), (false, Verdict::Stop)]);
    }
}

#[test]
fn a_cold_stop_counts_certain_steps_in_a_row() {
    let cold = Some(ColdStop { entropy: 0.5, length: 2 });
    let open = Span::Tags { open: vec![], close: vec![CLOSE] };
    let steps = [(1, 0.1), (1, 0.9), (1, 0.1), (1, 0.1), (2, 0.1), (2, 0.1), (2, 0.1)];
    let verdicts: Vec<Verdict> = walk(&open, cold, &[1], &steps).iter().map(|s| s.1).collect();
    use Verdict::{Feed, Force, Stop};
    assert_eq!(verdicts[..4], [Feed, Feed, Feed, Force(CLOSE, Event::ColdStop)]);
    assert_eq!(verdicts[4..6], [Feed, Stop], "the counter begins anew in the answer");
    let everywhere = walk(&Span::Everywhere, cold, &[1], &steps);
    assert_eq!(everywhere[3], (true, Stop));
    let first = walk(&Span::First(3), cold, &[1], &[(1, 0.1), (1, 0.1), (1, 0.9)]);
    assert_eq!(first.iter().map(|s| s.0).collect::<Vec<_>>(), [true, true, false]);
    let never = Some(ColdStop { entropy: 0.0, length: 1 });
    let never = walk(&Span::Everywhere, never, &[1], &steps);
    assert!(never.iter().all(|step| step.1 == Feed));
}

#[test]
fn a_tag_of_several_tokens_is_matched_at_its_last_and_forced_as_a_whole() {
    let span = Span::Tags { open: vec![4, OPEN], close: vec![5, 6, CLOSE] };
    let steps = [OPEN, 4, OPEN, 5, 6, 7, 5, 6, CLOSE, 1].map(|token| (token, 1.0));
    let found = walk(&span, None, &[1], &steps);
    let thoughts: Vec<bool> = found.iter().map(|step| step.0).collect();
    assert_eq!(thoughts, [0, 0, 0, 1, 1, 1, 1, 1, 1, 0].map(|thought| thought == 1));
    assert_eq!(found[8].1, Verdict::Force(CLOSE, Event::CloseTag));
    assert!(!begin(span.clone(), &[1, 4]).thinks && !begin(span.clone(), &[4, 1, OPEN]).thinks);
    assert!(begin(span.clone(), &[1, 4, OPEN, 5, 6]).thinks, "not closed yet");

    let mut phase = begin(span.clone(), &[4, OPEN]);
    let cold = Some(ColdStop { entropy: 0.5, length: 1 });
    assert_eq!(phase.after(&span, cold, 0, &[1], Some(0.1)), Verdict::Force(5, Event::ColdStop));
    assert!(!phase.thinks && phase.forced == [6, CLOSE]);
}
