//! Buffers that come back: what is sent needs memory only while it is sent.

/// Buffers above this capacity are freed instead of kept, in bytes.
pub(crate) const KEPT_BYTES_MAX: usize = 16 * 1024;
/// Buffers kept at most: 16 MiB per shard if all of them grew to the limit.
pub(crate) const KEPT_MAX: usize = 1024;
/// A fresh buffer's capacity, in bytes: most answers with their head fit.
const FRESH_BYTES: usize = 1024;

/// Empty buffers waiting to be used again. Lives: one per shard.
///
/// `lent` counts buffers outside; a test that ends with a number other than 0 found a leak.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    free: Vec<Vec<u8>>,
    lent: usize,
}

impl Pool {
    /// An empty buffer.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.lent += 1;
        self.free.pop().unwrap_or_else(|| Vec::with_capacity(FRESH_BYTES))
    }

    /// Takes a buffer back. One without capacity was never lent and is ignored.
    pub(crate) fn give(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() == 0 {
            return;
        }
        debug_assert!(self.lent != 0, "a buffer came home that was never lent");
        self.lent = self.lent.saturating_sub(1);
        if buffer.capacity() <= KEPT_BYTES_MAX && self.free.len() < KEPT_MAX {
            buffer.clear();
            self.free.push(buffer);
        }
    }

    /// Buffers outside.
    pub(crate) fn lent(&self) -> usize {
        self.lent
    }
}

/// Texts kept for mail at most: 4 MiB per shard if all of them grew to [`KEPT_BYTES_MAX`].
const TEXTS_MAX: usize = 256;

/// Buffers that travel to other shards in the mail. Whoever has read a letter keeps its text for its own next one: shards
/// that hear about as much as they say allocate nothing, and no memory is freed on another thread than it came from.
#[derive(Debug, Default)]
pub(crate) struct Texts(Vec<Vec<u8>>);

impl Texts {
    /// A buffer that holds `bytes`.
    pub(crate) fn copy(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut text =
            self.0.pop().unwrap_or_else(|| Vec::with_capacity(bytes.len().max(FRESH_BYTES)));
        text.extend_from_slice(bytes);
        text
    }

    /// Keeps a buffer, wherever it came from.
    pub(crate) fn keep(&mut self, mut text: Vec<u8>) {
        let is_worth_it = (FRESH_BYTES..=KEPT_BYTES_MAX).contains(&text.capacity());
        if is_worth_it && self.0.len() < TEXTS_MAX {
            text.clear();
            self.0.push(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_empty_with_its_capacity() {
        let mut pool = Pool::default();
        let mut buffer = pool.take();
        buffer.extend_from_slice(&[7; 5000]);
        let capacity = buffer.capacity();
        pool.give(buffer);
        let again = pool.take();
        assert!(again.is_empty());
        assert_eq!(again.capacity(), capacity);
        assert_eq!(pool.lent(), 1);
    }

    #[test]
    fn a_text_that_was_read_is_the_next_one_to_be_written() {
        let mut texts = Texts::default();
        let first = texts.copy(b"first");
        assert_eq!(first, b"first");
        let place = first.as_ptr();
        texts.keep(first);
        let second = texts.copy(b"2nd");
        assert_eq!((second.as_slice(), second.as_ptr()), (&b"2nd"[..], place));
        assert_eq!(texts.copy(&[7; 5000]), [7; 5000]);
    }

    #[test]
    fn small_and_big_texts_and_too_many_are_freed() {
        let mut texts = Texts::default();
        let sizes = [(0, 0), (FRESH_BYTES - 1, 0), (FRESH_BYTES, 1), (KEPT_BYTES_MAX, 2)];
        for (capacity, kept) in [&sizes[..], &[(KEPT_BYTES_MAX + 1, 2)]].concat() {
            texts.keep(Vec::with_capacity(capacity));
            assert_eq!(texts.0.len(), kept, "capacity {capacity}");
        }
        (0..TEXTS_MAX).for_each(|_| texts.keep(Vec::with_capacity(FRESH_BYTES)));
        assert_eq!(texts.0.len(), TEXTS_MAX);
    }

    #[test]
    fn big_buffers_and_too_many_are_freed() {
        let mut pool = Pool::default();
        for (capacity, kept) in [(KEPT_BYTES_MAX, 1), (KEPT_BYTES_MAX + 1, 0)] {
            let mut buffer = pool.take();
            buffer.reserve_exact(capacity);
            pool.give(buffer);
            assert_eq!(pool.free.len(), kept, "capacity {capacity}");
        }
        let lent: Vec<_> = (0..KEPT_MAX + 3).map(|_| pool.take()).collect();
        lent.into_iter().for_each(|buffer| pool.give(buffer));
        assert_eq!(pool.free.len(), KEPT_MAX);
        assert_eq!(pool.lent(), 0);
    }
}
