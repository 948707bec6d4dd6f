//! GGML's blocks of 32 weights: an f16 scale `d`, in some an f16 minimum `m`, and 32 numbers `q`.
//!
//! | type | bytes | layout | weight |
//! |---|---|---|---|
//! | `Q4_0` | 18 | `d`, nibbles | `d * (q - 8)` |
//! | `Q4_1` | 20 | `d`, `m`, nibbles | `d * q + m` |
//! | `Q5_0` | 22 | `d`, fifth bits, nibbles | `d * (q - 16)` |
//! | `Q5_1` | 24 | `d`, `m`, fifth bits, nibbles | `d * q + m` |
//! | `Q8_0` | 34 | `d`, signed bytes | `d * q` |
//!
//! The 16 bytes of nibbles have weights 0..16 in their low halves and 16..32 in their high ones;
//! bit `i` of the little-endian word of fifth bits belongs to weight `i`.

use super::f16_le;

/// Weights of a block.
pub(super) const LEN: usize = 32;
pub(super) const Q4_0_BYTES: usize = 2 + 16;
pub(super) const Q4_1_BYTES: usize = 4 + 16;
pub(super) const Q5_0_BYTES: usize = 2 + 4 + 16;
pub(super) const Q5_1_BYTES: usize = 4 + 4 + 16;
pub(super) const Q8_0_BYTES: usize = 2 + 32;

pub(super) fn q4_0(block: &[u8; Q4_0_BYTES], out: &mut [f32; LEN]) {
    let scale = f16_le([block[0], block[1]]);
    four_bits(&block[2..], out, |q| scale * (f32::from(q) - 8.0));
}

pub(super) fn q4_1(block: &[u8; Q4_1_BYTES], out: &mut [f32; LEN]) {
    let scale = f16_le([block[0], block[1]]);
    let minimum = f16_le([block[2], block[3]]);
    four_bits(&block[4..], out, |q| scale * f32::from(q) + minimum);
}

pub(super) fn q5_0(block: &[u8; Q5_0_BYTES], out: &mut [f32; LEN]) {
    let scale = f16_le([block[0], block[1]]);
    let fifth = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
    five_bits(&block[6..], fifth, out, |q| scale * (f32::from(q) - 16.0));
}

pub(super) fn q5_1(block: &[u8; Q5_1_BYTES], out: &mut [f32; LEN]) {
    let scale = f16_le([block[0], block[1]]);
    let minimum = f16_le([block[2], block[3]]);
    let fifth = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
    five_bits(&block[8..], fifth, out, |q| scale * f32::from(q) + minimum);
}

pub(super) fn q8_0(block: &[u8; Q8_0_BYTES], out: &mut [f32; LEN]) {
    let scale = f16_le([block[0], block[1]]);
    for (value, &byte) in out.iter_mut().zip(&block[2..]) {
        *value = scale * f32::from(byte.cast_signed());
    }
}

fn four_bits(nibbles: &[u8], out: &mut [f32; LEN], weight: impl Fn(u8) -> f32) {
    let (low, high) = out.split_at_mut(LEN / 2);
    for ((low, high), &byte) in low.iter_mut().zip(high).zip(nibbles) {
        *low = weight(byte & 15);
        *high = weight(byte >> 4);
    }
}

fn five_bits(nibbles: &[u8], fifth: u32, out: &mut [f32; LEN], weight: impl Fn(u8) -> f32) {
    let fifth_bit = |index: usize| ((fifth >> index & 1) as u8) << 4;
    let (low, high) = out.split_at_mut(LEN / 2);
    for (index, ((low, high), &byte)) in low.iter_mut().zip(high).zip(nibbles).enumerate() {
        *low = weight(byte & 15 | fifth_bit(index));
        *high = weight(byte >> 4 | fifth_bit(index + LEN / 2));
    }
}
