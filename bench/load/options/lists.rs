//! Options that are lists.

use std::net::IpAddr;

use super::super::units::Count;
use crate::cli::List;

pub fn parse_counts(text: &str) -> Result<List<Count>, String> {
    let counts = text.split(',').map(|word| word.trim().parse::<Count>());
    match counts.collect::<Result<Vec<_>, _>>()? {
        counts if counts.iter().any(|count| count.0 == 0) => Err("0 connections are none".into()),
        counts => Ok(List(counts)),
    }
}

pub fn parse_sources(text: &str) -> Result<List<IpAddr>, String> {
    let parse = |word: &str| word.trim().parse().map_err(|_| format!("{word:?} is no IP address"));
    text.split(',').map(parse).collect::<Result<_, _>>().map(List)
}

/// `1`, `0,2`, `4-7`.
pub fn parse_cores(text: &str) -> Result<List<usize>, String> {
    let mut cores = Vec::new();
    for word in text.split(',').map(str::trim) {
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        let parse = |text: &str| text.parse::<usize>().map_err(|_| format!("{word:?} is no core"));
        let (first, last) = (parse(first)?, parse(last)?);
        if last < first || CORES_MAX <= last {
            return Err(format!("{word:?} is no range of cores"));
        }
        cores.extend(first..=last);
    }
    Ok(List(cores))
}

/// No host has more.
const CORES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_word_by_word() {
        assert_eq!(parse_cores("1,4-6"), Ok(List(vec![1, 4, 5, 6])));
        assert_eq!(parse_counts("64,1K"), Ok(List(vec![Count(64), Count(1000)])));
        for text in ["", "3-1", "x", "0-99999"] {
            assert!(parse_cores(text).is_err(), "{text:?}");
        }
        assert!(parse_counts("64,0").is_err() && parse_sources("localhost").is_err());
    }
}
