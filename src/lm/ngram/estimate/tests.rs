//! Against models that lmplz made, against values computed by hand, and against itself under
//! other settings of what must not matter.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::ops::ControlFlow;
use std::path::Path;

use super::*;
use crate::lm::ngram::{Ngram, Options as ReadOptions};
use crate::random::Random;
use crate::testing::data_or_skip;

/// log10 p and log10 backoff of n-grams, by order.
type Model = Vec<BTreeMap<String, (f64, Option<f64>)>>;

fn parse(arpa: &str) -> Model {
    let mut model = Model::new();
    for line in arpa.lines() {
        if line.ends_with("-grams:") {
            model.push(BTreeMap::new());
        } else if let (Some(section), false) = (model.last_mut(), line.is_empty() || line == "\\end\\") {
            let mut fields = line.split('\t');
            let number = |text: &str| text.parse::<f64>().unwrap();
            let p = number(fields.next().unwrap());
            let words = fields.next().unwrap().to_owned();
            let fresh = section.insert(words, (p, fields.next().map(number)));
            assert!(fresh.is_none(), "twice: {line}");
        }
    }
    model
}

fn train(text: &[u8], options: Options) -> (String, Summary) {
    let mut estimator = Estimator::new(options).unwrap();
    estimator.read("text", Cursor::new(text.to_vec())).unwrap();
    let mut arpa = Vec::new();
    let summary = estimator.finish(&mut arpa).unwrap();
    (String::from_utf8(arpa).unwrap(), summary)
}

fn fallback(mut options: Options) -> Options {
    options.fallback = Some(Discounts([0.5, 1.0, 1.5]));
    options
}

#[track_caller]
fn near(got: f64, p: f64) {
    assert!((got - p.log10()).abs() < 1e-6, "10^{got} = {} for {p}", 10f64.powf(got));
}

/// By hand: `a b`, `a c`, both discounts from the fallback.
///
/// Adjusted counts. Words: a 1 (after `<s>`), b 1 (after a), c 1 (after a), `</s>` 2 (after b and c).
/// Pairs: `<s> a` 2, `a b` 1, `a c` 1, `b </s>` 1, `c </s>` 1.
#[test]
fn a_bigram_model_by_hand() {
    let (arpa, summary) = train(b"a b\na c\n", fallback(Options::new(2)));
    assert_eq!((&summary.counts[..], &summary.seen[..]), (&[6, 5][..], &[6, 5][..]));
    assert_eq!(summary.warnings.len(), 2);
    let model = parse(&arpa);
    // Words: 5 counts in all; 3 * 0.5 + 1 taken off and shared by a, b, c, </s>, <unk>.
    let share = 2.5 / 5.0 / 5.0;
    let (once, end) = (0.5 / 5.0 + share, 1.0 / 5.0 + share);
    let words = &model[0];
    for (word, p, backoff) in [
        ("<unk>", share, 1.0),
        ("a", once, (0.5 + 0.5) / 2.0),
        ("b", once, 0.5),
        ("c", once, 0.5),
        ("</s>", end, 1.0),
    ] {
        near(words[word].0, p);
        near(words[word].1.unwrap(), backoff);
    }
    assert_eq!(words["<s>"].0, 0.0);
    near(words["<s>"].1.unwrap(), 1.0 / 2.0);
    let pairs = &model[1];
    near(pairs["<s> a"].0, (2.0 - 1.0) / 2.0 + 0.5 * once);
    near(pairs["a b"].0, 0.5 / 2.0 + 0.5 * once);
    near(pairs["a c"].0, 0.5 / 2.0 + 0.5 * once);
    near(pairs["b </s>"].0, 0.5 + 0.5 * end);
    assert!(pairs.values().all(|(_, backoff)| backoff.is_none()));
    // Ids in the order of the text, sections in suffix order.
    let lines: Vec<&str> = arpa.lines().filter_map(|line| line.split('\t').nth(1)).collect();
    let order = ["<unk>", "<s>", "</s>", "a", "b", "c", "b </s>", "c </s>", "<s> a", "a b", "a c"];
    assert_eq!(lines, order);
}

