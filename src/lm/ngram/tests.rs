//! The engine against KenLM's own results, and against anything that could be called a file.

use std::collections::HashMap;
use std::io::{Cursor, Read, Write};
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::testing::{data_or_skip, fixture};

#[test]
fn unicode_model_of_order_6_scores_as_kenlm() {
    let folder = fixture("kenlm");
    let rows = compare(&folder, &folder, &folder, "unicode6");
    assert_eq!(rows, 35_806, "rows compared");
}

#[test]
fn reference_models_score_as_kenlm() {
    let Some(data) = data_or_skip("reference_models_score_as_kenlm") else { return };
    let data = data.join("kenlm");
    for name in ["test", "test_nounk", "bigram", "novels3", "unicode6"] {
        let rows = compare(&data.join("arpa"), &data.join("sent"), &data.join("tsv"), name);
        eprintln!("{name}: {rows} rows equal");
        assert!(rows > 10_000, "{name}: only {rows} rows");
    }
}

#[test]
fn malformed_files_are_taken_or_refused_as_kenlm_does() {
    let folder = fixture("kenlm/malformed");
    // KenLM refuses these; they say clearly enough what they mean.
    let lenient = [
        "bom",
        "leading_text",
        "ngram_header_trailing_space",
        "trailing_tab_no_backoff",
        "trailing_space_after_backoff",
        "unigram_only",
    ];
    // KenLM takes these: a duplicate is a fault of whatever made the file; xz is not read yet.
    let strict = ["duplicate_unigram", "duplicate_bigram", "xz_ok"];
    let results = std::fs::read_to_string(folder.join("results_arpa.tsv")).unwrap();
    let mut cases = 0;
    let mut scored = 0;
    for row in results.lines().skip(1) {
        let columns: Vec<&str> = row.split('\t').collect();
        let (name, tool, rc) = (columns[0], columns[1], columns[2]);
        if tool != "build_probing" {
            continue;
        }
        cases += 1;
        let opened = Ngram::open(folder.join(format!("{name}.arpa")), &Options::default());
        let expected = (rc == "0" || lenient.contains(&name)) && !strict.contains(&name);
        match opened {
            Ok(model) => {
                assert!(expected, "{name}: taken, but KenLM refuses it");
                let same = ["bom", "leading_text", "ngram_header_trailing_space"].contains(&name);
                let reference = if same { "ok_base" } else { name };
                if let Ok(tsv) = std::fs::read(folder.join(format!("{reference}.probing.expected.tsv"))) {
                    let lines = b"a b\nb a a b\nzz a b zz\n<unk> b\n\n";
                    check(&model, model.begin(), lines, &tsv, name);
                    scored += 1;
                }
            }
            Err(error) => {
                assert!(!expected, "{name}: refused ({error}), but KenLM takes it");
                let text = error.to_string();
                assert!(!text.contains('\n') && text.contains(name), "{name}: {text}");
            }
        }
    }
    assert_eq!((cases, scored), (51, 27));
}

#[test]
fn a_pruned_suffix_becomes_a_blank() {
    // "a b b" is there and "b b" is not: KenLM inserts "b b", p = p(b) * backoff(b), so that
    // "b b" has an n-gram length of 2 and leads to "a b b".
    let model = Ngram::open(fixture("kenlm/malformed/missing_suffix.arpa"), &Options::default()).unwrap();
    assert_eq!(model.counts(), [5, 5, 2]);
    let b = model.words().id(b"b");
    let mut after = State::default();
    let mut out = State::default();
    model.full_score(&State::default(), b, &mut after);
    let full = model.full_score(&after, b, &mut out);
    assert_eq!((full.log10, full.length, full.independent_left), (-0.875 - 0.375, 2, false));
}

#[test]
fn unigram_models_score() {
    let model = Ngram::open(fixture("kenlm/malformed/unigram_only.arpa"), &Options::default()).unwrap();
    assert_eq!(model.order(), 1);
    assert!(model.begin().is_empty());
    let sentence = model.score(&[b"a", b"zz"]);
    assert_eq!((sentence.log10, sentence.oov), (-0.75 - 1.5 - 1.25, 1));
}

