//! A cursor over untrusted bytes: every read is bounded, every failure names its offset.

use std::path::Path;

use crate::Error;
use crate::gguf::GgufValue;

/// Items of the longest list: the biggest vocabularies have some hundred thousand, and an item may
/// take eight times the memory that it takes in the file.
const MAX_ITEMS: usize = 1 << 24;

pub(super) struct Reader<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(path: &'a Path, bytes: &'a [u8]) -> Self {
        Self { path, bytes, position: 0 }
    }

    pub(super) fn path(&self) -> &Path {
        self.path
    }

    pub(super) fn position(&self) -> usize {
        self.position
    }

    pub(super) fn fail<T>(&self, problem: impl AsRef<str>) -> Result<T, Error> {
        let problem = format!("{} (byte {})", problem.as_ref(), self.position);
        Err(Error::format(self.path, "GGUF", problem))
    }

    fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    pub(super) fn take(&mut self, len: usize, what: &str) -> Result<&'a [u8], Error> {
        if len > self.remaining() {
            return self.fail(format!("the file ends within {what}: it is truncated"));
        }
        let taken = &self.bytes[self.position..self.position + len];
        self.position += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Error> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, Error> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64, Error> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A number of items that each take at least `min_bytes`, so that it cannot exceed the file.
    pub(super) fn count(&mut self, min_bytes: usize, what: &str) -> Result<usize, Error> {
        let count = self.u64(what)?;
        if count > (self.remaining() / min_bytes) as u64 {
            let left = self.remaining();
            return self.fail(format!(
                "{count} {what} are announced, but only {left} bytes follow: truncated or corrupt"
            ));
        }
        Ok(count as usize)
    }

    pub(super) fn text(&mut self, what: &str) -> Result<String, Error> {
        let len = self.u64(what)?;
        if len > self.remaining() as u64 {
            let problem = format!("{what} of {len} bytes runs over the end: truncated or corrupt");
            return self.fail(problem);
        }
        let bytes = self.take(len as usize, what)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => self.fail(format!("{what} is not UTF-8: {error}")),
        }
    }

    /// A type number and its value.
    pub(super) fn value(&mut self, key: &str) -> Result<GgufValue, Error> {
        let kind = self.u32("a metadata type")?;
        if kind == 9 { self.list(key) } else { self.scalar(kind, key) }
    }

    fn scalar(&mut self, kind: u32, key: &str) -> Result<GgufValue, Error> {
        let value = match kind {
            0 => GgufValue::Unsigned(u8::from_le_bytes(self.array(key)?).into()),
            1 => GgufValue::Signed(i8::from_le_bytes(self.array(key)?).into()),
            2 => GgufValue::Unsigned(u16::from_le_bytes(self.array(key)?).into()),
            3 => GgufValue::Signed(i16::from_le_bytes(self.array(key)?).into()),
            4 => GgufValue::Unsigned(self.u32(key)?.into()),
            5 => GgufValue::Signed(i32::from_le_bytes(self.array(key)?).into()),
            6 => GgufValue::Float(shortest(f32::from_le_bytes(self.array(key)?))),
            7 => match self.array::<1>(key)? {
                [0] => GgufValue::Bool(false),
                [1] => GgufValue::Bool(true),
                [other] => return self.fail(format!("boolean `{key}` is {other}")),
            },
            8 => GgufValue::Text(self.text(key)?),
            10 => GgufValue::Unsigned(self.u64(key)?),
            11 => GgufValue::Signed(i64::from_le_bytes(self.array(key)?)),
            12 => GgufValue::Float(f64::from_le_bytes(self.array(key)?)),
            other => return self.fail(format!("metadata `{key}` has unknown type {other}")),
        };
        Ok(value)
    }

    fn list(&mut self, key: &str) -> Result<GgufValue, Error> {
        let kind = self.u32("the type of a list")?;
        let min_bytes = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            9 => return self.fail(format!("metadata `{key}` is a list of lists: not supported")),
            other => return self.fail(format!("list `{key}` has unknown type {other}")),
        };
        let count = self.count(min_bytes, key)?;
        if count > MAX_ITEMS {
            return self.fail(format!("list `{key}` has {count} items, at most {MAX_ITEMS}"));
        }
        match kind {
            6 | 12 => self.items(kind, key, count, as_float).map(GgufValue::Floats),
            7 => self.items(kind, key, count, as_bool).map(GgufValue::Bools),
            8 => self.items(kind, key, count, as_text).map(GgufValue::Texts),
            _ => self.items(kind, key, count, as_integer).map(GgufValue::Integers),
        }
    }

    fn items<T>(
        &mut self,
        kind: u32,
        key: &str,
        count: usize,
        convert: impl Fn(GgufValue) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            match convert(self.scalar(kind, key)?) {
                Some(item) => items.push(item),
                None => return self.fail(format!("list `{key}` has a number out of range")),
            }
        }
        Ok(items)
    }
}

/// The shortest decimal that rounds to this f32, so that an epsilon of 1e-5 stays 1e-5.
fn shortest(float: f32) -> f64 {
    float.to_string().parse().unwrap_or(f64::from(float))
}

fn as_float(value: GgufValue) -> Option<f64> {
    if let GgufValue::Float(float) = value { Some(float) } else { None }
}

fn as_bool(value: GgufValue) -> Option<bool> {
    if let GgufValue::Bool(flag) = value { Some(flag) } else { None }
}

fn as_text(value: GgufValue) -> Option<String> {
    if let GgufValue::Text(text) = value { Some(text) } else { None }
}

fn as_integer(value: GgufValue) -> Option<i64> {
    match value {
        GgufValue::Unsigned(number) => i64::try_from(number).ok(),
        GgufValue::Signed(number) => Some(number),
        _ => None,
    }
}
