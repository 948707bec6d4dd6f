//! `soft data check`: what training would see of a data file.

use std::io::IsTerminal;

use serde_json::{Value, json};
use soft_model::Tokenizer;
use soft_train::config::{BadLines, Config};
use soft_train::data::{Fill, Limits, Reader, Scan};
use soft_train::example::Example;
use soft_train::run::{Base, text_encoder};

use crate::arguments::{DataCheck, Global};
use crate::failure::Failure;
use crate::output::Output;
use crate::settings::{Without, loader};

/// Bars of the histogram of lengths.
const BINS: usize = 10;
/// Width of the longest bar.
const BAR: usize = 40;

/// Runs the verb.
pub(crate) fn run(arguments: &DataCheck, global: &Global) -> Result<(), Failure> {
    let mut loader = loader(Some(&arguments.source), global, Without::Defaults);
    if let Some(path) = &arguments.model {
        loader = loader.flag("--model", "model.path", path.display().to_string());
    }
    let resolved = loader.load()?;
    let config = &resolved.config;
    let base = Base::open(config)?;
    let limits = base.as_ref().map_or_else(Limits::default, |base| Limits {
        vocab_size: Some(base.vocab_size),
        context: Some(
            base.files.context().saturating_sub(config.prefix.tokens + config.prompt.tokens),
        ),
    });
    let files = base.map(|base| base.files);
    // A model without a tokenizer can still be trained on ids.
    let with_text = files.as_ref().filter(|files| files.tokenizer.is_some());
    let encoder = with_text.map(|files| text_encoder(config, files)).transpose()?;
    let reader = Reader::new(&config.data, config.task.name, limits, encoder.as_ref());
    let scan = reader.scan(&arguments.file)?;
    let notes = encoder.as_ref().map_or_else(Vec::new, |encoder| encoder.notes());
    let tokenizer = files.as_ref().and_then(|files| files.tokenizer.as_ref());
    let page = Page { scan: &scan, tokenizer, notes: &notes, show: arguments.show };

    let mut out = Output::new();
    match arguments.json {
        true => out.json(&page.json(config))?,
        false => out.line(page.text(Paint::detect(), config))?,
    }
    out.flush()?;
    scan.check(reader.limits, reader.bad_lines).map_err(|error| {
        // The bad lines stand above.
        let code = error.exit_code();
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default().trim_end_matches(':').to_owned();
        match code {
            4 => Failure::model(first),
            _ => Failure::data(first),
        }
    })
}

/// What is shown of a file.
struct Page<'a> {
    scan: &'a Scan,
    tokenizer: Option<&'a Tokenizer>,
    notes: &'a [String],
    show: usize,
}

/// Sums over the examples of a file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Totals {
    tokens: usize,
    scored: usize,
    soft: usize,
    answer: usize,
    /// Length and line of the longest example.
    longest: (usize, u64),
}

impl Totals {
    fn of(scan: &Scan) -> Self {
        let mut totals = Self::default();
        for (example, &line) in scan.examples.iter().zip(&scan.lines) {
            totals.tokens += example.len();
            totals.scored += example.scored_len();
            totals.soft += example.soft_len();
            totals.answer += example.answer_positions().count();
            if example.len() > totals.longest.0 {
                totals.longest = (example.len(), line);
            }
        }
        totals
    }
}

