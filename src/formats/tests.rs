//! Every format against its golden, which holds the traps; the goldens were written by hand.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::testing::{data_or_skip, fixture};
use crate::{Result, Status, Utterance};

const GOLDENS: [(&str, Format); 14] = [
    ("jsonl.jsonl", Format::Jsonl),
    ("json.json", Format::Json),
    ("kaldi.txt", Format::Kaldi),
    ("srilm.txt", Format::Srilm),
    ("nbest1.txt", Format::Nbest1),
    ("nbest2.txt", Format::Nbest2),
    ("moses.txt", Format::Moses),
    ("nemo.tsv", Format::Nemo),
    ("wenet.txt", Format::Wenet),
    ("cued.txt", Format::Cued),
    ("pocketsphinx.hyp", Format::Pocketsphinx),
    ("espnet1.json", Format::Espnet1),
    ("mlm.json", Format::Mlm),
    ("hypo2trans.json", Format::Hypo2trans),
];

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(fixture(&format!("cases/formats/{name}"))).unwrap()
}

fn given() -> Given {
    Given { beam_size: Some(3), ..Given::default() }
}

fn chunks(bytes: &[u8], format: Option<Format>, given: &Given) -> Result<Vec<Chunk>> {
    let input = Box::new(io::Cursor::new(bytes.to_vec()));
    let names = Names { stem: Some(b"file".to_vec()), ..Names::default() };
    Source::open(input, format, given, &names, Kept::default())?.collect()
}

fn reader(given: &Given) -> Reader {
    Reader::new(OwnNames::new(["ngram"]), Arc::new(given.clone()), Arc::default())
}

/// Reads, lets `change` have each utterance, and writes.
fn through(
    bytes: &[u8],
    format: Option<Format>,
    answer: Answer,
    given: &Given,
    change: impl Fn(&mut Utterance),
) -> Vec<u8> {
    let mut reader = reader(given);
    let envelope = answer.format.filter(|to| Some(*to) != format).and_then(Format::envelope);
    let mut out = envelope.map_or(Vec::new(), |envelope| envelope.before.into());
    let mut written = 0;
    for chunk in chunks(bytes, format, given).unwrap() {
        let mut one = Vec::new();
        if chunk.is_record() {
            let mut record =
                reader.read(&chunk).unwrap_or_else(|error| panic!("{:?}: {error}", chunk.format));
            change(&mut record.utterance);
            let order: Vec<usize> = (0..record.utterance.hypotheses.len()).collect();
            let gained = Gained { order: &order, ..Gained::default() };
            answer.write(&mut record, &chunk, &gained, &mut one).unwrap();
        } else {
            answer.other(&chunk, 0, &mut one);
        }
        if let (Some(envelope), false, true) = (envelope, one.is_empty(), written > 0) {
            out.extend_from_slice(envelope.between.as_bytes());
        }
        written += u32::from(!one.is_empty());
        out.append(&mut one);
    }
    out.extend_from_slice(envelope.map_or(b"", |envelope| envelope.after.as_bytes()));
    out
}

fn read(bytes: &[u8], format: Option<Format>, given: &Given) -> Vec<Utterance> {
    let mut reader = reader(given);
    let records = chunks(bytes, format, given).unwrap().into_iter().filter(Chunk::is_record);
    records.map(|chunk| reader.read(&chunk).unwrap().utterance).collect()
}

/// Last first, each with a total of its own that no format rounds away.
fn reversed(utterance: &mut Utterance) {
    utterance.hypotheses.reverse();
    for (hypothesis, at) in utterance.hypotheses.iter_mut().zip(1..) {
        hypothesis.total = -2.5 * f64::from(at);
    }
    utterance.status = Status::Ok;
}

fn ids(utterances: &[Utterance]) -> Vec<String> {
    utterances.iter().map(|u| String::from_utf8_lossy(&u.id).into_owned()).collect()
}

