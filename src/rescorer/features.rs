//! From texts to each model's tokens, and from its scores to features.

use std::sync::Arc;

use super::flight::{Member, WordScore};
use super::texts::Texts;
use super::{Interpolation, Lm, Shared};
use crate::combine::{MIX, WORDS, mix};
use crate::lm::Scores;
use crate::nbest::{Hypothesis, Name, Utterance};
use crate::tokens::{Encoded, Vocab};
use crate::trie::{ROOT, Trie};
use crate::{Error, Result};

/// How one model reads the hypotheses of one utterance.
#[derive(Default)]
pub(super) struct View {
    pub trie: Arc<Trie>,
    /// Unknown words of each hypothesis.
    pub oov: Vec<u32>,
    /// Rank of each hypothesis, in the order of the trie's ends.
    ranks: Vec<u32>,
    /// For mixing and racing: tokens of each original word, and whether all of them are known.
    pub words: Vec<Vec<(u32, bool)>>,
    /// Whether paths run from the last word to the first.
    pub backward: bool,
    /// Whether the first word needs no mark that a word starts.
    pub unmarked: bool,
}

impl View {
    /// Where the hypothesis with this first-pass rank stands among the ends.
    pub fn index_of(&self, rank: u32) -> usize {
        self.ranks.iter().position(|&other| other == rank).unwrap_or(0)
    }

    /// The same of the hypotheses with these ranks alone.
    pub fn only(&self, ranks: &[u32]) -> Self {
        let at: Vec<usize> = ranks.iter().map(|&rank| self.index_of(rank)).collect();
        let ends = at.iter().map(|&at| self.trie.ends[at]).collect();
        Self {
            trie: Arc::new(Trie { ends, ..(*self.trie).clone() }),
            oov: at.iter().map(|&at| self.oov[at]).collect(),
            ranks: ranks.to_vec(),
            words: at.iter().map(|&at| self.words[at].clone()).collect(),
            ..*self
        }
    }
}

/// Sets the feature `words`.
pub(super) fn count_words(utterance: &mut Utterance, texts: &Texts) {
    let name: Name = WORDS.into();
    for (at, hypothesis) in utterance.hypotheses.iter_mut().enumerate() {
        hypothesis.set(&name, texts.of(at).len() as f64);
    }
}

/// Sets the counts of unknown words, which are known before any score.
pub(super) fn count_oov<'a>(
    utterance: &mut Utterance,
    shared: &Shared,
    views: impl Iterator<Item = &'a View>,
) {
    for (lm, view) in shared.lms.iter().zip(views) {
        for (hypothesis, &oov) in utterance.hypotheses.iter_mut().zip(&view.oov) {
            hypothesis.set(&lm.oov, f64::from(oov));
        }
    }
}

/// Spells every hypothesis for one model, or takes its token ids where they are the model's.
///
/// # Errors
/// [`Error::Record`] where such ids are no tokens of the model, or do not say which words they are.
pub(super) fn view(
    utterance: &Utterance,
    texts: &Texts,
    shared: &Shared,
    lm: &Lm,
    member: &mut Member,
    detail: bool,
) -> Result<(Trie, View)> {
    let spec = lm.model.spec();
    let mut view = View { backward: spec.backward, unmarked: spec.vocab.first_differs(), ..View::default() };
    let given = lm.ids.filter(|ids| ids.reads(utterance));
    let mixed = matches!(shared.interpolation, Interpolation::Linear { .. });
    let spanned = detail || mixed || shared.best_only.is_some();
    member.builder.start(if shared.bos { spec.vocab.bos() } else { NO_CONTEXT });
    let mut spelling = Spelling::new(&*spec.vocab, texts);
    let (mut ids, mut words) = (Vec::new(), Vec::new());
    for (at, hypothesis) in utterance.hypotheses.iter().enumerate() {
        ids.clear();
        words.clear();
        let texts = texts.of(at);
        let (mut oov, mut ordinal) = (0, 0);
        let mut spans = Vec::with_capacity(if spanned { texts.len() } else { 0 });
        if let Some(given) = hypothesis.ids.as_deref().filter(|_| given.is_some()) {
            let given = Given::read(given, &*spec.vocab).map_err(|what| told(hypothesis, lm, &what))?;
            if mixed && given.spans.len() != texts.len() {
                let what = format!(
                    "its token ids are {} words, its text {}: they cannot be mixed",
                    given.spans.len(),
                    texts.len()
                );
                return Err(told(hypothesis, lm, &what));
            }
            oov = given.spans.iter().filter(|(_, known)| !known).count() as u32;
            ordinal = given.spans.len() as u32;
            ids.extend_from_slice(given.ids);
            words.extend(
                given
                    .spans
                    .iter()
                    .zip(0..)
                    .flat_map(|(&(count, _), word)| std::iter::repeat_n(word, count as usize)),
            );
            if spanned {
                spans = given.spans;
            }
        } else {
            for &word in texts {
                let spelled = spelling.word(word, ids.is_empty(), member, lm);
                ids.extend_from_slice(spelled.ids);
                words.extend(spelled.words.iter().map(|&word| ordinal + word));
                ordinal += spelled.lm_words;
                oov += spelled.oov;
                if spanned {
                    spans.push((spelled.ids.len() as u32, spelled.oov == 0 && !spelled.ids.is_empty()));
                }
            }
        }
        if spec.backward {
            ids.reverse();
            words.iter_mut().for_each(|word| *word = ordinal - 1 - *word);
            words.reverse();
        }
        ids.push(spec.vocab.eos());
        words.push(ordinal);
        member.builder.push(&ids, &words);
        view.oov.push(oov);
        view.ranks.push(hypothesis.rank);
        view.words.push(spans);
    }
    Ok((member.builder.finish(), view))
}

