//! Seeded choices: the only source of randomness, so that a run can be replayed.
//!
//! Depends on nothing. Each choice is a pure function of the seed and of what it is made for, never of the order
//! in which choices are asked for: concurrent requests cannot change a name.

/// The letters of generated names: Kubernetes leaves out vowels and look-alikes (`apimachinery/pkg/util/rand`).
const NAME_LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// How many letters a generated suffix has (`apiserver/pkg/storage/names`).
const SUFFIX_LENGTH: usize = 5;
/// The longest base of a generated name: 63 less the suffix (`apiserver/pkg/storage/names`).
const BASE_LENGTH_MAX: usize = 63 - SUFFIX_LENGTH;

/// The source of all random choices of one cluster.
#[derive(Clone, Copy, Debug)]
pub(super) struct Random {
    seed: u64,
}

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// A number that looks random, fixed for this seed, `subject` and `ordinal`.
    pub(super) fn number(self, subject: &str, ordinal: u64) -> u64 {
        // FNV-1a spreads the subject, SplitMix64's finalizer mixes all three.
        let hashed = subject.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        mix(mix(hashed ^ self.seed).wrapping_add(ordinal))
    }

    /// `<base>` with five letters, as the API server generates from `generateName`; `subject` and `ordinal`
    /// choose the letters.
    pub(super) fn name(self, base: &str, subject: &str, ordinal: u64) -> String {
        let mut number = self.number(subject, ordinal);
        let kept = base.char_indices().take_while(|(at, letter)| at + letter.len_utf8() <= BASE_LENGTH_MAX);
        let mut name: String = kept.map(|(_, letter)| letter).collect();
        let letters = NAME_LETTERS.len() as u64;
        for _ in 0..SUFFIX_LENGTH {
            let index = usize::try_from(number % letters).expect("less than 27");
            name.push(char::from(NAME_LETTERS[index]));
            number /= letters;
        }
        name
    }
}

fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_same_seed_gives_the_same_name_and_another_seed_another() {
        let name = Random::new(1).name("web-", "uid", 7);
        assert_eq!(name, Random::new(1).name("web-", "uid", 7));
        assert_ne!(name, Random::new(2).name("web-", "uid", 7));
        assert_ne!(name, Random::new(1).name("web-", "uid", 8));
        assert_ne!(name, Random::new(1).name("web-", "other", 7));
    }

    #[test]
    fn a_thousand_names_of_one_set_differ() {
        let names: BTreeSet<String> =
            (0..1000).map(|ordinal| Random::new(0).name("web-", "uid", ordinal)).collect();
        assert_eq!(names.len(), 1000);
    }

    #[test]
    fn a_name_has_five_letters_of_the_alphabet_and_at_most_63_in_all() {
        let name = Random::new(3).name(&"x".repeat(80), "uid", 0);
        assert_eq!(name.len(), 63);
        assert!(name[58..].bytes().all(|letter| NAME_LETTERS.contains(&letter)), "{name}");
    }
}
