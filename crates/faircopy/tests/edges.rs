//! The directions of ARCHITECTURE.md that Cargo cannot check: which module may name which.
#![allow(clippy::unwrap_used, reason = "a source tree that cannot be read fails the test")]

use std::fs;
use std::path::{Path, PathBuf};

/// Every source file below a folder of the workspace.
fn sources(folder: &str) -> Vec<PathBuf> {
    fn walk(folder: &Path, out: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, out);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                out.push(path);
            }
        }
    }
    let mut found = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    if root.is_dir() {
        walk(&root, &mut found);
    } else {
        found.push(root.with_extension("rs"));
    }
    assert!(!found.is_empty(), "{folder} has no source");
    found
}

/// No file of `folder`, but for those named in `except`, holds `word`.
fn check(folder: &str, word: &str, except: &[&str]) {
    for path in sources(folder) {
        let excepted = except.iter().any(|name| path.ends_with(name));
        let text = fs::read_to_string(&path).unwrap();
        let line = text.lines().position(|line| !line.trim_start().starts_with("//") && line.contains(word));
        if let Some(line) = line.filter(|_| !excepted) {
            panic!("{}:{} names `{word}`", path.display(), line + 1);
        }
    }
}

#[test]
fn http_and_worker_meet_only_in_app() {
    check("faircopy/src/http", "crate::worker", &[]);
    check("faircopy/src/worker", "crate::http", &[]);
}

#[test]
fn the_core_is_pure() {
    for word in ["async ", "tokio", "std::fs", "std::net", "std::env", "SystemTime", "Instant", "sqlx"] {
        check("faircopy-core/src", word, &["tests.rs"]);
    }
}

#[test]
fn one_file_knows_the_database_library() {
    check("faircopy-store/src", "sqlx", &["engine.rs", "error.rs"]);
    check("faircopy/src", "sqlx", &[]);
    check("faircopy/src", "std::env::", &["config/sources.rs"]);
}
