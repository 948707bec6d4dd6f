//! Which unit runs when: as many at once as there are cores, each in a process of its own, so that
//! a killed table goes on where it was and one unit's threads are not another's.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::table::{Budget, Table};
use super::unit::{Unit, UnitResult};
use crate::error::Error;

/// How often the processes are looked at.
const PAUSE: Duration = Duration::from_millis(50);

/// How a table is run.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    /// The table.
    pub table: &'a Table,
    /// Its budget.
    pub budget: Budget,
    /// The revision of the source, for the record.
    pub revision: String,
    /// Where the trainings lie.
    pub dir: PathBuf,
    /// Processes at once.
    pub workers: usize,
    /// No unit begins after this time; those that run are finished.
    pub limit: Option<Duration>,
}

/// The word that makes the program a worker: `--unit TABLE BUDGET CELL SEED REVISION DIR` follow.
const WORKER: &str = "--unit";

impl Plan<'_> {
    /// All units: every cell with its first seed before any has its second.
    #[must_use]
    pub fn units(&self) -> Vec<Unit<'_>> {
        let seeds = self.table.seeds(self.budget).iter();
        let (table, budget, revision) = (self.table, self.budget, &*self.revision);
        seeds
            .flat_map(|&seed| {
                table.cells.iter().map(move |cell| Unit { table, cell, budget, seed, revision })
            })
            .collect()
    }

    fn spawn(&self, unit: &Unit<'_>) -> Result<Child, Error> {
        let failed = |error: std::io::Error| Error::Runtime {
            what: format!("a worker of {} does not start: {error}", unit.name()),
        };
        let program = std::env::current_exe().map_err(failed)?;
        let log = std::fs::File::create(self.dir.join(format!("{}.log", unit.name())));
        let log = log.map_err(failed)?;
        Command::new(program)
            .args([WORKER, self.table.name, self.budget.as_str(), unit.cell.name])
            .args([&unit.seed.to_string(), unit.revision])
            .arg(&self.dir)
            .env("RAYON_NUM_THREADS", "1")
            // Its end tells the worker that nobody waits for it any more.
            .stdin(Stdio::piped())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .spawn()
            .map_err(failed)
    }
}

/// Units that run; whatever ends the table ends them too.
#[derive(Default)]
struct Running<'a>(Vec<(&'a Unit<'a>, Child)>);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        for (_, child) in &mut self.0 {
            // One that has ended already cannot be killed, and need not be.
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// Runs what is not there yet, and gives all results that are there then, in the order of the
/// units. `tell` gets a line for each unit that is done.
///
/// # Errors
/// The first unit that fails, with where its output lies; the others that run are ended.
pub fn run(plan: &Plan<'_>, tell: &mut dyn FnMut(String)) -> Result<Vec<UnitResult>, Error> {
    std::fs::create_dir_all(&plan.dir).map_err(Error::disk(&plan.dir))?;
    let units = plan.units();
    let began = Instant::now();
    let mut waiting: Vec<&Unit<'_>> =
        units.iter().filter(|unit| unit.finished(&plan.dir).is_none()).collect();
    let (total, mut done) = (units.len(), units.len() - waiting.len());
    waiting.reverse();
    let mut guard = Running::default();
    let running = &mut guard.0;
    loop {
        let over = plan.limit.is_some_and(|limit| began.elapsed() >= limit);
        while running.len() < plan.workers.max(1) && !over {
            // What a unit begins with has to be there.
            let is_ready =
                |unit: &&Unit<'_>| unit.needs().all(|own| own.finished(&plan.dir).is_some());
            let Some(next) = waiting.iter().rposition(is_ready) else { break };
            let unit = waiting.remove(next);
            running.push((unit, plan.spawn(unit)?));
        }
        if running.is_empty() {
            break;
        }
        sleep(PAUSE);
        let mut at = 0;
        while at < running.len() {
            let status = running[at].1.try_wait().map_err(|error| Error::Runtime {
                what: format!("a worker cannot be waited for: {error}"),
            })?;
            let Some(status) = status else {
                at += 1;
                continue;
            };
            let (unit, _) = running.remove(at);
            let result = unit.finished(&plan.dir).filter(|_| status.success());
            let Some(result) = result else {
                let log = plan.dir.join(format!("{}.log", unit.name()));
                return Err(Error::Runtime {
                    what: format!("{} ended with {status}: see {}", unit.name(), log.display()),
                });
            };
            done += 1;
            tell(format!(
                "{done:>3} of {total}  {:<28} {:>5.1} %  {:>6} steps in {:.0} s",
                unit.name(),
                100.0 * result.accuracy(),
                result.steps,
                result.seconds[0]
            ));
            std::io::stdout().flush().ok();
        }
    }
    Ok(units.iter().filter_map(|unit| unit.finished(&plan.dir)).collect())
}
