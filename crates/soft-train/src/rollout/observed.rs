//! What is watched of the inputs that a rollout feeds.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use burn::tensor::Tensor;
use soft_core::Distribution;
use soft_model::{Transformer, nearest_tokens};

use crate::batch::Place;

/// Sums over the soft inputs of one micro-batch, as fed last: a place is fed once a pass.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct FedInputs {
    /// Soft inputs whose truth the clamp had to lift.
    pub clamped: f64,
    /// Soft inputs that the geometry was taken of.
    pub located: f64,
    /// Sum of their norms.
    pub norm: f64,
    /// Sum of their distances to the nearest token's embedding.
    pub distance: f64,
    /// Soft inputs whose filters are learned, where those were compared with hard ones.
    pub compared: f64,
    /// Sum of the weight that hard filters would move there.
    pub gap: f64,
}

/// Collects while a rollout runs; what is seen of a place again takes the place of what was seen.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    clamped: RefCell<BTreeMap<(usize, usize), bool>>,
    gaps: RefCell<BTreeMap<(usize, usize), f64>>,
    /// Mixtures in the order they were made, a row a place; looked at once, at the end.
    mixtures: RefCell<Vec<(Vec<Place>, Tensor<2>)>>,
}

impl Observed {
    /// Whether each place's distribution had less truth than its share asks for.
    pub(crate) fn clamp(
        &self,
        places: &[Place],
        probs: &Distribution,
        truth: &Distribution,
        shares: &[f64],
    ) {
        let acts = soft_core::clamp_acts(probs, truth, shares);
        let entries = places.iter().map(|place| (place.row, place.position)).zip(acts);
        self.clamped.borrow_mut().extend(entries);
    }

    /// How much weight hard filters would move at each place.
    ///
    /// # Shapes
    /// - gaps: `[places]`
    pub(crate) fn gap(&self, places: &[Place], gaps: Tensor<1>) {
        let gaps = soft_core::host_values(gaps);
        let entries = places.iter().map(|place| (place.row, place.position)).zip(gaps);
        self.gaps.borrow_mut().extend(entries);
    }

    /// Mixtures to be located.
    ///
    /// # Shapes
    /// - mixtures: `[places, d_model]`
    pub(crate) fn mixed(&self, places: &[Place], mixtures: &Tensor<2>) {
        let mixtures = mixtures.clone().detach();
        self.mixtures.borrow_mut().push((places.to_vec(), mixtures));
    }

    /// The sums; the embedding is taken only where mixtures are to be located.
    pub(crate) fn sums(&self, model: &Transformer) -> FedInputs {
        let clamped = self.clamped.borrow().values().filter(|&&acts| acts).count() as f64;
        let gaps = self.gaps.borrow();
        let (compared, gap) = (gaps.len() as f64, gaps.values().sum());
        let mut sums = FedInputs { clamped, compared, gap, ..FedInputs::default() };
        let mixtures = self.mixtures.borrow();
        if mixtures.is_empty() {
            return sums;
        }
        let rows = mixtures.iter().map(|(_, rows)| rows.clone()).collect();
        let places = mixtures.iter().flat_map(|(places, _)| places);
        let found = nearest_tokens(&Tensor::cat(rows, 0), &model.embedding().detach());
        let mut seen = BTreeSet::new();
        let latest: Vec<_> = places.zip(found).collect();
        for (place, at) in latest.into_iter().rev() {
            if seen.insert((place.row, place.position)) {
                sums.located += 1.0;
                sums.norm += at.norm;
                sums.distance += at.distance;
            }
        }
        sums
    }
}
