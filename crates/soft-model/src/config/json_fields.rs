//! Typed reading of a JSON object, with errors that name file, key, finding and expectation.

use std::path::Path;

use serde_json::{Map, Value};

use crate::Error;

/// One JSON object of a file; a `null` counts as absent, as in Hugging Face's files.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    object: &'a Map<String, Value>,
    path: &'a Path,
    /// What stands before a key in messages, such as `rope_scaling.`.
    prefix: &'a str,
}

impl<'a> Fields<'a> {
    pub(super) fn new(value: &'a Value, path: &'a Path) -> Result<Self, Error> {
        let Some(object) = value.as_object() else {
            return Err(Error::format(path, "config.json", "expected one JSON object"));
        };
        Ok(Self { object, path, prefix: "" })
    }

    /// The object under `key`, if there is one.
    pub(super) fn object(&self, key: &'a str, prefix: &'a str) -> Result<Option<Self>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(Self { object, path: self.path, prefix })),
            Some(other) => self.wrong(key, other, "an object or null"),
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Whether the key is there with the value `null`.
    pub(super) fn is_null(&self, key: &str) -> bool {
        self.object.get(key).is_some_and(Value::is_null)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.object.iter()
    }

    pub(super) fn size(&self, key: &str) -> Result<Option<usize>, Error> {
        self.typed(key, "a whole number, 0 or more", |value| {
            value.as_u64().and_then(|n| usize::try_from(n).ok())
        })
    }

    pub(super) fn required_size(&self, key: &str) -> Result<usize, Error> {
        match self.size(key)? {
            Some(size) => Ok(size),
            None => self.fail(key, "is missing, expected a whole number"),
        }
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<f64>, Error> {
        self.typed(key, "a number", Value::as_f64)
    }

    pub(super) fn flag(&self, key: &str, default: bool) -> Result<bool, Error> {
        Ok(self.typed(key, "true or false", Value::as_bool)?.unwrap_or(default))
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>, Error> {
        self.typed(key, "a string", Value::as_str)
    }

    /// Refuses a key that changes the formulas in a way that is not implemented.
    pub(super) fn must_be(&self, key: &str, expected: bool) -> Result<(), Error> {
        if self.flag(key, expected)? == expected {
            return Ok(());
        }
        self.fail(key, format!("found {}, only {expected} is supported", !expected))
    }

    pub(super) fn fail<T>(&self, key: &str, problem: impl Into<String>) -> Result<T, Error> {
        Err(Error::config(self.path, format!("{}{key}", self.prefix), problem))
    }

    fn typed<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match read(value) {
            Some(read) => Ok(Some(read)),
            None => self.wrong(key, value, expected),
        }
    }

    fn wrong<T>(&self, key: &str, found: &Value, expected: &str) -> Result<T, Error> {
        let mut text = found.to_string();
        if text.chars().count() > 60 {
            text = text.chars().take(60).chain("...".chars()).collect();
        }
        self.fail(key, format!("found {text}, expected {expected}"))
    }
}
