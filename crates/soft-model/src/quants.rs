//! Stored number formats and their conversion to f32.
//!
//! GGML's blocks hold 32 weights: `Q8_0` is an f16 scale and 32 signed bytes, `w = d * q`;
//! `Q4_1` is an f16 scale, an f16 minimum and 16 bytes whose low nibbles are weights 0..16 and
//! high nibbles 16..32, `w = d * q + m`.

/// Weights in one quantised block.
const BLOCK: usize = 32;
/// f16 scale, f16 minimum, 16 bytes of nibbles.
const Q4_1_BYTES: usize = 20;
/// f16 scale, 32 bytes.
const Q8_0_BYTES: usize = 34;

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
    /// Blocks of 32 signed bytes and a scale.
    Q8_0,
    /// Blocks of 32 nibbles, a scale and a minimum.
    Q4_1,
}

impl StoredType {
    /// Weights that are stored together: 1, or 32 for the quantised types.
    pub(crate) fn block_len(self) -> usize {
        match self {
            Self::Q8_0 | Self::Q4_1 => BLOCK,
            _ => 1,
        }
    }

    /// Bytes of one block.
    pub(crate) fn block_bytes(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q8_0 => Q8_0_BYTES,
            Self::Q4_1 => Q4_1_BYTES,
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
        StoredType::Q8_0 => q8_0(bytes, out),
        StoredType::Q4_1 => q4_1(bytes, out),
    }
}

fn each<const N: usize>(bytes: &[u8], out: &mut [f32], convert: impl Fn([u8; N]) -> f32) {
    let (chunks, _) = bytes.as_chunks::<N>();
    for (value, chunk) in out.iter_mut().zip(chunks) {
        *value = convert(*chunk);
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

fn q8_0(bytes: &[u8], out: &mut [f32]) {
    let (blocks, _) = bytes.as_chunks::<Q8_0_BYTES>();
    let (rows, _) = out.as_chunks_mut::<BLOCK>();
    for (row, block) in rows.iter_mut().zip(blocks) {
        let scale = f16_le([block[0], block[1]]);
        for (value, &byte) in row.iter_mut().zip(&block[2..]) {
            *value = scale * f32::from(byte.cast_signed());
        }
    }
}

fn q4_1(bytes: &[u8], out: &mut [f32]) {
    let (blocks, _) = bytes.as_chunks::<Q4_1_BYTES>();
    let (rows, _) = out.as_chunks_mut::<BLOCK>();
    for (row, block) in rows.iter_mut().zip(blocks) {
        let scale = f16_le([block[0], block[1]]);
        let minimum = f16_le([block[2], block[3]]);
        let (low, high) = row.split_at_mut(BLOCK / 2);
        for ((low, high), &byte) in low.iter_mut().zip(high).zip(&block[4..]) {
            *low = scale * f32::from(byte & 15) + minimum;
            *high = scale * f32::from(byte >> 4) + minimum;
        }
    }
}

#[cfg(test)]
mod tests {
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
}
