//! MCP on a fleet of shards: one engine each, all on the same catalog.

use std::sync::Arc;
use std::time::Duration;

use erlmcp_catalog::{Handle, Runner};

use crate::engine::{Engine, EngineConfig, EngineMail, Seat};
use crate::fleet::{BootError, Fleet, FleetConfig, start};
use crate::mail::ForeignPost;
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
    let pacer = runner.clone();
    let fleet = start(fleet, move |seat| {
        let own = seat.posts[usize::from(seat.at.shard)].clone();
        let place = Seat { at: seat.at, shards: seat.count };
        seated(place, own, config.clone(), handle.clone(), runner.clone())
    })?;
    let posts = fleet.posts().clone();
    catalog.listen(Box::new(move |snapshot, changes| {
        let announcement = Announcement { snapshot: Some(snapshot), changes: changes.into() };
        announce(&posts, &announcement, &pacer);
    }));
    Ok(fleet)
}

/// The engine of one shard. `own` posts to that shard: deferred calls wake it so.
pub fn seated(
    place: Seat,
    own: ForeignPost<Mail>,
    config: Arc<EngineConfig>,
    catalog: Handle,
    runner: Arc<dyn Runner>,
) -> Engine {
    let wake = Arc::new(move || {
        // A full inbox needs no bell: its shard is awake, and looks at the answers after each letter.
        let _ = own.send(Mail::Engine(EngineMail::Answers));
    });
    Engine::new(place, config, catalog, runner, wake)
}

/// Tells every shard of a change of the catalog.
pub fn announce(
    posts: &[ForeignPost<Mail>],
    announcement: &Announcement,
    runner: &Arc<dyn Runner>,
) {
    for post in posts {
        if post.send(letter(announcement)).is_err() {
            // Called on the changing thread, which may be a shard: waiting is the runner's business.
            insist(post.clone(), announcement.clone(), runner);
        }
    }
}

fn letter(announcement: &Announcement) -> Mail {
    Mail::Engine(EngineMail::Announce(announcement.clone()))
}

/// Tries again at a full inbox: a shard that missed the news would serve an old catalog until the next.
fn insist(post: ForeignPost<Mail>, announcement: Announcement, runner: &Arc<dyn Runner>) {
    let shard = post.shard();
    let pacer = runner.clone();
    let queued = runner.spawn_future(Box::new(move || {
        Box::pin(async move {
            for _ in 0..RETRIES_MAX {
                pacer.sleep(RETRY_EVERY).await;
                if post.send(letter(&announcement)).is_ok() {
                    return;
                }
            }
            log::error!("shard {shard} took no news of the catalog: its inbox stayed full");
        })
    }));
    if queued.is_err() {
        log::error!("shard {shard} missed news of the catalog: too much work is queued");
    }
}

/// Between two attempts at a full inbox.
const RETRY_EVERY: Duration = Duration::from_millis(20);
/// Attempts at a full inbox, some ten seconds of them. A shard that is deaf for longer is beyond news.
const RETRIES_MAX: u32 = 500;
