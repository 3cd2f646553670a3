//! Best-first search for the best path (the race): hypotheses are scored in the order of their chance to win, and no further
//! than they can.
//!
//! The n-gram and the first pass are known from the start. A word that the neural model has not scored
//! has natural log probability at most 0, which under linear interpolation bounds the word's part on both
//! sides: `ln((1 - L) p_ngram) <= ln p <= ln(L + (1 - L) p_ngram)`. A hypothesis whose total cannot reach
//! that of one that is scored to its end is out: the winner is certain. With a risk, one is out where it
//! is unlikely to: unscored words are expected to have the scores that the same words have elsewhere in
//! the list (see [`Tail`]), as lattice rescoring takes equal n-gram histories for one (Liu et al.,
//! IEEE/ACM TASLP 2016; Xu et al., ICASSP 2018).
//!
//! It goes in rounds: each asks for the next word of some hypotheses, and is over when all of them are
//! known. What else comes to be known meanwhile, by other utterances or by luck of a batch, is not looked
//! at. So who is given up depends on the list alone, and `tune`, which runs races of lists whose scores it
//! has, sees what rescoring will do.

use super::features::blend;
use super::tail::Tail;
use super::word_trie::{ORDERS, WordTrie};

/// How the words' scores make a total.
#[derive(Debug, Clone, Default)]
pub(super) struct Recipe {
    /// Models whose scores come word by word, with the weight of their sums.
    pub racers: Vec<(usize, f64)>,
    /// A model that is known from the start and says what to expect of the others.
    pub guide: Option<usize>,
    /// Members of the mix and their shares.
    pub members: Vec<(usize, f64)>,
    pub mix_weight: f64,
    pub unk_penalty: f64,
}

/// One list's race.
pub(super) struct BestFirst {
    pub words: WordTrie,
    recipe: Recipe,
    tail: Tail,
    margin: f64,
    width: usize,
    /// How far below the best total a hypothesis is still wanted.
    slack: f64,
    /// What is known of each hypothesis' total from the start.
    fixed: Vec<f64>,
    /// Of each word: its part of the total, or the most it can be and what is expected.
    part: Vec<Part>,
    /// What the round asks for: hypotheses and their next words.
    asked: Vec<(usize, u32)>,
    /// Words not known yet, predecessors first.
    unknown: Vec<u32>,
    /// For each racer and context: sums of its scores and the guide's, and their number.
    alike: Vec<Vec<(f64, f64, u32)>>,
    /// By word, from the start of the sentence.
    sums: Vec<Sum>,
    /// Whether a score is not finite: the rules for such lists need every score.
    pub broken: bool,
}

#[derive(Clone, Copy)]
struct Part {
    known: bool,
    upper: f64,
    mean: f64,
    variance: f64,
    /// Words alike that had been seen when it was last estimated.
    seen: u32,
}

#[derive(Clone, Copy, Default)]
struct Sum {
    upper: f64,
    mean: f64,
    variance: f64,
    /// The first unknown word on the way; 0 if there is none.
    next: u32,
}

impl BestFirst {
    pub fn new(
        words: WordTrie,
        recipe: Recipe,
        fixed: Vec<f64>,
        margin: f64,
        width: usize,
        tail: &Tail,
    ) -> Self {
        let count = words.len();
        let open = Part { known: false, upper: 0.0, mean: 0.0, variance: 0.0, seen: u32::MAX };
        let mut race = Self {
            alike: vec![vec![(0.0, 0.0, 0); words.distinct]; recipe.racers.len()],
            part: vec![open; count],
            asked: Vec::new(),
            unknown: (1..count as u32).collect(),
            sums: vec![Sum::default(); count],
            words,
            recipe,
            tail: tail.clone(),
            margin,
            width: width.max(1),
            slack: 0.0,
            fixed,
            broken: false,
        };
        race.part[0].known = true;
        for word in 1..count {
            // The most that a racer's score can do: 0 where it counts for the total, else nothing at all.
            race.part[word].upper =
                race.total(word, &|_, weight| if weight < 0.0 { f64::NEG_INFINITY } else { 0.0 });
        }
        race
    }

    /// The same, and hypotheses whose totals may come so near the best are not given up either: the winner is
    /// still to be found among them.
    pub fn with_rivals(self, slack: f64) -> Self {
        Self { slack, ..self }
    }

