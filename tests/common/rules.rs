//! Grammars with right-hand sides of any length, and what they yield by every derivation.

use std::collections::HashMap;

use lowland::random::{Purpose, Stream};

/// What stands on a right-hand side: whether it is a word, and its name.
pub type Part = (bool, String);
pub type Rules = Vec<(String, Vec<Part>, f64)>;
pub type Yields = HashMap<Vec<String>, f64>;

/// A random grammar as rules, and as nltk's text. Right-hand sides have 1 to 4 parts; a symbol leads to later ones, or
/// with a small probability to itself; one name is both a symbol and a word.
pub fn random_rules(seed: u64) -> (Rules, String) {
    let mut draw = Stream::new(seed, Purpose::Test, 0);
    let symbols = ["S", "A", "B", "C", "D"];
    let words = ["a", "b", "C"];
    let mut rules = Rules::new();
    let mut text = String::new();
    for (i, name) in symbols.iter().enumerate() {
        let later = &symbols[i + 1..];
        let mut own: Vec<(Vec<Part>, f64)> = vec![(vec![(true, words[draw.below(3) as usize].into())], 2.0)];
        for _ in 0..1 + draw.below(3) {
            let part = |draw: &mut Stream| match later.is_empty() || draw.below(3) == 0 {
                true => (true, words[draw.below(3) as usize].to_string()),
                false => (false, later[draw.below(later.len() as u32) as usize].to_string()),
            };
            let length = 1 + draw.below(4);
            let right: Vec<Part> = (0..length).map(|_| part(&mut draw)).collect();
            own.push((right, 0.2 + draw.uniform()));
        }
        own.push((vec![(false, name.to_string()), (true, "b".into()), (false, name.to_string())], 0.3));
        let total: f64 = own.iter().map(|r| r.1).sum();
        let alternatives: Vec<String> = own
            .iter()
            .map(|(right, weight)| {
                let parts = right.iter().map(|(word, name)| if *word { format!("'{name}'") } else { name.clone() });
                format!("{} [{:.17}]", parts.collect::<Vec<_>>().join(" "), weight / total)
            })
            .collect();
        text += &format!("{name} -> {}\n", alternatives.join(" | "));
        rules.extend(own.into_iter().map(|(right, weight)| (name.to_string(), right, weight / total)));
    }
    (rules, text)
}

/// What a part yields in at most `n` words, by every derivation.
pub fn yields(rules: &Rules, part: &Part, n: usize, known: &mut HashMap<(Part, usize), Yields>) -> Yields {
    if part.0 {
        return Yields::from([(vec![part.1.clone()], 1.0)]);
    }
    if let Some(found) = known.get(&(part.clone(), n)) {
        return found.clone();
    }
    let mut all = Yields::new();
    for (_, right, p) in rules.iter().filter(|r| r.0 == part.1 && r.1.len() <= n) {
        let mut begun = Yields::from([(vec![], *p)]);
        for (i, part) in right.iter().enumerate() {
            let mut next = Yields::new();
            for (words, p) in &begun {
                let room = n - words.len() - (right.len() - i - 1);
                for (more, q) in yields(rules, part, room, known) {
                    *next.entry([words.as_slice(), &more].concat()).or_default() += p * q;
                }
            }
            begun = next;
        }
        for (words, p) in begun {
            *all.entry(words).or_default() += p;
        }
    }
    known.insert((part.clone(), n), all.clone());
    all
}

pub const SYMBOL: fn(&str) -> Part = |name| (false, name.to_string());
