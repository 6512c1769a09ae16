//! `erlmcp-shard`: see `--help`, and the library for what it does.

fn main() -> std::process::ExitCode {
    erlmcp_shard::main()
}
