//! One session of this shard, and who keeps it.
//!
//! Invariants: what was said to a keeper and what it has acknowledged counts only in the round of the link over which
//! it was said; who kept a session before keeps it until those who are to keep it now have it, so that a session that
//! changes its keepers is never without a copy.

use std::collections::BTreeMap;

use super::Peer;
use crate::SessionName;
use crate::letter::route::Token;
use crate::view::View;
use crate::{Millis, Spot};

/// Nodes that may refuse a session's copy for want of room; then it is left without until the second next look.
pub const REFUSALS_MAX: usize = 3;

/// How many copies there are of a session, whatever their age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copied {
    /// As many as configured.
    All,
    /// Fewer.
    Some,
    /// None: with its node it is lost.
    None,
}

impl Copied {
    /// All of them; `self as usize` indexes.
    pub const ALL: [Copied; 3] = [Copied::All, Copied::Some, Copied::None];

    /// Metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Copied::All => "all",
            Copied::Some => "some",
            Copied::None => "none",
        }
    }
}

/// What can be promised of a session's revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// All who should have it have it. What nobody can keep is as safe as it can be.
    Safe,
    /// An acknowledgement may come yet.
    Awaited,
    /// Somebody should have it and will not, for now: there is no room for it, or it is too large.
    Missing,
}

#[derive(Debug)]
pub(super) struct Owned {
    pub token: Token,
    pub term: u32,
    pub rev: u32,
    pub keepers: Vec<Keeper>,
    /// Copies that nobody takes now, of those that there should be.
    pub lacks: u8,
    /// No letter takes its present revision.
    pub is_oversize: bool,
    pub copied: Copied,
    /// Since when a keeper is behind.
    pub since: Option<Millis>,
    /// For which members its keepers were chosen.
    pub seen: u32,
    /// In the order of the walk.
    pub place: u32,
}

/// What a node has to do with a session's copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// It is to have it.
    Keeps,
    /// It kept it before, and does until the others have it.
    Former,
    /// It has no room for the session as it is, and is not asked again for now. What it has of it, it keeps until the
    /// others have more.
    Full,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Keeper {
    pub node: u16,
    pub part: Part,
    /// The round in which the rest was true; 0: there is no link to it.
    pub round: u32,
    /// The session was said to it, so that it may have it, whatever is known of that.
    pub may_have: bool,
    /// Revision that was said last; 0: nothing is known to be there.
    pub said: u32,
    /// Revision that was acknowledged last.
    pub kept: u32,
    pub is_queued: bool,
    /// What was not acknowledged at the last look, or 1 of who refused; 0: nothing.
    pub doubted: u32,
}

impl Keeper {
    fn new(node: u16, round: u32) -> Self {
        Self {
            node,
            part: Part::Keeps,
            round,
            may_have: false,
            said: 0,
            kept: 0,
            is_queued: false,
            doubted: 0,
        }
    }

    pub fn keeps(&self) -> bool {
        self.part == Part::Keeps
    }
}

/// The members, as far as the choice of keepers depends on them.
pub(super) struct Members<'r> {
    pub view: &'r View,
    pub peers: &'r BTreeMap<u16, Peer>,
    /// Copies of each session.
    pub replicas: usize,
    /// Counts the changes of who takes copies.
    pub generation: u32,
    /// The last one with which somebody came.
    pub arrival: u32,
    /// How many others take copies.
    pub takers: usize,
}

impl Members<'_> {
    fn round(&self, node: u16) -> u32 {
        self.peers.get(&node).map_or(0, |peer| peer.round)
    }
}

impl Owned {
    pub fn new(token: Token, term: u32, place: u32) -> Self {
        Self {
            token,
            term,
            rev: 1,
            keepers: Vec::new(),
            lacks: 0,
            is_oversize: false,
            copied: Copied::None,
            since: None,
            seen: 0,
            place,
        }
    }

    pub fn keeping(&self) -> impl Iterator<Item = &Keeper> {
        self.keepers.iter().filter(|keeper| keeper.keeps())
    }

    /// Who is to have it, and this node is.
    pub fn keeper_mut(&mut self, node: u16) -> Option<&mut Keeper> {
        self.keepers.iter_mut().find(|keeper| keeper.node == node && keeper.keeps())
    }

    /// Brings it up to date with the members and the links to them. Returns what that cost, in nodes weighed.
    pub fn catch_up(&mut self, name: &SessionName, members: &Members<'_>) -> usize {
        let mut has_room = false;
        self.keepers.retain_mut(|keeper| {
            let round = members.round(keeper.node);
            if keeper.round == round {
                return true;
            }
            has_room |= keeper.part == Part::Full;
            let keeps = keeper.keeps();
            *keeper = Keeper::new(keeper.node, round);
            keeps
        });
        if has_room && 0 < self.lacks {
            self.choose(name, members);
            return members.takers;
        }
        if self.seen == members.generation {
            return 0;
        }
        // Who goes changes nothing for sessions it did not keep.
        let takes = |node| members.view.member(node).is_some_and(|member| member.takes());
        let wanted = members.replicas.min(members.takers);
        let is_same = members.arrival <= self.seen
            && self.lacks == 0
            && self.keeping().count() == wanted
            && self.keeping().all(|keeper| takes(keeper.node));
        if is_same {
            self.seen = members.generation;
            return 0;
        }
        self.choose(name, members);
        members.takers
    }

