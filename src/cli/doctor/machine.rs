//! What the system says of itself.

use std::fs::{self, File};
use std::path::Path;

/// Figures of the system; `None` where it does not say.
#[derive(Clone, Debug, Default)]
pub(super) struct Machine {
    /// `net.core.rmem_max`, octets.
    pub(super) receive_buffer: Option<u64>,
    /// `net.ipv4.ip_local_port_range`.
    pub(super) ephemeral: Option<(u16, u16)>,
    /// Files that this user may have open, as a shell started now would get it.
    pub(super) open_files: Option<u64>,
}

impl Machine {
    pub(super) fn read() -> Machine {
        let number = |path| fs::read_to_string(path).ok()?.trim().parse().ok();
        let ports = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok();
        let limits = fs::read_to_string("/proc/self/limits").ok();
        Machine {
            receive_buffer: number("/proc/sys/net/core/rmem_max"),
            ephemeral: ports.as_deref().and_then(range),
            open_files: limits.as_deref().and_then(open_files),
        }
    }
}

fn range(text: &str) -> Option<(u16, u16)> {
    let mut numbers = text.split_ascii_whitespace();
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The soft limit in `/proc/self/limits`; `unlimited` is no limit to speak of.
fn open_files(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Whether another process holds this lock file.
pub(super) fn is_locked(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_figures_are_read() {
        assert_eq!(range("32768\t60999\n"), Some((32_768, 60_999)));
        assert_eq!(
            open_files("Limit  Soft  Hard\nMax open files            1024                 524288       files\n"),
            Some(1_024)
        );
        assert_eq!(open_files("Max open files            unlimited            unlimited            files\n"), None);
    }
}