/// By hand: the highest order counts occurrences, lower ones the different words before, except
/// after `<s>`.
#[test]
fn adjusted_counts_by_hand() {
    // `b c` occurs 3 times, after a twice and after x once: adjusted 2. `<s> a` occurs twice.
    let (arpa, summary) = train(b"a b c\na b c\nx b c\n", fallback(Options::new(3)));
    let model = parse(&arpa);
    assert_eq!(summary.counts, [7, 6, 5]);
    // Words: a 1, b 2 (a, x), c 1 (b), x 1, </s> 1: 6 in all, 4 * 0.5 + 1 taken off, shared by 6.
    let share = 3.0 / 6.0 / 6.0;
    near(model[0]["b"].0, 1.0 / 6.0 + share);
    near(model[0]["c"].0, 0.5 / 6.0 + share);
    // Pairs: after b only c, with 2; after <s>: a twice, x once, as they occur.
    let b_c = (2.0 - 1.0) / 2.0 + 0.5 * (0.5 / 6.0 + share);
    near(model[1]["b c"].0, b_c);
    near(model[0]["b"].1.unwrap(), 0.5);
    near(model[0]["<s>"].1.unwrap(), (1.0 + 0.5) / 3.0);
    near(model[1]["<s> a"].0, 1.0 / 3.0 + 0.5 * (0.5 / 6.0 + share));
    // Triples as they occur: two once (`<s> x b`, `x b c`), two twice (`<s> a b`, `a b c`), one three
    // times (`b c </s>`): Y = 2 / (2 + 2 * 2) and the discounts are 1/3, 3/2, 3.
    near(model[2]["a b c"].0, 0.5 / 2.0 + 1.5 / 2.0 * b_c);
    near(model[1]["a b"].1.unwrap(), 1.5 / 2.0);
    near(model[1]["x b"].1.unwrap(), 1.0 / 3.0);
    near(model[1]["b c"].1.unwrap(), 1.0);
    // A context that nothing follows.
    assert_eq!(model[1]["c </s>"].1, Some(0.0));
}

/// By hand: a pruned n-gram leaves all of its count to the backoff, by how often it occurs.
#[test]
fn pruning_by_hand() {
    let mut options = fallback(Options::new(2));
    options.prune = vec![0, 1];
    let (arpa, summary) = train(b"a b\na b\na c\n", options);
    let model = parse(&arpa);
    assert_eq!(summary.seen, [6, 5]);
    let kept: Vec<&str> = model[1].keys().map(String::as_str).collect();
    assert_eq!(kept, ["<s> a", "a b", "b </s>"]);
    // Two pairs occur once, two twice, one three times: the discounts are 1/3, 3/2, 3.
    // After a: b twice, less 3/2; c once, pruned whole.
    near(model[0]["a"].1.unwrap(), (1.5 + 1.0) / 3.0);
    // After c nothing is left: everything is.
    assert_eq!(model[0]["c"].1, Some(0.0));
    // Words do not notice: a 1, b 1, c 1, </s> 2 (b and c), 2.5 taken off and shared by 5.
    near(model[0]["b"].0, 0.5 / 5.0 + 0.1);
    near(model[1]["a b"].0, (2.0 - 1.5) / 3.0 + 2.5 / 3.0 * (0.5 / 5.0 + 0.1));
}

/// By hand: words that are not kept leave their counts to the others.
#[test]
fn a_limited_vocabulary_by_hand() {
    let mut options = fallback(Options::new(2));
    options.vocabulary = Vocabulary::MostFrequent(2);
    let text = b"a b\na b\na c\n";
    let (arpa, summary) = train(text, options.clone());
    let model = parse(&arpa);
    assert_eq!((&summary.seen[..], &summary.counts[..]), (&[6, 5][..], &[5, 3][..]));
    // Of 5 counts, a and b lose 0.5 each, </s> 1, c all of its 1: 3, shared by a, b, </s>, <unk>.
    near(model[0]["<unk>"].0, 3.0 / 5.0 / 4.0);
    near(model[0]["a"].0, 0.5 / 5.0 + 0.15);
    near(model[0]["a"].1.unwrap(), (1.5 + 1.0) / 3.0);
    options.vocabulary = Vocabulary::listed(&b"b\na zz"[..]).unwrap();
    assert_eq!(train(text, options).0, arpa, "a list of the same words is the same");
}

#[test]
fn without_interpolation_the_unknown_word_has_what_discounts_free() {
    let mut options = fallback(Options::new(2));
    options.interpolate_unigrams = false;
    let model = parse(&train(b"a b\na c\n", options).0);
    near(model[0]["<unk>"].0, 0.5);
    near(model[0]["a"].0, 0.1);
    near(model[1]["a b"].0, 0.25 + 0.5 * 0.1);
}

#[test]
fn order_one_counts_words() {
    let (arpa, _) = train(b"a a a b\n\n", fallback(Options::new(1)));
    let model = parse(&arpa);
    // a 3, b 1, </s> 2, each count once: Y = 1 / (1 + 2), the discounts are 1/3, 1, 3.
    let share = (3.0 + 1.0 / 3.0 + 1.0) / 6.0 / 4.0;
    near(model[0]["a"].0, share);
    near(model[0]["b"].0, 2.0 / 3.0 / 6.0 + share);
    near(model[0]["</s>"].0, 1.0 / 6.0 + share);
    assert!(model[0].values().all(|(_, backoff)| backoff.is_none()));
}

