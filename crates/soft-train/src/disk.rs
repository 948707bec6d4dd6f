//! Room on the file system of a path.

use std::path::Path;

/// Bytes of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// That this user may still write.
    pub free: u64,
    /// In all.
    pub total: u64,
}

/// The space of the file system that a path lies on, or will lie on: that of the nearest folder above
/// it that is there. None where the system does not tell.
#[must_use]
pub fn space(path: &Path) -> Option<Space> {
    #[cfg(unix)]
    {
        let path = std::path::absolute(path).ok()?;
        let there = path.ancestors().find(|folder| folder.exists())?;
        let figures = rustix::fs::statvfs(there).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(figures.f_frsize);
        Some(Space { free: bytes(figures.f_bavail), total: bytes(figures.f_blocks) })
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn t02_a_folder_that_is_not_there_yet_has_the_space_of_its_parent() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let here = space(folder.path()).expect("the system tells");
        assert!(0 < here.free && here.free <= here.total && here.total < 1 << 60, "{here:?}");
        let later = space(&folder.path().join("runs/new")).expect("the system tells");
        assert_eq!(later.total, here.total);
    }
}
