//! What the dashboard knows: everything that was told, and what is looked at.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::news::{Activity, Begun, News, Speed};
use super::sample::Sample;
use super::series::{Series, Smoothed};
use crate::control::Control;
use crate::learner::metric_name;

/// Samples kept.
const SAMPLES: usize = 64;
/// How long a message stays in sight.
const IN_SIGHT: Duration = Duration::from_secs(12);

/// A page of the dashboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Page {
    Loss,
    Throughput,
    Soft,
    Samples,
}

impl Page {
    pub(super) const ALL: [Self; 4] = [Self::Loss, Self::Throughput, Self::Soft, Self::Samples];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Loss => "Loss",
            Self::Throughput => "Throughput",
            Self::Soft => "Soft",
            Self::Samples => "Samples",
        }
    }
}

/// What lies over the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Popup {
    Help,
    /// Asks whether the run is to stop.
    Stop,
}

/// A figure over the steps.
#[derive(Debug, Clone, Default)]
pub(super) struct Figure {
    pub(super) name: String,
    pub(super) raw: Series,
    pub(super) smoothed: Smoothed,
    pub(super) held_out: Series,
    /// Whether it was ever another number than 0: what is off stays out of sight.
    pub(super) matters: bool,
}

impl Figure {
    /// Whether it is what a schedule says, with nothing to be smoothed.
    pub(super) fn is_exact(&self) -> bool {
        [metric_name::LEARNING_RATE, metric_name::GUIDANCE, metric_name::ENTROPY_BETA]
            .contains(&self.name.as_str())
    }

    /// The value to be read: smoothed, where that says more.
    pub(super) fn value(&self) -> Option<f64> {
        if self.is_exact() { self.raw.latest() } else { self.smoothed.series.latest() }
    }
}

/// Speed over the steps.
#[derive(Debug, Clone, Default)]
pub(super) struct Speeds {
    pub(super) latest: Option<Speed>,
    pub(super) seconds: Series,
    pub(super) smoothed_seconds: Smoothed,
    pub(super) rate: Smoothed,
    pub(super) peak: Series,
    pub(super) scored: Smoothed,
}

#[derive(Debug)]
pub(super) struct Board {
    pub(super) name: String,
    pub(super) control: Control,
    pub(super) begun: Begun,
    /// When the training of the arm began.
    pub(super) since: Instant,
    /// Steps done.
    pub(super) done: usize,
    pub(super) activity: Activity,
    pub(super) figures: Vec<Figure>,
    /// Steps of this session whose gradient was longer than the clip, and all of them.
    pub(super) clipped: (usize, usize),
    pub(super) speeds: Speeds,
    /// Those of the newest step first.
    pub(super) samples: VecDeque<Sample>,
    messages: Vec<String>,
    notice: Option<(String, Instant)>,

    pub(super) page: Page,
    pub(super) popup: Option<Popup>,
    /// The figure on the large chart.
    pub(super) chosen: usize,
    /// The sample on the page about thoughts, 0 the newest.
    pub(super) sample: usize,
    /// First line in sight, of thoughts and of samples.
    pub(super) first_thought: usize,
    pub(super) first_line: usize,
}

impl Board {
    pub(super) fn new(name: &str, control: Control) -> Self {
        Self {
            name: name.to_owned(),
            control,
            begun: Begun::default(),
            since: Instant::now(),
            done: 0,
            activity: Activity::Starting,
            figures: Vec::new(),
            clipped: (0, 0),
            speeds: Speeds::default(),
            samples: VecDeque::new(),
            messages: Vec::new(),
            notice: None,
            page: Page::Loss,
            popup: None,
            chosen: 0,
            sample: 0,
            first_thought: 0,
            first_line: 0,
        }
    }

    pub(super) fn take(&mut self, news: News, now: Instant) {
        match news {
            News::Begun(begun) => {
                (self.done, self.since) = (begun.done, now);
                self.begun = begun;
                self.activity = Activity::Starting;
                (self.figures, self.speeds, self.clipped) = (Vec::new(), Speeds::default(), (0, 0));
                self.samples.clear();
                (self.sample, self.first_thought, self.first_line) = (0, 0, 0);
            }
            News::Figures { step, train, held_out } => self.figures(step, &train, &held_out),
            News::Speed(speed) => self.speed(speed),
            News::Doing(activity) => self.activity = activity,
            News::Sample(sample) => {
                // Newest step first, and in it one after the other.
                let same = self.samples.iter().take_while(|other| other.step == sample.step);
                let at = same.count();
                // Whoever reads an older one goes on reading it.
                if self.sample > 0 && self.sample >= at {
                    self.sample += 1;
                }
                self.samples.insert(at, *sample);
                self.samples.truncate(SAMPLES);
                self.sample = self.sample.min(self.samples.len() - 1);
            }
            News::Message(message) => {
                self.notice = Some((message.clone(), now));
                self.messages.push(message);
            }
            News::Close => {}
        }
    }

