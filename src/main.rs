//! The binary. Everything is in the library.

/// A request is some forty small allocations, and glibc's allocator keeps too few of them at hand.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    postrider::cli::main()
}
