//! Against distributions summed word by word, and counts made by hand.

use std::io::Cursor;

use super::*;
use crate::lm::ngram::estimate::{Discounts, Estimator, Options};
use crate::lm::ngram::{Ngram, Options as ReadOptions};
use crate::random::Random;

/// Sentences of a small language.
fn text(sentences: usize) -> Vec<u8> {
    let mut random = Random::new(1);
    let mut below = |end| random.below(end);
    let mut text = Vec::new();
    let mut last = 0;
    for _ in 0..sentences {
        for _ in 0..below(9) + 1 {
            let spread = [2, 2, 6, 60][below(4)];
            last = (last * 5 + below(spread)) % 60;
            text.extend_from_slice(format!("w{last} ").as_bytes());
        }
        text.push(b'\n');
    }
    text
}

fn arpa(order: usize) -> Vec<u8> {
    let mut options = Options::new(order);
    options.fallback = Some(Discounts([0.5, 1.0, 1.5]));
    let mut estimator = Estimator::new(options).unwrap();
    estimator.read("text", Cursor::new(text(600))).unwrap();
    let mut arpa = Vec::new();
    estimator.finish(&mut arpa).unwrap();
    arpa
}

fn pruner(order: usize) -> Pruner {
    let mut pruner = Pruner::from_reader("made", Cursor::new(arpa(order))).unwrap();
    pruner.count("text", Cursor::new(text(600))).unwrap();
    pruner
}

fn written(pruner: &Pruner) -> Vec<u8> {
    let mut out = Vec::new();
    pruner.write(&mut out, 7).unwrap();
    out
}

/// The largest difference from one of the sum over all words, after each of some contexts.
fn off(arpa: Vec<u8>) -> f64 {
    let model = Ngram::from_reader("pruned", Cursor::new(arpa), &ReadOptions::default()).unwrap();
    let words = model.words();
    let mut worst = 0f64;
    for context in ["", "w1", "w7 w36", "w0 w1 w5", "w2 w11 w58", "nowhere", "w3 nowhere"] {
        let mut state = model.begin();
        for word in context.split(' ').filter(|word| !word.is_empty()) {
            let mut after = Default::default();
            model.full_score(&state, words.id(word.as_bytes()), &mut after);
            state = after;
        }
        let ids = (0..words.len() as u32).filter(|&id| id != words.id(b"<s>"));
        let p = |id| 10f64.powf(model.full_score(&state, id, &mut Default::default()).log10.into());
        worst = worst.max((ids.map(p).sum::<f64>() - 1.0).abs());
    }
    worst
}

/// The cost of an n-gram is the relative entropy, summed over all words, of its context's
/// distribution with and without it.
#[test]
fn costs_are_those_of_whole_distributions() {
    let pruner = pruner(3);
    let frequencies = pruner.counts.as_ref().unwrap().frequencies();
    for n in [2, 3] {
        let model = &pruner.model;
        let costs = entropy::costs(model, n, &frequencies[n - 2]);
        let lower = model.lower(n);
        let mut compared = 0;
        for (context, rows) in model.contexts(n).step_by(7) {
            let frequency = frequencies[n - 2][model.tables[n - 2].find(context).unwrap()];
            let row = rows.start + rows.len() / 2;
            let gone = model.tables[n - 1].codes[row];
            let listed: Vec<usize> = rows.clone().filter(|&other| other != row).collect();
            let sum = |of: &[f64]| listed.iter().map(|&row| of[row]).sum::<f64>();
            let backoff = (1.0 - sum(&model.tables[n - 1].prob)) / (1.0 - sum(&lower));
            let mut entropy = 0.0;
            for word in (0..model.words.len()).filter(|&word| word != model.bos) {
                let code = context << model.bits | word as model::Code;
                let before = model.prob(code, n);
                let is_listed = listed.iter().any(|&row| model.tables[n - 1].codes[row] == code);
                let after =
                    if is_listed { before } else { backoff * model.prob(model.shorter(code, n), n - 1) };
                assert!(is_listed || code == gone || model.tables[n - 1].find(code).is_none());
                entropy += before * (before / after).ln();
            }
            let want = (frequency * entropy).exp_m1();
            let scale = frequency * 1e-5;
            assert!((costs[row] - want).abs() <= scale, "{} for {want}, scale {scale}", costs[row]);
            compared += usize::from(want > 10.0 * scale);
        }
        assert!(compared >= 5, "only {compared} costs of order {n} are large enough to compare");
    }
}

