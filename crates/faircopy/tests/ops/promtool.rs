//! What Prometheus' own tool says of the rules. `./test` leaves this module out by name where it cannot be installed.

use std::process::Command;

use crate::file;

fn promtool(arguments: &[&str], name: &str) {
    let output = Command::new("promtool")
        .args(arguments)
        .arg(file(name))
        .output()
        .expect("promtool: apt-get install prometheus");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "promtool {arguments:?} {name}: {}", String::from_utf8_lossy(&said));
}

#[test]
fn the_rules_are_rules() {
    promtool(&["check", "rules"], "prometheus/rules.yml");
}

#[test]
fn the_rules_say_what_they_should() {
    promtool(&["test", "rules"], "prometheus/rules.test.yml");
}
