//! Training data: files of examples, and the order in which examples are seen.

mod ids;
mod lines;
mod sampler;

pub use ids::{BadLine, Limits, Scan, read_ids, scan_ids};
pub(crate) use lines::{Lines, MAX_LINE_BYTES};
pub(crate) use sampler::shuffle_seeded;
pub use sampler::{Sampler, permutation};
