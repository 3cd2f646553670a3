//! From a line to an utterance and the layout of its line.

use std::collections::HashMap;
use std::path::PathBuf;

use serde::de::IgnoredAny;

use super::features::Known;
use super::names;
use super::span::{Cursor, Span, elements, unescape};
use super::tensors;
use super::top::{Best, Top};
use super::values::{due, finite, hash, is_number, number, string, token_ids, whole};
use crate::formats::OwnNames;
use crate::{Error, Hypothesis, Name, Result, Utterance};

/// Reads records, keeping the names of their features from one to the next: one per thread.
#[derive(Debug)]
pub struct Reader {
    pub(super) own: OwnNames,
    /// Every key met as a feature. Lists repeat their keys in the same order, so the one after
    /// the last is looked at before the index is.
    pub(super) known: Vec<Known>,
    pub(super) index: HashMap<Box<[u8]>, usize>,
    pub(super) last: usize,
    /// How each feature of the hypothesis in hand was named: see [`Reader::add`].
    pub(super) priorities: Vec<u16>,
    pub(super) clash: Option<String>,
    /// Whether the confidences of the record in hand are probabilities, once it is known.
    probabilities: Option<bool>,
    /// The folder of tensors that are in files.
    tensors: Option<PathBuf>,
}

/// An utterance and where its parts lie in its line.
#[derive(Debug, Clone)]
pub struct Record {
    /// What was read, in first-pass order.
    pub utterance: Utterance,
    /// The first name in a record not our own that rescoring would overwrite. Such a record
    /// must not be written back as rescored.
    pub clash: Option<String>,
    pub(super) layout: Layout,
}

/// What writing has to know about a line.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// Whether it is our own output.
    pub own: bool,
    pub names: OwnNames,
    pub parallel: bool,
    /// The hypothesis list.
    pub list: Span,
    /// Its elements, as they stand.
    pub slots: Vec<Span>,
    /// Rank and slot of each, by rank.
    pub ranks: Vec<(u32, u32)>,
}

impl Record {
    /// First-pass rank of the hypothesis that is written first: in our own output the one that
    /// was chosen. `None` for an empty list.
    pub fn winner(&self) -> Option<u32> {
        self.layout.ranks.iter().find(|(_, slot)| *slot == 0).map(|(rank, _)| *rank)
    }

    /// Where the hypothesis of this first-pass rank lies.
    pub(in crate::formats) fn span(&self, rank: u32) -> Option<std::ops::Range<usize>> {
        let at = self.layout.ranks.binary_search_by_key(&rank, |&(rank, _)| rank).ok()?;
        let span = self.layout.slots.get(self.layout.ranks[at].1 as usize)?;
        Some(span.start..span.end)
    }

    /// Whether it is our own output, and not one that was passed on.
    pub fn rescored(&self) -> bool {
        self.layout.own
    }
}

impl Reader {
    /// A reader for records that will be given these features.
    pub fn new(own: OwnNames) -> Self {
        Self {
            own,
            known: Vec::new(),
            index: HashMap::new(),
            last: 0,
            priorities: Vec::new(),
            clash: None,
            probabilities: None,
            tensors: None,
        }
    }

    /// Reads tensors that are in files, `{"file":"utt1.npy"}`, from that folder, and from nowhere else.
    #[must_use]
    pub fn tensors_in(self, folder: Option<PathBuf>) -> Self {
        Self { tensors: folder, ..self }
    }

