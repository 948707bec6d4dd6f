//! See `soft_tests::fuzz::tokenizer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| soft_tests::fuzz::tokenizer(data));