    /// Chooses its keepers anew; whoever had no room may have some now.
    pub fn choose(&mut self, name: &SessionName, members: &Members<'_>) {
        let successors = members.view.successors(name, members.view.me);
        let chosen = &successors[..members.replicas.min(successors.len())];
        let is_chosen = |node: u16| chosen.iter().any(|member| member.node == node);
        self.keepers.retain_mut(|keeper| {
            let keeps = is_chosen(keeper.node);
            keeper.part = if keeps { Part::Keeps } else { Part::Former };
            keeps || keeper.may_have || keeper.is_queued
        });
        for member in chosen {
            if !self.keepers.iter().any(|keeper| keeper.node == member.node) {
                self.keepers.push(Keeper::new(member.node, members.round(member.node)));
            }
        }
        self.lacks = 0;
        self.seen = members.generation;
    }

    /// A keeper has no room: the next successor is asked, unless too many were.
    pub fn pass_on(&mut self, name: &SessionName, from: u16, members: &Members<'_>) {
        let Some(keeper) = self.keeper_mut(from) else { return };
        (keeper.part, keeper.said, keeper.doubted) = (Part::Full, keeper.kept, 0);
        let full = self.keepers.iter().filter(|keeper| keeper.part == Part::Full).count();
        let known = |node: u16| self.keepers.iter().position(|keeper| keeper.node == node);
        let next = members
            .view
            .successors(name, members.view.me)
            .into_iter()
            .map(|member| (member.node, known(member.node)))
            .find(|(_, known)| known.is_none_or(|at| self.keepers[at].part == Part::Former));
        match next.filter(|_| full < REFUSALS_MAX) {
            Some((_, Some(at))) => self.keepers[at].part = Part::Keeps,
            Some((node, None)) => self.keepers.push(Keeper::new(node, members.round(node))),
            None => self.lacks = self.lacks.saturating_add(1),
        }
    }

    /// A look at what was not acknowledged: what was not at the last one either is said again. Returns whether
    /// anything is in doubt, and whether it is said again.
    pub fn look(&mut self, name: &SessionName, members: &Members<'_>) -> (bool, bool) {
        let (mut is_doubtful, mut again, mut anew) = (false, false, false);
        let lacks = 0 < self.lacks;
        for keeper in &mut self.keepers {
            let is_waiting = match keeper.part {
                Part::Keeps => keeper.said != 0 && keeper.kept < keeper.said,
                Part::Full => lacks,
                Part::Former => false,
            };
            let doubt = if keeper.part == Part::Full { 1 } else { keeper.said };
            if !is_waiting || keeper.is_queued {
                keeper.doubted = 0;
            } else if keeper.doubted == doubt {
                keeper.doubted = 0;
                again = true;
                match keeper.part {
                    Part::Full => anew = true,
                    Part::Keeps | Part::Former => keeper.said = 0,
                }
            } else {
                keeper.doubted = doubt;
            }
            is_doubtful |= is_waiting;
        }
        if anew {
            self.choose(name, members);
        }
        if again {
            self.is_oversize = false;
        }
        (is_doubtful, again)
    }

    /// What can be promised of a revision.
    pub fn standing(&self, rev: u32, members: &Members<'_>) -> Standing {
        let is_behind =
            |keeper: &Keeper| keeper.kept < rev || keeper.round != members.round(keeper.node);
        if self.seen != members.generation {
            // Whoever should have it may be somebody else by now.
            return Standing::Awaited;
        }
        match self.is_oversize {
            true => Standing::Missing,
            false if self.keeping().any(is_behind) => Standing::Awaited,
            false if 0 < self.lacks => Standing::Missing,
            false => Standing::Safe,
        }
    }

    pub fn is_behind(&self) -> bool {
        let lags = || self.keeping().any(|keeper| keeper.kept < self.rev);
        !self.is_oversize && (0 < self.lacks || lags())
    }

    /// Copies of any age.
    pub fn count_copies(&self, replicas: usize) -> Copied {
        match self.keepers.iter().filter(|keeper| 0 < keeper.kept).count() {
            count if replicas <= count => Copied::All,
            0 => Copied::None,
            _ => Copied::Some,
        }
    }

    /// Those who kept it before and need not any more; they are told.
    pub fn let_go(&mut self) -> Vec<u16> {
        if self.keepers.iter().all(|keeper| keeper.part == Part::Keeps) {
            return Vec::new();
        }
        let least = self.keeping().map(|keeper| keeper.kept).min().unwrap_or_default();
        let is_kept = 0 < least && self.lacks == 0;
        let mut told = Vec::new();
        self.keepers.retain_mut(|keeper| {
            if keeper.part == Part::Keeps || keeper.is_queued {
                return true;
            }
            if is_kept && keeper.kept <= least && keeper.may_have {
                told.push(keeper.node);
                (keeper.said, keeper.kept, keeper.may_have) = (0, 0, false);
            }
            keeper.part == Part::Full || keeper.may_have
        });
        told
    }
}

/// Where a node looks after a session.
pub(super) fn spot(view: &View, node: u16, name: &SessionName) -> Option<Spot> {
    let member = view.member(node)?;
    Some(Spot { node, shard: member.shard_of(name) })
}
