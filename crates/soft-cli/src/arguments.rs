//! The command line: verbs, flags and their help.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

const EXIT_CODES: &str = "\
Exit codes: 0 ok, 1 run-time error, 2 command line or configuration, 3 data or prompt, 4 model, \
checkpoint or tokenizer, 5 training diverged, 6 out of memory, 7 disk, 130 interrupted after a \
checkpoint.";

/// Trains and runs language models that think softly: each next input is the
/// probability-weighted mixture of the token embeddings.
#[derive(Debug, Parser)]
#[command(name = "soft", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Flags of every verb.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Device to run on, such as auto, flex, cuda (over SOFT_DEVICE and run.device)
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) device: Option<String>,
    /// Threads of the CPU backends [default: all]
    #[arg(long, global = true, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Train a model; without arguments, the quickstart
    Train(Train),
    /// Let a model continue prompts, softly or token by token
    Generate(Generate),
    /// Compare ways of thinking on questions, at equal forward tokens
    Eval(Eval),
    /// Log-probability of each token of a text
    Score(Score),
    /// Write a model as a Hugging Face folder in f32
    Convert(Convert),
    /// Look at data files
    Data(Data),
    /// Fold an adapter's low-rank branches into its model's weights
    Merge(Merge),
    /// Write a checkpoint for other programs: its adapter for PEFT, or one merged model
    Export(Export),
    /// Make a page, one HTML file, about a run directory or a trace
    Report(Report),
    /// Show, explain or describe configurations
    Config(Config),
    /// Say what this program can run on here, and what is missing
    Doctor(Doctor),
    /// Print a completion script for a shell
    Completions {
        /// Shell to complete in
        shell: Shell,
    },
    /// Write manual pages
    Man {
        /// Folder for `soft.1` and a page for each verb
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
    },
}

/// A configuration file and settings over it.
#[derive(Debug, Args)]
pub(crate) struct Source {
    /// Configuration file
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Settings over the file, such as train.lr=1e-4 (`soft config explain` lists the keys)
    #[arg(value_name = "a.b=v")]
    pub(crate) overrides: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Train {
    #[command(flatten)]
    pub(crate) source: Source,
    /// Check everything and say what would be trained; write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// One line a step, where a terminal would show the dashboard
    #[arg(long)]
    pub(crate) plain: bool,
    /// Continue: auto (the newest whole checkpoint of this run, if any), never, or a checkpoint
    #[arg(long, value_name = "auto|never|PATH", default_value = "never")]
    pub(crate) resume: String,
    /// Continue under changed settings or data too, and say what changed
    #[arg(long, requires = "resume")]
    pub(crate) resume_anyway: bool,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("input").required(true))]
pub(crate) struct Generate {
    /// Model: a GGUF file, a folder in Hugging Face layout, a checkpoint, or ORG/NAME in the
    /// Hugging Face cache [default: model.path]
    #[arg(long, value_name = "PATH|ORG/NAME")]
    pub(crate) model: Option<PathBuf>,
    /// Adapter over the model: a PEFT folder, or a checkpoint with low-rank branches or a prefix
    #[arg(long, value_name = "PATH")]
    pub(crate) adapter: Option<PathBuf>,
    /// Prompt, put through the chat template where the model has one
    #[arg(long, group = "input", value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) prompt: Option<String>,
    /// File of prompts: {"prompt": ".."} or plain text, one a line
    #[arg(long, group = "input", value_name = "FILE")]
    pub(crate) prompts: Option<PathBuf>,
    /// Prompt as token ids, used as they are
    #[arg(long, group = "input", value_name = "3,17,101", value_delimiter = ',')]
    pub(crate) prompt_ids: Option<Vec<u32>>,
    #[command(flatten)]
    pub(crate) source: Source,
    /// Print one JSON object a prompt, with every step
    #[arg(long)]
    pub(crate) json: bool,
    /// Write the objects of --json to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Eval {
    /// Model: a GGUF file, a folder in Hugging Face layout, a checkpoint, or ORG/NAME in the
    /// Hugging Face cache [default: model.path]
    #[arg(long, value_name = "PATH|ORG/NAME")]
    pub(crate) model: Option<PathBuf>,
    /// Adapter over the model: a PEFT folder, or a checkpoint with low-rank branches or a prefix
    #[arg(long, value_name = "PATH")]
    pub(crate) adapter: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) source: Source,
    /// Check everything and say what would be run; write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Continue: auto (where the evaluation of this name was stopped, if there is one), or never
    #[arg(long, value_name = "auto|never", default_value = "never", value_parser = ["auto", "never"])]
    pub(crate) resume: String,
    /// Print the outcome as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("input").required(true))]
