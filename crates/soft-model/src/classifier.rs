//! Sequence classifiers of Hugging Face: a decoder with a score in the place of its output head.

use std::fs;
use std::path::Path;

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor};
use serde_json::Value;
use soft_core::{at_least_f32, float_tensor, int_tensor};

use crate::config::ModelConfig;
use crate::hub_cache;
use crate::model_files::{check_tokenizer, no_tokenizer, optional_json};
use crate::prefill::prefill;
use crate::{Error, Tokenizer, Transformer, Weights, expected_tensors};

#[cfg(all(test, feature = "flex"))]
mod tests;

const SCORE: &str = "score.weight";
const SCORE_BIAS: &str = "score.bias";
/// How the names of the classes end that save such a folder.
const ARCHITECTURE: &str = "ForSequenceClassification";

/// A decoder that scores a whole sequence, such as a reward model.
///
/// ```text
/// logits = W h_last + b
/// ```
/// with `h_last [d_model]` the hidden state after the final norm at the last real position of a
/// row, `W [num_labels, d_model]` the tensor `score.weight` and `b` the tensor `score.bias`, where
/// there is one. With one label the logit is a reward.
///
/// Read from a folder that transformers' `LlamaForSequenceClassification`, or this class of another
/// [`crate::Family`], has saved. Its vocabulary is its own: a text that another model wrote is put
/// into ids again with [`Self::require_tokenizer`].
///
/// # Gradient
/// Its parameters are constants. On an autodiff device [`Self::logits_of_embeds`] is
/// differentiable with respect to the embeddings: with `probs [positions, vocab]` over its own
/// vocabulary, through `probs.matmul(classifier.embedding())` with respect to `probs`.
///
/// # Source
/// `GenericForSequenceClassification` and `GPT2ForSequenceClassification` of transformers 5.24.0
/// (<https://github.com/huggingface/transformers>, `src/transformers/modeling_layers.py`), which
/// have no bias. There embeddings are read at the last column, padding or not; here at the last
/// real one.
#[derive(Debug, Clone)]
pub struct SequenceClassifier {
    backbone: Transformer,
    /// `[d_model, num_labels]`, of at least f32.
    score: Tensor<2>,
    /// `[1, num_labels]`, of at least f32.
    bias: Option<Tensor<2>>,
    tokenizer: Option<Tokenizer>,
    tokenizer_note: Option<String>,
}

/// Everything that the folder of a classifier holds, opened and checked against each other; no weight is
/// read yet.
#[derive(Debug)]
pub struct ClassifierFiles {
    /// The shape of the decoder. `tied_embeddings` is set: there is no output head.
    pub config: ModelConfig,
    /// Number of logits of a row.
    pub num_labels: usize,
    /// The tokenizer, where there is one that is supported.
    pub tokenizer: Option<Tokenizer>,
    weights: Weights,
    tokenizer_note: Option<String>,
}

impl ClassifierFiles {
    /// Opens a Hugging Face folder of safetensors; a path `ORG/NAME` where there is nothing means
    /// that model in the local Hugging Face cache, as in [`crate::ModelFiles::open`].
    ///
    /// # Errors
    /// A file in the place of a folder, a language model or another architecture, missing,
    /// unexpected and mis-shaped tensors, listed together, a score whose rows are not as many as
    /// `num_labels` or `id2label` of `config.json` says (two where it says nothing), and what else
    /// is missing, broken or not supported in the folder.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let folder = &*hub_cache::locate(path)?;
        let metadata = fs::metadata(folder).map_err(|source| Error::io(folder, source))?;
        if !metadata.is_dir() {
            return Err(not_a_classifier(
                folder,
                "this is a file: classifiers are not read from GGUF",
            ));
        }
        let path = &folder.join("config.json");
        let Some(json) = optional_json(path)? else { return Err(no_config(folder)) };
        check_architecture(folder, &json)?;
        let mut config = ModelConfig::from_hf(&json, path)?;
        // There is no output head, whatever the language model had that it comes from.
        config.tied_embeddings = true;
        let weights = Weights::open_folder(folder, &config)?;
        let num_labels = check_tensors(&weights, &config, Labels::read(&json, path)?, path)?;
        let tokenizer = Tokenizer::open_folder(folder)?;
        check_tokenizer(folder, tokenizer.as_ref(), config.vocab_size)?;
        let tokenizer_note = tokenizer.is_none().then(|| no_tokenizer(folder));
        Ok(Self { config, num_labels, tokenizer, weights, tokenizer_note })
    }
}

impl ClassifierFiles {
    /// The tokenizer.
    ///
    /// # Errors
    /// Why there is none.
    pub fn require_tokenizer(&self) -> Result<&Tokenizer, Error> {
        let why = || Error::NoText(self.tokenizer_note.clone().unwrap_or_default());
        self.tokenizer.as_ref().ok_or_else(why)
    }
}

