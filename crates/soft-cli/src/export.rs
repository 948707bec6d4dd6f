//! `soft export`: a checkpoint for other programs.

use soft_model::{ModelFiles, write_folder};

use crate::arguments::{Export, Global};
use crate::failure::Failure;
use crate::generate::load;
use crate::merge::{check_new, merged, told, written};
use crate::output::Output;
use crate::settings::{Without, loader};

/// Runs the verb.
pub(crate) fn run(arguments: &Export, global: &Global) -> Result<(), Failure> {
    let Export { format, checkpoint, out, base } = arguments;
    if base.is_some() && format != "peft" {
        return Err(Failure::usage("--base names the base of an adapter; expected it with `peft`"));
    }
    check_new(out)?;
    let resolved = loader(None, global, Without::Defaults).load()?;
    let files = ModelFiles::open(checkpoint)?;
    let model = load(&files, &resolved)?;
    let mut output = Output::new();
    if format == "peft" {
        if base.is_some() {
            output.line(format!(
                "note: an adapter holds no embeddings. Its base must have the {} of the checkpoint; \
                 rows trained for new tokens are in the checkpoint alone",
                model.config().vocab_size
            ))?;
        }
        // A checkpoint has its base's weights in Hugging Face layout: PEFT can load it from there.
        let base = base.clone().unwrap_or_else(|| checkpoint.display().to_string());
        write_folder(out, |folder| model.save_peft(folder, &base)).map_err(written)?;
        output.line(format!("adapter over {base}: {}", out.display()))?;
        return output.flush();
    }
    let model = match files.added_parameters() {
        0 => model,
        _ => {
            let (merged, difference) = merged(&files, model)?;
            output.line(told(&difference))?;
            merged
        }
    };
    write_folder(out, |folder| files.save_model(&model, folder)).map_err(written)?;
    output.line(format!("model: {}", out.display()))?;
    output.flush()
}
