//! Laws of the decoder, its cache, its adapters and its files, for every family.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Tensor};
use soft_core::{host_values, int_tensor};
use soft_model::{
    Family, KvCache, ModelConfig, ModelFiles, Positions, TARGETS, Transformer, save_safetensors,
    score,
};
use soft_tests::{device, every_family, lively_model, tiny_config};

const VOCAB: usize = 20;
const IDS: [u32; 9] = [3, 17, 1, 9, 9, 4, 12, 0, 6];

fn models() -> Vec<(&'static str, Transformer)> {
    every_family().iter().map(|(name, config)| (*name, lively_model(config))).collect()
}

/// Feeds one column a token to every row of the cache; logits as `[row][column][vocab]`.
fn feed_rows(model: &Transformer, rows: &[&[u32]], cache: &mut KvCache) -> Vec<Vec<f64>> {
    let real: Vec<Vec<bool>> = rows.iter().map(|row| vec![true; row.len()]).collect();
    feed_padded(model, rows, &real, cache)
}

fn feed_padded(
    model: &Transformer,
    rows: &[&[u32]],
    real: &[Vec<bool>],
    cache: &mut KvCache,
) -> Vec<Vec<f64>> {
    let embeds = model.embed(&rows.concat(), rows.len());
    let hidden = model.forward(embeds, real, cache, None);
    let logits = host_values(model.output_head().logits(hidden));
    logits.chunks_exact(rows[0].len() * VOCAB).map(<[f64]>::to_vec).collect()
}

fn full(model: &Transformer, ids: &[u32]) -> Vec<f64> {
    feed_rows(model, &[ids], &mut model.new_cache(1)).remove(0)
}

fn last(logits: &[f64]) -> &[f64] {
    &logits[logits.len() - VOCAB..]
}

#[track_caller]
fn assert_close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}: as many numbers");
    let largest = expected.iter().fold(1.0, |most: f64, x| most.max(x.abs()));
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= tolerance * largest, "{what}: entry {i} is {a}, expected {b}");
    }
}

#[track_caller]
fn assert_differs(what: &str, a: &[f64], b: &[f64]) {
    let most = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(most > 1e-3, "{what}: the largest difference is only {most:e}");
}

#[test]
fn t18_a_pass_in_chunks_of_any_sizes_equals_the_full_pass() {
    for (name, model) in models() {
        let expected = full(&model, &IDS);
        for sizes in [&[1; 9][..], &[4, 5], &[1, 8], &[8, 1], &[2, 1, 3, 1, 2]] {
            let mut cache = model.new_cache(1);
            let mut found = Vec::new();
            let mut start = 0;
            for size in sizes {
                let chunk = &IDS[start..start + size];
                found.extend(feed_rows(&model, &[chunk], &mut cache).remove(0));
                start += size;
            }
            assert_close(&format!("{name} {sizes:?}"), &found, &expected, 1e-5);
            assert_eq!((cache.len(0), cache.slots(), cache.batch()), (9, 9, 1));
        }
    }
}

#[test]
fn a_later_token_changes_nothing_before_it_and_everything_after() {
    for (name, model) in models() {
        let mut other = IDS;
        other[5] = 13;
        let (a, b) = (full(&model, &IDS), full(&model, &other));
        assert_eq!(a[..5 * VOCAB], b[..5 * VOCAB], "{name}");
        for t in 5..7 {
            let at = t * VOCAB..(t + 1) * VOCAB;
            assert_differs(name, &a[at.clone()], &b[at]);
        }
    }
}

/// With 2 layers and a window of 3, the output at t depends on inputs t - 4 to t and no others.
#[test]
fn a_sliding_window_hides_old_keys_in_one_pass_and_from_the_cache() {
    let mut config = tiny_config(Family::Mistral);
    config.sliding_window = Some(3);
    let windowed = lively_model(&config);
    config.sliding_window = None;
    let open = lively_model(&config);
    let with = |model: &Transformer, at: usize| {
        let mut ids = IDS;
        ids[at] = 15;
        let mut cache = model.new_cache(1);
        feed_rows(model, &[&ids[..8]], &mut cache);
        let stepped = feed_rows(model, &[&ids[8..]], &mut cache).remove(0);
        (last(&full(model, &ids)).to_vec(), stepped)
    };
    let (base, base_stepped) = with(&windowed, 0);
    for at in 1..4 {
        let (found, stepped) = with(&windowed, at);
        // Position 0 is as far out of sight as the one that changed.
        assert_close("full", &found, &base, 0.0);
        assert_close("stepped", &stepped, &base_stepped, 0.0);
    }
    assert_differs("the edge of the window", &with(&windowed, 4).0, &base);
    assert_differs("no window", &with(&open, 1).0, &with(&open, 0).0);
}

