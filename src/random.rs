//! Random numbers as a function of (seed, stream, index): Philox 4x32-10, the same words in Rust and in WGSL
//! (`shaders/common/philox.wgsl`). Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3".
//!
//! No state is kept anywhere, so any slice of a data set can be had at once and a resumed run sees the same numbers.
//!
//! ```
//! use lowland::random::{Purpose, Stream};
//!
//! let draw = || Stream::new(7, Purpose::Test, 1_000_000).uniform();
//! assert_eq!(draw(), draw());
//! ```

/// Ten rounds of Philox on a counter.
///
/// ```
/// assert_eq!(lowland::random::philox([0; 4], [0; 2]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
/// ```
pub fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let mut c = counter;
    let mut k = key;
    for _ in 0..10 {
        let x = u64::from(c[0]) * 0xD251_1F53;
        let z = u64::from(c[2]) * 0xCD9E_8D57;
        c = [(z >> 32) as u32 ^ c[1] ^ k[0], z as u32, (x >> 32) as u32 ^ c[3] ^ k[1], x as u32];
        k = [k[0].wrapping_add(0x9E37_79B9), k[1].wrapping_add(0xBB67_AE85)];
    }
    c
}

/// The use of a stream of random numbers; each has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Purpose {
    /// The sentences of a language.
    Sentence = 1,
    /// Which words are masked.
    Mask = 2,
    /// Initial weights.
    Initialise = 3,
    /// A random grammar or hidden Markov model.
    Grammar = 4,
    /// Which numbers are dropped.
    Dropout = 5,
    /// Probe vectors.
    Probe = 6,
    /// Labels drawn from a conditional or from the model.
    Label = 7,
    /// What is drawn again for an interval.
    Bootstrap = 8,
    /// Inputs of tests and of the self-test.
    Test = 9,
    /// The order of examples.
    Shuffle = 32,
    /// A random projection of features.
    Projection = 33,
    /// Seeds of downstream data.
    Downstream = 34,
    /// Labels that take the place of those of training sentences.
    LabelNoise = 35,
    /// Batches of the adversarial algorithm.
    Adversary = 36,
    /// Examples drawn from a frame.
    Sample = 10,
    /// Starts and steps of Markov chains.
    Chain = 37,
}

/// The random numbers of one (seed, purpose, index), one after another.
///
/// ```
/// use lowland::random::{Purpose, Stream};
/// let mut a = Stream::new(1, Purpose::Test, 7);
/// let mut b = Stream::new(1, Purpose::Test, 7);
/// assert_eq!(a.uniform(), b.uniform());
/// ```
#[derive(Clone, Debug)]
pub struct Stream {
    key: [u32; 2],
    counter: [u32; 4],
    block: [u32; 4],
    used: usize,
}

impl Stream {
    /// The stream of an index; `index` may be a sentence's number, a tensor's, a probe's.
    pub fn new(seed: u64, purpose: Purpose, index: u64) -> Stream {
        Stream {
            key: [seed as u32, (seed >> 32) as u32],
            counter: [0, purpose as u32, index as u32, (index >> 32) as u32],
            block: [0; 4],
            used: 4,
        }
    }

    /// The same stream from its block `block` of 4 words on: draws of several items that share an index.
    pub fn from_block(mut self, block: u32) -> Stream {
        self.counter[0] = block;
        self.used = 4;
        self
    }

    /// 32 random bits.
    pub fn bits(&mut self) -> u32 {
        if self.used == 4 {
            self.block = philox(self.counter, self.key);
            self.counter[0] = self.counter[0].wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }

    /// Uniform in [0, 1), 53 bits.
    pub fn uniform(&mut self) -> f64 {
        let high = u64::from(self.bits() >> 5);
        let low = u64::from(self.bits() >> 6);
        (high * (1 << 26) + low) as f64 / 9_007_199_254_740_992.0
    }

    /// Uniform in 0..n, without bias.
    pub fn below(&mut self, n: u32) -> u32 {
        // Lemire 2019: the high word of a product, drawn again in the few cases that would favour some numbers.
        let reject = n.wrapping_neg() % n;
        loop {
            let wide = u64::from(self.bits()) * u64::from(n);
            if wide as u32 >= reject {
                return (wide >> 32) as u32;
            }
        }
    }

    /// Standard normal, by Box and Muller's transform.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (2.0 * std::f64::consts::PI * self.uniform()).cos()
    }

