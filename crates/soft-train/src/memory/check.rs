//! Whether the memory that a training needs is there.

use super::advice::savings;
use super::{Available, Estimate, Saving, Workload, estimate, megabytes};
use crate::config::{Config, MemoryCheck};
use crate::error::Error;

/// How far the estimate must be over what is available before a training is not even tried: it is
/// right to about 15 %, and other programs may end.
const CLEARLY: f64 = 1.25;

/// The estimate of a training beside what there is.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// What it needs.
    pub estimate: Estimate,
    /// Bytes that can be had; none where that is not known.
    pub available: Option<u64>,
    /// Settings under which it would need less, where it needs more than there is.
    pub savings: Vec<Saving>,
    mode: MemoryCheck,
    /// Whether the tensors lie in the memory that was looked at.
    on_host: bool,
}

/// What a check comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The estimate is within what is available.
    Fits,
    /// It is not known what is available.
    Unknown,
    /// The estimate is over it, by less than it may be wrong.
    Tight,
    /// The estimate is clearly over it.
    TooMuch,
}

impl Check {
    /// Of a training on a device whose tensors lie in host memory, or not.
    ///
    /// # Errors
    /// Settings that cannot be read.
    pub(crate) fn of(
        config: &Config,
        workload: &Workload,
        on_host: bool,
        available: Available,
    ) -> Result<Self, Error> {
        let estimate = estimate(config, workload)?;
        let available = available.bytes().filter(|_| on_host);
        let over = available.is_some_and(|available| estimate.bytes() > available);
        let savings = if over { savings(config, workload, &estimate) } else { Vec::new() };
        Ok(Self { estimate, available, savings, mode: config.run.memory_check, on_host })
    }

    /// The estimate against what is available.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let needed = self.estimate.bytes();
        match self.available {
            None => Verdict::Unknown,
            Some(available) if needed <= available => Verdict::Fits,
            Some(available) if needed as f64 <= CLEARLY * available as f64 => Verdict::Tight,
            Some(_) => Verdict::TooMuch,
        }
    }

    /// The table of the estimate, with what is available.
    #[must_use]
    pub fn table(&self) -> String {
        let available = match self.available {
            Some(bytes) => format!("{} MB are available", megabytes(bytes)),
            None if self.on_host => "how much is available is not known on this system".into(),
            None => "it is memory of the device, and how much that has is not known".into(),
        };
        self.estimate.table().replacen('\n', &format!("; {available}\n"), 1)
    }

    /// What a dry run says of a training that does not fit: an error where `run.memory_check` is
    /// "refuse", else a warning to be printed, if there is something to say.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn refuse_what_does_not_fit(&self) -> Result<Option<String>, Error> {
        let fits = matches!(self.verdict(), Verdict::Fits | Verdict::Unknown);
        self.outcome(!fits)
    }

    /// What a training says before it begins: an error where it clearly does not fit and
    /// `run.memory_check` is "refuse", else a warning to be printed, if there is something to say.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn refuse_what_clearly_does_not_fit(&self) -> Result<Option<String>, Error> {
        self.outcome(self.verdict() == Verdict::TooMuch)
    }

    fn outcome(&self, refused: bool) -> Result<Option<String>, Error> {
        let fits = matches!(self.verdict(), Verdict::Fits | Verdict::Unknown);
        match self.mode {
            MemoryCheck::Off => Ok(None),
            _ if fits => Ok(None),
            MemoryCheck::Refuse if refused => Err(Error::OutOfMemory { report: self.report() }),
            MemoryCheck::Refuse | MemoryCheck::Warn => Ok(Some(self.report())),
        }
    }

    fn report(&self) -> String {
        let needed = self.estimate.bytes();
        let available = megabytes(self.available.unwrap_or(0));
        let mut text = format!(
            "the training needs about {} MB of memory at its peak, and {available} MB are available",
            megabytes(needed)
        );
        if !self.savings.is_empty() {
            text.push_str("; what would save most:");
        }
        for Saving { settings, bytes } in &self.savings {
            text.push_str(&format!("\n  {settings}   saves {} MB", megabytes(*bytes)));
        }
        if self.mode == MemoryCheck::Refuse {
            text.push_str("\nrun.memory_check=warn tries it all the same");
        }
        text
    }
}