#[test]
fn a_window_as_long_as_the_sequence_hides_nothing() {
    let config = |window| ModelConfig { sliding_window: window, ..tiny_config(Family::Mistral) };
    let open = full(&lively_model(&config(None)), &IDS);
    assert_close("window 9", &full(&lively_model(&config(Some(9))), &IDS), &open, 1e-6);
    let beyond = full(&lively_model(&config(Some(1 << 32))), &IDS);
    assert_close("a window over 32 bits", &beyond, &open, 0.0);
    assert_differs("window 4", last(&full(&lively_model(&config(Some(4))), &IDS)), last(&open));
}

#[test]
fn a_rows_bits_do_not_depend_on_its_neighbours() {
    for (name, model) in models() {
        let run = |first: &[u32], third: &[u32], padding: u32, tail: bool| {
            let own = [padding, padding, 3, 17, 1];
            let real = vec![
                vec![tail, true, true, true, true],
                vec![false, false, true, true, true],
                vec![true, true, true, true, tail],
            ];
            let mut cache = model.new_cache(3);
            let prefill = feed_padded(&model, &[first, &own, third], &real, &mut cache);
            let next = feed_rows(&model, &[&first[..1], &[9], &third[..1]], &mut cache);
            [&prefill[1][2 * VOCAB..], &next[1]].concat()
        };
        let base = run(&[1, 2, 3, 4, 5], &[6, 7, 8, 9, 10], 0, true);
        assert_eq!(base, run(&[19, 19, 18, 0, 0], &[11; 5], 0, true), "{name}: contents");
        assert_eq!(base, run(&[1, 2, 3, 4, 5], &[6, 7, 8, 9, 10], 14, true), "{name}: padding");
        assert_eq!(base, run(&[1, 2, 3, 4, 5], &[6, 7, 8, 9, 10], 0, false), "{name}: lengths");
    }
}

#[test]
fn padding_on_either_side_equals_no_padding() {
    for (name, model) in models() {
        let (f, t) = (false, true);
        let expected = full(&model, &[3, 17, 1, 9]);
        for real in [[f, f, t, t, t], [t, t, t, f, f], [t, f, t, f, t]] {
            let mut ids = [14; 5];
            let places: Vec<usize> = (0..5).filter(|&i| real[i]).collect();
            places.iter().zip(&IDS).for_each(|(&place, &id)| ids[place] = id);
            let mut cache = model.new_cache(2);
            let real = [vec![t; 5], real.to_vec()];
            let logits = feed_padded(&model, &[&IDS[..5], &ids], &real, &mut cache);
            for (t, place) in places.iter().enumerate() {
                let found = &logits[1][place * VOCAB..(place + 1) * VOCAB];
                assert_close(name, found, &expected[t * VOCAB..(t + 1) * VOCAB], 1e-5);
            }
            assert_eq!([cache.len(0), cache.len(1)], [5, 3]);
            let next = feed_rows(&model, &[&[0], &[9]], &mut cache);
            assert_close(name, &next[1], last(&expected), 1e-5);
        }
    }
}

#[test]
fn selected_repeated_and_reordered_rows_go_on_as_the_rows_they_are() {
    let prompts: [&[u32]; 3] = [&[1, 2, 3, 4], &[14, 14, 5, 6], &[14, 7, 8, 9]];
    let real = [vec![true; 4], vec![false, false, true, true], vec![false, true, true, true]];
    for (name, model) in models() {
        let mut cache = model.new_cache(3);
        feed_padded(&model, &prompts, &real, &mut cache);
        for rows in [&[2, 0][..], &[1, 1, 2, 1], &[0], &[2, 1, 0]] {
            let mut selected = cache.select(rows);
            let fed: Vec<[u32; 2]> = (0..rows.len() as u32).map(|i| [10 + i, 3]).collect();
            let columns: Vec<&[u32]> = fed.iter().map(|ids| &ids[..]).collect();
            let found = feed_rows(&model, &columns, &mut selected);
            for (i, &row) in rows.iter().enumerate() {
                let own = prompts[row].iter().zip(&real[row]).filter(|(_, real)| **real);
                let ids: Vec<u32> = own.map(|(&id, _)| id).chain(fed[i]).collect();
                let expected = full(&model, &ids);
                let what = format!("{name}: row {i} of {rows:?}");
                assert_close(&what, &found[i], &expected[expected.len() - 2 * VOCAB..], 1e-5);
                assert_eq!(selected.len(i), ids.len());
            }
        }
        assert_eq!([cache.len(0), cache.len(1), cache.len(2)], [4, 2, 3], "the source is kept");
    }
}

