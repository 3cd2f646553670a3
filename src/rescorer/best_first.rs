//! Best-first search for the winner (the race): hypotheses are scored in the order of their chance to
//! win, and no further than they can.
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
use super::word_trie::WordTrie;

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
    /// What the round asks for: words, each once, ..
    requested: Vec<u32>,
    /// .. and whose next words they are: hypotheses, and which of `requested`.
    asked: Vec<(usize, u32)>,
    /// For each racer and context: sums of its scores and the guide's, and their number.
    alike: Vec<Vec<(f64, f64, u32)>>,
    /// By word, from the start of the sentence.
    sums: Vec<Sum>,
    tree: Tree,
    /// The words of each context of order 0. Words alike in a longer one are among them.
    same: Groups,
    /// Contexts of order 0 whose words' scores came to be known since the last round.
    heard: Vec<u32>,
    /// Places in the tree of words whose parts changed since the last round.
    moved: Vec<u32>,
    scratch: Scratch,
    /// Whether a score is not finite: the rules for such lists need every score.
    pub broken: bool,
}

#[derive(Clone, Copy)]
struct Part {
    known: bool,
    upper: f64,
    mean: f64,
    variance: f64,
    /// When it was last estimated: how many words alike there were, and how much alike.
    seen: (u32, u8),
}

#[derive(Clone, Copy, Default)]
struct Sum {
    upper: f64,
    mean: f64,
    variance: f64,
    /// The first unknown word on the way; 0 if there is none.
    next: u32,
}

/// Memory that rounds use again.
#[derive(Default)]
struct Scratch {
    means: Vec<f64>,
    deviations: Vec<f64>,
    /// By word: the round that last asked for it, and its place among those that it asked for.
    asked: Vec<(u32, u32)>,
    round: u32,
    /// Hypotheses that may win: what is expected of them, the history to run, the next word.
    open: Vec<(f64, u32, (usize, u32))>,
    /// Histories that the round runs.
    ahead: Vec<u32>,
    /// Scores of the words asked for, racer by racer.
    found: Vec<Option<f64>>,
}

/// The words in an order in which all that come after a word, in whatever hypothesis, follow it at once.
struct Tree {
    order: Vec<u32>,
    /// By word: its place in that order, and where those after it end.
    span: Vec<(u32, u32)>,
}

impl Tree {
    fn new(parent: &[u32]) -> Self {
        let mut sizes = vec![1; parent.len()];
        for word in (1..parent.len()).rev() {
            sizes[parent[word] as usize] += sizes[word];
        }
        let (mut order, mut span) = (vec![0; parent.len()], vec![(0, 0); parent.len()]);
        // Of each word, where the next of those after it goes.
        let mut next = vec![1; parent.len()];
        for word in 1..parent.len() {
            let next_sibling = &mut next[parent[word] as usize];
            let place = *next_sibling;
            *next_sibling += sizes[word];
            order[place as usize] = word as u32;
            span[word] = (place, place + sizes[word]);
            next[word] = place + 1;
        }
        Self { order, span }
    }
}

/// Numbers from 1, divided into groups.
struct Groups {
    /// Where each group begins among the members.
    first: Vec<u32>,
    members: Vec<u32>,
}

impl Groups {
    /// `of` gives the group of each number.
    fn new(of: impl Iterator<Item = u32> + Clone, groups: usize) -> Self {
        let mut first = vec![0; groups + 1];
        of.clone().for_each(|group| first[group as usize + 1] += 1);
        for group in 0..groups {
            first[group + 1] += first[group];
        }
        let mut place = first.clone();
        let mut members = vec![0; first[groups] as usize];
        for (number, group) in (1..).zip(of) {
            let place = &mut place[group as usize];
            members[*place as usize] = number;
            *place += 1;
        }
        Self { first, members }
    }

