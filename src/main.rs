//! Arguments in, exit code out.

fn main() -> std::process::ExitCode {
    lowland::cli::main().into()
}