/// A list's distinct words as one model spells them, each looked up when it is first met.
struct Spelling<'a> {
    texts: &'a Texts,
    /// Words before which a hypothesis has no tokens are apart where they are spelled otherwise.
    firsts: bool,
    entries: Vec<Option<Spelled>>,
    ids: Vec<u32>,
    words: Vec<u32>,
}

/// Where the tokens of a word are, and what else [`Encoded`] says.
#[derive(Clone, Copy)]
struct Spelled {
    start: usize,
    end: usize,
    lm_words: u32,
    oov: u32,
}

impl<'a> Spelling<'a> {
    fn new(vocab: &dyn Vocab, texts: &'a Texts) -> Self {
        let firsts = vocab.first_differs();
        let entries = vec![None; texts.distinct() * if firsts { 2 } else { 1 }];
        Self { texts, firsts, entries, ids: Vec::new(), words: Vec::new() }
    }

    fn word(&mut self, number: u32, first: bool, member: &mut Member, lm: &Lm) -> Encoded<'_> {
        let first = first && self.firsts;
        let at = number as usize + if first { self.texts.distinct() } else { 0 };
        let spelled = self.entries[at].unwrap_or_else(|| {
            let (vocab, word) = (&*lm.model.spec().vocab, self.texts.word(number));
            let encoded = match first {
                true => member.cache.encode_first(vocab, &lm.text, word),
                false => member.cache.encode(vocab, &lm.text, word),
            };
            let start = self.ids.len();
            self.ids.extend_from_slice(encoded.ids);
            self.words.extend_from_slice(encoded.words);
            Spelled { start, end: self.ids.len(), lm_words: encoded.lm_words, oov: encoded.oov }
        });
        self.entries[at] = Some(spelled);
        Encoded {
            ids: &self.ids[spelled.start..spelled.end],
            words: &self.words[spelled.start..spelled.end],
            lm_words: spelled.lm_words,
            oov: spelled.oov,
        }
    }
}

/// A hypothesis as the recogniser's token ids have it.
struct Given<'a> {
    ids: &'a [u32],
    /// Tokens of each word, and whether the model knows all of it.
    spans: Vec<(u32, bool)>,
}

impl<'a> Given<'a> {
    /// The tokens without a start token in front and an end token behind, cut into words.
    fn read(ids: &'a [u32], vocab: &dyn Vocab) -> Result<Self, String> {
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= vocab.size()) {
            let shown = if id == u32::MAX { "something that is none".to_owned() } else { id.to_string() };
            return Err(format!("among its token ids is {shown}, and the model has {} tokens", vocab.size()));
        }
        let ids = ids.strip_prefix(&[vocab.bos()]).unwrap_or(ids);
        let ids = ids.strip_suffix(&[vocab.eos()]).unwrap_or(ids);
        let mut spans: Vec<(u32, bool)> = Vec::new();
        for &id in ids {
            let known = Some(id) != vocab.unk();
            match spans.last_mut().filter(|_| !vocab.starts_word(id)) {
                Some((count, all)) => (*count, *all) = (*count + 1, *all && known),
                None => spans.push((1, known)),
            }
        }
        Ok(Self { ids, spans })
    }
}

