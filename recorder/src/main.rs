//! `recorder`: see the library.

fn main() -> std::process::ExitCode {
    recorder::main()
}
