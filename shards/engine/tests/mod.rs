//! The engine's behaviour, seen from where its clients stand. See [`world::World`].

mod ask;
mod harbour;
mod jobs;
mod wire;
mod world;

mod calls;
mod era;
mod headers;
mod rounds;
mod sessions;
mod status_legacy;
mod status_modern;
