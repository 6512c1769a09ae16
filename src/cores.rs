//! Which cores carry shards: `0-7,9` as people write it, checked against what is online.

/// Parses `0-7,9`. Order is kept, duplicates are refused: two shards of one core is `--shards-per-core 2`.
pub fn parse_cores(text: &str) -> Result<Vec<usize>, String> {
    let mut cores = Vec::new();
    for piece in text.split(',') {
        let piece = piece.trim();
        let (first, last) = match piece.split_once('-') {
            Some((first, last)) => (number(first, text)?, number(last, text)?),
            None => {
                let core = number(piece, text)?;
                (core, core)
            }
        };
        if last < first {
            return Err(format!("{piece:?} runs backwards; write {last}-{first}"));
        }
        for core in first..=last {
            if cores.contains(&core) {
                return Err(format!(
                    "core {core} is named twice in {text:?}; for several shards on each core use \
                     --shards-per-core"
                ));
            }
            cores.push(core);
        }
    }
    Ok(cores)
}

/// The cores this process may run on, lowest first.
pub fn online_cores() -> Vec<usize> {
    let mut cores: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    cores.sort_unstable();
    cores
}

/// Refuses cores that are not among `online`.
pub fn check_online(cores: &[usize], online: &[usize]) -> Result<(), String> {
    let missing: Vec<usize> = cores.iter().copied().filter(|core| !online.contains(core)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let (noun, verb) = if missing.len() == 1 { ("core", "is") } else { ("cores", "are") };
    Err(format!(
        "{noun} {} {verb} not online or not allowed for this process; there are {}",
        render_cores(&missing),
        render_cores(online)
    ))
}

/// The inverse of [`parse_cores`]: `[0, 1, 2, 5]` is `0-2,5`.
pub fn render_cores(cores: &[usize]) -> String {
    let mut pieces: Vec<(usize, usize)> = Vec::new();
    for &core in cores {
        match pieces.last_mut() {
            Some((_, last)) if *last + 1 == core => *last = core,
            _ => pieces.push((core, core)),
        }
    }
    let texts: Vec<String> = pieces
        .iter()
        .map(
            |&(first, last)| {
                if first == last { first.to_string() } else { format!("{first}-{last}") }
            },
        )
        .collect();
    texts.join(",")
}

fn number(text: &str, whole: &str) -> Result<usize, String> {
    match text.trim().parse::<usize>() {
        Ok(core) if core <= CORE_MAX => Ok(core),
        Ok(core) => Err(format!("core {core} is beyond the highest possible, {CORE_MAX}")),
        Err(_) => {
            Err(format!("{whole:?} is not a list of cores; write numbers and ranges, like 0-7,9"))
        }
    }
}

/// Highest core number accepted: a typing error must not cost memory.
const CORE_MAX: usize = 8191;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: &[usize]) {
        let cores = parse_cores(text);
        assert_eq!(cores.as_deref(), Ok(expect), "{text:?}");
    }

    #[track_caller]
    fn check_err(text: &str, expect: &str) {
        assert_eq!(parse_cores(text), Err(expect.to_owned()), "{text:?}");
    }

    #[test]
    fn numbers_and_ranges_in_the_order_given() {
        check("0", &[0]);
        check("0-3", &[0, 1, 2, 3]);
        check("3-3", &[3]);
        check("0-1,9", &[0, 1, 9]);
        check(" 4 , 0 - 1 ", &[4, 0, 1]);
        check("8191", &[8191]);
    }

    #[test]
    fn mistakes_say_what_to_write() {
        let hint = "is not a list of cores; write numbers and ranges, like 0-7,9";
        for text in ["", "a", "0,", "0--1", "-1", "0-", "0..3", "99999999999999999999"] {
            check_err(text, &format!("{text:?} {hint}"));
        }
        check_err("3-0", "\"3-0\" runs backwards; write 0-3");
        check_err("8192", "core 8192 is beyond the highest possible, 8191");
        check_err(
            "0-2,1",
            "core 1 is named twice in \"0-2,1\"; for several shards on each core use --shards-per-core",
        );
    }

    #[test]
    fn cores_that_are_not_there_are_named() {
        assert_eq!(check_online(&[0, 1], &[0, 1]), Ok(()));
        assert_eq!(
            check_online(&[0, 2], &[0, 1]),
            Err("core 2 is not online or not allowed for this process; there are 0-1".into())
        );
        assert_eq!(
            check_online(&[4, 5, 7], &[0]),
            Err("cores 4-5,7 are not online or not allowed for this process; there are 0".into())
        );
    }

    #[test]
    fn at_least_one_core_is_online() {
        assert!(!online_cores().is_empty());
    }
}
