//! Amounts of memory: as people write them, and what this machine has.

use std::path::Path;
use std::str::FromStr;

use crate::{Error, Result};

/// An amount of memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    /// Bytes.
    Bytes(u64),
    /// Percent of what is free now.
    Percent(f64),
}

impl Amount {
    /// How many bytes that is on this machine.
    ///
    /// # Errors
    /// For a percentage, if the system does not say how much there is.
    pub fn bytes(self) -> Result<u64> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Percent(percent) => {
                free().map(|free| (free as f64 * percent / 100.0) as u64).ok_or_else(|| {
                    Error::config(
                        "this system does not say how much memory is free; give an amount, like --memory 4G",
                    )
                })
            }
        }
    }
}

impl FromStr for Amount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let advice = || format!("`{text}` is no amount; write bytes, 500M, 2G or 80%");
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let number: f64 = number.parse().map_err(|_| advice())?;
        let unit = unit.trim_start().to_ascii_uppercase();
        let shift = match unit.strip_suffix("IB").or(unit.strip_suffix('B')).unwrap_or(&unit) {
            "" => 0,
            "K" => 10,
            "M" => 20,
            "G" => 30,
            "T" => 40,
            "%" if unit == "%" && number > 0.0 && number <= 100.0 => return Ok(Self::Percent(number)),
            _ => return Err(advice()),
        };
        Ok(Self::Bytes((number * (1u64 << shift) as f64) as u64))
    }
}

/// A number of bytes for people.
pub fn shown(bytes: u64) -> String {
    let units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && value < 99.95);
    format!("{value:.digits$} {}", units[unit])
}

/// The most that a run may hold at once, in bytes: of each model, which `models` gives as the bytes of its
/// files and the sessions on it, a fifth and one and a half times as much for each session; 64 MiB of
/// program; and `window`, the lists between reading and writing.
pub fn bound(models: impl IntoIterator<Item = (u64, u64)>, window: u64) -> u64 {
    let model = |(bytes, sessions): (u64, u64)| bytes / 5 + bytes * 3 / 2 * sessions;
    models.into_iter().map(model).sum::<u64>() + (64 << 20) + window
}

/// The largest resident size so far, where the system tells.
pub fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

/// Bytes that are free, by the system and by the limits of this process's control group.
fn free() -> Option<u64> {
    let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let meminfo = std::fs::read_to_string(Path::new("/proc/meminfo")).ok()?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let machine = 1024 * line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()?;
    let groups = [
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ];
    let group = groups.iter().find_map(|(limit, used)| Some(number(limit)?.saturating_sub(number(used)?)));
    Some(group.map_or(machine, |group| group.min(machine)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("1000", 1000),
            ("500M", 500 << 20),
            ("2G", 2 << 30),
            ("2g", 2 << 30),
            ("1.5 GiB", 3 << 29),
            ("64KB", 64 << 10),
            ("1T", 1 << 40),
            ("12b", 12),
        ] {
            assert_eq!(text.parse(), Ok(Amount::Bytes(bytes)), "{text}");
        }
        assert_eq!("80%".parse(), Ok(Amount::Percent(80.0)));
        for wrong in ["", "G", "80%%", "0%", "101%", "-1", "2X", "1..2", "2 giga"] {
            assert!(wrong.parse::<Amount>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn amounts_are_shown_for_people() {
        let shown = [0, 999, 1000, 1 << 20, 150 << 20, 5 << 29].map(super::shown);
        assert_eq!(shown, ["0 bytes", "999 bytes", "1.0 KiB", "1.0 MiB", "150 MiB", "2.5 GiB"]);
    }

    #[test]
    fn the_bound_counts_sessions_and_the_window() {
        assert_eq!(super::bound([], 5), (64 << 20) + 5);
        assert_eq!(super::bound([(100, 2), (10, 1)], 0), (64 << 20) + 320 + 17);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_percentage_is_a_part_of_what_is_free() {
        let whole = Amount::Percent(100.0).bytes().unwrap();
        let half = Amount::Percent(50.0).bytes().unwrap();
        // Others use the machine between the two questions.
        assert!(whole > 16 << 20 && half < whole * 3 / 4 && half > whole / 4, "{half} of {whole}");
    }
}
