//! The example application in a real browser, with the real client packages, binary and sandbox: run by Node.
//!
//! Screenshots are left in `target/client/`: a person looks at them.

use std::path::Path;

use faircopy_testkit::node;

/// The folders of the packages and of the example, as the test kit sees them.
const PACKAGES: &str = "../../clients/typescript";
const EXAMPLE: &str = "../../examples/workspaces";

/// What changes in Clerk is on the page within a second; killed, offline, eight tabs, other people, being removed.
#[test]
fn the_example_in_a_browser() {
    let _ = node::installed(EXAMPLE);
    let folder = node::installed(PACKAGES);
    let pictures = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder").join("client");
    std::fs::create_dir_all(&pictures).expect("a folder for the pictures");
    let environment =
        [("FAIRCOPY_BIN", env!("CARGO_BIN_EXE_faircopy")), ("PICTURES", pictures.to_str().expect("a path of text"))];
    let tests = node::test(&folder, "e2e/workspaces.test.mjs", &environment);
    assert!(tests.passed >= 9, "only {} tests ran:\n{}", tests.passed, tests.output);
}
