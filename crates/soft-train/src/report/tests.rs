use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::*;

const EVIL: [&str; 6] = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\" onmouseover=\"alert(1)",
    "' style='x",
    "\u{202e}drow\u{0}\u{7}",
    "]]></title></style>",
];

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn write_lines(path: &Path, rows: &[Value]) {
    let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
    fs::write(path, text).unwrap();
}

fn trace_page(rows: &[Value]) -> String {
    let folder = folder();
    let path = folder.path().join("t.jsonl");
    write_lines(&path, rows);
    render(&path).unwrap().replace(&folder.path().display().to_string(), "DIR")
}

/// A row of `steps` steps with `entries` entries each, full in every key.
fn full_row(steps: usize, entries: usize, token: &str) -> Value {
    let step = |at: usize| {
        let top: Vec<Value> = (0..entries)
            .map(|rank| {
                json!([
                    (at * 7 + rank * 13) % 5000,
                    format!("{token}{rank}"),
                    0.5f64.powi(rank as i32 + 1)
                ])
            })
            .collect();
        json!({
            "decode_step": at, "position": at + 9, "phase": if at < steps / 2 { "think" } else { "answer" },
            "mode": if at.is_multiple_of(5) { "hard" } else { "soft" }, "token_id": at * 7 % 5000,
            "token": format!("{token}0"), "sampled_id": 3, "entropy_nats": 1.3 + (at as f64).sin(),
            "effective_tokens": 3.6, "top": top, "kept_mass": 0.97, "nearest": [3, token, 0.4],
            "cosine": 0.8, "hull_distance": 0.0, "norm": 1.2, "token_norm": 1.4,
            "event": if at % 100 == 99 { json!("switch_to_hard") } else { Value::Null },
        })
    };
    json!({
        "trace_version": 1, "name": token, "prompt": token, "prompt_ids": [1, 2], "text": token,
        "token_ids": (0..steps).map(|at| at * 7 % 5000).collect::<Vec<_>>(), "stop": "max_new",
        "expected": token, "answer": token, "correct": false,
        "thresholds": {"cold_stop_nats": 0.01, "gate": 0.5, "gate_unit": "nats"},
        "embedding_norm": {"low": 1.1, "median": 1.4, "high": 1.9},
        "steps": (0..steps).map(step).collect::<Vec<_>>(),
    })
}

/// Nothing in a page loads, runs or sends anything, and no text from outside became markup.
fn assert_inert(page: &str) {
    let lower = page.to_lowercase();
    for forbidden in [
        "<script", "<img", "<iframe", "<link", "<object", "http:", "https:", "@import", "url(",
        " src=",
    ] {
        assert!(
            !lower.contains(forbidden) || is_escaped(&lower, forbidden),
            "{forbidden} in the page"
        );
    }
    let hidden = |letter: char| letter.is_control() && letter != '\n' && letter != '\t';
    assert!(!page.contains(hidden) && !page.contains('\u{202e}'), "a control character");
    for attribute in lower.split('<').filter_map(|tag| tag.split('>').next()) {
        let unquoted: String = attribute.split('"').step_by(2).collect();
        assert!(
            !unquoted.contains("onerror") && !unquoted.contains("onmouseover"),
            "<{attribute}>"
        );
    }
}

/// Whether ` src=` appears only within text whose `<` is escaped.
fn is_escaped(page: &str, forbidden: &str) -> bool {
    forbidden == " src="
        && page.match_indices(forbidden).all(|(at, _)| page[..at].ends_with("&lt;img"))
}

#[test]
fn nothing_from_a_trace_becomes_markup() {
    for evil in EVIL {
        let mut row = full_row(6, 3, evil);
        for key in ["stop", "name"] {
            row[key] = evil.into();
        }
        row["thresholds"]["gate_unit"] = evil.into();
        for key in ["phase", "event", "mode"] {
            row["steps"][1][key] = evil.into();
        }
        let mut other = row.clone();
        other["token_ids"][3] = 4999.into();
        other["steps"][3]["token_id"] = 4999.into();
        assert_inert(&trace_page(&[row, other]));
    }
}

