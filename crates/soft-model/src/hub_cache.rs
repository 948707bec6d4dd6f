//! Models in the local cache of Hugging Face's libraries, by name. With the feature `hub`, what is
//! not there is downloaded into it, unless `HF_HUB_OFFLINE` is set; without it nothing is.
//!
//! Layout: `models--ORG--NAME/refs/main` holds the name of a revision, whose files lie in
//! `models--ORG--NAME/snapshots/REVISION`, mostly as links into `models--ORG--NAME/blobs`. The
//! cache is `HF_HUB_CACHE`, else `hub` in `HF_HOME`, which is `huggingface` in `XDG_CACHE_HOME` or
//! `~/.cache` where it is not set. Source: the documentation of huggingface_hub, "Manage
//! huggingface_hub cache-system" and "Environment variables".

use std::borrow::Cow;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::capped_file::read_capped_text;

#[cfg(test)]
mod tests;

/// Longest file of `refs`: a hash has 40 bytes.
const MAX_REF_BYTES: u64 = 256;
/// Hugging Face's own limit of a model's name with its organisation.
const MAX_ID: usize = 96;

/// The path itself where there is something, or it is no name of a model; else the snapshot in
/// the cache, or the one GGUF file in it.
///
/// # Errors
/// [`Error::NotAModel`] for the name of a model that is neither here nor in the cache.
pub(crate) fn locate(path: &Path) -> Result<Cow<'_, Path>, Error> {
    let Some(id) = model_id(path) else { return Ok(Cow::Borrowed(path)) };
    if path.exists() {
        return Ok(Cow::Borrowed(path));
    }
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let cache = cache_folder(variable);
    #[cfg(feature = "hub")]
    if let (Some(cache), Some(hub)) = (&cache, crate::hub_download::Hub::from_environment(variable))
        && !is_whole(find(Some(cache), id).as_deref().ok())
    {
        hub.download(cache, id)?;
    }
    find(cache.as_deref(), id).map(Cow::Owned)
}

/// Whether a download came to its end: the file that makes a folder a model is its last.
#[cfg(feature = "hub")]
fn is_whole(found: Option<&Path>) -> bool {
    found.is_some_and(|path| path.is_file() || path.join("config.json").exists())
}

/// The path as `ORG/NAME`, where it can be one: a file name of a format is a path.
fn model_id(path: &Path) -> Option<&str> {
    const FILES: [&str; 6] = [".gguf", ".safetensors", ".json", ".bin", ".pt", ".pth"];
    let id = path.to_str()?;
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let part = |part: &str| {
        part.bytes().all(known)
            && part.bytes().any(|byte| byte != b'.')
            && !part.starts_with('.')
            && !part.contains("--")
    };
    let (organisation, name) = id.split_once('/')?;
    let file = FILES.iter().any(|end| name.to_ascii_lowercase().ends_with(end));
    (id.len() <= MAX_ID && part(organisation) && part(name) && !file).then_some(id)
}

/// Where the cache is, by the variables of an environment.
fn cache_folder(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if let Some(cache) = variable("HF_HUB_CACHE").or_else(|| variable("HUGGINGFACE_HUB_CACHE")) {
        return Some(cache.into());
    }
    let home = || variable("HOME").or_else(|| variable("USERPROFILE")).map(PathBuf::from);
    let base = match variable("HF_HOME") {
        Some(folder) => PathBuf::from(folder),
        None => match variable("XDG_CACHE_HOME") {
            Some(folder) => PathBuf::from(folder).join("huggingface"),
            None => home()?.join(".cache/huggingface"),
        },
    };
    Some(base.join("hub"))
}

/// The newest downloaded revision of a model.
fn find(cache: Option<&Path>, id: &str) -> Result<PathBuf, Error> {
    let asked = Path::new(id);
    let Some(cache) = cache else {
        let problem = "no such file or folder, and no Hugging Face cache to look in: none of \
                       HF_HUB_CACHE, HF_HOME and HOME is set";
        return Err(Error::not_a_model(asked, problem));
    };
    let model = cache.join(format!("models--{}", id.replace('/', "--")));
    if !model.is_dir() {
        let problem = format!(
            "no such file or folder, and no such model in the Hugging Face cache: looked for {}; \
             nothing is downloaded {}: run `hf download {id}`, or set HF_HUB_CACHE to the cache \
             that has it",
            model.display(),
            match cfg!(feature = "hub") {
                true => "where HF_HUB_OFFLINE is set",
                false => "by a build without the feature `hub`",
            }
        );
        return Err(Error::not_a_model(asked, problem));
    }
    let main = model.join("refs/main");
    if !main.is_file() {
        let problem = format!(
            "it is in the Hugging Face cache, but {} is not, which names the newest revision; {}",
            main.display(),
            revisions(&model.join("snapshots"))
        );
        return Err(Error::not_a_model(asked, problem));
    }
    let text = read_capped_text(&main, "revision", MAX_REF_BYTES)?;
    let revision = text.trim();
    if revision.is_empty() || !revision.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        let problem = format!("found {revision:?}, expected the hash of a revision");
        return Err(Error::format(&main, "revision", problem));
    }
    let snapshot = model.join("snapshots").join(revision);
    if !snapshot.is_dir() {
        let problem = format!(
            "{} names revision {revision}, of which {} has no files: run `hf download {id}`",
            main.display(),
            snapshot.display()
        );
        return Err(Error::not_a_model(asked, problem));
    }
    in_snapshot(asked, snapshot)
}

/// What can be given instead of a name.
fn revisions(snapshots: &Path) -> String {
    let names = names_in(snapshots, |_| true);
    match names.is_empty() {
        true => format!("{} is empty too: download the model anew", snapshots.display()),
        false => {
            format!("give the path of a revision in {}: {}", snapshots.display(), names.join(", "))
        }
    }
}

/// The snapshot, or its GGUF file where it has one and no `config.json`.
fn in_snapshot(asked: &Path, snapshot: PathBuf) -> Result<PathBuf, Error> {
    if snapshot.join("config.json").exists() {
        return Ok(snapshot);
    }
    let files = names_in(&snapshot, |name| name.ends_with(".gguf"));
    match &files[..] {
        [] => Ok(snapshot),
        [one] => Ok(snapshot.join(one)),
        several => {
            let problem = format!(
                "{} has several GGUF files; give the path of one: {}",
                snapshot.display(),
                several.join(", ")
            );
            Err(Error::not_a_model(asked, problem))
        }
    }
}

fn names_in(folder: &Path, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| wanted(name)).collect();
    names.sort();
    names
}
