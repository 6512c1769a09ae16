//! A table of values whose keys survive reuse: a slot number comes back, a generation does not.

/// Names one value of a [`Slots`] table, for as long as that value lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Index in the table.
    pub slot: u32,
    /// How often that index had been reused.
    pub generation: u32,
}

impl Key {
    /// The key as one number, for tickets that other crates carry.
    pub const fn to_u64(self) -> u64 {
        ((self.generation as u64) << 32) | self.slot as u64
    }

    /// The inverse of [`Key::to_u64`].
    pub const fn from_u64(ticket: u64) -> Self {
        Self { slot: ticket as u32, generation: (ticket >> 32) as u32 }
    }
}

struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

/// A slab with generations.
pub struct Slots<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    /// How many values live.
    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Whether none lives.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The key that the next [`Slots::insert`] will return.
    pub fn next_key(&self) -> Key {
        match self.free.last() {
            Some(&slot) => Key { slot, generation: self.entries[slot as usize].generation },
            None => Key { slot: self.entries.len() as u32, generation: 0 },
        }
    }

    /// Makes the next key one that nobody knows, as if a value had been stored under it and taken out.
    pub fn skip_key(&mut self) {
        match self.free.last() {
            Some(&slot) => {
                let entry = &mut self.entries[slot as usize];
                entry.generation = entry.generation.wrapping_add(1);
            }
            None => {
                self.free.push(self.entries.len() as u32);
                self.entries.push(Entry { generation: 1, value: None });
            }
        }
    }

    /// Stores a value.
    pub fn insert(&mut self, value: T) -> Key {
        let key = self.next_key();
        if self.free.pop().is_some() {
            self.entries[key.slot as usize].value = Some(value);
        } else {
            self.entries.push(Entry { generation: 0, value: Some(value) });
        }
        key
    }

    /// The value, if it still lives.
    pub fn get(&self, key: Key) -> Option<&T> {
        let entry = self.entries.get(key.slot as usize)?;
        if entry.generation == key.generation { entry.value.as_ref() } else { None }
    }

    /// The value, if it still lives.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let entry = self.entries.get_mut(key.slot as usize)?;
        if entry.generation == key.generation { entry.value.as_mut() } else { None }
    }

    /// Takes the value out; its key never matches again.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let entry = self.entries.get_mut(key.slot as usize)?;
        if entry.generation != key.generation {
            return None;
        }
        let value = entry.value.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(key.slot);
        Some(value)
    }

    /// All living values with their keys.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.entries.iter().enumerate().filter_map(|(slot, entry)| {
            let key = Key { slot: slot as u32, generation: entry.generation };
            entry.value.as_ref().map(|value| (key, value))
        })
    }

    /// All living values.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.iter_mut().filter_map(|entry| entry.value.as_mut())
    }

    /// All living keys, in slot order.
    pub fn keys(&self) -> Vec<Key> {
        self.iter().map(|(key, _)| key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_dies_with_its_value() {
        let mut slots = Slots::default();
        let first = slots.insert("a");
        assert_eq!(slots.remove(first), Some("a"));
        let second = slots.insert("b");
        assert_eq!(first.slot, second.slot);
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.get(second), Some(&"b"));
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.len(), 1);
    }

    #[test]
    fn the_next_key_is_the_one_insert_returns() {
        let mut slots = Slots::default();
        for round in 0..4 {
            let promised = slots.next_key();
            let key = slots.insert(round);
            assert_eq!(promised, key);
            if round % 2 == 0 {
                slots.remove(key);
            }
        }
    }

    #[test]
    fn a_skipped_key_is_never_given_out() {
        let mut slots = Slots::default();
        for round in 0..3 {
            let skipped = slots.next_key();
            slots.skip_key();
            assert_eq!(slots.get(skipped), None);
            let key = slots.insert(round);
            assert_ne!(key, skipped);
            assert_eq!((slots.get(skipped), slots.get(key)), (None, Some(&round)));
            if round == 1 {
                slots.remove(key);
            }
        }
        assert_eq!(slots.len(), 2);
    }

    #[test]
    fn a_ticket_round_trips() {
        let key = Key { slot: 7, generation: u32::MAX };
        assert_eq!(Key::from_u64(key.to_u64()), key);
    }
}
