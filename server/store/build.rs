//! The migrations are embedded: a new one rebuilds this crate.

fn main() {
    println!("cargo::rerun-if-changed=../../migrations");
}