/// Sentences of a small language, with frequent and rare words.
fn babble(sentences: usize) -> Vec<u8> {
    let mut random = Random::new(1);
    let mut below = |end| random.below(end);
    let mut text = Vec::new();
    let mut last = 0;
    for _ in 0..sentences {
        for _ in 0..below(12) {
            // Mostly the successors that a word has had before.
            let spread = [3, 3, 10, 400][below(4)];
            last = (last * 7 + below(spread)) % 500;
            text.extend_from_slice(format!("w{last} ").as_bytes());
        }
        text.push(b'\n');
    }
    text
}

#[test]
fn every_distribution_sums_to_one() {
    let text = babble(3000);
    for (order, prune, kept) in
        [(2, vec![], 0), (3, vec![0, 0, 1], 0), (4, vec![0, 1, 2], 0), (3, vec![], 60)]
    {
        let mut options = fallback(Options::new(order));
        options.prune = prune;
        if kept > 0 {
            options.vocabulary = Vocabulary::MostFrequent(kept);
        }
        let (arpa, _) = train(&text, options);
        let model =
            Ngram::from_reader("made", Cursor::new(arpa.into_bytes()), &ReadOptions::default()).unwrap();
        assert!(model.warnings().is_empty());
        let words = model.words();
        for context in ["", "w1", "w3 w21", "w3 w22 w154", "nowhere", "w9 nowhere w5"] {
            let mut state = model.begin();
            for word in context.split(' ').filter(|word| !word.is_empty()) {
                let mut after = Default::default();
                model.full_score(&state, words.id(word.as_bytes()), &mut after);
                state = after;
            }
            let mut sum = 0.0;
            for id in (0..words.len() as u32).filter(|&id| id != words.id(b"<s>")) {
                sum += 10f64.powf(model.full_score(&state, id, &mut Default::default()).log10.into());
            }
            assert!((sum - 1.0).abs() < 1e-4, "{sum} after {context:?} in order {order}");
        }
    }
}