#[test]
fn nothing_from_a_run_becomes_markup() {
    for evil in EVIL {
        let folder = folder();
        let put = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
        put("config.toml", format!("# {evil}"));
        put("environment.json", evil.into());
        let arm = json!({"arm": evil, "settings": [evil], "control": evil, "accuracy": 0.5,
            "difference": {"accuracy": 0.1, "p": 0.01}, "extracted": 0.1, "tokens": 3, "rates": {evil: evil}});
        let eval = json!({"kind": "eval", "version": 1, "model": evil, "data": evil, "baseline": evil,
            "extract": evil, "arms": [arm, {"arm": "a", "accuracy": 0, "tokens": 99}], "notes": [evil]});
        put("results.json", eval.to_string());
        write_lines(&folder.path().join("traces.jsonl"), &[full_row(3, 2, evil)]);
        assert_inert(&render(folder.path()).unwrap());
        let training = json!({"arms": [{"arm": evil, "accuracy": 0.5, "checkpoint": evil}]});
        put("results.json", training.to_string());
        put(
            "metrics.jsonl",
            json!({"step": 1, "loss": 1.0, evil: 2.0, format!("valid/{evil}"): 1}).to_string()
                + "\n",
        );
        assert_inert(&render(folder.path()).unwrap());
    }
}

#[test]
fn a_long_trace_stays_under_two_megabytes_and_all_of_it_is_readable() {
    let page = trace_page(&[full_row(2000, 10, " token")]);
    assert!(page.len() < 2_000_000, "{} bytes", page.len());
    assert_eq!(page.matches("class=\"heat\"").count(), 10);
    assert!(page.contains("Values of 2,000 steps"));
    let rows: Vec<Value> = (0..6).map(|_| full_row(1500, 10, " token")).collect();
    let page = trace_page(&rows);
    assert!(page.len() < 2_500_000, "{} bytes", page.len());
    assert!(page.contains("2 rows left out to keep this page small"));
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let rows = [full_row(40, 5, "a"), full_row(40, 5, "b")];
    assert_eq!(trace_page(&rows), trace_page(&rows));
}

#[test]
fn a_row_with_the_least_keys_makes_a_page_without_empty_parts() {
    let page = trace_page(&[json!({"trace_version": 1, "token_ids": [5],
        "steps": [{"token_id": 5}]})]);
    assert_inert(&page);
    for absent in
        ["NaN", "inf ", "class=\"plots\"", "class=\"heat\"", "Side by side", "Events:", ">cosine"]
    {
        assert!(!page.contains(absent), "{absent}");
    }
    assert!(page.contains("#5"));
    assert_inert(&trace_page(&[json!({"trace_version": 1, "token_ids": [], "steps": []})]));
}

#[test]
fn weights_of_a_contrast_break_nothing() {
    let mut row = full_row(5, 3, "x");
    row["steps"][1]["fed"] = json!([[1, "a", 2.5], [2, "b", -1.5], [3, "c", null]]);
    let page = trace_page(&[row]);
    assert!(page.contains("below 0") && !page.contains("NaN"), "{page}");
}

fn eval(arms: &Value) -> String {
    let folder = folder();
    let results = json!({"kind": "eval", "version": 1, "questions": 50, "seeds": 1,
        "baseline": "greedy", "arms": arms, "notes": ["A note."]});
    fs::write(folder.path().join("results.json"), results.to_string()).unwrap();
    render(folder.path()).unwrap()
}

#[test]
fn an_evaluation_says_what_its_figures_cannot_show() {
    let greedy = json!({"arm": "greedy", "accuracy": 0.04, "interval": [0.011, 0.135], "correct": 2,
        "total": 50, "difference": null, "extracted": 0.98, "tokens": 100});
    let soft = |p: f64| {
        json!({"arm": "soft", "accuracy": 0.3, "interval": [0.2, 0.44], "correct": 15, "total": 50,
            "difference": {"accuracy": 0.26, "p": p}, "extracted": 0.7, "tokens": 300})
    };
    let control = json!({"arm": "soft", "control": "shuffle", "accuracy": 0.02});
    let page = eval(&json!([greedy, soft(0.6), control]));
    for part in [
        "known to about ± 12.0 points or better",
        "Of 1 row compared, none differs significantly from <b>greedy</b>",
        "a difference of fewer than 6 answers (12 points) can never be significant",
        "One seed",
        "fewer than 95 % of the outputs of <b>soft</b> (70.0 %)",
        "from 100 (<b>greedy</b>) to 300 (<b>soft</b>)",
        "<span class=\"control\">soft <small>control: shuffle",
        "+26.0",
        "A note.",
    ] {
        assert!(page.contains(part), "{part} is missing in\n{page}");
    }
    let page = eval(&json!([greedy, soft(0.001), soft(0.04)]));
    assert!(page.contains("1 of these stays significant"), "{page}");
}