impl SequenceClassifier {
    /// Reads the weights of a folder in precision `dtype`, the score in at least f32.
    ///
    /// # Errors
    /// Those of [`ClassifierFiles::open`].
    pub fn open(path: &Path, device: &Device, dtype: DType) -> Result<Self, Error> {
        let ClassifierFiles { config, num_labels: labels, tokenizer, weights, tokenizer_note } =
            ClassifierFiles::open(path)?;
        let read = |name: &str, shape: [usize; 2]| -> Result<Tensor<2>, Error> {
            let values = weights.f32_values(name)?.into_iter().map(f64::from).collect();
            Ok(at_least_f32(float_tensor(values, shape, device, dtype)))
        };
        let bias = weights.shape(SCORE_BIAS).map(|_| read(SCORE_BIAS, [1, labels])).transpose()?;
        Ok(Self {
            score: read(SCORE, [labels, config.d_model])?.transpose(),
            bias,
            backbone: Transformer::from_checked_weights(&config, &weights, device, dtype)?.freeze(),
            tokenizer_note,
            tokenizer,
        })
    }

    /// A classifier of a decoder, whose output head is not used, and a score without bias.
    ///
    /// # Shapes
    /// - score: `[num_labels, d_model]`, on the decoder's device
    ///
    /// # Panics
    /// If the score is of another width.
    pub fn from_parts(backbone: Transformer, score: Tensor<2>) -> Self {
        let (found, expected) = (score.dims()[1], backbone.config().d_model);
        assert_eq!(found, expected, "a score of the decoder's width");
        Self {
            backbone: backbone.freeze(),
            score: at_least_f32(score).transpose(),
            bias: None,
            tokenizer: None,
            tokenizer_note: Some("this classifier comes from no folder".to_owned()),
        }
    }

    /// Logits of rows of token ids, each at its last token.
    ///
    /// Tokens at the end of a row that have the padding id of `config.json` are no part of it, even
    /// where that id means the end of a text too: transformers reads such a row at the last token
    /// that has another id, or at its first where there is none, and classifiers are trained so.
    ///
    /// # Shapes
    /// - rows: `[batch][..]`, of any lengths; output: `[batch, num_labels]`, of at least f32
    ///
    /// # Panics
    /// If [`Self::check`] refuses the rows.
    ///
    /// # Gradient
    /// None.
    pub fn logits(&self, rows: &[Vec<u32>]) -> Tensor<2> {
        if let Err(error) = self.check(rows) {
            panic!("rows that cannot be scored: {error}");
        }
        let rows: Vec<Vec<u32>> = rows.iter().map(|row| self.without_padding(row)).collect();
        let mut cache = self.backbone.new_cache(rows.len());
        self.scored(prefill(&self.backbone, &rows, &[], &mut cache))
    }

    /// Logits of rows of embeddings, each at its last real position; mixtures of the embeddings of
    /// tokens are rows as good as tokens are.
    ///
    /// # Shapes
    /// - embeds: `[batch, seq, d_model]`, in the precision and on the device of [`Self::embedding`]
    /// - real: `[batch][seq]`, false where a column is padding in that row, at any place
    /// - output: `[batch, num_labels]`, of at least f32
    ///
    /// # Panics
    /// If there is not one flag a column, or a row has no real column, or more of them than the
    /// model has positions.
    ///
    /// # Gradient
    /// Flows to the embeddings; that of a padding column is 0.
    pub fn logits_of_embeds(&self, embeds: Tensor<3>, real: &[Vec<bool>]) -> Tensor<2> {
        let [batch, seq, _] = embeds.dims();
        let max_positions = self.config().max_positions;
        let mut last = Vec::with_capacity(batch);
        for (row, flags) in real.iter().enumerate() {
            let count = flags.iter().filter(|&&real| real).count();
            assert!(
                (1..=max_positions).contains(&count),
                "row {row} has {count} real columns, expected 1 to {max_positions}"
            );
            let column = flags.iter().rposition(|&real| real).unwrap_or(0);
            last.push((row * seq + column) as u32);
        }
        let mut cache = self.backbone.new_cache(batch);
        let hidden = self.backbone.forward(embeds, real, &mut cache, None);
        let last = int_tensor(&last, [batch], &hidden.device());
        self.scored(hidden.select(0, last))
    }

    /// Checks that every row can be scored.
    ///
    /// # Errors
    /// No rows, a row without tokens, an id outside the vocabulary, or more ids than positions.
    pub fn check(&self, rows: &[Vec<u32>]) -> Result<(), Error> {
        if rows.is_empty() {
            return Err(Error::Settings("there are no rows to score".to_owned()));
        }
        let max_positions = self.config().max_positions;
        for (index, row) in rows.iter().enumerate() {
            let len = self.without_padding(row).len();
            if len == 0 {
                return Err(Error::Settings(format!("row {index} has no tokens to score")));
            }
            if len > max_positions {
                return Err(Error::PromptTooLong { len, prefix_len: 0, max_positions });
            }
            self.backbone.check_ids(row)?;
        }
        Ok(())
    }

    /// The embedding matrix `E [vocab, d_model]` of its own vocabulary.
    pub fn embedding(&self) -> Tensor<2> {
        self.backbone.embedding()
    }

