//! The `drover` command.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// A gateway allocates for many requests at once, by which the system's own allocator gets slow: with it a request takes
/// a sixth more instructions.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    drover::cli::main()
}
