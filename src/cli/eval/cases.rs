//! Lists with references, and what two systems made of them.

use std::collections::HashMap;
use std::path::Path;

use super::super::formats::FormatArgs;
use super::super::lists::{self, Listed, Scoring};
use super::super::messages::Messages;
use crate::consensus::Word;
use crate::eval::{Counts, Oracle, Scorer};
use crate::formats::jsonl::{self, Answer};
use crate::nbest::{Name, Utterance};
use crate::{Error, Result};

/// One utterance with its reference.
pub struct Case {
    pub id: Vec<u8>,
    /// Its speaker or session, where known.
    pub speaker: Option<Vec<u8>>,
    pub reference: Vec<u8>,
    /// The first pass's text, or the other system's.
    pub before: Vec<u8>,
    /// The text decided for.
    pub after: Vec<u8>,
    pub counts: [Counts; 2],
    pub answer: Answer,
    /// The whole list in first-pass order, where it is wanted.
    pub list: Option<Utterance>,
    /// Which of the list was decided for.
    pub chosen: usize,
}

/// Everything read.
#[derive(Default)]
pub struct Cases {
    pub cases: Vec<Case>,
    /// By first-pass order, and by ours.
    pub oracles: [Oracle; 2],
    /// Whether any record is our own output.
    pub rescored: bool,
    /// Records that could not be read.
    pub unread: u64,
    /// Without a reference.
    pub without: u64,
    /// With a reference and no hypothesis.
    pub absent: u64,
    /// Of which an n-best cut has taken the first pass's best.
    pub cut: u64,
    /// Not in the system compared with.
    pub alone: u64,
    /// Only in the system compared with.
    pub orphans: u64,
}

/// What is read how.
pub struct Source<'a> {
    pub path: &'a Path,
    pub formats: &'a FormatArgs,
    pub scoring: &'a Scoring,
    /// Leave out records without a hypothesis.
    pub present: bool,
    /// Keep whole lists.
    pub keep: bool,
    /// Another system's output over the same utterances.
    pub against: Option<&'a Path>,
}

/// Reads the lists.
pub fn read(source: &Source<'_>, messages: &Messages) -> Result<Cases> {
    let other = source.against.map(|path| answers(path, source.formats, messages)).transpose()?;
    let (texts, mut unread) = other.map_or((None, 0), |(texts, unread)| (Some(texts), unread));
    let scorer = source.scoring.scorer()?;
    let mut collector = Collector { source, scorer, texts, all: Cases::default() };
    unread += lists::each(source.path, source.formats, None, messages, &mut |listed| collector.take(listed))?;
    let Collector { texts, mut all, .. } = collector;
    all.unread = unread;
    all.orphans = texts.map_or(0, |texts| texts.len() as u64);
    if all.cases.is_empty() {
        return Err(Error::config(match all.alone {
            0 => {
                "no record has a reference: add `ref` to the records, or name a file of them with --references"
            }
            _ => "the two systems have no utterance in common: compare outputs over the same ids",
        }));
    }
    Ok(all)
}

/// Texts by utterance id.
type Texts = HashMap<Vec<u8>, Vec<u8>>;

/// Cases while they are read.
struct Collector<'a> {
    source: &'a Source<'a>,
    scorer: Scorer,
    /// The other system's texts that were not met yet.
    texts: Option<Texts>,
    all: Cases,
}

