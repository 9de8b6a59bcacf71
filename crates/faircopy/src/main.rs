//! The `faircopy` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    faircopy::cli::main()
}