    fn of(&self, group: u32) -> &[u32] {
        &self.members[self.first[group as usize] as usize..self.first[group as usize + 1] as usize]
    }
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
        let open = Part { known: false, upper: 0.0, mean: 0.0, variance: 0.0, seen: (u32::MAX, 0) };
        let same = Groups::new(words.contexts[1..].iter().map(|contexts| contexts[0]), words.distinct);
        let mut race = Self {
            // The first round looks at everything.
            heard: (0..words.distinct as u32).filter(|&context| !same.of(context).is_empty()).collect(),
            same,
            moved: (1..count as u32).collect(),
            tree: Tree::new(&words.parent),
            scratch: Scratch { asked: vec![(0, 0); count], ..Scratch::default() },
            alike: vec![vec![(0.0, 0.0, 0); words.distinct]; recipe.racers.len()],
            part: vec![open; count],
            requested: Vec::new(),
            asked: Vec::new(),
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
                race.total(word, |_, weight| if weight < 0.0 { f64::NEG_INFINITY } else { 0.0 });
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
        let racers = self.recipe.racers.len();
        let mut found = std::mem::take(&mut self.scratch.found);
        found.clear();
        for &word in &self.requested {
            let (word, before) = (word as usize, self.words.parent[word as usize] as usize);
            found.extend(self.recipe.racers.iter().map(|&(lm, _)| value(&self.words, lm, word, before)));
        }
        let lacks = |word: u32| found[word as usize * racers..][..racers].contains(&None);
        let lacking = found.contains(&None).then(|| {
            let mut wanted = vec![false; self.fixed.len()];
            self.asked.iter().filter(|&&(_, word)| lacks(word)).for_each(|&(at, _)| wanted[at] = true);
            wanted
        });
        if lacking.is_none() {
            self.broken |= found.iter().flatten().any(|score| !score.is_finite());
            self.asked.clear();
            for at in 0..self.requested.len() {
                let word = self.requested[at] as usize;
                for (&(lm, _), score) in self.recipe.racers.iter().zip(found[at * racers..].iter().flatten())
                {
                    if let Some(reading) = &mut self.words.readings[lm] {
                        reading.values[word] = *score;
                    }
                }
                self.learn(word);
                let known = self.total(word, |lm, _| self.value(lm, word));
                self.part[word] =
                    Part { known: true, upper: known, mean: known, variance: 0.0, seen: (0, 0) };
                self.moved.push(self.tree.span[word].0);
                self.heard.push(self.words.contexts[word][0]);
            }
            self.requested.clear();
        }
        self.scratch.found = found;
        lacking
    }

