//! The command `tenantry`: what the library installs and audits, for those who run databases.

mod arguments;
mod audit;
mod configuration;
mod database;
mod failure;
mod install;
mod key;
mod paint;

use std::process::ExitCode;

use clap::Parser as _;

use arguments::{Arguments, Command};
use failure::Failure;

/// Nothing was found, or all was done.
const DONE: u8 = 0;
/// Something was found.
const FOUND: u8 = 1;
/// It could not be done. clap ends with the same for arguments that it does not know.
const FAILED: u8 = 2;
/// Nothing was found in what could be seen, and not all could be.
const NOT_ALL_SEEN: u8 = 3;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    arguments.color.apply();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(&arguments)),
        Err(error) => Err(Failure::new("the runtime does not start").because(&error)),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            anstream::eprintln!("{}error:{} {failure}", paint::BAD, paint::END);
            ExitCode::from(FAILED)
        }
    }
}

async fn run(arguments: &Arguments) -> Result<u8, Failure> {
    match &arguments.command {
        Command::Audit(options) => audit::run(arguments, options).await,
        Command::Probe(options) => audit::probe(arguments, options).await,
        Command::Rules(options) => audit::rules(options),
        Command::Sql(options) => install::print(arguments, options),
        Command::Install(options) => install::run(arguments, options).await,
        Command::Key(command) => key::run(arguments, command).await,
    }
}
