//! `cargo xtask reproduce`: tables of published figures beside our own, with learning curves,
//! seeds, intervals, and the controls that could prove an effect an illusion.
//!
//! ```text
//! table.rs     what a table is: its cells, their settings, their published figures
//! tables.rs    the tables there are
//! unit.rs      one cell with one seed: trained, measured, kept on disk
//! measure.rs   what is measured of a trained model    compute.rs  accuracy against forward tokens
//! schedule.rs  which unit runs when, each in a process of its own
//! attention.rs where the second layer looks in a graph
//! results.rs   all units of a table together: means and intervals
//! markdown.rs  the page of docs/results
//! ```

mod attention;
mod compute;
mod judge;
mod markdown;
mod measure;
mod results;
mod rewarded;
mod schedule;
mod table;
mod tables;
mod unit;

pub use attention::{EdgeAttention, EdgeKind};
pub use compute::ComputePoint;
pub(crate) use markdown::computed;
pub use markdown::markdown;
pub use measure::{Controlled, Heat, Measured, Sampled};
pub use results::{CellResults, ControlResult, Results, interval_of_mean, paired};
pub use rewarded::Rewarded;
pub use schedule::{Plan, run};
pub use table::{Budget, Cell, Kind, Place, Table};
pub use tables::{find, names};
pub use unit::{Unit, UnitResult};
