//! Writing model folders, whole or not at all.

use std::fs;
use std::path::Path;

use crate::model_files::SOFT_CONFIG;
use crate::weights::save_safetensors;
use crate::{Error, ModelFiles, Transformer};

/// Makes a new folder by filling another beside it, which is then renamed: it appears whole.
///
/// # Errors
/// A path that exists already, what `fill` fails with, and a folder that cannot be written.
pub fn write_folder(
    out: &Path,
    fill: impl FnOnce(&Path) -> Result<(), Error>,
) -> Result<(), Error> {
    if out.symlink_metadata().is_ok() {
        let there = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
        return Err(Error::io(out, there));
    }
    let name = out.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let parent = match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let temp = parent.join(format!(".tmp-{}-{name}", std::process::id()));
    fs::create_dir_all(&temp).map_err(|source| Error::io(&temp, source))?;
    let outcome = fill(&temp).and_then(|()| fs::rename(&temp, out).map_err(|e| Error::io(out, e)));
    if outcome.is_err() {
        // What could not be finished is of no use; the first error is the one to tell.
        let _ = fs::remove_dir_all(&temp);
    }
    outcome
}

impl ModelFiles {
    /// Writes a model into a folder in Hugging Face layout, in f32, with the tokenizer, the chat
    /// template and the settings for generation of these files.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save_model(&self, model: &Transformer, folder: &Path) -> Result<(), Error> {
        let mut config = model.config().clone();
        // There is no `generation_config.json`: every token that ends a generation is named here.
        config.eos_ids = self.generation.eos_ids.clone();
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            fs::write(&path, text).map_err(|source| Error::io(&path, source))
        };
        write("config.json", format!("{:#}\n", config.to_hf()))?;
        save_safetensors(&folder.join("model.safetensors"), &model.named_tensors())?;
        if let Some(tokenizer) = &self.tokenizer {
            tokenizer.save(folder)?;
        }
        match &self.soft {
            Some(text) => write(SOFT_CONFIG, text.clone()),
            None => Ok(()),
        }
    }
}
