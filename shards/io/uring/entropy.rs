//! Randomness for one shard.

/// Randomness in portions, so that eight bytes do not cost a syscall each.
pub(super) struct Entropy {
    pool: [u8; 512],
    left: usize,
}

impl Default for Entropy {
    fn default() -> Self {
        Self { pool: [0; 512], left: 0 }
    }
}

impl Entropy {
    pub fn fill(&mut self, out: &mut [u8]) {
        if self.pool.len() < out.len() {
            return getrandom::fill(out).expect("the kernel has randomness");
        }
        if self.left < out.len() {
            getrandom::fill(&mut self.pool).expect("the kernel has randomness");
            self.left = self.pool.len();
        }
        let taken = &mut self.pool[self.left - out.len()..self.left];
        out.copy_from_slice(taken);
        // What was given away must not be found in memory later.
        taken.fill(0);
        self.left -= out.len();
    }
}
