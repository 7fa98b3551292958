//! A language whose truth is known, without an adapter: sentences, the exact distribution of a masked word, and the
//! least loss that any model of the language can reach.
//!
//!     cargo run --release --example language -- GRAMMAR
//!
//! GRAMMAR is a file of rules, one per line with its probability. Without one, the grammar below is taken.

use std::error::Error;

use lowland::prelude::*;

const RULES: &str = "\
S NP VP 1
NP Det N 0.7
NP Det A N 0.3
VP sleep 0.4
VP V NP 0.6
Det the 0.6
Det a 0.4
A old 0.5
A small 0.5
N dog 0.6
N cat 0.4
V sees 0.8
V chases 0.2
";

/// Reads the rules of the file that is named on the command line, or those above.
pub fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().nth(1) {
        Some(file) => run(&std::fs::read_to_string(&file)?, &file),
        None => run(RULES, "the example"),
    }
}

/// Prints sentences, the exact conditionals of one, and the entropy floor.
pub fn run(rules: &str, file: &str) -> Result<(), Box<dyn Error>> {
    let language = Pcfg::new(Grammar::parse(rules, file)?, 12)?;

    // Sentences are a function of (seed, number): the same on every machine, in any order.
    for number in 0..3 {
        println!("{}", language.decode(&language.sample(1, number)).join(" "));
    }

    // What can stand in the place of each word, given all others.
    let sentence = language.sample(1, 0);
    let known = language.conditional(&sentence).ok_or("a sentence of the language")?;
    println!("\np = {:.4}", known.log_probability.exp());
    for (word, p) in language.decode(&sentence).iter().zip(&known.conditional) {
        let mut words: Vec<(&String, f64)> = language.vocabulary().iter().zip(p.iter().copied()).collect();
        words.sort_by(|a, b| b.1.total_cmp(&a.1));
        let shown = words.iter().take_while(|(_, p)| *p > 0.0).take(3).map(|(w, p)| format!("{w} {p:.2}"));
        println!("{word:>8}: {}", shown.collect::<Vec<_>>().join(", "));
    }

    // The mean entropy of these distributions: a model's loss minus this is its distance from the truth.
    let floor = entropy_floor(&language, 1, 2000);
    println!("\nentropy floor {:.4} ± {:.4} nats", floor.entropy_floor, floor.standard_error);
    Ok(())
}