    fn figures(&mut self, step: usize, train: &[(String, f64)], held_out: &[(String, f64)]) {
        self.done = self.done.max(step);
        for (name, value) in train {
            let figure = self.figure_named(name);
            figure.matters |= *value != 0.0;
            figure.raw.push(step, *value);
            figure.smoothed.push(step, *value);
            if name == metric_name::GRAD_NORM {
                let over = self.begun.clip > 0.0 && *value > self.begun.clip;
                self.clipped = (self.clipped.0 + usize::from(over), self.clipped.1 + 1);
            }
        }
        for (name, value) in held_out {
            let figure = self.figure_named(name);
            figure.matters = true;
            figure.held_out.push(step, *value);
        }
    }

    fn figure_named(&mut self, name: &str) -> &mut Figure {
        let at = self.figures.iter().position(|figure| figure.name == name);
        let at = at.unwrap_or_else(|| {
            self.figures.push(Figure { name: name.to_owned(), ..Figure::default() });
            self.figures.len() - 1
        });
        &mut self.figures[at]
    }

    /// The figures that are to be seen.
    pub(super) fn shown(&self) -> impl Iterator<Item = &Figure> {
        self.figures.iter().filter(|figure| figure.matters)
    }

    pub(super) fn figure(&self, name: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.name == name)
    }

    fn speed(&mut self, speed: Speed) {
        let speeds = &mut self.speeds;
        speeds.seconds.push(speed.step, speed.seconds);
        speeds.smoothed_seconds.push(speed.step, speed.seconds);
        let before = speeds.latest.map(|latest| latest.tokens);
        let tokens = before.map(|before| speed.tokens.saturating_sub(before));
        // The first step of a session knows no step before it.
        if let (Some(tokens), true) = (tokens, speed.seconds > 0.0) {
            speeds.rate.push(speed.step, tokens as f64 / speed.seconds);
        }
        speeds.scored.push(speed.step, speed.scored);
        if let Some(peak) = speed.peak {
            speeds.peak.push(speed.step, peak as f64);
        }
        speeds.latest = Some(speed);
        self.done = self.done.max(speed.step);
    }

    /// What was said, in order.
    pub(super) fn into_messages(self) -> Vec<String> {
        self.messages
    }

    /// The newest message, while it is new.
    pub(super) fn notice(&self, now: Instant) -> Option<&str> {
        let (message, since) = self.notice.as_ref()?;
        (now.saturating_duration_since(*since) < IN_SIGHT).then_some(message)
    }

    /// What the run does, and what it was asked for.
    pub(super) fn state(&self) -> String {
        let doing = self.activity.as_str();
        if self.control.stop_requested() {
            return match self.activity {
                Activity::Training => "stopping after this step".to_owned(),
                _ => format!("{doing}, then stopping"),
            };
        }
        match (self.control.save_requested(), self.control.sample_requested()) {
            (true, _) => format!("{doing}, then saving"),
            (_, true) => format!("{doing}, then sampling"),
            _ => doing.to_owned(),
        }
    }

    pub(super) fn turn_page(&mut self, by: isize) {
        let at = Page::ALL.iter().position(|&page| page == self.page).unwrap_or(0);
        self.page = Page::ALL[moved(at, by, Page::ALL.len(), true)];
    }

    /// Another figure, or another sample.
    pub(super) fn choose(&mut self, by: isize) {
        match self.page {
            Page::Loss => self.chosen = moved(self.chosen, by, self.shown().count(), true),
            Page::Soft => {
                self.sample = moved(self.sample, by, self.samples.len(), false);
                self.first_thought = 0;
            }
            Page::Throughput | Page::Samples => {}
        }
    }

    /// Other lines; on the page of figures another figure.
    pub(super) fn scroll(&mut self, by: isize) {
        match self.page {
            Page::Loss => self.choose(by),
            Page::Soft => self.first_thought = self.first_thought.saturating_add_signed(by),
            Page::Samples => self.first_line = self.first_line.saturating_add_signed(by),
            Page::Throughput => {}
        }
    }
}

/// A place in a list of `count`, `by` places on.
fn moved(at: usize, by: isize, count: usize, around: bool) -> usize {
    if count == 0 {
        return 0;
    }
    let (to, count) = (at as isize + by, count as isize);
    (if around { to.rem_euclid(count) } else { to.clamp(0, count - 1) }) as usize
}