    /// Number of logits of a row.
    pub fn num_labels(&self) -> usize {
        self.score.dims()[1]
    }

    /// The shape of the decoder. `tied_embeddings` is set: there is no output head.
    pub fn config(&self) -> &ModelConfig {
        self.backbone.config()
    }

    /// The tokenizer of its folder, with the chat template, where there is one.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.tokenizer.as_ref()
    }

    /// The tokenizer of its folder.
    ///
    /// # Errors
    /// Why there is none.
    pub fn require_tokenizer(&self) -> Result<&Tokenizer, Error> {
        let why = || Error::NoText(self.tokenizer_note.clone().unwrap_or_default());
        self.tokenizer.as_ref().ok_or_else(why)
    }

    /// The row up to its last token that does not have the padding id, or its first token.
    fn without_padding(&self, row: &[u32]) -> Vec<u32> {
        let pad_id = self.config().pad_id;
        let last = row.iter().rposition(|&id| Some(id) != pad_id).unwrap_or(0);
        row.iter().copied().take(last + 1).collect()
    }

    /// # Shapes
    /// - hidden: `[batch, d_model]`; output: `[batch, num_labels]`
    fn scored(&self, hidden: Tensor<2>) -> Tensor<2> {
        let logits = soft_core::product(at_least_f32(hidden), self.score.clone());
        match &self.bias {
            Some(bias) => logits + bias.clone(),
            None => logits,
        }
    }
}

/// How many labels a `config.json` announces, and where.
struct Labels {
    count: usize,
    key: &'static str,
    /// Explains a number that is written nowhere.
    note: &'static str,
}

impl Labels {
    fn read(json: &Value, path: &Path) -> Result<Self, Error> {
        let count = |key: &str, count: fn(&Value) -> Option<usize>, expected: &str| {
            let value = &json[key];
            match count(value).filter(|&count| count > 0) {
                None if !value.is_null() => {
                    Err(Error::config(path, key, format!("found {value}, expected {expected}")))
                }
                count => Ok(count),
            }
        };
        let whole = |value: &Value| value.as_u64().and_then(|count| usize::try_from(count).ok());
        let named = |value: &Value| value.as_object().map(serde_json::Map::len);
        let number = count("num_labels", whole, "a whole number, 1 or more")?;
        let names = count("id2label", named, "an object with a name for each label")?;
        match (number, names) {
            (Some(number), Some(names)) if number != names => {
                let problem = format!("it names {names} labels, but num_labels is {number}");
                Err(Error::config(path, "id2label", problem))
            }
            (Some(count), _) => Ok(Self { count, key: "num_labels", note: "" }),
            (None, Some(count)) => Ok(Self { count, key: "id2label", note: "" }),
            (None, None) => {
                let note = " (transformers' default where neither it nor id2label is there)";
                Ok(Self { count: 2, key: "num_labels", note })
            }
        }
    }
}

/// Compares all tensors with those of the decoder and a score; gives the number of labels.
fn check_tensors(
    weights: &Weights,
    config: &ModelConfig,
    Labels { count, key, note }: Labels,
    path: &Path,
) -> Result<usize, Error> {
    match weights.shape(SCORE) {
        None => {
            let found = "no tensor `score.weight`: this is a language model, or its score is lost";
            return Err(not_a_classifier(weights.path(), found));
        }
        Some(&[rows, d_model]) if d_model == config.d_model && rows != count => {
            let problem = format!("{count} labels{note}, but `{SCORE}` is [{rows}, {d_model}]");
            return Err(Error::config(path, key, problem));
        }
        Some(_) => {}
    }
    let mut expected = expected_tensors(config);
    expected.push((SCORE.to_owned(), vec![count, config.d_model]));
    if weights.shape(SCORE_BIAS).is_some() {
        expected.push((SCORE_BIAS.to_owned(), vec![count]));
    }
    weights.compare(expected, |name, tensor| format!("{name} {:?}", tensor.shape))?;
    Ok(count)
}

/// Refuses another architecture; where none is named the tensors decide.
fn check_architecture(folder: &Path, json: &Value) -> Result<(), Error> {
    let Some(found) = json["architectures"][0].as_str() else { return Ok(()) };
    if found.ends_with(ARCHITECTURE) {
        return Ok(());
    }
    let language_model = found.ends_with("ForCausalLM") || found.ends_with("LMHeadModel");
    let what = if language_model { "a language model" } else { "no sequence classifier" };
    Err(not_a_classifier(folder, &format!("{found} is {what}")))
}

fn no_config(folder: &Path) -> Error {
    if folder.join("adapter_config.json").exists() {
        let found = "no config.json: this is an adapter, to be merged with `merge_and_unload` of \
                     PEFT";
        return not_a_classifier(folder, found);
    }
    not_a_classifier(folder, "no config.json")
}

fn not_a_classifier(path: &Path, found: &str) -> Error {
    let problem = format!(
        "{found}; expected a folder of safetensors whose config.json has an architecture that ends \
         in {ARCHITECTURE}, with a tensor `{SCORE} [num_labels, d_model]`"
    );
    Error::not_a_model(path, problem)
}
