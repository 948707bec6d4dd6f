//! From a key that does not exist to the one that was meant.

use strsim::{damerau_levenshtein, jaro_winkler};

use super::fields::fields;

/// Names that other trainers use, and ours.
const FOREIGN: &[(&str, &str)] = &[
    ("per_device_train_batch_size", "train.micro_batch"),
    ("train_batch_size", "train.micro_batch"),
    ("micro_batch_size", "train.micro_batch"),
    ("device_batch_size", "train.micro_batch"),
    ("batch_size", "train.micro_batch"),
    ("gradient_accumulation_steps", "train.grad_accum"),
    ("gradient_accumulation", "train.grad_accum"),
    ("learning_rate", "train.lr"),
    ("max_learning_rate", "train.lr"),
    ("min_learning_rate", "train.min_lr"),
    ("lr_scheduler", "train.schedule"),
    ("lr_scheduler_type", "train.schedule"),
    ("warmup_steps", "train.warmup"),
    ("num_warmup_steps", "train.warmup"),
    ("max_steps", "train.steps"),
    ("max_train_steps", "train.steps"),
    ("num_iterations", "train.steps"),
    ("iters", "train.steps"),
    ("max_grad_norm", "train.clip"),
    ("gradient_clipping", "train.clip"),
    ("grad_clip", "train.clip"),
    ("logging_steps", "log.every"),
    ("save_steps", "save.every"),
    ("save_total_limit", "save.keep"),
    ("eval_steps", "eval.every"),
    ("max_eval_samples", "eval.limit"),
    ("metric_for_best_model", "eval.metric"),
    ("early_stopping_patience", "early_stop.patience"),
    ("early_stopping_threshold", "early_stop.min_delta"),
    ("early_stopping", "early_stop"),
    ("output_dir", "run.dir"),
    ("run_name", "run.name"),
    ("random_seed", "run.seed"),
    ("manual_seed", "run.seed"),
    ("base_model", "model.path"),
    ("model_name_or_path", "model.path"),
    ("pretrained_model_name_or_path", "model.path"),
    ("hidden_size", "model.d_model"),
    ("n_embd", "model.d_model"),
    ("num_hidden_layers", "model.n_layers"),
    ("n_layer", "model.n_layers"),
    ("num_attention_heads", "model.n_heads"),
    ("n_head", "model.n_heads"),
    ("model_type", "model.family"),
    ("lora_r", "low_rank.rank"),
    ("lora_rank", "low_rank.rank"),
    ("lora_alpha", "low_rank.alpha"),
    ("lora_target_modules", "low_rank.targets"),
    ("target_modules", "low_rank.targets"),
    ("num_virtual_tokens", "prefix.tokens"),
    ("lora_dropout", "low_rank.dropout"),
    ("use_rslora", "low_rank.rslora"),
    ("use_dora", "low_rank.dora"),
    ("packing", "data.pack"),
    ("sample_packing", "data.pack"),
    ("gradient_checkpointing", "train.recompute"),
    ("mixed_precision", "train.precision"),
    ("torch_dtype", "train.precision"),
    ("bf16", "train.precision"),
    ("train_files", "data.train"),
    ("train_file", "data.train"),
    ("validation_file", "data.valid"),
    ("val_files", "data.valid"),
    ("max_new_tokens", "generate.max_new"),
    ("max_tokens", "generate.max_new"),
    ("gumbel_temperature", "soft.noise_temperature"),
    ("gumbel_softmax_temperature", "soft.noise_temperature"),
    ("max_topk", "soft.max_top_k"),
    ("entropy_coeff", "objective.entropy_beta"),
    ("teacher_forcing_ratio", "guidance.start"),
    ("lora", "low_rank"),
    ("optim", "train"),
    ("optimizer", "train"),
    ("dataset", "data"),
    ("datasets", "data"),
    ("sampling", "soft"),
    ("generation", "generate"),
];

/// Sections and keys that are planned and not there yet.
const LATER: &[&str] = &["grpo"];

/// What to write instead of a key that does not exist.
pub(crate) fn for_key(unknown: &str) -> Option<String> {
    let leaf = unknown.rsplit('.').next().unwrap_or(unknown);
    let planned = |later: &&&str| {
        unknown == **later || unknown.strip_prefix(**later).is_some_and(|r| r.starts_with('.'))
    };
    if LATER.iter().any(|later| planned(&later)) {
        return Some("it is planned and not there yet".into());
    }
    if let Some((_, ours)) = FOREIGN.iter().find(|(foreign, _)| *foreign == leaf) {
        return Some(format!("the name here is `{ours}`"));
    }
    let near = nearest(unknown, leaf);
    (!near.is_empty()).then(|| format!("did you mean {}?", near.join(" or ")))
}

/// The word of a list that is nearest to a wrong one, if one is near.
pub(crate) fn for_word(wrong: &str, words: &[String]) -> Option<String> {
    let mut scored: Vec<_> = words.iter().map(|word| (likeness(wrong, word), word)).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (score, word) = scored.first()?;
    (*score > 0.0).then(|| format!("did you mean {word:?}?"))
}

/// Up to three known names, quoted: those with this very leaf in another section, else the likeliest.
fn nearest(unknown: &str, leaf: &str) -> Vec<String> {
    // Every key of `answer` is one of `soft`, which is the likelier one.
    let meant = |key: &str| !key.starts_with("answer.") || unknown.starts_with("answer.");
    let known = || {
        let keys = fields().keys.keys().filter(|key| meant(key));
        let dotted = keys.map(|key| (key, key.rsplit('.').next().unwrap_or(key)));
        dotted.chain(fields().sections.keys().map(|section| (section, section.as_str())))
    };
    let quoted = |key: &String| format!("`{key}`");
    let same_leaf: Vec<_> = known().filter(|(_, l)| *l == leaf).map(|(k, _)| quoted(k)).collect();
    if (1..=3).contains(&same_leaf.len()) {
        return same_leaf;
    }
    let section = unknown.rsplit_once('.').map_or("", |(section, _)| section);
    let score = |key: &str, key_leaf: &str| {
        let key_section = key.rsplit_once('.').map_or("", |(section, _)| section);
        // Whole paths are not compared: the shared `train.` would make all its keys look alike.
        let elsewhere = if section == key_section { 1.0 } else { 0.95 };
        elsewhere * likeness(leaf, key_leaf)
    };
    let best = known()
        .map(|(key, key_leaf)| (score(key, key_leaf), key))
        .max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(a.1)));
    best.filter(|(score, _)| *score > 0.0).map(|(_, key)| quoted(key)).into_iter().collect()
}

/// 0 for names that are not near, else their Jaro-Winkler likeness. Near is a likeness of 0.85,
/// or at most two edits that leave half of the letters.
fn likeness(wrong: &str, right: &str) -> f64 {
    let likeness = jaro_winkler(wrong, right);
    let edits = damerau_levenshtein(wrong, right);
    let near = likeness >= 0.85 || (edits <= 2 && edits * 2 < right.chars().count());
    if near { likeness } else { 0.0 }
}
