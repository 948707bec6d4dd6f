//! Kills a training again and again and compares its end with one in one piece:
//! `cargo xtask soak [--kills N] [--seed N] [--on truth|rewards]`.

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let program = std::env::current_exe().expect("this program's path");
    match soft_tests::soak::main(program, &arguments) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("soak: {problem}");
            std::process::ExitCode::from(2)
        }
    }
}
