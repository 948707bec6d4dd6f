//! Tasks that generate their own problems and check their own answers.

pub mod mnns;
