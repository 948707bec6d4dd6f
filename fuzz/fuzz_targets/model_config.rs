//! See `soft_tests::fuzz::model_config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| soft_tests::fuzz::model_config(data));