fn texts(utterance: &Utterance) -> Vec<String> {
    utterance.hypotheses.iter().map(|h| h.text().into_owned()).collect()
}

#[test]
fn what_does_not_change_comes_out_byte_for_byte() {
    for (name, format) in GOLDENS.into_iter().skip(2) {
        let bytes = golden(name);
        let crlf = String::from_utf8(bytes.clone()).unwrap().replace('\n', "\r\n").into_bytes();
        let cut = bytes.trim_ascii_end().to_vec();
        for bytes in [bytes, crlf, cut] {
            let out = through(&bytes, Some(format), Answer::default(), &given(), |_| {});
            assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&bytes), "{name}");
            // With a total that is the first pass's nothing changes either.
            let same = |utterance: &mut Utterance| {
                for hypothesis in &mut utterance.hypotheses {
                    hypothesis.total = hypothesis.feature("score").unwrap_or(-1.0);
                }
                utterance.status = Status::Ok;
            };
            let out = through(&bytes, Some(format), Answer::default(), &given(), same);
            assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&bytes), "{name}");
        }
    }
}

#[test]
fn another_order_comes_out_and_its_formula_gives_our_total() {
    for (name, format) in GOLDENS.into_iter().skip(2) {
        let bytes = golden(name);
        let before = read(&bytes, Some(format), &given());
        let out = through(&bytes, Some(format), Answer::default(), &given(), reversed);
        let after = read(&out, Some(format), &given());
        assert_eq!(ids(&after), ids(&before), "{name}");
        for (before, after) in before.iter().zip(&after) {
            let mut want = texts(before);
            want.reverse();
            assert_eq!(texts(after), want, "{name}");
            assert_eq!(after.reference, before.reference, "{name}");
            let had = before.hypotheses.iter().all(|h| h.feature("score").is_some());
            for (hypothesis, at) in after.hypotheses.iter().zip(1..).filter(|_| had) {
                let got = hypothesis.feature("score").unwrap();
                assert!((got + 2.5 * f64::from(at)).abs() < near(format), "{name}: {got}");
            }
        }
        let keep = Answer { keep_scores: true, ..Answer::default() };
        let kept = through(&bytes, Some(format), keep, &given(), reversed);
        let sorted = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            bytes.sort_unstable();
            bytes
        };
        assert_eq!(sorted(&kept), sorted(&bytes), "{name}: bytes only change places");
    }
}