    /// Takes the words that the round asked for, once all are known: `value` gives a racer's score of a word
    /// after another. Until then, which hypotheses are to be scored on.
    pub fn reveal(
        &mut self,
        value: impl Fn(&WordTrie, usize, usize, usize) -> Option<f64>,
    ) -> Option<Vec<bool>> {
        let scores = |&(_, word): &(usize, u32)| {
            let (word, before) = (word as usize, self.words.parent[word as usize] as usize);
            let racers = self.recipe.racers.iter();
            racers.map(|&(lm, _)| value(&self.words, lm, word, before)).collect::<Option<Vec<f64>>>()
        };
        let found: Vec<_> = self.asked.iter().map(scores).collect();
        if found.contains(&None) {
            let mut wanted = vec![false; self.fixed.len()];
            for (&(at, _), _) in self.asked.iter().zip(&found).filter(|(_, found)| found.is_none()) {
                wanted[at] = true;
            }
            return Some(wanted);
        }
        self.broken |= found.iter().flatten().flatten().any(|score| !score.is_finite());
        for ((_, word), scores) in
            std::mem::take(&mut self.asked).into_iter().zip(found.into_iter().flatten())
        {
            let word = word as usize;
            if self.part[word].known {
                continue; // another hypothesis has it too
            }
            for (&(lm, _), score) in self.recipe.racers.iter().zip(scores) {
                if let Some(reading) = &mut self.words.readings[lm] {
                    reading.values[word] = score;
                }
            }
            self.learn(word);
            let known = self.total(word, &|lm, _| self.value(lm, word));
            self.part[word] = Part { known: true, upper: known, mean: known, variance: 0.0, seen: 0 };
        }
        self.unknown.retain(|&word| !self.part[word as usize].known);
        None
    }