fn told(hypothesis: &Hypothesis, lm: &Lm, what: &str) -> Error {
    Error::record(format!("{}: hypothesis {}: {what}", lm.name, hypothesis.rank))
}

/// Sets the features of every model that is done.
///
/// # Errors
/// [`Error::Record`] where a model's answer does not fit its job.
pub(super) fn set(
    utterance: &mut Utterance,
    shared: &Shared,
    done: &[Option<(&View, &Scores)>],
    left_out: &mut Vec<String>,
) -> Result<()> {
    for (lm, part) in shared.lms.iter().zip(done) {
        let Some((view, scores)) = part else { continue };
        let sums = sums(view, scores, shared.score_eos)?;
        for ((hypothesis, sum), &oov) in utterance.hypotheses.iter_mut().zip(sums).zip(&view.oov) {
            hypothesis.set(&lm.name, sum + shared.unk_penalty * f64::from(oov));
            hypothesis.set(&lm.oov, f64::from(oov));
        }
    }
    if let Interpolation::Linear { fast, .. } = shared.interpolation {
        let members: Vec<(f64, usize)> =
            shared.lambda.iter().zip(0..).filter_map(|(lambda, at)| Some(((*lambda)?, at))).collect();
        if members.iter().any(|&(_, at)| done[at].is_none()) {
            left_out.push(MIX.to_owned());
            return Ok(());
        }
        let name: Name = MIX.into();
        for at in 0..utterance.hypotheses.len() {
            let paths = members
                .iter()
                .map(|&(lambda, lm)| Path::new(lambda, done[lm], at, fast))
                .collect::<Result<Vec<_>>>()?;
            utterance.hypotheses[at].set(&name, mixed(paths, shared));
        }
    }
    Ok(())
}

/// The words of the first hypothesis, `</s>` last; their scores are NaN for models that score sentences.
pub(super) fn words(view: &View, scores: &Scores) -> Vec<WordScore> {
    let Some(&end) = view.trie.ends.first() else { return Vec::new() };
    let (ln, order, boundary) = match scores {
        Scores::Nodes { ln, order, boundary } => (&ln[..], &order[..], &boundary[..]),
        Scores::Sentences(_) => (&[][..], &[][..], &[][..]),
    };
    let ln = |node: u32| ln.get(node as usize).map_or(f64::NAN, |&ln| f64::from(ln));
    let mut nodes: Vec<u32> = view.trie.path(end).collect();
    nodes.reverse();
    let mut spans = view.words[0].clone();
    if view.backward {
        spans.reverse();
    }
    let mut at = 0usize;
    let mass = |node: u32| boundary.get(node as usize).copied().map_or(0.0, f64::from);
    let word = |(tokens, known): (u32, bool)| {
        let before = at.checked_sub(1).map_or(ROOT, |at| nodes[at]);
        let span = &nodes[at..at + tokens as usize];
        at += tokens as usize;
        // The sentence's end has nothing after it.
        let after = if at == nodes.len() { 0.0 } else { mass(span.last().copied().unwrap_or(before)) };
        let last = span.last().map_or(0, |&node| order.get(node as usize).copied().unwrap_or(0));
        WordScore {
            ln: span.iter().map(|&node| ln(node)).sum(),
            boundary: after - mass(before),
            tokens,
            order: last,
            known,
        }
    };
    let mut words: Vec<WordScore> = spans.into_iter().chain([(1, true)]).map(word).collect();
    if view.backward
        && let Some((_end, words)) = words.split_last_mut()
    {
        words.reverse();
    }
    words
}

/// Each hypothesis' sentence log probability.
fn sums(view: &View, scores: &Scores, score_eos: bool) -> Result<Vec<f64>> {
    let trie = &view.trie;
    match scores {
        Scores::Sentences(sums) if sums.len() == trie.ends.len() => Ok(sums.clone()),
        Scores::Nodes { ln, .. } if ln.len() == trie.len() => {
            let mut sums = vec![0.0; ln.len()];
            for node in 1..ln.len() {
                sums[node] = sums[trie.parent[node] as usize] + f64::from(ln[node]);
            }
            let last = |&end: &u32| if score_eos { end } else { trie.parent[end as usize] };
            Ok(trie.ends.iter().map(|end| sums[last(end) as usize]).collect())
        }
        _ => Err(Error::record("a model gave scores that do not fit its job")),
    }
}

