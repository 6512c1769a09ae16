//! Names in an order that stays while they come and go, so that a walk over all of them can stop anywhere and go on
//! in a later turn. Lives: beside a table of sessions. View: whoever walks.
//!
//! Invariants: who is here when a circle begins and stays is met before it ends; places are reused and never given
//! back, so there are as many as there were names at once. Refused: a cursor over the table itself (a hash table cannot
//! go on where it stopped once it has grown).

use crate::SessionName;

/// See the module.
#[derive(Debug, Default)]
pub struct Order {
    places: Vec<Option<SessionName>>,
    free: Vec<u32>,
    cursor: usize,
}

impl Order {
    /// Takes a name in; returns its place, to be remembered for [`Order::remove`].
    pub fn insert(&mut self, name: SessionName) -> u32 {
        match self.free.pop() {
            Some(place) => {
                self.places[place as usize] = Some(name);
                place
            }
            None => {
                self.places.push(Some(name));
                (self.places.len() - 1) as u32
            }
        }
    }

    /// Frees a place.
    pub fn remove(&mut self, place: u32) {
        let taken = self.places.get_mut(place as usize).and_then(Option::take);
        if taken.is_some() {
            self.free.push(place);
        }
    }

    /// Places, the free ones among them.
    pub fn places(&self) -> usize {
        self.places.len()
    }

    /// Where the walk is. A circle that begins now ends when it is here again.
    pub fn cursor(&self) -> usize {
        self.cursor
    }

    /// Goes on by one place; returns whose it is, if somebody's.
    pub fn step(&mut self) -> Option<SessionName> {
        let name = self.places.get(self.cursor).copied().flatten();
        self.cursor += 1;
        if self.places.len() <= self.cursor {
            self.cursor = 0;
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(order: &mut Order, steps: usize) {
        for _ in 0..steps {
            order.step();
        }
    }

    /// Walks one circle, doing something after each step; returns who was met.
    fn circle(order: &mut Order, mut meanwhile: impl FnMut(&mut Order, usize)) -> Vec<u8> {
        let (from, mut met) = (order.cursor(), Vec::new());
        for steps in 0.. {
            met.extend(order.step().map(|name| name[0]));
            meanwhile(order, steps);
            if order.cursor() == from {
                return met;
            }
        }
        unreachable!("a circle ends");
    }

    #[test]
    fn a_circle_from_anywhere_meets_everyone_once() {
        for before in 0..7 {
            let mut order = Order::default();
            for name in 0..5 {
                order.insert([name; 16]);
            }
            walk(&mut order, before);
            let mut met = circle(&mut order, |_, _| {});
            met.sort_unstable();
            assert_eq!(met, [0, 1, 2, 3, 4], "after {before} steps");
        }
    }

    #[test]
    fn who_stays_is_met_whoever_comes_and_goes_meanwhile() {
        for before in 0..5 {
            for at in 0..5 {
                let mut order = Order::default();
                let places: Vec<u32> = (0..5).map(|name| order.insert([name; 16])).collect();
                walk(&mut order, before);
                let met = circle(&mut order, |order, steps| {
                    if steps == at {
                        order.remove(places[2]);
                        for name in 10..13 {
                            order.insert([name; 16]);
                        }
                    }
                });
                for name in [0, 1, 3, 4] {
                    assert!(met.contains(&name), "{name} after {before}, {at}: {met:?}");
                }
            }
        }
    }

    #[test]
    fn places_are_reused() {
        let mut order = Order::default();
        for round in 0..1000_u32 {
            let place = order.insert([round as u8; 16]);
            order.remove(place);
            order.remove(place);
        }
        assert_eq!(order.places(), 1);
    }
}
