//! What the page says of training on rewards.

use super::{percent, rows};
use crate::reproduce::rewarded::{MOST, Rewarded};
use crate::reproduce::{Cell, Results, Table, UnitResult, interval_of_mean};

/// Which policies rewards made better, where the table asks that.
pub(super) fn improved(table: &Table, results: &Results) -> String {
    let gain = |cell: &Cell| {
        // Who sees no reward is not improved by it.
        let rewarded =
            |setting: &String| setting.starts_with("rl.algorithm=") && !setting.ends_with("off");
        let last = cell.settings.iter().rev().find(|own| own.starts_with("rl.algorithm="))?;
        let own = results.cell(cell.name).filter(|_| rewarded(last))?;
        let gain = |unit: &UnitResult| {
            unit.measured.rewarded.as_ref().map(|own| own.after[0] - own.before[0])
        };
        let gains: Vec<f64> = own.units.iter().filter_map(gain).collect();
        let mean = gains.iter().sum::<f64>() / gains.len().max(1) as f64;
        let interval = interval_of_mean(&gains)?;
        Some((format!("{} {:+.1}", own.label, 100.0 * mean), interval))
    };
    let gains: Vec<(String, [f64; 2])> = table.cells.iter().filter_map(gain).collect();
    if gains.is_empty() {
        return String::new();
    }
    let list = |keep: &dyn Fn(&[f64; 2]) -> bool| {
        let kept = gains.iter().filter(|(_, interval)| keep(interval));
        kept.map(|(text, _)| text.clone()).collect::<Vec<_>>().join(", ")
    };
    let named = |what: &str, list: String| match list.is_empty() {
        true => String::new(),
        false => format!(" {what} (pass@1, points): {list}."),
    };
    named("Rewards improve", list(&|[low, _]| *low > 0.0))
        + &named("They make worse", list(&|[_, high]| *high < 0.0))
        + &named("No change is shown of", list(&|[low, high]| *low <= 0.0 && *high >= 0.0))
        + &against_hard(table, results)
}

/// pass@k after rewards against that of the hard chain, seed by seed.
fn against_hard(table: &Table, results: &Results) -> String {
    let last = |unit: &UnitResult| unit.measured.rewarded.as_ref()?.after.last().copied();
    let Some(hard) = results.cell("hard") else { return String::new() };
    let hard: Vec<(u64, f64)> =
        hard.units.iter().filter_map(|unit| Some((unit.seed, last(unit)?))).collect();
    if hard.is_empty() {
        return String::new();
    }
    let other = |cell: &Cell| {
        let own = results.cell(cell.name).filter(|_| cell.name != "hard")?;
        let beside = |unit: &UnitResult| {
            let hard = hard.iter().find(|(seed, _)| *seed == unit.seed)?.1;
            Some(last(unit)? - hard)
        };
        let gains: Vec<f64> = own.units.iter().filter_map(beside).collect();
        let [low, high] = interval_of_mean(&gains)?.map(|x| 100.0 * x);
        let mean = 100.0 * gains.iter().sum::<f64>() / gains.len() as f64;
        Some(format!("{} {mean:+.1} ({low:+.1} to {high:+.1})", own.label))
    };
    let others: Vec<String> = table.cells.iter().filter_map(other).collect();
    let mean = hard.iter().map(|(_, pass)| pass).sum::<f64>() / hard.len() as f64;
    format!(
        " pass@{} after training less that of the hard chain ({} %), which began with another model, in \
         points: {}.",
        MOST,
        percent(mean),
        others.join(", ")
    )
}

/// Published pass@1 before and after, by cell: CoT2, sampled tokens and their means.
const PUBLISHED_REWARDS: [(&str, [f64; 2]); 3] =
    [("hard", [39.76, 49.01]), ("samples-3", [43.50, 51.61]), ("samples-6", [49.05, 51.85])];