#[test]
fn a_missing_unknown_word_is_told_and_can_be_set() {
    let text = |unk: &str| {
        let words = if unk.is_empty() { 3 } else { 4 };
        format!("\\data\\\nngram 1={words}\n\n\\1-grams:\n-9\t<s>\n-1\t</s>\n-0.5\ta\n{unk}\n\\end\\\n")
    };
    let model = read(text("").as_bytes()).unwrap();
    assert_eq!(model.score(&[b"zz"]).words[0].log10, -100.0);
    assert!(model.warnings()[0].contains("no <unk>"), "{:?}", model.warnings());
    let options = Options { missing_unk_log10: -7.5 };
    let model = Ngram::from_reader("memory", Cursor::new(text("")), &options).unwrap();
    assert_eq!(model.score(&[b"zz"]).words[0].log10, -7.5);
    let model = read(text("-3\t<UNK>\n").as_bytes()).unwrap();
    assert_eq!(model.score(&[b"<unk>"]).words[0].log10, -3.0);
    assert!(model.warnings().is_empty());
}

#[test]
fn errors_name_the_line_and_what_to_do() {
    let base = "\\data\\\nngram 1=3\nngram 2=1\n\n\\1-grams:\n-9\t<s>\t-1\n-1\t</s>\n-0.5\ta\n\n\\2-grams:\n-0.1\t<s> a\n\n\\end\\\n";
    read(base.as_bytes()).unwrap();
    let told = |from: &str, to: &str| {
        assert!(base.contains(from));
        let error = read(base.replacen(from, to, 1).as_bytes()).err().expect(to);
        error.to_string()
    };
    for (from, to, expected) in [
        ("\\data\\", "data", "no line \\data\\"),
        ("ngram 2=1", "ngram 3=1", "line 3: expected `ngram 2=COUNT` or a blank line, found `ngram 3=1`"),
        ("ngram 2=1", "ngram 2=-1", "line 3: a count cannot be negative"),
        ("ngram 2=1", "ngram 2=2", "line 13: `\\end\\` comes after 1 of the 2 2-grams"),
        ("ngram 2=1", "ngram 2=0", "line 11: expected \\end\\, found `-0.1\\t<s> a`; are there more"),
        ("ngram 2=1", "ngram 2=18446744073709551616", "line 3: the count is too large"),
        ("\\1-grams:", "\\2-grams:", "line 5: expected \\1-grams:"),
        ("-1\t</s>", "-1 </s>", "line 7: expected a number, one tab and a word"),
        ("-1\t</s>", "-1\t</t>", "line 8: the 1-grams end without </s>"),
        ("a\n\n", "<s>\n\n", "line 8: the word `<s>` is listed twice"),
        ("a\n\n", "a\0\n\n", "line 8: a NUL byte inside the word"),
        ("-0.5\ta", "0.5\ta", "line 8: the log probability `0.5` is above 0"),
        ("-0.5\ta", "x\ta", "line 8: expected a log10 probability, found `x`"),
        ("\t-1\n", "\tinf\n", "line 6: expected a finite log10 backoff, found `inf`"),
        ("\t-1\n", " -1\n", "line 6: expected a tab and the backoff"),
        ("<s> a", "<s>", "line 11: expected 2 words"),
        ("<s> a", "<s> b", "line 11: the word `b` is not among the 1-grams"),
        ("<s> a", "<s> a\t-1", "line 11: an n-gram of the highest order has the backoff `-1`"),
        ("\\end\\\n", "", "line 12: the file ends where \\end\\ should come; it was cut short"),
        ("\\end\\\n", "\\end\\\nmore\n", "line 14: nothing may follow \\end\\"),
    ] {
        let text = told(from, to);
        assert!(text.contains(expected), "{to:?}: {text}");
    }
    for (head, expected) in [
        (&b""[..], "is empty"),
        (b"\xfd7zXZ\0 and so on", "xz -d"),
        (b"\x28\xb5\x2f\xfd and so on", "zstd -d"),
        (b"mmap lm http://kheafield.com/code format version 5\n\0", "KenLM binary"),
        (&gzip(b"mmap lm http://kheafield.com/code format version 5\n\0"), "KenLM binary"),
        (b"iARPA\n", "IRSTLM"),
        (&vec![b'x'; 3 << 20], "longer than 1 MiB"),
        (&b"text\n".repeat(1 << 19), "not an ARPA file"),
    ] {
        let text = read(head).err().expect(expected).to_string();
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn faults_that_are_found_late_name_their_own_line() {
    for (name, expected) in [
        ("duplicate_bigram", "line 16: this 2-gram is listed twice"),
        ("missing_context_noblank", "line 20: the first 2 words of this 3-gram are not among the 2-grams"),
    ] {
        let path = fixture(&format!("kenlm/malformed/{name}.arpa"));
        let error = Ngram::open(path, &Options::default()).err().expect(name).to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn headers_that_lie_cost_nothing() {
    let text = "\\data\\\nngram 1=4000000000\nngram 2=18446744073709551615\n\n\\1-grams:\n-1\t<s>\n";
    assert!(read(text.as_bytes()).is_err());
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().write_all(text.as_bytes()).unwrap();
    assert!(Ngram::open(file.path(), &Options::default()).is_err());
}

#[test]
fn packed_files_are_read_whole_or_not_at_all() {
    let text = std::fs::read(fixture("kenlm/malformed/ok_base.arpa")).unwrap();
    let (first, second) = text.split_at(100);
    let expected = read(&text).unwrap().score(&[b"a", b"b"]);
    for pack in [gzip, bzip2] {
        let members = [pack(first), pack(second)].concat();
        assert_eq!(read(&members).unwrap().score(&[b"a", b"b"]), expected);
        for cut in 0..members.len() {
            assert!(read(&members[..cut]).is_err(), "cut to {cut} of {} bytes", members.len());
        }
        let mut followed = members.clone();
        followed.extend_from_slice(b"plain text");
        assert!(read(&followed).is_err());
    }
}

#[test]
fn high_orders_keep_long_states() {
    // Order 12: states are longer than what is kept without allocating.
    let order = 12;
    let mut text = String::from("\\data\\\nngram 1=4\n");
    for n in 2..=order {
        text += &format!("ngram {n}=1\n");
    }
    text += "\n\\1-grams:\n-9\t<s>\n-1\t</s>\n-1\t<unk>\n-2\ta\t-0.5\n";
    for n in 2..=order {
        let backoff = if n == order { "" } else { "\t-0.25" };
        text +=
            &format!("\n\\{n}-grams:\n-{}\t{}{backoff}\n", 2.0 - n as f32 / 8.0, ["a"; 12][..n].join(" "));
    }
    text += "\n\\end\\\n";
    let model = read(text.as_bytes()).unwrap();
    let sentence = model.score(&[b"a".as_slice(); 14]);
    let lengths: Vec<u8> = sentence.words.iter().map(|word| word.length).collect();
    assert_eq!(lengths, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 12, 12, 1]);
    assert_eq!(sentence.words[11].log10, -0.5);
    // </s> backs off through all eleven contexts.
    assert_eq!(sentence.words[14].log10, -1.0 - 0.5 - 10.0 * 0.25);
}

proptest! {
    #[test]
    fn any_bytes_are_a_model_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&bytes);
        let _ = read(&[b"\\data\\\nngram 1=2\n\n\\1-grams:\n", &bytes[..]].concat());
        let _ = read(&[b"\x1f\x8b\x08\0", &bytes[..]].concat());
        let _ = read(&[b"BZh91AY&SY", &bytes[..]].concat());
    }

    #[test]
    fn a_damaged_model_is_an_error_or_scores(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 0..4),
        lines in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..2),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let base = if flips.len() % 2 == 0 { "ok_base" } else { "missing_suffix" };
        let mut text = std::fs::read(fixture(&format!("kenlm/malformed/{base}.arpa"))).unwrap();
        for (a, b) in lines {
            let mut rows: Vec<Vec<u8>> = text.split(|&b| b == b'\n').map(<[u8]>::to_vec).collect();
            let (a, b) = (a.index(rows.len()), b.index(rows.len()));
            rows.swap(a, b);
            text = rows.join(&b'\n');
        }
        for (place, bit) in flips {
            let place = place.index(text.len());
            text[place] ^= 1 << bit;
        }
        if let Some(cut) = cut {
            text.truncate(cut.index(text.len()));
        }
        if let Ok(model) = read(&text) {
            let sentence = model.score(&[b"a", b"b", b"b", b"a", b"zz", b"b"]);
            prop_assert!(!sentence.log10.is_nan());
            prop_assert_eq!(sentence.words.len(), 7);
        }
    }
}

