//! What the first records tell about the set-up, said early rather than found in the results.

use std::collections::BTreeMap;

use super::stage::Plan;
use super::{Event, StreamOptions};
use crate::combine::deviation;
use crate::consensus::Decision;
use crate::formats::{Chunk, Format, Reader};
use crate::nbest::{Name, Utterance};
use crate::tokens::Fit;
use crate::{Error, Result};

/// Records looked at.
const LOOKED_AT: u64 = 100;

/// A spread this many times wider or narrower than where the weights were tuned is another scale.
const OTHER_SCALE: f64 = 3.0;

impl StreamOptions {
    /// Whether what is asked for has a place in the format that comes out; warnings about what changes
    /// nothing. [`rescore`](super::rescore) asks at the first record; whoever knows the format before may ask
    /// before.
    ///
    /// # Errors
    /// [`Error::Config`] where old scores would stand among totals, or words have no hypothesis.
    pub fn fits(&self, best_only: bool, out: Format) -> Result<Vec<String>> {
        if matches!(out, Format::Jsonl | Format::Json) {
            return Ok(Vec::new());
        }
        let alone = self.nbest == Some(1)
            || self.answer.keep_scores
            || matches!(out, Format::Trn | Format::Ref | Format::Ctm);
        if best_only && !alone {
            return Err(Error::Config(format!(
                "--best-only leaves hypotheses without a total, and `{out}` has no place to say so; add --nbest 1, \
                 --keep-scores or --output-format jsonl"
            )));
        }
        if self.decision == Decision::Rover {
            return Err(Error::Config(format!(
                "--consensus rover gives words that need not be those of a hypothesis, and `{out}` has no place \
                 for them; add --output-format jsonl, or use --consensus mbr"
            )));
        }
        let asked =
            [("--confidence", self.confidence), ("--explain", self.explain), ("--timings", self.timings)];
        let warning =
            |flag| format!("{flag} changes nothing: `{out}` has no place for it; add --output-format jsonl");
        Ok(asked.into_iter().filter(|(_, given)| *given).map(|(flag, _)| warning(flag)).collect())
    }
}

/// Looks at the first records: the formula at once, vocabulary and scale after a hundred.
pub(super) struct First<'a> {
    plan: &'a Plan,
    options: &'a StreamOptions,
    seen: u64,
    formula: bool,
    fits: Vec<(String, Fit)>,
    /// Models that read token ids: the hash of their vocabulary, and whether a list had such ids.
    ids: BTreeMap<Name, (u64, bool)>,
    /// Standard deviations within the lists, by feature.
    spread: BTreeMap<String, Vec<f64>>,
}

impl<'a> First<'a> {
    pub fn new(plan: &'a Plan, options: &'a StreamOptions) -> Self {
        let fits = plan.rescorer.names().map(|name| (name.to_string(), Fit::new(&**name))).collect();
        Self { plan, options, seen: 0, formula: false, fits, ids: BTreeMap::new(), spread: BTreeMap::new() }
    }

    /// Looks at one record, unless enough were seen.
    ///
    /// # Errors
    /// [`Error::Config`] where weights or names do not fit the first list.
    pub fn look(&mut self, reader: &mut Reader, chunk: &Chunk, tell: &(dyn Fn(Event) + Sync)) -> Result<()> {
        if self.seen >= LOOKED_AT {
            return Ok(());
        }
        let Ok(record) = reader.read(chunk) else { return Ok(()) };
        if record.utterance.hypotheses.is_empty() {
            return Ok(());
        }
        if !self.formula {
            self.formula = true;
            let out = self.options.answer.format.unwrap_or(chunk.format);
            for warning in self.options.fits(self.plan.rescorer.is_best_only(), out)? {
                tell(Event::Warning(warning));
            }
            if let Some(name) = record.clash() {
                return Err(Error::Config(format!(
                    "the lists have a feature `{name}` of their own, and so has this program: if they were rescored \
                     before, take the lists of the recogniser; else rename it, or the model (NAME=FILE)"
                )));
            }
            self.plan.rescorer.combination().check(&record.utterance)?;
            let lists = chunk.format.formula(&self.plan.given);
            if !lists.is_empty() {
                tell(Event::Lists(format!("{}: {lists}", chunk.format)));
            }
            let formula = self.plan.rescorer.formula(&record.utterance);
            tell(Event::Formula(formula.to_string()));
            let combination = self.plan.rescorer.combination();
            for name in combination.weights.spread.keys() {
                let own = combination.own.iter().any(|own| **own == **name);
                if !own && !formula.terms.iter().any(|(term, _)| **term == **name) {
                    tell(Event::Warning(format!(
                        "the weights were tuned beside `{name}`, which does not count here: they do not fit; run \
                         `secondpass tune` on lists like these"
                    )));
                }
            }
        }
        self.observe(&record.utterance);
        self.seen += 1;
        if self.seen == LOOKED_AT {
            self.report(tell);
        }
        Ok(())
    }

    /// Says what was found if the stream was shorter than that.
    pub fn finish(self, tell: &(dyn Fn(Event) + Sync)) {
        if self.seen < LOOKED_AT {
            self.report(tell);
        }
    }

    fn observe(&mut self, utterance: &Utterance) {
        let rescorer = &self.plan.rescorer;
        for (name, hash, read) in rescorer.readers_of_ids(utterance) {
            self.ids.entry(name).or_insert((hash, false)).1 |= read;
        }
        // The first hypothesis has the words that most of its list share.
        for hypothesis in utterance.hypotheses.iter().take(1) {
            for (name, fit) in &mut self.fits {
                if let Some((vocab, text)) = rescorer.text(name) {
                    fit.observe(vocab, text, &rescorer.markers().words(&hypothesis.bytes));
                }
            }
        }
        for name in rescorer.combination().weights.spread.keys() {
            let values: Option<Vec<f64>> = utterance.hypotheses.iter().map(|h| h.feature(name)).collect();
            if let Some(values) =
                values.filter(|values| values.len() > 1 && values.iter().all(|v| v.is_finite()))
            {
                self.spread.entry(name.clone()).or_default().push(deviation(&values));
            }
        }
    }

    fn report(&self, tell: &(dyn Fn(Event) + Sync)) {
        for warning in self.fits.iter().flat_map(|(_, fit)| fit.warnings()) {
            tell(Event::Warning(warning));
        }
        for (name, (hash, _)) in self.ids.iter().filter(|(_, (_, read))| !read) {
            tell(Event::Warning(format!(
                "{name}: ids = true, but none of the first {} lists has token ids of its vocabulary ({hash:016x}): \
                 their texts are spelled",
                self.seen
            )));
        }
        for (name, spreads) in &self.spread {
            let mut spreads = spreads.clone();
            spreads.sort_unstable_by(f64::total_cmp);
            // The median, as `tune` stores it: a stray list does not decide.
            let ratio = spreads[spreads.len() / 2] / self.plan.rescorer.combination().weights.spread[name];
            if spreads.len() >= 10 && ratio.is_finite() && !(1.0 / OTHER_SCALE..=OTHER_SCALE).contains(&ratio)
            {
                tell(Event::Warning(format!(
                    "`{name}` spreads {ratio:.2} times as wide as where the weights were tuned: its scale is another; \
                     run `secondpass tune` on lists like these"
                )));
            }
        }
    }
}
