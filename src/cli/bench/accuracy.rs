//! What a fast mode costs: the same lists with everything scored in f32 and as asked, compared.

use serde_json::{Value, json};

use crate::eval::normalise::Normaliser;
use crate::eval::wer::{Scorer, Tally};
use crate::nbest::{Name, Status, Utterance};

/// How far rounded scores are from exact ones.
#[derive(Debug, Default)]
pub struct Accuracy {
    features: Vec<Difference>,
    utterances: usize,
    same: usize,
    /// Lists that one of the two passed through: no winner to compare, which counts as another one.
    passed: usize,
    /// Of utterances with a reference: the exact winners, and the others.
    exact: Tally,
    rounded: Tally,
}

/// How far a feature moves, natural log.
#[derive(Debug)]
struct Difference {
    name: Name,
    sum: f64,
    largest: f64,
    largest_a_token: f64,
    tokens: u64,
    hypotheses: u64,
}

impl Accuracy {
    /// Compares lists that were rescored twice, in the same order; `gained` are the features that rescoring
    /// added. What was not scored to its end has no feature and counts in no difference.
    pub fn of(exact: &[Utterance], rounded: &[Utterance], gained: &[Name]) -> Self {
        let mut scorer = Normaliser::default().scorer(Scorer::words());
        let counted = |name: &&Name| &***name != "words" && !name.ends_with(".oov");
        let names: Vec<Name> = gained.iter().filter(counted).cloned().collect();
        let mut found = Self::default();
        for (exact, rounded) in exact.iter().zip(rounded) {
            found.add(exact, rounded, &names, &mut scorer);
        }
        found
    }

    fn add(&mut self, exact: &Utterance, rounded: &Utterance, names: &[Name], scorer: &mut Scorer) {
        let passed = |list: &Utterance| matches!(list.status, Status::Passed(_)) || list.best().is_none();
        if passed(exact) != passed(rounded) {
            self.utterances += 1;
            self.passed += 1;
        }
        if passed(exact) || passed(rounded) {
            return;
        }
        let (Some(a), Some(b)) = (exact.best(), rounded.best()) else { return };
        self.utterances += 1;
        // A list may hold the same words twice.
        self.same += usize::from(a.bytes == b.bytes);
        if let Some(reference) = &exact.reference {
            scorer.reference(reference);
            self.exact.add(scorer.counts(&a.bytes));
            self.rounded.add(scorer.counts(&b.bytes));
        }
        for name in names {
            for one in &exact.hypotheses {
                let other = rounded.hypotheses.iter().find(|other| other.rank == one.rank);
                let value = other.and_then(|other| other.feature(name));
                let (Some(x), Some(y)) = (one.feature(name), value.filter(|value| value.is_finite())) else {
                    continue;
                };
                // Words and the end of the sentence.
                let tokens =
                    one.bytes.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).count() + 1;
                self.difference(name).push((x - y).abs(), tokens as u64);
            }
        }
    }

    fn difference(&mut self, name: &Name) -> &mut Difference {
        let at = self.features.iter().position(|difference| difference.name == *name).unwrap_or_else(|| {
            self.features.push(Difference::new(name));
            self.features.len() - 1
        });
        &mut self.features[at]
    }

    /// In words.
    pub fn table(&self) -> String {
        let mut out = String::new();
        for of in self.features.iter().filter(|of| of.largest > 0.0) {
            out += &format!(
                "{} against f32: a hypothesis moves by {:.5} on average, {:.5} at most; a word by {:.5}, {:.5} at most\n",
                of.name,
                of.sum / of.hypotheses as f64,
                of.largest,
                of.sum / of.tokens as f64,
                of.largest_a_token
            );
        }
        out += &format!("the same winner: {} of {} utterances", self.same, self.utterances);
        if self.passed > 0 {
            out += &format!(" ({} scored by one of the two only)", self.passed);
        }
        if self.exact.counts.reference > 0 {
            let (a, b) = (100.0 * self.exact.counts.rate(), 100.0 * self.rounded.counts.rate());
            out += &format!("; WER {a:.2} % exact, {b:.2} % as asked ({:+.3})", b - a);
        }
        out + "\n"
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let one = |of: &Difference| {
            let facts = json!({
                "hypothesis_mean": of.sum / of.hypotheses as f64, "hypothesis_max": of.largest,
                "word_mean": of.sum / of.tokens as f64, "word_max": of.largest_a_token,
            });
            (of.name.to_string(), facts)
        };
        let features: serde_json::Map<_, _> = self.features.iter().map(one).collect();
        let wer = |tally: &Tally| (tally.counts.reference > 0).then(|| 100.0 * tally.counts.rate());
        json!({
            "differences": features, "utterances": self.utterances, "same_winner": self.same,
            "scored_by_one": self.passed,
            "wer_exact": wer(&self.exact), "wer": wer(&self.rounded),
        })
    }
}

impl Difference {
    fn new(name: &Name) -> Self {
        Self { name: name.clone(), sum: 0.0, largest: 0.0, largest_a_token: 0.0, tokens: 0, hypotheses: 0 }
    }

    fn push(&mut self, apart: f64, tokens: u64) {
        self.sum += apart;
        self.largest = self.largest.max(apart);
        self.largest_a_token = self.largest_a_token.max(apart / tokens as f64);
        self.tokens += tokens;
        self.hypotheses += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nbest::Hypothesis;

    fn list(scores: [f64; 2]) -> Utterance {
        let name: Name = "lm".into();
        let mut hypotheses = vec![Hypothesis::new("a b c", 1), Hypothesis::new("a d", 2)];
        for (hypothesis, score) in hypotheses.iter_mut().zip(scores) {
            hypothesis.set(&name, score);
        }
        // Best first.
        hypotheses.sort_by(|a, b| b.feature("lm").partial_cmp(&a.feature("lm")).unwrap());
        Utterance { reference: Some(b"a d".to_vec()), hypotheses, ..Utterance::default() }
    }

    #[test]
    fn differences_winners_and_error_rates_are_counted() {
        let mut found = Accuracy::default();
        let mut scorer = Scorer::words();
        found.add(&list([-4.0, -3.0]), &list([-4.5, -3.25]), &["lm".into()], &mut scorer);
        found.add(&list([-4.0, -3.0]), &list([-2.0, -3.0]), &["lm".into()], &mut scorer);
        let json = found.json();
        assert_eq!((json["utterances"].as_u64(), json["same_winner"].as_u64()), (Some(2), Some(1)));
        let lm = &json["differences"]["lm"];
        // 0.5 and 2 over four tokens, 0.25 and 0 over three.
        assert_eq!(lm["hypothesis_max"], 2.0);
        assert_eq!(lm["hypothesis_mean"], 2.75 / 4.0);
        assert_eq!(lm["word_max"], 0.5);
        assert_eq!(lm["word_mean"], 2.75 / 14.0);
        // One substitution and one insertion of two words, in one of two lists.
        assert_eq!((json["wer_exact"].as_f64(), json["wer"].as_f64()), (Some(0.0), Some(50.0)));
        let passed = Utterance { status: Status::Passed("busy".into()), ..list([-4.0, -3.0]) };
        found.add(&passed, &passed, &[], &mut scorer);
        assert_eq!(found.json()["utterances"], 2);
        let mut one = Accuracy::default();
        one.add(&list([-4.0, -3.0]), &passed, &[], &mut scorer);
        assert_eq!(one.table(), "the same winner: 0 of 1 utterances (1 scored by one of the two only)\n");
        assert!(found.table().contains("1 of 2 utterances; WER 0.00 % exact, 50.00 %"), "{}", found.table());
    }
}
