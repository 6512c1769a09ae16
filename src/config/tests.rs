//! Configuration files: what they set, and what is said about the wrong ones, word for word.

use super::*;

#[track_caller]
fn read(text: &str) -> Config {
    let mut config = Config::default();
    assert_eq!(apply_file(&mut config, Path::new("/etc/erlmcp/c.toml"), text), []);
    config
}

/// Expects exactly these complaints, in this order.
#[track_caller]
fn check(text: &str, expect: &[&str]) {
    let problems = apply_file(&mut Config::default(), Path::new("c.toml"), text);
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    assert_eq!(lines, expect);
}

/// Expects exactly these complaints about the whole.
#[track_caller]
fn check_whole(text: &str, expect: &[&str]) {
    let lines: Vec<String> = read(text).problems(&[0, 1]).iter().map(Problem::to_string).collect();
    assert_eq!(lines, expect);
}

#[test]
fn an_empty_file_is_the_default() {
    let config = read("# nothing\n");
    assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
}

#[test]
fn every_section_is_read() {
    let config = read(
        r#"
        [server]
        cores = "0-1"
        shards_per_core = 3
        listen = "127.0.0.1:0"
        tcp = "off"
        admin = "[::1]:9"
        public = true
        allow_origin = ["https://a.example"]
        allow_host = ["mcp.example"]
        drain_ms = 5_000
        drain_notice_ms = 2_000
        log = "json"

        [limits]
        message_bytes_max = 0x10_0000
        sessions_max = 7

        [socket]
        backlog = 128
        recv_buffer_bytes = 0
        send_buffer_bytes = 65_536
        nodelay = false
        keepalive_idle_s = 60
        keepalive_interval_s = 10
        keepalive_count = 3
        user_timeout_ms = 20_000

        [catalog]
        source = "tools.toml"
        "#,
    );
    let server = &config.server;
    assert_eq!(server.cores, Some(vec![0, 1]));
    assert_eq!(server.shards_per_core, 3);
    assert_eq!(server.listen, Bind::parse("127.0.0.1:0").unwrap());
    assert_eq!(server.tcp, Bind::Off);
    assert_eq!(server.admin, Bind::parse("[::1]:9").unwrap());
    assert!(server.public);
    assert_eq!(server.allow_origin, ["https://a.example"]);
    assert_eq!(server.allow_host, ["mcp.example"]);
    assert_eq!((server.drain_ms, server.drain_notice_ms), (5000, 2000));
    assert_eq!(server.log, LogFormat::Json);
    assert_eq!(config.limits.message_bytes_max, 1 << 20);
    assert_eq!(config.limits.sessions_max, 7);
    let options = ListenOptions {
        backlog: 128,
        recv_buffer_bytes: None,
        send_buffer_bytes: Some(65_536),
        nodelay: false,
        keepalive: Some(Keepalive { idle_s: 60, interval_s: 10, count: 3 }),
        user_timeout_ms: Some(20_000),
    };
    assert_eq!(config.socket.options(), options);
    // Beside the file that names it.
    assert_eq!(config.catalog, CatalogSource::File("/etc/erlmcp/tools.toml".into()));
}

#[test]
fn built_in_catalogs_are_not_paths() {
    assert_eq!(read("catalog.source = 'everything'").catalog, CatalogSource::Everything);
    assert_eq!(read("catalog.source = 'demo'").catalog, CatalogSource::Demo);
    let absolute = CatalogSource::File("/x.toml".into());
    assert_eq!(read("catalog.source = '/x.toml'").catalog, absolute);
}

#[test]
fn all_mistakes_are_told_at_once_with_their_lines() {
    check(
        "[server]\nlisten = 8080\nallow-host = [\"a\"]\ntcp = \"9001\"\n\n[limits]\nsesions_max = 1\n\
         head_bytes_max = 1023\npage_size = 1.5\n\n[sockets]\nbacklog = 1\n",
        &[
            "c.toml:2: server.listen: must be a string, found integer",
            "c.toml:3: server.allow-host: unknown key; did you mean \"allow_host\"?",
            "c.toml:4: server.tcp: \"9001\" is not IP:PORT or \"off\", like 127.0.0.1:8080 or [::1]:8080",
            "c.toml:7: limits.sesions_max: unknown key; did you mean \"sessions_max\"?",
            "c.toml:8: limits.head_bytes_max: 1023 is not from 1024 to 1048576",
            "c.toml:9: limits.page_size: must be a whole number, found float",
            "c.toml:11: sockets: unknown section; did you mean \"socket\"?",
        ],
    );
}

#[test]
fn a_name_that_is_near_to_none_gets_the_list() {
    check("[catalog]\nturbo = true\n", &["c.toml:2: catalog.turbo: unknown key; there are source"]);
}

#[test]
fn types_are_named_as_they_are_written() {
    check(
        "[server]\npublic = 1\nallow_host = \"a\"\nallow_origin = [1]\ncores = [0]\n",
        &[
            "c.toml:2: server.public: must be true or false, found integer",
            "c.toml:3: server.allow_host: must be a list of strings, found string",
            "c.toml:4: server.allow_origin: must be a string, found integer",
            "c.toml:5: server.cores: must be a string, found array",
        ],
    );
    check("server = 1\n", &["c.toml:1: server: must be a table, found integer"]);
}

