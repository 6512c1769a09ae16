//! The engine's behaviour, seen from where its clients stand. See [`world::World`].

mod ask;
mod harbour;
mod jobs;
mod wire;
mod world;

mod status_modern;
