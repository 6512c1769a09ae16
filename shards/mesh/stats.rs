//! What a shard counts of its links.

use std::collections::BTreeMap;

use erlmcp_cluster::membership::Counters;

/// The links of one shard, for a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MeshStats {
    /// Links on which letters go to other nodes.
    pub links_out: u64,
    /// Links on which letters come from other nodes.
    pub links_in: u64,
    /// Attempts to connect.
    pub dials: u64,
    /// Attempts that found nobody, or took too long.
    pub dials_failed: u64,
    /// Links that ended although they were in use.
    pub links_lost: u64,
    /// Letters sent.
    pub letters_out: u64,
    /// Letters received, for whichever shard.
    pub letters_in: u64,
    /// Letters received for another shard of this node, and handed on.
    pub letters_relayed: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes that wait to be sent, on all links.
    pub queue_bytes: u64,
    /// Letters that were not taken, by reason: `no_link`, `sync`, `request`, `reply` (the link was short of room for
    /// that urgency), `too_large`; or that came and are for nobody: `nowhere`, `malformed`.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Links that were refused or cut by this end, by reason: the names of [`erlmcp_cluster::link::Refused`], and
    /// `full`, `wrong_peer`, `forged`, `frame_oversize`, `frame_malformed`, `member_malformed`.
    pub refused: BTreeMap<&'static str, u64>,
    /// Links that were refused by the other end.
    pub refused_by_peers: u64,
    /// What the members' machine counts; only the first shard has one.
    pub members: Option<Counters>,
}

impl MeshStats {
    pub(super) fn refuse(&mut self, reason: &'static str) {
        *self.refused.entry(reason).or_default() += 1;
    }

    pub(crate) fn drop_letter(&mut self, reason: &'static str) {
        *self.dropped.entry(reason).or_default() += 1;
    }
}
