//! A decoder that feeds itself mixtures, beside the same decoder fed its own tokens.
//!
//! Without arguments a small random decoder runs on ids; with the path of a model it continues a
//! text: `cargo run -p soft-examples --example 03_generate_softly -- SmolLM2-135M-Instruct.Q4_1.gguf`
//! The first step sees the prompt alone and is the same in both modes; the next see what was fed.
//!
//! ```text
//! Soft
//!   entropy 1.465 nats: "5" 0.613 "19" 0.178 "1" 0.067
//!   entropy 1.916 nats: "5" 0.461 "6" 0.162 "3" 0.114
//!   entropy 2.005 nats: "1" 0.424 "7" 0.164 "0" 0.127
//! Hard
//!   entropy 1.465 nats: "5" 0.613 "19" 0.178 "1" 0.067
//!   entropy 1.097 nats: "5" 0.784 "6" 0.052 "7" 0.049
//!   entropy 0.474 nats: "7" 0.911 "1" 0.057 "0" 0.009
//! ```

use burn::tensor::{DType, Device};
use soft_core::{PipelineConfig, SoftPipeline};
use soft_model::{GenerateOptions, Manner, Mode, ModelFiles, Tokenizer, Transformer, generate};
use soft_train::config::Model;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (model, tokenizer) = open()?;
    let encoded = tokenizer.as_ref().map(|t| t.encode("The capital of France is", true));
    let prompt = encoded.unwrap_or(Ok(vec![3, 1, 4, 1, 5]))?;
    let token = |id: u32| tokenizer.as_ref()?.decode_token(id);
    let temperature = if tokenizer.is_some() { 0.7 } else { 0.15 }; // random weights say little
    let config = PipelineConfig { temperature, top_k: 10, ..PipelineConfig::default() };
    let options = GenerateOptions {
        thoughts: Manner::new(SoftPipeline::new(config)?, Mode::Soft),
        max_new: 3,
        record: true,
        top: 3,
        ..GenerateOptions::default()
    };
    for mode in [Mode::Soft, Mode::Hard] {
        println!("{mode:?}");
        generate(
            &model,
            std::slice::from_ref(&prompt),
            &|_, _| mode,
            &options,
            &mut |_, _, step| {
                let Some(step) = step else { return };
                print!("  entropy {:.3} nats:", step.entropy_nats);
                for &(id, weight) in &step.top {
                    print!(" {:?} {weight:.3}", token(id).unwrap_or(id.to_string()));
                }
                println!();
            },
        )?;
    }
    Ok(())
}

fn open() -> Result<(Transformer, Option<Tokenizer>), Box<dyn std::error::Error>> {
    let Some(path) = std::env::args().nth(1) else {
        let shape = Model { d_model: 128, ..Model::default() }.new_shape(20, 32);
        return Ok((Transformer::from_seed(&shape, 1, &Device::default(), DType::F32), None));
    };
    let files = ModelFiles::open(path.as_ref())?;
    Ok((Transformer::open(&files, &Device::default(), DType::F32)?, files.tokenizer))
}
