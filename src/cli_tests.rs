//! What words mean.

use argh::FromArgs;

use super::*;
use crate::config::ClusterConfig;

#[track_caller]
fn parse(words: &[&str]) -> Args {
    Args::from_args(&["erlmcp-shard"], words).unwrap_or_else(|early| panic!("{}", early.output))
}

#[track_caller]
fn check_err(words: &[&str], expect: &str) {
    let output = match Args::from_args(&["erlmcp-shard"], words) {
        Ok(args) => panic!("{words:?} was taken: {args:?}"),
        Err(early) => early.output,
    };
    assert!(output.contains(expect), "{words:?}: {output}");
}

#[track_caller]
fn applied(words: &[&str]) -> Config {
    let mut config = Config::default();
    parse(words).apply(&mut config);
    config
}

fn at(text: &str) -> Bind {
    Bind::At(text.parse().unwrap())
}

#[test]
fn no_words_change_nothing() {
    let config = applied(&[]);
    assert_eq!(config.server.listen, at(crate::config::DEFAULT_LISTEN));
    assert_eq!(config.server.tcp, at(crate::config::DEFAULT_TCP));
    assert_eq!(config.server.admin, at(crate::config::DEFAULT_ADMIN));
    assert_eq!(config.catalog, CatalogSource::Demo);
    assert_eq!(config.server.cores, None);
    assert_eq!(config.server.shards_per_core, 1);
    assert_eq!(config.server.drain_notice_ms, 0);
}

#[test]
fn every_flag_reaches_the_configuration() {
    let config = applied(&[
        "--cores",
        "0-1,3",
        "--shards-per-core",
        "2",
        "--listen",
        "[::1]:80",
        "--tcp",
        "off",
        "--admin",
        "127.0.0.1:0",
        "--catalog",
        "a/b.toml",
        "--allow-origin",
        "https://a.example",
        "--allow-origin",
        "https://b.example",
        "--allow-host",
        "mcp.example",
        "--public",
        "--log",
        "json",
        "--drain-notice-ms",
        "600000",
    ]);
    let server = &config.server;
    assert_eq!(server.cores, Some(vec![0, 1, 3]));
    assert_eq!(server.shards_per_core, 2);
    assert_eq!(server.listen, at("[::1]:80"));
    assert_eq!(server.tcp, Bind::Off);
    assert_eq!(server.admin, at("127.0.0.1:0"));
    assert_eq!(config.catalog, CatalogSource::File("a/b.toml".into()));
    assert_eq!(server.allow_origin, ["https://a.example", "https://b.example"]);
    assert_eq!(server.allow_host, ["mcp.example"]);
    assert!(server.public);
    assert_eq!(server.log, LogFormat::Json);
    assert_eq!(server.drain_notice_ms, 600_000);
}

#[test]
fn a_flag_beats_the_file_and_the_file_beats_the_default() {
    let mut config = Config::default();
    let file = "server.listen = \"127.0.0.1:1\"\nserver.tcp = \"127.0.0.1:2\"\n";
    assert_eq!(crate::config::apply_file(&mut config, "f.toml".as_ref(), file), []);
    parse(&["--tcp", "127.0.0.1:3"]).apply(&mut config);
    assert_eq!(config.server.listen, at("127.0.0.1:1"));
    assert_eq!(config.server.tcp, at("127.0.0.1:3"));
    assert_eq!(config.server.admin, at(crate::config::DEFAULT_ADMIN));
}

#[test]
fn stdio_opens_no_listener_that_was_not_asked_for() {
    let server = applied(&["--stdio"]).server;
    assert_eq!((server.listen, server.tcp, server.admin), (Bind::Off, Bind::Off, Bind::Off));
    let config = applied(&["--stdio", "--admin", "127.0.0.1:0"]);
    assert_eq!(config.server.admin, at("127.0.0.1:0"));
    assert_eq!(config.server.listen, Bind::Off);
    assert_eq!(config.cores(&[4, 5]), [4]);
    assert_eq!(config.problems(&[4, 5]), []);
}

