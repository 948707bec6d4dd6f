//! Names of parameters, by which some are trained and others frozen.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;

use crate::Transformer;

/// Parts of a path in this crate, and how Hugging Face's Llama names them.
const PARTS: [(&str, &str); 16] = [
    ("blocks", "layers"),
    ("attention", "self_attn"),
    ("query", "q_proj"),
    ("key", "k_proj"),
    ("value", "v_proj"),
    ("output", "o_proj"),
    ("gate", "gate_proj"),
    ("up", "up_proj"),
    ("down", "down_proj"),
    ("query_norm", "q_norm"),
    ("key_norm", "k_norm"),
    ("attention_norm", "input_layernorm"),
    ("mlp_norm", "post_attention_layernorm"),
    ("final_norm", "norm"),
    ("head", "lm_head"),
    ("embedding", "embed_tokens"),
];

fn name(path: &[String]) -> String {
    let part = |part: &String| match PARTS.iter().find(|(own, _)| own == part) {
        // The rows of a learned head are no head.
        Some((_, theirs)) if path[0] != "token_rows" => (*theirs).to_owned(),
        _ => part.clone(),
    };
    path.iter().map(part).collect::<Vec<_>>().join(".")
}

impl Transformer {
    /// Every parameter with its name, in order: as in Hugging Face's Llama for every family, such
    /// as `layers.0.self_attn.q_proj.weight`, `embed_tokens` or `norm.weight`; what is added to a
    /// model has names such as `layers.0.self_attn.q_proj.low_rank.a` and `token_rows.embedding`.
    pub fn parameter_names(&self) -> Vec<(ParamId, String)> {
        struct Names {
            path: Vec<String>,
            found: Vec<(ParamId, String)>,
        }
        impl ModuleVisitor for Names {
            fn enter_module(&mut self, name: &str, _: &str) {
                self.path.push(name.to_owned());
            }
            fn exit_module(&mut self, _: &str, _: &str) {
                self.path.pop();
            }
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                self.found.push((param.id, name(&self.path)));
            }
        }
        let mut names = Names { path: Vec::new(), found: Vec::new() };
        self.visit(&mut names);
        names.found
    }

    /// Freezes every parameter whose name `keep` does not accept; what is frozen already stays so.
    /// Names are those of [`Self::parameter_names`].
    #[must_use]
    pub fn with_only_trained(self, keep: &dyn Fn(&str) -> bool) -> Self {
        struct Freeze<'a> {
            path: Vec<String>,
            keep: &'a dyn Fn(&str) -> bool,
        }
        impl ModuleMapper for Freeze<'_> {
            fn enter_module(&mut self, name: &str, _: &str) {
                self.path.push(name.to_owned());
            }
            fn exit_module(&mut self, _: &str, _: &str) {
                self.path.pop();
            }
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                let keeps = param.is_require_grad() && (self.keep)(&name(&self.path));
                param.set_require_grad(keeps)
            }
        }
        self.map(&mut Freeze { path: Vec::new(), keep })
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::tensor::{DType, Device};

    use super::*;
    use crate::config::Family;
    use crate::config::tests::config;

    fn trained(model: &Transformer) -> Vec<String> {
        struct Trained(Vec<ParamId>);
        impl ModuleVisitor for Trained {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                if param.is_require_grad() {
                    self.0.push(param.id);
                }
            }
        }
        let mut ids = Trained(Vec::new());
        model.visit(&mut ids);
        let names = model.parameter_names().into_iter();
        names.filter(|(id, _)| ids.0.contains(id)).map(|(_, name)| name).collect()
    }

    #[test]
    fn names_are_those_of_hugging_face_and_no_two_are_the_same() {
        let model = Transformer::from_seed(&config(Family::Llama), 1, &Device::flex(), DType::F32);
        let names: Vec<String> = model.parameter_names().into_iter().map(|(_, n)| n).collect();
        for wanted in [
            "embed_tokens",
            "layers.0.input_layernorm.weight",
            "layers.1.self_attn.q_proj.weight",
            "layers.1.mlp.down_proj.weight",
            "norm.weight",
        ] {
            assert!(names.iter().any(|name| name == wanted), "{wanted} is not in {names:?}");
        }
        let mut unique = names.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), names.len());
    }

    #[test]
    fn what_a_pattern_leaves_out_is_frozen_and_what_is_frozen_stays_so() {
        let model = Transformer::from_seed(&config(Family::Llama), 1, &Device::flex(), DType::F32);
        let all = trained(&model);
        let model = model.with_only_trained(&|name| name.contains("mlp"));
        let kept = trained(&model);
        let expected: Vec<String> = all.into_iter().filter(|n| n.contains("mlp")).collect();
        assert_eq!(kept, expected);
        assert_eq!(trained(&model.with_only_trained(&|_| true)), expected);
    }
}
