//! From sources to one configuration: defaults < model < preset < `extends` < file < environment < `a.b=v` < flag.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::Config;
use super::choices::Preset;
use super::error::{ConfigError, Problem};
use super::fields::fields;
use super::layer::{Layer, MAX_BYTES};
use super::origin::Origin;

/// Files that extend one another, the first included.
const MAX_EXTENDS: usize = 16;

/// The sources of a configuration; [`Loader::load`] makes one of them.
///
/// Whatever the order of the calls, the precedence is: defaults, the model's own settings, the
/// preset that any source after it names (a model's own values are resolved already), the file that a file extends, the file, environment variables, overrides, flags. Among overrides
/// and among flags the later call wins. A list is replaced as a whole.
#[derive(Debug, Default)]
pub struct Loader {
    model: Option<String>,
    file: Option<FileSource>,
    environment: Vec<Layer>,
    overrides: Vec<Layer>,
    flags: Vec<Layer>,
}

#[derive(Debug)]
enum FileSource {
    Path(PathBuf),
    Text { name: String, text: String },
}

/// A configuration, and where each of its values came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// The configuration; it is valid.
    pub config: Config,
    /// Origin of each key that some source set; the others are defaults.
    pub origins: BTreeMap<String, Origin>,
}

impl Loader {
    /// No source but the defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The text of a model's own `soft_config.toml`, reported as "model".
    #[must_use]
    pub fn model(mut self, text: impl Into<String>) -> Self {
        self.model = Some(text.into());
        self
    }

    /// A configuration file, read by [`Loader::load`].
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some(FileSource::Path(path.into()));
        self
    }

    /// A configuration that is built in, in the place of a file. Its `extends` is relative to the working directory.
    #[must_use]
    pub fn text(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.file = Some(FileSource::Text { name: name.into(), text: text.into() });
        self
    }

    /// The value that an environment variable gives to a key.
    #[must_use]
    pub fn environment(mut self, variable: &str, key: &str, value: impl Into<Value>) -> Self {
        let origin = Origin::Environment(variable.to_owned());
        self.environment.push(Layer::from_value(key, value.into(), origin));
        self
    }

    /// Settings `a.b=v` of a command line.
    #[must_use]
    pub fn overrides<S: AsRef<str>>(mut self, settings: impl IntoIterator<Item = S>) -> Self {
        self.overrides.extend(settings.into_iter().map(|s| Layer::from_override(s.as_ref())));
        self
    }

    /// The value that a flag of a command line gives to a key.
    #[must_use]
    pub fn flag(mut self, flag: &str, key: &str, value: impl Into<Value>) -> Self {
        let origin = Origin::Flag(flag.to_owned());
        self.flags.push(Layer::from_value(key, value.into(), origin));
        self
    }

    /// One configuration of all sources.
    ///
    /// # Errors
    /// Everything that is wrong, at once: unreadable files, text that is not TOML, unknown keys,
    /// values of a wrong type or out of range, settings that contradict one another.
    pub fn load(self) -> Result<Resolved, ConfigError> {
        let mut layers = Vec::new();
        layers.extend(self.model.map(|text| Layer::from_text("model", &text)));
        let above_model = layers.len();
        match self.file {
            Some(FileSource::Path(path)) => layers.extend(read_chain(&path)),
            Some(FileSource::Text { name, text }) => {
                layers.extend(extend(Layer::from_text(&name, &text), Path::new(""), &mut vec![]));
            }
            None => {}
        }
        layers.extend(self.environment);
        layers.extend(self.overrides);
        layers.extend(self.flags);
        let preset = preset_of(&layers[above_model..]);
        layers.splice(above_model..above_model, preset);
        assemble(layers)
    }
}

/// The values of the preset that the last of the layers names.
fn preset_of(layers: &[Layer]) -> Option<Layer> {
    let settings = || layers.iter().rev().flat_map(|layer| layer.settings.iter().rev());
    let named = settings().find(|setting| setting.key == "soft.preset")?;
    let preset = Preset::ALL.iter().find(|preset| named.value.as_str() == Some(preset.as_str()))?;
    Some(Layer::from_text(&format!("preset {preset}"), preset.toml()))
}

/// The layers of a file and of those it extends, the furthest first.
fn read_chain(path: &Path) -> Vec<Layer> {
    let name = path.display().to_string();
    match read_capped(path) {
        Ok(text) => {
            let folder = path.parent().unwrap_or(Path::new("")).to_owned();
            extend(Layer::from_text(&name, &text), &folder, &mut vec![identity(path)])
        }
        Err(error) => vec![unreadable(Origin::WholeFile(name), path, &error)],
    }
}

