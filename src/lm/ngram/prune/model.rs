//! A whole model in sorted columns.

use std::path::Path;

use crate::lm::ngram::arpa::{self, Fault, Sink};
use crate::lm::ngram::input::Lines;
use crate::lm::ngram::vocab::Words;
use crate::{Error, Result};

/// An n-gram as a number: its words as digits, the first the most significant.
pub(super) type Code = u128;

/// A model; ids are in the order of the words' bytes, which also compresses well.
pub(super) struct Model {
    pub words: Vec<Vec<u8>>,
    /// Bits of a word.
    pub bits: u32,
    /// By order from 1.
    pub tables: Vec<Table>,
    pub bos: usize,
    pub eos: usize,
    pub unk: usize,
}

/// The n-grams of one order, sorted. Probabilities and backoffs are plain, not logarithms.
#[derive(Default)]
pub(super) struct Table {
    pub codes: Vec<Code>,
    pub prob: Vec<f64>,
    pub backoff: Vec<f64>,
}

impl Model {
    pub fn read(name: &Path, mut lines: Lines) -> Result<Self> {
        let mut words = Words::new();
        let mut raw = Raw::default();
        let unknowns = arpa::read(&mut lines, &mut words, &mut raw)?;
        let lacks = |what: &str| {
            Error::model(
                name,
                format!("has no {what}, and so cannot be pruned; estimate it with an open vocabulary"),
            )
        };
        if unknowns == 0 {
            return Err(lacks("<unk>"));
        }
        if let Some(missing) = ["<s>", "</s>"].iter().find(|word| words.find(word.as_bytes()).is_none()) {
            return Err(lacks(missing));
        }
        if raw.orders.len() < 2 {
            return Err(Error::model(name, "has words only: there is nothing to prune"));
        }
        let bits = (words.len() - 1).ilog2() + 1;
        if bits as usize * raw.orders.len() > Code::BITS as usize {
            return Err(Error::model(
                name,
                "its order is too high for so many words; prune a model of a lower order",
            ));
        }
        Ok(Self::sorted(&words, raw, bits))
    }

    /// Numbers words by their bytes and sorts everything.
    fn sorted(words: &Words, raw: Raw, bits: u32) -> Self {
        let mut ids: Vec<u32> = (0..words.len() as u32).collect();
        ids.sort_by_key(|&id| words.word(id));
        let mut new = vec![0 as Code; ids.len()];
        for (at, &id) in (0..).zip(&ids) {
            new[id as usize] = at;
        }
        let tables = raw.orders.into_iter().zip(1..).map(|(order, n)| {
            let code = |words: &[u32]| words.iter().fold(0, |code, &id| code << bits | new[id as usize]);
            let mut rows: Vec<(Code, f64, f64)> = order
                .words
                .chunks(n)
                .zip(order.values)
                .map(|(words, (prob, backoff))| (code(words), exp10(prob), exp10(backoff)))
                .collect();
            rows.sort_unstable_by_key(|row| row.0);
            // `<unk>` may be listed twice by two spellings: the last one counts, and sorts anywhere.
            rows.dedup_by_key(|row| row.0);
            Table::of(rows.into_iter())
        });
        let mut model = Self {
            tables: tables.collect(),
            words: ids.iter().map(|&id| words.word(id).unwrap_or_default().to_vec()).collect(),
            bits,
            bos: new[words.id(b"<s>") as usize] as usize,
            eos: new[words.id(b"</s>") as usize] as usize,
            unk: new[0] as usize,
        };
        // Never predicted; estimators write it as probability one.
        model.tables[0].prob[model.bos] = 0.0;
        model
    }

    /// An n-gram without its last word.
    pub fn context(&self, code: Code) -> Code {
        code >> self.bits
    }

    /// An n-gram of `n` words without its first.
    pub fn shorter(&self, code: Code, n: usize) -> Code {
        code & ((1 << (self.bits as usize * (n - 1))) - 1)
    }

    /// A word of an n-gram of `n`, from 0, the first.
    pub fn word(&self, code: Code, n: usize, at: usize) -> usize {
        (code >> (self.bits as usize * (n - 1 - at))) as usize & ((1 << self.bits) - 1)
    }

    /// p(last word | the words before it), backed off where the n-gram is not listed.
    pub fn prob(&self, code: Code, n: usize) -> f64 {
        let mut weight = 1.0;
        let mut code = code;
        for n in (2..=n).rev() {
            if let Some(row) = self.tables[n - 1].find(code) {
                return weight * self.tables[n - 1].prob[row];
            }
            if let Some(row) = self.tables[n - 2].find(self.context(code)) {
                weight *= self.tables[n - 2].backoff[row];
            }
            code = self.shorter(code, n);
        }
        weight * self.tables[0].prob[code as usize]
    }

    /// p(last word | context without its first word) of every n-gram of an order.
    pub fn lower(&self, n: usize) -> Vec<f64> {
        self.tables[n - 1].codes.iter().map(|&code| self.prob(self.shorter(code, n), n - 1)).collect()
    }

