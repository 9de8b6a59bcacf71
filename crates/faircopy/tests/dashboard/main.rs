//! The dashboard in a real browser, against the real binary: the suites of this folder, run by Node.
//!
//! Screenshots are left in `target/dashboard/`: a person looks at them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;

use faircopy_testkit::node;

/// The folder of the suites, as the test kit sees it.
const SUITES: &str = "../faircopy/tests/dashboard";

fn run(file: &str, at_least: usize) {
    let folder = node::installed(SUITES);
    let pictures = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("dashboard");
    std::fs::create_dir_all(&pictures).unwrap();
    let environment =
        [("FAIRCOPY_BIN", env!("CARGO_BIN_EXE_faircopy")), ("PICTURES", pictures.to_str().expect("a path of text"))];
    let tests = node::test(&folder, file, &environment);
    assert!(tests.passed >= at_least, "only {} tests of {file} ran:\n{}", tests.passed, tests.output);
}

/// Every page, in both themes and narrow: axe, the policy, hostile names, masking, the keyboard.
#[test]
fn pages() {
    run("pages.test.mjs", 9);
}

/// What is done from the page, and what happens while it is open.
#[test]
fn life() {
    run("life.test.mjs", 8);
}
