//! A short run of each target.

#![allow(clippy::panic, reason = "a test may stop where it stands")]

use fuzz::{Mutator, TARGETS};

const MUTANTS: usize = 20_000;

#[test]
fn no_target_breaks_over_input_that_is_nearly_right() {
    for target in TARGETS {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{} has nothing to begin from", target.name);
        for seed in &seeds {
            (target.run)(seed);
        }
        let mut mutator = Mutator::new(0x5375_7975_616e);
        for number in 0..MUTANTS {
            let mutant = mutator.mutant(&seeds);
            let run = std::panic::catch_unwind(|| (target.run)(&mutant));
            assert!(
                run.is_ok(),
                "{} breaks over mutant {number}: {:?}",
                target.name,
                String::from_utf8_lossy(&mutant)
            );
        }
    }
}