    /// Ranges of rows of an order that share a context, with the context.
    pub fn contexts(&self, n: usize) -> impl Iterator<Item = (Code, std::ops::Range<usize>)> + '_ {
        let codes = &self.tables[n - 1].codes;
        let mut start = 0;
        codes.chunk_by(|a, b| a >> self.bits == b >> self.bits).map(move |group| {
            let range = start..start + group.len();
            start = range.end;
            (group[0] >> self.bits, range)
        })
    }

    /// Keeps the heaviest words; the others' unigram probability goes to `<unk>`. Returns that, and
    /// which rows of each order stay.
    pub fn limit_vocabulary(&mut self, count: usize, mut weights: Vec<f64>) -> (f64, Vec<Vec<bool>>) {
        for symbol in [self.bos, self.eos, self.unk] {
            weights[symbol] = f64::INFINITY;
        }
        let prob = &self.tables[0].prob;
        let mut ranked: Vec<usize> = (0..self.words.len()).collect();
        // The unigram probability decides between words seen equally often.
        ranked.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]).then(prob[b].total_cmp(&prob[a])));
        let mut kept = vec![false; self.words.len()];
        ranked.iter().take(count.max(3)).for_each(|&id| kept[id] = true);
        let moved: f64 = prob.iter().zip(&kept).filter(|(_, kept)| !**kept).map(|(prob, _)| prob).sum();
        self.tables[0].prob[self.unk] += moved;
        let rows: Vec<Vec<bool>> = (1..)
            .zip(&self.tables)
            .map(|(n, table)| {
                let whole = |&code: &Code| (0..n).all(|at| kept[self.word(code, n, at)]);
                table.codes.iter().map(whole).collect()
            })
            .collect();
        self.select(&rows);
        self.renumber(&kept);
        self.renew_backoffs();
        (moved, rows)
    }

    /// Keeps these rows of each order.
    pub fn select(&mut self, rows: &[Vec<bool>]) {
        for (table, rows) in self.tables.iter_mut().zip(rows) {
            retain(&mut table.codes, rows);
            retain(&mut table.prob, rows);
            retain(&mut table.backoff, rows);
        }
    }

    /// Backoffs by definition, shorter contexts first: longer ones depend on them.
    pub fn renew_backoffs(&mut self) {
        for n in 2..=self.tables.len() {
            let lower = self.lower(n);
            let mut backoff = vec![1.0; self.tables[n - 2].codes.len()];
            for (context, range) in self.contexts(n) {
                if let Some(row) = self.tables[n - 2].find(context) {
                    let (left, left_lower) = self.left(n, range, &lower);
                    backoff[row] = left / left_lower;
                }
            }
            self.tables[n - 2].backoff = backoff;
        }
    }

    /// What a context's n-grams leave of its mass, and of that of the shorter context.
    pub fn left(&self, n: usize, rows: std::ops::Range<usize>, lower: &[f64]) -> (f64, f64) {
        let left = |of: &[f64]| (1.0 - of[rows.clone()].iter().sum::<f64>()).max(TINY);
        (left(&self.tables[n - 1].prob), left(lower))
    }

    fn renumber(&mut self, kept: &[bool]) {
        let mut next = 0;
        let new: Vec<Code> = kept
            .iter()
            .map(|&kept| {
                next += Code::from(kept);
                next.saturating_sub(1)
            })
            .collect();
        for n in 1..=self.tables.len() {
            let renumbered =
                |&code: &Code| (0..n).fold(0, |out, at| out << self.bits | new[self.word(code, n, at)]);
            let codes = self.tables[n - 1].codes.iter().map(renumbered).collect();
            self.tables[n - 1].codes = codes;
        }
        retain(&mut self.words, kept);
        [self.bos, self.eos, self.unk] = [self.bos, self.eos, self.unk].map(|id| new[id] as usize);
    }
}

impl Table {
    pub fn find(&self, code: Code) -> Option<usize> {
        self.codes.binary_search(&code).ok()
    }

    fn of(rows: impl ExactSizeIterator<Item = (Code, f64, f64)>) -> Self {
        let mut table = Self::default();
        table.codes.reserve_exact(rows.len());
        table.prob.reserve_exact(rows.len());
        table.backoff.reserve_exact(rows.len());
        for (code, prob, backoff) in rows {
            table.codes.push(code);
            table.prob.push(prob);
            table.backoff.push(backoff);
        }
        table
    }
}

/// n-grams as they come from the file.
#[derive(Default)]
struct Raw {
    orders: Vec<RawOrder>,
}

#[derive(Default)]
struct RawOrder {
    words: Vec<u32>,
    values: Vec<(f32, f32)>,
}

impl Sink for Raw {
    fn counts(&mut self, counts: &[u64], _bytes: Option<u64>) {
        self.orders.resize_with(counts.len(), RawOrder::default);
    }

    fn unigram(&mut self, id: u32, prob: f32, backoff: f32) {
        self.orders[0].words.push(id);
        self.orders[0].values.push((prob, backoff));
    }

    fn ngram(&mut self, _line: u64, words: &[u32], prob: f32, backoff: f32) -> Result<(), Fault> {
        let order = &mut self.orders[words.len() - 1];
        order.words.extend_from_slice(words);
        order.values.push((prob, backoff));
        Ok(())
    }

    fn settle(&mut self) -> Result<(), Fault> {
        Ok(())
    }
}

fn exp10(value: f32) -> f64 {
    10f64.powf(value.into())
}

fn retain<T>(values: &mut Vec<T>, rows: &[bool]) {
    let mut rows = rows.iter();
    values.retain(|_| rows.next() == Some(&true));
}

/// Below this a left-over mass is rounding, not probability.
const TINY: f64 = 1e-9;
