//! Lines of ARPA files, of which many are read before their words are looked up.

use std::collections::HashMap;

use proptest::prelude::*;

use crate::lm::ngram::read_arpa;

/// Words that begin alike, of every length about 8 and 16, some of them no UTF-8.
fn words() -> Vec<Vec<u8>> {
    let stem = b"abcdefghijklmnopqrst";
    let stems = (1..=stem.len()).map(|length| stem[..length].to_vec());
    let tails = (1..=stem.len())
        .flat_map(|length| [b'0', 0xff, 0x8a, 0x0b].map(|tail| [&stem[..length], &[tail]].concat()));
    [b"<s>".to_vec(), b"</s>".to_vec()].into_iter().chain(stems).chain(tails).collect()
}

/// An ARPA file of these bigrams, by their words' numbers; the first of them is on line [`FIRST`].
fn arpa(words: &[Vec<u8>], bigrams: &[(usize, usize)], end: &[u8]) -> Vec<u8> {
    let mut text =
        format!("\\data\\\nngram 1={}\nngram 2={}\n\n\\1-grams:\n", words.len(), bigrams.len()).into_bytes();
    for word in words {
        text.extend([b"-1\t", &word[..], b"\t-0.5\n"].concat());
    }
    text.extend(b"\n\\2-grams:\n");
    for (at, &(first, second)) in bigrams.iter().enumerate() {
        let number = format!("-{}.{at}", at % 10);
        text.extend([number.as_bytes(), b"\t", &words[first], b" ", &words[second], end].concat());
    }
    text.extend(b"\n\\end\\\n");
    text
}

/// Words and log10 probability of an n-gram.
type Gram = (Vec<Vec<u8>>, f32);

fn read(text: &[u8]) -> Result<Vec<Gram>, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, text).unwrap();
    let mut grams = Vec::new();
    let words = read_arpa(file.path(), |ids, log10, _| grams.push((ids.to_vec(), log10)));
    let words = words.map_err(|error| error.to_string())?;
    let spelled = |ids: Vec<u32>| ids.iter().map(|&id| words.word(id).unwrap().to_vec()).collect();
    Ok(grams.into_iter().map(|(ids, log10)| (spelled(ids), log10)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    /// In any order, over several of the pieces that files are read in.
    #[test]
    fn words_are_those_that_the_line_has(
        pairs in prop::collection::vec((0usize..102, 0usize..102), 1..40),
        windows in any::<bool>(),
        rounds in prop_oneof![Just(1usize), Just(700)],
    ) {
        let words = words();
        let bigrams = pairs.repeat(rounds);
        let grams = read(&arpa(&words, &bigrams, if windows { b"\r\n" } else { b"\n" })).unwrap();
        let (_, grams) = grams.split_at(words.len());
        prop_assert_eq!(grams.len(), bigrams.len());
        for (at, ((found, log10), &(first, second))) in grams.iter().zip(&bigrams).enumerate() {
            prop_assert_eq!(&found[..], &[words[first].clone(), words[second].clone()][..]);
            prop_assert_eq!(*log10, format!("-{}.{at}", at % 10).parse::<f32>().unwrap());
        }
    }
}

#[test]
fn of_several_faults_the_first_is_told() {
    let words = words();
    let first = words.len() + 8;
    let bigrams: Vec<(usize, usize)> = (0..100).map(|at| (at % 9 + 2, at % 7 + 2)).collect();
    let text = String::from_utf8_lossy(&arpa(&words[..22], &bigrams, b"\n")).into_owned();
    let first = first - (words.len() - 22);
    let lines: Vec<&str> = text.lines().collect();
    let told = |changes: &[(usize, &str)]| {
        let changes: HashMap<usize, &str> = changes.iter().copied().collect();
        let lines = lines.iter().zip(1..).map(|(line, number)| *changes.get(&number).unwrap_or(line));
        read(lines.collect::<Vec<&str>>().join("\n").as_bytes()).unwrap_err()
    };
    for at in [0, 1, 30, 31, 32, 33, 63, 64, 97] {
        let line = first + at;
        for later in [(line + 1, "x"), (line + 2, "-1 a z"), (line + 2, "\\end\\"), (line + 1, "-1\ta b\t-1")]
        {
            let said = told(&[(line, "-1\ta new"), later]);
            assert!(said.contains(&format!("line {line}: the word `new` is not among")), "{said}");
            let said = told(&[(line, "-1\ta"), later]);
            assert!(said.contains(&format!("line {line}: expected 2 words, found `-1\\ta`")), "{said}");
        }
        // On one line, too.
        for both in ["-1\tnew", "-1\tnew a\tx", "-1\ta new x"] {
            let said = told(&[(line, both)]);
            assert!(said.contains(&format!("line {line}: the word `new` is not among")), "{said}");
        }
        let said = told(&[(line, "x\tnew")]);
        assert!(said.contains(&format!("line {line}: expected a log10 probability, found `x`")), "{said}");
    }
}

/// The last line of a file that was cut short ends where its memory does not.
#[test]
fn a_file_may_end_inside_a_line() {
    let text = arpa(&words(), &[(2, 3), (2, 2)], b"\n");
    let cut = text.len() - b"\n\n\\end\\\n".len();
    for end in cut - 12..=cut {
        let said = read(&text[..end]).unwrap_err();
        assert!(said.contains("line "), "{said}");
    }
    let said = read(&text[..cut]).unwrap_err();
    assert!(said.contains("the file ends where \\end\\ should come"), "{said}");
}
