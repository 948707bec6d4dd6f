//! Settings of the pipeline that are learned with the model, and the bounds they keep.

use burn::module::{Module, Param};
use burn::tensor::activation::log_sigmoid;
use burn::tensor::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::{Error, Feed, Noise, PipelineConfig, Transform, float_tensor, host_values};

/// Under it, scores divided by the temperature overflow f32.
pub(crate) const LEAST_TEMPERATURE: f64 = 1e-30;

/// Which settings are learned, the bounds they keep, and how soft the edges of the filters are.
///
/// A bound keeps what is learned away from greedy decoding, which a temperature near 0, a single
/// token kept and a relative probability near 1 all are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LearnableConfig {
    /// Learns the temperature, `T = least_temperature + softplus(theta)`.
    pub temperature: bool,
    /// Learns the number of tokens kept, `k = least_top_k + softplus(theta)`: a real number.
    pub top_k: bool,
    /// Learns the relative probability kept, `m = most_min_p * sigmoid(theta)`.
    pub min_p: bool,
    /// Floor of the temperature, 0 or more.
    pub least_temperature: f64,
    /// Floor of the number of tokens kept, 1 or more.
    pub least_top_k: f64,
    /// Ceiling of the relative probability kept, over 0 and at most 1.
    pub most_min_p: f64,
    /// `tau_k`: width of the edge of a learned top-k, in ranks.
    pub top_k_softness: f64,
    /// `tau_m`: width of the edge of a learned min-p, in nats.
    pub min_p_softness: f64,
}

impl Default for LearnableConfig {
    fn default() -> Self {
        Self {
            temperature: false,
            top_k: false,
            min_p: false,
            least_temperature: 0.1,
            least_top_k: 1.0,
            most_min_p: 1.0,
            top_k_softness: 0.5,
            min_p_softness: 0.5,
        }
    }
}

/// One number for each setting that is learned, none for the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LearnedValues {
    /// Of the temperature.
    pub temperature: Option<f64>,
    /// Of the number of tokens kept.
    pub top_k: Option<f64>,
    /// Of the relative probability kept.
    pub min_p: Option<f64>,
}

/// The learnable settings as parameters; a [`SoftPipeline`](crate::SoftPipeline) takes them in the
/// place of its own.
///
/// With p the tempered probabilities, rank 1 the likeliest token and s the logistic function, the
/// weights are `w = p s((k + 1/2 - rank) / tau_k) s((log p - log max p - log m) / tau_m)`, divided
/// by their sum. As the softness goes to 0 they become those of the filters of the same numbers.
///
/// # Gradient
/// To every parameter and to the scores; not through the ranks.
#[derive(Module, Debug)]
pub struct LearnableFilters {
    temperature: Option<Param<Tensor<1>>>,
    top_k: Option<Param<Tensor<1>>>,
    min_p: Option<Param<Tensor<1>>>,
    #[module(skip)]
    config: LearnableConfig,
}

impl LearnableConfig {
    /// Whether nothing is learned.
    pub fn is_off(&self) -> bool {
        !(self.temperature || self.top_k || self.min_p)
    }

    /// Parameters that start at the values of `pipeline`.
    ///
    /// # Errors
    /// A number out of range, a start that is not inside its bound, or a pipeline in which there is
    /// nothing to learn: see [`LearnableConfig::check`].
    pub fn init(
        &self,
        pipeline: &PipelineConfig,
        device: &Device,
        dtype: DType,
    ) -> Result<LearnableFilters, Error> {
        self.check(pipeline)?;
        let starts = LearnedValues {
            temperature: Some(softplus_inverse(pipeline.temperature - self.least_temperature)),
            top_k: Some(softplus_inverse(pipeline.top_k as f64 - self.least_top_k)),
            min_p: Some({
                let share = pipeline.min_p / self.most_min_p;
                share.ln() - (1.0 - share).ln()
            }),
        };
        Ok(self.with_thetas(&starts, device, dtype))
    }

    /// Parameters of these values of theta; those of settings that are not learned are not read,
    /// and one that is learned and not named is 0.
    pub fn with_thetas(
        &self,
        thetas: &LearnedValues,
        device: &Device,
        dtype: DType,
    ) -> LearnableFilters {
        let param = |learned: bool, theta: Option<f64>| {
            learned.then(|| {
                let theta = float_tensor(vec![theta.unwrap_or(0.0)], [1], device, dtype);
                Param::from_tensor(theta)
            })
        };
        LearnableFilters {
            temperature: param(self.temperature, thetas.temperature),
            top_k: param(self.top_k, thetas.top_k),
            min_p: param(self.min_p, thetas.min_p),
            config: *self,
        }
    }

