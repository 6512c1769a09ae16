use std::sync::Arc;
fn main() {
    let cat = match std::env::args().nth(1).as_deref() { Some("everything") => erlmcp_catalog::everything(), _ => erlmcp_catalog::demo() };
    let fleet = erlmcp_shards::fleet::FleetConfig {
        shards: vec![Default::default(); 2],
        http: Some("127.0.0.1:8080".parse().unwrap()), tcp: Some("127.0.0.1:9001".parse().unwrap()),
        limits: Default::default(), listen: Default::default(), ring: Default::default() };
    let engine = erlmcp_shards::engine::EngineConfig { limits: Default::default(), access: Arc::new(erlmcp_protocol::http::Access::new(&[], &[]).unwrap()), keys: Arc::new(erlmcp_protocol::seal::Keyring::new(b"0123456789abcdef0123456789abcdef")), node: 0, epoch: 1 };
    let f = erlmcp_shards::serve::serve(fleet, engine, cat.unwrap().into(), Arc::new(erlmcp_catalog::ThreadRunner::new(8).unwrap())).unwrap();
    println!("{:?}", f.addresses());
    println!("{:?}", f.join());
}
