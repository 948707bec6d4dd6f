//! What a generation drew, kept as constants, to be scored again under the same or another model.

use burn::tensor::{Bool, Int, Tensor, TensorData};
use soft_core::{Draw, host_values, tempered};

use crate::active::Cells;
use crate::transformer::Transformer;

/// What the rows of a generation drew, step by step.
#[derive(Debug, Clone)]
pub struct Drawn {
    /// The prompts.
    pub prompts: Vec<Vec<u32>>,
    /// The steps, in the order in which they were made.
    pub steps: Vec<DrawnStep>,
    /// What logits are divided by before a draw: those of thoughts, those of what is none.
    pub temperatures: [f64; 2],
}

/// What each row of a step drew and fed.
#[derive(Debug, Clone)]
pub struct DrawnStep {
    /// The draws of thoughts, and of what is none; a row of them for every row of the batch.
    pub draws: [Option<Draw>; 2],
    /// What of it each row uses.
    pub uses: Vec<Use>,
    /// Whether thoughts are fed as soft inputs, which is what additions may act on.
    pub soft: bool,
}

/// Where what a row feeds comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// A draw of a thought.
    Thought,
    /// A draw of what is none.
    Token,
    /// A draw that stands for a tag: what is fed is the tag's last token.
    Tag {
        /// Whether it is a draw of a thought.
        thought: bool,
        /// What is fed.
        token: u32,
    },
    /// A token that a rule put there, whatever the model says.
    Forced(u32),
    /// The row was over.
    Over,
}

impl Use {
    /// Index of its draw.
    fn draw(self) -> Option<usize> {
        match self {
            Use::Thought | Use::Tag { thought: true, .. } => Some(0),
            Use::Token | Use::Tag { thought: false, .. } => Some(1),
            Use::Forced(_) | Use::Over => None,
        }
    }

    /// Whether a thought was drawn.
    #[must_use]
    pub fn is_thought(self) -> bool {
        self.draw() == Some(0)
    }

    /// The token that is fed whatever was drawn.
    fn token(self) -> Option<u32> {
        match self {
            Use::Tag { token, .. } | Use::Forced(token) => Some(token),
            Use::Thought | Use::Token | Use::Over => None,
        }
    }
}

/// Draws under a model.
#[derive(Debug, Clone)]
pub struct Scores {
    /// Log-probability of the token, or log-density less a constant of the draw
    /// ([`Draw::relative_log_prob`]), of what each row drew at each step; 0 where it drew nothing:
    /// `[steps, batch]`.
    pub log_probs: Tensor<2>,
    /// Logits that they come from: `[steps * batch, vocab]`, one step after another.
    pub logits: Tensor<2>,
    /// The hidden states of those: `[steps * batch, d_model]`.
    pub hidden: Tensor<2>,
}

impl Drawn {
    /// Rows.
    pub fn batch(&self) -> usize {
        self.prompts.len()
    }

    /// Whether each row drew something at each step: `[step][row]`.
    pub fn counts(&self) -> Vec<Vec<bool>> {
        let of = |step: &DrawnStep| step.uses.iter().map(|used| used.draw().is_some()).collect();
        self.steps.iter().map(of).collect()
    }

    /// One row of it.
    ///
    /// # Panics
    /// If there is no such row.
    #[must_use]
    pub fn row(&self, row: usize) -> Self {
        self.rows(&[row])
    }

    /// Some rows, in this order.
    ///
    /// # Panics
    /// If one of them is not there.
    #[must_use]
    pub fn rows(&self, rows: &[usize]) -> Self {
        let step = |step: &DrawnStep| DrawnStep {
            draws: step.draws.each_ref().map(|draw| draw.as_ref().map(|draw| draw.rows(rows))),
            uses: rows.iter().map(|&row| step.uses[row]).collect(),
            soft: step.soft,
        };
        let is_over = |step: &DrawnStep| step.uses.iter().all(|used| *used == Use::Over);
        Self {
            prompts: rows.iter().map(|&row| self.prompts[row].clone()).collect(),
            steps: self.steps.iter().map(step).filter(|step| !is_over(step)).collect(),
            temperatures: self.temperatures,
        }
    }

    /// Scores everything in one parallel pass, with gradients where the model is on an autodiff
    /// device. What was drawn is a constant; what is fed depends on the model through the rows of
    /// the embedding alone.
    ///
    /// # Panics
    /// If there is no row or no step.
    pub fn score(&self, model: &Transformer) -> Scores {
        let (batch, steps) = (self.batch(), self.steps.len());
        assert!(batch > 0 && steps > 0, "something was drawn");
        let embedding = model.embedding();
        let hidden = self.hidden(model, &embedding);
        let logits = model.output_head().logits(hidden.clone());
        let log_probs = self.of_draws(&logits, &|draw, rows, temperature| {
            let own = logits.clone().narrow(0, rows, batch);
            draw.relative_log_prob(tempered(own, temperature), &embedding)
        });
        Scores { log_probs, logits, hidden }
    }

    /// The divergence KL(model || reference) of what every draw comes from, in closed form
    /// ([`Draw::kl`]), 0 where a row drew nothing: `[steps, batch]`.
    ///
    /// # Gradient
    /// Flows to the model alone.
    pub fn kl(&self, models: [&Transformer; 2], scores: [&Scores; 2]) -> Tensor<2> {
        let batch = self.batch();
        let [own, reference] = models.map(Transformer::embedding);
        let [logits, other] = scores.map(|scores| &scores.logits);
        self.of_draws(logits, &|draw, rows, temperature| {
            let of =
                |logits: &Tensor<2>| tempered(logits.clone().narrow(0, rows, batch), temperature);
            draw.kl(of(logits), of(other), &own, &reference)
        })
    }

