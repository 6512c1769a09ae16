//! Links between nodes, over a simulated kernel and over the real one.

mod faults;
mod fleet;
mod formation;
mod leaving;
mod letters;
mod refusals;
mod scribe;
mod world;
