//! Weights that a recurrence holds constant, and whose gradients are taken for all positions at once.

use std::sync::{Arc, Mutex, PoisonError};

use burn::module::{Param, ParamId};
use burn::tensor::{Gradients, Tensor};

use crate::Transformer;
use crate::adapter::Projection;
use crate::token_rows::TokenRows;

/// The products of one weight in a graph that holds it constant.
///
/// Differentiated where it stands, every position of a recurrence gives a weight a gradient as
/// large as itself, to be added to those of all others: for a row or two that moves more memory
/// than all the rest of a step. Here each product is `y = x W + o` with a zero leaf `o`, whose
/// gradient is that of `y`; the weight's is then one product over all positions, `X^T dY`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Products(Arc<Mutex<Vec<Product>>>);

#[derive(Debug)]
struct Product {
    /// `[rows, d_in]`, without autodiff.
    x: Tensor<2>,
    /// `[rows, d_out]`.
    offset: Tensor<2>,
}

impl Products {
    /// `x W`, remembered.
    ///
    /// # Shapes
    /// - x: `[rows, d_in]`; weight: `[d_in, d_out]`, a constant; output: `[rows, d_out]`
    pub(crate) fn product(&self, x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
        let constant = x.clone().inner();
        let y = soft_core::product(x, weight);
        let offset = zero_leaf(&y);
        let product = Product { x: constant, offset: offset.clone() };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(product);
        y + offset
    }

    /// The gradient of the weight, `[d_in, d_out]`, after a backward pass; `None` where nothing
    /// reached it. What was remembered is forgotten.
    fn gradient(&self, grads: &mut Gradients) -> Option<Tensor<2>> {
        let products = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let reached =
            products.into_iter().filter_map(|p| Some((p.x, p.offset.grad_remove(grads)?)));
        let (inputs, outputs): (Vec<_>, Vec<_>) = reached.unzip();
        if inputs.is_empty() {
            return None;
        }
        Some(Tensor::cat(inputs, 0).transpose().matmul(Tensor::cat(outputs, 0)))
    }
}

/// Zeros like `y`, as a leaf: added to `y` it gets the gradient of `y`.
///
/// # Shapes
/// - y: on an autodiff device; output: the same
pub fn zero_leaf(y: &Tensor<2>) -> Tensor<2> {
    Tensor::zeros(y.dims(), (&y.device(), y.dtype())).require_grad()
}

/// A parameter's value as a constant of any graph, under the same id. Not detached: that would make
/// a trained parameter another leaf with a gradient of its own.
fn constant(param: &Param<Tensor<2>>) -> Param<Tensor<2>> {
    Param::initialized(param.id, param.val().set_require_grad(false))
}

impl Transformer {
    /// The same model for the positions of a recurrence: the matrices of the blocks, the embedding
    /// and the output head are constants of its graph. After the backward pass
    /// [`Self::deferred_gradients`] has the gradients of the blocks' matrices; those of the
    /// embedding and the head are the caller's, who takes them from [`Self::mix`], [`Self::embed`]
    /// and [`Self::output_head`] of the model itself. All other parameters get theirs as always.
    ///
    /// # Panics
    /// If the model is not on an autodiff device.
    #[must_use]
    pub fn for_recurrence(&self) -> Self {
        let mut model = self.clone();
        for block in &mut model.blocks {
            for projection in Projection::ALL {
                let Some(linear) = block.projection_mut(projection) else { continue };
                if linear.weight.val().is_require_grad() {
                    linear.weight = constant(&linear.weight);
                    linear.products = Some(Products::default());
                }
            }
        }
        model.embedding = constant(&model.embedding);
        if let Some(head) = &mut model.head {
            head.weight = constant(&head.weight);
        }
        model.token_rows = model.token_rows.map(|rows| TokenRows {
            embedding: constant(&rows.embedding),
            head: rows.head.as_ref().map(constant),
            ids: rows.ids,
        });
        model
    }

    /// The gradients of the matrices that [`Self::for_recurrence`] made constants, after the
    /// backward pass of everything that this model computed since.
    pub fn deferred_gradients(&self, grads: &mut Gradients) -> Vec<(ParamId, Tensor<2>)> {
        let linears = self.blocks.iter().flat_map(|block| block.projections());
        let found = linears.filter_map(|(_, linear)| {
            Some((linear.weight.id, linear.products.as_ref()?.gradient(grads)?))
        });
        found.collect()
    }

    /// Whether anything is trained of the embedding or the output head, rows of them included.
    pub fn trains_tokens(&self) -> bool {
        let trained = |param: &Param<Tensor<2>>| param.val().is_require_grad();
        trained(&self.embedding)
            || self.head.as_ref().is_some_and(|head| trained(&head.weight))
            || self.token_rows.is_some()
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::module::Module;
    use burn::tensor::{DType, Device};
    use soft_core::host_values;

    use super::*;
    use crate::config::Family;
    use crate::config::tests::config;

    /// Two passes over the same cache, the second reading what the first wrote.
    fn loss(model: &Transformer, embeds: &Tensor<3>) -> Tensor<1> {
        let mut cache = model.new_cache(1);
        let mut pass = |from, columns| {
            let embeds = embeds.clone().narrow(1, from, columns);
            model.forward(embeds, &[vec![true; columns]], &mut cache, None).square().sum()
        };
        pass(0, 3) + pass(3, 1)
    }

    #[test]
    fn the_gradient_over_all_positions_is_the_sum_of_theirs() {
        for family in [Family::Llama, Family::Gpt2] {
            let device = Device::flex().autodiff();
            let model = Transformer::from_seed(&config(family), 7, &device, DType::F64);
            let embeds = Tensor::from_inner(model.embed(&[5, 2, 9, 4], 1).inner());
            let mut plain = loss(&model, &embeds).backward();
            let recurrent = model.for_recurrence();
            let mut grads = loss(&recurrent, &embeds).backward();
            let deferred = recurrent.deferred_gradients(&mut grads);
            let matrices: Vec<_> =
                model.blocks.iter().flat_map(|block| block.projections()).collect();
            assert_eq!(deferred.len(), matrices.len());
            for ((_, linear), (id, found)) in matrices.into_iter().zip(deferred) {
                assert_eq!(id, linear.weight.id);
                let expected = linear.weight.val().grad_remove(&mut plain).expect("trained");
                let (a, b) = (host_values(expected), host_values(found));
                assert!(a.iter().any(|x| x.abs() > 1e-6), "something is differentiated");
                assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-12));
            }
            let norm = &model.final_norm.weight;
            let [expected, found] = [&mut plain, &mut grads]
                .map(|grads| host_values(norm.val().grad_remove(grads).expect("trained")));
            assert!(expected.iter().zip(&found).all(|(a, b)| (a - b).abs() < 1e-12));
            assert!(recurrent.deferred_gradients(&mut grads).is_empty(), "products are forgotten");
        }
    }

    #[test]
    fn what_is_frozen_has_nothing_to_defer() {
        let device = Device::flex().autodiff();
        let model = Transformer::from_seed(&config(Family::Llama), 7, &device, DType::F32);
        assert!(model.trains_tokens());
        let frozen = model.freeze();
        assert!(!frozen.trains_tokens());
        let recurrent = frozen.for_recurrence();
        assert!(recurrent.blocks[0].attention.query.products.is_none());
        assert_eq!(recurrent.num_params(), frozen.num_params());
    }
}