/// What rewards did to the draws of each policy.
pub(super) fn before_and_after(table: &Table, results: &Results) -> String {
    let row = |cell: &Cell| {
        let own = results.cell(cell.name)?;
        let all: Vec<&Rewarded> =
            own.units.iter().filter_map(|unit| unit.measured.rewarded.as_ref()).collect();
        let last = all.first()?.after.len() - 1;
        let mean = |of: &dyn Fn(&Rewarded) -> f64| {
            all.iter().map(|own| of(own)).sum::<f64>() / all.len() as f64
        };
        let change = |of: &dyn Fn(&Rewarded) -> [f64; 2]| {
            let gains: Vec<f64> = all.iter().map(|own| of(own)[1] - of(own)[0]).collect();
            let gain = gains.iter().sum::<f64>() / gains.len() as f64;
            let within = interval_of_mean(&gains).map_or_else(String::new, |[low, high]| {
                format!(" ({:+.1} to {:+.1})", 100.0 * low, 100.0 * high)
            });
            let [before, after] = [0, 1].map(|at| percent(mean(&|own| of(own)[at])));
            format!("{before} → {after}: {:+.1}{within}", 100.0 * gain)
        };
        let published = PUBLISHED_REWARDS.iter().find(|(name, _)| *name == cell.name);
        let published = published.map_or_else(
            || "–".to_owned(),
            |(_, [before, after])| format!("{before:.2} → {after:.2}"),
        );
        Some(vec![
            own.label.clone(),
            change(&|own| [own.before[0], own.after[0]]),
            published,
            change(&|own| [own.before[last], own.after[last]]),
            change(&|own| own.greedy),
            change(&|own| own.fed_hard),
        ])
    };
    let found: Vec<Vec<String>> = table.cells.iter().filter_map(row).collect();
    if found.is_empty() {
        return String::new();
    }
    let most = MOST;
    let pass = format!("pass@{most}");
    let head =
        ["policy", "pass@1", "published pass@1", &pass, "without noise", "fed the heaviest token"];
    format!(
        "## Before and after\n\nShare of held-out problems in %, before → after, and the change in \
         points with its 95 % interval over seeds, each paired with itself. pass@k: one of k draws of \
         the policy is right, from 16 draws a problem. Without noise thoughts are the mixtures \
         themselves, and answers the likeliest tokens; in the last column a model that was trained \
         softly thinks in its heaviest tokens.\n\n{}",
        rows(&head, &found)
    )
}

/// Seconds of training at which models are compared.
const TIMES: [f64; 5] = [2.0, 4.0, 8.0, 16.0, 32.0];

/// What each way of training on rewards, or on answers from the same model, has reached after so long.
pub(super) fn at_equal_time(table: &Table, results: &Results) -> String {
    let row = |cell: &Cell| {
        let own = results.cell(cell.name).filter(|_| cell.start.is_some())?;
        let at = |seconds: f64| {
            let found: Option<Vec<f64>> =
                own.units.iter().map(|unit| accuracy_at(unit, seconds)).collect();
            match found {
                Some(all) if !all.is_empty() => percent(all.iter().sum::<f64>() / all.len() as f64),
                _ => "–".to_owned(),
            }
        };
        let figures = TIMES.iter().map(|&seconds| at(seconds));
        Some(std::iter::once(own.label.clone()).chain(figures).collect::<Vec<_>>())
    };
    let found: Vec<Vec<String>> = table.cells.iter().filter_map(row).collect();
    if found.is_empty() {
        return String::new();
    }
    let head: Vec<String> = std::iter::once("right without noise, % after".to_owned())
        .chain(TIMES.iter().map(|seconds| format!("{seconds:.0} s")))
        .collect();
    let head: Vec<&str> = head.iter().map(|name| &**name).collect();
    format!(
        "{}## At equal time\n\nThe same trainings at the last evaluation that each had come to after so \
         many seconds of training on one core, evaluations not counted; a dash stands before the first \
         one, and after its last step a training stays where it is.\n\n{}",
        judges(results),
        rows(&head, &found)
    )
}

/// How good the reward models are.
fn judges(results: &Results) -> String {
    let of = |unit: &UnitResult| Some([unit.measured.judges_trained?, unit.accuracy()]);
    let found: Vec<[f64; 2]> =
        results.cells.iter().flat_map(|cell| &cell.units).filter_map(of).collect();
    if found.is_empty() {
        return String::new();
    }
    let list = |at: usize| {
        let all: Vec<String> = found.iter().map(|own| percent(own[at])).collect();
        all.join(", ")
    };
    format!(
        "The reward models, one a seed, prefer the right answer to all others in {} % of the problems \
         that they were trained on, which the arms train on too, and in {} % of the others.\n\n",
        list(0),
        list(1)
    )
}

/// The accuracy of a training at the last evaluation within so many seconds.
fn accuracy_at(unit: &UnitResult, seconds: f64) -> Option<f64> {
    let each = unit.seconds[0] / unit.steps.max(1) as f64;
    let reached = |(step, _): &&(u64, f64)| *step as f64 * each <= seconds;
    unit.curve.iter().filter(reached).map(|(_, accuracy)| *accuracy).next_back()
}
