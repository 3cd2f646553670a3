//! Models, lists and fixtures for the tests.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

/// A file or folder under `fixtures/`.
pub fn fixture(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(path)
}

pub fn read(path: &str) -> Vec<u8> {
    std::fs::read(fixture(path)).unwrap_or_else(|error| panic!("fixtures/{path}: {error}"))
}

/// `small` on every change, `full` with `SECONDPASS_FULL=1`.
pub fn count(small: usize, full: usize) -> usize {
    if std::env::var_os("SECONDPASS_FULL").is_some_and(|value| value == "1") { full } else { small }
}

/// A sequence of numbers that looks random (xorshift).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end.max(1)
    }
}

/// Words that the tiny ONNX models know; the last is known to none.
pub const WORDS: [&str; 24] = [
    "a", "the", "cat", "dog", "mat", "sat", "sad", "sits", "on", "in", "under", "and", "or", "but", "is",
    "was", "he", "she", "it", "they", "saw", "ran", "red", "zebra",
];

/// A sentence of `words` words.
pub fn sentence(random: &mut Random, words: usize) -> Vec<&'static str> {
    (0..words).map(|_| WORDS[random.below(WORDS.len())]).collect()
}

/// A 3-gram model in ARPA form over [`WORDS`] without the last.
pub fn arpa() -> String {
    let mut random = Random::new(7);
    let mut grams = [(); 3].map(|()| BTreeMap::<Vec<&str>, f64>::new());
    for word in ["<unk>", "<s>", "</s>"].iter().chain(&WORDS[..23]) {
        grams[0].insert(vec![word], -(1.0 + random.below(2000) as f64 / 1000.0));
    }
    for _ in 0..60 {
        let words = random.below(7) + 1;
        let middle = sentence(&mut random, words).into_iter().filter(|word| *word != "zebra");
        let words: Vec<&str> = ["<s>"].into_iter().chain(middle).chain(["</s>"]).collect();
        for order in 2..=3 {
            for gram in words.windows(order) {
                let value = -(0.1 + random.below(2000) as f64 / 1000.0);
                grams[order - 1].entry(gram.to_vec()).or_insert(value);
            }
        }
    }
    let mut text = String::from("\\data\\\n");
    for (order, grams) in (1..).zip(&grams) {
        let _ = writeln!(text, "ngram {order}={}", grams.len());
    }
    for (order, grams) in (1..).zip(&grams) {
        let _ = write!(text, "\n\\{order}-grams:\n");
        for (gram, value) in grams {
            let backoff = if order < 3 && *gram != ["</s>"] { "\t-0.25" } else { "" };
            let value = if *gram == ["<s>"] { -99.0 } else { *value };
            let _ = writeln!(text, "{value:.4}\t{}{backoff}", gram.join(" "));
        }
    }
    text + "\n\\end\\\n"
}

/// One list: `id`, and up to `most` hypotheses of up to 12 words, the best first.
pub fn record(id: &str, random: &mut Random, most: usize) -> String {
    let length = random.below(11) + 1;
    let base = sentence(random, length);
    let mut line = format!("{{\"id\":\"{id}\",\"session\":\"s{}\",\"hyps\":[", random.below(5));
    for at in 0..=random.below(most) {
        let mut words = base.clone();
        if at > 0 {
            let place = random.below(words.len());
            words[place] = WORDS[random.below(WORDS.len())];
        }
        let comma = if at > 0 { "," } else { "" };
        let score = -(20.0 + at as f64 / 2.0 + random.below(50) as f64 / 100.0);
        let _ = write!(line, "{comma}{{\"text\":\"{}\",\"score\":{score}}}", words.join(" "));
    }
    line + "]}\n"
}

/// `count` lists, one a line.
pub fn records(count: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    (0..count).map(|at| record(&format!("u{at}"), &mut random, 8)).collect::<String>().into_bytes()
}

/// Lines with their endings.
pub fn lines(bytes: &[u8]) -> Vec<&[u8]> {
    bytes.split_inclusive(|&byte| byte == b'\n').collect()
}
