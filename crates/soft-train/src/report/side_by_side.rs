//! Several trainings beside each other: what each had reached by when.
//!
//! Runs whose names differ only in `-seed-N` are one setting under several seeds: they share a
//! colour and a row of the table.

use std::collections::BTreeSet;

use serde_json::Value;

use super::markup::{counted, escape, figure, figure_or_dash, table};
use super::row::key;
use super::run::Run;
use super::svg::{LinePlot, Series};
use crate::error::Error;
use crate::results::thousands;

/// What is measured on held-out examples begins with this.
const HELD_OUT: &str = "valid/";
/// Measures that the verdict is about, the first that all runs have.
const MEASURES: [&str; 3] = ["valid/accuracy", "valid/answer_cross_entropy", "valid/cross_entropy"];
/// Colours of the page's style.
const COLORS: usize = 6;

/// The time that runs are set beside each other by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Time {
    /// Seconds on the clock, in training steps.
    #[default]
    Wall,
    /// Seconds of all processors together, in training steps: what else the machine does hardly
    /// changes it.
    Processor,
}

impl Time {
    fn key(self) -> &'static str {
        match self {
            Self::Wall => "seconds",
            Self::Processor => "processor_seconds",
        }
    }

    fn in_words(self) -> &'static str {
        match self {
            Self::Wall => "seconds of training steps",
            Self::Processor => "processor seconds of training steps",
        }
    }
}

/// One training.
struct Course<'a> {
    setting: usize,
    records: &'a [Value],
    /// Time by the end of each step, in order.
    by_step: Vec<(u64, f64)>,
}

/// The sections of the page.
///
/// # Errors
///
/// [`Error::Data`] if a run left no steps, no times, or no measure that all have.
pub(super) fn sections(runs: &[Run], time: Time) -> Result<String, Error> {
    let (settings, courses) = courses(runs, time)?;
    let measure = MEASURES
        .into_iter()
        .find(|measure| courses.iter().all(|course| !course.points(measure).is_empty()));
    let Some(measure) = measure else {
        return Err(Error::Data {
            report: format!(
                "the runs have no measure on held-out data in common; expected one of {} in all \
                 of them: set `eval.every`",
                MEASURES.join(", ")
            ),
        });
    };
    let ends = courses.iter().map(Course::end);
    let budget = ends.fold(f64::INFINITY, f64::min);
    let rows: Vec<Summary> = (0..settings.len())
        .map(|setting| Summary::of(setting, &courses, measure, budget))
        .collect();
    let mut html = format!(
        "<section><h2>Verdict</h2>\n{}</section>\n",
        verdict(&settings, &rows, measure, budget, time)
    );
    html.push_str(&format!(
        "<section><h2>Settings</h2>\n{}</section>\n",
        settings_table(&settings, &rows, budget, time)
    ));
    html.push_str(&format!(
        "<section><h2>Curves</h2>\n{}</section>\n",
        curves(&settings, &courses, budget, time)
    ));
    html.push_str(&format!("<section><h2>Runs</h2>\n{}</section>\n", runs_list(runs)));
    Ok(html)
}

/// The names of the settings in the order in which they are met, and every training.
fn courses(runs: &[Run], time: Time) -> Result<(Vec<String>, Vec<Course<'_>>), Error> {
    let mut settings: Vec<String> = Vec::new();
    let mut courses = Vec::new();
    for run in runs {
        let name = run.path.file_name().map_or_else(
            || run.path.display().to_string(),
            |name| name.to_string_lossy().into_owned(),
        );
        let lacks = |what: String| {
            let path = run.path.display();
            Error::Data { report: format!("{path}: {what}; several runs are shown by their time") }
        };
        if run.metrics.is_empty() {
            return Err(lacks("no metrics.jsonl, expected the directory of a training".into()));
        }
        for arm in &run.metrics {
            let of = |name: &str| match &arm.name {
                Some(arm) => format!("{name} / {arm}"),
                None => name.to_owned(),
            };
            let setting = of(without_seed(&name));
            let number = settings.iter().position(|known| *known == setting);
            let number = number.unwrap_or_else(|| {
                settings.push(setting);
                settings.len() - 1
            });
            let by_step = cumulative(&arm.times, time.key());
            if by_step.is_empty() {
                return Err(lacks(format!("times.jsonl has no `{}`", time.key())));
            }
            courses.push(Course { setting: number, records: &arm.records, by_step });
        }
    }
    Ok((settings, courses))
}