    /// Begins the next round; `false` when the winner is known.
    pub fn advance(&mut self) -> bool {
        self.estimate();
        for word in 1..self.words.len() {
            let before = self.sums[self.words.parent[word] as usize];
            let part = self.part[word];
            self.sums[word] = Sum {
                upper: before.upper + part.upper,
                mean: before.mean + part.mean,
                variance: before.variance + part.variance,
                next: if before.next != 0 || part.known { before.next } else { word as u32 },
            };
        }
        let finished = |&(_, end): &(f64, u32)| self.sums[end as usize].next == 0;
        let each = || self.fixed.iter().copied().zip(self.words.ends.iter().copied());
        let best = each().filter(finished).map(|(fixed, end)| fixed + self.sums[end as usize].mean);
        let best = best.fold(f64::NEG_INFINITY, f64::max);
        // What another order of summing could change.
        let tolerance = 1e-9 * (1.0 + best.abs());
        let mut open: Vec<(f64, u32, (usize, u32))> = Vec::new();
        for (at, (fixed, end)) in each().enumerate() {
            let sum = self.sums[end as usize];
            let mut most = fixed + sum.upper;
            let expected = fixed + sum.mean;
            if self.margin.is_finite() {
                most = most.min(expected + self.margin * sum.variance.sqrt());
            }
            // Only the exact score can settle a tie.
            if sum.next != 0 && (best == f64::NEG_INFINITY || most >= best - self.slack - tolerance) {
                // One row answers for all words after a history.
                open.push((expected.min(most), self.words.parent[sum.next as usize], (at, sum.next)));
            }
        }
        open.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.2.cmp(&b.2)));
        let mut ahead: Vec<u32> = Vec::with_capacity(self.width);
        for (_, history, asked) in open {
            if !ahead.contains(&history) {
                if ahead.len() == self.width {
                    break;
                }
                ahead.push(history);
            }
            self.asked.push(asked);
        }
        !self.asked.is_empty()
    }

    /// The first of the hypotheses with the greatest total, among those scored to their end.
    pub fn winner(&self) -> Option<usize> {
        let total = |at: usize| self.fixed[at] + self.sums[self.words.ends[at] as usize].mean;
        let finished = (0..self.fixed.len()).filter(|&at| self.sums[self.words.ends[at] as usize].next == 0);
        finished.fold(None, |best, at| match best {
            Some(best) if total(best) >= total(at) => Some(best),
            _ => Some(at),
        })
    }

    /// Whether a hypothesis is scored to its end.
    pub fn finished(&self, hypothesis: usize) -> bool {
        self.sums[self.words.ends[hypothesis] as usize].next == 0
    }

    /// What is expected of a racer's score of a word, of which kind the expectation is, and what the guide
    /// says beside what it said of words alike.
    pub fn expectation(&self, racer: usize, word: usize) -> (f64, usize, f64) {
        let guide = self.recipe.guide.map_or(0.0, |lm| self.value(lm, word));
        let guide = if guide.is_finite() { guide } else { 0.0 };
        for order in (0..ORDERS).rev() {
            let (sum, guides, count) = self.alike[racer][self.words.contexts[word][order] as usize];
            if count > 0 {
                let count = f64::from(count);
                return (sum / count, order + 1, guide - guides / count);
            }
        }
        (0.0, 0, guide)
    }

    /// The words that the round asks for.
    pub fn asked(&self) -> impl Iterator<Item = usize> + '_ {
        self.asked.iter().map(|&(_, word)| word as usize)
    }

    fn value(&self, lm: usize, word: usize) -> f64 {
        self.words.readings[lm].as_ref().map_or(f64::NAN, |reading| reading.values[word])
    }

    /// Notes a word's scores for those that are alike.
    fn learn(&mut self, word: usize) {
        let guide = self.recipe.guide.map_or(0.0, |lm| self.value(lm, word));
        let guide = if guide.is_finite() { guide } else { 0.0 };
        for at in 0..self.recipe.racers.len() {
            let value = self.value(self.recipe.racers[at].0, word);
            if value.is_finite() {
                for context in self.words.contexts[word] {
                    let alike = &mut self.alike[at][context as usize];
                    *alike = (alike.0 + value, alike.1 + guide, alike.2 + 1);
                }
            }
        }
    }

    /// Estimates the unknown words anew that have more words alike than before.
    fn estimate(&mut self) {
        for at in 0..self.unknown.len() {
            let word = self.unknown[at] as usize;
            let contexts = &self.words.contexts[word];
            let seen =
                contexts.iter().map(|&context| self.alike.first().map_or(0, |a| a[context as usize].2)).sum();
            if self.part[word].seen == seen {
                continue;
            }
            let racers = self.recipe.racers.len();
            let mut means = Vec::with_capacity(racers);
            let mut deviations = Vec::with_capacity(racers);
            for racer in 0..racers {
                let (base, kind, guide) = self.expectation(racer, word);
                let base = if kind == 0 { self.tail.intercept } else { base };
                means.push((base + self.tail.slope[kind] * guide).min(0.0));
                deviations.push(self.tail.deviation[kind]);
            }
            let place = |lm: usize| self.recipe.racers.iter().position(|&(racer, _)| racer == lm);
            let at_mean = |lm: usize, _| place(lm).map_or_else(|| self.value(lm, word), |at| means[at]);
            let mean = self.total(word, &at_mean);
            let mut variance = 0.0;
            for (racer, (&racer_mean, &deviation)) in means.iter().zip(&deviations).enumerate() {
                // How much the total follows the racer, between where it is expected and a deviation above.
                let above = |lm: usize, weight: f64| match place(lm) {
                    Some(at) if at == racer => (racer_mean + deviation).min(0.0),
                    _ => at_mean(lm, weight),
                };
                let moved = self.total(word, &above) - mean;
                // Cut off at 0 it would say too little.
                let cut = (racer_mean + deviation).min(0.0) - racer_mean;
                let whole = if cut > 0.0 { moved * deviation / cut } else { 0.0 };
                variance += whole * whole;
            }
            let part = &mut self.part[word];
            let mean = if mean.is_finite() { mean.min(part.upper) } else { part.upper };
            *part = Part { mean, variance, seen, ..*part };
        }
    }

    /// A word's part of the total, with each model's score as `score` gives it (by model and its weight in
    /// the total) for racers, and as known for the others.
    fn total(&self, word: usize, score: &dyn Fn(usize, f64) -> f64) -> f64 {
        let racer = |lm: usize| self.recipe.racers.iter().any(|&(racer, _)| racer == lm);
        let mut total = 0.0;
        for &(lm, weight) in &self.recipe.racers {
            if weight != 0.0 {
                total += weight * score(lm, weight);
            }
        }
        if self.recipe.mix_weight != 0.0 && !self.recipe.members.is_empty() {
            let members = self.recipe.members.iter().filter_map(|&(lm, lambda)| {
                let reading = self.words.readings[lm].as_ref()?;
                let ln = if racer(lm) { score(lm, self.recipe.mix_weight) } else { reading.values[word] };
                Some((lambda, reading.tokens[word], reading.knows[word], ln))
            });
            total += self.recipe.mix_weight * blend(members, self.recipe.unk_penalty);
        }
        total
    }
}
