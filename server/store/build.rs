//! The migrations are embedded: a new one rebuilds this crate.
#[expect(clippy::print_stdout, reason = "cargo reads it")]
fn main() {
    println!("cargo::rerun-if-changed=../../migrations");
}