pub(crate) struct Score {
    /// Model: a GGUF file, a folder in Hugging Face layout, a checkpoint, or ORG/NAME in the
    /// Hugging Face cache
    #[arg(long, value_name = "PATH|ORG/NAME")]
    pub(crate) model: PathBuf,
    /// Adapter over the model: a PEFT folder, or a checkpoint with low-rank branches or a prefix
    #[arg(long, value_name = "PATH")]
    pub(crate) adapter: Option<PathBuf>,
    /// Text to score, as it is
    #[arg(long, group = "input", value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) text: Option<String>,
    /// Token ids to score, as they are
    #[arg(long, group = "input", value_name = "3,17,101", value_delimiter = ',')]
    pub(crate) ids: Option<Vec<u32>>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Convert {
    /// Model: a GGUF file, a folder in Hugging Face layout, a checkpoint, or ORG/NAME in the
    /// Hugging Face cache
    #[arg(value_name = "IN")]
    pub(crate) input: PathBuf,
    /// New folder: config.json, tokenizer.json, model.safetensors
    #[arg(value_name = "OUT")]
    pub(crate) output: PathBuf,
    /// Largest file of tensors; a larger model is written in several
    #[arg(long, value_name = "SIZE", default_value = "5GB", value_parser = crate::convert::bytes)]
    pub(crate) max_shard_size: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Data {
    #[command(subcommand)]
    pub(crate) verb: DataVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DataVerb {
    /// Show what training would see of a file: tokens, masks, lengths, bad lines
    Check(DataCheck),
}

#[derive(Debug, Args)]
pub(crate) struct DataCheck {
    /// Data file; `soft config explain data.format` says what it may hold
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Model whose tokenizer and chat template are used [default: model.path]; token ids need none
    #[arg(long, value_name = "PATH")]
    pub(crate) model: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) source: Source,
    /// Examples to show
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) show: usize,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Merge {
    /// Base model: a GGUF file, a folder in Hugging Face layout, or a checkpoint
    #[arg(long, value_name = "PATH")]
    pub(crate) model: PathBuf,
    /// Adapter: a PEFT folder, or a checkpoint with low-rank branches [default: that of the model]
    #[arg(long, value_name = "PATH")]
    pub(crate) adapter: Option<PathBuf>,
    /// Folder to write, in Hugging Face layout, in f32
    #[arg(value_name = "OUT")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// peft: the adapter alone; hf: the whole model, low-rank branches merged
    #[arg(value_name = "peft|hf", value_parser = ["peft", "hf"])]
    pub(crate) format: String,
    /// Checkpoint to export
    #[arg(value_name = "CHECKPOINT")]
    pub(crate) checkpoint: PathBuf,
    /// Folder to write
    #[arg(value_name = "OUT")]
    pub(crate) out: PathBuf,
    /// Base model that the adapter will name, as PEFT finds it [default: the checkpoint]
    #[arg(long, value_name = "NAME")]
    pub(crate) base: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Report {
    /// Run directory, or a trace of `soft generate --trace`; several run directories of trainings
    /// make a page that sets them beside each other by time
    #[arg(value_name = "RUN_DIR|TRACE", required = true)]
    pub(crate) inputs: Vec<PathBuf>,
    /// Where the page goes [default: report.html in the run directory, or beside the trace;
    /// side-by-side.html beside the first of several runs]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// The time that several runs are set beside each other by
    #[arg(long, value_enum, default_value_t)]
    pub(crate) time: ReportTime,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum ReportTime {
    /// Seconds on the clock
    #[default]
    Wall,
    /// Seconds of all processors together
    Processor,
}

#[derive(Debug, Args)]
pub(crate) struct Config {
    #[command(subcommand)]
    pub(crate) verb: ConfigVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigVerb {
    /// Print what a file and settings make, and where each value came from
    Show {
        #[command(flatten)]
        source: Source,
        /// Print the defaults too
        #[arg(long)]
        resolved: bool,
        /// Print one JSON object: the values and their origins
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON schema of configuration files, for editors
    Schema,
    /// Say what a key or a section means and accepts; without one, list all
    Explain {
        /// Key, such as train.lr, or section, such as train
        key: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Run one device and report on it; used by the doctor itself, for a driver may crash
    #[arg(long, hide = true, value_name = "NAME")]
    pub(crate) probe: Option<String>,
}
