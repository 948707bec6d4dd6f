//! The page, its tables and its picture.

use soft_core::Estimator::{Exact, Gumbel, RaoBlackwell, StraightThrough};

use super::chart::{Dot, svg};
use super::figures::{Figures, Length};
use super::problem::Goal;
use super::ways::Way;
use super::{Findings, GROUP};
use crate::bench::Spread;
use crate::study::table;

const TOKEN: &str = "score, token";
const MIXTURE: &str = "exact through the mixture";

/// One row an estimator, on one problem.
pub fn table_of(findings: &Findings) -> String {
    let head = [
        "estimator",
        "goal that it has",
        "bias against the hard goal",
        "bias against its own goal",
        "variance",
        "cosine, step of 4",
        "cosine of the mean",
    ];
    let rows: Vec<Vec<String>> = findings
        .found
        .iter()
        .map(|finding| {
            let figures = &finding.figures;
            vec![
                finding.way.to_string(),
                finding.way.goal().to_string(),
                interval(figures.hard_bias),
                interval(figures.own_bias),
                short(figures.variance),
                format!("{:.3}", figures.group_cosine),
                format!("{:.3}", figures.mean_cosine),
            ]
        })
        .collect();
    table(&head, &rows)
}

fn interval(length: Length) -> String {
    let [value, low, high] = [length.value, length.low, length.high].map(short);
    if low == high { value } else { format!("{value} ({low} to {high})") }
}

/// Two figures or so.
fn short(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value if value >= 0.01 || value == 0.0 => format!("{value:.2}"),
        value if value >= 0.001 => format!("{value:.3}"),
        _ => "0.00".to_owned(),
    }
}

/// One estimator over all problems.
struct Row {
    way: Way,
    figures: Vec<Figures>,
}

impl Row {
    fn all(all: &[Findings]) -> Vec<Self> {
        let figures = |place: usize| all.iter().map(|of| of.found[place].figures).collect();
        let first = all.first().map_or(&[][..], |findings| &findings.found);
        first
            .iter()
            .enumerate()
            .map(|(place, finding)| Self { way: finding.way, figures: figures(place) })
            .collect()
    }

    fn over(&self, of: impl Fn(&Figures) -> f64) -> Spread {
        Spread::of(&self.figures.iter().map(of).collect::<Vec<_>>())
    }

    /// Whether it misses the gradient of the hard goal on any problem; not what is known to be
    /// unbiased, of whose intervals one in forty misses 0 from above.
    fn is_seen_biased(&self) -> bool {
        let is_of_hard_goal = self.way.goal() == Goal::Samples { count: 1 };
        let is_known = self.way.is_unbiased() && is_of_hard_goal;
        !is_known && self.over(|figures| figures.hard_bias.low).max > 0.0
    }

    /// Trajectories a step from which on drawn tokens are nearer the truth, on each problem.
    fn overtaken(&self, token: &Row) -> String {
        if !self.is_seen_biased() {
            return "–".to_owned();
        }
        let at = |(figures, token): (&Figures, &Figures)| {
            figures.overtaken_at(token.variance).ceil().max(GROUP as f64)
        };
        let rows: Vec<f64> = self.figures.iter().zip(&token.figures).map(at).collect();
        let Spread { median, min, max } = Spread::of(&rows);
        format!("{median:.0} ({min:.0} to {max:.0})")
    }
}

fn range(spread: Spread) -> String {
    let [median, least, most] = [spread.median, spread.min, spread.max].map(short);
    if least == most { median } else { format!("{median} ({least} to {most})") }
}

/// The row of an estimator by its name.
fn named<'a>(rows: &'a [Row], name: &str) -> &'a Row {
    rows.iter().find(|row| row.way.to_string() == name).unwrap_or_else(|| panic!("no {name:?}"))
}

fn summary(rows: &[Row]) -> String {
    let head = [
        "estimator",
        "bias against the hard goal",
        "bias against its own goal, at most",
        "variance",
        "cosine, step of 4",
        "drawn tokens are nearer beyond",
    ];
    let token = named(rows, TOKEN);
    let line = |row: &Row| {
        vec![
            row.way.to_string(),
            range(row.over(|figures| figures.hard_bias.value)),
            match row.way.is_unbiased() {
                true if !row.way.draws() => "0".to_owned(),
                true => format!("0 (seen: under {})", short(row.over(|f| f.own_bias.high).max)),
                false => short(row.over(|figures| figures.own_bias.value).max),
            },
            range(row.over(|figures| figures.variance)),
            range(row.over(|figures| figures.group_cosine)),
            row.overtaken(token),
        ]
    };
    table(&head, &rows.iter().map(line).collect::<Vec<_>>())
}