    /// Exponential with mean 1.
    pub fn exponential(&mut self) -> f64 {
        -(1.0 - self.uniform()).ln()
    }
}

/// The number at place `place` of pass `pass` over `0..size`: each pass has every number once, in a random order of its
/// own. The order is computed, not kept: a Feistel network over the bits of a number with Philox as its round function,
/// applied again while the result lies outside (cycle walking, Black and Rogaway 2002).
pub fn permuted(seed: u64, pass: u64, place: u64, size: u64) -> u64 {
    // Halves of as many bits as numbers below the size need, rounded up to an even number of bits.
    let half = (u64::BITS - (size - 1).leading_zeros()).div_ceil(2).max(1);
    let low = (1u64 << half) - 1;
    let key = [seed as u32, (seed >> 32) as u32 ^ ORDER];
    let mut number = place;
    loop {
        for round in 0..ROUNDS {
            let (left, right) = (number >> half, number & low);
            let mixed = philox([right as u32, round, pass as u32, (pass >> 32) as u32], key)[0];
            number = (right << half) | (left ^ (u64::from(mixed) & low));
        }
        if number < size {
            return number;
        }
    }
}

/// Keeps an order's random numbers apart from those of streams, whose second word is a purpose.
const ORDER: u32 = 0x5EED_0F0D;
/// Four rounds with a good round function cannot be told from a random permutation (Luby and Rackoff 1988).
const ROUNDS: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    /// Known-answer vectors of Random123 1.09 (`kat_vectors`, philox4x32 10).
    #[test]
    fn philox_gives_the_published_vectors() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
        assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
        let digits = [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344];
        assert_eq!(philox(digits, [0xa4093822, 0x299f31d0]), [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]);
    }

    #[test]
    fn draws_have_their_moments() {
        let mut stream = Stream::new(3, Purpose::Test, 0);
        let n = 20_000;
        let (mut u, mut g, mut g2, mut e) = (0.0, 0.0, 0.0, 0.0);
        let mut counts = [0u32; 7];
        for _ in 0..n {
            u += stream.uniform();
            let z = stream.normal();
            g += z;
            g2 += z * z;
            e += stream.exponential();
            counts[stream.below(7) as usize] += 1;
        }
        let n = f64::from(n);
        // Four standard errors of each mean.
        assert!((u / n - 0.5).abs() < 4.0 * (1.0f64 / 12.0 / n).sqrt());
        assert!((g / n).abs() < 4.0 / n.sqrt());
        assert!((g2 / n - 1.0).abs() < 4.0 * (2.0 / n).sqrt());
        assert!((e / n - 1.0).abs() < 4.0 / n.sqrt());
        for c in counts {
            assert!((f64::from(c) - n / 7.0).abs() < 4.0 * (n * 6.0 / 49.0).sqrt());
        }
    }

    #[test]
    fn the_order_is_another_in_each_pass_and_looks_random() {
        let n = 1000;
        let order = |pass: u64| (0..n).map(|i| permuted(3, pass, i, n)).collect::<Vec<u64>>();
        let (first, second) = (order(0), order(1));
        assert_ne!(first, second);
        // Correlation of place and number, of two passes, and of neighbours: each N(0, 1/n) for random orders.
        let correlation = |a: &[u64], b: &[u64]| {
            let mean = (n - 1) as f64 / 2.0;
            let centred = |v: u64| v as f64 - mean;
            let squares = (n * n - 1) as f64 / 12.0 * n as f64;
            a.iter().zip(b).map(|(a, b)| centred(*a) * centred(*b)).sum::<f64>() / squares
        };
        let places: Vec<u64> = (0..n).collect();
        for (what, r) in [
            ("places", correlation(&first, &places)),
            ("passes", correlation(&first, &second)),
            ("neighbours", correlation(&first[1..], &first[..n as usize - 1])),
        ] {
            assert!(r.abs() < 4.0 / (n as f64).sqrt(), "{what}: {r:.3}");
        }
    }
}