#[test]
fn a_training_shows_its_arms_its_curves_and_how_to_repeat_it() {
    let folder = folder();
    let put = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
    let steps = (1..=3).map(|step| format!("{}\n", json!({"step": step, "loss": 1.0 / f64::from(step), "valid/accuracy": 0.1 * f64::from(step)})));
    put("metrics.jsonl", steps.collect());
    put("config.toml", "[train]\nsteps = 9\n".into());
    let page = render(folder.path()).unwrap();
    assert!(page.contains("The last step recorded is 3 of 9"), "{page}");
    assert!(page.contains("best 0.300 at step 3."), "{page}");
    put(
        "results.json",
        json!({"arms": [{"arm": "soft", "accuracy": 0.9, "published": 0.98}]}).to_string(),
    );
    let page = render(folder.path()).unwrap();
    for part in
        ["Finished, after step 3 of 9", "98.0 %", "soft train -c ", "<b>loss</b>", "steps = 9"]
    {
        assert!(page.contains(part), "{part} is missing in\n{page}");
    }
    assert!(!page.contains("<b>guidance</b>"), "a curve without points is left out");
}

#[test]
fn a_run_shows_its_data_and_who_set_what() {
    let folder = folder();
    let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let step = |entropy_beta: f64, cross_entropy: f64| {
        json!({"step": 1, "loss": 2.0, "cross_entropy": cross_entropy, "entropy_beta": entropy_beta})
            .to_string()
    };
    put("metrics.jsonl", &step(0.0, 2.0));
    put("config.toml", "[train]\nsteps = 9\nlr = 0.25\n[log]\nevery = 1\n");
    put("origins.json", "{\"train.lr\": \"my.toml:3:6 <b>\"}");
    put(
        "data.json",
        &json!({"train": {"examples": 4, "tokens": 200, "scored": 50, "soft": 20,
            "median_length": 40, "longest": 90}, "valid": null, "notes": ["<i>2 lines were skipped"]})
        .to_string(),
    );
    put("environment.json", "{\"cpu\": \"Abacus\", \"threads\": 3, \"seed\": 7}");
    let page = render(folder.path()).unwrap();
    for part in [
        "<code>train.lr</code><td>0.25<td>0.001<td>my.toml:3:6 &lt;b&gt;",
        "<td>training<td>4<td>200<td>25.0 %<td>10.0 %<td>40<td>90",
        "<li>&lt;i&gt;2 lines were skipped",
        "Abacus, 3 threads, seed 7",
    ] {
        assert!(page.contains(part), "{part} is missing in\n{page}");
    }
    assert!(!page.contains("<code>log.every</code>"), "a default is not listed");
    assert!(!page.contains("<b>entropy beta</b>"), "a weight that is off is no curve");
    assert!(!page.contains("<b>cross entropy</b>"), "it is the loss");
    put("metrics.jsonl", &step(0.5, 1.0));
    let page = render(folder.path()).unwrap();
    assert!(page.contains("<b>entropy beta</b>") && page.contains("<b>cross entropy</b>"));
    put("data.json", "{\"train\": 3}");
    let error = render(folder.path()).unwrap_err().to_string();
    assert!(error.contains("data.json:1:"), "{error}");
}

#[test]
fn broken_results_are_placed_and_another_version_is_named() {
    let folder = folder();
    let problem = |text: &str| {
        fs::write(folder.path().join("results.json"), text).unwrap();
        let error = render(folder.path()).unwrap_err();
        assert_eq!(error.exit_code(), 3);
        error.to_string().replace(&folder.path().display().to_string(), "DIR")
    };
    assert_eq!(problem("{\"arms\":\n  [}"), "DIR/results.json:2:4: broken JSON: expected value");
    assert!(
        problem("{}").starts_with("DIR/results.json:1:2: not as expected: missing field `arms`")
    );
    assert_eq!(
        problem(r#"{"kind": "eval", "version": 7, "arms": []}"#),
        "DIR/results.json:1:1: version 7, expected 1; make the evaluation again with this program"
    );
    assert!(problem(r#"{"kind": "eval"}"#).contains("no `version`, expected 1"));
    assert!(problem(r#"{"kind": "x"}"#).contains("results of kind \"x\", expected \"eval\""));
}

#[test]
fn a_directory_that_no_run_left_is_refused() {
    let folder = folder();
    let error = render(folder.path()).unwrap_err();
    assert_eq!(error.exit_code(), 3);
    assert!(
        error.to_string().contains("no results.json, metrics.jsonl or traces.jsonl"),
        "{error}"
    );
    let error = render(&folder.path().join("absent.jsonl")).unwrap_err();
    assert!(error.to_string().starts_with("cannot read "), "{error}");
}

#[test]
fn a_report_lies_in_its_run_or_beside_its_trace() {
    let folder = folder();
    assert_eq!(default_output(folder.path()), folder.path().join("report.html"));
    assert_eq!(default_output(Path::new("a/t.jsonl")), Path::new("a/t.html"));
}
