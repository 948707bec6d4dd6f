//! Laws of the configuration, and each of its messages as users see it.

mod guard;
mod laws;
mod learnable;
mod messages;
mod rl;
mod thoughts;

use super::{Config, ConfigError, Loader, Resolved};

/// Loads a text under the name `my.toml`.
fn load(text: &str) -> Result<Resolved, ConfigError> {
    Loader::new().text("my.toml", text).load()
}

fn message(text: &str) -> String {
    load(text).expect_err("the text is wrong").to_string()
}

fn override_message(setting: &str) -> String {
    Loader::new().overrides([setting]).load().expect_err("the setting is wrong").to_string()
}

fn config(text: &str) -> Config {
    load(text).expect("the text is right").config
}
