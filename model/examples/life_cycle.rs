//! Prints `docs/life-cycle.md`.
fn main() {
    print!("{}", farrier_model::lifecycle::markdown());
}