    /// Begins the next round; `false` when the winner is known.
    pub fn advance(&mut self) -> bool {
        self.estimate();
        self.sum();
        self.scratch.round += 1;
        let finished = |&(_, end): &(f64, u32)| self.sums[end as usize].next == 0;
        let each = || self.fixed.iter().copied().zip(self.words.ends.iter().copied());
        let best = each().filter(finished).map(|(fixed, end)| fixed + self.sums[end as usize].mean);
        let best = best.fold(f64::NEG_INFINITY, f64::max);
        // What another order of summing could change.
        let tolerance = 1e-9 * (1.0 + best.abs());
        let mut open = std::mem::take(&mut self.scratch.open);
        open.clear();
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
        open.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.2.cmp(&b.2)));
        let Scratch { ahead, asked, round, .. } = &mut self.scratch;
        ahead.clear();
        for &(_, history, (at, word)) in &open {
            if !ahead.contains(&history) {
                if ahead.len() == self.width {
                    break;
                }
                ahead.push(history);
            }
            let place = &mut asked[word as usize];
            if place.0 != *round {
                *place = (*round, self.requested.len() as u32);
                self.requested.push(word);
            }
            self.asked.push((at, place.1));
        }
        self.scratch.open = open;
        !self.asked.is_empty()
    }

    /// Makes the sums anew of words whose parts changed and of those that come after them.
    fn sum(&mut self) {
        self.moved.sort_unstable();
        let mut end = 0;
        for &place in &self.moved {
            if place < end {
                continue; // it came after another
            }
            end = self.tree.span[self.tree.order[place as usize] as usize].1;
            for &word in &self.tree.order[place as usize..end as usize] {
                let before = self.sums[self.words.parent[word as usize] as usize];
                let part = &self.part[word as usize];
                self.sums[word as usize] = Sum {
                    upper: before.upper + part.upper,
                    mean: before.mean + part.mean,
                    variance: before.variance + part.variance,
                    next: if before.next != 0 || part.known { before.next } else { word },
                };
            }
        }
        self.moved.clear();
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
        if let Some((kind, sum, guides, count)) = self.nearest(racer, word) {
            let count = f64::from(count);
            return (sum / count, kind, guide - guides / count);
        }
        (0.0, 0, guide)
    }

    /// Of the words heard so far that are most alike: how much so (from 1), sums of the racer's scores and the
    /// guide's, and their number.
    fn nearest(&self, racer: usize, word: usize) -> Option<(usize, f64, f64, u32)> {
        let alike = self.alike.get(racer)?;
        self.words.contexts[word].iter().enumerate().rev().find_map(|(order, &context)| {
            let (sum, guides, count) = alike[context as usize];
            (count > 0).then_some((order + 1, sum, guides, count))
        })
    }

    /// The next word of each hypothesis that the round asks for.
    pub fn asked(&self) -> impl Iterator<Item = usize> + '_ {
        self.asked.iter().map(|&(_, word)| self.requested[word as usize] as usize)
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

    /// Estimates the unknown words anew that have more words alike than before, or some that are more alike.
    fn estimate(&mut self) {
        let mut heard = std::mem::take(&mut self.heard);
        heard.sort_unstable();
        heard.dedup();
        let mut means = std::mem::take(&mut self.scratch.means);
        let mut deviations = std::mem::take(&mut self.scratch.deviations);
        for &context in &heard {
            for at in self.same.first[context as usize]..self.same.first[context as usize + 1] {
                let word = self.same.members[at as usize];
                if !self.part[word as usize].known
                    && let Some(part) = self.estimated(word as usize, &mut means, &mut deviations)
                {
                    let old = std::mem::replace(&mut self.part[word as usize], part);
                    if (old.mean, old.variance) != (part.mean, part.variance) {
                        self.moved.push(self.tree.span[word as usize].0);
                    }
                }
            }
        }
        heard.clear();
        (self.heard, self.scratch.means, self.scratch.deviations) = (heard, means, deviations);
    }

    /// What is expected of a word's part; `None` if that is what it was.
    fn estimated(&self, word: usize, means: &mut Vec<f64>, deviations: &mut Vec<f64>) -> Option<Part> {
        let racers = self.recipe.racers.len();
        let old = self.part[word];
        let seen = self.nearest(0, word).map_or((0, 0), |(kind, .., count)| (count, kind as u8));
        // Other racers may have other numbers of words alike.
        if racers == 1 && old.seen == seen {
            return None;
        }
        means.clear();
        deviations.clear();
        for racer in 0..racers {
            let (base, kind, guide) = self.expectation(racer, word);
            let base = if kind == 0 { self.tail.intercept } else { base };
            means.push((base + self.tail.slope[kind] * guide).min(0.0));
            deviations.push(self.tail.deviation[kind]);
        }
        let place = |lm: usize| self.recipe.racers.iter().position(|&(racer, _)| racer == lm);
        let at_mean = |lm: usize, _| place(lm).map_or_else(|| self.value(lm, word), |at| means[at]);
        let mean = self.total(word, at_mean);
        let mut variance = 0.0;
        // Without a margin nobody asks how sure that is.
        let unsure = if self.margin.is_finite() { &means[..] } else { &[] };
        for (racer, (&racer_mean, &deviation)) in unsure.iter().zip(&*deviations).enumerate() {
            // How much the total follows the racer, between where it is expected and a deviation above.
            let above = |lm: usize, weight: f64| match place(lm) {
                Some(at) if at == racer => (racer_mean + deviation).min(0.0),
                _ => at_mean(lm, weight),
            };
            let moved = self.total(word, above) - mean;
            // Cut off at 0 it would say too little.
            let cut = (racer_mean + deviation).min(0.0) - racer_mean;
            let whole = if cut > 0.0 { moved * deviation / cut } else { 0.0 };
            variance += whole * whole;
        }
        let mean = if mean.is_finite() { mean.min(old.upper) } else { old.upper };
        Some(Part { mean, variance, seen, ..old })
    }

    /// A word's part of the total, with each model's score as `score` gives it (by model and its weight in
    /// the total) for racers, and as known for the others.
    fn total(&self, word: usize, score: impl Fn(usize, f64) -> f64) -> f64 {
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
