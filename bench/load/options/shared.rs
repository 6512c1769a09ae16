//! The options that every scenario takes, written down once: `scenarios!` adds them to those of each.

macro_rules! scenarios {
    ($(
        $(#[$meta:meta])*
        $name:ident { $($(#[$field_meta:meta])* $field:ident: [$($type:tt)*],)* }
    )*) => {$(
        $(#[$meta])*
        pub struct $name {
            $($(#[$field_meta])* pub $field: $($type)*,)*

            /// MCP endpoint of any server, or of several between commas: connections are dealt out evenly;
            /// default http://127.0.0.1:8080/mcp
            #[argh(option, arg_name = "URL,URL")]
            pub target: Option<String>,

            /// where each takes lines of JSON; default 127.0.0.1:9001 if the target is the default
            #[argh(option, arg_name = "IP:PORT,IP:PORT")]
            pub tcp: Option<String>,

            /// process of each server, to measure its CPU and memory; a file that holds the number will do
            #[argh(option, arg_name = "PID,PID")]
            pub pid: Option<String>,

            /// start the server with this command, measure it, end it; again for each further server. A command
            /// that starts several and returns needs --target, and --pid to measure them
            #[argh(option, arg_name = "COMMAND")]
            pub start: Vec<String>,

            /// connections, e.g. 100K
            #[argh(option, arg_name = "N")]
            pub connections: Option<Count>,

            /// how long to measure, e.g. 30s or 5m
            #[argh(option, arg_name = "TIME")]
            pub duration: Option<Span>,

            /// calls per second, e.g. 50K; where a scenario has none of its own,
            /// 1,000 or as many as use each connection every 50 s
            #[argh(option, arg_name = "N")]
            pub rate: Option<Count>,

            /// new connections per second at most; default: as fast as it goes
            #[argh(option, arg_name = "N")]
            pub connect_rate: Option<Count>,

            /// kinds of clients with weights: http, session, stream, listen, ws, tcp
            #[argh(option, arg_name = "MIX")]
            pub mix: Option<Mix>,

            /// use sessions over connections to another shard of their node, or to another node: shard, node, far (a
            /// shard of another node that has no link of its own to there)
            #[argh(option, arg_name = "PLACE")]
            pub roam: Option<Place>,

            /// bytes of text in each call, e.g. 1KiB; default a sentence
            #[argh(option, arg_name = "BYTES")]
            pub payload: Option<Bytes>,

            /// tool to call; default echo, whose text is checked
            #[argh(option, arg_name = "NAME")]
            pub tool: Option<String>,

            /// its arguments, as JSON
            #[argh(option, arg_name = "JSON")]
            pub arguments: Option<String>,

            /// resource that listeners subscribe to and that is published; default demo://echo/update
            #[argh(option, arg_name = "URI")]
            pub uri: Option<String>,

            /// do not call once on arrival: a connection counts before the server has answered on it
            #[argh(switch)]
            pub bare: bool,

            /// threads of the load; default half of the cores
            #[argh(option, arg_name = "N")]
            pub threads: Option<usize>,

            /// cores to pin them to, e.g. 1 or 4-7
            #[argh(option, arg_name = "LIST", from_str_fn(parse_cores), default = "List(vec![])")]
            pub cores: List<usize>,

            /// rings of all threads together; default as many as descriptors ask for
            #[argh(option, arg_name = "N")]
            pub rings: Option<u16>,

            /// source addresses in turns; default loopback ones towards loopback
            #[argh(option, arg_name = "IP,IP", from_str_fn(parse_sources), default = "List(vec![])")]
            pub source: List<IpAddr>,

            /// exit code 1 if less of what was tried went well, e.g. 99.9
            #[argh(option, arg_name = "PERCENT")]
            pub min_success: Option<Percent>,

            /// exit code 1 if the 99th percentile is longer, e.g. 50ms
            #[argh(option, arg_name = "TIME")]
            pub max_p99: Option<Span>,

            /// folder of this run; default results/SCENARIO-TIME
            #[argh(option, arg_name = "DIR")]
            pub output: Option<PathBuf>,
        }

        impl $name {
            /// What it shares with the others.
            pub fn options(&self) -> Options {
                Options {
                    target: self.target.clone(),
                    tcp: self.tcp.clone(),
                    pid: self.pid.clone(),
                    start: self.start.clone(),
                    connections: self.connections,
                    duration: self.duration,
                    rate: self.rate,
                    connect_rate: self.connect_rate,
                    mix: self.mix,
                    roam: self.roam,
                    payload: self.payload,
                    tool: self.tool.clone(),
                    arguments: self.arguments.clone(),
                    uri: self.uri.clone(),
                    bare: self.bare,
                    threads: self.threads,
                    cores: self.cores.0.clone(),
                    rings: self.rings,
                    sources: self.source.0.clone(),
                    min_success: self.min_success,
                    max_p99: self.max_p99,
                    output: self.output.clone(),
                }
            }
        }
    )*};
}
