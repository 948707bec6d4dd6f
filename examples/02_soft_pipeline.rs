//! From scores to the distribution that is fed back: temperature, filters, and what they keep.
//!
//! The probabilities before filters are 0.50, 0.25, 0.125, 0.075 and 0.05, for tokens 0 to 4.
//! The entropy is taken before filters, the kept mass says how much of it they left.
//!
//! ```text
//! softmax        entropy 1.30 nats, kept 1.00: 0: 0.500, 1: 0.250, 2: 0.125, 3: 0.075, 4: 0.050
//! top_k = 2      entropy 1.30 nats, kept 0.75: 0: 0.667, 1: 0.333
//! top_p = 0.8    entropy 1.30 nats, kept 0.88: 0: 0.571, 1: 0.286, 2: 0.143
//! min_p = 0.2    entropy 1.30 nats, kept 0.88: 0: 0.571, 1: 0.286, 2: 0.143
//! temperature 2  entropy 1.52 nats, kept 1.00: 0: 0.344, 1: 0.243, 2: 0.172, 3: 0.133, 4: 0.109
//! temperature 0  entropy 1.30 nats, kept 0.50: 0: 1.000
//! ```

use burn::tensor::{Device, Tensor};
use soft_core::{PipelineConfig, SoftPipeline, host_values};

fn main() -> Result<(), soft_core::Error> {
    let probabilities = [[0.5f32, 0.25, 0.125, 0.075, 0.05]];
    let logits = Tensor::<2>::from_data(probabilities, &Device::default()).log();
    let plain = PipelineConfig::default;
    let settings = [
        ("softmax", plain()),
        ("top_k = 2", PipelineConfig { top_k: 2, ..plain() }),
        ("top_p = 0.8", PipelineConfig { top_p: 0.8, ..plain() }),
        ("min_p = 0.2", PipelineConfig { min_p: 0.2, ..plain() }),
        ("temperature 2", PipelineConfig { temperature: 2.0, ..plain() }),
        ("temperature 0", PipelineConfig { temperature: 0.0, ..plain() }),
    ];
    for (name, config) in settings {
        let pipeline = SoftPipeline::new(config)?;
        // Noise would need a key a row; there is none here.
        let token = pipeline.apply(logits.clone(), &[]);
        let entropy = host_values(pipeline.entropy_nats(logits.clone()))[0];
        let kept = host_values(pipeline.kept_mass(logits.clone(), &token.probs))[0];
        let fed: Vec<String> = token.fed.to_rows(5)[0]
            .iter()
            .map(|(id, weight)| format!("{id}: {weight:.3}"))
            .collect();
        println!("{name:<14} entropy {entropy:.2} nats, kept {kept:.2}: {}", fed.join(", "));
    }
    Ok(())
}
