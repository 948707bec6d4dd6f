//! A short soak; `cargo xtask soak` is the long one.

use std::path::Path;

use soft_tests::soak::{Kind, soak};

#[test]
fn t01_a_run_killed_ten_times_ends_as_one_in_one_piece_to_the_bit() {
    let program = Path::new(env!("CARGO_BIN_EXE_soak"));
    for kind in [Kind::Truth, Kind::Rewards] {
        let soaked = soak(program, kind, 10, 7, |line| println!("{line}"));
        assert_eq!(soaked.kills.iter().sum::<usize>(), 10);
        assert!(soaked.kills.iter().all(|&count| count > 0), "{soaked}");
    }
}
