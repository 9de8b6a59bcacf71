//! `faircopy completions`.

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Failure};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  faircopy completions bash > /etc/bash_completion.d/faircopy")]
pub(super) struct Arguments {
    /// The shell to print for
    shell: Shell,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    clap_complete::generate(arguments.shell, &mut Cli::command(), "faircopy", &mut std::io::stdout());
    Ok(())
}
