//! Giving the n-grams of one order their places in lines.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

use super::column;
use super::key::read_u64;
use super::sort::{Record, Sorted, Sorter};
use super::spool::{Space, Spool};
use super::table::{HEAD, LINE, MOST, Shape};

/// An n-gram to be placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Item {
    pub(super) home: u64,
    pub(super) remainder: u64,
    /// Its number in the order of the trie, and whether another n-gram ends with it.
    pub(super) number: u64,
    pub(super) extends: bool,
    /// The bits of its probability as a number.
    pub(super) linear: u64,
    pub(super) prob: Code,
    pub(super) backoff: Code,
}

/// A weight: its code, and its value if the code does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Code {
    pub(super) code: u32,
    pub(super) other: Option<u32>,
}

/// Where an n-gram came to lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Placed {
    pub(super) number: u64,
    pub(super) place: u64,
    pub(super) linear: u64,
}

/// All n-grams of an order in their places.
pub(super) struct Full {
    lines: Spool,
    count: u64,
    lines_count: u64,
    pub(super) places: Sorter<Placed>,
    pub(super) probs: column::Writer,
    pub(super) backoffs: column::Writer,
}

/// Lines being filled, of which the first is line `at`.
struct Filling {
    at: u64,
    lines: VecDeque<[u8; LINE]>,
}

/// Places n-grams, which come by their homes. `None` if some line is home to too many of them, or
/// what overflows is pushed too far: other homes are needed then.
pub(super) fn place(mut items: Sorted<Item>, shape: &Shape, space: &Space) -> io::Result<Option<Full>> {
    let mut full = Full {
        lines: space.spool(),
        count: 0,
        lines_count: 0,
        places: Sorter::new(space, space.sorting(2)),
        probs: column::Writer::new(space),
        backoffs: column::Writer::new(space),
    };
    let slots = u64::from(shape.slots);
    let mut filling = Filling { at: 0, lines: VecDeque::new() };
    // The next place that is free, and the next that the columns have not been told of.
    let (mut free, mut told) = (0, 0);
    for home in 0..shape.homes {
        free = free.max(home * slots);
        let (begin, skipped) = (free, free - home * slots);
        while items.peek().is_some_and(|item| item.home == home) {
            let Some(item) = items.next()? else { break };
            full.tell(&mut told, free, Some(&item))?;
            filling.line(free / slots).put(shape, free % slots, &item);
            full.places.push(Placed { number: item.number, place: free, linear: item.linear })?;
            full.count += 1;
            free += 1;
        }
        let count = free - begin;
        if skipped > MOST || count > MOST {
            return Ok(None);
        }
        filling.line(home)[..2].copy_from_slice(&[skipped as u8, count as u8]);
        full.write(&mut filling, home + 1)?;
    }
    let end = shape.homes.max(free.div_ceil(slots));
    full.write(&mut filling, end)?;
    full.tell(&mut told, end * slots, None)?;
    full.lines_count = end;
    Ok(Some(full))
}

/// The lines written, and the numbers of n-grams and lines.
type Lines = (Spool, (u64, u64));

impl Full {
    /// Number of places, gaps counted.
    pub(super) fn all(&self, shape: &Shape) -> u64 {
        self.lines_count * u64::from(shape.slots)
    }

    /// Writes the section of lines.
    pub(super) fn finish(
        lines: Spool,
        counts: (u64, u64),
        shape: &Shape,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let (slots, widths) = (shape.slots, [shape.prob, shape.backoff]);
        let mut header = vec![counts.0, shape.homes, counts.1, shape.seed, u64::from(slots)];
        header.extend(widths.map(u64::from));
        header.resize(LINE / 8, 0);
        for value in header {
            out.write_all(&value.to_le_bytes())?;
        }
        io::copy(&mut lines.reader()?, out)?;
        Ok(())
    }

    /// The lines; the places; and the columns.
    pub(super) fn parts(self) -> (Lines, Sorter<Placed>, [column::Writer; 2]) {
        ((self.lines, (self.count, self.lines_count)), self.places, [self.probs, self.backoffs])
    }

    /// Tells the columns of gaps up to a place, and what is there.
    fn tell(&mut self, told: &mut u64, place: u64, item: Option<&Item>) -> io::Result<()> {
        while *told < place {
            self.probs.push(None)?;
            self.backoffs.push(None)?;
            *told += 1;
        }
        let Some(item) = item else { return Ok(()) };
        self.probs.push(item.prob.other)?;
        self.backoffs.push(item.backoff.other)?;
        *told += 1;
        Ok(())
    }

    /// Writes lines before one; nothing will be put into them any more.
    fn write(&mut self, filling: &mut Filling, before: u64) -> io::Result<()> {
        while filling.at < before {
            let line = filling.lines.pop_front().unwrap_or([0; LINE]);
            self.lines.write_all(&line)?;
            filling.at += 1;
        }
        Ok(())
    }
}

impl Filling {
    fn line(&mut self, at: u64) -> &mut [u8; LINE] {
        let at = (at - self.at) as usize;
        if self.lines.len() <= at {
            self.lines.resize(at + 1, [0; LINE]);
        }
        &mut self.lines[at]
    }
}

/// A line that n-grams are put into.
trait Put {
    fn put(&mut self, shape: &Shape, slot: u64, item: &Item);
}

impl Put for [u8; LINE] {
    fn put(&mut self, shape: &Shape, slot: u64, item: &Item) {
        let mut bit = HEAD as usize + slot as usize * shape.width() as usize;
        let fields = [
            (item.remainder, shape.remainder),
            (u64::from(item.extends), shape.extends),
            (u64::from(item.prob.code), shape.prob),
            (u64::from(item.backoff.code), shape.backoff),
        ];
        for (value, width) in fields {
            for at in (0..width as usize).filter(|at| value >> at & 1 == 1) {
                self[(bit + at) / 8] |= 1 << ((bit + at) % 8);
            }
            bit += width as usize;
        }
    }
}

impl Record for Item {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        for part in [self.home, self.remainder, self.number << 1 | u64::from(self.extends), self.linear] {
            out.write_all(&part.to_le_bytes())?;
        }
        self.prob.write(out)?;
        self.backoff.write(out)
    }

    fn read(input: &mut impl Read) -> io::Result<Self> {
        let mut part = || read_u64(input);
        let (home, remainder, number, linear) = (part()?, part()?, part()?, part()?);
        let (number, extends) = (number >> 1, number & 1 == 1);
        let (prob, backoff) = (Code::read(input)?, Code::read(input)?);
        Ok(Self { home, remainder, number, extends, linear, prob, backoff })
    }
}

impl Code {
    fn write(self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&(u64::from(self.code) << 1 | u64::from(self.other.is_some())).to_le_bytes())?;
        self.other.unwrap_or(0).write(out)
    }

    fn read(input: &mut impl Read) -> io::Result<Self> {
        let code = read_u64(input)?;
        let other = u32::read(input)?;
        Ok(Self { code: (code >> 1) as u32, other: (code & 1 == 1).then_some(other) })
    }
}

impl Record for Placed {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        [self.number, self.place, self.linear].iter().try_for_each(|part| out.write_all(&part.to_le_bytes()))
    }

    fn read(input: &mut impl Read) -> io::Result<Self> {
        let mut part = || read_u64(input);
        Ok(Self { number: part()?, place: part()?, linear: part()? })
    }
}
