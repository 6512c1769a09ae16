//! MCP on a fleet of shards: one engine each, all on the same catalog.

use std::sync::Arc;

use erlmcp_catalog::{Handle, Runner};

use crate::engine::{Engine, EngineConfig, EngineMail, Seat};
use crate::fleet::{BootError, Fleet, FleetConfig, start};
use crate::message::{Announcement, Mail};

/// Boots shards that serve this catalog. What changes in it is announced to all of them.
pub fn serve(
    fleet: FleetConfig,
    engine: EngineConfig,
    catalog: Handle,
    runner: Arc<dyn Runner>,
) -> Result<Fleet, BootError> {
    let config = Arc::new(engine);
    let handle = catalog.clone();
    let fleet = start(fleet, move |seat| {
        let own = seat.posts[usize::from(seat.index)].clone();
        let wake = Arc::new(move || {
            // A full inbox needs no bell: its shard is awake, and looks at the answers after each letter.
            let _ = own.send(Mail::Engine(EngineMail::Answers));
        });
        let place = Seat { shard: seat.index, shards: seat.count };
        Engine::new(place, config.clone(), handle.clone(), runner.clone(), wake)
    })?;
    let posts = fleet.posts().clone();
    catalog.listen(Box::new(move |snapshot, changes| {
        let changes: Arc<[_]> = changes.into();
        for post in posts.iter() {
            let announcement =
                Announcement { snapshot: Some(snapshot.clone()), changes: changes.clone() };
            // Full: the shard is far behind, and its subscribers are told of the next change.
            let _ = post.send(Mail::Engine(EngineMail::Announce(announcement)));
        }
    }));
    Ok(fleet)
}
