//! The binary: parse, dispatch, exit code. Everything else is in the library, where tests reach it.

use farrier_cli::context::Environment;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = farrier_cli::args::parse();
    match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime.block_on(farrier_cli::run(cli, Environment::of_process())),
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}
