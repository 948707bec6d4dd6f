//! Times as people write them: "2h", "90m", "30s", "1h30m".

use std::time::Duration;

use super::sections::Guard;

/// Letters of the units, with their seconds.
const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];
/// Over this a limit is none.
const LONGEST: u64 = 365 * 86_400;

impl Guard {
    /// The time of `guard.max_time`; `None` where it is empty.
    ///
    /// # Errors
    /// What is wrong with it, and what was expected.
    pub fn time_limit(&self) -> Result<Option<Duration>, String> {
        if self.max_time.is_empty() {
            return Ok(None);
        }
        match parse(&self.max_time) {
            Some(seconds @ 1..=LONGEST) => Ok(Some(Duration::from_secs(seconds))),
            _ => Err(format!(
                "`guard.max_time` is {:?}; expected a time from \"1s\" to \"365d\" in whole days, hours, minutes and seconds, as in \"2h\", \"90m\" or \"1h30m\"",
                self.max_time
            )),
        }
    }
}

/// The seconds of a time: whole numbers, each followed by its unit, the larger units first.
fn parse(text: &str) -> Option<u64> {
    let (mut seconds, mut rest, mut units) = (0_u64, text, &UNITS[..]);
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let letter = rest[digits..].chars().next()?;
        let at = units.iter().position(|(unit, _)| *unit == letter)?;
        seconds = seconds.checked_add(number.checked_mul(units[at].1)?)?;
        units = &units[at + 1..];
        rest = &rest[digits + 1..];
    }
    Some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(text: &str) -> Result<Option<u64>, String> {
        let guard = Guard { max_time: text.to_owned(), ..Guard::default() };
        Ok(guard.time_limit()?.map(|time| time.as_secs()))
    }

    #[test]
    fn a_time_is_the_sum_of_its_parts() {
        assert_eq!(limit(""), Ok(None));
        for (text, seconds) in
            [("30s", 30), ("90m", 5_400), ("2h", 7_200), ("1h30m", 5_400), ("1d2h3m4s", 93_784)]
        {
            assert_eq!(limit(text), Ok(Some(seconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused_with_an_example() {
        for text in ["2", "h", "2 h", "-1h", "1.5h", "30m1h", "1h1h", "0s", "2w", "400d", "１h"] {
            let error = limit(text).expect_err(text);
            assert!(error.contains(text) && error.contains("\"1h30m\""), "{error}");
        }
        assert!(limit(&format!("{}d", u64::MAX)).is_err(), "it does not overflow");
    }
}
