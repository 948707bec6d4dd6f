//! Training data: files of examples, and the order in which examples are seen.

mod chat;
mod draft;
mod fill;
mod ids;
mod lines;
mod object;
#[cfg(feature = "parquet")]
mod parquet;
mod reader;
mod record;
mod sampler;
mod scan;
mod text;

pub use fill::Fill;
pub(crate) use lines::{Lines, MAX_LINE_BYTES};
pub use reader::{Reader, read_ids, scan_ids};
pub use sampler::{Sampler, permutation};
pub(crate) use sampler::{below, shuffle_seeded};
pub use scan::{BadLine, Limits, Scan};
pub use text::TextEncoder;