/// A run's name without the seed at its end.
fn without_seed(name: &str) -> &str {
    match name.rsplit_once("-seed-") {
        Some((setting, seed)) if seed.parse::<u64>().is_ok() => setting,
        _ => name,
    }
}

fn cumulative(times: &[Value], key: &str) -> Vec<(u64, f64)> {
    let mut sum = 0.0;
    let step = |record: &Value| {
        sum += record.get(key)?.as_f64()?;
        Some((record.get("step")?.as_u64()?, sum))
    };
    times.iter().filter_map(step).collect()
}

impl Course<'_> {
    fn end(&self) -> f64 {
        self.by_step.last().map_or(0.0, |last| last.1)
    }

    fn time_at(&self, step: u64) -> f64 {
        let after = self.by_step.partition_point(|(at, _)| *at <= step);
        after.checked_sub(1).map_or(0.0, |last| self.by_step[last].1)
    }

    /// The finite values of a measure: (step, value).
    fn points(&self, measure: &str) -> Vec<(u64, f64)> {
        let point =
            |record: &Value| Some((record.get("step")?.as_u64()?, record.get(measure)?.as_f64()?));
        self.records.iter().filter_map(point).collect()
    }

    /// The last value that was measured within `budget`.
    fn within(&self, measure: &str, budget: f64) -> Option<f64> {
        // The budget is the end of some run, so its last value belongs to it but for rounding.
        let in_time = |point: &&(u64, f64)| self.time_at(point.0) <= budget * (1.0 + 1e-9);
        self.points(measure).iter().rfind(in_time).map(|point| point.1)
    }
}

/// A setting over its seeds.
struct Summary {
    setting: usize,
    runs: usize,
    steps: Range,
    seconds: Range,
    /// Of the measure, at the last evaluation within the budget.
    within: Option<Range>,
    /// Of the measure, at the end.
    last: Option<Range>,
}

/// Mean, least and greatest.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Range {
    mean: f64,
    least: f64,
    greatest: f64,
}

impl Range {
    fn of(values: &[f64]) -> Option<Self> {
        let first = *values.first()?;
        Some(Self {
            mean: values.iter().sum::<f64>() / values.len() as f64,
            least: values.iter().copied().fold(first, f64::min),
            greatest: values.iter().copied().fold(first, f64::max),
        })
    }

    fn overlaps(self, other: Self) -> bool {
        self.least <= other.greatest && other.least <= self.greatest
    }

    fn in_words(self) -> String {
        match self.least == self.greatest {
            true => figure(self.mean),
            false => {
                let Self { mean, least, greatest } = self;
                format!("{} ({} to {})", figure(mean), figure(least), figure(greatest))
            }
        }
    }
}

