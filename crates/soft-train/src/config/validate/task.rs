//! Sizes that a generated task cannot have.

use super::{Config, Found, Place, found};
use crate::task::TaskName;
use crate::task::mnns::MAX_PROBLEMS;

/// Digits outside what the task takes, or more problems than it keeps.
pub(super) fn size(config: &Config, place: Place<'_>) -> Option<Found> {
    let task = &config.task;
    let digits = match task.name {
        TaskName::Mnns => 2..=8,
        TaskName::Multiplication => 1..=5,
        _ => return None,
    };
    if !digits.contains(&task.digits) {
        let message = format!(
            "`task.digits` is {} and `task.name` is {:?}; expected {} to {}",
            task.digits,
            task.name.as_str(),
            digits.start(),
            digits.end()
        );
        return Some(found(place, &["task.digits", "task.name"], message));
    }
    let exponent = u32::try_from(task.digits).unwrap_or(u32::MAX);
    let count = task.digit_max.saturating_pow(exponent);
    (task.name == TaskName::Mnns && count > MAX_PROBLEMS).then(|| {
        let message = format!(
            "`task.digits` is {} and `task.digit_max` is {}, which makes {count} problems; expected at most {MAX_PROBLEMS}",
            task.digits, task.digit_max
        );
        found(place, &["task.digits", "task.digit_max"], message)
    })
}