impl Page<'_> {
    fn shown(&self) -> impl Iterator<Item = (&Example, u64)> {
        self.scan.examples.iter().zip(self.scan.lines.iter().copied()).take(self.show)
    }

    fn text(&self, paint: Paint, config: &Config) -> String {
        let scan = self.scan;
        let mut lines = vec![format!("{}: format \"{}\"", scan.path.display(), scan.format)];
        if self.shown().next().is_some() {
            lines.push(paint.legend());
        }
        for (example, line) in self.shown() {
            lines.push(format!("\n{}", paint.bold(&heading(example, line))));
            lines.push(paint.example(example, self.tokenizer));
        }
        lines.push(String::new());
        lines.extend(self.counts(config));
        if !scan.examples.is_empty() {
            lines.push("\nlengths, in tokens".into());
            lines.extend(bars(&histogram(scan)));
        }
        if scan.bad_count > 0 {
            let skipped = if config.data.bad_lines == BadLines::Skip { ", skipped" } else { "" };
            lines.push(format!("\nbad lines{skipped}\n{}", scan.bad_report()));
        }
        lines.extend(self.notes.iter().map(|note| format!("\nnote: {note}")));
        lines.join("\n")
    }

    fn counts(&self, config: &Config) -> Vec<String> {
        let (scan, totals) = (self.scan, Totals::of(self.scan));
        let examples = scan.examples.len();
        let mut lines = vec![format!(
            "lines      {}: {examples} good, {} bad, {} too long and dropped, {} blank",
            scan.line_count() + scan.blank_count,
            scan.bad_count,
            scan.dropped_count,
            scan.blank_count
        )];
        if scan.truncated_count > 0 {
            lines.push(format!("cut        {} of the good ones, at the end", scan.truncated_count));
        }
        if examples == 0 {
            return lines;
        }
        let share = |part: usize| 100.0 * part as f64 / totals.tokens as f64;
        let (length, line) = totals.longest;
        lines.push(format!(
            "tokens     {}: {} trained ({:.1}%), {} of them in answers; {} soft inputs ({:.1}%)",
            totals.tokens,
            totals.scored,
            share(totals.scored),
            totals.answer,
            totals.soft,
            share(totals.soft)
        ));
        lines.push(format!("longest    {length} tokens, line {line}"));
        lines.extend(Fill::of(&scan.examples, config).map(|fill| rows(&fill, config)));
        if totals.soft == 0 {
            lines.push(format!(
                "           no input is soft: `data.soft` is \"{}\"",
                config.data.soft
            ));
        }
        lines
    }

    fn json(&self, config: &Config) -> Value {
        let (scan, totals) = (self.scan, Totals::of(self.scan));
        let bad: Vec<Value> = scan
            .bad
            .iter()
            .map(|bad| json!({"line": bad.line, "column": bad.column, "problem": bad.problem}))
            .collect();
        let shown: Vec<Value> = self.shown().map(|(e, line)| self.example_json(e, line)).collect();
        json!({
            "file": scan.path.display().to_string(),
            "format": scan.format,
            "lines": scan.line_count() + scan.blank_count,
            "examples": scan.examples.len(),
            "blank": scan.blank_count,
            "dropped": scan.dropped_count,
            "truncated": scan.truncated_count,
            "bad": {"count": scan.bad_count, "first": bad},
            "tokens": totals.tokens,
            "trained_tokens": totals.scored,
            "answer_tokens": totals.answer,
            "soft_tokens": totals.soft,
            "longest": {"tokens": totals.longest.0, "line": totals.longest.1},
            "lengths": histogram(scan),
            "rows": Fill::of(&scan.examples, config).map(|fill| {
                json!({"examples": config.train.micro_batch, "full": fill.padded, "packed": fill.packed})
            }),
            "notes": self.notes,
            "shown": shown,
        })
    }

    fn example_json(&self, example: &Example, line: u64) -> Value {
        let tokens = self.tokenizer.map(|tokenizer| {
            example.input_ids.iter().map(|&id| tokenizer.decode_token(id)).collect::<Vec<_>>()
        });
        let numbers = |mask: &[bool]| mask.iter().map(|&on| u8::from(on)).collect::<Vec<_>>();
        json!({
            "line": line,
            "ids": example.input_ids,
            "tokens": tokens,
            "soft": numbers(&example.soft),
            "weight": example.weight,
            "answer_from": example.answer_from,
        })
    }
}

/// How full the rows of the batches are.
fn rows(fill: &Fill, config: &Config) -> String {
    let packed = fill.packed.map_or_else(String::new, |packed| {
        format!("; packed in rows of {}: {:.1}%", config.data.pack, 100.0 * packed)
    });
    let (examples, full) = (config.train.micro_batch, 100.0 * fill.padded);
    format!("rows       {full:.1}% full in batches of {examples} examples{packed}")
}

fn heading(example: &Example, line: u64) -> String {
    let (len, scored, soft) = (example.len(), example.scored_len(), example.soft_len());
    format!("line {line}: {len} tokens, {scored} trained, {soft} soft")
}

/// First length, last length and number of examples of each bar.
fn histogram(scan: &Scan) -> Vec<(usize, usize, usize)> {
    let lengths = || scan.examples.iter().map(Example::len);
    let (Some(least), Some(most)) = (lengths().min(), lengths().max()) else { return Vec::new() };
    let width = (most - least + 1).div_ceil(BINS);
    (0..BINS)
        .map(|bin| (least + bin * width, (least + (bin + 1) * width - 1).min(most)))
        .take_while(|(first, _)| *first <= most)
        .map(|(first, last)| {
            (first, last, lengths().filter(|len| (first..=last).contains(len)).count())
        })
        .collect()
}

fn bars(bins: &[(usize, usize, usize)]) -> Vec<String> {
    let most = bins.iter().map(|bin| bin.2).max().unwrap_or(1).max(1);
    let bar = |&(first, last, count): &(usize, usize, usize)| {
        // Where there is one, it is seen.
        let length = (count * BAR).div_ceil(most);
        format!("{first:>7} to {last:>6} {:<BAR$} {count}", "#".repeat(length))
    };
    bins.iter().map(bar).collect()
}

/// What is done at a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    trained: bool,
    soft: bool,
}

/// How marks are shown: in colours, or with brackets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Paint {
    Colours,
    Brackets,
}

