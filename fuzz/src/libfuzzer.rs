//! The program that libFuzzer drives: one target, named by FUZZ_TARGET. It has no `main` of its own, libFuzzer's is linked (scripts/fuzz.sh).
#![no_main]

use std::ffi::c_int;
use std::sync::LazyLock;

static TARGET: LazyLock<recording_fuzz::Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    recording_fuzz::target(&name).unwrap_or_else(|| panic!("FUZZ_TARGET must be one of {}", recording_fuzz::names().join(", ")))
});

/// A panic leaves this function as an abort, which libFuzzer records with its input.
#[unsafe(no_mangle)]
extern "C" fn LLVMFuzzerTestOneInput(data: *const u8, size: usize) -> c_int {
    // SAFETY: libFuzzer passes `size` readable bytes, which nobody changes during the call; the pointer is not null.
    let input = unsafe { std::slice::from_raw_parts(data, size) };
    (TARGET.body)(input);
    0
}