#[test]
fn selecting_from_an_empty_cache_gives_an_empty_cache() {
    let model = lively_model(&tiny_config(Family::Llama));
    let mut cache = model.new_cache(2).select(&[1, 0, 1]);
    assert!(cache.is_empty() && cache.batch() == 3);
    let found = feed_rows(&model, &[&IDS, &IDS, &IDS], &mut cache);
    assert_close("row 2", &found[2], &full(&model, &IDS), 1e-5);
}

#[test]
fn a_truncated_cache_goes_on_as_if_it_had_never_gone_further() {
    for (name, model) in models() {
        for kept in [0, 1, 4, 6] {
            let mut cache = model.new_cache(1);
            feed_rows(&model, &[&[3, 17, 1, 9, 9, 4]], &mut cache);
            cache.truncate(0, kept);
            assert_eq!((cache.len(0), cache.slots()), (kept, kept));
            let found = feed_rows(&model, &[&[8, 2]], &mut cache);
            let expected = full(&model, &[&IDS[..kept], &[8, 2]].concat());
            let expected = &expected[kept * VOCAB..];
            assert_close(&format!("{name} {kept}"), &found[0], expected, 1e-5);
        }
    }
}

#[test]
fn rows_are_truncated_one_by_one() {
    for (name, model) in models() {
        let rows: [&[u32]; 3] = [&IDS[..5], &IDS[1..6], &IDS[2..7]];
        let mut cache = model.new_cache(3);
        feed_rows(&model, &rows, &mut cache);
        cache.truncate(0, 2);
        cache.truncate(2, 0);
        assert_eq!([cache.len(0), cache.len(1), cache.len(2), cache.slots()], [2, 5, 0, 5]);
        let found = feed_rows(&model, &[&[8, 2], &[8, 2], &[8, 2]], &mut cache);
        for (row, kept) in [2, 5, 0].into_iter().enumerate() {
            let expected = full(&model, &[&rows[row][..kept], &[8, 2]].concat());
            let expected = &expected[kept * VOCAB..];
            assert_close(&format!("{name} row {row}"), &found[row], expected, 1e-5);
        }
        cache.truncate(1, 1);
        assert_eq!([cache.len(0), cache.len(1), cache.len(2)], [4, 1, 2]);
    }
}

#[test]
fn a_cache_is_its_tensors() {
    let model = lively_model(&tiny_config(Family::Llama));
    let mut cache = model.new_cache(1);
    feed_rows(&model, &[&IDS[..6]], &mut cache);
    let first = cache.tensors().into_iter().map(|x| x.narrow(2, 0, 4)).collect();
    let mut entered = cache.with_tensors(first, 4);
    let found = feed_rows(&model, &[&IDS[4..]], &mut entered);
    assert_close("entered", &found[0], &full(&model, &IDS)[4 * VOCAB..], 1e-5);
}

#[test]
fn a_prefix_shifts_positions_and_is_seen_by_every_row() {
    for (name, base) in models() {
        let model = base.clone().with_prefix(4, 5).expect("4 of 64 positions");
        assert_eq!(model.prefix_len(), 4);
        assert_differs(
            name,
            &full(&base, &IDS[..2]),
            &full(&loud_prefix(model.clone()), &IDS[..2]),
        );
        let model = loud_prefix(model);
        let mut cache = model.new_cache(2);
        assert_eq!((cache.prefix_len(), cache.slots(), cache.len(0)), (4, 4, 0));
        let real = [vec![true; 3], vec![false, true, true]];
        let rows = feed_padded(&model, &[&IDS[..3], &[14, 3, 17]], &real, &mut cache);
        assert_close(name, &rows[0], &full(&model, &IDS[..3]), 1e-5);
        assert_close(name, &rows[1][VOCAB..], &full(&model, &IDS[..2]), 1e-5);
        cache.truncate(0, 0);
        assert_eq!((cache.prefix_len(), cache.len(0)), (4, 0), "the prefix is not truncated");
        let again = feed_rows(&model, &[&IDS[..3], &IDS[2..5]], &mut cache);
        assert_close(name, &again[0], &full(&model, &IDS[..3]), 1e-5);
        assert_close(name, &again[1], &full(&model, &IDS[..5])[2 * VOCAB..], 1e-5);
    }
}

/// Puts the keys and values of a cache into a model's prefix, layer by layer.
struct PrefixOf(std::vec::IntoIter<Tensor<4>>);

