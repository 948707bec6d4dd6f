//! Where what is added to a frozen base acts: everywhere, or only where the input is soft.

use burn::tensor::{Bool, Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::Transformer;

/// Where the low-rank branches, the prefix or the prompt of a model act.
///
/// With [`Active::Soft`] the additions are the signal of soft mode: a low-rank branch corrects
/// only the columns whose input is soft, and a learned prefix or prompt is seen by those columns
/// alone. Everything else is computed by the bare base, to the bit where no input of a pass is
/// soft. Tokens then stand at the positions that they have in the base; a prefix or prompt lies
/// before position 0, so that with rotary positions a soft column sees it from as far as it would
/// with [`Active::Always`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Active {
    /// At every position.
    #[default]
    Always,
    /// Where the input is soft: a mixture, or what else a thought feeds in the place of a token.
    Soft,
}

impl Active {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
    pub(crate) fn is_always(&self) -> bool {
        *self == Self::Always
    }

    pub(crate) fn in_words(self) -> &'static str {
        match self {
            Self::Always => "everywhere",
            Self::Soft => "where the input is soft",
        }
    }
}

/// What the cells of a pass are, `[row][column]` each.
#[derive(Debug, Clone, Copy)]
pub struct Cells<'a> {
    /// False where a column is padding in that row.
    pub real: &'a [Vec<bool>],
    /// True where the input is soft; none where all inputs are tokens.
    pub soft: Option<&'a [Vec<bool>]>,
}

impl<'a> Cells<'a> {
    /// Tokens everywhere.
    pub fn hard(real: &'a [Vec<bool>]) -> Self {
        Self { real, soft: None }
    }

    /// # Panics
    /// If there is not one flag a cell.
    pub(crate) fn check(&self, [batch, seq]: [usize; 2]) {
        let fits =
            |flags: &[Vec<bool>]| flags.len() == batch && flags.iter().all(|row| row.len() == seq);
        assert!(fits(self.real) && self.soft.is_none_or(fits), "one flag a column");
    }
}

/// The columns of a pass at which the additions act.
#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one a pass; boxing the tensor would only add a step"
)]
pub(crate) enum Reach {
    Everywhere,
    Nowhere,
    /// At those of the flags; `rows` are the same as `[batch * seq, 1]`.
    At {
        flags: Vec<Vec<bool>>,
        rows: Tensor<2, Bool>,
    },
}

impl Reach {
    /// Padding has no say: nothing reads its output.
    pub(crate) fn of(active: Active, cells: Cells<'_>, device: &Device) -> Self {
        let (Active::Soft, Some(soft)) = (active, cells.soft) else {
            return if active == Active::Soft { Self::Nowhere } else { Self::Everywhere };
        };
        let real = cells.real.iter().flatten().zip(soft.iter().flatten());
        let flags: Vec<bool> = real.filter(|(real, _)| **real).map(|(_, soft)| *soft).collect();
        match (flags.contains(&true), flags.contains(&false)) {
            (false, _) => Self::Nowhere,
            (true, false) => Self::Everywhere,
            (true, true) => {
                let all: Vec<bool> = soft.iter().flatten().copied().collect();
                let shape = [all.len(), 1];
                let rows = Tensor::from_bool(TensorData::new(all, shape), device);
                Self::At { flags: soft.to_vec(), rows }
            }
        }
    }
}

impl Transformer {
    /// Where the additions act.
    pub fn active(&self) -> Active {
        self.active
    }

    /// The model with additions that act there: those that it has, and those that it will get.
    #[must_use]
    pub fn with_active(mut self, active: Active) -> Self {
        self.active = active;
        self
    }

    /// Positions of the context that a learned prefix or prompt takes from the tokens: none where
    /// it is seen in soft mode alone.
    pub fn taken_positions(&self) -> usize {
        match self.active {
            Active::Always => self.prefix_len(),
            Active::Soft => 0,
        }
    }
}
