//! See `soft_tests::fuzz::shard_index`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| soft_tests::fuzz::shard_index(data));