impl Summary {
    fn of(setting: usize, courses: &[Course<'_>], measure: &str, budget: f64) -> Self {
        let own: Vec<&Course<'_>> = courses.iter().filter(|c| c.setting == setting).collect();
        let over = |value: &dyn Fn(&Course<'_>) -> Option<f64>| {
            let values: Vec<f64> = own.iter().filter_map(|course| value(course)).collect();
            Range::of(&values)
        };
        let none = Range { mean: 0.0, least: 0.0, greatest: 0.0 };
        Self {
            setting,
            runs: own.len(),
            steps: over(&|c| Some(c.by_step.last()?.0 as f64)).unwrap_or(none),
            seconds: over(&|c| Some(c.end())).unwrap_or(none),
            within: over(&|c| c.within(measure, budget)),
            last: over(&|c| Some(c.points(measure).last()?.1)),
        }
    }
}

fn more_is_better(measure: &str) -> bool {
    measure.contains("accuracy")
}

fn verdict(
    settings: &[String],
    rows: &[Summary],
    measure: &str,
    budget: f64,
    time: Time,
) -> String {
    let mut ranked: Vec<(usize, Range)> =
        rows.iter().filter_map(|row| Some((row.setting, row.within?))).collect();
    ranked.sort_by(|a, b| match more_is_better(measure) {
        true => b.1.mean.total_cmp(&a.1.mean),
        false => a.1.mean.total_cmp(&b.1.mean),
    });
    let name = |setting: usize| format!("<b>{}</b>", escape(&settings[setting]));
    let lead = format!("After {} {} (the shortest run)", figure(budget), time.in_words());
    let mut html = match &ranked[..] {
        [] => format!("<p class=\"warning\">{lead} nothing had been measured.</p>\n"),
        [(best, range), ..] => format!(
            "<p class=\"verdict\">{lead} {} has the best {}: {}.</p>\n",
            name(*best),
            escape(measure),
            range.in_words()
        ),
    };
    if let [(_, best), others @ ..] = &ranked[..] {
        let close: Vec<String> = others
            .iter()
            .filter(|(_, range)| range.overlaps(*best))
            .map(|&(setting, range)| format!("{} ({})", name(setting), figure(range.mean)))
            .collect();
        if !close.is_empty() {
            html.push_str(&format!(
                "<p class=\"note\">Not told apart from it, their ranges overlap: {}.</p>\n",
                close.join(", ")
            ));
        }
    }
    let seeds: BTreeSet<usize> = rows.iter().map(|row| row.runs).collect();
    html.push_str(match seeds.first() {
        Some(1) => {
            "<p class=\"warning\">Some setting has one run: how much another seed would change is \
             not in these figures.</p>\n"
        }
        _ => "<p class=\"note\">Ranges are from the worst to the best seed of a setting.</p>\n",
    });
    html
}

fn settings_table(settings: &[String], rows: &[Summary], budget: f64, time: Time) -> String {
    let by = format!("by {} s", figure(budget));
    let seconds = match time {
        Time::Wall => "seconds",
        Time::Processor => "processor seconds",
    };
    let head = ["setting", "runs", "steps", seconds, "ms a step", &by, "at its end"];
    let row = |row: &Summary| {
        let in_words = |range: Option<Range>| range.map_or_else(|| "–".into(), Range::in_words);
        let steps = row.steps.mean;
        vec![
            format!("{} {}", key(row.setting % COLORS), escape(&settings[row.setting])),
            row.runs.to_string(),
            thousands(steps.round() as u64),
            row.seconds.in_words(),
            figure_or_dash((steps > 0.0).then(|| 1e3 * row.seconds.mean / steps)),
            in_words(row.within),
            in_words(row.last),
        ]
    };
    let rows: Vec<Vec<String>> = rows.iter().map(row).collect();
    table(&head, &rows, "sides")
}

/// Every measure on held-out data against time and against the step, a run a line.
fn curves(settings: &[String], courses: &[Course<'_>], budget: f64, time: Time) -> String {
    let mut measures: Vec<&str> = Vec::new();
    let records = courses.iter().flat_map(|course| course.records);
    for name in records.filter_map(Value::as_object).flat_map(|record| record.keys()) {
        if name.starts_with(HELD_OUT) && !measures.contains(&name.as_str()) {
            measures.push(name);
        }
    }
    measures.sort_by_key(|name| MEASURES.iter().position(|m| m == name).unwrap_or(MEASURES.len()));
    let plot = |measure: &str, timed: bool| {
        let line = |course: &Course<'_>| Series {
            color: course.setting % COLORS,
            points: course
                .points(measure)
                .into_iter()
                .map(|(step, value)| {
                    (if timed { course.time_at(step) } else { step as f64 }, Some(value))
                })
                .collect(),
        };
        let against = if timed { time.in_words() } else { "steps" };
        let marks = match timed && budget.is_finite() {
            true => vec![super::svg::Mark { x: budget, text: "end of the shortest run".into() }],
            false => Vec::new(),
        };
        let svg = LinePlot {
            description: format!("{measure} by {against}"),
            series: courses.iter().map(line).collect(),
            marks,
            ..LinePlot::default()
        }
        .svg()?;
        let caption = escape(&measure.replace('_', " "));
        Some(format!(
            "<figure><figcaption><b>{caption}</b> by {against}</figcaption>{svg}</figure>\n"
        ))
    };
    let plots: String = measures
        .iter()
        .flat_map(|measure| [plot(measure, true), plot(measure, false)])
        .flatten()
        .collect();
    let legend: Vec<String> = settings
        .iter()
        .enumerate()
        .map(|(at, name)| format!("{} {}", key(at % COLORS), escape(name)))
        .collect();
    format!(
        "<p class=\"legend\">{}</p><div class=\"plots\">{plots}</div>\n<p class=\"note\">A line a \
         run, {} in all; the time of evaluations and checkpoints is not counted.</p>\n",
        legend.join(" · "),
        counted(courses.len(), "run")
    )
}

fn runs_list(runs: &[Run]) -> String {
    let row = |run: &Run| {
        let config = run.config.as_deref().and_then(|text| text.parse::<toml::Table>().ok());
        let seed = config.as_ref().and_then(|config| config.get("run")?.get("seed")?.as_integer());
        let seed = seed.map_or_else(|| "–".into(), |seed| seed.to_string());
        vec![format!("<code>{}</code>", escape(&run.path.display().to_string())), seed]
    };
    let rows: Vec<Vec<String>> = runs.iter().map(row).collect();
    table(&["path", "seed"], &rows, "texts")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::super::render_side_by_side;
    use super::*;

    /// A run of `steps` steps of `ms` each whose accuracy grows by `gain` a step.
    fn run(root: &Path, name: &str, steps: u64, ms: f64, gain: f64) -> std::path::PathBuf {
        let path = root.join(name);
        std::fs::create_dir(&path).expect("made");
        let lines = |line: &dyn Fn(u64) -> Value| -> String {
            (1..=steps).map(|step| format!("{}\n", line(step))).collect()
        };
        let metrics = lines(&|step| json!({"step": step, "valid/accuracy": gain * step as f64}));
        let times = lines(&|step| json!({"step": step, "seconds": ms / 1e3}));
        std::fs::write(path.join("metrics.jsonl"), metrics).expect("written");
        std::fs::write(path.join("times.jsonl"), times).expect("written");
        path
    }

    #[test]
    fn runs_are_judged_by_what_they_had_reached_when_the_shortest_ended() {
        let root = tempfile::tempdir().expect("a folder");
        // 10 s, 0.5 at the end; 40 s, 0.4 by 10 s and 0.8 at step 20.
        let quick = run(root.path(), "quick-seed-1", 10, 1000.0, 0.05);
        let other = run(root.path(), "quick-seed-2", 10, 1000.0, 0.06);
        let slow = run(root.path(), "slow-seed-1", 20, 2000.0, 0.04);
        let page = render_side_by_side(&[quick, other, slow], Time::Wall).expect("a page");
        for part in [
            "After 10.0 seconds of training steps (the shortest run) <b>quick</b> has the best \
             valid/accuracy: 0.550 (0.500 to 0.600).",
            "<td>0.200<td>0.800",
            "Some setting has one run",
        ] {
            assert!(page.contains(part), "{part} is missing in\n{page}");
        }
        assert!(!page.contains("Not told apart"), "{page}");
    }

    #[test]
    fn overlapping_ranges_are_not_told_apart() {
        let root = tempfile::tempdir().expect("a folder");
        let make = |name, gain| run(root.path(), name, 5, 10.0, gain);
        let runs = [
            make("a-seed-1", 0.10),
            make("a-seed-2", 0.12),
            make("b-seed-1", 0.11),
            make("b-seed-2", 0.05),
        ];
        let page = render_side_by_side(&runs, Time::Wall).expect("a page");
        assert!(page.contains("their ranges overlap: <b>b</b>"), "{page}");
    }

    #[test]
    fn a_run_without_times_or_measures_is_refused_by_name() {
        let root = tempfile::tempdir().expect("a folder");
        let one = run(root.path(), "one", 3, 1.0, 0.1);
        let processor = render_side_by_side(std::slice::from_ref(&one), Time::Processor);
        let error = processor.expect_err("no such times").to_string();
        assert!(error.contains("one: times.jsonl has no `processor_seconds`"), "{error}");
        std::fs::write(one.join("metrics.jsonl"), "{\"step\":1,\"loss\":1}\n").expect("written");
        let error = render_side_by_side(&[one], Time::Wall).expect_err("nothing to compare");
        assert!(error.to_string().contains("eval.every"), "{error}");
    }

    #[test]
    fn a_seed_is_a_number_at_the_end() {
        assert_eq!(without_seed("a-seed-12"), "a");
        assert_eq!(without_seed("a-seed-x"), "a-seed-x");
        assert_eq!(without_seed("seed-1"), "seed-1");
    }
}
