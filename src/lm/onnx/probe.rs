//! Trying a model on a few tokens: what its scores are, which position is which, whether it is causal, and
//! whether steps from its states agree with whole runs. What is found here wins over names and structure.

mod run;

use std::time::{Duration, Instant};

use super::graph::{Dim, Graph};
use super::scores::log_sum_exp;
use super::session::{Batch, Runner};
use super::signature::{Draft, Kind, Layout, MAX_VOCAB, Positions, Signature};
use crate::nbest::Tensor;

/// What a trial needs to know beside the draft.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    pub graph: &'a Graph,
    /// Scores depend on batch mates, because ranges are taken over all of them.
    pub dynamic: bool,
}

/// Tries the model and settles its signature.
///
/// # Errors
/// If it fails, or cannot be used as a language model: why, and what to do.
pub(super) fn settle(runner: &mut Runner, draft: &Draft, facts: Facts<'_>) -> Result<Signature, String> {
    let mut errors: Vec<Trouble> = Vec::new();
    let started = Instant::now();
    let fixed = draft.own || draft.sidecar.time_major.is_some();
    let guess = draft.signature.tokens.time_major;
    for time_major in [guess, !guess].into_iter().take(if fixed { 1 } else { 2 }) {
        let mut signature = draft.signature.clone();
        if time_major != guess {
            let tokens = &mut signature.tokens;
            tokens.time_major = time_major;
            std::mem::swap(&mut tokens.length, &mut tokens.batch);
        }
        let mut trial = Trial::new(runner, draft, facts, signature);
        match trial.arrange().and_then(|()| trial.finish().map_err(Trouble::Other)) {
            Ok(()) => return Ok(trial.signature),
            Err(trouble) => errors.push(trouble),
        }
        if started.elapsed() >= LIMIT {
            break;
        }
    }
    // The one that says most: it ran, and looked ahead.
    let worst = errors.iter().position(|trouble| matches!(trouble, Trouble::LooksAhead));
    let first = if errors.is_empty() { Trouble::LooksAhead } else { errors.swap_remove(worst.unwrap_or(0)) };
    Err(match first {
        Trouble::LooksAhead => {
            "what it says of a word depends on the words after it: not causal. Masked and bidirectional \
                                models (BERT) cannot score sentences from left to right; use a causal one"
                .to_owned()
        }
        Trouble::Mixed => {
            "a sentence's scores depend on what else is in the batch, whichever dimension is taken for \
                           time; write `time_major = ..` in a file beside it if one is right"
                .to_owned()
        }
        Trouble::Failed(what) => format!("it failed when it was tried on a few tokens: {what}"),
        Trouble::Other(what) => what,
    })
}

/// Why an arrangement is wrong.
enum Trouble {
    /// Scores depend on later tokens.
    LooksAhead,
    /// Scores depend on other rows.
    Mixed,
    /// ONNX Runtime said so.
    Failed(String),
    Other(String),
}

struct Trial<'a> {
    runner: &'a mut Runner,
    draft: &'a Draft,
    facts: Facts<'a>,
    signature: Signature,
    /// Tokens to try it with are below this.
    size: usize,
    context: Vec<Tensor>,
}

/// What came out of a run.
#[derive(Clone)]
struct Seen {
    shape: Vec<i64>,
    scores: Vec<f32>,
    states: Vec<Vec<f32>>,
}

impl<'a> Trial<'a> {
    fn new(runner: &'a mut Runner, draft: &'a Draft, facts: Facts<'a>, signature: Signature) -> Self {
        let specials = &draft.specials;
        let known = specials.vocab_size.map(|(size, _)| size);
        // Of two sizes that differ, the smaller is safe.
        let size = known.into_iter().chain(specials.embedded).min().unwrap_or(4).clamp(1, MAX_VOCAB);
        let context = signature.context.iter().map(|context| tensor(facts.graph, &context.ids)).collect();
        Self { runner, draft, facts, signature, size, context }
    }

    /// A token; the first ones differ from each other, and none is 0, which some take for padding.
    fn token(&self, number: usize) -> i64 {
        if self.size < 2 { 0 } else { (1 + number * 7919 % (self.size - 1)) as i64 }
    }

