//! From the running catalog to every shard: what is served now, and what changed.

use std::sync::Arc;
use std::time::Duration;

use erlmcp_catalog::{Change, Handle, Runner, Snapshot};
use erlmcp_shards::engine::EngineMail;
use erlmcp_shards::mail::ForeignPost;
use erlmcp_shards::message::{Announcement, Mail};

/// Between two attempts at a full inbox.
const RETRY_EVERY: Duration = Duration::from_millis(20);
/// Attempts at a full inbox: some ten seconds. A shard that stays deaf longer is beyond announcements.
const RETRIES_MAX: u32 = 500;

/// Has every change of the catalog told to every shard, from now on.
pub fn connect(catalog: &Handle, posts: Arc<[ForeignPost<Mail>]>, runner: Arc<dyn Runner>) {
    catalog.listen(Box::new(move |snapshot, changes| {
        let changes: Arc<[Change]> = changes.into();
        for post in posts.iter() {
            let letter = letter(&snapshot, &changes);
            if post.send(letter).is_err() {
                // Called on the changing thread, which may be a shard: waiting is the runner's business.
                insist(post.clone(), snapshot.clone(), changes.clone(), runner.clone());
            }
        }
    }));
}

fn letter(snapshot: &Arc<Snapshot>, changes: &Arc<[Change]>) -> Mail {
    Mail::Engine(EngineMail::Announce(Announcement {
        snapshot: Some(snapshot.clone()),
        changes: changes.clone(),
    }))
}

fn insist(
    post: ForeignPost<Mail>,
    snapshot: Arc<Snapshot>,
    changes: Arc<[Change]>,
    runner: Arc<dyn Runner>,
) {
    let sleeper = runner.clone();
    let shard = post.shard();
    let queued = runner.spawn_future(Box::new(move || {
        Box::pin(async move {
            for _ in 0..RETRIES_MAX {
                sleeper.sleep(RETRY_EVERY).await;
                if post.send(letter(&snapshot, &changes)).is_ok() {
                    return;
                }
            }
            log::error!("shard {shard} took no news of the catalog: its inbox stayed full");
        })
    }));
    if queued.is_err() {
        log::error!(
            "shard {shard} was not told of a change of the catalog: too much work is queued"
        );
    }
}
