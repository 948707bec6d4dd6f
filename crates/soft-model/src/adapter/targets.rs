//! Which projections get a low-rank branch: by name, all of them, or by a pattern of their paths.

use regex::Regex;

use super::{Projection, TARGETS};
use crate::Error;
use crate::config::ModelConfig;

/// A selection of projections, as PEFT's `target_modules` has it.
///
/// Each entry is the end of a module path (`q_proj`, `self_attn.q_proj`,
/// `model.layers.3.mlp.up_proj`), `all-linear`, or a regular expression that matches a whole path
/// of Hugging Face (`model.layers.0.self_attn.q_proj`; GPT-2's paths are
/// `transformer.h.0.attn.q_proj` with the names of [`TARGETS`]). Expressions run in linear time.
#[derive(Debug, Clone)]
pub struct Targets(Vec<Target>);

#[derive(Debug, Clone)]
enum Target {
    All,
    End(String),
    Pattern { text: String, whole: Regex },
}

impl Target {
    fn parse(entry: &str) -> Result<Self, Error> {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "_.".contains(letter);
        if entry == "all-linear" {
            return Ok(Self::All);
        }
        if !entry.is_empty() && entry.chars().all(plain) {
            let last = entry.rsplit('.').next().unwrap_or(entry);
            return match Projection::from_name(last) {
                Some(_) => Ok(Self::End(entry.to_owned())),
                None => Err(unknown(entry)),
            };
        }
        Self::pattern(entry)
    }

    fn pattern(entry: &str) -> Result<Self, Error> {
        let whole = Regex::new(&format!("^(?:{entry})$")).map_err(|error| {
            let problem = match error {
                regex::Error::Syntax(text) => {
                    text.lines().last().unwrap_or("does not parse").replace("error: ", "")
                }
                other => other.to_string(),
            };
            Error::Settings(format!(
                "target {entry:?} is no regular expression that is read here: {problem}"
            ))
        })?;
        Ok(Self::Pattern { text: entry.to_owned(), whole })
    }

    fn names(&self, path: &str) -> bool {
        match self {
            Self::All => true,
            Self::End(end) => {
                path.strip_suffix(end.as_str()).is_some_and(|r| r.is_empty() || r.ends_with('.'))
            }
            Self::Pattern { whole, .. } => whole.is_match(path),
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::All => "all-linear",
            Self::End(end) => end,
            Self::Pattern { text, .. } => text,
        }
    }
}

fn unknown(entry: &str) -> Error {
    Error::Settings(format!(
        "no projection {entry:?} to attach a low-rank branch to: expected one of {}, \
         \"all-linear\", or a regular expression of module paths",
        TARGETS.join(", ")
    ))
}

impl Targets {
    /// Reads a list of entries.
    ///
    /// # Errors
    /// An empty list, a name that no model has, an expression that does not parse.
    pub fn parse(entries: &[String]) -> Result<Self, Error> {
        if entries.is_empty() {
            let problem = "a low-rank branch needs a rank over 0 and at least one target";
            return Err(Error::Settings(problem.to_owned()));
        }
        entries.iter().map(|entry| Target::parse(entry)).collect::<Result<_, _>>().map(Self)
    }

    /// One regular expression of whole paths.
    pub(super) fn pattern(entry: &str) -> Result<Self, Error> {
        Ok(Self(vec![Target::pattern(entry)?]))
    }

    /// The layers and projections that are named, layer by layer and in the order of the entries.
    ///
    /// # Errors
    /// An entry that names no projection of this model.
    pub(crate) fn sites(&self, config: &ModelConfig) -> Result<Vec<(usize, Projection)>, Error> {
        let mut sites = Vec::new();
        let mut used = vec![false; self.0.len()];
        for layer in 0..config.n_layers {
            let mut taken = Vec::new();
            for (entry, used) in self.0.iter().zip(&mut used) {
                for projection in Projection::ALL {
                    if projection.widths(config).is_none()
                        || !entry.names(&projection.path(config.family, layer))
                    {
                        continue;
                    }
                    *used = true;
                    if !taken.contains(&projection) {
                        taken.push(projection);
                    }
                }
            }
            sites.extend(taken.into_iter().map(|projection| (layer, projection)));
        }
        match used.iter().position(|used| !used) {
            None => Ok(sites),
            Some(unused) => Err(Error::Settings(format!(
                "target {:?} names no projection of this model, whose paths are like {}",
                self.0[unused].text(),
                Projection::Query.path(config.family, 0)
            ))),
        }
    }

