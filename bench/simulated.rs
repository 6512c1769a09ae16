//! A shard with the demo catalog over the simulated ring: the whole path of a call but for the kernel, on one
//! thread, the same in every run. For a profiler that counts instructions:
//! `valgrind --tool=callgrind erlmcp-bench simulated`.

use std::sync::Arc;

use erlmcp_catalog::ThreadRunner;
use erlmcp_protocol::Parsed;
use erlmcp_protocol::http::Access;
use erlmcp_protocol::seal::Keyring;
use erlmcp_shards::config::Limits;
use erlmcp_shards::engine::{Engine, EngineConfig, Seat};
use erlmcp_shards::io::sim::{Faults, SimClient, SimIo, SimNet};
use erlmcp_shards::mail::Mailroom;
use erlmcp_shards::shard::{ListenerKind, Shard, ShardConfig};

use crate::answer::read_answer;
use crate::cli::SimulatedArgs;
use crate::request::{self, ID_FIRST, Request, call_post};

/// Slots of the simulated ring.
const CAPACITY: u32 = 16_384;
/// Turns after which a call must have been answered.
const TURNS_MAX: u32 = 16;

/// `erlmcp-bench simulated`.
pub fn run(args: &SimulatedArgs) -> Result<(), String> {
    let call = request::call(&args.tool)?;
    let request = call_post(([127, 0, 0, 1], 8080).into(), &call);
    let mut world = World::new()?;
    let clients: Vec<SimClient> = (0..args.connections).map(|_| world.net.connect(0, 0)).collect();
    let mut id = ID_FIRST;
    let mut calls = 0;
    while calls < args.calls {
        let first = id;
        for client in &clients {
            let mut bytes = Vec::new();
            request.write(id, &mut bytes);
            client.send(&bytes);
            id += 1;
        }
        world.answer(&clients, first, &request)?;
        calls += clients.len() as u64;
    }
    println!("{calls} calls of {}, {} at a time", call.tool, clients.len());
    Ok(())
}

struct World {
    net: SimNet,
    shard: Shard<SimIo, Engine>,
}

impl World {
    fn new() -> Result<Self, String> {
        let net = SimNet::new(1, Faults::none());
        let mut room = Mailroom::new(1, net.foreign_bell());
        let mail = room.take(0).ok_or("a mailroom without a shard")?;
        let config = ShardConfig {
            index: 0,
            core: None,
            limits: Limits::default(),
            listeners: vec![ListenerKind::Http],
            mesh: None,
        };
        let catalog = erlmcp_catalog::demo().map_err(|err| err.to_string())?.into_handle();
        let runner = ThreadRunner::new(1).map_err(|err| err.to_string())?;
        let engine = EngineConfig {
            limits: Limits::default(),
            access: Arc::new(Access::new(&[], &[])?),
            keys: Arc::new(Keyring::new(&[7; 32])),
            epoch: 1,
            lookout: None,
            cluster: None,
        };
        let engine = Engine::new(
            Seat { at: erlmcp_cluster::Spot { node: 0, shard: 0 }, shards: 1 },
            Arc::new(engine),
            catalog,
            Arc::new(runner),
            Arc::new(|| {}),
        );
        let shard = Shard::new(config, net.shard(1, CAPACITY), engine, mail);
        Ok(Self { net, shard })
    }

    /// Turns until every client has its answer.
    fn answer(
        &mut self,
        clients: &[SimClient],
        first: u64,
        request: &Request,
    ) -> Result<(), String> {
        let mut inputs = vec![Vec::new(); clients.len()];
        for _ in 0..TURNS_MAX {
            self.net.advance(1);
            self.shard.turn();
            let mut waiting = 0;
            for (index, (client, input)) in clients.iter().zip(&mut inputs).enumerate() {
                input.extend(client.received());
                waiting += usize::from(!is_answer(input, first + index as u64)?);
            }
            if waiting == 0 {
                return Ok(());
            }
        }
        Err(format!("no answer to {}", String::from_utf8_lossy(&request.bytes)))
    }
}

fn is_answer(input: &[u8], id: u64) -> Result<bool, String> {
    let Parsed::Complete(answer, used) = read_answer(input)? else { return Ok(false) };
    let expect = format!("\"id\":{id},\"result\"");
    let is_right = answer.status == 200
        && used == input.len()
        && memchr::memmem::find(answer.body, expect.as_bytes()).is_some();
    if is_right { Ok(true) } else { Err(String::from_utf8_lossy(input).into_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_is_called_without_a_kernel() {
        for call in &request::CALLS {
            let args = SimulatedArgs { tool: call.tool.to_owned(), calls: 100, connections: 8 };
            run(&args).unwrap();
        }
    }
}
