//! The engine's behaviour, seen from where its clients stand. See [`world::World`].

mod ask;
mod examples;
mod harbour;
mod jobs;
mod mesh;
mod truths;
mod wire;
mod world;

mod afar;
mod batch;
mod calls;
mod drain;
mod era;
mod handover;
mod headers;
mod keep;
mod keep_random;
mod keep_short;
mod leave;
mod listen;
mod news_afar;
mod pipes;
mod random;
mod rounds;
mod sessions;
mod sse;
mod status_legacy;
mod status_modern;
mod streams;
mod task_news;
mod tasks;
mod unread;