/// File, record, its id, hypothesis, its text, features.
type Value = (&'static str, usize, &'static str, usize, &'static str, &'static [(&'static str, f64)]);

#[test]
fn values_are_natural_logs_and_higher_is_better() {
    // Computed from the definitions of the formats, not by this program.
    let want: [Value; 11] = [
        (
            "srilm.txt",
            0,
            "file",
            0,
            "-pau- right -pau-",
            &[("am", 453.098_089_4), ("lm", -4.209_954_5), ("score", 419.418_453_6)],
        ),
        ("srilm.txt", 1, "file-2", 0, "rain", &[("am", -6.907_755_3), ("lm", -5.756_462_7)]),
        ("nbest1.txt", 0, "file", 1, "the cattle boils", &[("score", -208.936_753_2)]),
        (
            "nbest2.txt",
            0,
            "file",
            0,
            "hello world",
            &[("lm", -3.276_636_2), ("am", -204.994_550_3), ("score", -208.271_186_4)],
        ),
        (
            "moses.txt",
            0,
            "0",
            0,
            "a small house",
            &[("LM0", -12.3), ("AM00", -7.1), ("AM01", 0.3), ("WordPenalty0", -3.0), ("score", -4.42063)],
        ),
        ("moses.txt", 1, "1", 0, "it rains", &[("F0", -3.5), ("score", -3.5)]),
        ("nemo.tsv", 0, "1", 0, "the cat said \"no", &[("score", -3.21)]),
        ("wenet.txt", 0, "utt1", 0, "the  cat sat", &[("score", -3.21)]),
        ("cued.txt", 0, "u7", 1, "<s> ask a pilot </s>", &[("am", -311.0), ("lm", -9.0), ("score", -320.0)]),
        ("pocketsphinx.hyp", 0, "file", 2, "", &[("score", -921.656_317_952)]),
        ("mlm.json", 0, "1272-1", 10, " option number 11", &[("score", -2.375)]),
    ];
    for (name, record, id, at, text, features) in want {
        let format = GOLDENS.iter().find(|golden| golden.0 == name).unwrap().1;
        let utterance = &read(&golden(name), Some(format), &given())[record];
        assert_eq!(
            (String::from_utf8_lossy(&utterance.id), &*texts(utterance)[at]),
            (id.into(), text),
            "{name}"
        );
        for (feature, value) in features {
            let got = utterance.hypotheses[at].feature(feature).unwrap_or(f64::NAN);
            assert!((got - value).abs() < 1e-6 * value.abs().max(1.0), "{name} {feature}: {got}");
        }
    }
    let kaldi = read(&golden("kaldi.txt"), None, &given());
    assert_eq!(ids(&kaldi), ["en_4156-A_058697-12", "utt-b"]);
    assert_eq!(texts(&kaldi[0]), ["the ferry left at nine", "the fairy left at nine", ""]);
    let nemo = read(&golden("nemo.tsv"), None, &given());
    assert_eq!(texts(&nemo[0])[1..], ["NA", ""]);
    assert_eq!(ids(&nemo), ["1", "2"]);
    let wenet = read(&golden("wenet.txt"), None, &given());
    assert_eq!(wenet.iter().map(|u| u.hypotheses.len()).collect::<Vec<_>>(), [2, 0, 1]);
    let hypo = read(&golden("hypo2trans.json"), None, &given());
    assert_eq!(
        (texts(&hypo[1]), hypo[1].reference.as_deref()),
        (vec![String::new(), "ah".into()], Some(&b""[..]))
    );
    let espnet = read(&golden("espnet1.json"), None, &given());
    assert_eq!(
        (ids(&espnet), texts(&espnet[0])),
        (
            vec!["spk1-utt1".into(), "spk1-utt2".into()],
            vec!["a quiet street".to_owned(), "a quite street".into()]
        )
    );
    assert_eq!(espnet[1].reference.as_deref(), Some("hé".as_bytes()));
}

/// What numbers a place stays there: Kaldi's keys, mlm-scoring's members, ESPnet1's names.
#[test]
fn numbers_of_places_stay_in_their_places() {
    let out = through(&golden("kaldi.txt"), None, Answer::default(), &given(), reversed);
    let out = String::from_utf8(out).unwrap();
    assert!(
        out.starts_with("en_4156-A_058697-12-1\nen_4156-A_058697-12-2 the fairy left at nine\n"),
        "{out}"
    );
    assert!(out.contains("en_4156-A_058697-12-4 the ferry"), "{out}");
    let out = through(&golden("mlm.json"), None, Answer::default(), &given(), reversed);
    let out: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(out["1272-1"]["hyp_1"]["text"], " option number 11");
    assert_eq!(out["1272-1"]["hyp_11"]["text"], " option number 1");
    let out = through(&golden("espnet1.json"), None, Answer::default(), &given(), reversed);
    let out: serde_json::Value = serde_json::from_slice(&out).unwrap();
    let first = &out["utts"]["spk1-utt1"]["output"][0];
    assert_eq!((&first["name"], &first["rec_tokenid"]), (&"target1[1]".into(), &"5 8".into()));
}

/// How near a score of this format comes to what it should be: whole numbers by half a step.
fn near(format: Format) -> f64 {
    match format {
        Format::Pocketsphinx => 0.052,
        _ => 1e-6,
    }
}

#[test]
fn every_format_becomes_every_other() {
    let targets = [
        Format::Jsonl,
        Format::Json,
        Format::Srilm,
        Format::Nbest1,
        Format::Moses,
        Format::Nemo,
        Format::Wenet,
        Format::Cued,
        Format::Pocketsphinx,
        Format::Espnet1,
        Format::Mlm,
        Format::Hypo2trans,
    ];
    for (name, format) in GOLDENS {
        let before = read(&golden(name), Some(format), &given());
        for to in targets.into_iter().filter(|to| *to != format) {
            let answer = Answer { format: Some(to), ..Answer::default() };
            let out = through(&golden(name), Some(format), answer, &given(), reversed);
            let given = Given { beam_size: Some(0), ..Given::default() };
            let after = read(&out, Some(to), &given);
            let full = |u: &&Utterance| !u.hypotheses.is_empty();
            let (before, after): (Vec<_>, Vec<_>) =
                (before.iter().filter(full).collect(), after.iter().filter(full).collect());
            assert_eq!(after.len(), before.len(), "{name} to {to}: {}", String::from_utf8_lossy(&out));
            for (before, after) in before.iter().zip(after) {
                let plain = |text: String| {
                    text.split_whitespace().filter(|w| !w.starts_with('<')).collect::<Vec<_>>().join(" ")
                };
                let mut want: Vec<_> = texts(before).into_iter().map(plain).collect();
                // JSON Lines keeps the first pass's ranks, and is read in their order.
                let jsonl = matches!(to, Format::Jsonl | Format::Json);
                if !jsonl {
                    want.reverse();
                }
                let got: Vec<_> = texts(after).into_iter().map(plain).collect();
                assert_eq!(got, want, "{name} to {to}");
                for (hypothesis, at) in after.hypotheses.iter().zip(1..) {
                    let total = hypothesis.feature("score").unwrap_or(-2.5 * f64::from(at));
                    assert!(
                        jsonl || (total + 2.5 * f64::from(at)).abs() < near(to).max(1e-4),
                        "{name} to {to}: {total}"
                    );
                }
            }
        }
    }
}

#[test]
fn the_best_hypotheses_come_out_for_scoring_tools() {
    let best = |to| {
        let answer = Answer { format: Some(to), ..Answer::default() };
        let same = |utterance: &mut Utterance| utterance.status = Status::Ok;
        let out =
            |name: &str| String::from_utf8(through(&golden(name), None, answer, &given(), same)).unwrap();
        (out("kaldi.txt"), out("nbest2.txt"))
    };
    assert!(best(Format::Trn).0.ends_with("na\u{ef}ve caf\u{e9} (utt-b)\n"));
    assert!(best(Format::Ref).0.starts_with("en_4156-A_058697-12 the ferry left at nine\n"));
    // An end is the start of the last frame.
    let answer = Answer { format: Some(Format::Ctm), ..Answer::default() };
    let same = |utterance: &mut Utterance| utterance.status = Status::Ok;
    let ctm = |name| String::from_utf8(through(&golden(name), None, answer, &given(), same)).unwrap();
    assert_eq!(ctm("nbest2.txt"), "file 1 0.10 0.36 hello\nfile 1 0.46 0.45 world\n");
    let mut reader = reader(&given());
    let chunk = &chunks(&golden("moses.txt"), None, &given()).unwrap()[0];
    let mut record = reader.read(chunk).unwrap();
    let gained = Gained { order: &[0], ..Gained::default() };
    let error = answer.write(&mut record, chunk, &gained, &mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("times"), "{error}");
}

#[test]
fn folders_are_joined_by_key() {
    let open = |name: &str, given: &Given| {
        let (mut source, format) =
            Folder::open(&fixture(&format!("cases/formats/{name}")), None, given, Kept::default()).unwrap();
        let chunks: Vec<Chunk> = source.by_ref().collect::<Result<_>>().unwrap();
        (chunks, format, source.orphans())
    };
    let symbols = symbols(&fixture("cases/formats/kaldi/words.txt")).unwrap();
    let given = Given { symbols: Some(symbols), ..Given::default() };
    let (chunks, format, orphans) = open("kaldi", &given);
    assert_eq!(format, Format::Kaldi);
    assert!(orphans.len() == 1 && orphans[0].contains("1 keys"), "{orphans:?}");
    let mut reader = Reader::new(OwnNames::default(), Arc::new(given), Arc::default());
    let mut record = reader.read(&chunks[0]).unwrap();
    assert_eq!(
        (&record.utterance.id[..], texts(&record.utterance)),
        (&b"a-1"[..], vec!["warm bread".into(), "warm bred".into()])
    );
    let second = &record.utterance.hypotheses[1];
    let near = |name: &str, value: f64| (second.feature(name).unwrap() - value).abs() < 1e-9;
    assert!(near("lm", -12.5) && near("am", -3519.5) && near("score", -364.45));
    reversed(&mut record.utterance);
    let gained = Gained { order: &[0, 1], ..Gained::default() };
    let mut out = Vec::new();
    Answer::default().write(&mut record, &chunks[0], &gained, &mut out).unwrap();
    let files: Vec<_> =
        Answer::frames(&out).map(|(name, line)| (name, String::from_utf8_lossy(line))).collect();
    // -2.5 = -lm cost - 0.1 * 3519.5
    let want = [("words", "a-1-1 3 5\n"), ("lm_cost", "a-1-1 -349.45\n"), ("ac_cost", "a-1-1 3519.5\n")];
    assert_eq!(files[..3], want.map(|(name, line)| (name, line.into())));

    let (chunks, format, orphans) = open("espnet", &Given::default());
    assert_eq!((format, chunks.len()), (Format::Espnet, 3));
    assert_eq!(orphans.len(), 2, "{orphans:?}");
    let lists: Vec<_> = chunks.iter().map(|chunk| reader.read(chunk).unwrap().utterance).collect();
    assert_eq!(ids(&lists), ["uttA", "uttB", "uttC"]);
    assert_eq!(texts(&lists[0]), ["the cat sat", "the cat sad", "a cat sat"]);
    assert_eq!(lists[2].hypotheses[0].feature("score"), Some(-1.5));
    let mut record = reader.read(&chunks[2]).unwrap();
    reversed(&mut record.utterance);
    let mut out = Vec::new();
    Answer::default().write(&mut record, &chunks[2], &gained, &mut out).unwrap();
    let files: Vec<_> =
        Answer::frames(&out).map(|(name, line)| (name, String::from_utf8_lossy(line))).collect();
    assert!(files.contains(&("2best_recog/score", "uttC tensor(-5, device='cuda:0')\n".into())), "{files:?}");
    assert!(files.contains(&("1best_recog/token_int", "uttC 8\n".into())), "{files:?}");

    let (chunks, format, _) = open("srilm", &Given::default());
    assert_eq!(format, Format::Srilm);
    let lists: Vec<_> = chunks.iter().map(|chunk| reader.read(chunk).unwrap().utterance).collect();
    assert_eq!(ids(&lists), ["call-01", "call-02"]);
}

/// A run in parallel: its folders are one, in the order of their numbers.
#[test]
fn shards_are_read_as_one() {
    let whole = fixture("cases/formats/espnet");
    let scratch = tempfile::tempdir().unwrap();
    let keys = ["uttA", "uttB", "uttC"];
    // 10 comes after 9, and before it by name.
    for (number, key) in ["9", "10", "11"].iter().zip(keys) {
        for place in ["1best_recog", "2best_recog", "3best_recog"] {
            let to = scratch.path().join(format!("test/logdir/output.{number}/{place}"));
            std::fs::create_dir_all(&to).unwrap();
            for name in ["text", "score", "token", "token_int"] {
                let Ok(text) = std::fs::read_to_string(whole.join(place).join(name)) else { continue };
                let own = text.split_inclusive('\n').filter(|line| line.starts_with(key));
                std::fs::write(to.join(name), own.collect::<String>()).unwrap();
            }
        }
    }
    let read = |path: &Path| -> Vec<Utterance> {
        let (source, format) = Folder::open(path, None, &Given::default(), Kept::default()).unwrap();
        assert_eq!(format, Format::Espnet);
        let mut reader = reader(&given());
        source.map(|chunk| reader.read(&chunk.unwrap()).unwrap().utterance).collect()
    };
    let want = read(&whole);
    for path in [scratch.path().join("test"), scratch.path().join("test/logdir")] {
        let got = read(&path);
        assert_eq!(ids(&got), keys);
        for (got, want) in got.iter().zip(&want) {
            assert_eq!(texts(got), texts(want));
            assert_eq!(got.hypotheses[0].features, want.hypotheses[0].features);
        }
    }
}

#[test]
fn a_record_too_long_goes_on_as_it_came() {
    let text = golden("moses.txt");
    let names = Names::default();
    let kept = Kept { record_bytes: 150, ..Kept::default() };
    let input = Box::new(io::Cursor::new(text.clone()));
    let chunks: Vec<Chunk> =
        Source::open(input, None, &given(), &names, kept).unwrap().collect::<Result<_>>().unwrap();
    assert!(matches!(chunks[0].body, Body::Passed(_)) && chunks.last().unwrap().is_record());
    let mut out = Vec::new();
    chunks.iter().for_each(|chunk| Answer::default().other(chunk, 150, &mut out));
    assert_eq!(out, text);
}

#[test]
fn an_interrupted_output_is_counted_up_to_its_last_certain_record() {
    for (name, format, beam, records) in [
        ("moses.txt", Format::Moses, None, 1),
        ("nemo.tsv", Format::Nemo, Some(3), 2),
        ("kaldi.txt", Format::Kaldi, None, 1),
    ] {
        let given = Given { beam_size: beam, ..Given::default() };
        let bytes = golden(name);
        let (done, whole) = count(&bytes[..], format, &given).unwrap();
        assert_eq!(done, records, "{name}");
        assert!(whole == bytes.len() as u64 || bytes[whole as usize - 1] == b'\n');
        assert_eq!(
            count(&bytes[..whole as usize / 2], format, &given).unwrap().0,
            if beam.is_some() { 1 } else { 0 }
        );
    }
    assert!(count(&b"{}"[..], Format::Mlm, &Given::default()).is_err());
}

#[test]
fn without_a_beam_size_beams_are_refused() {
    let error = chunks(&golden("nemo.tsv"), None, &Given::default()).unwrap_err().to_string();
    assert!(error.contains("--beam-size"), "{error}");
    let ragged = b"u1\ta b\t-1\nu1\ta\t-2\nu2\tc\t-1\n";
    assert_eq!(ids(&read(ragged, None, &Given::default())), ["u1", "u2"]);
}

/// Real lists, made into the formats that they came in and read back.
#[test]
fn recogniser_lists_survive_their_formats() {
    let Some(folder) = data_or_skip("recogniser_lists_survive_their_formats") else { return };
    for (name, to) in [("kaldi-indonesian-tri1", Format::Mlm), ("moses-europarl-de-en", Format::Moses)] {
        let lists = std::fs::read(folder.join(format!("nbest/{name}.jsonl"))).unwrap();
        let before = read(&lists, Some(Format::Jsonl), &Given::default());
        let answer = Answer { format: Some(to), ..Answer::default() };
        let out = through(&lists, Some(Format::Jsonl), answer, &Given::default(), |_| {});
        assert_eq!(through(&out, Some(to), Answer::default(), &Given::default(), |_| {}), out, "{name}");
        let after = read(&out, None, &Given::default());
        assert_eq!(ids(&after), ids(&before));
        for (before, after) in before.iter().zip(&after) {
            for (before, after) in before.hypotheses.iter().zip(&after.hypotheses) {
                assert_eq!(before.text().trim(), after.text().trim(), "{name}");
                for (feature, value) in &after.features {
                    let near = (before.feature(feature).unwrap() - value).abs() <= 1e-9 * value.abs();
                    assert!(near, "{name} {feature}");
                }
            }
        }
    }
}

/// One byte at a time.
struct Slow(io::Cursor<Vec<u8>>);

impl Read for Slow {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(1);
        self.0.read(&mut buffer[..length])
    }
}

#[test]
fn a_format_is_seen_however_its_bytes_come() {
    for (name, format) in GOLDENS {
        let bytes = golden(name);
        for start in ["", "\u{feff}", "\n\n"] {
            let bytes = [start.as_bytes(), &bytes].concat();
            let slow = Box::new(Slow(io::Cursor::new(bytes.clone())));
            let chunks = Source::open(slow, None, &given(), &Names::default(), Kept::default()).unwrap();
            let chunks: Vec<Chunk> = chunks.collect::<Result<_>>().unwrap();
            assert!(chunks.iter().all(|chunk| chunk.format == format), "{name} after {start:?}");
        }
        assert_eq!(format.name().parse::<Format>().unwrap(), format);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    /// Less than all of a golden is seen as its format or as not enough.
    #[test]
    fn no_golden_is_taken_for_another(which in 0..GOLDENS.len(), cut in 0.0..1.0_f64, crlf: bool) {
        let (name, format) = GOLDENS[which];
        let mut bytes = golden(name);
        if crlf {
            bytes = String::from_utf8(bytes).unwrap().replace('\n', "\r\n").into_bytes();
        }
        let head = &bytes[..(cut * bytes.len() as f64) as usize];
        prop_assert!(detect(head, false).is_none_or(|found| found == format), "{name}: {head:?}");
        prop_assert_eq!(detect(&bytes, true), Some(format));
    }

    #[test]
    fn nothing_panics_and_what_is_not_read_comes_out_as_it_came(
        which in 0..GOLDENS.len(), at in 0.0..1.0_f64, byte: u8, to in 0..GOLDENS.len()
    ) {
        let (name, format) = GOLDENS[which];
        let mut bytes = golden(name);
        let at = (at * bytes.len() as f64) as usize;
        bytes[at] = byte;
        let Ok(chunks) = chunks(&bytes, Some(format), &given()) else { return Ok(()) };
        let mut reader = reader(&given());
        let (mut out, mut all) = (Vec::new(), Vec::new());
        for chunk in &chunks {
            all.extend_from_slice(&chunk.bytes);
            all.extend_from_slice(chunk.ending.bytes());
            match reader.read(chunk) {
                Ok(mut record) if chunk.is_record() => {
                    reversed(&mut record.utterance);
                    let order: Vec<usize> = (0..record.utterance.hypotheses.len()).collect();
                    let gained = Gained { order: &order, ..Gained::default() };
                    let other = Answer { format: Some(GOLDENS[to].1), ..Answer::default() };
                    let _ = other.write(&mut record, chunk, &gained, &mut Vec::new());
                    Answer::default().write(&mut record, chunk, &gained, &mut Vec::new()).unwrap();
                    out.extend_from_slice(&chunk.bytes);
                    out.extend_from_slice(chunk.ending.bytes());
                }
                _ if chunk.is_record() && !format.is_native() => Answer::default().passed(chunk, "", &mut out),
                _ if chunk.is_record() => {
                    out.extend_from_slice(&chunk.bytes);
                    out.extend_from_slice(chunk.ending.bytes());
                }
                _ => Answer::default().other(chunk, 0, &mut out),
            }
        }
        prop_assert_eq!(&out, &all);
        if byte != 0xEF {
            prop_assert_eq!(all, bytes);
        }
    }
}
