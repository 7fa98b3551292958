//! Memory of the host, which a software adapter's is: what the system would end the process for is refused before.

use std::path::Path;

use super::limit::Limit;

/// Allocations below are made without asking how much there is.
const SMALL: u64 = 16 << 20;

/// Refuses an allocation on a software adapter that the host has no memory for.
///
/// # Errors
/// [`Limit::Host`] with both sizes.
pub(super) fn check(label: &str, bytes: u64) -> Result<(), Limit> {
    match bytes >= SMALL {
        true => within(label, bytes, available()),
        false => Ok(()),
    }
}

fn within(label: &str, bytes: u64, available: Option<u64>) -> Result<(), Limit> {
    match available {
        Some(available) if bytes > available => Err(Limit::Host { label: label.into(), bytes, available }),
        _ => Ok(()),
    }
}

/// Bytes that the system can still give this process: free ones, those that it can free, and swap, within what its
/// control group may have. `None` where it does not say; Linux alone is asked.
fn available() -> Option<u64> {
    let host = of_host(&std::fs::read_to_string("/proc/meminfo").ok()?)?;
    let group = std::fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| {
        let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?.to_string();
        let file = |name: &str| std::fs::read_to_string(Path::new("/sys/fs/cgroup").join(&path).join(name)).ok();
        of_group(&file("memory.max")?, &file("memory.current")?, &file("memory.stat")?)
    });
    Some(host.min(group.unwrap_or(u64::MAX)))
}

/// Of `/proc/meminfo`, in KiB there.
fn of_host(meminfo: &str) -> Option<u64> {
    let field = |name: &str| -> Option<u64> {
        let rest = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        rest.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    Some(1024 * (field("MemAvailable")? + field("SwapFree").unwrap_or(0)))
}

/// Of a control group's bound, its use, and the files in it that can be read again; `None` where it has no bound.
fn of_group(max: &str, current: &str, stat: &str) -> Option<u64> {
    let (max, current): (u64, u64) = (max.trim().parse().ok()?, current.trim().parse().ok()?);
    let files = stat.lines().find_map(|line| line.strip_prefix("inactive_file ")?.trim().parse::<u64>().ok());
    Some(max.saturating_sub(current.saturating_sub(files.unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_is_read() {
        let meminfo = "MemTotal:       24624128 kB\nMemAvailable:    1000 kB\nSwapFree:  24 kB\n";
        assert_eq!(of_host(meminfo), Some(1 << 20));
        assert_eq!(of_host("MemAvailable: 2 kB\n"), Some(2048));
        assert_eq!(of_host("MemFree: 2 kB\n"), None);
        assert_eq!(of_group("1000\n", "700\n", "anon 500\ninactive_file 200\n"), Some(500));
        assert_eq!(of_group("1000\n", "1200\n", ""), Some(0));
        assert_eq!(of_group("max\n", "700\n", ""), None);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_sizes() {
        let limit = within("activations", 3 << 20, Some(2 << 20)).unwrap_err().to_string();
        assert!(limit.contains("activations") && limit.contains("3.0 MiB") && limit.contains("2.0 MiB"), "{limit}");
        assert_eq!(within("activations", 2 << 20, Some(2 << 20)), Ok(()));
        assert_eq!(within("activations", u64::MAX, None), Ok(()));
        // No host has that much; some give no word of what they have, as a folder that a process is shut into.
        assert_eq!(check("activations", u64::MAX).is_err(), Path::new("/proc/meminfo").exists());
    }
}
