//! See `soft_tests::fuzz::overrides`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| soft_tests::fuzz::overrides(data));
