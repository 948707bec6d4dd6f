//! Four tokens of a tiny decoder, soft and hard.

use soft_core::{Distribution, PipelineConfig, SoftPipeline, host_values};
use soft_model::{GenerateOptions, Generation, Manner, Mode, Transformer, generate, replay};

use crate::tiny::{PROMPTS, VOCAB, model};
use crate::{assert_values_close, device};

const NEW: usize = 4;

/// Generates and records [`NEW`] tokens after each of the prompts.
pub(crate) fn run(model: &Transformer, mode: Mode, settings: PipelineConfig) -> Vec<Generation> {
    let options = GenerateOptions {
        thoughts: Manner::new(SoftPipeline::new(settings).expect("valid settings"), Mode::Soft),
        max_new: NEW,
        seed: 9,
        record: true,
        keep_inputs: true,
        top: VOCAB,
        ..GenerateOptions::default()
    };
    let prompts = PROMPTS.map(<[u32]>::to_vec);
    generate(model, &prompts, &|_, _| mode, &options, &mut |_, _, _| {}).expect("valid prompts")
}

#[test]
fn a_parallel_pass_over_the_recorded_inputs_believes_what_the_generation_did() {
    let model = model(&device());
    let rows = run(&model, Mode::Soft, PipelineConfig::default());
    for (row, prompt) in rows.iter().zip(PROMPTS) {
        assert_eq!(row.token_ids.len(), NEW);
        let fed = &row.inputs[..NEW - 1];
        let logits = replay(&model, prompt, fed);
        let pipeline = SoftPipeline::new(PipelineConfig::default()).expect("the defaults");
        let Distribution::Dense(probs) = pipeline.apply(logits, &[]).probs else {
            panic!("without filters a distribution is dense");
        };
        let probs = host_values(probs);
        for (step, record) in row.steps.iter().enumerate() {
            let at = (prompt.len() - 1 + step) * VOCAB;
            for (id, weight) in &record.top {
                assert_values_close("p_t", &[probs[at + *id as usize]], &[*weight], 1e-5);
            }
        }
    }
}

#[test]
fn feeding_the_likeliest_token_softly_is_hard_greedy_decoding() {
    let model = model(&device());
    let greedy = PipelineConfig { temperature: 0.0, ..PipelineConfig::default() };
    let hard = run(&model, Mode::Hard, greedy.clone());
    let soft = run(&model, Mode::Soft, greedy);
    for (hard, soft) in hard.iter().zip(&soft) {
        assert_eq!(hard.token_ids, soft.token_ids);
    }
}