    /// A number of every draw, 0 where a row drew nothing: `[steps, batch]`. `of` is given a step's
    /// draws, their first row in `logits`, and what these are divided by.
    fn of_draws(
        &self,
        logits: &Tensor<2>,
        of: &dyn Fn(&Draw, usize, f64) -> Tensor<1>,
    ) -> Tensor<2> {
        let batch = self.batch();
        let mut all = Vec::with_capacity(self.steps.len());
        for (number, step) in self.steps.iter().enumerate() {
            let mut found: Option<Tensor<1>> = None;
            for (place, draw) in step.draws.iter().enumerate() {
                let Some(draw) = draw else { continue };
                let other: Vec<bool> =
                    step.uses.iter().map(|used| used.draw() != Some(place)).collect();
                if other.iter().all(|&other| other) {
                    continue;
                }
                let own = of(draw, number * batch, self.temperatures[place]);
                let other = TensorData::from(other.as_slice());
                let other = Tensor::<1, Bool>::from_bool(other, &own.device());
                let own = own.mask_fill(other, 0.0);
                found = Some(match found {
                    Some(sum) => sum + own,
                    None => own,
                });
            }
            let none = || Tensor::zeros([batch], (&logits.device(), logits.dtype()));
            all.push(found.unwrap_or_else(none).reshape([1, batch]));
        }
        Tensor::cat(all, 0)
    }

    /// [`Self::score`]'s log-probabilities on the host: `[step][row]`.
    pub fn log_probs(&self, model: &Transformer) -> Vec<Vec<f64>> {
        let values = host_values(self.score(model).log_probs);
        values.chunks_exact(self.batch()).map(<[f64]>::to_vec).collect()
    }

    /// Bytes of what is stored: draws and prompts.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let draws = self.steps.iter().flat_map(|step| step.draws.iter().flatten());
        let uses = self.steps.len() * self.batch() * size_of::<Use>();
        let prompts: usize =
            self.prompts.iter().map(|prompt| prompt.len() * size_of::<u32>()).sum();
        draws.map(Draw::bytes).sum::<usize>() + uses + prompts
    }

    /// Hidden states that each step was drawn from: `[steps * batch, d_model]`.
    fn hidden(&self, model: &Transformer, embedding: &Tensor<2>) -> Tensor<2> {
        let (batch, steps) = (self.batch(), self.steps.len());
        let fed = |row: usize| {
            let uses = self.steps.iter().map(move |step| step.uses[row]);
            // What the last step of a row draws is not fed.
            let own = uses.clone().take_while(|used| *used != Use::Over).count();
            uses.take(own.saturating_sub(1))
        };
        let columns = |row: usize| self.prompts[row].len() + fed(row).count();
        let width = (0..batch).map(columns).max().unwrap_or(0);
        let mut ids = vec![0; batch * width];
        // Where in the table of tokens and draws the input of each cell stands.
        let mut source: Vec<i64> = (0..(batch * width) as i64).collect();
        let mut table = Vec::new();
        let mut rows = batch * width;
        let mut starts = vec![[None; 2]; steps];
        for (number, step) in self.steps.iter().take(steps - 1).enumerate() {
            for (place, draw) in step.draws.iter().enumerate() {
                let Some(draw) = draw else { continue };
                if step.uses.iter().any(|used| used.draw() == Some(place)) {
                    table.push(draw.embed(embedding));
                    starts[number][place] = Some(rows);
                    rows += batch;
                }
            }
        }
        let (mut real, mut soft) = (Vec::with_capacity(batch), Vec::with_capacity(batch));
        for (row, prompt) in self.prompts.iter().enumerate() {
            let first = row * width;
            ids[first..][..prompt.len()].copy_from_slice(prompt);
            let mut own_soft = vec![false; width];
            for (number, used) in fed(row).enumerate() {
                let column = prompt.len() + number;
                let start = used.draw().and_then(|place| starts[number][place]);
                match (used.token(), start) {
                    (Some(id), _) => ids[first + column] = id,
                    (None, Some(start)) => source[first + column] = (start + row) as i64,
                    (None, None) => {}
                }
                own_soft[column] = used == Use::Thought && self.steps[number].soft;
            }
            real.push((0..width).map(|column| column < columns(row)).collect::<Vec<bool>>());
            soft.push(own_soft);
        }
        let d_model = embedding.dims()[1];
        let mut inputs = vec![model.embed(&ids, batch).reshape([batch * width, d_model])];
        inputs.extend(table);
        let inputs = match inputs.len() {
            1 => inputs.remove(0),
            _ => Tensor::cat(inputs, 0).select(0, indices(&source, embedding)),
        };
        let cells = Cells { real: &real, soft: Some(&soft) };
        let embeds = inputs.reshape([batch, width, d_model]);
        let hidden = model.forward_cells(embeds, cells, &mut model.new_cache(batch), None);
        let place = |step: usize, row: usize| {
            // A row that is over has no place: any of its own will do.
            let column = (self.prompts[row].len() - 1 + step).min(columns(row) - 1);
            (row * width + column) as i64
        };
        let places: Vec<i64> =
            (0..steps).flat_map(|step| (0..batch).map(move |row| place(step, row))).collect();
        hidden.select(0, indices(&places, embedding))
    }
}

fn indices(values: &[i64], like: &Tensor<2>) -> Tensor<1, Int> {
    Tensor::from_data(values, &like.device())
}

#[cfg(all(test, feature = "flex"))]
mod tests;
