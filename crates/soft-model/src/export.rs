//! A model's tensors under their Hugging Face names, for saving.

use burn::tensor::{DType, Tensor};

use crate::linear::Linear;
use crate::names::{QueryKeyValue, block_names, outer_names};
use crate::norm::Norm;
use crate::{NamedTensor, Transformer};

impl Transformer {
    /// Every tensor of the base model in f32, matrices as `[out, in]`; low-rank branches and the
    /// prefix are not part of it.
    pub fn named_tensors(&self) -> Vec<NamedTensor> {
        let mut out = Export(Vec::new());
        let outer = outer_names(self.config.family);
        out.matrix(outer.embedding, self.whole_embedding());
        if let Some(positions) = &self.positions {
            out.matrix(outer.positions, positions.val());
        }
        for (layer, block) in self.blocks.iter().enumerate() {
            let names = block_names(self.config.family, layer);
            let attention = &block.attention;
            out.norm(&names.attention_norm, &block.attention_norm);
            let projections = [&attention.query, &attention.key, &attention.value];
            match &names.query_key_value {
                QueryKeyValue::Separate(names) => {
                    names.iter().zip(projections).for_each(|(name, part)| out.linear(name, part));
                }
                QueryKeyValue::Fused(name) => out.fused(name, projections),
            }
            out.linear(&names.attention_output, &attention.output);
            if let (Some(query), Some(key)) = (&attention.query_norm, &attention.key_norm) {
                out.norm(&names.query_norm, query);
                out.norm(&names.key_norm, key);
            }
            out.norm(&names.mlp_norm, &block.mlp_norm);
            if let Some(gate) = &block.mlp.gate {
                out.linear(&names.gate, gate);
            }
            out.linear(&names.up, &block.mlp.up);
            out.linear(&names.down, &block.mlp.down);
        }
        out.norm(outer.final_norm, &self.final_norm);
        if let Some(head) = self.whole_head() {
            out.matrix(outer.head, head);
        }
        out.0
    }
}

struct Export(Vec<NamedTensor>);

impl Export {
    fn push(&mut self, name: String, shape: Vec<usize>, tensor: Tensor<2>) {
        let data = tensor.into_data().convert_dtype(DType::F32);
        let values = data.iter::<f32>().collect();
        self.0.push(NamedTensor { name, shape, values });
    }

    fn matrix(&mut self, name: &str, tensor: Tensor<2>) {
        self.push(name.to_owned(), tensor.dims().to_vec(), tensor);
    }

    fn vector(&mut self, name: String, tensor: Tensor<2>) {
        self.push(name, vec![tensor.dims()[1]], tensor);
    }

    fn linear(&mut self, name: &str, linear: &Linear) {
        self.matrix(&format!("{name}.weight"), linear.weight.val().transpose());
        if let Some(bias) = &linear.bias {
            self.vector(format!("{name}.bias"), bias.val());
        }
    }

    fn fused(&mut self, name: &str, parts: [&Linear; 3]) {
        let weights = parts.map(|part| part.weight.val().transpose()).to_vec();
        self.matrix(&format!("{name}.weight"), Tensor::cat(weights, 0));
        let biases: Vec<_> =
            parts.iter().filter_map(|part| part.bias.as_ref().map(|bias| bias.val())).collect();
        self.vector(format!("{name}.bias"), Tensor::cat(biases, 1));
    }

    fn norm(&mut self, name: &str, norm: &Norm) {
        self.vector(format!("{name}.weight"), norm.weight.val());
        if let Some(bias) = &norm.bias {
            self.vector(format!("{name}.bias"), bias.val());
        }
    }
}
