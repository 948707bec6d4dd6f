//! What the batches of a training look like to the tensors of its passes.

use soft_model::ModelConfig;

use crate::config::{Arm, Config, RolloutKind};
use crate::data::Sampler;
use crate::error::Error;
use crate::example::{Example, Truth};
use crate::layout::pack;
use crate::rl::run_free;

/// Everything about a training that its memory depends on, besides its settings.
pub(crate) struct Workload {
    /// The model, with the rows of new tokens; of a new one its vocabulary and positions count.
    pub(crate) shape: ModelConfig,
    /// Parameters that a checkpoint adds to its own base.
    pub(crate) there: usize,
    /// Tokens of `model.new_tokens`.
    pub(crate) new_tokens: usize,
    /// Bytes of the model's file; 0 for a new model.
    pub(crate) file_bytes: u64,
    /// Examples of each stage of the curriculum, for each arm that is trained.
    pub(crate) arms: Vec<(Arm, Vec<Vec<Example>>)>,
    /// Held-out examples.
    pub(crate) valid: Vec<Example>,
    /// Whether answers are generated for problems of a task, in place of held-out examples.
    pub(crate) asks: bool,
}

/// What a micro-batch is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Training on its truth.
    Rollout(RolloutKind),
    /// Drawing for its prompts, and an update on what was drawn.
    Draws,
    /// A reward that is differentiated.
    Reward,
}

/// Sizes of the tensors of one micro-batch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Sizes {
    /// Rows of the tensors.
    pub(crate) rows: usize,
    /// Columns that are fed.
    pub(crate) columns: usize,
    /// Places whose prediction the loss needs.
    pub(crate) scored: usize,
    /// Soft inputs.
    pub(crate) soft: usize,
    /// Where the spans of a recurrence begin, with the end of the last: 0, each column with a soft
    /// input, `columns`.
    pub(crate) starts: Vec<usize>,
    /// Scored places that each of these spans predicts.
    pub(crate) scored_in: Vec<usize>,
}

/// Micro-batches that are looked at one by one; of a longer training the longest examples are put
/// together instead.
const LOOKED_AT: usize = 4096;

impl Sizes {
    /// Of examples that are cut to `longest` positions and, above 0, packed into rows of `packed`
    /// columns.
    pub(crate) fn of(examples: &[&Example], longest: usize, packed: usize) -> Self {
        let len = |example: &Example| example.len().min(longest);
        let columns: Vec<usize> = examples.iter().map(|e| len(e).max(1) - 1).collect();
        let widest = columns.iter().copied().max().unwrap_or(0);
        let (rows, width) = match packed {
            0 => (examples.len(), widest),
            length => {
                let (order, layout) = pack(&columns, length.max(widest));
                let ends = order.iter().enumerate().map(|(i, &e)| layout.place(i).1 + columns[e]);
                (layout.rows(), ends.max().unwrap_or(0))
            }
        };
        let mut sizes = Self { rows, columns: width, ..Self::default() };
        let mut soft = vec![false; widest];
        let mut scored = vec![0; widest];
        for (example, &columns) in examples.iter().zip(&columns) {
            for column in 0..columns {
                let predicted = column + 1;
                let counts = example.weight[predicted] != 0.0 || example.soft[predicted];
                scored[column] += usize::from(counts);
                sizes.soft += usize::from(example.soft[column]);
                soft[column] |= example.soft[column];
            }
        }
        sizes.scored = scored.iter().sum();
        sizes.starts.push(0);
        sizes.starts.extend((1..widest).filter(|&column| soft[column]));
        sizes.starts.push(widest);
        let spans = sizes.starts.windows(2);
        sizes.scored_in = spans.map(|span| scored[span[0]..span[1]].iter().sum()).collect();
        sizes
    }

    /// Cells of the tensors.
    pub(crate) fn cells(&self) -> usize {
        self.rows * self.columns
    }
}

/// A row that is drawn for the prompt of an example, as long as it may become: all of it is scored.
fn drawn_row(example: &Example, config: &Config) -> Example {
    let prompt = example.first_written();
    let len = match config.task.name.is_generated() {
        true => example.len(),
        false => prompt + config.generate.max_new,
    };
    Example::from_tokens(&vec![0; len], prompt)
}

