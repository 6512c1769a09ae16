//! What the README shows is what works.

use crate::child::{META, Scratch, Server, run};

const README: &str = include_str!("../../README.md");

/// The examples in this language, in order.
fn examples(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    README.split(fence.as_str()).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

#[test]
fn the_catalog_of_the_readme_is_served() {
    let catalog = Scratch::new(examples("toml")[0]);
    let server = Server::start(&["--catalog", catalog.path()]);
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{{"uri":"notes://motto",{META}}}}}"#
    );
    let answer = server.call("resources/read", Some("notes://motto"), &body);
    assert!(answer.contains("Write it down."), "{answer}");
}

#[test]
fn the_configuration_of_the_readme_is_right() {
    let config = Scratch::new(examples("toml")[1]);
    let checked = run(&["--check-config", "--config", config.path()]);
    assert_eq!(checked, (0, "config ok\n".to_owned(), String::new()));
}

#[test]
fn the_configuration_of_the_readme_says_the_defaults() {
    use erlmcp_shard::config::{Config, apply_file};
    let mut config = Config::default();
    assert_eq!(apply_file(&mut config, "README.md".as_ref(), examples("toml")[1]), []);
    assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
}

#[test]
fn the_cluster_of_the_readme_says_the_defaults_but_for_what_each_node_must_say() {
    use erlmcp_shard::config::{ClusterConfig, Config, apply_file};
    let mut config = Config::default();
    assert_eq!(apply_file(&mut config, "README.md".as_ref(), examples("toml")[2]), []);
    let said = config.cluster.expect("there is a section");
    let expect = ClusterConfig {
        node: Some(1),
        peers: said.peers.clone(),
        secret_file: Some("cluster.secret".into()),
        ..ClusterConfig::default()
    };
    assert_eq!(said, expect);
}

#[test]
fn every_socket_option_of_the_readme_exists_and_is_named() {
    let defaults = format!("{:?}", erlmcp_shard::config::SocketConfig::default());
    let fields = defaults.split([' ', '{']).filter_map(|word| word.strip_suffix(':'));
    for field in fields {
        assert!(README.contains(&format!("`{field}`")), "{field} is not in the README");
    }
}

#[test]
fn every_limit_of_the_readme_exists_and_is_named() {
    let defaults = format!("{:?}", erlmcp_shard::Limits::default());
    let fields = defaults.split([' ', '{']).filter_map(|word| word.strip_suffix(':'));
    for field in fields {
        assert!(README.contains(&format!("`{field}`")), "{field} is not in the README");
    }
}
