//! The seed of a random test: from `FAIRCOPY_TEST_SEED`, or a fixed one, and told when the test fails.

use std::fmt;

/// Used when `FAIRCOPY_TEST_SEED` is not set: a run without settings is the same everywhere.
pub const DEFAULT: u64 = 20_240_528;

/// The name of the environment variable that sets the seed.
pub const VARIABLE: &str = "FAIRCOPY_TEST_SEED";

/// A seed that prints itself if the test panics while it is alive: keep it for the length of the test.
#[derive(Debug)]
pub struct Seed {
    value: u64,
}

impl Seed {
    /// The seed of this run.
    ///
    /// # Panics
    /// When `FAIRCOPY_TEST_SEED` is set to something that is not a number.
    #[must_use]
    pub fn of_run() -> Seed {
        Seed { value: parse(std::env::var(VARIABLE).ok().as_deref()) }
    }

    /// The number to give to a generator.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.value
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VARIABLE}={}", self.value)
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("repeat this run with {self}");
        }
    }
}

fn parse(setting: Option<&str>) -> u64 {
    match setting {
        None | Some("") => DEFAULT,
        Some(text) => text.parse().unwrap_or_else(|_| panic!("{VARIABLE} must be a whole number, it is {text:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::{DEFAULT, parse};

    #[test]
    fn the_setting_wins_over_the_default() {
        assert_eq!(parse(None), DEFAULT);
        assert_eq!(parse(Some("")), DEFAULT);
        assert_eq!(parse(Some("7")), 7);
    }

    #[test]
    #[should_panic(expected = "FAIRCOPY_TEST_SEED must be a whole number")]
    fn a_seed_that_is_no_number_is_refused() {
        parse(Some("seven"));
    }
}