#[test]
fn what_is_left_is_a_model_of_the_size_asked_for() {
    for order in [2, 3, 4] {
        let whole = pruner(order).counts().iter().sum::<u64>();
        let words = pruner(order).counts()[0];
        for part in [0.9, 0.5, 0.2] {
            let most = words + ((whole - words) as f64 * part) as u64;
            let mut pruner = pruner(order);
            let before = Ngram::from_reader("all", Cursor::new(written(&pruner)), &ReadOptions::default());
            assert_eq!(before.unwrap().counts().iter().sum::<u64>(), whole);
            let threshold = pruner.prune(Keep::Most(most)).unwrap();
            let left = pruner.counts().iter().sum::<u64>();
            assert!(left <= most && left as f64 > most as f64 * 0.9, "{left} of {most}");
            assert!(threshold > 0.0);
            // No n-gram lost its beginning or its end: the reader inserts blanks for those.
            let model = Ngram::from_reader("less", Cursor::new(written(&pruner)), &ReadOptions::default());
            assert_eq!(model.unwrap().counts(), pruner.counts());
            let off = off(written(&pruner));
            assert!(off < 1e-4, "{off}");
            // The same threshold on its own gives the same model.
            let mut again = self::pruner(order);
            again.prune(Keep::Threshold(threshold)).unwrap();
            assert!(written(&again) == written(&pruner));
        }
    }
}

#[test]
fn nothing_is_lost_where_everything_fits() {
    let mut pruner = pruner(3);
    let before = pruner.counts();
    pruner.prune(Keep::Most(before.iter().sum())).unwrap();
    assert_eq!(pruner.counts(), before);
    let error = pruner.prune(Keep::Most(before[0] - 1)).unwrap_err().to_string();
    assert!(error.contains("vocabulary"), "{error}");
}

#[test]
fn dropped_words_give_their_probability_to_the_unknown_word() {
    let mut pruner = pruner(3);
    let unk = |pruner: &Pruner| pruner.model.tables[0].prob[pruner.model.unk];
    let before = unk(&pruner);
    let moved = pruner.limit_vocabulary(20);
    assert_eq!(pruner.counts()[0], 20);
    assert!(moved > 0.01 && (unk(&pruner) - before - moved).abs() < 1e-12);
    assert!(off(written(&pruner)) < 1e-4);
    // Counts went with their n-grams.
    pruner.prune(Keep::Most(40)).unwrap();
    assert!(off(written(&pruner)) < 1e-4);
}

#[test]
fn contexts_are_counted_as_they_occur() {
    let arpa = b"\\data\\\nngram 1=5\nngram 2=3\nngram 3=1\n\n\\1-grams:\n-1\t<unk>\t0\n0\t<s>\t-0.3\n-1\t</s>\n-1\ta\t-0.3\n\
        -1\tb\t-0.2\n\n\\2-grams:\n-0.5\t<s> a\t-0.1\n-0.5\ta b\t0\n-0.4\tb </s>\n\n\\3-grams:\n-0.2\t<s> a b\n\n\\end\\\n";
    let mut pruner = Pruner::from_reader("hand", Cursor::new(arpa.to_vec())).unwrap();
    pruner.count("text", &b"a b a\nb x\n\na b\n"[..]).unwrap();
    let counts = pruner.counts.as_ref().unwrap();
    let count = |words: &[&str]| {
        let model = &pruner.model;
        let id = |word: &&str| model.words.iter().position(|known| known == word.as_bytes()).unwrap();
        let code = words.iter().fold(0, |code, word| code << model.bits | id(word) as model::Code);
        let row = model.tables[words.len() - 1].find(code).unwrap();
        (counts.frequencies()[words.len() - 1][row] * 10.0).round()
    };
    // Ten words with `<s>`: an empty line is no sentence, a sentence's end no context.
    for (words, want) in [
        (&["<s>"][..], 3.0),
        (&["a"], 3.0),
        (&["b"], 3.0),
        (&["<unk>"], 1.0),
        (&["</s>"], 0.0),
        (&["<s>", "a"], 2.0),
        (&["a", "b"], 2.0),
        (&["b", "</s>"], 0.0),
    ] {
        assert_eq!(count(words), want, "{words:?}");
    }
}

#[test]
fn what_cannot_be_pruned_is_refused_with_advice() {
    let refused = |arpa: &str, advice: &str| {
        let error = Pruner::from_reader("bad", Cursor::new(arpa.to_owned())).err().unwrap().to_string();
        assert!(error.contains(advice), "{error}");
    };
    refused("\\data\\\nngram 1=3\n\n\\1-grams:\n-1\t<unk>\n-1\t<s>\n-1\t</s>\n\n\\end\\\n", "words only");
    refused("\\data\\\nngram 1=2\n\n\\1-grams:\n-1\t<s>\n-1\t</s>\n\n\\end\\\n", "no <unk>");
    refused("no model\n", "not an ARPA file");
}
