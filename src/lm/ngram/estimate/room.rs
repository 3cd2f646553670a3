//! Keeping several sorters within the memory they share.

use super::sort::{Pool, Sorter};
use crate::Result;

/// While the pool is full, moves the blocks of the sorter that holds most of them to disk.
pub(super) fn make_room<'a, const L: usize>(
    pool: &Pool<L>,
    sorters: impl Iterator<Item = &'a mut Sorter<L>>,
) -> Result<()> {
    if !pool.full() {
        return Ok(());
    }
    let mut sorters: Vec<_> = sorters.collect();
    while pool.full() {
        match sorters.iter_mut().max_by_key(|sorter| sorter.held()) {
            Some(sorter) if sorter.held() > 0 => sorter.spill()?,
            // Only what is being read holds blocks.
            _ => return Ok(()),
        }
    }
    Ok(())
}
