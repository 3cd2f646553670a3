//! Trie scores against the sentence scores of the same engine, which the vectors check.

use std::collections::HashMap;

use super::super::*;
use super::vectors::gunzip;
use crate::lm::{Job, LanguageModel, Limits, Scorer, Scores};
use crate::testing::fixture;
use crate::tokens::Vocab;
use crate::trie::Builder;
use std::sync::Arc;
use std::task::Poll;

fn limits(rows: usize) -> Limits {
    Limits { rows, step_time: None, alone: false, threads: 1 }
}

/// The first lines of the sentence file in groups, each group a trie.
fn jobs(model: &Ngram, per_job: usize) -> Vec<(Job, Vec<Vec<u32>>)> {
    let text = std::fs::read(fixture("kenlm/unicode6.txt")).unwrap();
    let lines: Vec<&[u8]> = text.split(|&b| b == b'\n').take(300).collect();
    let mut builder = Builder::default();
    lines
        .chunks(per_job)
        .map(|lines| {
            builder.start(model.words().bos());
            let mut sequences = Vec::new();
            for line in lines {
                let words = line.split(|b| matches!(b, 9..=13 | 32)).filter(|word| !word.is_empty());
                let mut ids: Vec<u32> = words.map(|word| model.words().id(word)).collect();
                ids.push(model.words().eos());
                builder.push(&ids, &(0..ids.len() as u32).collect::<Vec<_>>());
                sequences.push(ids);
            }
            let trie = Arc::new(builder.finish());
            let job =
                Job { trie, start: None, context: [].into(), deadline: None, boundaries: true, keep: false };
            (job, sequences)
        })
        .collect()
}

fn finish(scorer: &mut dyn Scorer, slot: crate::lm::Slot) -> (Vec<f32>, Vec<f32>, Vec<u8>) {
    loop {
        match scorer.take(slot) {
            Poll::Pending => scorer.step().unwrap(),
            Poll::Ready(Ok(Scores::Nodes { ln, boundary, order })) => {
                return (ln, boundary, order);
            }
            Poll::Ready(other) => panic!("{other:?}"),
        }
    }
}

fn expect(model: &Ngram, job: &Job, sequences: &[Vec<u32>], scores: (Vec<f32>, Vec<f32>, Vec<u8>)) {
    let (ln, boundary, order) = scores;
    assert_eq!(boundary, vec![0.0; job.trie.len()]);
    for (sequence, &end) in sequences.iter().zip(&job.trie.ends) {
        let mut nodes: Vec<u32> = job.trie.path(end).collect();
        nodes.reverse();
        let mut state = model.begin();
        for (&id, node) in sequence.iter().zip(nodes) {
            let mut out = State::default();
            let full = model.full_score(&state, id, &mut out);
            state = out;
            let expected = f64::from(full.log10) * std::f64::consts::LN_10;
            assert_eq!(ln[node as usize], expected as f32);
            assert_eq!(order[node as usize], full.length);
        }
    }
}

#[test]
fn tries_score_as_their_sentences_do_in_any_company() {
    let model = Ngram::open(fixture("kenlm/unicode6.arpa.gz"), &Options::default()).unwrap();
    let jobs = jobs(&model, 20);
    for rows in [1, 4096] {
        let mut scorer = model.scorer(&limits(rows)).unwrap();
        let slots: Vec<_> = jobs.iter().map(|(job, _)| scorer.submit(job.clone()).unwrap()).collect();
        let ready: usize = jobs.iter().map(|(job, _)| job.trie.len()).sum();
        assert_eq!(scorer.demand().ready, ready);
        // The second is given up; the others do not notice.
        scorer.step().unwrap();
        scorer.cancel(slots[1]);
        for (at, ((job, sequences), &slot)) in jobs.iter().zip(&slots).enumerate() {
            if at != 1 {
                expect(&model, job, sequences, finish(&mut *scorer, slot));
                assert!(matches!(scorer.take(slot), Poll::Ready(Err(_))), "taken twice");
            }
            scorer.release(slot);
        }
        assert_eq!(scorer.demand().ready, 0);
        let work = scorer.work();
        assert!(work.rows < work.raw && work.raw > 1000, "{work:?}");
        let (job, sequences) = &jobs[1];
        let slot = scorer.submit(job.clone()).unwrap();
        expect(&model, job, sequences, finish(&mut *scorer, slot));
    }
}

