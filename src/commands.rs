//! From arguments to an exit code.

use std::process::ExitCode;

use argh::FromArgs;

use crate::cli::{Args, Command};
use crate::config::{Config, Problem};
use crate::cores::online_cores;
use crate::server::{BootError, Server};
use crate::{client, log as stderr_log, secret, tune};

/// Something failed.
const FAILED: u8 = 1;
/// Flags, file or catalog are wrong.
const MISCONFIGURED: u8 = 2;

/// The whole program.
pub fn main() -> ExitCode {
    let words: Vec<String> =
        std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let name = words.first().and_then(|path| path.rsplit('/').next()).unwrap_or("erlmcp-shard");
    match Args::from_args(&[name], words.get(1..).unwrap_or_default()) {
        Ok(args) => ExitCode::from(run(args)),
        Err(early) if early.status.is_ok() => {
            println!("{}", early.output);
            ExitCode::SUCCESS
        }
        Err(early) => {
            eprintln!("{}\nSee --help.", early.output.trim_end());
            ExitCode::from(MISCONFIGURED)
        }
    }
}

fn run(args: Args) -> u8 {
    if args.version {
        println!("erlmcp-shard {}", env!("CARGO_PKG_VERSION"));
        return 0;
    }
    match &args.command {
        None => serve(&args),
        Some(Command::Status(status)) => report(client::status(status)),
        Some(Command::Drain(drain)) => report(client::drain(drain)),
        Some(Command::Secret(args)) => report(secret::make(args.file.as_deref())),
        Some(Command::Tune(command)) => match tune::run(command) {
            Ok(true) => 0,
            Ok(false) => FAILED,
            Err(why) => report(Err(why)),
        },
    }
}

fn report(outcome: Result<(), String>) -> u8 {
    match outcome {
        Ok(()) => 0,
        Err(why) => {
            eprintln!("{why}");
            FAILED
        }
    }
}

fn serve(args: &Args) -> u8 {
    let (config, mut problems) = configure(args);
    if args.check_config {
        // The catalog and the secret too, so that one look tells everything.
        let secret = config.cluster.as_ref().and_then(|cluster| cluster.secret_file.as_deref());
        let secret = secret.and_then(|file| secret::read(file).err());
        let catalog = Server::from_config(config).err();
        problems.extend(catalog.map(|err| Problem::general(err.to_string())));
        problems.extend(secret.map(|err| Problem::general(err.to_string())));
        return tell(&problems).unwrap_or_else(|| {
            println!("config ok");
            0
        });
    }
    if let Some(code) = tell(&problems) {
        return code;
    }
    stderr_log::install(config.server.log);
    let outcome = Server::from_config(config).and_then(Server::run);
    match outcome {
        Ok(exit) => exit.code(),
        Err(err) => {
            log::error!("{err}");
            match err {
                BootError::Config(_) | BootError::Catalog(_) | BootError::Secret(_) => {
                    MISCONFIGURED
                }
                _ => FAILED,
            }
        }
    }
}

/// Defaults, then the file, then the flags.
fn configure(args: &Args) -> (Config, Vec<Problem>) {
    let mut config = Config::default();
    let mut problems = args.config.as_ref().map_or_else(Vec::new, |path| config.load_file(path));
    args.apply(&mut config);
    problems.extend(config.problems(&online_cores()));
    (config, problems)
}

fn tell(problems: &[Problem]) -> Option<u8> {
    for problem in problems {
        eprintln!("{problem}");
    }
    (!problems.is_empty()).then_some(MISCONFIGURED)
}
