//! The binary. Everything is in the library.

fn main() {
    postrider::process_exit::with(postrider::cli::main())
}