/// Compares every number of every row of the reference with ours; returns the number of rows.
fn compare(arpa: &Path, sentences: &Path, tsv: &Path, name: &str) -> usize {
    let path = [format!("{name}.arpa"), format!("{name}.arpa.gz")].map(|file| arpa.join(file));
    let path = path.iter().find(|path| path.exists()).expect("a model");
    let model = Ngram::open(path, &Options::default()).unwrap();
    let lines = std::fs::read(sentences.join(format!("{name}.txt"))).unwrap();
    let rows = unpacked(&tsv.join(format!("{name}.probing.tsv.gz")));
    let compared = check(&model, model.begin(), &lines, &rows, name);
    let rows = unpacked(&tsv.join(format!("{name}.probing.nullctx.tsv.gz")));
    compared + check(&model, State::default(), &lines, &rows, name)
}

/// Rows: line, token, word, id, prob, n-gram length, OOV, state length, rest, independent left.
/// From the empty state the reference has no `</s>`.
fn check(model: &Ngram, start: State, lines: &[u8], rows: &[u8], name: &str) -> usize {
    let end = !start.is_empty();
    let mut rows = rows.split(|&b| b == b'\n').filter(|row| !row.is_empty());
    let mut compared = 0;
    let mut expect = |ours: String| {
        let theirs = String::from_utf8_lossy(rows.next().expect("a row")).into_owned();
        assert_eq!(ours, theirs.trim_end_matches('\t'), "{name}");
        compared += 1;
    };
    let lines = lines.strip_suffix(b"\n").unwrap_or(lines);
    for (line, text) in lines.split(|&b| b == b'\n').enumerate() {
        let words = text.split(|b| matches!(b, 9..=13 | 32)).filter(|word| !word.is_empty());
        let words: Vec<&[u8]> = words.chain(end.then_some(&b"</s>"[..])).collect();
        let mut state = start.clone();
        let mut out = State::default();
        let mut total = 0.0f32;
        let mut unknown = 0;
        for (at, word) in words.iter().enumerate() {
            let id = model.words().id(word);
            let full = model.full_score(&state, id, &mut out);
            std::mem::swap(&mut state, &mut out);
            total += full.log10;
            unknown += usize::from(id == 0);
            expect(format!(
                "{line}\t{at}\t{}\t{id}\t{:08x}\t{}\t{}\t{}\t{:08x}\t{}",
                String::from_utf8_lossy(word),
                full.log10.to_bits(),
                full.length,
                u8::from(id == 0),
                state.len(),
                full.rest.to_bits(),
                u8::from(full.independent_left),
            ));
        }
        expect(format!("{line}\tTOTAL\t\t\t{:08x}\t{}\t{unknown}", total.to_bits(), words.len()));
        if end {
            let sentence = model.score(&words[..words.len() - 1]);
            assert_eq!((sentence.log10.to_bits(), sentence.oov), (total.to_bits(), unknown));
        }
    }
    assert!(rows.next().is_none(), "{name}: rows left over");
    compared
}

fn read(bytes: &[u8]) -> Result<Ngram> {
    Ngram::from_reader("memory", Cursor::new(bytes.to_vec()), &Options::default())
}

fn unpacked(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).unwrap();
    flate2::read::MultiGzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut packer = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

/// Trie scores against the sentence scores of the same engine, which the vectors above check.
mod tries {
    use super::*;
    use crate::lm::{Job, LanguageModel, Limits, Scorer, Scores};
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
                let job = Job {
                    trie,
                    start: None,
                    context: [].into(),
                    deadline: None,
                    boundaries: true,
                    keep: false,
                };
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
}