    /// Parameters of branches of this rank on a model: `rank (d_in + d_out)` for each matrix, and
    /// `d_out` more with a DoRA magnitude.
    ///
    /// # Errors
    /// An entry that names no projection of this model.
    pub fn parameters(
        &self,
        rank: usize,
        dora: bool,
        config: &ModelConfig,
    ) -> Result<usize, Error> {
        let of = |(_, projection): (usize, Projection)| {
            let [d_in, d_out] = projection.widths(config).unwrap_or_default();
            rank * (d_in + d_out) + usize::from(dora) * d_out
        };
        Ok(self.sites(config)?.into_iter().map(of).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::config;

    fn sites(entries: &[&str], family: crate::Family) -> Result<Vec<String>, String> {
        let entries: Vec<String> = entries.iter().map(|entry| (*entry).to_owned()).collect();
        let config = config(family);
        let found = Targets::parse(&entries).and_then(|targets| targets.sites(&config));
        let name =
            |(layer, projection): (usize, Projection)| format!("{layer}.{}", projection.name());
        found.map(|all| all.into_iter().map(name).collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn names_ends_patterns_and_all() {
        use crate::Family::{Gpt2, Llama};
        let of = |entries: &[&str]| sites(entries, Llama).unwrap();
        assert_eq!(of(&["v_proj", "q_proj"])[..2], ["0.v_proj", "0.q_proj"]);
        assert_eq!(of(&["q_proj"]).len(), 3);
        assert_eq!(of(&["self_attn.q_proj", "layers.1.mlp.up_proj"])[2], "1.up_proj");
        assert_eq!(of(&["model.layers.2.self_attn.k_proj"]), ["2.k_proj"]);
        assert_eq!(of(&[r".*\.[02]\.self_attn\.(q|k)_proj"]).len(), 4);
        // An end is a whole part of the path, a pattern is the whole path.
        assert!(sites(&["attn.q_proj"], Llama).unwrap_err().contains("names no projection"));
        assert!(sites(&["(q|k)_proj"], Llama).unwrap_err().contains("names no projection"));
        assert_eq!(of(&["all-linear"]).len(), 3 * 7);
        assert_eq!(sites(&["all-linear"], Gpt2).unwrap().len(), 3 * 6);
        assert_eq!(sites(&[r"transformer\.h\.1\..*_proj"], Gpt2).unwrap().len(), 6);
        assert_eq!(of(&["q_proj", "all-linear"]).len(), 3 * 7, "each once");
    }

    #[test]
    fn what_names_nothing_is_refused() {
        use crate::Family::{Gpt2, Llama};
        let refused = |entry: &str, family| sites(&[entry], family).unwrap_err();
        assert!(refused("c_attn", Gpt2).contains("expected one of q_proj"));
        assert!(refused("gate_proj", Gpt2).contains("names no projection of this model"));
        assert!(refused("(q_proj", Llama).contains("unclosed group"));
        assert!(refused("(?=q)q_proj", Llama).contains("look-around"));
        assert!(refused("layers.7.q_proj", Llama).contains("names no projection"));
    }

    /// T25: an expression that would take other engines exponential time.
    #[test]
    fn a_pattern_runs_in_linear_time() {
        let long = format!("({}b|.*q_proj)", "(a+)+".repeat(30));
        assert_eq!(sites(&[&long], crate::Family::Llama).unwrap().len(), 3);
        let huge = "(a{1000}){1000}".to_owned();
        assert!(sites(&[&huge], crate::Family::Llama).is_err(), "it would take 10 MB and more");
    }
}