    fn run(
        &mut self,
        ids: &[i64],
        rows: usize,
        length: usize,
        states: &[Vec<f32>],
        past: usize,
    ) -> Result<Seen, String> {
        // The same ones whatever the tokens are.
        let targets: Vec<i64> = (0..ids.len()).map(|number| self.token(number + 2)).collect();
        let batch = Batch {
            ids,
            rows,
            length,
            targets: &targets,
            states,
            past,
            lengths: &[],
            context: &self.context,
        };
        self.runner.run_raw(&self.signature, batch, Some(LIMIT), |outputs| Seen {
            shape: outputs.shape.to_vec(),
            scores: outputs.scores.to_vec(),
            states: outputs.states.iter().map(|(_, values)| values.to_vec()).collect(),
        })
    }

    fn zeros(&self, rows: usize) -> Vec<Vec<f32>> {
        let states = self.signature.states.iter();
        states
            .map(|state| if state.grows.is_some() { Vec::new() } else { vec![0.0; rows * state.size()] })
            .collect()
    }

    fn of<'b>(&self, seen: &'b Seen, rows: usize, length: usize, row: usize, at: usize) -> &'b [f32] {
        let size = self.signature.vocab_size;
        let (index, size) = match self.signature.layout {
            Layout::Each { time_major: false, .. } => (row * length + at, size),
            Layout::Each { time_major: true, .. } => (at * rows + row, size),
            Layout::Last | Layout::First => (row, size),
            Layout::Sentence => (row, 1),
            Layout::Targets { time_major: false, .. } => (row * self.signature.positions(length) + at, 1),
            Layout::Targets { time_major: true, .. } => (at * rows + row, 1),
        };
        seen.scores.get(index * size..(index + 1) * size).unwrap_or_default()
    }

    /// Finds out which score belongs to which row and position.
    fn arrange(&mut self) -> Result<(), Trouble> {
        let tokens = &self.signature.tokens;
        let rows = tokens.batch.unwrap_or(2).max(1);
        // A cache of nothing goes with a first token, where only the last position's scores come out.
        let last = self.signature.grows() && !matches!(self.signature.layout, Layout::Each { .. });
        let length = if last { 1 } else { tokens.length.unwrap_or(3).max(1) };
        if rows.saturating_mul(length) > MOST_TOKENS {
            return Err(Trouble::Other(format!(
                "was exported for {rows} rows of {length} tokens, which is more than makes sense; export it with free \
                 sizes"
            )));
        }
        let ids: Vec<i64> = (0..rows * length).map(|number| self.token(number)).collect();
        let states = self.zeros(rows);
        let seen = self.run(&ids, rows, length, &states, 0).map_err(Trouble::Failed)?;
        if let Some(value) = seen.scores.iter().find(|value| value.is_nan() || **value == f32::INFINITY) {
            let output = &self.signature.output;
            let what = format!("its {output} are not numbers ({value}); train or export it again");
            return Err(Trouble::Other(what));
        }
        let layouts = self.layouts(&seen.shape, rows, length).map_err(Trouble::Other)?;
        let mut worst = None;
        for layout in layouts {
            self.signature.layout = layout;
            match self.check(&ids, rows, length, &seen) {
                Ok(()) => {
                    self.numbers(&seen, rows, length).map_err(Trouble::Other)?;
                    return Ok(());
                }
                Err(trouble @ (Trouble::Failed(_) | Trouble::Other(_))) => return Err(trouble),
                Err(trouble) => worst = Some(worst.unwrap_or(trouble)),
            }
        }
        Err(worst.unwrap_or(Trouble::Mixed))
    }

    /// Layouts that the shape of the output allows, and the size of the vocabulary with them.
    fn layouts(&mut self, shape: &[i64], rows: usize, length: usize) -> Result<Vec<Layout>, String> {
        let time = self.signature.tokens.time_major;
        let (n, l) = (rows as i64, length as i64);
        let flat = |time_major| Layout::Each { time_major, flat: true };
        let told = self.draft.sidecar.layout;
        // A last dimension of another size than the vocabulary's, or a loss, is none of scores of all tokens.
        let losses = told == Some(Positions::Targets)
            || told.is_none()
                && (self.signature.kind == Kind::NegativeLog || self.signature.targets.is_some());
        let each = |time_major, flat| Layout::Targets { time_major, flat };
        let ends = i64::from(self.signature.targets.is_none());
        let (found, size) = match *shape {
            [a, b] if losses && a == n && b == l + ends && l > 1 => (vec![each(false, false)], 1),
            [a, b] if losses && ends == 0 && (a, b) == (l, n) => (vec![each(true, false)], 1),
            [a] if losses && l > 1 && a == n * (l + ends) => (vec![each(time, true)], 1),
            [a, b, v] if (a, b) == (n, l) => {
                let turned = (n == l && time).then_some(Layout::Each { time_major: true, flat: false });
                (turned.into_iter().chain([Layout::Each { time_major: false, flat: false }]).collect(), v)
            }
            [a, b, v] if (a, b) == (l, n) => (vec![Layout::Each { time_major: true, flat: false }], v),
            [a, 1] if a == n && self.signature.layout == Layout::Sentence => (vec![Layout::Sentence], 1),
            [a, v] if a == n * l && l > 1 => (vec![flat(time), flat(!time)], v),
            [a, v] if a == n => {
                let guess = self.signature.layout;
                let guess = if matches!(guess, Layout::Last | Layout::First) { guess } else { Layout::Last };
                let other = if guess == Layout::Last { Layout::First } else { Layout::Last };
                (if l > 1 { vec![guess, other] } else { vec![guess] }, v)
            }
            [a] if a == n => (vec![Layout::Sentence], 1),
            [] if n == 1 => (vec![Layout::Sentence], 1),
            [] | [1] => {
                return Err(format!(
                    "its output {} is one number for a whole batch; export it with reduction=\"none\", one score for \
                     each sentence",
                    self.signature.output
                ));
            }
            _ => {
                return Err(format!(
                    "its output {} has the shape {shape:?} for {rows} rows of {length} tokens; expected [N, L, V], [N, V] \
                     or [N]",
                    self.signature.output
                ));
            }
        };
        let size = usize::try_from(size).unwrap_or(0);
        let named = self.draft.specials.vocab_size;
        if let [Layout::Targets { .. }] = found[..] {
            // Without targets it can only be scores of what it is fed and of the end it adds.
            self.signature.adds_ends = ends == 1;
        }
        if matches!(found[..], [Layout::Sentence | Layout::Targets { .. }]) {
            self.signature.vocab_size = named.map(|(size, _)| size).or(self.draft.specials.embedded).ok_or(
                "the size of its vocabulary is not said; write `vocab_size = ..` in a file beside it",
            )?;
        } else {
            if let Some((named, source)) = named
                && named != size
                && source != "the table of embeddings"
                && source != "the output's last size"
            {
                return Err(format!(
                    "{source} says {named} tokens, but {} has {size} scores",
                    self.signature.output
                ));
            }
            if size == 0 || size > MAX_VOCAB {
                return Err(format!("a vocabulary of {size} tokens; 1 to {MAX_VOCAB} make sense"));
            }
            self.signature.vocab_size = size;
        }
        Ok(found)
    }

    /// Changes one token and looks where scores change: not before it, and not in other rows.
    fn check(&mut self, ids: &[i64], rows: usize, length: usize, seen: &Seen) -> Result<(), Trouble> {
        if self.facts.dynamic || self.size < 3 {
            // Ranges are shared by all rows and positions: everything moves a little.
            return Ok(());
        }
        let states = self.zeros(rows);
        let at = match self.signature.layout {
            Layout::Each { .. } | Layout::Targets { .. } => usize::from(length > 1),
            Layout::Last | Layout::Sentence => length - 1,
            Layout::First => 0,
        };
        let mut changed = ids.to_vec();
        changed[at] = self.other(ids[at]);
        let after = self.run(&changed, rows, length, &states, 0).map_err(Trouble::Failed)?;
        let differs = |row: usize, position: usize| {
            let pairs = self.of(seen, rows, length, row, position).iter();
            pairs.zip(self.of(&after, rows, length, row, position)).any(|(a, b)| apart(*a, *b, 1e-5))
        };
        let all = matches!(self.signature.layout, Layout::Each { .. } | Layout::Targets { .. });
        if (0..at).any(|position| all && differs(0, position)) {
            return Err(Trouble::LooksAhead);
        }
        if (1..rows).any(|row| (0..length).any(|position| differs(row, position))) {
            return Err(Trouble::Mixed);
        }
        let one = matches!(self.signature.layout, Layout::Last | Layout::First);
        if one && length > 1 && !differs(0, 0) {
            return Err(Trouble::Mixed);
        }
        Ok(())
    }

    fn other(&self, token: i64) -> i64 {
        if token + 1 < self.size as i64 { token + 1 } else { token - 1 }
    }

    /// What the scores are, by their sums.
    fn numbers(&mut self, seen: &Seen, rows: usize, length: usize) -> Result<(), String> {
        let output = &self.signature.output;
        if matches!(self.signature.layout, Layout::Sentence | Layout::Targets { .. }) {
            let told = self.draft.sidecar.scores;
            let negative = seen.scores.iter().all(|&value| value >= 0.0);
            self.signature.kind = told.unwrap_or(if negative { Kind::NegativeLog } else { Kind::LogProbs });
            if self.signature.kind == Kind::Logits {
                return Err(format!(
                    "its {output} are logits of single tokens, which say nothing; export log_softmax"
                ));
            }
            let of = if self.signature.layout == Layout::Sentence { "sentence" } else { "target" };
            let ends = match self.signature.adds_ends {
                true => ", and the graph adds <s> and </s> itself",
                false => "",
            };
            let what = format!("one of {} for a {of}{ends}", self.signature.kind);
            self.signature.found("tried", what, "its sign");
            return Ok(());
        }
        let positions = if matches!(self.signature.layout, Layout::Each { .. }) { length } else { 1 };
        let places = (0..rows).flat_map(|row| (0..positions).map(move |at| (row, at)));
        let (mut logs, mut sums, mut least) = (0f64, 0f64, 0f32);
        for (row, at) in places {
            let values = self.of(seen, rows, length, row, at);
            logs = logs.max(log_sum_exp(values).abs());
            sums = sums.max((values.iter().map(|&value| f64::from(value)).sum::<f64>() - 1.0).abs());
            least = values.iter().copied().fold(least, f32::min);
        }
        let near = if self.facts.graph.half { 2e-2 } else { 1e-3 };
        let measured = if logs < near {
            Kind::LogProbs
        } else if sums < near && least >= -1e-6 {
            Kind::Probabilities
        } else {
            Kind::Logits
        };
        let told = self.draft.sidecar.scores.or(self.draft.own.then_some(Kind::LogProbs));
        if let Some(told) = told.filter(|&told| told != measured && told != Kind::Logits) {
            let sum = if told == Kind::Probabilities { sums } else { logs };
            return Err(format!(
                "its {output} are not normalised {told} (off by {sum:.4}); end the graph in LogSoftmax"
            ));
        }
        self.signature.kind = told.unwrap_or(measured);
        let why = match measured {
            Kind::LogProbs => format!("ln of the sum of exp is 0 to {logs:.0e}"),
            Kind::Probabilities => format!("the sum is 1 to {sums:.0e}"),
            _ => "neither sums to 1".to_owned(),
        };
        self.signature.found("tried", format!("{} of {}", self.signature.kind, self.signature.layout), why);
        Ok(())
    }
}

