//! The command line: what was asked for, and who does it.

mod cli;

fn main() -> std::process::ExitCode {
    let entered = std::time::Instant::now();
    std::process::ExitCode::from(cli::run(entered))
}
