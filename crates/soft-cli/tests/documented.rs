//! What the documents show: every command of a block is run and its output compared, every setting
//! and flag that is named in the text is there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const PROGRAM: &str = "target/debug/soft";
const DOCUMENTS: [&str; 4] =
    ["README.md", "docs/trace.md", "docs/temperature-and-filters.md", "ARCHITECTURE.md"];

/// Code of another library that looks like a setting.
const PYTORCH: &str = "model.generate";

/// What is done with a documented command.
enum How {
    /// It is run with these words after it.
    Run(&'static str),
    /// It needs a network or hours, or builds what runs this test: why, for the reader.
    Elsewhere(#[expect(dead_code, reason = "says why to who reads the table")] &'static str),
}

/// How a documented command is run, by what it begins with; the first that fits holds. A command
/// that is not here fails the test: nothing is shown that nobody runs.
const HOW: [(&str, How); 16] = [
    ("curl ", How::Elsewhere("installs Rust")),
    ("sudo ", How::Elsewhere("installs a compiler")),
    ("cd ", How::Elsewhere("goes to the clone")),
    ("cargo xtask train", How::Elsewhere("builds; the training is that of tests/training.rs")),
    ("cargo xtask fetch", How::Elsewhere("downloads")),
    ("cargo xtask study", How::Elsewhere("half an hour")),
    ("cargo xtask soak", How::Elsewhere("minutes; a short one is a test of its own")),
    ("cargo xtask fuzz", How::Elsewhere("an hour; the corpus is replayed by a test of its own")),
    ("soft train -c configs/mnns-soft.toml", How::Run("train.steps=2 eval.limit=4 eval.every=0")),
    ("soft train -c configs/smollm2", How::Run("--dry-run")),
    ("soft train", How::Run("")),
    ("soft eval -c configs/smollm2-thinking.toml", How::Run("--dry-run")),
    ("soft generate", How::Run("")),
    ("soft score", How::Run("")),
    ("soft data check", How::Run("")),
    ("soft report", How::Run("")),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A real model; commands that need one are left out, aloud, where there is none.
fn model() -> Option<PathBuf> {
    let folders = match std::env::var_os("SOFT_MODELS") {
        Some(folder) => vec![PathBuf::from(folder)],
        None => vec![root().join("models"), root().join("../shared/models")],
    };
    let file = |folder: &PathBuf| folder.join("SmolLM2-135M-Instruct.Q4_1.gguf");
    let found = folders.iter().map(file).find(|path| path.is_file());
    if found.is_none() {
        eprintln!("SKIPPED: no real model in {folders:?}; run `cargo xtask fetch`");
    }
    found
}

fn document(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The lines between fences, each block with the word after its first fence.
fn blocks(text: &str) -> Vec<(&str, Vec<&str>)> {
    let mut blocks: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut open = false;
    for line in text.lines() {
        match line.strip_prefix("```") {
            Some(language) => {
                open = !open;
                if open {
                    blocks.push((language, Vec::new()));
                }
            }
            None if open => blocks.last_mut().expect("a block is open").1.push(line),
            None => {}
        }
    }
    blocks
}

/// The commands of a document, each with the output that is shown below it.
fn commands(text: &str) -> Vec<(String, Vec<String>)> {
    let mut commands = Vec::new();
    for (language, lines) in blocks(text) {
        match language {
            "bash" => commands.extend(lines.iter().map(|line| {
                let line = line.split("   ").next().unwrap_or(line);
                (line.trim().to_owned(), Vec::new())
            })),
            _ => {
                for line in lines {
                    match (line.strip_prefix("$ "), commands.last_mut()) {
                        (Some(command), _) => commands.push((command.to_owned(), Vec::new())),
                        (None, Some((_, shown))) if language == "text" => {
                            shown.push(line.to_owned());
                        }
                        _ => {}
                    }
                }
            }
        }
        // A block of output alone belongs to no command.
        commands.push((String::new(), Vec::new()));
    }
    commands.retain(|(command, _)| !command.is_empty());
    commands
}

/// The text between single backticks outside of blocks, a line break in it being a space.
fn inline_code(text: &str) -> Vec<String> {
    let mut outside = String::new();
    for (i, part) in text.split("```").enumerate() {
        if i % 2 == 0 {
            outside.push_str(part);
        }
    }
    let code = outside.split('`').skip(1).step_by(2);
    code.map(|code| code.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// Words as a shell splits them: quotes keep spaces.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
    for c in command.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

fn soft(arguments: &[String], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_soft"))
        .env_remove("SOFT_DEVICE")
        .current_dir(folder)
        .args(arguments)
        .output()
        .expect("the program starts")
}

/// Whether the lines that are shown are those that came, `...` standing for any number of lines.
fn fits(shown: &[String], came: &[&str]) -> bool {
    match shown.split_first() {
        None => came.is_empty(),
        Some((first, rest)) if first.trim() == "..." => {
            (0..=came.len()).any(|skipped| fits(rest, &came[skipped..]))
        }
        Some((first, rest)) => {
            came.first().is_some_and(|line| alike(first, line)) && fits(rest, &came[1..])
        }
    }
}

/// Whether two lines hold the same words; numbers may differ by what another processor rounds.
fn alike(shown: &str, came: &str) -> bool {
    let number = |word: &str| word.trim_end_matches([',', '.']).parse::<f64>().ok();
    let (mut shown, mut came) = (shown.split_whitespace(), came.split_whitespace());
    loop {
        let same = match (shown.next(), came.next()) {
            (None, None) => return true,
            (Some(a), Some(b)) => match (number(a), number(b)) {
                (Some(x), Some(y)) => (x - y).abs() <= 1e-4 * x.abs().max(1.0),
                _ => a == b,
            },
            _ => false,
        };
        if !same {
            return false;
        }
    }
}

#[test]
fn t49_every_documented_command_runs_and_prints_what_is_shown() {
    let model = model();
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in ["configs", "docs"] {
        // Configurations name their files relative to where they are run.
        copy(&root().join(name), &folder.path().join(name));
    }
    let data = folder.path().join("YOURS.jsonl");
    std::fs::write(
        &data,
        "{\"question\": \"1+1?\", \"reasoning\": \"one more\", \"answer\": \"2\"}\n",
    )
    .expect("written");
    let (mut ran, mut outputs) = (0, 0);
    for name in DOCUMENTS {
        for (command, shown) in commands(&document(name)) {
            let command = command.replacen(PROGRAM, "soft", 1);
            if command.starts_with("M=") {
                continue;
            }
            let how = HOW.iter().find(|(prefix, _)| command.starts_with(prefix));
            let (_, how) = how.unwrap_or_else(|| panic!("{name}: nobody runs `{command}`"));
            let How::Run(more) = how else { continue };
            let real = command.contains("$M") || command.contains("smollm2");
            let Some(model) = model.as_ref().filter(|_| real).or((!real).then_some(&data)) else {
                continue;
            };
            let command = command.replace("$M", &model.display().to_string());
            let mut arguments: Vec<String> = words(&command).into_iter().skip(1).collect();
            arguments.extend(words(more));
            if real && arguments[0] == "train" {
                arguments.push(format!("model.path={}", model.display()));
                arguments.extend(["train", "valid"].map(|part| format!("data.{part}=YOURS.jsonl")));
            }
            if arguments[0] == "eval" {
                arguments.push("eval.data=YOURS.jsonl".to_owned());
            }
            let output = soft(&arguments, folder.path());
            let came = String::from_utf8_lossy(&output.stdout);
            let errors = String::from_utf8_lossy(&output.stderr);
            ran += 1;
            if shown.is_empty() {
                assert!(output.status.success(), "{name}: `{command}`: {errors}");
                continue;
            }
            outputs += 1;
            let all: Vec<&str> = came.lines().chain(errors.lines()).collect();
            let shown: Vec<String> = shown.into_iter().map(|line| line.trim().to_owned()).collect();
            let all: Vec<&str> = all.iter().map(|line| line.trim()).collect();
            assert!(fits(&shown, &all), "{name}: `{command}` printed\n{}", all.join("\n"));
        }
    }
    let least = if model.is_some() { (8, 2) } else { (2, 1) };
    assert!(ran >= least.0 && outputs >= least.1, "{ran} commands, {outputs} with their output");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("created");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            std::fs::copy(&path, to.join(path.file_name().expect("a name"))).expect("copied");
        }
    }
}

#[test]
fn t49_settings_verbs_and_flags_that_the_text_names_are_there() {
    let here = root();
    let printed = |arguments: &[&str]| {
        let arguments: Vec<String> = arguments.iter().map(|&word| word.to_owned()).collect();
        let output = soft(&arguments, &here);
        assert!(output.status.success(), "{arguments:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let schema: Value = serde_json::from_str(&printed(&["config", "schema"])).expect("JSON");
    let sections = schema["properties"].as_object().expect("sections");
    let has_key = |key: &str| {
        let (section, key) = key.split_once('.').expect("a dotted key");
        key == "*" || sections[section]["properties"].get(key).is_some()
    };
    // Of each verb, what its help shows.
    let mut helps = std::collections::BTreeMap::new();
    let mut problems = BTreeSet::new();
    let mut checked = 0;
    for name in DOCUMENTS {
        for code in inline_code(&document(name)) {
            for word in code.split(' ') {
                let key = word.split('=').next().unwrap_or(word);
                let dotted = key.split_once('.').is_some_and(|(section, rest)| {
                    sections.contains_key(section) && !rest.contains(['/', '(', ':'])
                });
                // A file may be named as a section is.
                let file = ["rs", "toml", "json", "jsonl", "md"].iter().any(|end| {
                    key.rsplit_once('.').is_some_and(|(_, extension)| extension == *end)
                });
                if dotted && !file && key != PYTORCH {
                    checked += 1;
                    if !has_key(key) {
                        problems.insert(format!("{name}: no setting `{key}`"));
                    }
                }
            }
            let line = code.replacen(PROGRAM, "soft", 1);
            let Some(rest) = line.strip_prefix("soft ") else { continue };
            let verb = rest.split(' ').next().unwrap_or(rest);
            if verb.contains('|') || verb.is_empty() {
                continue;
            }
            let help = helps.entry(verb.to_owned()).or_insert_with(|| {
                let second = match verb {
                    "config" => Some("show"),
                    "data" => Some("check"),
                    _ => None,
                };
                let words: Vec<String> = [Some(verb), second, Some("--help")]
                    .into_iter()
                    .flatten()
                    .map(str::to_owned)
                    .collect();
                let output = soft(&words, &here);
                String::from_utf8_lossy(&output.stdout).into_owned()
            });
            checked += 1;
            if help.is_empty() {
                problems.insert(format!("{name}: no verb `{verb}`"));
            }
            for flag in rest.split(' ').filter(|word| word.starts_with("--")) {
                let flag = flag.split(['=', '|']).next().unwrap_or(flag);
                if !help.contains(flag) {
                    problems.insert(format!("{name}: `soft {verb}` has no {flag}"));
                }
            }
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
    assert!(checked > 80, "only {checked} settings and commands were found");
}

#[test]
fn t49_the_first_comment_of_a_configuration_is_a_command_that_it_takes() {
    let model = model();
    let folder = root().join("configs");
    let mut checked = 0;
    for entry in std::fs::read_dir(&folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("UTF-8");
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        let first = text.lines().next().and_then(|line| line.strip_prefix("# ")).expect(name);
        let command = first.split("   ").next().unwrap_or(first);
        if command == "cargo xtask train" {
            continue;
        }
        let mut arguments = words(command.strip_prefix("soft ").expect(name));
        assert!(arguments.contains(&format!("configs/{name}")), "{name}: {command}");
        arguments.push("--dry-run".to_owned());
        if name.starts_with("smollm2") {
            let Some(model) = &model else { continue };
            let model = model.display().to_string();
            match arguments.iter().position(|word| word == "--model") {
                Some(at) => arguments[at + 1] = model,
                None => arguments.push(format!("model.path={model}")),
            }
            if !root().join("../shared/data").is_dir() {
                eprintln!("SKIPPED: {name}: its data is not here");
                continue;
            }
        }
        let output = soft(&arguments, &root());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {command}: {errors}");
        checked += 1;
    }
    assert!(checked >= 5, "{checked} configurations");
}

#[test]
fn a_shown_output_may_leave_lines_out_and_nothing_else() {
    let shown = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert!(fits(&shown("a\n...\nc"), &["a", "b", "b", "c"]));
    assert!(fits(&shown("a\n..."), &["a"]));
    assert!(!fits(&shown("a\n...\nc"), &["a", "b"]));
    assert!(!fits(&shown("a"), &["a", "b"]));
    assert!(!fits(&shown("a\nb"), &["a"]));
    assert!(
        fits(&shown("p -13.9887,"), &["p   -13.9888,"]) && !fits(&shown("p 1.01"), &["p 1.02"])
    );
    let text = "```bash\nx --y   # why\n```\nout\n```text\n$ z \"a b\"\n1\n```\n```text\n2\n```\n";
    let found = commands(text);
    assert_eq!(
        found,
        [("x --y".to_owned(), vec![]), ("z \"a b\"".to_owned(), vec!["1".to_owned()])]
    );
    assert_eq!(words("z \"a b\" c"), ["z", "a b", "c"]);
    assert_eq!(inline_code("a `b\nc` d ```\n`x`\n``` `e`"), ["b c", "e"]);
}