/// One hypothesis' nodes in one member of the mix.
struct Path<'a> {
    lambda: f64,
    nodes: Vec<u32>,
    words: &'a [(u32, bool)],
    ln: &'a [f32],
    boundary: &'a [f32],
    unmarked: bool,
    at: usize,
}

impl<'a> Path<'a> {
    fn new(lambda: f64, part: Option<(&'a View, &'a Scores)>, hypothesis: usize, fast: bool) -> Result<Self> {
        let Some((view, Scores::Nodes { ln, boundary, .. })) = part else {
            return Err(Error::record("a member of the mix gave no word scores"));
        };
        let mut nodes: Vec<u32> = view.trie.path(view.trie.ends[hypothesis]).collect();
        nodes.reverse();
        let boundary = if fast { &[][..] } else { &boundary[..] };
        let (words, unmarked) = (&view.words[hypothesis][..], view.unmarked);
        Ok(Self { lambda, nodes, words, ln, boundary, unmarked, at: 0 })
    }

    /// ln P of the next `tokens` tokens as one word: their product, times P(a word starts or the
    /// sentence ends) after it over the same before it. The sentence's end has nothing after it.
    fn next(&mut self, tokens: u32, end: bool) -> f64 {
        let before = self.at.checked_sub(1).map_or(ROOT, |at| self.nodes[at]);
        let span = &self.nodes[self.at..self.at + tokens as usize];
        self.at += tokens as usize;
        let after = span.last().copied().unwrap_or(before);
        let product: f64 = span.iter().map(|&node| f64::from(self.ln[node as usize])).sum();
        if self.boundary.is_empty() {
            return product;
        }
        // At the start of a sentence a word starts for certain, where words are marked only between them.
        let mass = |node: u32| match node == ROOT && self.unmarked {
            true => 0.0,
            false => f64::from(self.boundary[node as usize]),
        };
        product + if end { 0.0 } else { mass(after) } - mass(before)
    }
}

/// The sum over words of ln of the mixture. A word that only some members know is scored by
/// those alone; one that nobody knows by all, with the penalty for unknown words.
fn mixed(mut paths: Vec<Path<'_>>, shared: &Shared) -> f64 {
    let words = paths.first().map_or(0, |path| path.words.len());
    let mut total = 0.0;
    let mut members = Vec::with_capacity(paths.len());
    for word in 0..words {
        members.clear();
        for path in &mut paths {
            let (tokens, knows) = path.words[word];
            members.push((path.lambda, tokens, knows, path.next(tokens, false)));
        }
        total += blend(members.iter().copied(), shared.unk_penalty);
    }
    if shared.score_eos {
        let end: Vec<(f64, f64)> = paths.iter_mut().map(|path| (path.lambda, path.next(1, true))).collect();
        total += mix(end.into_iter());
    }
    total
}

/// ln of one word's mixture: for each member its share, the word's tokens, whether it knows the word, and
/// ln p. A word that only some know is scored by those alone; one that nobody knows by all, with the penalty.
pub(super) fn blend(members: impl Iterator<Item = (f64, u32, bool, f64)> + Clone, unk_penalty: f64) -> f64 {
    let known = members.clone().any(|member| member.2);
    let counted = members.filter(|&(_, tokens, knows, _)| tokens > 0 && (knows || !known));
    let counted = counted.map(|(lambda, _, knows, ln)| (lambda, if knows { ln } else { ln + unk_penalty }));
    let count = counted.clone().count();
    if count == 0 {
        return 0.0;
    }
    let share: f64 = counted.clone().map(|member| member.0).sum();
    if share == 0.0 {
        // Known only to members that the lambdas silence: they have to do.
        return mix(counted.map(|member| (1.0, member.1))) - (count as f64).ln();
    }
    mix(counted) - share.ln()
}

/// The root's token where histories start from nothing: no model's `<s>`.
const NO_CONTEXT: u32 = u32::MAX;
