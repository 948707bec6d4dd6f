//! See `soft_tests::fuzz::peft`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| soft_tests::fuzz::peft(data));
