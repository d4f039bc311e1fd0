//! Receives a room as the recorder does and drops everything, for `make bench-composite`. It is started by
//! `recording-operator local --recorder target/release/examples/receive`.

fn main() -> std::process::ExitCode {
    recorder::receive::main()
}