impl ModuleMapper for PrefixOf {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if D != 3 {
            return param;
        }
        let stored = self.0.next().expect("keys and values of every layer");
        param.map(|prefix| stored.reshape(prefix.dims()))
    }
}

/// So the tokens after a prefix have the positions after it.
#[test]
fn a_prefix_of_the_keys_and_values_of_two_tokens_is_those_tokens() {
    for (name, base) in models() {
        let mut cache = base.new_cache(1);
        feed_rows(&base, &[&IDS[..2]], &mut cache);
        let model = base.clone().with_prefix(2, 5).expect("2 of 64 positions");
        let model = model.map(&mut PrefixOf(cache.tensors().into_iter()));
        assert_close(name, &full(&model, &IDS[2..]), &full(&base, &IDS)[2 * VOCAB..], 1e-5);
    }
}

/// Prefix values large enough to be heard.
fn loud_prefix(model: Transformer) -> Transformer {
    struct Loud;
    impl ModuleMapper for Loud {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if D == 3 { param.map(|x| x * 30.0) } else { param }
        }
    }
    model.map(&mut Loud)
}

#[test]
fn a_learned_head_is_not_the_embedding() {
    let untied = ModelConfig { tied_embeddings: false, ..tiny_config(Family::Llama) };
    assert_differs(
        "head",
        &full(&lively_model(&untied), &IDS),
        &full(&lively_model(&tiny_config(Family::Llama)), &IDS),
    );
}

#[test]
fn every_peculiarity_of_a_family_changes_its_logits() {
    let logits = |config: &ModelConfig| full(&lively_model(config), &IDS);
    for (name, config) in every_family() {
        let mut without = config.clone();
        match name {
            "llama" | "untied llama" => {
                without.positions = Positions::Rotary { theta: 100.0, scaling: None };
            }
            "mistral" => without.sliding_window = None,
            "qwen2" => without.qkv_bias = false,
            "qwen3" => without.qk_norm = false,
            _ => without.norm_eps = 0.9,
        }
        assert_differs(name, &logits(&config), &logits(&without));
    }
}

#[test]
fn a_score_is_the_log_softmax_of_the_logits() {
    // More positions than `score` holds logits of at once.
    let ids: Vec<u32> = (0..100u32).map(|i| (i * i * 7 + i) % 20).collect();
    for (name, config) in every_family() {
        let model = lively_model(&ModelConfig { max_positions: 128, ..config });
        let score = score(&model, &ids).expect("100 of 128 positions");
        let logits = model.logits(model.embed(&ids, 1));
        let log_probs = host_values(burn::tensor::activation::log_softmax(logits, 1));
        assert_eq!((score.logprobs.len(), score.top.len()), (100, 100));
        assert_eq!(score.logprobs[0], None);
        let mut sum = 0.0;
        for t in 1..100 {
            let row = &log_probs[(t - 1) * VOCAB..t * VOCAB];
            let found = score.logprobs[t].expect("every token but the first");
            assert!((found - row[ids[t] as usize]).abs() < 1e-5, "{name} at {t}");
            sum -= found;
            let mut best: Vec<f64> = row.to_vec();
            best.sort_by(|a, b| b.total_cmp(a));
            for (entry, expected) in score.top[t - 1].iter().zip(&best) {
                assert!((entry.1 - expected).abs() < 1e-5, "{name} top at {t}");
                assert!((entry.1 - row[entry.0 as usize]).abs() < 1e-5);
            }
        }
        let mean = score.nll_mean.expect("99 tokens are scored");
        assert!((mean - sum / 99.0).abs() < 1e-9);
    }
}

#[test]
fn a_sequence_over_one_chunk_is_scored_as_by_one_pass() {
    let ids: Vec<u32> = (0..700u32).map(|i| (i * i * 7 + i) % 20).collect();
    for (name, config) in every_family() {
        let model = lively_model(&ModelConfig { max_positions: 700, ..config });
        let found = score(&model, &ids).expect("700 of 700 positions").logprobs;
        let logits = model.logits(model.embed(&ids, 1));
        let log_probs = host_values(burn::tensor::activation::log_softmax(logits, 1));
        for t in 1..700 {
            let expected = log_probs[(t - 1) * VOCAB + ids[t] as usize];
            let found = found[t].expect("every token but the first");
            assert!((found - expected).abs() < 1e-4, "{name} at {t}: {found}, not {expected}");
        }
    }
}