    /// Checks the bounds, and that a gradient can reach what is learned in such a pipeline.
    ///
    /// # Errors
    /// A number out of range; a start outside its bound; a stage that the order leaves out;
    /// temperature 0, draws without a gradient, or `top_p` beside a learned filter.
    pub fn check(&self, pipeline: &PipelineConfig) -> Result<(), Error> {
        let range = |ok: bool, name, found: f64, expected| match ok {
            true => Ok(()),
            false => Err(Error::OutOfRange { name, found: found.to_string(), expected }),
        };
        let least = |x: f64, least: f64| x >= least && x.is_finite();
        let (t, k, m) = (self.least_temperature, self.least_top_k, self.most_min_p);
        range(least(t, 0.0), "least_temperature", t, "a finite number of 0 or more")?;
        range(least(k, 1.0), "least_top_k", k, "a finite number of 1 or more")?;
        range(m > 0.0 && m <= 1.0, "most_min_p", m, "a number over 0 and at most 1")?;
        let soft = "a finite number of 1e-12 or more";
        range(least(self.top_k_softness, 1e-12), "top_k_softness", self.top_k_softness, soft)?;
        range(least(self.min_p_softness, 1e-12), "min_p_softness", self.min_p_softness, soft)?;
        if self.is_off() {
            return Ok(());
        }
        self.check_gradient(pipeline)?;
        let stages = [
            (self.temperature, Transform::Temperature),
            (self.top_k, Transform::TopK),
            (self.min_p, Transform::MinP),
        ];
        for (learned, stage) in stages {
            if learned && !pipeline.order.contains(&stage) {
                return Err(Error::MissingTransform { name: stage.name() });
            }
        }
        let (temperature, top_k) = (pipeline.temperature, pipeline.top_k as f64);
        let start = |ok: bool, name, found: f64, bound: String| match ok {
            true => Ok(()),
            false => Err(Error::StartOutOfBounds { name, found: found.to_string(), bound }),
        };
        start(
            !self.temperature || temperature > t,
            "temperature",
            temperature,
            format!("over {t}"),
        )?;
        start(!self.top_k || top_k > k, "top_k", top_k, format!("over {k}"))?;
        let min_p = pipeline.min_p;
        let inside = min_p > 0.0 && min_p < m;
        start(!self.min_p || inside, "min_p", min_p, format!("over 0 and under {m}"))
    }

    fn check_gradient(&self, pipeline: &PipelineConfig) -> Result<(), Error> {
        let why = if pipeline.temperature == 0.0 {
            "the temperature is 0, which feeds one token whatever the filters are"
        } else if matches!(pipeline.feed, Feed::Samples { .. }) {
            "what is fed are drawn tokens, which no gradient passes"
        } else if matches!(pipeline.noise, Noise::Dirichlet { .. }) {
            "what is fed is a Dirichlet draw, which no gradient passes"
        } else if pipeline.top_p < 1.0 && (self.top_k || self.min_p) {
            "top_p is on, which counts probabilities that a learned filter is still changing"
        } else {
            return Ok(());
        };
        Err(Error::NothingToLearn { why })
    }
}

impl LearnableFilters {
    /// Which settings are learned, and their bounds.
    pub fn config(&self) -> &LearnableConfig {
        &self.config
    }

    /// What is learned, inside its bounds. Waits for the device.
    pub fn values(&self) -> LearnedValues {
        let LearnedValues { temperature, top_k, min_p } = self.thetas();
        let c = &self.config;
        let temperature = temperature.map(|theta| c.least_temperature + softplus(theta));
        LearnedValues {
            temperature: temperature.map(|t| t.max(LEAST_TEMPERATURE)),
            top_k: top_k.map(|theta| c.least_top_k + softplus(theta)),
            min_p: min_p.map(|theta| c.most_min_p / (1.0 + (-theta).exp())),
        }
    }

    /// The parameters themselves. Waits for the device.
    pub fn thetas(&self) -> LearnedValues {
        let read = |param: &Option<Param<Tensor<1>>>| {
            param.as_ref().map(|param| host_values(param.val().inner())[0])
        };
        LearnedValues {
            temperature: read(&self.temperature),
            top_k: read(&self.top_k),
            min_p: read(&self.min_p),
        }
    }

    /// `T`, for scores like these: `[1, 1]`.
    pub(crate) fn temperature(&self, like: &Tensor<2>) -> Option<Tensor<2>> {
        let theta = at(self.temperature.as_ref()?, like);
        let temperature = -log_sigmoid(-theta) + self.config.least_temperature;
        Some(temperature.clamp_min(LEAST_TEMPERATURE))
    }

    /// `k`: `[1, 1]`.
    pub(crate) fn top_k(&self, like: &Tensor<2>) -> Option<Tensor<2>> {
        let theta = at(self.top_k.as_ref()?, like);
        Some(-log_sigmoid(-theta) + self.config.least_top_k)
    }

    /// `log m`: `[1, 1]`.
    pub(crate) fn log_min_p(&self, like: &Tensor<2>) -> Option<Tensor<2>> {
        let theta = at(self.min_p.as_ref()?, like);
        Some(log_sigmoid(theta) + self.config.most_min_p.ln())
    }
}

/// A parameter in the precision of `like`, and tracked only where that is on an autodiff device: a
/// pass without gradients must not begin a graph here.
fn at(param: &Param<Tensor<1>>, like: &Tensor<2>) -> Tensor<2> {
    let theta = param.val();
    let theta = if like.device().is_autodiff() { theta } else { theta.inner() };
    theta.cast(like.dtype()).reshape([1, 1])
}

/// `log(1 + e^x)`.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// The x whose softplus is `y`, for y over 0.
fn softplus_inverse(y: f64) -> f64 {
    y + (-(-y).exp_m1()).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softplus_is_undone_from_the_smallest_to_the_largest() {
        for y in [1e-12, 1e-3, 0.7, 5.0, 30.0, 1e4] {
            let x = softplus_inverse(y);
            assert!((softplus(x) - y).abs() < 1e-12 * y.max(1.0), "{y}: {x}, {}", softplus(x));
        }
    }
}
