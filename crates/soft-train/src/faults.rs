//! What a test lets go wrong in a training: nothing else can set it.

/// Faults of chosen steps, and a disk of a chosen size.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Faults {
    /// Steps, counted from 1, whose loss becomes NaN.
    pub nan_losses: Vec<usize>,
    /// Steps, counted from 1, in which the gradient of the last parameter becomes infinite.
    pub infinite_gradients: Vec<usize>,
    /// Bytes that are free on the disk of the run at the start and from each checkpoint on, in turn;
    /// the last one stays. Empty asks the system.
    pub free_bytes: Vec<u64>,
}
