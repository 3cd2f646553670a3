//! Search by keys against the search that every data structure has.

use std::collections::BTreeMap;

use super::super::search::{Scored, Search, full_score};
use super::super::{Engine, lanes};
use super::*;
use crate::random::Random;

/// A model of these sentences, of which some n-grams that nothing begins with are left out.
fn model(order: usize, sentences: &[Vec<usize>], random: &mut Random) -> Ngram {
    let mut levels: Vec<BTreeMap<Vec<usize>, bool>> = vec![BTreeMap::new(); order];
    for word in 0..WORDS {
        levels[0].insert(vec![word], true);
    }
    for sentence in sentences {
        for (level, length) in levels.iter_mut().zip(1..) {
            for words in sentence.windows(length) {
                level.insert(words.to_vec(), random.below(4) > 0);
            }
        }
    }
    for length in (1..order).rev() {
        let (shorter, longer) = levels.split_at_mut(length);
        longer[0].retain(|_, keep| *keep);
        for words in longer[0].keys() {
            shorter[length - 1].insert(words[..length].to_vec(), true);
        }
    }
    let mut text = String::from("\\data\\\n");
    for (level, length) in levels.iter().zip(1..) {
        text += &format!("ngram {length}={}\n", level.len());
    }
    for (level, length) in levels.iter().zip(1..) {
        text += &format!("\n\\{length}-grams:\n");
        for words in level.keys() {
            let words: Vec<&str> = words.iter().map(|&word| SPELLED[word]).collect();
            text += &format!("{:.4}\t{}", -3.0 * random.unit(), words.join(" "));
            text += &if length < order { format!("\t{:.4}\n", -random.unit()) } else { "\n".to_owned() };
        }
    }
    text += "\n\\end\\\n";
    Ngram::from_reader("random", Cursor::new(text), &Options::default()).unwrap()
}

#[test]
fn by_key_every_order_scores_as_by_levels() {
    let mut random = Random::new(5);
    let bits = |full: Full, next: &State| {
        (full.log10.to_bits(), full.rest.to_bits(), full.length, full.independent_left, next.clone())
    };
    // States of a higher order, too, have more words than a search looks at.
    let mut foreign = vec![State::default()];
    for order in (1..=11).rev() {
        let sentences: Vec<Vec<usize>> =
            (0..30).map(|_| (0..14).map(|_| random.below(WORDS)).collect()).collect();
        let model = model(order, &sentences, &mut random);
        let Engine::Hashed(hashed) = &model.core.engine else { panic!("an ARPA file is hashed") };
        let mut states = vec![model.begin()];
        states.extend_from_slice(&foreign);
        // Reused: what is beyond their length is stale.
        let mut out = State::default();
        let mut longest = 0;
        for step in 0..2_000usize {
            // Sentences that the model knows word by word, and any other word after any state.
            let (at, word) = match step / 14 % 4 {
                0 => (random.below(states.len()), random.below(WORDS)),
                _ => (states.len() - 1, sentences[step / 14 % 30][step % 14]),
            };
            let word = model.words().id(SPELLED[word].as_bytes());
            let mut plain = State::default();
            let wanted = Search::whole(hashed, &states[at], word, &mut plain);
            let wanted = bits(wanted, &plain);
            let full = full_score(hashed, &states[at], word, &mut out);
            assert_eq!(bits(full, &out), wanted, "order {order}");
            for place in 0..plain.len().min(7) {
                assert_eq!(out.backoffs[place].to_bits(), plain.backoffs[place].to_bits(), "order {order}");
            }
            longest = longest.max(full.length);
            states.push(out.clone());
        }
        assert_eq!(usize::from(longest), order);
        let pairs: Vec<(u32, u32)> = (0..500)
            .map(|_| (random.below(states.len()) as u32, random.below(model.words().len()) as u32))
            .collect();
        for count in [0, 1, 15, 16, 17, 32, 33, 500] {
            let mut scored = vec![Scored::empty(); count];
            lanes::words(hashed, &states, &pairs[..count], &mut scored);
            for (&(state, word), scored) in pairs.iter().zip(&scored) {
                let mut plain = State::default();
                let wanted = Search::whole(hashed, &states[state as usize], word, &mut plain);
                assert_eq!(bits(scored.full, &scored.next), bits(wanted, &plain), "order {order}");
            }
        }
        let sentences: Vec<Vec<u32>> = (0..70)
            .map(|at| (0..at % 9).map(|_| random.below(model.words().len()) as u32).collect())
            .collect();
        let given: Vec<&[u32]> = sentences.iter().map(Vec::as_slice).collect();
        let mut scores: Vec<Vec<u32>> = vec![Vec::new(); given.len()];
        lanes::score(hashed, &model.begin(), &given, |sentence, word, full| {
            assert_eq!(scores[sentence].len(), word);
            scores[sentence].push(full.log10.to_bits());
        });
        for (words, scores) in given.iter().zip(&scores) {
            let (mut state, mut next) = (model.begin(), State::default());
            let alone: Vec<u32> = words
                .iter()
                .map(|&word| {
                    let full = Search::whole(hashed, &state, word, &mut next);
                    std::mem::swap(&mut state, &mut next);
                    full.log10.to_bits()
                })
                .collect();
            assert_eq!(&alone, scores, "order {order}");
        }
        foreign.extend(states.into_iter().rev().take(20));
    }
}

const SPELLED: [&str; WORDS] = ["<s>", "</s>", "<unk>", "a", "b", "c"];
const WORDS: usize = 6;
