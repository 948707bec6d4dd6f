//! Values by hand, by gguf-py, and laws of the sizes.

use half::{bf16, f16};

use super::*;

fn values(stored: StoredType, bytes: &[u8], len: usize) -> Vec<f32> {
    let mut out = vec![f32::NAN; len];
    dequantise(stored, bytes, &mut out);
    out
}

#[test]
fn q4_1_is_scale_times_nibble_plus_minimum_low_nibbles_first() {
    let mut block = Vec::new();
    block.extend(f16::from_f32(0.5).to_le_bytes());
    block.extend(f16::from_f32(-3.0).to_le_bytes());
    block.extend((0..16u8).map(|i| i | ((15 - i) << 4)));
    let found = values(StoredType::Q4_1, &block, 32);
    for i in 0..16 {
        assert_eq!(found[i], 0.5 * i as f32 - 3.0);
        assert_eq!(found[16 + i], 0.5 * (15 - i) as f32 - 3.0);
    }
}

#[test]
fn q8_0_is_scale_times_signed_byte() {
    let mut block = f16::from_f32(0.25).to_le_bytes().to_vec();
    block.extend((0..32i32).map(|i| ((i - 16) * 8).clamp(-128, 127) as i8 as u8));
    let found = values(StoredType::Q8_0, &block, 32);
    assert_eq!(found[0], -32.0);
    assert_eq!(found[16], 0.0);
    assert_eq!(found[31], 30.0);
}

#[test]
fn floats_keep_their_value() {
    assert_eq!(values(StoredType::F64, &1.5f64.to_le_bytes(), 1), [1.5]);
    assert_eq!(values(StoredType::F32, &(-2.25f32).to_le_bytes(), 1), [-2.25]);
    assert_eq!(values(StoredType::F16, &f16::from_f32(0.125).to_le_bytes(), 1), [0.125]);
    assert_eq!(values(StoredType::Bf16, &bf16::from_f32(-8.0).to_le_bytes(), 1), [-8.0]);
}

#[test]
fn every_half_equals_the_reference_conversion() {
    for bits in 0..=u16::MAX {
        let expected = f16::from_bits(bits).to_f32();
        let found = f16_le(bits.to_le_bytes());
        let same = found.to_bits() == expected.to_bits();
        assert!(same || (found.is_nan() && expected.is_nan()), "{bits:#06x}");
    }
}

#[test]
fn a_broken_block_has_no_length() {
    assert_eq!(StoredType::Q4_1.byte_len(33), None);
    assert_eq!(StoredType::F64.byte_len(usize::MAX), None);
    assert_eq!(StoredType::Q4_1.byte_len(64), Some(40));
}

/// Blocks of every type and their values by another implementation.
const ORACLE: &str = include_str!("../../../../tests/goldens/gguf-blocks.json");

const ALL: [StoredType; 12] = [
    StoredType::F64,
    StoredType::F32,
    StoredType::F16,
    StoredType::Bf16,
    StoredType::Q4_0,
    StoredType::Q4_1,
    StoredType::Q5_0,
    StoredType::Q5_1,
    StoredType::Q8_0,
    StoredType::Q4K,
    StoredType::Q5K,
    StoredType::Q6K,
];

fn bytes_of(hex: &serde_json::Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap();
    let digits = (0..hex.len()).step_by(2);
    digits.map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn every_block_has_the_values_of_gguf_py_to_the_bit() {
    let oracle: serde_json::Value = serde_json::from_str(ORACLE).unwrap();
    let cases = oracle["cases"].as_array().unwrap();
    let mut compared = Vec::new();
    for case in cases {
        let name = case["type"].as_str().unwrap();
        let stored = *ALL.iter().find(|stored| stored.name() == name).unwrap();
        let (bytes, expected) = (bytes_of(&case["blocks"]), bytes_of(&case["values"]));
        let found = values(stored, &bytes, expected.len() / 4);
        for (index, (found, expected)) in found.iter().zip(expected.as_chunks().0).enumerate() {
            let expected = f32::from_le_bytes(*expected);
            assert_eq!(found.to_bits(), expected.to_bits(), "{name}[{index}]: {found} {expected}");
        }
        compared.push(name);
    }
    let types = ["BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"];
    assert_eq!(compared, types);
}

#[test]
fn a_scale_doubles_every_value_and_blocks_do_not_touch_each_other() {
    // Where the half-precision numbers of a block lie.
    let halves = |stored: StoredType| match stored {
        StoredType::Q4_1 | StoredType::Q5_1 | StoredType::Q4K | StoredType::Q5K => vec![0, 2],
        StoredType::Q6K => vec![208],
        _ => vec![0],
    };
    for stored in ALL.into_iter().filter(|stored| stored.block_len() > 1) {
        let size = stored.block_bytes();
        let block = |seed: usize, scale: f32| {
            let mut block: Vec<u8> = (0..size).map(|i| (i * 37 + seed * 101) as u8).collect();
            for at in halves(stored) {
                block[at..at + 2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
            }
            block
        };
        let len = stored.block_len();
        let one = values(stored, &block(1, 0.5), len);
        let doubled = values(stored, &block(1, 1.0), len);
        assert!(one.iter().zip(&doubled).all(|(one, two)| 2.0 * one == *two), "{stored:?}");
        assert!(one.iter().any(|value| *value != one[0]), "{stored:?}");
        let other = values(stored, &block(2, 0.25), len);
        let both = values(stored, &[block(1, 0.5), block(2, 0.25)].concat(), 2 * len);
        assert!(both[..len] == one[..] && both[len..] == other[..], "{stored:?}");
        assert!(values(stored, &vec![0; size], len).iter().all(|value| *value == 0.0));
    }
}

#[test]
fn blocks_have_the_sizes_of_ggml_and_no_others() {
    let sizes = [
        (StoredType::Q4_0, 32, 18),
        (StoredType::Q4_1, 32, 20),
        (StoredType::Q5_0, 32, 22),
        (StoredType::Q5_1, 32, 24),
        (StoredType::Q8_0, 32, 34),
        (StoredType::Q4K, 256, 144),
        (StoredType::Q5K, 256, 176),
        (StoredType::Q6K, 256, 210),
    ];
    for (stored, len, bytes) in sizes {
        assert_eq!(stored.byte_len(0), Some(0));
        assert_eq!(stored.byte_len(len), Some(bytes), "{stored:?}");
        assert_eq!(stored.byte_len(3 * len), Some(3 * bytes), "{stored:?}");
        for broken in [1, len - 1, len + 1, len / 2] {
            assert_eq!(stored.byte_len(broken), None, "{stored:?} of {broken}");
        }
    }
}
