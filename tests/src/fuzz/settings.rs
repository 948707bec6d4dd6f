//! Configurations of runs.

use soft_train::config::{ConfigError, Loader, Resolved};

use super::{bounded, must, told};

/// A configuration file: what loads is written out, with and without the places its values came
/// from, and loads again as the same configuration.
pub fn config_toml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    check(bounded(data, || Loader::new().text("config.toml", text).load()));
}

/// Settings `a.b=v`, one a line: the laws of [`config_toml`], and settings that are given twice are
/// given once.
pub fn overrides(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let load =
        |times: usize| Loader::new().overrides(vec![text; times].iter().flat_map(|t| t.lines()));
    let Some(resolved) = check(bounded(data, || load(1).load())) else { return };
    let twice = load(2).load().expect("each was good once");
    assert_eq!(twice.config.to_toml(), resolved.config.to_toml());
}

fn check(loaded: Result<Resolved, ConfigError>) -> Option<Resolved> {
    let resolved = told(loaded)?;
    let text = resolved.config.to_toml();
    for written in [text.clone(), resolved.with_origins(true)] {
        let again = Loader::new().text("written.toml", written).load();
        let again = must("what is written loads", again);
        assert_eq!(again.config.to_toml(), text, "what is written is what was loaded");
        assert_eq!(again.config.config_hash(), resolved.config.config_hash());
    }
    Some(resolved)
}