    /// The record in `line`, which has no line ending. One pass checks it, one finds its
    /// members, one reads its hypotheses. Never panics for any bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Record`]: not JSON, not UTF-8, or no hypothesis list, with the place in the
    /// line. Such a line can still be passed on: [`passed`](super::passed).
    pub fn read(&mut self, line: &[u8]) -> Result<Record> {
        validate(line)?;
        if self.known.len() > MAX_KNOWN {
            self.known.clear();
            self.index.clear();
        }
        self.clash = None;
        self.probabilities = None;
        let top = Top::find(line)?;
        let own = top.own(line)?;
        let (list, parallel) = top.list()?;
        let mut utterance = Utterance {
            id: top.id.0.map(|(_, span)| string(line, span)).unwrap_or_default(),
            session: top.session.0.map(|(_, span)| string(line, span)),
            reference: top.reference().map(|span| string(line, span)),
            vocabulary: top.vocabulary.0.map(|(_, span)| hash(&string(line, span))).transpose()?,
            context: tensors::read(line, top.tensors, top.encoder_out, self.tensors.as_deref())?.into(),
            ..Utterance::default()
        };
        let mut slots = Vec::new();
        let mut ranks = Vec::new();
        let mut cursor = Cursor::new(line, list.start);
        cursor.open(b'[')?;
        while cursor.item(b']')?.is_some() {
            if slots.len() >= MAX_HYPOTHESES {
                return Err(Error::record(format!("more than {MAX_HYPOTHESES} hypotheses: cut the list")));
            }
            let number = slots.len() as u32 + 1;
            let first = cursor.peek();
            let start = cursor.at;
            let mut hypothesis = Hypothesis::new(Vec::new(), number);
            let rank = match first {
                b'"' => {
                    hypothesis.bytes = string(line, cursor.value()?);
                    None
                }
                b'{' if !parallel => {
                    let len = utterance.hypotheses.last().map_or(0, |h: &Hypothesis| h.features.len());
                    hypothesis.features.reserve_exact(len);
                    self.hypothesis(&mut cursor, own, &mut hypothesis)?
                }
                _ => {
                    let what = format!(
                        "hypothesis {number} at byte {} is neither an object nor a string",
                        start + 1
                    );
                    return Err(Error::record(what + ": write {\"text\":..}"));
                }
            };
            slots.push(Span { start, end: cursor.at });
            ranks.push(rank);
            utterance.hypotheses.push(hypothesis);
        }
        if parallel {
            self.parallel(line, own, &mut utterance.hypotheses, &mut ranks)?;
        }
        let ranks = order(&mut utterance.hypotheses, &ranks)?;
        let layout = Layout { own, names: self.own.clone(), parallel, list, slots, ranks };
        Ok(Record { utterance, clash: self.clash.take(), layout })
    }

    /// Reads a hypothesis object; gives its `rank` in our own records.
    fn hypothesis(
        &mut self,
        cursor: &mut Cursor<'_>,
        own: bool,
        hypothesis: &mut Hypothesis,
    ) -> Result<Option<u32>> {
        let line = cursor.line;
        let start = cursor.at;
        let at = |what: &str| format!("hypothesis {} at byte {}: {what}", hypothesis.rank, start + 1);
        let mut text = Best::default();
        let mut seen = [false; 4];
        let mut once = |which: usize, key: &str| match std::mem::replace(&mut seen[which], true) {
            true => Err(Error::record(at(&format!("two members `{key}`: keep one")))),
            false => Ok(()),
        };
        let mut rank = None;
        let mut ids = Best::default();
        let mut confidence = None;
        self.priorities.clear();
        let features = &mut hypothesis.features;
        cursor.open(b'{')?;
        while let Some(member) = cursor.member()? {
            let key = unescape(member.key.of(line));
            let first = cursor.peek();
            match &*key {
                b"scores" => {
                    once(0, "scores")?;
                    self.scores(cursor, own, features)?;
                }
                b"feat" | b"features" if first == b'{' => {
                    once(1 + usize::from(&*key == b"feat"), "features")?;
                    self.lists(cursor, if &*key == b"feat" { 1 } else { 2 }, features)?;
                }
                b"rank" if own => {
                    once(3, "rank")?;
                    rank = Some(whole(cursor.value()?.of(line)).ok_or_else(|| {
                        Error::record(at(
                            "`rank` is no whole number from 1: drop `secondpass` to rescore it anew",
                        ))
                    })?);
                }
                b"confidence" | b"Confidence" if is_number(first) => {
                    let value = cursor.value()?;
                    confidence = Some((&*key == b"Confidence", value));
                }
                key => {
                    if let Some(place) = names::place(names::TEXT, key) {
                        let value = cursor.value()?;
                        if first == b'"' && !text.offer(place, value) {
                            return Err(Error::record(at("two members of one name for the text: keep one")));
                        }
                    } else if !matches!(first, b'[' | b'{') && names::feature(key).is_some() {
                        let known = self.known(key);
                        let value = due(key, cursor.at, first, cursor.value()?.of(line))?;
                        self.add(features, known, 3, value)?;
                    } else {
                        let value = cursor.value()?;
                        if let (b'[' | b'"', Some(place)) = (first, names::place(names::IDS, key))
                            && token_ids(line, value).is_some()
                        {
                            ids.offer(place, value);
                        }
                    }
                }
            }
        }
        let Some((place, span)) = text.0 else {
            return Err(Error::record(at("it has no text: name it `text`")));
        };
        hypothesis.bytes = string(line, span);
        hypothesis.ids = ids.0.and_then(|(_, span)| token_ids(line, span));
        if span.len() != hypothesis.bytes.len() + 2 && std::str::from_utf8(&hypothesis.bytes).is_err() {
            return Err(Error::record(at("half a surrogate pair in the text: no model can read it")));
        }
        if let Some((always, span)) = confidence {
            let mut value = number(span.of(line));
            if (always || names::TEXT[usize::from(place)] == "transcript") && !value.is_nan() {
                let probability = (0.0..=1.0).contains(&value);
                if *self.probabilities.get_or_insert(probability) != probability {
                    return Err(Error::record(at(
                        "some confidences are probabilities, some are not: name log scores `score`",
                    )));
                }
                value = if probability { finite(value.ln()) } else { value };
            }
            let known = self.known(if always { b"Confidence" } else { b"confidence" });
            self.add(features, known, 3, value)?;
        }
        self.pyctcdecode(features);
        Ok(rank)
    }

