//! A soft token is a mixture of embeddings, and a hard token is the mixture of one.
//!
//! ```text
//! 1/4 of token 1 and 3/4 of token 2: [2.25, 4.75]
//! all of token 2:                    [3.0, 5.0]
//! the row of token 2:                [3.0, 5.0]
//! ```

use burn::tensor::{Device, Tensor};
use soft_core::{Distribution, host_values, int_tensor};

fn main() {
    let device = Device::default();
    let embedding = Tensor::<2>::from_data([[9.0f32, 9.0], [0.0, 4.0], [3.0, 5.0]], &device);

    let two = Distribution::Sparse {
        ids: int_tensor(&[1, 2], [1, 2], &device),
        weights: Tensor::from_data([[0.25f32, 0.75]], &device),
    };
    let mixture = host_values(two.mix(embedding.clone()));
    println!("1/4 of token 1 and 3/4 of token 2: {mixture:?}");

    let one = Distribution::one_hot(&[2], &embedding);
    let hard = host_values(one.mix(embedding.clone()));
    let row = host_values(embedding.narrow(0, 2, 1));
    println!("all of token 2:                    {hard:?}");
    println!("the row of token 2:                {row:?}");
    assert_eq!(hard, row, "the same path, to the bit");
}