impl Workload {
    /// Calls `seen` with what is done and the sizes of the micro-batches of an arm: all of
    /// them, or the first ones and one of the longest examples.
    ///
    /// # Errors
    /// A plan of rollouts that cannot be read.
    pub(crate) fn batches(
        &self,
        config: &Config,
        arm: usize,
        mut seen: impl FnMut(Way, &Sizes),
    ) -> Result<(), Error> {
        let (arm, stages) = &self.arms[arm];
        let train = &config.train;
        let plan = config.rollout.plan().map_err(|report| Error::Config { report })?;
        let kind_at = |step| match arm {
            Arm::Soft => plan.kind_at(step),
            // The arms without mixtures have nothing to roll out.
            _ => RolloutKind::Teacher,
        };
        let longest = match config.data.max_len {
            0 => usize::MAX,
            longest => longest,
        };
        let mut look = |examples: &[&Example], kind| {
            if config.rl.draws() {
                let rows: Vec<Example> =
                    examples.iter().map(|example| drawn_row(example, config)).collect();
                let group = rows.iter().flat_map(|row| std::iter::repeat_n(row, config.rl.group));
                let group: Vec<&Example> = group.collect();
                seen(Way::Draws, &Sizes::of(&group, usize::MAX, 0));
            }
            if config.rl.is_on() && config.rl.pathwise > 0.0 {
                let free: Vec<Example> = examples.iter().map(|example| run_free(example)).collect();
                seen(Way::Reward, &Sizes::of(&free.iter().collect::<Vec<_>>(), longest, 0));
            }
            if config.rl.is_on() && config.rl.supervised == 0.0 {
                return;
            }
            let packed = if kind == RolloutKind::Sequential { 0 } else { config.data.pack };
            seen(Way::Rollout(kind), &Sizes::of(examples, longest, packed));
        };
        let samplers = stages.iter().map(|stage| Sampler::new(stage.len(), config.run.seed));
        let mut samplers: Vec<Sampler> = samplers.collect();
        let steps = train.steps.min(LOOKED_AT.div_ceil(train.grad_accum));
        for step in 0..steps {
            let stage = config.curriculum.stage_at(step, stages.len());
            let first = (step * train.micro_batch * train.grad_accum) as u64;
            for micro in 0..train.grad_accum {
                let start = first + (micro * train.micro_batch) as u64;
                let rows = start..start + train.micro_batch as u64;
                let examples: Vec<&Example> =
                    rows.map(|row| &stages[stage][samplers[stage].index_at(row)]).collect();
                look(&examples, kind_at(step));
            }
        }
        if steps < train.steps {
            for (index, stage) in stages.iter().enumerate() {
                let mut by_length: Vec<&Example> = stage.iter().collect();
                by_length.sort_by_key(|example| std::cmp::Reverse(example.len()));
                let rows = by_length.iter().copied().cycle().take(train.micro_batch);
                let rows: Vec<&Example> = rows.collect();
                let later = (steps..train.steps).step_by((train.steps / 64).max(1));
                let later = later.filter(|&s| config.curriculum.stage_at(s, stages.len()) == index);
                let mut kinds: Vec<RolloutKind> = later.map(kind_at).collect();
                kinds.dedup();
                kinds.into_iter().for_each(|kind| look(&rows, kind));
            }
        }
        Ok(())
    }

    /// Bytes of the examples on the host; a training holds the data set and the examples that its
    /// arm makes of it.
    pub(crate) fn example_bytes(&self) -> u64 {
        let of = |example: &Example| {
            let entries = example.truth.iter().map(|truth| match truth {
                Truth::Soft(entries) => entries.len(),
                Truth::None | Truth::Token(_) => 0,
            });
            let position = size_of::<u32>() + size_of::<bool>() + size_of::<f32>();
            let position = position + size_of::<Truth>();
            let soft = entries.sum::<usize>() * size_of::<(u32, f32)>();
            size_of::<Example>() + example.len() * position + soft
        };
        let arm = |stages: &Vec<Vec<Example>>| stages.iter().flatten().map(of).sum::<usize>();
        let largest = self.arms.iter().map(|(_, stages)| arm(stages)).max().unwrap_or(0);
        let valid: usize = self.valid.iter().map(of).sum();
        let copies = if self.asks { 1 } else { 2 };
        (copies * (largest + valid)) as u64
    }

    /// Positions of the longest training example.
    pub(crate) fn longest(&self) -> usize {
        let examples = self.arms.iter().flat_map(|(_, stages)| stages.iter().flatten());
        examples.map(Example::len).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Batch;

    fn examples() -> Vec<Example> {
        let example = |len: usize, soft: std::ops::Range<usize>| {
            let ids: Vec<u32> = (0..len as u32).collect();
            let mut example = Example::from_tokens(&ids, len / 2);
            example.soft[soft].fill(true);
            example
        };
        vec![example(9, 2..4), example(5, 1..2), example(7, 0..0), example(12, 5..9)]
    }

    #[test]
    fn the_sizes_are_those_of_the_batch_itself() {
        let examples = examples();
        let counts = |example: &Example, t: usize| example.weight[t] != 0.0 || example.soft[t];
        for packed in [0, 1, 20] {
            let batch = Batch::new(examples.clone());
            let batch = if packed > 0 { batch.packed(packed) } else { batch };
            let sizes = Sizes::of(&examples.iter().collect::<Vec<_>>(), usize::MAX, packed);
            assert_eq!((sizes.rows, sizes.columns), (batch.tensor_rows(), batch.columns()));
            let scored =
                batch.predicted(0..batch.columns(), |p| counts(&batch.examples[p.row], p.position));
            assert_eq!(sizes.scored, scored.len());
            assert_eq!(sizes.soft, batch.soft_inputs(0..batch.columns()).len());
            assert_eq!(sizes.scored_in.iter().sum::<usize>(), sizes.scored);
        }
        let sizes = Sizes::of(&examples.iter().collect::<Vec<_>>(), usize::MAX, 0);
        assert_eq!(sizes.starts, [0, 1, 2, 3, 5, 6, 7, 8, 11], "each soft column, and the end");
        let cut = Sizes::of(&examples.iter().collect::<Vec<_>>(), 6, 0);
        assert_eq!((cut.columns, cut.soft), (5, 3), "positions 0 to 5 are left, 4 of 5 is fed");
    }
}
