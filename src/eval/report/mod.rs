//! One page about an evaluation: charts, tables and aligned examples.
//!
//! The page is one file without scripts, fonts or images from elsewhere: it can be mailed, archived and
//! printed. It follows the reader's light or dark setting. All text that comes from lists is escaped.

mod bars;
mod examples;
mod histogram;
mod lines;
mod map;
mod page;
mod reliability;
mod svg;
mod tables;

use crate::eval::changes::Change;
use crate::eval::confidence::Bin;
use crate::eval::{Edit, Estimate};

/// Everything on the page. Rates are parts of 1; a section without data is left out.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Heading.
    pub title: String,
    /// What is counted: WER, CER.
    pub unit: String,
    /// What the page is about: labels and values under the heading.
    pub facts: Vec<(String, String)>,
    /// The figures at the top.
    pub tiles: Vec<Tile>,
    /// Error rates of feature sets, with intervals.
    pub bars: Vec<Bar>,
    /// Error over one or two weights.
    pub map: Option<Map>,
    /// Best of n, by different orders of the lists.
    pub oracles: Vec<Oracles>,
    /// Whether confidences mean what they say.
    pub reliability: Vec<Reliability>,
    /// Milliseconds from reading to answer.
    pub latencies: Vec<f64>,
    /// What was corrected most often, and broken.
    pub corrected: Vec<Change>,
    /// As above.
    pub broken: Vec<Change>,
    /// How many utterances and words changed: a sentence.
    pub changes: String,
    /// Utterances that changed.
    pub examples: Vec<Example>,
    /// Speakers, or sessions.
    pub speakers: Vec<Speaker>,
    /// How the figures were made: sentences.
    pub notes: Vec<String>,
}

/// A figure with its name.
#[derive(Debug, Clone)]
pub struct Tile {
    /// What it is.
    pub label: String,
    /// The figure.
    pub value: String,
    /// An interval, or whatever belongs under it.
    pub note: String,
    /// Good news, bad news, or neither.
    pub tone: Tone,
}

/// What a figure means to whoever reads it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tone {
    /// Neither good nor bad.
    #[default]
    Plain,
    /// Better than before.
    Good,
    /// Worse than before.
    Bad,
}

/// One feature set.
#[derive(Debug, Clone)]
pub struct Bar {
    /// Its name.
    pub name: String,
    /// How it came about.
    pub note: String,
    /// Its error rate.
    pub rate: Estimate,
    /// Whether the interval is known.
    pub interval: bool,
    /// What it is among the others.
    pub kind: Kind,
}

/// What a bar stands for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Kind {
    /// Something tried.
    #[default]
    Other,
    /// What everything is compared with.
    Baseline,
    /// What was chosen.
    Chosen,
    /// What cannot be had.
    Bound,
}

/// Error rates over one weight (one row) or two.
#[derive(Debug, Clone)]
pub struct Map {
    /// Name and values of the weight to the right, rising.
    pub x: (String, Vec<f64>),
    /// Name and values of the weight upwards, rising; empty for one weight.
    pub y: (String, Vec<f64>),
    /// Row by row, from the lowest `y`.
    pub rates: Vec<f64>,
    /// The weights in force.
    pub chosen: Option<(f64, f64)>,
    /// The error rate there.
    pub rate: Option<f64>,
}

/// Best of n by one order.
#[derive(Debug, Clone)]
pub struct Oracles {
    /// Whose order.
    pub name: String,
    /// Depths and rates.
    pub points: Vec<(usize, f64)>,
}

/// Confidences of words or utterances.
#[derive(Debug, Clone)]
pub struct Reliability {
    /// Of what.
    pub name: String,
    /// Ten parts of the scale.
    pub bins: Vec<Bin>,
    /// Normalised cross entropy, where it is defined.
    pub nce: Option<f64>,
    /// Expected calibration error.
    pub ece: f64,
}

/// An utterance that changed.
#[derive(Debug, Clone)]
pub struct Example {
    /// Its id.
    pub id: Vec<u8>,
    /// First-pass rank of what was chosen, where known.
    pub rank: Option<u32>,
    /// Alignment before.
    pub before: Vec<Edit>,
    /// Alignment after.
    pub after: Vec<Edit>,
}

/// One speaker's error rates.
#[derive(Debug, Clone)]
pub struct Speaker {
    /// The name.
    pub name: Vec<u8>,
    /// Utterances.
    pub utterances: u64,
    /// Words of the references.
    pub words: u64,
    /// Error rate before.
    pub before: f64,
    /// Error rate after.
    pub after: f64,
}

impl Report {
    /// The page.
    pub fn html(&self) -> String {
        page::html(self)
    }
}

#[cfg(test)]
mod tests;