/// Bias against variance, one dot an estimator, at the medians over all problems.
pub fn picture(all: &[Findings]) -> String {
    let dots: Vec<Dot> = Row::all(all)
        .iter()
        .map(|row| {
            let bias = row.over(|figures| figures.hard_bias.value).median;
            Dot {
                name: row.way.to_string(),
                group: group(row.way),
                bias: (row.is_seen_biased() && bias > 0.0).then_some(bias),
                variance: row.way.draws().then(|| row.over(|figures| figures.variance).median),
            }
        })
        .collect();
    let groups = ["nothing drawn", "through a drawn mixture", "hard, through a mixture", "score"];
    svg("bias against variance of gradient estimators", &dots, &groups)
}

fn group(way: Way) -> usize {
    match way {
        Way::Through(Exact) => 0,
        Way::Through(Gumbel { .. }) => 1,
        Way::StraightThrough | Way::Through(StraightThrough { .. } | RaoBlackwell { .. }) => 2,
        Way::Score { .. } => 3,
    }
}

/// The page.
pub fn page(all: &[Findings]) -> String {
    let rows = Row::all(all);
    let (mut models, mut full) = (Vec::new(), String::new());
    for findings in all {
        let facts = &findings.facts;
        models.push(vec![
            format!("{}, seed {}", kind(findings.factor), findings.seed),
            format!("{:.2}", facts.hard_loss),
            format!("{:.2}", facts.mixture_loss),
            format!("{:.2}", facts.deviation),
            format!("{:.2}", facts.entropy),
        ]);
        if findings.seed == 1 {
            full += &format!("\n### {}, seed 1\n\n{}", kind(findings.factor), table_of(findings));
        }
    }
    let head = ["model", "hard loss", "loss of mixtures", "deviation over trajectories", "entropy"];
    let models = table(&head, &models);
    format!(
        "# Estimators of the gradient through thoughts\n\n{}\n{}\n{}\n## All models\n\n{}\n{}\n\
         ## The models\n\n{models}\n## Two of them in full\n{full}",
        meaning(&rows),
        HOW,
        IMAGE,
        summary(&rows),
        details(&rows),
    )
}

fn kind(factor: f64) -> String {
    format!("weights times {factor}")
}

/// A paragraph in lines of at most 118 characters.
fn wrapped(text: &str, indent: &str) -> String {
    let (mut lines, mut line) = (String::new(), String::new());
    for word in text.split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > 118 {
            lines += &format!("{line}\n");
            line = format!("{indent}{word}");
        } else {
            line += if line.is_empty() { "" } else { " " };
            line += word;
        }
    }
    lines + &line + "\n"
}

fn meaning(rows: &[Row]) -> String {
    let (token, mixture) = (named(rows, TOKEN), named(rows, MIXTURE));
    let through = named(rows, "straight-through");
    let text = format!(
        "Only the score function on drawn tokens (REINFORCE) follows the gradient of hard decoding \
         without bias. It pays in variance: {variance} times the squared length of that gradient \
         for one trajectory, with a leave-one-out baseline. The gradient through the mixture is \
         the cheapest there is, one trajectory and no variance at all, but it is the exact \
         gradient of another goal: it misses that of hard decoding by {bias} of its length, at a \
         cosine of {cosine}, and a step over more than {overtaken} trajectories of drawn tokens is \
         nearer. Straight-through estimators have a bias of {through} and on most models less \
         variance than the score. A policy over soft thoughts (several tokens, Gumbel, \
         Gaussian) is unbiased for the thoughts that it feeds itself, and for no others. So soft \
         thoughts do not give a better gradient of the same thing: they give a gradient without \
         noise of another thing. That is worth having where the model is decoded with the same \
         soft thoughts. Who trains through mixtures and decodes tokens follows a gradient that can \
         point elsewhere. (Medians over {models} models, with the least and the greatest in brackets.)",
        variance = range(token.over(|figures| figures.variance)),
        bias = range(mixture.over(|figures| figures.hard_bias.value)),
        cosine = range(mixture.over(|figures| figures.goal_cosine)),
        overtaken = mixture.overtaken(token),
        models = token.figures.len(),
        through = range(through.over(|figures| figures.hard_bias.value)),
    );
    wrapped(&text, "")
}

const HOW: &str = "    cargo xtask bench estimators -- --write     # this page and the picture, about 3 minutes
    cargo xtask bench estimators -- --quick     # that it runs