#[test]
fn numbers_are_pinned_from_both_sides() {
    for good in ["0", "3600000", "0xff", "1_000"] {
        read(&format!("server.drain_ms = {good}"));
    }
    for bad in ["-1", "3600001", "99999999999999999999"] {
        check(
            &format!("server.drain_ms = {bad}"),
            &[&format!("c.toml:1: server.drain_ms: {bad} is not from 0 to 3600000")],
        );
    }
    for good in ["0", "600000"] {
        read(&format!("server.drain_notice_ms = {good}"));
    }
    for bad in ["-1", "600001"] {
        check(
            &format!("server.drain_notice_ms = {bad}"),
            &[&format!("c.toml:1: server.drain_notice_ms: {bad} is not from 0 to 600000")],
        );
    }
}

#[test]
fn sockets_are_as_the_shards_have_them_unless_told() {
    assert_eq!(Config::default().socket.options(), ListenOptions::default());
}

#[test]
fn zero_leaves_a_number_to_the_kernel_and_little_is_a_mistake() {
    let off = read("socket.keepalive_idle_s = 0\nsocket.user_timeout_ms = 0").socket.options();
    assert_eq!((off.keepalive, off.user_timeout_ms), (None, None));
    for key in ["recv_buffer_bytes", "send_buffer_bytes"] {
        for good in [0, 4096, 67_108_864] {
            read(&format!("socket.{key} = {good}"));
        }
        for bad in [1, 4095, 67_108_865] {
            check(
                &format!("socket.{key} = {bad}"),
                &[&format!("c.toml:1: socket.{key}: {bad} is not from 4096 to 67108864, or 0")],
            );
        }
    }
    check(
        "[socket]\nkeepalive_idle_s = 32768\nkeepalive_interval_s = 0\nkeepalive_count = 128\n\
         user_timeout_ms = 999\n",
        &[
            "c.toml:2: socket.keepalive_idle_s: 32768 is not from 1 to 32767, or 0",
            "c.toml:3: socket.keepalive_interval_s: 0 is not from 1 to 32767",
            "c.toml:4: socket.keepalive_count: 128 is not from 1 to 127",
            "c.toml:5: socket.user_timeout_ms: 999 is not from 1000 to 3600000, or 0",
        ],
    );
}

#[test]
fn a_file_that_is_not_toml_tells_where_and_nothing_else() {
    let problems =
        apply_file(&mut Config::default(), Path::new("c.toml"), "[server]\nlisten = \nfoo = 1\n");
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].line, Some(2));
}

#[test]
fn a_missing_file_is_named() {
    let problems = Config::default().load_file(Path::new("/nonexistent/c.toml"));
    assert_eq!(problems.len(), 1);
    let text = problems[0].to_string();
    assert!(text.starts_with("/nonexistent/c.toml: cannot read it: "), "{text}");
}

#[test]
fn parts_must_fit_each_other() {
    check_whole("", &[]);
    check_whole(
        "server.listen = 'off'\nserver.tcp = 'off'\n",
        &[
            "listen: listen and tcp are both off: nothing would be served. Turn one on, or use --stdio",
        ],
    );
    check_whole(
        "[limits]\noutbox_pause_bytes = 2048\noutbox_bytes_max = 1024\n",
        &[
            "limits.outbox_bytes_max: 1024 is less than outbox_pause_bytes 2048: a client would be closed \
           before it is paused",
        ],
    );
    check_whole(
        "[limits]\nhead_bytes_max = 2048\nmessage_bytes_max = 2047\n",
        &["limits.message_bytes_max: 2047 is less than head_bytes_max 2048"],
    );
    check_whole(
        "server.cores = '0,7'",
        &["cores: core 7 is not online or not allowed for this process; there are 0-1"],
    );
}

#[test]
fn addresses_beyond_loopback_must_be_meant() {
    for quiet in ["127.0.0.1:1", "127.8.8.8:1", "[::1]:1"] {
        check_whole(&format!("server.listen = '{quiet}'"), &[]);
    }
    for loud in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1"] {
        for key in ["listen", "tcp"] {
            let problems = read(&format!("server.{key} = '{loud}'")).problems(&[0]);
            assert_eq!(problems.len(), 1, "{loud}");
            assert_eq!(problems[0].key, key);
            assert!(problems[0].message.contains("--public"), "{}", problems[0]);
            check_whole(&format!("server.public = true\nserver.{key} = '{loud}'"), &[]);
        }
    }
}

#[test]
fn a_public_server_without_host_names_is_warned_about() {
    let warnings = |text: &str| read(text).warnings().len();
    assert_eq!(warnings(""), 0);
    assert_eq!(warnings("server.public = true\nserver.listen = '0.0.0.0:1'"), 2);
    let named =
        "server.public = true\nserver.listen = '0.0.0.0:1'\nserver.allow_host = ['a.example']";
    assert_eq!(warnings(named), 1);
}
