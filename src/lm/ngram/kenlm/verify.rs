//! The long look at a file: every node of its structures.

use super::layout::{LONGEST_ENTRY, Table};
use super::lexicon::find;
use super::probing::Probing;
use super::raw::{f32_at, u64_at};
use super::trie::Trie;
use super::{Kenlm, Search};
use crate::lm::ngram::search::Lookup;
use crate::lm::ngram::vocab::Words;

/// What was found, kept short.
#[derive(Default)]
struct Faults {
    told: Vec<String>,
    more: u64,
}

impl Kenlm {
    /// What is wrong with the file, one line each; nothing if all is well.
    pub(crate) fn verify(&self, words: &Words) -> Vec<String> {
        let mut faults = Faults::default();
        self.verify_words(words, &mut faults);
        match &self.search {
            Search::Probing(model) => verify_tables(model, &self.header.counts, &mut faults),
            Search::Trie(model) => verify_trie(model, words.len(), &mut faults),
        }
        faults.finish()
    }

    /// Every id has one spelling, which leads back to it.
    fn verify_words(&self, words: &Words, faults: &mut Faults) {
        if !self.header.spelled {
            return;
        }
        if let Err(what) = words.spelled() {
            return faults.tell(|| what.to_owned());
        }
        for id in 1..words.len() as u32 {
            let found = words.word(id).map(|word| words.id(word));
            if found != Some(id) {
                faults.tell(|| format!("word {id}: its spelling does not lead back to it"));
            }
        }
    }
}

fn verify_tables(model: &Probing, counts: &[u64], faults: &mut Faults) {
    let vocabulary = model.layout.vocabulary;
    verify_table(&model.bytes, vocabulary, "vocabulary", faults, |_| None);
    for ((n, &count), &table) in (2..).zip(&counts[1..]).zip(&model.layout.levels) {
        let longest = table.entry == LONGEST_ENTRY;
        let name = format!("{n}-grams");
        let used = verify_table(&model.bytes, table, &name, faults, |at| {
            let prob = f32_at(&model.bytes, at + 8);
            let values = if longest { &[][..] } else { &[12, 16][..(table.entry - 12) / 4] };
            let finite = values.iter().all(|skip| f32_at(&model.bytes, at + skip).is_finite());
            if prob.is_nan() || longest && prob.is_sign_positive() {
                Some("a probability is none")
            } else {
                (!finite).then_some("a backoff or rest cost is not finite")
            }
        });
        // Blanks are not counted in the header.
        if used < count || longest && used > count {
            faults.tell(|| format!("{name}: there are {used}, and the header says {count}"));
        }
    }
}

/// Every entry is found by its key, and a bucket is empty; the number of entries.
fn verify_table(
    bytes: &[u8],
    table: Table,
    name: &str,
    faults: &mut Faults,
    wrong: impl Fn(usize) -> Option<&'static str>,
) -> u64 {
    let mut used = 0;
    for bucket in 0..table.buckets.divisor() {
        let at = table.start + bucket as usize * table.entry;
        let key = u64_at(bytes, at);
        if key == 0 {
            continue;
        }
        used += 1;
        if let Some(what) = wrong(at) {
            faults.tell(|| format!("{name}, byte {at}: {what}"));
        }
    }
    if used == table.buckets.divisor() {
        faults.tell(|| format!("{name}: no bucket is empty"));
        return used;
    }
    for bucket in 0..table.buckets.divisor() {
        let at = table.start + bucket as usize * table.entry;
        let key = u64_at(bytes, at);
        if key != 0 && find(bytes, table, key) != Some(at) {
            faults.tell(|| format!("{name}, byte {at}: an entry cannot be found, or is there twice"));
        }
    }
    used
}

fn verify_trie(model: &Trie, words: usize, faults: &mut Faults) {
    let order = model.order();
    let mut parents = words as u64;
    for n in 2..=order {
        let records = *model.records(n);
        let name = format!("{n}-grams");
        let mut next = 0;
        for parent in 0..parents {
            let (begin, end) = model.pointers(n - 1, parent);
            if begin != next || end < begin || end > records.count {
                faults.tell(|| {
                    format!("{name}: the children of {}-gram {parent} are not behind those before", n - 1)
                });
                next = end.min(records.count);
                continue;
            }
            let mut last = None;
            for record in begin..end {
                let word = model.word(&records, record);
                if word as usize >= words || last.is_some_and(|last| last >= word) {
                    faults.tell(|| format!("{name}, record {record}: its word is not in order"));
                }
                last = Some(word);
                let prob = model.prob(n, record);
                let finite = n == order || model.backoff(n, record).is_finite();
                if prob.is_nan() || prob > 0.0 || !finite {
                    faults.tell(|| format!("{name}, record {record}: its values are no numbers"));
                }
            }
            next = end;
        }
        if next != records.count {
            faults.tell(|| format!("{name}: {next} have parents, and the header says {}", records.count));
        }
        parents = records.count;
    }
}

impl Faults {
    fn tell(&mut self, what: impl FnOnce() -> String) {
        if self.told.len() < MOST { self.told.push(what()) } else { self.more += 1 }
    }

    fn finish(mut self) -> Vec<String> {
        if self.more > 0 {
            self.told.push(format!("and {} faults more", self.more));
        }
        self.told
    }
}

/// More would tell no more.
const MOST: usize = 20;
