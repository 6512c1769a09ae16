//! What the crew tells a thread, and what it is told.

use super::super::client::Client;
use super::super::plan::{Census, Command, Report, Roamed, Work};
use super::super::roam::{Place, home, lend};
use super::Worker;

impl Worker {
    pub(super) fn obey(&mut self, command: Command) {
        match command {
            Command::Open { clients, per_s } => {
                self.arrivals.want(clients, per_s, self.now);
            }
            Command::Work(work) => {
                for client in self.calls.begin(work) {
                    self.leave(client);
                }
            }
            Command::Deafen(count) => self.deafen(count),
            Command::Hear => {
                for client in self.clients.iter_mut().filter(|client| client.is_deaf()) {
                    client.read_again(&mut self.rings[usize::from(client.ring)].io);
                }
            }
            Command::Close => {
                self.calls.begin(Work::Rest);
                self.arrivals.stop();
                for client in 0..self.clients.len() as u32 {
                    self.leave(client);
                }
            }
            Command::Roam(place) => {
                let roamed = self.roam(place);
                let _ = self.reports.send(Report::Roamed(roamed));
            }
            Command::Count => {
                let census = self.census();
                // Nobody to tell means that the run is over.
                let _ = self.reports.send(Report::Census(census));
            }
        }
    }

    /// Looks at the clients one by one.
    fn census(&self) -> Census {
        let targets = vec![0; self.plan.targets.len()];
        let mut census = Census { targets, ..Census::default() };
        for client in self.clients.iter().filter(|client| client.is_open()) {
            if client.talk.is_settled() {
                census.ready[client.talk.kind() as usize] += 1;
                census.targets[usize::from(client.target)] += 1;
                let unused = self.now.saturating_sub(client.used_us);
                census.unused_us_max = census.unused_us_max.max(unused);
            }
        }
        census
    }

    /// Lends sessions among the connections of this thread.
    fn roam(&mut self, place: Place) -> Roamed {
        let own = |client: &Client| home(client.talk.session().filter(|_| client.is_open())?);
        let (mut indices, mut homes) = (Vec::new(), Vec::new());
        let busy = self.clients.iter().filter(|one| one.is_open() && one.talk.is_busy());
        let mut roamed = Roamed { busy: busy.count() as u64, ..Roamed::default() };
        if roamed.busy != 0 {
            return roamed;
        }
        let callers = self.clients.iter().enumerate();
        for (index, client) in callers.filter(|(_, client)| client.talk.is_idle()) {
            match own(client) {
                Some(home) => (indices.push(index), homes.push(home)),
                None => ((), roamed.left += 1),
            };
        }
        for (index, owner) in indices.iter().zip(lend(&homes, place)) {
            let owner = owner.map(|owner| indices[owner]);
            roamed.placed += u64::from(owner.is_some());
            roamed.left += u64::from(owner.is_none());
            let lender = owner.filter(|owner| owner != index);
            let session = lender.and_then(|owner| self.clients[owner].talk.session());
            let session = session.map(Box::from);
            self.clients[*index].talk.borrow(session);
        }
        roamed
    }

    fn deafen(&mut self, count: u32) {
        let Self { clients, rings, .. } = self;
        let listeners = clients.iter_mut().filter(|client| {
            client.is_open() && client.talk.is_settled() && !client.talk.kind().is_caller()
        });
        for client in listeners.take(count as usize) {
            client.stop_reading(&mut rings[usize::from(client.ring)].io);
        }
    }
}
