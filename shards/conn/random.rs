//! Randomness for the service in the middle of a turn, when the kernel cannot be asked.

/// Output after which the key is replaced, in bytes.
const RESEED_BYTES: u64 = 64 * 1024;

/// A BLAKE3 key stream. The shard seeds it at boot and between turns; what was handed out before a new
/// seed cannot be computed from the state after it.
pub(crate) struct Random {
    stream: blake3::OutputReader,
}

impl Random {
    pub(crate) fn new(seed: &[u8; 32]) -> Self {
        Self { stream: blake3::Hasher::new_keyed(seed).finalize_xof() }
    }

    pub(crate) fn fill(&mut self, out: &mut [u8]) {
        self.stream.fill(out);
    }

    /// Whether enough was handed out that [`Random::reseed`] is due.
    pub(crate) fn is_spent(&self) -> bool {
        RESEED_BYTES <= self.stream.position()
    }

    /// Mixes fresh entropy in; never worse than before, even if `fresh` is known.
    pub(crate) fn reseed(&mut self, fresh: &[u8; 32]) {
        let mut key = [0; 32];
        self.stream.fill(&mut key);
        self.stream = blake3::Hasher::new_keyed(&key).update(fresh).finalize_xof();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_never_repeats_and_a_new_seed_changes_it() {
        let (mut one, mut two) = (Random::new(&[1; 32]), Random::new(&[1; 32]));
        let (mut a, mut b) = ([0; 16], [0; 16]);
        one.fill(&mut a);
        two.fill(&mut b);
        assert_eq!(a, b, "the simulator needs the same stream for the same seed");
        one.fill(&mut a);
        assert_ne!(a, b);
        two.reseed(&[2; 32]);
        two.fill(&mut b);
        assert_ne!(a, b);
    }

    #[test]
    fn the_key_is_spent_after_enough_output() {
        let mut random = Random::new(&[1; 32]);
        let mut out = vec![0; RESEED_BYTES as usize - 1];
        random.fill(&mut out);
        assert!(!random.is_spent());
        random.fill(&mut out[..1]);
        assert!(random.is_spent());
        random.reseed(&[3; 32]);
        assert!(!random.is_spent());
    }
}
