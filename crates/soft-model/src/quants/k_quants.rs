//! GGML's blocks of 256 weights, which scale sub-blocks by small numbers times an f16.
//!
//! | type | bytes | layout | weight |
//! |---|---|---|---|
//! | `Q4_K` | 144 | `d`, `dmin`, 12 bytes of scales, 128 of nibbles | `(d * s) * q - dmin * m` |
//! | `Q5_K` | 176 | `d`, `dmin`, 12 bytes of scales, 32 of fifth bits, 128 of nibbles | the same |
//! | `Q6_K` | 210 | 128 bytes of nibbles, 64 of bit pairs, 16 of scales, `d` | `(d * s) * (q - 32)` |
//!
//! Products are taken in this order, as GGML does, so that values are equal to the bit.

use super::f16_le;

/// Weights of a block.
pub(super) const LEN: usize = 256;
pub(super) const Q4_K_BYTES: usize = 4 + 12 + 128;
pub(super) const Q5_K_BYTES: usize = 4 + 12 + 32 + 128;
pub(super) const Q6_K_BYTES: usize = 128 + 64 + 16 + 2;

/// Weights of a sub-block of `Q4_K` and `Q5_K`.
const SUB: usize = 32;
/// Weights of a sub-block of `Q6_K`.
const SUB_6: usize = 16;

pub(super) fn q4_k(block: &[u8; Q4_K_BYTES], out: &mut [f32; LEN]) {
    sub_blocks(&block[..16], &block[16..], out, |_, _| 0);
}

/// Bit `s` of byte `i` of the fifth bits belongs to weight `i` of sub-block `s`.
pub(super) fn q5_k(block: &[u8; Q5_K_BYTES], out: &mut [f32; LEN]) {
    let fifth = &block[16..16 + SUB];
    sub_blocks(&block[..16], &block[16 + SUB..], out, |sub, index| (fifth[index] >> sub & 1) << 4);
}

/// What `Q4_K` and `Q5_K` share: of the nibbles, 32 bytes have one sub-block in their low halves
/// and the next one in their high ones.
fn sub_blocks(
    head: &[u8],
    nibbles: &[u8],
    out: &mut [f32; LEN],
    high_bit: impl Fn(usize, usize) -> u8,
) {
    let scale = f16_le([head[0], head[1]]);
    let minimum = f16_le([head[2], head[3]]);
    let (rows, _) = out.as_chunks_mut::<SUB>();
    for (sub, row) in rows.iter_mut().enumerate() {
        let (s, m) = scale_and_minimum(&head[4..16], sub);
        let (scale, minimum) = (scale * f32::from(s), minimum * f32::from(m));
        let (bytes, shift) = (&nibbles[sub / 2 * SUB..][..SUB], sub % 2 * 4);
        for (index, (value, byte)) in row.iter_mut().zip(bytes).enumerate() {
            let q = byte >> shift & 15 | high_bit(sub, index);
            *value = scale * f32::from(q) - minimum;
        }
    }
}

/// Scale and minimum, 6 bits each, of a sub-block. Of the 12 bytes, 0..4 have scales 0..4 and 4..8
/// minima 0..4 in their low 6 bits; bytes 8..12 have the low nibbles of scales (low half) and
/// minima (high half) 4..8, whose upper two bits are the upper two of bytes 0..4 and 4..8.
fn scale_and_minimum(packed: &[u8], sub: usize) -> (u8, u8) {
    if sub < 4 {
        return (packed[sub] & 63, packed[sub + 4] & 63);
    }
    let nibbles = packed[sub + 4];
    (nibbles & 15 | packed[sub - 4] >> 6 << 4, nibbles >> 4 | packed[sub] >> 6 << 4)
}

/// Each half of the block has four runs of 32 weights: runs 0 and 1 have the low halves of the 64
/// bytes of nibbles, runs 2 and 3 the high ones; run `r` has bits `2 r` and `2 r + 1` of the 32
/// bytes of bit pairs above them.
pub(super) fn q6_k(block: &[u8; Q6_K_BYTES], out: &mut [f32; LEN]) {
    let (nibbles, rest) = block.split_at(128);
    let (pairs, rest) = rest.split_at(64);
    let (scales, scale) = rest.split_at(LEN / SUB_6);
    let scale = f16_le([scale[0], scale[1]]);
    let (runs, _) = out.as_chunks_mut::<32>();
    for (number, run) in runs.iter_mut().enumerate() {
        let (half, place) = (number / 4, number % 4);
        let nibbles = &nibbles[half * 64 + place % 2 * 32..][..32];
        let pairs = &pairs[half * 32..][..32];
        for (index, (value, (nibble, pair))) in
            run.iter_mut().zip(nibbles.iter().zip(pairs)).enumerate()
        {
            let q = nibble >> (place / 2 * 4) & 15 | (pair >> (2 * place) & 3) << 4;
            let s = scales[number * 2 + index / SUB_6].cast_signed();
            *value = scale * f32::from(s) * (f32::from(q) - 32.0);
        }
    }
}