/// What rescoring computes is what KenLM does, whatever kind of file the model is in.
#[test]
fn tries_score_as_kenlm_from_every_kind_of_file() {
    let folder = tempfile::tempdir().unwrap();
    let arpa = fixture("kenlm/unicode6.arpa.gz");
    let mut kinds = vec![(arpa.clone(), "probing")];
    for prefer in [compact::Prefer::Size, compact::Prefer::Speed] {
        let path = folder.path().join(format!("{prefer:?}"));
        compact::build(&arpa, &path, &compact::Options { prefer, ..compact::Options::default() }).unwrap();
        kinds.push((path, "probing"));
    }
    let formats =
        [("probing", "probing"), ("trie", "trie"), ("trie_a22", "trie"), ("trie_q8b8_a22", "trie_q8b8")];
    for (format, vectors) in formats {
        let path = folder.path().join(format);
        std::fs::write(&path, gunzip(&fixture(&format!("kenlm/unicode6.{format}.gz")))).unwrap();
        kinds.push((path, vectors));
    }
    for (path, vectors) in kinds {
        let model = Ngram::open(&path, &Options::default()).unwrap();
        let rows = gunzip(&fixture(&format!("kenlm/unicode6.{vectors}.tsv.gz")));
        let mut rows = rows.split(|&b| b == b'\n').filter(|row| !row.windows(5).any(|part| part == b"TOTAL"));
        let mut scorer = model.scorer(&limits(8)).unwrap();
        let mut compared = 0;
        for (job, sequences) in jobs(&model, 25) {
            let slot = scorer.submit(job.clone()).unwrap();
            let (ln, _, order) = finish(&mut *scorer, slot);
            scorer.release(slot);
            for (sequence, &end) in sequences.iter().zip(&job.trie.ends) {
                let mut nodes: Vec<u32> = job.trie.path(end).collect();
                nodes.reverse();
                for (&id, node) in sequence.iter().zip(nodes) {
                    let row = String::from_utf8_lossy(rows.next().unwrap()).into_owned();
                    let fields: Vec<&str> = row.split('\t').collect();
                    let log10 = f32::from_bits(u32::from_str_radix(fields[4], 16).unwrap());
                    let theirs = (f64::from(log10) * std::f64::consts::LN_10) as f32;
                    let (ours, length) = (ln[node as usize], order[node as usize]);
                    assert_eq!(
                        (ours.to_bits(), length),
                        (theirs.to_bits(), fields[5].parse().unwrap()),
                        "{row}"
                    );
                    assert_eq!(id == 0, fields[6] == "1", "{row}");
                    compared += 1;
                }
            }
        }
        assert!(compared > 1000, "{}: only {compared} tokens", path.display());
    }
}

#[test]
fn a_step_is_bounded() {
    let model = Ngram::open(fixture("kenlm/unicode6.arpa.gz"), &Options::default()).unwrap();
    let (job, _) = jobs(&model, 300).remove(0);
    let mut scorer = model.scorer(&limits(16)).unwrap();
    let slot = scorer.submit(job.clone()).unwrap();
    scorer.step().unwrap();
    assert_eq!(scorer.demand().ready, job.trie.len() - 512);
    assert!(scorer.take(slot).is_pending());
}

#[test]
fn what_cannot_be_scored_is_refused() {
    let model = Ngram::open(fixture("kenlm/unicode6.arpa.gz"), &Options::default()).unwrap();
    let (job, _) = jobs(&model, 1).remove(0);
    let mut scorer = model.scorer(&limits(16)).unwrap();
    let spoilt = |spoil: fn(&mut crate::trie::Trie)| {
        let mut trie = (*job.trie).clone();
        spoil(&mut trie);
        Job { trie: Arc::new(trie), ..job.clone() }
    };
    for job in [
        spoilt(|trie| trie.token[1] = u32::MAX),
        spoilt(|trie| trie.parent[1] = 1),
        spoilt(|trie| trie.parent.clear()),
        spoilt(|trie| trie.token.clear()),
        Job { start: Some(crate::lm::Carry(Arc::new(()))), ..job.clone() },
    ] {
        assert!(scorer.submit(job).is_err());
    }
    assert_eq!(scorer.demand().ready, 0);
    assert!(matches!(scorer.take(crate::lm::Slot(7)), Poll::Ready(Err(_))));
    scorer.release(crate::lm::Slot(7));
}

#[test]
fn words_are_tokens() {
    let model = Ngram::open(fixture("kenlm/unicode6.arpa.gz"), &Options::default()).unwrap();
    let spec = model.spec();
    assert!(spec.vocab.words() && !spec.carries && !spec.backward);
    let by_symbol: HashMap<Vec<u8>, u32> =
        (0..spec.vocab.size() as u32).map(|id| (spec.vocab.symbol(id).unwrap(), id)).collect();
    assert_eq!(by_symbol[&b"<s>"[..]], spec.vocab.bos());
    assert_eq!(by_symbol[&b"</s>"[..]], spec.vocab.eos());
    assert_eq!(spec.vocab.unk(), Some(by_symbol[&b"<unk>"[..]]));
}
