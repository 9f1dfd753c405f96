//! The server's only source of chance: uids, generated names, cluster addresses.
//!
//! Seeded, so that a simulation with the same seed and the same requests sees the same objects, byte for byte.

/// Letters of generated names: no vowels, nothing that reads like another (apimachinery's `util/rand`).
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Length of the random part of a generated name.
const SUFFIX_LENGTH: usize = 5;

/// Longest prefix that a generated name keeps, so that the whole stays a DNS label.
const PREFIX_MAX: usize = 63 - SUFFIX_LENGTH;

/// A seeded generator.
#[derive(Clone, Debug)]
pub(crate) struct Random(fastrand::Rng);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// The seed of a generator that goes on where this one is.
    pub(crate) fn state(&self) -> u64 {
        self.0.get_seed()
    }

    /// A uid: a version 4 UUID.
    pub(crate) fn uid(&mut self) -> String {
        let mut bytes = [0; 16];
        self.0.fill(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }

    /// A name for `generateName`.
    pub(crate) fn name(&mut self, prefix: &str) -> String {
        let mut end = prefix.len().min(PREFIX_MAX);
        while !prefix.is_char_boundary(end) {
            end -= 1;
        }
        let suffix = (0..SUFFIX_LENGTH).map(|_| char::from(ALPHABET[self.below(ALPHABET.len())]));
        prefix[..end].chars().chain(suffix).collect()
    }

    /// A number from 0 to `bound` − 1; 0 for a bound of 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { self.0.usize(..bound) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_values() {
        let values = |seed| {
            let mut random = Random::new(seed);
            (random.uid(), random.name("web-"), random.below(1000))
        };
        assert_eq!(values(7), values(7));
        assert_ne!(values(7), values(8));
    }

    #[test]
    fn a_generator_goes_on_from_its_state() {
        let mut random = Random::new(7);
        random.uid();
        let mut next = Random::new(random.state());
        assert_eq!(next.uid(), random.uid());
    }

    #[test]
    fn generated_names_fit_into_a_label() {
        let mut random = Random::new(1);
        let name = random.name(&"a".repeat(100));
        assert_eq!(name.len(), 63);
        assert!(random.name("web-").strip_prefix("web-").is_some_and(|suffix| suffix.len() == 5));
    }
}
