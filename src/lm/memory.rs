//! Memory for large tables.

use std::io::{self, ErrorKind};
use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

/// Bytes that begin as zeros; where there are many, on huge pages if the system has them.
///
/// With almost every read from a large table the processor has to find out where a page is. It
/// remembers a few thousand; of huge pages those are the whole table.
pub(crate) struct Memory(Source);

enum Source {
    Small(Vec<u8>),
    Large(MmapMut),
}

impl Memory {
    /// This many zeros. What is large takes memory only as it is written to.
    ///
    /// # Errors
    /// If there is too little memory.
    pub(crate) fn zeroed(length: usize) -> io::Result<Self> {
        let small = length < LARGE;
        Ok(Self(if small { Source::Small(vec![0; length]) } else { Source::Large(large(length)?) }))
    }
}

/// The same for those who want the map itself: at least [`LARGE`].
///
/// # Errors
/// If there is too little memory.
pub(crate) fn large(length: usize) -> io::Result<MmapMut> {
    if length > isize::MAX as usize {
        return Err(ErrorKind::OutOfMemory.into());
    }
    let map = MmapMut::map_anon(length)?;
    // An advice: where the system cannot follow it, reads are slower.
    #[cfg(target_os = "linux")]
    let _ = map.advise(memmap2::Advice::HugePage);
    Ok(map)
}

impl From<Vec<u8>> for Memory {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Source::Small(bytes))
    }
}

impl Deref for Memory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Source::Small(bytes) => bytes,
            Source::Large(map) => map,
        }
    }
}

impl DerefMut for Memory {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Source::Small(bytes) => bytes,
            Source::Large(map) => map,
        }
    }
}

/// From this size on, memory of its own is worth the system call.
pub(crate) const LARGE: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_that_can_be_written_to() {
        for length in [0, 1, LARGE - 1, LARGE, LARGE + 1, 2 * LARGE - 1] {
            let mut memory = Memory::zeroed(length).unwrap();
            assert_eq!(memory.len(), length);
            assert!(memory.iter().all(|&byte| byte == 0));
            memory.fill(7);
            assert!(memory.iter().all(|&byte| byte == 7));
        }
    }

    #[test]
    fn too_much_is_an_error() {
        for length in [usize::MAX, usize::MAX - LARGE, 1 << 62] {
            assert!(Memory::zeroed(length).is_err());
        }
    }

    #[test]
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    fn large_memory_is_on_huge_pages_where_there_are_some() {
        let enabled =
            std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
        if !enabled.contains("[madvise]") && !enabled.contains("[always]") {
            return;
        }
        let mut memory = Memory::zeroed(64 << 20).unwrap();
        memory.fill(1);
        let address = format!("{:x}-", memory.as_ptr() as usize);
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let own = maps.split("VmFlags").find(|map| map.contains(&address));
        // The system may put maps side by side and show them as one.
        let Some(own) = own else { return };
        let huge = own.lines().find_map(|line| line.strip_prefix("AnonHugePages:")).unwrap();
        let huge: usize = huge.trim().trim_end_matches(" kB").parse().unwrap();
        // How many there are depends on what else is in memory.
        assert!(huge > 0, "{own}");
    }
}
