//! A panic while the dashboard is up, in a process of its own on a terminal of its own.

use std::process::Command;
use std::time::Duration;

use super::pty::Pty;
use crate::control::Control;
use crate::dashboard::{Dashboard, News, tell};

/// The training thread of a program; started by the test below.
#[test]
#[ignore = "panics: the test of the terminal starts it"]
fn a_thread_that_panics() {
    let training = std::thread::spawn(|| {
        let _dashboard = Dashboard::open("panics", &Control::default()).expect("a terminal");
        tell(|| News::Message("said before".to_owned()));
        std::thread::sleep(Duration::from_millis(300));
        panic!("the training fails");
    });
    assert!(training.join().is_err());
}

#[test]
fn t41_a_panic_in_the_training_thread_gives_the_terminal_back_before_it_is_told() {
    let pty = Pty::open(80, 24);
    let name = "dashboard::tests::panics::a_thread_that_panics";
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", name, "--ignored", "--nocapture"]);
    let mut child = pty.start(&mut command);
    assert!(pty.shows("Throughput"), "the dashboard was up: {}", pty.text());
    assert!(child.wait().expect("it ends").success());
    assert!(pty.shows("the training fails"), "{}", pty.text());
    assert!(pty.shows("said before"), "{}", pty.text());
    pty.assert_restored();
    let text = pty.text();
    let left = text.rfind("\u{1b}[?1049l").expect("left");
    assert!(text.find("the training fails").expect("told") > left, "told on the screen that stays");
}
