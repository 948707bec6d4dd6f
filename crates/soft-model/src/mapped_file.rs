//! A file read through the page cache, shared by the tensors that lie in it.

use std::fs::File;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::Error;

/// A read-only memory map and the path it came from.
#[derive(Debug)]
pub(crate) struct MappedFile {
    path: PathBuf,
    map: Mmap,
}

impl MappedFile {
    /// Maps a whole regular file.
    ///
    /// # Errors
    /// [`Error::Io`] where the file cannot be opened, [`Error::NotAModel`] for a folder.
    #[expect(unsafe_code, reason = "a memory map is unsafe by nature; the file is only read")]
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(|source| Error::io(path, source))?;
        let metadata = file.metadata().map_err(|source| Error::io(path, source))?;
        if !metadata.is_file() {
            return Err(Error::not_a_model(path, "not a regular file"));
        }
        // SAFETY: the map is private to this process and never written; as with every mapped
        // checkpoint, truncating the file while it is in use is the user's to avoid.
        let map = unsafe { Mmap::map(&file) }.map_err(|source| Error::io(path, source))?;
        Ok(Self { path: path.to_owned(), map })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}