    /// Reads the value of `scores`: an object, or one number.
    fn scores(&mut self, cursor: &mut Cursor<'_>, own: bool, features: &mut Vec<(Name, f64)>) -> Result<()> {
        let line = cursor.line;
        match cursor.peek() {
            b'{' => {}
            b'n' => return cursor.value().map(drop),
            first if is_number(first) => {
                let value = number(cursor.value()?.of(line));
                let known = self.known(b"score");
                return self.add(features, known, 0, value);
            }
            _ => {
                let what = format!("`scores` at byte {} is neither an object nor a number", cursor.at + 1);
                return Err(Error::record(what + ": write {\"am\":..,\"lm\":..}"));
            }
        }
        let mut total = false;
        cursor.open(b'{')?;
        while let Some(member) = cursor.member()? {
            let key = unescape(member.key.of(line));
            let first = cursor.peek();
            let value = cursor.value()?;
            let known = self.known(&key);
            if own && self.known[known].ours {
                continue;
            }
            total |= &*key == b"total";
            if self.known[known].ours && &*key != b"total" {
                self.clash.get_or_insert_with(|| String::from_utf8_lossy(&key).into_owned());
            }
            if is_number(first) || names::feature(&key).is_some() {
                self.add(features, known, 0, due(&key, value.start, first, value.of(line))?)?;
            }
        }
        // Ours takes its place, so it must have become `score`.
        if total && features.iter().zip(&self.priorities).any(|((n, _), &p)| &**n == "score" && p != 4) {
            self.clash.get_or_insert_with(|| "total".to_owned());
        }
        Ok(())
    }

    /// Reads an object of numbers and lists of numbers.
    fn lists(&mut self, cursor: &mut Cursor<'_>, place: u16, features: &mut Vec<(Name, f64)>) -> Result<()> {
        let line = cursor.line;
        cursor.open(b'{')?;
        while let Some(member) = cursor.member()? {
            let key = unescape(member.key.of(line));
            let first = cursor.peek();
            let start = cursor.at;
            let value = cursor.value()?;
            if is_number(first) {
                let known = self.known(&key);
                self.add(features, known, place, number(value.of(line)))?;
            } else if first == b'[' {
                let mut values = Vec::new();
                let mut inner = Cursor::new(line, start);
                inner.open(b'[')?;
                while inner.item(b']')?.is_some() && values.len() <= MAX_FEATURES {
                    let first = inner.peek();
                    let value = inner.value()?;
                    values.push(is_number(first).then(|| number(value.of(line))));
                }
                let many = values.len() > 1;
                for (i, value) in values.into_iter().enumerate() {
                    let Some(value) = value else { continue };
                    let known = match many {
                        true => self.known(&[&*key, i.to_string().as_bytes()].concat()),
                        false => self.known(&key),
                    };
                    self.add(features, known, place, value)?;
                }
            }
        }
        Ok(())
    }