/// `layer` after the layers that it extends. `seen` holds the files on the way here.
fn extend(mut layer: Layer, folder: &Path, seen: &mut Vec<PathBuf>) -> Vec<Layer> {
    let Some((base, origin)) = layer.extends.take() else {
        return vec![layer];
    };
    let path = folder.join(&base);
    let complain = |layer: &mut Layer, message: String| {
        layer.problems.push(Problem::new(origin.clone(), "extends", message));
    };
    if seen.contains(&identity(&path)) {
        complain(
            &mut layer,
            format!("`extends` leads back to `{}`; expected no cycle", path.display()),
        );
        return vec![layer];
    }
    if seen.len() >= MAX_EXTENDS {
        complain(&mut layer, format!("`extends` goes through more than {MAX_EXTENDS} files"));
        return vec![layer];
    }
    match read_capped(&path) {
        Ok(text) => {
            seen.push(identity(&path));
            let base_layer = Layer::from_text(&path.display().to_string(), &text);
            let base_folder = path.parent().unwrap_or(Path::new("")).to_owned();
            let mut layers = extend(base_layer, &base_folder, seen);
            layers.push(layer);
            layers
        }
        Err(error) => vec![unreadable(origin, &path, &error), layer],
    }
}

/// The text of a file, of which no more is read than shows that it is too long: it may be a device
/// that never ends.
fn read_capped(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_BYTES {
        // Perhaps cut within a character; it is refused for its length.
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn identity(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn unreadable(origin: Origin, path: &Path, error: &io::Error) -> Layer {
    let reason = match error.kind() {
        io::ErrorKind::NotFound => "no such file".to_owned(),
        io::ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
        _ => error.to_string(),
    };
    let message = match origin {
        Origin::WholeFile(_) => format!("cannot read the configuration: {reason}"),
        _ => format!("cannot read `{}`: {reason}", path.display()),
    };
    Layer { problems: vec![Problem::at(origin, message)], ..Layer::default() }
}

/// Lays the layers over the defaults, the last on top.
fn assemble(layers: Vec<Layer>) -> Result<Resolved, ConfigError> {
    let mut table = Table::new();
    let mut origins = BTreeMap::new();
    let mut problems = Vec::new();
    for layer in layers {
        for setting in layer.settings {
            set(&mut table, &setting.key, setting.value);
            origins.insert(setting.key, setting.origin);
        }
        problems.extend(layer.problems);
    }
    let config = Config::deserialize_from(table).map_err(|error| {
        problems.push(Problem::at(Origin::Default, error.message().to_owned()));
    });
    let Ok(config) = config else {
        return Err(ConfigError { problems });
    };
    let broken: Vec<_> = problems.iter().filter_map(|p| p.key.clone()).collect();
    let place = |key: &str| origins.get(key).cloned().unwrap_or_default();
    problems.extend(super::validate::contradictions(&config, &broken, &place));
    ConfigError::check(problems)?;
    Ok(Resolved { config, origins })
}

fn set(table: &mut Table, key: &str, value: Value) {
    let (section, leaf) = key.split_once('.').unwrap_or(("", key));
    let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(section) = section {
        section.insert(leaf.to_owned(), value);
    }
}

impl Resolved {
    /// Where the value of a key came from.
    #[must_use]
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or_default()
    }

    /// Where each value came from that some source set, in words.
    #[must_use]
    pub fn origins_in_words(&self) -> BTreeMap<&str, String> {
        self.origins.iter().map(|(key, origin)| (key.as_str(), origin.to_string())).collect()
    }

    /// The configuration as TOML, each value with a comment that says where it came from.
    /// With `all` false only the values that some source set.
    #[must_use]
    pub fn with_origins(&self, all: bool) -> String {
        let table = self.config.to_table();
        let mut out = String::new();
        for (section, body) in &table {
            let lines: Vec<_> = body
                .as_table()
                .into_iter()
                .flatten()
                .map(|(leaf, value)| (format!("{section}.{leaf}"), format!("{leaf} = {value}")))
                .filter(|(key, _)| all || self.origins.contains_key(key))
                .map(|(key, line)| format!("{line:<40} # {}\n", self.origin(&key)))
                .collect();
            if !lines.is_empty() {
                let gap = if out.is_empty() { "" } else { "\n" };
                out.push_str(&format!("{gap}[{section}]\n{}", lines.concat()));
            }
        }
        out
    }
}

/// The names of all keys, for completion and documentation.
pub fn keys() -> impl Iterator<Item = &'static str> {
    fields().keys.keys().map(String::as_str)
}
