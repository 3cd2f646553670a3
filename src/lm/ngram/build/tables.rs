//! KenLM's probing files.
//!
//! Where an entry is depends on what came before it, so n-grams go into tables of the file's size
//! in the order of the ARPA file, blanks behind the n-gram that needs them.

use std::path::Path;

use super::{BuildOptions, Source};
use crate::lm::ngram::hashed::{Builder, Unigram};
use crate::lm::ngram::kenlm::Header;
use crate::lm::ngram::kenlm::layout::{LONGEST_ENTRY, buckets};
use crate::lm::ngram::table::{Added, Table};
use crate::lm::ngram::vocab::{Words, murmur};
use crate::whole::Whole;
use crate::{Error, Result};

pub(super) fn build(
    mut source: Source<'_>,
    words: &mut Words,
    out: &Path,
    multiplier: f32,
    options: &BuildOptions,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    let counts = source.counts.clone();
    let order = counts.len();
    let header = super::header(options, counts.clone());
    let table = |count: u64| {
        let slots = buckets(multiplier, count).and_then(|slots| usize::try_from(slots).ok());
        slots.and_then(Table::<true>::fixed).ok_or_else(|| {
            Error::model(source.arpa, format!("there is not enough memory for {count} n-grams"))
        })
    };
    let mut vocabulary = table(counts[0])?;
    let tables: Vec<_> = counts[1..].iter().map(|&count| table(count)).collect::<Result<_>>()?;
    // Seen before the long work begins: whether there is a place to write to.
    let mut output = Whole::create(out)?;
    output.put(&Header::incomplete(order))?;
    let mut builder = Builder::with(options.missing_unk_log10, tables);
    source.read(words, &mut builder, progress)?;
    let model = builder.finish();
    output.put(&0u32.to_le_bytes())?;
    output.put(&(words.len() as u32).to_le_bytes())?;
    for id in 1..words.len() as u32 {
        let hash = murmur(words.word(id).unwrap_or_default());
        // The id in the place of a probability's bits.
        if vocabulary.insert(hash, f32::from_bits(id), 0.0) != Added::New {
            return Err(Error::model(source.arpa, format!("two words have the hash {hash:x}; remove one")));
        }
    }
    entries(&mut output, &vocabulary, LONGEST_ENTRY)?;
    let unigrams =
        model.unigrams.iter().copied().chain(std::iter::repeat(Unigram { prob: 0.0, backoff: 0.0 }));
    for Unigram { prob, backoff } in unigrams.take(counts[0] as usize + 1) {
        output.put(&pair(prob, backoff))?;
    }
    for (table, n) in model.tables.iter().zip(2..) {
        entries(&mut output, table, if n == order { LONGEST_ENTRY } else { 16 })?;
    }
    if options.spellings {
        spellings(&mut output, words, 0..words.len() as u32)?;
    }
    output.finish_with(&header.write())
}

/// Words, each with a NUL behind it.
pub(super) fn spellings(output: &mut Whole, words: &Words, ids: impl IntoIterator<Item = u32>) -> Result<()> {
    for id in ids {
        output.put(words.word(id).unwrap_or_default())?;
        output.put(&[0])?;
    }
    Ok(())
}

/// The first `bytes` of each slot.
fn entries(output: &mut Whole, table: &Table<true>, bytes: usize) -> Result<()> {
    table.entries().iter().try_for_each(|entry| output.put(&entry[..bytes]))
}

fn pair(first: f32, second: f32) -> [u8; 8] {
    (u64::from(second.to_bits()) << 32 | u64::from(first.to_bits())).to_le_bytes()
}
