//! Utterances, their hypotheses and named features: the data every part shares.

use std::borrow::Cow;
use std::sync::Arc;

/// A feature's name, shared by the hypotheses that carry it.
pub type Name = Arc<str>;

/// One recognised utterance: its n-best list and what came with it.
///
/// Ids and texts are bytes, not necessarily UTF-8. Hypotheses are in first-pass order until
/// the utterance is rescored, then best first.
///
/// ```
/// use secondpass::Utterance;
/// let utterance = Utterance::new("utt1", [("a cat sad", -3.1), ("a cat sat", -3.3)]);
/// assert_eq!(utterance.best().unwrap().text(), "a cat sad");
/// assert_eq!(utterance.hypotheses[1].feature("score"), Some(-3.3));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Utterance {
    /// The recogniser's name for it; may be empty.
    pub id: Vec<u8>,
    /// The conversation it belongs to, for state carried over utterances.
    pub session: Option<Vec<u8>>,
    /// What was really said, where known.
    pub reference: Option<Vec<u8>>,
    /// The candidates.
    pub hypotheses: Vec<Hypothesis>,
    /// Tensors for conditional scorers.
    pub context: Arc<[Tensor]>,
    /// Whose token ids the hypotheses have: the hash of that vocabulary, as
    /// [`Vocab::hash`](crate::tokens::Vocab::hash) defines it, where the record names it.
    pub vocabulary: Option<u64>,
    /// What became of it.
    pub status: Status,
}

/// One candidate text with its scores.
#[derive(Debug, Clone)]
pub struct Hypothesis {
    /// The text, as it came.
    pub bytes: Vec<u8>,
    /// First-pass rank, from 1.
    pub rank: u32,
    /// Named scores: natural logarithms, higher is better. `NaN` stands for a missing value.
    pub features: Vec<(Name, f64)>,
    /// The weighted sum; `NaN` before rescoring.
    pub total: f64,
    /// The recogniser's token ids, where they came with the text; `u32::MAX` stands for what is no id.
    pub ids: Option<Arc<[u32]>>,
}

/// What became of an utterance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Status {
    /// Not rescored yet.
    #[default]
    New,
    /// Rescored with every model.
    Ok,
    /// Rescored without the models named: the deadline came first.
    Partial(Vec<String>),
    /// Left in first-pass order, for this reason.
    Passed(String),
}

/// A named tensor that came with an utterance, row-major.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// The graph input it feeds.
    pub name: String,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Its values.
    pub values: Arc<[f32]>,
}

impl Utterance {
    /// An utterance whose hypotheses have one first-pass score each, `score`: a natural
    /// logarithm, higher is better.
    pub fn new<T: Into<Vec<u8>>>(
        id: impl Into<Vec<u8>>,
        hypotheses: impl IntoIterator<Item = (T, f64)>,
    ) -> Self {
        let score: Name = "score".into();
        let hypotheses = hypotheses
            .into_iter()
            .zip(1..)
            .map(|((text, value), rank)| Hypothesis {
                features: vec![(score.clone(), value)],
                ..Hypothesis::new(text, rank)
            })
            .collect();
        Self { id: id.into(), hypotheses, ..Self::default() }
    }

    /// The first hypothesis: the recogniser's before rescoring, ours after it.
    pub fn best(&self) -> Option<&Hypothesis> {
        self.hypotheses.first()
    }
}

impl Hypothesis {
    /// A hypothesis without features.
    pub fn new(text: impl Into<Vec<u8>>, rank: u32) -> Self {
        Self { bytes: text.into(), rank, features: Vec::new(), total: f64::NAN, ids: None }
    }

    /// The text, with what is not UTF-8 replaced.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }

    /// The feature of that name: a natural logarithm or a count. `None` where the list has
    /// none, `NaN` where it has one that is missing or not a number.
    pub fn feature(&self, name: &str) -> Option<f64> {
        self.features.iter().find(|(n, _)| &**n == name).map(|&(_, value)| value)
    }

    /// Sets a feature, replacing one of the same name.
    pub fn set(&mut self, name: &Name, value: f64) {
        match self.features.iter_mut().find(|(n, _)| Arc::ptr_eq(n, name) || n == name) {
            Some(feature) => feature.1 = value,
            None => {
                if self.features.len() == self.features.capacity() {
                    // Rescoring adds some: one growth, not one for every other.
                    self.features.reserve_exact(8);
                }
                self.features.push((name.clone(), value));
            }
        }
    }
}