#[test]
fn memory_threads_and_splits_of_the_text_change_no_byte() {
    let text = babble(12_000);
    for order in [1, 3, 5, 9] {
        let mut options = fallback(Options::new(order));
        options.prune = vec![0, 0, 1][..order.min(3)].to_vec();
        options.threads = 1;
        let (want, summary) = train(&text, options.clone());
        assert_eq!(summary.spilled, 0);
        // Little more than the least.
        let little = (24 << 20) + (order as u64 + 1) * (256 << 10) + (96 << 10);
        for (memory, threads) in [(1 << 30, 3), (little, 1), (little, 2)] {
            options.memory = memory;
            options.threads = threads;
            let mut estimator = Estimator::new(options.clone()).unwrap();
            let middle = text.iter().skip(text.len() / 2).position(|&byte| byte == b'\n').unwrap();
            let (first, second) = text.split_at(text.len() / 2 + middle + 1);
            estimator.read("first", Cursor::new(first.to_vec())).unwrap();
            estimator.read("second", Cursor::new(second.to_vec())).unwrap();
            let mut arpa = Vec::new();
            let summary = estimator.finish(&mut arpa).unwrap();
            assert!(arpa == want.as_bytes(), "order {order}, {memory} bytes, {threads} threads");
            assert_eq!(summary.spilled > 0, memory < 1 << 30, "order {order}: {summary:?}");
            assert_eq!(summary.bytes, arpa.len() as u64);
        }
        options.gzip = true;
        let mut estimator = Estimator::new(options).unwrap();
        estimator.read("text", Cursor::new(text.clone())).unwrap();
        let (mut packed, mut arpa) = (Vec::new(), String::new());
        estimator.finish(&mut packed).unwrap();
        flate2::read::MultiGzDecoder::new(&packed[..]).read_to_string(&mut arpa).unwrap();
        assert!(arpa == want, "order {order}, gzip");
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_advice() {
    let refused = |change: &dyn Fn(&mut Options), advice: &str| {
        let mut options = Options::new(3);
        change(&mut options);
        let error = Estimator::new(options).err().unwrap().to_string();
        assert!(error.contains(advice), "{error}");
    };
    refused(&|options| options.order = 0, "3 to 5");
    refused(&|options| options.order = 17, "1 to 16");
    refused(&|options| options.prune = vec![1, 1], "limit the vocabulary");
    refused(&|options| options.prune = vec![0, 2, 1], "must not fall");
    refused(&|options| options.prune = vec![0; 4], "at most one for each");
    refused(&|options| options.fallback = Some(Discounts([1.5, 1.0, 1.0])), "at most 1, 2 and 3");

    let failed = |text: &[u8], options: Options, advice: &str| {
        let mut estimator = Estimator::new(options).unwrap();
        estimator.read("text", Cursor::new(text.to_vec())).unwrap();
        let error = estimator.finish(&mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains(advice), "{error}");
    };
    failed(b"\n \n", Options::new(2), "no words");
    failed(b"a b\n", Options::new(2), "--discount-fallback");
    let mut options = fallback(Options::new(2));
    options.memory = 1 << 20;
    failed(b"a b\n", options, "--memory");
}

#[test]
fn an_observer_sees_every_step_and_can_stop_each() {
    let text = babble(2000);
    let mut seen = Vec::new();
    let mut run = |stop: Option<Phase>| {
        let mut observer = |progress: Progress| {
            assert!(progress.total == 0 || progress.done <= progress.total, "{progress:?}");
            if seen.last() != Some(&progress.phase) {
                seen.push(progress.phase);
            }
            if stop == Some(progress.phase) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let mut estimator = Estimator::new(fallback(Options::new(3))).unwrap();
        estimator.read_with("text", Cursor::new(text.clone()), text.len() as u64, &mut observer)?;
        estimator.finish_with(&mut Vec::new(), &mut observer)
    };
    run(None).unwrap();
    let phases = [Phase::Reading, Phase::Counting, Phase::Adjusting, Phase::Discounting, Phase::Writing];
    for phase in phases {
        let error = run(Some(phase)).unwrap_err();
        let interrupted = |error: &crate::Error| matches!(error, crate::Error::Io { source, .. } if source.kind() == std::io::ErrorKind::Interrupted);
        assert!(interrupted(&error), "{error}");
    }
    assert_eq!(seen[..5], phases);
}

#[test]
fn a_full_disk_is_an_error_and_no_panic() {
    struct Full(usize);
    impl std::io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    for room in [0, 1000, 500_000] {
        let mut estimator = Estimator::new(fallback(Options::new(4))).unwrap();
        estimator.read("text", Cursor::new(babble(5000))).unwrap();
        assert!(estimator.finish(&mut Full(room)).is_err(), "{room}");
    }
}

#[test]
fn models_are_those_of_lmplz() {
    let Some(data) = data_or_skip("models_are_those_of_lmplz") else { return };
    let folder = data.join("lm");
    let list = std::fs::File::open(folder.join("vocab3000.txt")).unwrap();
    let list = Vocabulary::listed(list).unwrap();
    type Change<'a> = &'a dyn Fn(&mut Options);
    let cases: [(&str, &str, usize, Change<'_>); 6] = [
        ("tiny.txt", "tiny.o3.fallback.arpa", 3, &|o| o.fallback = Some(Discounts([0.5, 1.0, 1.5]))),
        ("small.txt", "small.o5.arpa.bz2", 5, &|_| {}),
        ("small.txt", "small.o3.prune-0-1-1.arpa.bz2", 3, &|o| o.prune = vec![0, 1, 1]),
        ("small.txt", "small.o4.prune-0-0-1-2.arpa.bz2", 4, &|o| o.prune = vec![0, 0, 1, 2]),
        ("small.txt", "small.o4.vocab3000.arpa.bz2", 4, &|o| o.vocabulary = list.clone()),
        ("small.txt", "small.o2.nointerp-unigrams.arpa.bz2", 2, &|o| o.interpolate_unigrams = false),
    ];
    for (text, reference, order, change) in cases {
        let mut options = Options::new(order);
        change(&mut options);
        let (got, _) = train(&std::fs::read(folder.join(text)).unwrap(), options);
        let (compared, worst) = compare(&got, &unpacked(&folder.join(reference)));
        assert!(compared > 900 && worst <= 1e-5, "{reference}: {worst} in {compared} n-grams");
    }
}

/// Fails unless both have the same n-grams; the number of them and the largest difference.
fn compare(got: &str, want: &str) -> (usize, f64) {
    let (got, want) = (parse(got), parse(want));
    assert_eq!(got.len(), want.len());
    let mut worst = 0f64;
    for (got, want) in got.iter().zip(&want) {
        assert!(got.keys().eq(want.keys()));
        for (a, b) in got.values().zip(want.values()) {
            worst = worst.max((a.0 - b.0).abs()).max((a.1.unwrap_or(0.0) - b.1.unwrap_or(0.0)).abs());
            assert_eq!(a.1.is_some(), b.1.is_some());
        }
    }
    (got.iter().map(BTreeMap::len).sum(), worst)
}

fn unpacked(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap();
    let mut text = String::new();
    match path.extension() {
        Some(packed) if packed == "bz2" => {
            bzip2::read::MultiBzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
        }
        _ => text = String::from_utf8(bytes).unwrap(),
    }
    text
}