    /// Reads the lists that stand beside a list of texts.
    fn parallel(
        &mut self,
        line: &[u8],
        own: bool,
        hypotheses: &mut [Hypothesis],
        ranks: &mut [Option<u32>],
    ) -> Result<()> {
        // One feature after another, so that names repeat hypothesis by hypothesis only here.
        let mut priorities = vec![Vec::new(); hypotheses.len()];
        let mut best = u8::MAX;
        let mut cursor = Cursor::new(line, 0);
        cursor.open(b'{')?;
        while let Some(member) = cursor.member()? {
            let key = unescape(member.key.of(line));
            let scores = &*key == b"scores";
            let rank = &*key == b"rank" && own;
            if let (b'[', Some(place)) = (cursor.peek(), names::place(names::IDS, &key)) {
                let lists = elements(line, cursor.value()?)?;
                let all: Option<Vec<_>> = lists.iter().map(|&list| token_ids(line, list)).collect();
                if let Some(all) = all.filter(|all| all.len() == hypotheses.len() && place < best) {
                    best = place;
                    hypotheses.iter_mut().zip(all).for_each(|(hypothesis, ids)| hypothesis.ids = Some(ids));
                }
                continue;
            }
            if cursor.peek() != b'[' || !(scores || rank || names::feature(&key).is_some()) {
                cursor.value()?;
                continue;
            }
            let start = cursor.at;
            let mut n = 0;
            cursor.open(b'[')?;
            while cursor.item(b']')?.is_some() {
                let first = cursor.peek();
                let at = cursor.at;
                if let (Some(hypothesis), true) = (hypotheses.get_mut(n), scores) {
                    self.priorities = std::mem::take(&mut priorities[n]);
                    self.scores(&mut cursor, own, &mut hypothesis.features)?;
                    priorities[n] = std::mem::take(&mut self.priorities);
                } else {
                    let value = cursor.value()?;
                    if let (Some(hypothesis), true) = (hypotheses.get_mut(n), !rank && is_number(first)) {
                        self.priorities = std::mem::take(&mut priorities[n]);
                        let known = self.known(&key);
                        self.add(&mut hypothesis.features, known, 3, number(value.of(line)))?;
                        priorities[n] = std::mem::take(&mut self.priorities);
                    } else if let (Some(slot), true) = (ranks.get_mut(n), rank) {
                        *slot = Some(whole(value.of(line)).ok_or_else(|| {
                            let what = format!("`rank` at byte {} is no whole number from 1", at + 1);
                            Error::record(what + ": drop `secondpass` to rescore it anew")
                        })?);
                    }
                }
                n += 1;
            }
            if n != hypotheses.len() {
                let key = String::from_utf8_lossy(&key);
                let what = format!(
                    "`{key}` at byte {} has {n} values for {} hypotheses",
                    start + 1,
                    hypotheses.len()
                );
                return Err(Error::record(what + ": parallel lists have one for each"));
            }
        }
        for (hypothesis, priorities) in hypotheses.iter_mut().zip(priorities) {
            self.priorities = priorities;
            self.pyctcdecode(&mut hypothesis.features);
        }
        Ok(())
    }
}

/// Checks that the line is one JSON value, in UTF-8. Not bounded in depth: nothing here recurses.
fn validate(line: &[u8]) -> Result<()> {
    let text = std::str::from_utf8(line).map_err(|e| {
        let at = e.valid_up_to() + 1;
        Error::record(format!("not UTF-8 at byte {at}, as JSON must be: convert it (`iconv -t UTF-8`)"))
    })?;
    serde_json::from_str::<IgnoredAny>(text).map(drop).map_err(|e| {
        let before = line.split_inclusive(|&b| b == b'\n').take(e.line().saturating_sub(1));
        let at = before.map(<[u8]>::len).sum::<usize>() + e.column().max(1);
        let said = e.to_string();
        let said = said.split(" at line ").next().unwrap_or_default();
        let advice = match line.get(at.saturating_sub(1)) {
            Some(b'N' | b'I') => "write null for NaN and infinities",
            _ => "write one whole object per line (`jq -c .`)",
        };
        Error::record(format!("not JSON at byte {at}, {said}: {advice}"))
    })
}

/// Puts hypotheses in first-pass order; gives rank and slot of each.
fn order(hypotheses: &mut [Hypothesis], ranks: &[Option<u32>]) -> Result<Vec<(u32, u32)>> {
    let mut pairs: Vec<_> = (0..).zip(ranks).map(|(slot, rank)| (rank.unwrap_or(slot + 1), slot)).collect();
    if ranks.iter().all(Option::is_none) {
        return Ok(pairs);
    }
    let bad = |what: String| Err(Error::record(what + ": drop `secondpass` to rescore the list anew"));
    if let Some(at) = ranks.iter().position(Option::is_none) {
        return bad(format!("hypothesis {} has no `rank`", at + 1));
    }
    for (hypothesis, (rank, _)) in hypotheses.iter_mut().zip(&pairs) {
        hypothesis.rank = *rank;
    }
    pairs.sort_unstable();
    if let Some(two) = pairs.windows(2).find(|two| two[0].0 == two[1].0) {
        return bad(format!("two hypotheses of `rank` {}", two[0].0));
    }
    hypotheses.sort_by_key(|h| h.rank);
    Ok(pairs)
}

const MAX_HYPOTHESES: usize = 1 << 16;
pub(super) const MAX_FEATURES: usize = 1024;
const MAX_KNOWN: usize = 4096;