The problem: a Llama of 2 layers (d_model 8, vocabulary 8, 1,384 numbers, f64) reads a question of two tokens,
thinks two thoughts and is scored by the cross-entropy of one answer. There are 64 trajectories of hard thoughts, so
the gradient of their mean loss in all parameters is computed by enumeration, and so it is where a thought is the
mean of 2 or 3 tokens (1,296 and 14,400 trajectories). The gradients of the continuous goals are means over noise
that no estimator sees. Tests hold each kind against finite differences.

- **Bias**: `||E g - t|| / ||t||`, t the gradient of the goal named, from the mean over pairs of different blocks, so
  that chance adds nothing; in the tables of one model with the interval of 95 %. *Hard goal*: the mean loss over
  drawn tokens. *Own goal*: the mean loss over what the estimator itself feeds.
- **Variance**: `tr Cov(g) / ||t||^2` for one trajectory, t that of the hard goal. A step over n has an n-th of it.
- **Cosine**: with the gradient of the hard goal; of a step over 4 trajectories on average, and of the mean of all.
- **Drawn tokens are nearer beyond**: the trajectories in a step beyond which the mean squared error to the gradient
  of the hard goal, `bias^2 + variance / n`, is larger than that of the score function on tokens; 4, the smallest
  step, is always.

*Score* is `grad L + (L - b) grad log pi` with b the mean loss of the other 3 of a group of 4; sigma of *Gaussian* is
relative to the root mean square of the embedding; *Rao-Blackwell* averages over 10 draws of noise. Whatever goes
through a mixture (all but *score*) needs the backward pass through the whole recurrence; a policy's stored thoughts
are scored in one parallel pass.
";

const IMAGE: &str = "![Bias against variance of every estimator](estimators.svg)

Medians over the models; the bias is that against the hard goal.
";

fn details(rows: &[Row]) -> String {
    let variance = |name: &str| range(named(rows, name).over(|figures| figures.variance));
    let bias = |name: &str| range(named(rows, name).over(|figures| figures.hard_bias.value));
    let points = [
        format!(
            "- **The baseline** costs nothing and takes the variance on tokens from {} to {}.",
            variance("score, token, no baseline"),
            variance(TOKEN),
        ),
        format!(
            "- **Noise on the log-probabilities**: at temperature 0.1 a Gumbel policy is nearly \
             hard decoding (bias {}), but its score is that of all 8 perturbed numbers in place of \
             one token: variance {}. Through the relaxation, of the same goal, the variance is {} \
             at 0.1 and {} at 1, against {} at 1 by the score: the path is better where the \
             temperature is high, the score where it is low.",
            bias("score, Gumbel 0.1"),
            variance("score, Gumbel 0.1"),
            variance("Gumbel-softmax 0.1"),
            variance("Gumbel-softmax 1"),
            variance("score, Gumbel 1"),
        ),
        format!(
            "- **Several tokens**: the mean of 2 is biased by {}, of 3 by {}; both have about the \
             variance of one token.",
            bias("score, 2 tokens"),
            bias("score, 3 tokens"),
        ),
        format!(
            "- **Gaussian noise** keeps the goal of the mixture where sigma is small (bias {} at \
             0.1, the mixture {}) and pays the variance of a score for it ({}), though the gradient \
             through the mixture has none.",
            bias("score, Gaussian 0.1"),
            bias(MIXTURE),
            variance("score, Gaussian 0.1"),
        ),
        format!(
            "- **Rao-Blackwell** has the bias of the straight-through Gumbel estimator of its \
             temperature and less variance: {} in place of {} at 0.5.",
            variance("Rao-Blackwell 0.5"),
            variance("straight-through Gumbel 0.5"),
        ),
    ];
    let limits = "Limits: fresh models with one question each, two thoughts, eight tokens. What longer \
                  chains and training do to the figures is not measured here.";
    let points: String = points.iter().map(|point| wrapped(point, "  ")).collect();
    format!("{points}\n{}", wrapped(limits, ""))
}

#[cfg(test)]
mod tests {
    use super::super::{Counts, measure};
    use super::*;

    #[test]
    fn a_page_has_every_estimator_in_its_tables_and_in_the_picture() {
        let all = [measure(1, 25.0, Counts { blocks: 3, groups: 1 })];
        let (page, picture) = (page(&all), picture(&all));
        for finding in &all[0].found {
            let name = finding.way.to_string();
            assert!(page.matches(&format!("| {name} |")).count() == 2, "{name}");
            assert!(picture.contains(&format!(">{name}</text>")), "{name}");
        }
        assert!(!page.contains("NaN") && !page.contains("inf "), "{page}");
    }

    #[test]
    fn figures_are_short() {
        let found = [0.0, 0.004, 0.034, 12.34, 1270.4].map(short);
        assert_eq!(found, ["0.00", "0.004", "0.03", "12.3", "1270"]);
    }
}