impl Collector<'_> {
    fn take(&mut self, listed: Listed<'_>) -> Result<()> {
        let Listed { number, line, record } = listed;
        let (winner, own) = (record.winner(), record.rescored());
        let mut utterance = record.utterance;
        self.all.rescored |= own;
        let Some(reference) = utterance.reference.take() else {
            self.all.without += 1;
            return Ok(());
        };
        let mut before = None;
        if let Some(texts) = &mut self.texts {
            if utterance.id.is_empty() {
                return Err(Error::Config(format!(
                    "line {number} has no id: systems are compared by id, never by line number"
                )));
            }
            before = texts.remove(&utterance.id);
            if before.is_none() {
                self.all.alone += 1;
                return Ok(());
            }
        }
        if utterance.hypotheses.is_empty() {
            self.all.absent += 1;
            if self.source.present {
                return Ok(());
            }
        }
        if own && self.source.keep {
            complete(&mut utterance, line);
        }
        if utterance.id.is_empty() {
            utterance.id = format!("line {number}").into_bytes();
        }
        let answer = Answer::read(line).unwrap_or_default();
        let case = self.case(utterance, reference, winner, answer, before);
        self.all.cases.push(case);
        Ok(())
    }

    fn case(
        &mut self,
        mut utterance: Utterance,
        reference: Vec<u8>,
        winner: Option<u32>,
        answer: Answer,
        before: Option<Vec<u8>>,
    ) -> Case {
        let scorer = &mut self.scorer;
        let length = scorer.reference(&reference);
        let hypotheses = &utterance.hypotheses;
        // Lists come in first-pass order; in our own output the one written first was chosen.
        let mut counts: Vec<Counts> = hypotheses.iter().map(|h| scorer.counts(&h.bytes)).collect();
        if counts.is_empty() {
            // Counts like a list of the empty text alone, in the intervals too.
            counts.push(Counts::missing(length));
        }
        let chosen = hypotheses.iter().position(|h| Some(h.rank) == winner).unwrap_or(0);
        self.all.cut += u64::from(hypotheses.first().is_some_and(|first| first.rank != 1));
        self.all.oracles[0].add(&counts);
        // Our order is that of the totals, where they are known, with what was decided for in front.
        let mut ours: Vec<usize> = (0..counts.len()).collect();
        if !hypotheses.is_empty() && hypotheses.iter().all(|h| !h.total.is_nan()) {
            ours.sort_by(|&a, &b| hypotheses[b].total.total_cmp(&hypotheses[a].total));
        }
        ours.sort_by_key(|&at| at != chosen);
        self.all.oracles[1].add(&ours.iter().map(|&at| counts[at]).collect::<Vec<_>>());
        let text = |at: usize| hypotheses.get(at).map(|h| h.bytes.clone()).unwrap_or_default();
        let after = answer.text.as_ref().map_or_else(|| text(chosen), |text| text.clone().into_bytes());
        let counts = [
            before.as_ref().map_or(counts[0], |before| scorer.counts(before)),
            if answer.text.is_some() { scorer.counts(&after) } else { counts[chosen] },
        ];
        let before = before.unwrap_or_else(|| text(0));
        let speaker = self.source.scoring.speaker(&utterance).map(<[u8]>::to_vec);
        let id = std::mem::take(&mut utterance.id);
        let list = self.source.keep.then(|| Utterance { reference: Some(reference.clone()), ..utterance });
        Case { id, speaker, reference, before, after, counts, answer, list, chosen }
    }
}

impl Case {
    /// The answer's words with their confidences.
    pub fn words(&self) -> Vec<Word> {
        let word = |word: &jsonl::AnswerWord| Word {
            bytes: word.word.clone().into_bytes(),
            confidence: word.confidence,
        };
        self.answer.words.iter().map(word).collect()
    }
}

/// Features of our own that a reader without models passes over: a mix, counts, the total.
fn complete(utterance: &mut Utterance, line: &[u8]) {
    for (rank, scores) in jsonl::scores(line) {
        let Some(hypothesis) = utterance.hypotheses.iter_mut().find(|h| h.rank == rank) else { continue };
        for (name, value) in scores {
            if name == "total" {
                hypothesis.total = value;
            } else if hypothesis.feature(&name).is_none() {
                hypothesis.set(&Name::from(name), value);
            }
        }
    }
}

/// The text decided for of every utterance of another system, by id, and how many could not be read.
fn answers(path: &Path, formats: &FormatArgs, messages: &Messages) -> Result<(Texts, u64)> {
    let mut texts = Texts::new();
    let unread = lists::each(path, formats, None, messages, &mut |Listed { number, line, record }| {
        let winner = record.winner();
        let chosen = record.utterance.hypotheses.iter().find(|h| Some(h.rank) == winner);
        let own = Answer::read(line).and_then(|answer| answer.text).map(String::into_bytes);
        let text = own.or_else(|| chosen.map(|h| h.bytes.clone())).unwrap_or_default();
        let id = record.utterance.id;
        if id.is_empty() || texts.contains_key(&id) {
            let what = if id.is_empty() { "has no id" } else { "has the id of an earlier one" };
            return Err(Error::Config(format!(
                "{}: line {number} {what}: systems are compared by id",
                path.display()
            )));
        }
        texts.insert(id, text);
        Ok(())
    })?;
    Ok((texts, unread))
}
