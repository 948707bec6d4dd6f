//! Numbers of a training step as Burn's Learner hands them to the dashboard.

use std::sync::Arc;

use burn::tensor::TensorReadError;
use burn::train::metric::state::{FormatOptions, NumericMetricState};
use burn::train::metric::{
    Adaptor, Metric, MetricAttributes, MetricMetadata, MetricName, Numeric, NumericAttributes,
    NumericEntry, SerializedEntry,
};

use crate::learner::{StepItem, metric_name};

/// One value of a [`StepItem`], plotted under its name.
#[derive(Clone)]
pub(crate) struct ScalarMetric {
    name: &'static str,
    higher_is_better: bool,
    state: NumericMetricState,
    /// Whether the last item had a value.
    fresh: bool,
}

impl ScalarMetric {
    /// The value of that name.
    pub(crate) fn new(name: &'static str) -> Self {
        let higher_is_better = name == metric_name::ACCURACY;
        Self { name, higher_is_better, state: NumericMetricState::default(), fresh: false }
    }

    fn format(&self) -> FormatOptions {
        FormatOptions::new(self.name()).precision(4)
    }
}

impl Metric for ScalarMetric {
    type Input = StepItem;

    fn name(&self) -> MetricName {
        Arc::new(self.name.to_owned())
    }

    fn attributes(&self) -> MetricAttributes {
        NumericAttributes { unit: None, higher_is_better: self.higher_is_better }.into()
    }

    fn update(
        &mut self,
        item: &StepItem,
        _: &MetricMetadata,
    ) -> Result<SerializedEntry, TensorReadError> {
        let value = item.values.iter().find(|(name, _)| *name == self.name);
        self.fresh = value.is_some();
        if let Some((_, value)) = value {
            self.state.update(*value, 1);
        }
        Ok(self.state.compute_update(self.format()))
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        Ok(self.state.compute_final(self.format()))
    }

    fn clear(&mut self) {
        self.state.reset();
    }
}

impl Numeric for ScalarMetric {
    fn value(&self) -> Option<NumericEntry> {
        self.fresh.then(|| self.state.current_value())
    }

    fn running_value(&self) -> Option<NumericEntry> {
        Some(self.state.running_value())
    }

    fn final_value(&self) -> NumericEntry {
        self.state.final_value()
    }
}

impl Adaptor<StepItem> for StepItem {
    fn adapt(&self) -> StepItem {
        self.clone()
    }
}