impl Paint {
    fn detect() -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if plain || !std::io::stdout().is_terminal() { Self::Brackets } else { Self::Colours }
    }

    fn bold(self, text: &str) -> String {
        match self {
            Self::Colours => format!("\x1b[1m{text}\x1b[0m"),
            Self::Brackets => text.to_owned(),
        }
    }

    /// A stretch of positions with the same mark.
    fn stretch(self, text: &str, mark: Mark) -> String {
        match (self, mark.trained, mark.soft) {
            (Self::Colours, false, false) => format!("\x1b[2m{text}\x1b[0m"),
            (Self::Colours, true, false) => format!("\x1b[32m{text}\x1b[0m"),
            (Self::Colours, true, true) => format!("\x1b[4;35m{text}\x1b[0m"),
            (Self::Colours, false, true) => format!("\x1b[4;33m{text}\x1b[0m"),
            (Self::Brackets, false, false) => text.to_owned(),
            (Self::Brackets, true, false) => format!("[[{text}]]"),
            (Self::Brackets, true, true) => format!("{{{{{text}}}}}"),
            (Self::Brackets, false, true) => format!("<<{text}>>"),
        }
    }

    fn legend(self) -> String {
        let part = |text, trained, soft| self.stretch(text, Mark { trained, soft });
        format!(
            "legend: {}  {}  {}  {}",
            part("given", false, false),
            part("trained", true, false),
            part("trained, its input soft", true, true),
            part("soft, not trained", false, true)
        )
    }

    fn example(self, example: &Example, tokenizer: Option<&Tokenizer>) -> String {
        let mark = |t: usize| Mark { trained: example.weight[t] > 0.0, soft: example.soft[t] };
        let mut text = String::new();
        let mut from = 0;
        while from < example.len() {
            let same = (from..example.len()).take_while(|&t| mark(t) == mark(from)).count();
            let ids = &example.input_ids[from..from + same];
            let shown = match tokenizer {
                Some(tokenizer) => visible(&tokenizer.decode(ids)),
                None => ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            };
            if tokenizer.is_none() && from > 0 {
                text.push(' ');
            }
            text.push_str(&self.stretch(&shown, mark(from)));
            from += same;
        }
        text
    }
}

/// Data must not steer the terminal: other control characters than line ends are written out.
fn visible(text: &str) -> String {
    text.chars().fold(String::new(), |mut shown, one| {
        match one {
            '\n' => shown.push('\n'),
            // Text that runs backwards hides what it says.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => shown.extend(one.escape_unicode()),
            one if one.is_control() => shown.extend(one.escape_default()),
            one => shown.push(one),
        }
        shown
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(examples: Vec<Example>) -> Scan {
        let lines = (1..=examples.len() as u64).collect();
        Scan { examples, lines, ..Scan::default() }
    }

    #[test]
    fn every_example_is_in_one_bar_and_the_bars_touch() {
        for lens in [vec![5], vec![2, 3], (2..40).collect(), vec![2, 1000, 7, 7]] {
            let scan = scan(lens.iter().map(|&n| Example::from_tokens(&vec![1; n], 0)).collect());
            let bins = histogram(&scan);
            assert!(bins.len() <= BINS);
            assert_eq!(bins.iter().map(|bin| bin.2).sum::<usize>(), lens.len(), "{bins:?}");
            assert!(bins.windows(2).all(|pair| pair[0].1 + 1 == pair[1].0), "{bins:?}");
        }
        assert_eq!(histogram(&scan(Vec::new())), []);
    }

    #[test]
    fn marks_are_brackets_where_there_are_no_colours() {
        let mut example = Example::from_tokens(&[5, 6, 7, 8, 9], 2);
        example.soft[3] = true;
        assert_eq!(Paint::Brackets.example(&example, None), "5 6 [[7]] {{8}} [[9]]");
        let coloured = Paint::Colours.example(&example, None);
        assert!(coloured.contains("\x1b[4;35m8\x1b[0m"), "{coloured:?}");
        example.weight[3] = 0.0;
        assert_eq!(Paint::Brackets.example(&example, None), "5 6 [[7]] <<8>> [[9]]");
    }

    #[test]
    fn data_cannot_steer_the_terminal() {
        assert_eq!(visible("a\nb\x1b[2J\u{202e}é\t"), "a\nb\\u{1b}[2J\\u{202e}é\\t");
    }

    #[test]
    fn totals_are_sums() {
        let mut thinking = Example::from_tokens(&[1, 2, 3, 4], 1);
        thinking.soft[1] = true;
        thinking.answer_from = Some(3);
        let totals = Totals::of(&scan(vec![Example::from_tokens(&[1, 2], 0), thinking]));
        let expected = Totals { tokens: 6, scored: 4, soft: 1, answer: 1, longest: (4, 2) };
        assert_eq!(totals, expected);
    }
}
