//! What a step on rewards costs: drawing soft thoughts against drawing tokens at equal tokens, a
//! prompt that a group shares against one that every row is fed, scoring in one pass, and the bytes
//! that are kept. On SmolLM2 where it is there, and on a model of the size of `mnns`.

use burn::tensor::{DType, Device};
use soft_core::{PipelineConfig, Policy, SoftPipeline};
use soft_model::{
    Drawn, Family, GenerateOptions, Manner, Mode, ModelConfig, ModelFiles, Transformer, draw,
};
use soft_tests::bench::{Spread, interleaved, milliseconds, print_header, print_result, quick};
use soft_tests::{device, smollm2, tiny_config};

/// Soft rollouts over hard ones at equal tokens.
const GOAL: f64 = 1.05;

/// A model, and what is drawn from it.
struct Case {
    name: &'static str,
    model: Transformer,
    prompt: Vec<u32>,
    rows: usize,
    steps: usize,
    pipeline: PipelineConfig,
}

impl Case {
    fn options(&self) -> GenerateOptions {
        let pipeline = SoftPipeline::new(self.pipeline.clone()).expect("valid settings");
        GenerateOptions {
            thoughts: Manner::new(pipeline, Mode::Soft),
            max_new: self.steps,
            seed: 5,
            ..GenerateOptions::default()
        }
    }

    /// Prompts of a group, or of as many rows that are no group: their first tokens differ.
    fn prompts(&self, group: bool) -> Vec<Vec<u32>> {
        let row = |row: usize| {
            let mut prompt = self.prompt.clone();
            prompt[0] += if group { 0 } else { row as u32 % 2 };
            prompt
        };
        (0..self.rows).map(row).collect()
    }

    fn draw(&self, policy: Policy, mode: Mode, group: bool) -> Drawn {
        let prompts = self.prompts(group);
        draw(&self.model, &prompts, mode, policy, &self.options()).expect("a valid draw").1
    }

    fn measure(&self, rounds: usize) {
        println!("\n{}: {} rows of {} tokens", self.name, self.rows, self.steps);
        let square = self.model.embedding().square().mean().reshape([1]);
        let sigma = 0.33 * soft_core::host_values(square)[0].sqrt();
        let policies = [
            ("samples", Policy::Samples { count: 3 }),
            ("gumbel", Policy::Gumbel { temperature: 0.5 }),
            ("gaussian", Policy::Gaussian { sigma }),
            ("dirichlet", Policy::Dirichlet { concentration: 10.0 }),
            ("hybrid", Policy::Hybrid),
        ];
        for (name, policy) in policies {
            let soft = || milliseconds(|| drop(self.draw(policy, Mode::Soft, true)));
            let hard = || milliseconds(|| drop(self.draw(Policy::Token, Mode::Hard, true)));
            let times = interleaved(rounds, &mut [&mut { soft }, &mut { hard }]);
            let [soft, hard] = [Spread::of(&times[0]), Spread::of(&times[1])];
            let ratio = Spread::of_ratios(&times[0], &times[1]);
            let drawn = self.draw(policy, Mode::Soft, true);
            let (bytes, draws) = (drawn.bytes(), self.rows * self.steps);
            println!(
                "{name:<10} soft {soft} ms, hard {hard} ms, ratio {ratio}; {bytes} bytes kept, {} a \
                 draw",
                bytes / draws
            );
            print_result(&format!("{}_{name}_over_hard", self.name), ratio.median, GOAL);
        }
        let gumbel = Policy::Gumbel { temperature: 0.5 };
        let drawn = self.draw(gumbel, Mode::Soft, true);
        let shared = || milliseconds(|| drop(self.draw(gumbel, Mode::Soft, true)));
        let apart = || milliseconds(|| drop(self.draw(gumbel, Mode::Soft, false)));
        let scored = || milliseconds(|| drop(drawn.log_probs(&self.model)));
        let times = interleaved(rounds, &mut [&mut { shared }, &mut { apart }, &mut { scored }]);
        println!(
            "prompt shared {} ms, fed to every row {} ms; scored in one pass {} ms",
            Spread::of(&times[0]),
            Spread::of(&times[1]),
            Spread::of(&times[2])
        );
    }
}

fn small(device: &Device) -> Case {
    let shape = ModelConfig { vocab_size: 89, max_positions: 11, ..tiny_config(Family::Gpt2) };
    Case {
        name: "small",
        model: Transformer::from_seed(&shape, 3, device, DType::F32),
        prompt: vec![1, 7, 8, 9, 10],
        rows: 256,
        steps: 4,
        pipeline: PipelineConfig::default(),
    }
}

fn main() {
    let device = device();
    print_header(&device, "temperature 0.6 and 30 tokens kept on SmolLM2, nothing filtered else");
    let rounds = if quick() { 2 } else { 9 };
    small(&device).measure(rounds);
    let Some(path) = smollm2() else {
        println!("SKIPPED: SmolLM2 is not there");
        return;
    };
    let files = ModelFiles::open(&path).expect("the model");
    let text = "Question: Tom has 12 apples, gives 5 away and buys 9. How many has he?\nAnswer:";
    let case = Case {
        name: "smollm2",
        model: Transformer::open(&files, &device, DType::F32).expect("the model"),
        prompt: files.encode_prompt(text, false).expect("text"),
        rows: 8,
        steps: if quick() { 4 } else { 32 },
        pipeline: PipelineConfig { temperature: 0.6, top_k: 30, ..PipelineConfig::default() },
    };
    case.measure(if quick() { 1 } else { 5 });
}
