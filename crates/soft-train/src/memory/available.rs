//! Memory that this machine, and the group that the process lives in, have left.

use std::fs;
use std::path::{Path, PathBuf};

/// What is known of the memory of this machine; each is none where the system does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Available {
    /// Bytes of the machine.
    pub total: Option<u64>,
    /// Bytes of it that can be had without swapping.
    pub free: Option<u64>,
    /// The smallest limit of the control groups of this process, in bytes; none where none is set.
    pub group_limit: Option<u64>,
    /// Bytes that are left under the tightest of those limits.
    pub group_free: Option<u64>,
}

impl Available {
    /// Looks at `/proc` and `/sys/fs/cgroup`.
    #[must_use]
    pub fn now() -> Self {
        Self::under(Path::new("/"))
    }

    /// Looks at them under another root.
    #[must_use]
    pub fn under(root: &Path) -> Self {
        let meminfo = fs::read_to_string(root.join("proc/meminfo")).unwrap_or_default();
        let bytes = |key: &str| {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(key))?;
            let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
            Some(kib * 1024)
        };
        let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
        let limits: Vec<[u64; 2]> = groups.lines().flat_map(|line| limits(root, line)).collect();
        Self {
            total: bytes("MemTotal:"),
            free: bytes("MemAvailable:"),
            group_limit: limits.iter().map(|[limit, _]| *limit).min(),
            group_free: limits.iter().map(|[limit, used]| limit.saturating_sub(*used)).min(),
        }
    }

    /// Bytes that a process can still have: the least of what is known.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        self.free.into_iter().chain(self.group_free).min()
    }
}

/// Limits over this, in bytes, are none: version 1 writes the largest multiple of a page.
const NO_LIMIT: u64 = 1 << 60;

/// Limit and use, in bytes, of the group that a line of `/proc/self/cgroup` names and of those
/// around it, which hold for it too.
fn limits(root: &Path, line: &str) -> Vec<[u64; 2]> {
    let mut parts = line.splitn(3, ':');
    let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
    else {
        return Vec::new();
    };
    let (mount, limit, used) = match controllers {
        "" => ("sys/fs/cgroup", "memory.max", "memory.current"),
        list if list.split(',').any(|name| name == "memory") => {
            ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes")
        }
        _ => return Vec::new(),
    };
    let mount = root.join(mount);
    let number = |path: PathBuf| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let of = |group: &Path| {
        let limit = number(group.join(limit)).filter(|&limit| limit < NO_LIMIT)?;
        // Pages of files that can be dropped count as used.
        let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
        let cached = ["total_inactive_file ", "inactive_file "].iter().find_map(|key| {
            stat.lines().find_map(|line| line.strip_prefix(key))?.trim().parse::<u64>().ok()
        });
        let used = number(group.join(used)).unwrap_or(0).saturating_sub(cached.unwrap_or(0));
        Some([limit, used])
    };
    // Where the process sees the groups from inside one, the path begins at that one.
    let own = mount.join(path.trim_start_matches('/'));
    own.ancestors().take_while(|group| group.starts_with(&mount)).filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> Available {
        let root = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().expect("a file in a folder")).expect("made");
            fs::write(path, text).expect("written");
        }
        Available::under(root.path())
    }

    const MEMINFO: (&str, &str) =
        ("proc/meminfo", "MemTotal:       2000 kB\nMemFree:  10 kB\nMemAvailable:   1000 kB\n");

    #[test]
    fn t44_without_a_limit_it_is_what_the_machine_has_left() {
        let found = machine(&[MEMINFO]);
        assert_eq!((found.total, found.free), (Some(2_048_000), Some(1_024_000)));
        assert_eq!((found.group_limit, found.bytes()), (None, Some(1_024_000)));
        assert_eq!(machine(&[]), Available::default(), "a system that tells nothing");
        assert_eq!(machine(&[]).bytes(), None);
    }

    #[test]
    fn t44_limits_of_both_kinds_of_groups_hold_and_so_do_those_around_them() {
        let second = machine(&[
            MEMINFO,
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/memory.max", "500000\n"),
            ("sys/fs/cgroup/a/memory.current", "200000\n"),
            ("sys/fs/cgroup/a/memory.stat", "anon 5\ninactive_file 50000\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("sys/fs/cgroup/a/b/memory.current", "1\n"),
        ]);
        assert_eq!(second.group_limit, Some(500_000));
        assert_eq!(second.bytes(), Some(500_000 - 200_000 + 50_000));
        let first = machine(&[
            MEMINFO,
            ("proc/self/cgroup", "5:cpu:/x\n4:memory,hugetlb:/x\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "300000\n"),
            ("sys/fs/cgroup/memory/x/memory.usage_in_bytes", "100000\n"),
        ]);
        assert_eq!((first.group_limit, first.bytes()), (Some(300_000), Some(200_000)));
        let hidden = machine(&[
            ("proc/self/cgroup", "0::/not/seen/from/here\n"),
            ("sys/fs/cgroup/memory.max", "1000\n"),
        ]);
        assert_eq!((hidden.free, hidden.bytes()), (None, Some(1000)));
    }
}
