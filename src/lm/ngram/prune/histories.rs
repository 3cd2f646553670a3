//! How often contexts occur.

use std::io::Read;
use std::ops::ControlFlow;

use super::model::{Code, Model};
use crate::Result;
use crate::lm::ngram::estimate::Sentences;

/// Counts of a model's n-grams below the highest order in texts.
pub(super) struct Counts {
    /// By order from 1, then by row.
    orders: Vec<Vec<f64>>,
}

impl Counts {
    pub fn new(model: &Model) -> Self {
        let lower = &model.tables[..model.tables.len() - 1];
        Self { orders: lower.iter().map(|table| vec![0.0; table.codes.len()]).collect() }
    }

    /// Adds a text. A sentence's end is no context, and an empty line no sentence.
    pub fn add(&mut self, model: &Model, name: &str, text: impl Read + Send + 'static) -> Result<()> {
        let sentences = Sentences::read(name, text, &mut |_| ControlFlow::Continue(()))?;
        let id = |word: &[u8]| {
            model.words.binary_search_by(|known| (**known).cmp(word)).unwrap_or(model.unk) as Code
        };
        let ids: Vec<Code> = sentences.words().map(id).collect();
        let longest = self.orders.len();
        let mask = (1 << (model.bits as usize * longest)) - 1;
        let (mut code, mut length) = (0, 0);
        let mut count = |code: Code, length: usize| {
            for (n, counts) in (1..=length).zip(&mut self.orders) {
                let part = code & ((1 << (model.bits as usize * n)) - 1);
                let row = if n == 1 { Some(part as usize) } else { model.tables[n - 1].find(part) };
                if let Some(row) = row {
                    counts[row] += 1.0;
                }
            }
        };
        sentences.each(|word| match word {
            Some(word) => {
                if length == 0 {
                    (code, length) = (model.bos as Code, 1);
                    count(code, length);
                }
                code = (code << model.bits | ids[word as usize]) & mask;
                length = (length + 1).min(longest);
                count(code, length);
            }
            None => length = 0,
        })
    }

    /// Of words.
    pub fn words(&self) -> &[f64] {
        &self.orders[0]
    }

    /// Relative frequencies, by order from 1.
    pub fn frequencies(&self) -> Vec<Vec<f64>> {
        relative(&self.orders)
    }

    /// Keeps these rows.
    pub fn select(&mut self, rows: &[Vec<bool>]) {
        for (counts, rows) in self.orders.iter_mut().zip(rows) {
            let mut rows = rows.iter();
            counts.retain(|_| rows.next() == Some(&true));
        }
    }
}

/// By the model itself: the chain rule; a sentence begins as often as one ends.
pub(super) fn by_the_model(model: &Model) -> Vec<Vec<f64>> {
    let mut words = model.tables[0].prob.clone();
    words[model.bos] = words[model.eos];
    let mut orders = vec![words];
    for n in 2..model.tables.len() {
        let (table, shorter) = (&model.tables[n - 1], &model.tables[n - 2]);
        let last = &orders[n - 2];
        let rows = table.codes.iter().zip(&table.prob);
        let next = rows
            .map(|(&code, prob)| shorter.find(model.context(code)).map_or(0.0, |row| last[row] * prob))
            .collect();
        orders.push(next);
    }
    relative(&orders)
}

fn relative(orders: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let total: f64 = orders[0].iter().sum();
    orders.iter().map(|counts| counts.iter().map(|count| count / total.max(1e-300)).collect()).collect()
}
