//! The engine's behaviour, seen from where its clients stand. See [`world::World`].

mod ask;
mod harbour;
mod jobs;
mod wire;
mod world;

mod era;
mod headers;
mod status_legacy;
mod status_modern;
mod task_news;
mod tasks;
