//! How Burn's metrics reach the dashboard, and where lines go.
//!
//! Without a dashboard the strategy prints its own lines, with full figures, and Burn stays quiet:
//! its renderer for pipes prints a debug structure for every batch and no metric.

use std::collections::HashMap;

use burn::train::LearnerSummary;
use burn::train::logger::{EvaluationProgressLogger, MetricLogger, TrainingProgressLogger};
use burn::train::metric::store::{EpochSummary, MetricsUpdate, Split};
use burn::train::metric::{MetricDefinition, MetricId, NumericEntry};
use burn::train::renderer::{
    EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation,
    MetricsRendererTraining,
};

use crate::dashboard::{self, News};

/// Hands each step's figures on to the dashboard, where one is up.
#[derive(Debug, Default)]
pub(crate) struct Relay {
    names: HashMap<MetricId, String>,
    train: Vec<(String, f64)>,
    held_out: Vec<(String, f64)>,
}

impl Relay {
    /// A figure of the step; what Burn sums up at the end of an epoch is none.
    fn figure(&self, state: MetricState) -> Option<(String, f64)> {
        let MetricState::Numeric(entry, Some(value)) = state else { return None };
        if matches!(value, NumericEntry::Final(_)) {
            return None;
        }
        Some((self.names.get(&entry.metric_id)?.clone(), value.current()))
    }
}

impl MetricsRendererTraining for Relay {
    fn update_train(&mut self, state: MetricState) {
        let figure = self.figure(state);
        self.train.extend(figure);
    }

    fn update_valid(&mut self, state: MetricState) {
        let figure = self.figure(state);
        self.held_out.extend(figure);
    }

    fn on_train_end(
        &mut self,
        _: Option<LearnerSummary>,
    ) -> Result<(), Box<dyn std::error::Error>> {
        Ok(())
    }
}

impl MetricsRendererEvaluation for Relay {
    fn update_test(&mut self, _: EvaluationName, _: MetricState) {}
}

impl MetricsRenderer for Relay {
    fn manual_close(&mut self) {}

    fn register_metric(&mut self, definition: MetricDefinition) {
        self.names.insert(definition.metric_id, definition.name.to_string());
    }
}

impl TrainingProgressLogger for Relay {
    fn start(&mut self, _: usize, _: usize, _: Option<usize>, _: Option<&str>) {}
    fn update_epoch(&mut self, _: usize) {}
    fn start_split(&mut self, _: &str, _: usize) {}

    /// Comes after the figures of the step, or after those on held-out data.
    fn update_split(&mut self, step: usize) {
        let train = std::mem::take(&mut self.train);
        let held_out = std::mem::take(&mut self.held_out);
        dashboard::tell(|| News::Figures { step, train, held_out });
    }

    fn end_split(&mut self) {}
    fn end(&mut self) {}
    fn log_event_training(&mut self, _: String) {}
}

impl EvaluationProgressLogger for Relay {
    fn start_global_progress(&mut self, _: usize) {}
    fn start_test(&mut self, _: &str, _: usize) {}
    fn update_test_progress(&mut self, _: usize) {}
    fn end_test(&mut self) {}
    fn end_global_progress(&mut self) {}
    fn log_event_evaluation(&mut self, _: String) {}
}

/// Stores nothing: `metrics.jsonl` has every step in full precision already.
#[derive(Debug, Default)]
pub(crate) struct NoLog;

impl MetricLogger for NoLog {
    fn log(&mut self, _: MetricsUpdate, _: usize, _: &Split) {}

    fn read_numeric(&mut self, _: &str, _: usize, _: &Split) -> Result<Vec<NumericEntry>, String> {
        Ok(Vec::new())
    }

    fn log_metric_definition(&mut self, _: MetricDefinition) {}
    fn log_epoch_summary(&mut self, _: EpochSummary) {}
}

/// Says something to whoever watches: on the dashboard, and once more when it closes, or as a line
/// on standard output. A reader that has gone away does not end the training.
pub(crate) fn say(line: std::fmt::Arguments<'_>) {
    use std::io::Write;
    if !dashboard::tell(|| News::Message(line.to_string())) {
        let _ = writeln!(std::io::stdout(), "{line}");
    }
}

/// A warning: on the dashboard as [`say`] does, or on standard error.
pub(crate) fn warn(what: &str) {
    use std::io::Write;
    if !dashboard::tell(|| News::Message(format!("warning: {what}"))) {
        let _ = writeln!(std::io::stderr(), "warning: {what}");
    }
}
