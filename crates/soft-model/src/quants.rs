//! Stored number formats and their conversion to f32.
//!
//! GGML's quantised types store whole blocks of weights: 32 in [`blocks32`], 256 in [`k_quants`].
//! Sources of the layouts: `ggml/src/ggml-common.h` and `ggml/src/ggml-quants.c` of
//! ggml-org/llama.cpp, and `gguf/quants.py` of its package gguf 0.19.0.

mod blocks32;
mod k_quants;
#[cfg(test)]
mod tests;

/// How the numbers of a tensor are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoredType {
    /// IEEE double precision.
    F64,
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    Bf16,
    /// Blocks of 32 nibbles and a scale.
    Q4_0,
    /// Blocks of 32 nibbles, a scale and a minimum.
    Q4_1,
    /// Blocks of 32 times 5 bits and a scale.
    Q5_0,
    /// Blocks of 32 times 5 bits, a scale and a minimum.
    Q5_1,
    /// Blocks of 32 signed bytes and a scale.
    Q8_0,
    /// Blocks of 256 nibbles in 8 sub-blocks, each with a scale and a minimum of 6 bits.
    Q4K,
    /// As [`Self::Q4K`] with 5 bits a weight.
    Q5K,
    /// Blocks of 256 times 6 bits in 16 sub-blocks, each with a scale of 8 bits.
    Q6K,
}

impl StoredType {
    /// Name in GGML's spelling.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::F64 => "F64",
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
        }
    }

    /// Weights that are stored together: 1, or 32 or 256 for the quantised types.
    pub(crate) fn block_len(self) -> usize {
        match self {
            Self::F64 | Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => blocks32::LEN,
            Self::Q4K | Self::Q5K | Self::Q6K => k_quants::LEN,
        }
    }

    /// Bytes of one block.
    pub(crate) fn block_bytes(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q4_0 => blocks32::Q4_0_BYTES,
            Self::Q4_1 => blocks32::Q4_1_BYTES,
            Self::Q5_0 => blocks32::Q5_0_BYTES,
            Self::Q5_1 => blocks32::Q5_1_BYTES,
            Self::Q8_0 => blocks32::Q8_0_BYTES,
            Self::Q4K => k_quants::Q4_K_BYTES,
            Self::Q5K => k_quants::Q5_K_BYTES,
            Self::Q6K => k_quants::Q6_K_BYTES,
        }
    }

    /// Bytes of `len` weights; `None` where they overflow or are no whole number of blocks.
    pub(crate) fn byte_len(self, len: usize) -> Option<usize> {
        if !len.is_multiple_of(self.block_len()) {
            return None;
        }
        (len / self.block_len()).checked_mul(self.block_bytes())
    }
}

/// Converts whole blocks into as many f32.
///
/// # Panics
/// Where `bytes` is not exactly the storage of `out.len()` weights.
pub(crate) fn dequantise(stored: StoredType, bytes: &[u8], out: &mut [f32]) {
    assert_eq!(stored.byte_len(out.len()), Some(bytes.len()), "storage of {stored:?}");
    match stored {
        StoredType::F64 => each(bytes, out, |b: [u8; 8]| f64::from_le_bytes(b) as f32),
        StoredType::F32 => each(bytes, out, f32::from_le_bytes),
        StoredType::F16 => each(bytes, out, f16_le),
        StoredType::Bf16 => each(bytes, out, bf16_le),
        StoredType::Q4_0 => blocks(bytes, out, blocks32::q4_0),
        StoredType::Q4_1 => blocks(bytes, out, blocks32::q4_1),
        StoredType::Q5_0 => blocks(bytes, out, blocks32::q5_0),
        StoredType::Q5_1 => blocks(bytes, out, blocks32::q5_1),
        StoredType::Q8_0 => blocks(bytes, out, blocks32::q8_0),
        StoredType::Q4K => blocks(bytes, out, k_quants::q4_k),
        StoredType::Q5K => blocks(bytes, out, k_quants::q5_k),
        StoredType::Q6K => blocks(bytes, out, k_quants::q6_k),
    }
}

fn each<const N: usize>(bytes: &[u8], out: &mut [f32], convert: impl Fn([u8; N]) -> f32) {
    let (chunks, _) = bytes.as_chunks::<N>();
    for (value, chunk) in out.iter_mut().zip(chunks) {
        *value = convert(*chunk);
    }
}

/// Each block of `N` bytes to its `LEN` weights.
fn blocks<const N: usize, const LEN: usize>(
    bytes: &[u8],
    out: &mut [f32],
    convert: impl Fn(&[u8; N], &mut [f32; LEN]),
) {
    let (blocks, _) = bytes.as_chunks::<N>();
    let (rows, _) = out.as_chunks_mut::<LEN>();
    for (row, block) in rows.iter_mut().zip(blocks) {
        convert(block, row);
    }
}

/// Half precision to single, exactly: the exponent is moved by a product, which also makes
/// subnormals right and, unlike a look-up of processor features for each number, vectorises.
fn f16_le(bytes: [u8; 2]) -> f32 {
    const TWO_TO_112: f32 = f32::from_bits(0x7780_0000);
    let half = u32::from(u16::from_le_bytes(bytes));
    let magnitude = half & 0x7fff;
    let finite = (f32::from_bits(magnitude << 13) * TWO_TO_112).to_bits();
    let special = if magnitude >= 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(((half & 0x8000) << 16) | finite | special)
}

fn bf16_le(bytes: [u8; 2]) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16)
}