fn apart(a: f32, b: f32, near: f32) -> bool {
    a != b && ((a - b).abs() > near * (1.0 + a.abs().min(b.abs())) || (a - b).is_nan())
}

/// Something to try a conditional model with: small numbers; for an input of integers, a length.
fn tensor(graph: &Graph, ids: &super::signature::Ids) -> Tensor {
    let dims = graph.input(&ids.name).and_then(|input| input.dims.clone()).unwrap_or_default();
    let size = |(at, dim): (usize, &Dim)| match dim {
        &Dim::Fixed(size) => size.clamp(1, 1 << 16),
        _ if at == 0 => 1,
        _ => FRAMES,
    };
    let shape: Vec<usize> = dims.iter().enumerate().map(size).collect();
    let count = shape.iter().fold(1usize, |n, &size| n.saturating_mul(size)).min(1 << 24);
    let value = |number: usize| {
        if ids.dtype.is_float() { ((number * 37 % 101) as f32 - 50.0) / 50.0 } else { FRAMES as f32 }
    };
    Tensor { name: ids.name.clone(), shape, values: (0..count).map(value).collect() }
}

/// A trial that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(30);
/// Tokens in a trial; a model is exported for tens, not thousands.
const MOST_TOKENS: usize = 1 << 16;
/// Frames of a conditional model's trial.
const FRAMES: usize = 4;
