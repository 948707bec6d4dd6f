//! Downloads from a server of this process.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::*;

const REVISION: &str = "0123456789abcdef0123456789abcdef01234567";

/// The model `org/tiny` on a server, and the paths that it was asked for.
struct Server {
    hub: Hub,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn new(files: &[(&str, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let files: BTreeMap<String, String> =
            files.iter().map(|&(name, text)| (name.to_owned(), text.to_owned())).collect();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let record = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(stream), files, record) = (stream, files.clone(), record.clone()) else {
                    continue;
                };
                std::thread::spawn(move || while answer(&stream, &files, &record).is_some() {});
            }
        });
        Self { hub: Hub { endpoint, token: Some("secret".into()) }, asked }
    }

    /// Names of the files in the order in which they were first asked for.
    fn files(&self) -> Vec<String> {
        let mut files: Vec<String> = Vec::new();
        for path in self.asked.lock().unwrap().iter() {
            if let Some(name) = path.strip_prefix("/org/tiny/resolve/main/")
                && !files.iter().any(|file| file == name)
            {
                files.push(name.to_owned());
            }
        }
        files
    }
}

/// Answers one request; none where the other side has closed.
fn answer(
    mut stream: &TcpStream,
    files: &BTreeMap<String, String>,
    record: &Mutex<Vec<String>>,
) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let path = head.split(' ').nth(1)?.to_owned();
    record.lock().unwrap().push(path.clone());
    let lower = head.to_lowercase();
    assert!(lower.contains("authorization: bearer secret"), "{head}");
    let (status, body, extra) = if path == "/api/models/org/tiny/revision/main" {
        let siblings = files.keys().map(|name| serde_json::json!({ "rfilename": name }));
        let siblings: Vec<Value> = siblings.collect();
        let info = serde_json::json!({ "siblings": siblings, "sha": REVISION });
        ("200 OK", info.to_string(), String::new())
    } else {
        match path.strip_prefix("/org/tiny/resolve/main/").and_then(|name| files.get(name)) {
            None => ("404 Not Found", String::new(), String::new()),
            Some(text) => {
                let range = lower.split("range: bytes=").nth(1)?.split("\r\n").next()?;
                let (first, last) = range.split_once('-')?;
                let first: usize = first.parse().ok()?;
                let end = last.parse().map_or(text.len(), |last: usize| (last + 1).min(text.len()));
                let extra = format!(
                    "Content-Range: bytes {first}-{}/{}\r\nETag: \"{:08x}\"\r\nX-Repo-Commit: {REVISION}\r\n",
                    end.max(1) - 1,
                    text.len(),
                    text.bytes().fold(7_u32, |sum, byte| sum.wrapping_mul(31) ^ u32::from(byte))
                );
                ("206 Partial Content", text.get(first..end)?.to_owned(), extra)
            }
        }
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{extra}\r\n", body.len());
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body.as_bytes()).ok()
}

fn snapshot(cache: &Path) -> std::path::PathBuf {
    cache.join("models--org--tiny/snapshots").join(REVISION)
}

#[test]
fn a_model_lands_in_the_cache_with_its_configuration_last() {
    let server = Server::new(&[
        ("README.md", "read"),
        ("config.json", "{\"a\": 1}"),
        ("model.safetensors", "weights"),
        ("consolidated.safetensors", "the same"),
        ("pytorch_model.bin", "pickle"),
        ("tokenizer.json", "{}"),
        ("onnx/model.onnx", "other"),
    ]);
    let cache = tempfile::tempdir().unwrap();
    server.hub.download(cache.path(), "org/tiny").unwrap();
    assert_eq!(server.files(), ["tokenizer.json", "model.safetensors", "config.json"]);
    let read = |name: &str| std::fs::read_to_string(snapshot(cache.path()).join(name)).unwrap();
    assert_eq!(read("model.safetensors"), "weights");
    assert_eq!(read("config.json"), "{\"a\": 1}");
    let main = cache.path().join("models--org--tiny/refs/main");
    assert_eq!(std::fs::read_to_string(main).unwrap(), REVISION);
    // A second time asks for no file that is there.
    server.asked.lock().unwrap().clear();
    server.hub.download(cache.path(), "org/tiny").unwrap();
    assert_eq!(server.files(), [""; 0]);
}

#[test]
fn the_shards_are_those_of_the_index_and_none_lies_outside() {
    let index = r#"{"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors", "c": "../x"}}"#;
    let server = Server::new(&[
        ("config.json", "{}"),
        ("m-1.safetensors", "1"),
        ("m-2.safetensors", "2"),
        ("old.safetensors", "3"),
        ("model.safetensors.index.json", index),
    ]);
    let cache = tempfile::tempdir().unwrap();
    server.hub.download(cache.path(), "org/tiny").unwrap();
    let expected =
        ["model.safetensors.index.json", "m-1.safetensors", "m-2.safetensors", "config.json"];
    assert_eq!(server.files(), expected);
}

#[test]
fn one_gguf_file_is_enough_and_several_are_listed() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::new(&[("README.md", "read"), ("a.gguf", "GGUF")]);
    server.hub.download(cache.path(), "org/tiny").unwrap();
    assert_eq!(server.files(), ["a.gguf"]);
    let refused = |files: &[(&str, &str)]| {
        let error = Server::new(files).hub.download(cache.path(), "org/tiny").unwrap_err();
        assert_eq!(error.exit_code(), 4);
        error.to_string()
    };
    assert!(refused(&[("a.gguf", "1"), ("b.gguf", "2")]).ends_with("its path: a.gguf, b.gguf"));
    assert!(refused(&[("config.json", "{}"), ("m.bin", "2")]).contains("pickles run code"));
}

#[test]
fn a_missing_model_and_a_missing_server_are_said_with_advice() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::new(&[]);
    let error = server.hub.download(cache.path(), "org/other").unwrap_err().to_string();
    assert!(error.contains(&server.hub.endpoint) && error.contains("HF_TOKEN"), "{error}");
    let hub = Hub { endpoint: "http://127.0.0.1:1".into(), token: None };
    let error = hub.download(cache.path(), "org/tiny").unwrap_err().to_string();
    assert!(error.contains("HF_HUB_OFFLINE=1"), "{error}");
}

#[test]
fn the_environment_says_where_and_whether() {
    let hub = |pairs: &[(&str, &str)]| {
        Hub::from_environment(|name| {
            pairs.iter().find(|pair| pair.0 == name).map(|pair| pair.1.into())
        })
    };
    assert_eq!(hub(&[]).unwrap().endpoint, "https://huggingface.co");
    let other = hub(&[("HF_ENDPOINT", "http://mirror/"), ("HF_TOKEN", "t")]).unwrap();
    assert_eq!((other.endpoint.as_str(), other.token.as_deref()), ("http://mirror", Some("t")));
    assert!(hub(&[("HF_HUB_OFFLINE", "1")]).is_none());
    assert!(hub(&[("HF_HUB_OFFLINE", "true")]).is_none());
    assert!(hub(&[("HF_HUB_OFFLINE", "0")]).is_some());
}
