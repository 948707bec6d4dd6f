//! The tables there are.

mod mnns;
mod others;
mod rewards;

use super::table::Table;

/// All tables, in the order in which they are listed.
fn all() -> Vec<Table> {
    vec![
        mnns::main(),
        mnns::samples(),
        mnns::tuning(),
        others::multiplication(),
        others::prosqa(),
        others::prosqa_tuning(),
        rewards::rewards(),
    ]
}

/// Names of the tables.
#[must_use]
pub fn names() -> Vec<&'static str> {
    all().into_iter().map(|table| table.name).collect()
}

/// The table of a name.
#[must_use]
pub fn find(name: &str) -> Option<Table> {
    all().into_iter().find(|table| table.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Loader;
    use crate::reproduce::{Budget, Unit};

    #[test]
    fn every_cell_has_a_name_of_its_own_and_settings_that_can_be_trained() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for table in all() {
            let mut names: Vec<&str> = table.cells.iter().map(|cell| cell.name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), table.cells.len(), "{}", table.name);
            assert!(Loader::new().text(table.name, table.base).load().is_ok(), "{}", table.name);
            for budget in [Budget::Quick, Budget::Full] {
                for cell in &table.cells {
                    let unit = Unit { table: &table, cell, budget, seed: 1, revision: "" };
                    let resolved = unit.resolved(folder.path());
                    let resolved =
                        resolved.unwrap_or_else(|error| panic!("{}: {error}", cell.name));
                    resolved.require_training().expect("it trains");
                    assert_eq!(resolved.config.eval.arms, [cell.arm]);
                }
                assert!(table.name.ends_with("-tuning") || table.seeds(budget).len() >= 3);
            }
        }
    }
}
