//! What a stored draw takes, and the tokens it was made of.

use burn::tensor::{Int, Tensor};

use super::draw::{Action, Draw};

impl Draw {
    /// The tokens that row `row` drew, in their order; none where no token was drawn.
    ///
    /// # Panics
    /// If there is no such row.
    #[must_use]
    pub fn drawn_tokens(&self, row: usize) -> Vec<u32> {
        let (Action::Tokens(tokens) | Action::Hybrid { tokens, .. }) = &self.action else {
            return Vec::new();
        };
        let own = tokens.clone().narrow(0, row, 1);
        own.to_data().iter::<i64>().map(|id| id as u32).collect()
    }

    /// Bytes of everything that is stored.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let kept = self.kept.as_ref().map_or(0, |kept| ints(&kept.ids) + floats(&kept.mask));
        kept + match &self.action {
            Action::Tokens(tokens) => ints(tokens),
            Action::Hybrid { tokens, weights } => ints(tokens) + floats(weights),
            Action::Scores { log_probs, noise, .. } => floats(log_probs) + floats(noise),
            Action::Vectors { mean, noise, .. } => floats(mean) + floats(noise),
            Action::Shares { log_probs, log_shares, .. } => floats(log_probs) + floats(log_shares),
        }
    }
}

fn floats(x: &Tensor<2>) -> usize {
    x.dims().iter().product::<usize>() * x.dtype().size()
}

fn ints(x: &Tensor<2, Int>) -> usize {
    x.dims().iter().product::<usize>() * x.dtype().size()
}