#[test]
fn mistakes_say_what_to_write() {
    check_err(&["--listen", "8080"], "\"8080\" is not IP:PORT or \"off\", like 127.0.0.1:8080");
    check_err(&["--listen", "localhost:80"], "write 127.0.0.1:80");
    check_err(&["--cores", "1-"], "is not a list of cores");
    check_err(&["--shards-per-core", "0"], "is not a number from 1 to 64");
    check_err(&["--shards-per-core", "65"], "is not a number from 1 to 64");
    check_err(&["--log", "xml"], "neither \"text\" nor \"json\"");
    check_err(&["--cluster"], "--cluster");
    check_err(&["--drain-notice-ms", "600001"], "\"600001\" is not a number from 0 to 600000");
    check_err(&["--drain-notice-ms", "-1"], "is not a number from 0 to 600000");
    check_err(&["--drain-notice-ms", "2s"], "is not a number from 0 to 600000");
    check_err(&["--node", "0"], "is not a number from 1 to 65535");
    check_err(&["drain", "--node", "b"], "is not a number from 1 to 65535");
    check_err(&["--peer", "b:1"], "is not IP:PORT, like 10.0.0.1:7946");
    check_err(&["--sync", "often"], "neither \"lazy\" nor \"eager\"");
    check_err(&["tune"], "check");
    check_err(&["tune", "render", "systemctl"], "\"systemctl\" is none of sysctl, systemd, limits");
    check_err(&["tune", "check", "--shards", "0"], "is not a number from 1 to 65535");
}

#[test]
fn commands_have_their_own_flags() {
    assert_eq!(
        parse(&["status", "--json", "--admin", "[::1]:9"]).command,
        Some(Command::Status(StatusArgs {
            json: true,
            watch: false,
            shards: false,
            admin: "[::1]:9".into()
        }))
    );
    assert_eq!(
        parse(&["drain"]).command,
        Some(Command::Drain(DrainArgs { node: None, admin: crate::config::DEFAULT_ADMIN.into() }))
    );
    let tune = |words: &[&str]| match parse(words).command {
        Some(Command::Tune(tune)) => tune.command,
        other => panic!("{other:?}"),
    };
    let check = TuneCheckArgs { connections: 5, shards: None, json: true, root: "/".into() };
    let words = ["tune", "check", "--connections", "5", "--json"];
    assert_eq!(tune(&words), TuneCommand::Check(check));
    let apply = TuneApplyArgs { connections: 100_000, shards: Some(3), root: "/x".into() };
    let words = ["tune", "apply", "--shards", "3", "--root", "/x"];
    assert_eq!(tune(&words), TuneCommand::Apply(apply));
    for (name, kind) in Kind::ALL {
        let render = TuneRenderArgs { kind, output: None, connections: 100_000 };
        assert_eq!(tune(&["tune", "render", name]), TuneCommand::Render(render));
    }
}

#[test]
fn every_help_has_an_example() {
    for words in [
        &[][..],
        &["status"],
        &["drain"],
        &["secret"],
        &["tune"],
        &["tune", "check"],
        &["tune", "apply"],
        &["tune", "render"],
    ] {
        let words: Vec<&str> = words.iter().copied().chain(["--help"]).collect();
        check_err(&words, "Examples:");
    }
}

#[test]
fn any_flag_of_the_cluster_means_that_there_is_one() {
    let cluster = |words: &[&str]| {
        let mut config = Config::default();
        parse(words).apply(&mut config);
        config.cluster
    };
    assert_eq!(cluster(&[]), None);
    let base = ClusterConfig::default();
    let words = ["--node", "3", "--secret-file", "s", "--peer", "[::1]:1", "--peer", "[::1]:2"];
    let expect = ClusterConfig {
        node: Some(3),
        secret_file: Some("s".into()),
        peers: vec!["[::1]:1".parse().unwrap(), "[::1]:2".parse().unwrap()],
        ..base.clone()
    };
    assert_eq!(cluster(&words), Some(expect));
    let listen = "127.0.0.1:9".parse().unwrap();
    let expect = ClusterConfig { listen, sync: SyncMode::Eager, ..base };
    assert_eq!(cluster(&["--mesh-listen", "127.0.0.1:9", "--sync", "eager"]), Some(expect));
}

#[test]
fn flags_of_the_cluster_beat_the_file_and_its_peers_add_up() {
    let mut config = Config::default();
    let file = "[cluster]\nnode = 1\nsync = 'eager'\npeers = ['127.0.0.1:1']\nsecret_file = '/s'\n";
    assert_eq!(crate::config::apply_file(&mut config, "c.toml".as_ref(), file), []);
    parse(&["--node", "2", "--peer", "127.0.0.1:2"]).apply(&mut config);
    let cluster = config.cluster.unwrap();
    assert_eq!((cluster.node, cluster.sync), (Some(2), SyncMode::Eager));
    assert_eq!(cluster.peers.len(), 2);
    assert_eq!(cluster.secret_file, Some("/s".into()));
}