#[test]
fn a_sequence_that_cannot_be_scored_is_an_error_that_says_why() {
    let model = lively_model(&tiny_config(Family::Llama));
    let message = |ids: &[u32]| score(&model, ids).expect_err("refused").to_string();
    assert!(message(&[]).contains("no tokens"));
    assert!(message(&[1, 20]).contains("token id 20 at position 1"));
    assert!(message(&[1; 65]).contains("65 tokens"));
    assert_eq!(score(&model, &[1]).expect("one token").nll_mean, None);
    assert_eq!(score(&model, &[1; 64]).expect("64 tokens").top.len(), 64);
}

/// Writes the model as a folder and opens that.
fn saved_and_read(model: &Transformer) -> Transformer {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let json = serde_json::to_string_pretty(&model.config().to_hf()).expect("JSON");
    std::fs::write(folder.path().join("config.json"), json).expect("written");
    let path = folder.path().join("model.safetensors");
    save_safetensors(&path, &model.named_tensors()).expect("written");
    let files = ModelFiles::open(folder.path()).expect("what was written opens");
    assert_eq!(&files.config, model.config());
    Transformer::from_weights(&files.config, &files.weights, &device(), DType::F32)
        .expect("the tensors fit")
}

#[test]
fn a_saved_model_is_read_back_to_the_bit() {
    for (name, config) in every_family() {
        for tied in [true, false] {
            let config = ModelConfig { tied_embeddings: tied, ..config.clone() };
            let fresh = Transformer::from_seed(&config, 7, &device(), DType::F32);
            let model = lively_model(&config);
            let read = saved_and_read(&model);
            assert_eq!(read.named_tensors(), model.named_tensors(), "{name} tied {tied}");
            // A model that was computed with may hold its matrices in another order in memory,
            // in which sums are rounded otherwise.
            assert_close(name, &full(&read, &IDS), &full(&model, &IDS), 1e-5);
            assert_eq!(full(&saved_and_read(&read), &IDS), full(&read, &IDS), "{name}");
            assert_eq!(full(&saved_and_read(&fresh), &IDS), full(&fresh, &IDS), "{name}");
        }
    }
}

/// Adds to every B of a low-rank branch of rank 3, which no other parameter has as rows. Not the
/// same number everywhere: layer norm would take that out again.
struct NudgeB;

impl ModuleMapper for NudgeB {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let dims = param.val().dims();
        if dims[0] != 3 {
            return param;
        }
        param.map(|x| {
            let nudges = (0..dims.iter().product::<usize>()).map(|i| (i as f64).cos() * 0.1);
            x.clone() + soft_core::float_tensor(nudges.collect(), dims, &x.device(), x.dtype())
        })
    }
}

#[test]
fn a_low_rank_branch_begins_as_nothing_and_can_be_switched_off() {
    for (name, base) in models() {
        let has_gate = base.config().family != Family::Gpt2;
        let targets = TARGETS.iter().filter(|&&target| has_gate || target != "gate_proj");
        for target in targets {
            let adapted = base.clone().with_low_rank(3, 6.0, &[target.to_string()], 5);
            let adapted = adapted.expect("the model has this projection");
            let expected = full(&base, &IDS);
            assert_eq!(expected, full(&adapted, &IDS), "{name} {target}: fresh");
            let mut trained = adapted.map(&mut NudgeB);
            assert_differs(&format!("{name} {target}"), &expected, &full(&trained, &IDS));
            assert_eq!(base.named_tensors(), trained.named_tensors(), "the base is as it was");
            trained.set_low_rank(false);
            assert_eq!(expected, full(&trained, &IDS), "{name} {target}: off");
            trained.set_low_rank(true);
            assert_differs(&format!("{name} {target} on"), &expected, &full(&trained, &IDS));
        }
    }
}

#[test]
fn a_branch_that_the_model_cannot_carry_is_refused() {
    let model = lively_model(&tiny_config(Family::Gpt2));
    let refused = |rank, target: &str| {
        let refused = model.clone().with_low_rank(rank, 1.0, &[target.to_owned()], 5);
        refused.expect_err("refused").to_string()
    };
    assert!(refused(2, "gate_proj").contains("gate_proj"));
    assert!(refused(2, "c_attn").contains("expected one of q_proj"));
    assert!(refused(0, "q_proj").contains("rank over 0"));
    assert!(model.clone().with_low_rank(2, 1.0, &[], 5).is_err());
    assert!(model.clone().with_prefix(0, 5).is_err() && model.with_prefix(64, 5).is_err());
}

#[test]
fn embedding_a_token_is_its_row_to_the_bit() {
    let model = lively_model(&tiny_config(Family::Llama));
    let found = host_values(model.embed(&IDS, 3));
    let rows = model.embedding().select(0, int_tensor(&IDS, [9], &device()));
    assert_eq!(found, host_values(rows));
    assert!(model.check_ids(&IDS).is_ok());
}
