//! What is learned of the filters, as it is recorded, shown and saved.

use serde_json::Value;
use soft_core::LearnedValues;

use crate::learner::{StepItem, metric_name};

/// The weight that hard filters would move, a mean over the soft inputs of a step; none at a step
/// that did not look, or had no soft input.
pub(crate) fn gap(item: &StepItem) -> Option<f64> {
    let value = |name: &str| item.values.iter().find(|value| value.0 == name).map(|value| value.1);
    let compared = value(metric_name::COMPARED).filter(|&compared| compared > 0.0)?;
    Some(value(metric_name::FILTER_GAP)? / compared)
}

/// Puts the values into the record of a step, as `learnable/..`.
pub(crate) fn record(line: &mut Value, values: &LearnedValues, gap: Option<f64>) {
    let mut put = |key: &str, value: Option<f64>| {
        if let Some(value) = value {
            line[format!("learnable/{key}")] = value.into();
        }
    };
    put("temperature", values.temperature);
    put("top_k", values.top_k);
    put("min_p", values.min_p);
    put("gap", gap.filter(|_| *values != LearnedValues::default()));
}

/// The values for the dashboard, in place of the sums that `item` holds.
pub(crate) fn display(item: &mut StepItem, values: &LearnedValues) {
    let mean = gap(item);
    let sums = [metric_name::COMPARED, metric_name::FILTER_GAP];
    item.values.retain(|(name, _)| !sums.contains(name));
    let shown = [
        (metric_name::TEMPERATURE, values.temperature),
        (metric_name::TOP_K, values.top_k),
        (metric_name::MIN_P, values.min_p),
        (metric_name::FILTER_GAP, mean),
    ];
    item.values.extend(shown.into_iter().filter_map(|(name, value)| Some((name, value?))));
}

/// ` | temperature 0.93 | top-k 5.12 | min-p 0.021`; nothing where nothing is learned.
pub(crate) fn in_words(values: &LearnedValues) -> String {
    let part = |name: &str, value: Option<f64>, digits: usize| {
        value.map_or_else(String::new, |value| format!(" | {name} {value:.digits$}"))
    };
    part("temperature", values.temperature, 3)
        + &part("top-k", values.top_k, 2)
        + &part("min-p", values.min_p, 4)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn looked(compared: f64, gap: f64) -> StepItem {
        let values = vec![
            (metric_name::LOSS, 1.0),
            (metric_name::COMPARED, compared),
            (metric_name::FILTER_GAP, gap),
        ];
        StepItem { values }
    }

    #[test]
    fn only_what_is_learned_is_recorded_and_shown() {
        let values = LearnedValues { temperature: Some(0.5), min_p: Some(0.02), top_k: None };
        let mut line = json!({ "step": 3 });
        record(&mut line, &values, gap(&looked(4.0, 1.0)));
        let expected = json!({
            "step": 3,
            "learnable/temperature": 0.5,
            "learnable/min_p": 0.02,
            "learnable/gap": 0.25
        });
        assert_eq!(line, expected);
        assert_eq!(in_words(&values), " | temperature 0.500 | min-p 0.0200");
        let mut item = looked(4.0, 1.0);
        display(&mut item, &values);
        let names: Vec<_> = item.values.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["Loss", "Temperature", "Min-p", "Filter gap"]);
        assert_eq!(item.values[3].1, 0.25);

        let mut nothing = json!({ "step": 3 });
        record(&mut nothing, &LearnedValues::default(), None);
        assert_eq!(nothing, json!({ "step": 3 }));
        assert_eq!(in_words(&LearnedValues::default()), "");
    }

    #[test]
    fn a_step_that_did_not_look_has_no_gap() {
        assert_eq!(gap(&looked(0.0, 0.0)), None);
    }
}
