use super::*;
use crate::formats::{Gained, OwnNames};
use crate::{Name, Result, Status};
use proptest::prelude::*;
use serde_json::Value;

fn reader() -> Reader {
    Reader::new(OwnNames::new(["rnnlm", "ngram"]))
}

fn read(line: &str) -> Result<Record> {
    reader().read(line.as_bytes())
}

fn error(line: &str) -> String {
    read(line).unwrap_err().to_string()
}

fn texts(record: &Record) -> Vec<String> {
    record.utterance.hypotheses.iter().map(|h| h.text().into_owned()).collect()
}

/// The features of a hypothesis as `name=value`.
fn features(record: &Record, at: usize) -> String {
    let features = record.utterance.hypotheses[at].features.iter();
    features.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

/// Scores that depend on the text alone, as models' do.
fn rescore(record: &mut Record) {
    record.utterance.status = Status::Ok;
    for h in &mut record.utterance.hypotheses {
        let hash = h.bytes.iter().fold(7u64, |hash, &b| hash.wrapping_mul(31).wrapping_add(u64::from(b)));
        h.set(&"rnnlm".into(), -((hash % 1000) as f64) / 7.0);
        h.set(&"words".into(), (hash % 5) as f64);
        h.set(&"rnnlm.oov".into(), 0.0);
        h.total = if hash % 11 == 0 { f64::NAN } else { -((hash % 997) as f64) };
    }
}

fn written(record: &Record, line: &str, order: &[usize]) -> String {
    let names = ["rnnlm", "words", "rnnlm.oov"].map(Name::from);
    let mut out = b"kept".to_vec();
    write(
        record,
        line.as_bytes(),
        &Gained { order, features: &names, explain: None, ..Gained::default() },
        &mut out,
    )
    .unwrap();
    String::from_utf8(out).unwrap().strip_prefix("kept").unwrap().to_owned()
}

/// Rescores, in an order of first-pass ranks from 0.
fn rescored(line: &str, order: &[usize]) -> String {
    let mut record = read(line).unwrap();
    rescore(&mut record);
    written(&record, line, order)
}

#[test]
fn the_native_record_as_designed() {
    let line = concat!(
        r#"{"id":"utt1","ref":"a cat sat","hyps":[{"text":"a cat sad","scores":{"am":-310.2,"lm":-9.1}},"#,
        r#"{"text":"a cat sat","scores":{"am":-311.0,"lm":-9.4}}]}"#
    );
    let mut record = read(line).unwrap();
    assert_eq!(record.utterance.id, b"utt1");
    assert_eq!(record.utterance.reference.as_deref(), Some(&b"a cat sat"[..]));
    assert_eq!(texts(&record), ["a cat sad", "a cat sat"]);
    assert_eq!(features(&record, 1), "am=-311 lm=-9.4");
    record.utterance.status = Status::Partial(vec!["ngram".to_owned()]);
    let h = &mut record.utterance.hypotheses[1];
    h.set(&"rnnlm".into(), -9.8);
    h.set(&"words".into(), 3.0);
    h.set(&"rnnlm.oov".into(), 0.0);
    h.total = -310.0;
    assert_eq!(
        written(&record, line, &[1]),
        concat!(
            r#"{"id":"utt1","ref":"a cat sat","hyps":[{"text":"a cat sat","scores":{"am":-311.0,"lm":-9.4,"#,
            r#""rnnlm":-9.8,"words":3,"rnnlm.oov":0,"total":-310.0},"rank":2}],"#,
            r#""secondpass":{"status":"partial","left_out":["ngram"]}}"#
        )
    );
}

#[test]
fn every_alias_is_read() {
    for id in names::ID {
        assert_eq!(read(&format!(r#"{{"{id}":"u","hyps":[]}}"#)).unwrap().utterance.id, b"u");
        assert_eq!(read(&format!(r#"{{"{id}":1.50,"hyps":[]}}"#)).unwrap().utterance.id, b"1.50");
    }
    for session in names::SESSION {
        let record = read(&format!(r#"{{"{session}":"s","hyps":[]}}"#)).unwrap();
        assert_eq!(record.utterance.session.as_deref(), Some(&b"s"[..]));
    }
    for reference in names::REFERENCE {
        let record = read(&format!(r#"{{"{reference}":"r","hyps":["x"]}}"#)).unwrap();
        assert_eq!(record.utterance.reference.as_deref(), Some(&b"r"[..]), "{reference}");
    }
    for list in names::LIST {
        for text in names::TEXT {
            let record = read(&format!(r#"{{"{list}":["a",{{"{text}":"b"}}]}}"#)).unwrap();
            assert_eq!(texts(&record), ["a", "b"]);
        }
    }
    for (alias, name) in [
        ("am", "am"),
        ("am_score", "am"),
        ("ac_score", "am"),
        ("acoustic_score", "am"),
        ("logit_score", "am"),
        ("lm", "lm"),
        ("lm_score", "lm"),
        ("score", "score"),
        ("total", "score"),
        ("total_score", "score"),
        ("logprob", "score"),
        ("confidence", "score"),
    ] {
        for line in [
            format!(r#"{{"hyps":[{{"text":"a","{alias}":-1.5}}]}}"#),
            format!(r#"{{"hyps":[{{"text":"a","scores":{{"{alias}":-1.5}}}}]}}"#),
            format!(r#"{{"hyps":[{{"text":"a","feat":{{"{alias}":[-1.5]}}}}]}}"#),
            format!(r#"{{"text":["a"],"{alias}":[-1.5]}}"#),
            format!(r#"{{"hyps":["a"],"{alias}":[-1.5]}}"#),
        ] {
            assert_eq!(features(&read(&line).unwrap(), 0), format!("{name}=-1.5"), "{line}");
        }
    }
}

#[test]
fn the_shapes_of_the_field() {
    let one = |line: &str| {
        let record = read(line).unwrap();
        (texts(&record).join("|"), features(&record, 0), record.utterance.reference)
    };
    // Vosk: a logarithm.
    let vosk =
        r#"{"alternatives":[{"confidence":231.43,"text":"one two","result":[{"word":"one","start":0.1}]}]}"#;
    assert_eq!(one(vosk), ("one two".into(), "score=231.43".into(), None));
    // Google: a probability; 0 means it is not known.
    let google =
        r#"{"alternatives":[{"transcript":"a","confidence":1.0},{"transcript":"b","confidence":0.0}]}"#;
    assert_eq!(one(google), ("a|b".into(), "score=0".into(), None));
    assert!(read(google).unwrap().utterance.hypotheses[1].feature("score").unwrap().is_nan());
    assert!(
        error(r#"{"alternatives":[{"transcript":"a","confidence":0.5},{"transcript":"b","confidence":-3}]}"#)
            .contains("some confidences")
    );
    let azure = r#"{"NBest":[{"Confidence":0.5,"Lexical":"two","ITN":"2","Display":"Two."}]}"#;
    assert_eq!(one(azure), ("two".into(), format!("score={}", 0.5f64.ln()), None));
    // sherpa-onnx: its own best is not the reference.
    let sherpa = r#"{"text":"ab","tokens":["a","b"],"hypotheses":[{"text":"ab","tokens":["a","b"],"score":-1.5,"ys_log_probs":[-1]}]}"#;
    assert_eq!(one(sherpa), ("ab".into(), "score=-1.5".into(), None));
    // Whisper.
    let whisper = r#"{"text":"x","segments":[],"candidates":[{"text":"y"}],"output":"z"}"#;
    assert_eq!(one(whisper), ("y".into(), String::new(), Some(b"z".to_vec())));
    let hf = r#"{"text":["a","b"],"logit_score":[-1,-2],"lm_score":[-3,null],"word_offsets":[[],[1]]}"#;
    assert_eq!(one(hf), ("a|b".into(), "am=-1 score=-3".into(), None));
    assert_eq!(features(&read(hf).unwrap(), 1), "am=-2 score=NaN");
    let hypo2trans = r#"{"input":["h1","h2"],"output":"ref"}"#;
    assert_eq!(one(hypo2trans), ("h1|h2".into(), String::new(), Some(b"ref".to_vec())));
    let moses =
        r#"{"id":0,"nbest":[{"hyp":"a","feat":{"lm":[-1,-2],"tm":[-3],"d":-4,"x":"y"},"features":[1,2]}]}"#;
    assert_eq!(one(moses), ("a".into(), "lm0=-1 lm1=-2 tm=-3 d=-4".into(), None));
    let plain_list_of_scores = r#"{"hyps":["a","b"],"scores":[-1,-2]}"#;
    assert_eq!(one(plain_list_of_scores), ("a|b".into(), "score=-1".into(), None));
}

#[test]
fn values_are_values_or_missing() {
    let line = r#"{"hyps":[{"text":"a","scores":{"am":null,"x":1e999,"y":"-1","z":-0.0,"w":[1]},"pitch":3,"lm":1E2}]}"#;
    assert_eq!(features(&read(line).unwrap(), 0), "am=NaN x=NaN z=-0 lm=100");
    let first_wins =
        r#"{"hyps":[{"text":"a","score":-1,"scores":{"am_score":-2,"am":-3},"am":-4,"total":-5}]}"#;
    assert_eq!(features(&read(first_wins).unwrap(), 0), "score=-1 am=-3");
}

#[test]
fn text_comes_as_it_says() {
    let line = concat!(
        r#"{"\u0069d":"\u00fc\ud800","hyps":[{"t\u0065xt":"\"\\\/ \ud83d\ude00","x":"\\"},"#,
        r#"{"text":""}]}"#
    );
    let record = read(line).unwrap();
    assert_eq!(record.utterance.id, b"\xC3\xBC\xED\xA0\x80");
    assert_eq!(texts(&record)[0], r#""\/ 😀"#);
    assert_eq!(record.utterance.hypotheses[1].bytes, b"");
}

#[test]
fn what_is_wrong_is_said() {
    for (line, says) in [
        ("", "not JSON at byte"),
        (r#"{"hyps":[NaN]}"#, "at byte 10, expected value: write null"),
        ("{", "one whole object per line"),
        ("{} {}", "trailing characters"),
        (r#"[{"hyps":[]}]"#, "not an object"),
        ("3", "not an object"),
        ("{}", "no hypothesis list"),
        (r#"{"hyps":3,"nbest":[1]}"#, "no hypothesis list"),
        (r#"{"hyps":["a",3]}"#, "hypothesis 2 at byte 14 is neither"),
        (r#"{"hyps":[{"text":null}]}"#, "hypothesis 1 at byte 10: it has no text"),
        (r#"{"hyps":[{"text":"a","text":"b"}]}"#, "two members"),
        (r#"{"hyps":[{"text":"a","scores":{"am":1,"am":1}}]}"#, "two features `am`"),
        (r#"{"hyps":[{"text":"a","scores":{},"scores":{}}]}"#, "two members `scores`"),
        (r#"{"hyps":[{"text":"a","scores":"x"}]}"#, "neither an object nor a number"),
        (r#"{"hyps":[{"text":"\ud83d"}]}"#, "half a surrogate pair"),
        (r#"{"hyps":[{"text":"a","score":"1"}]}"#, "`score` at byte 30 is not a number"),
        (r#"{"hyps":[{"text":"a","scores":{"am":true}}]}"#, "`am` at byte 37 is not a number"),
        (r#"{"hyps":[],"hyps":[]}"#, "second member `hyps` at byte 12"),
        (r#"{"id":"a","id":"b","hyps":[]}"#, "second member `id`"),
        (r#"{"text":["a","b"],"lm_score":[1]}"#, "1 values for 2 hypotheses"),
        (r#"{"hyps":[{"text":"a","rank":0}],"secondpass":{}}"#, "no whole number"),
        (
            r#"{"hyps":[{"text":"a","rank":1},{"text":"a","rank":1}],"secondpass":{}}"#,
            "two hypotheses of `rank` 1",
        ),
        (r#"{"hyps":[{"text":"a","rank":1},{"text":"a"}],"secondpass":{}}"#, "hypothesis 2 has no `rank`"),
    ] {
        assert!(error(line).contains(says), "{line}: {}", error(line));
    }
    let error = reader().read(b"{\"hyps\":[\"\xff\"]}").unwrap_err().to_string();
    assert!(error.contains("not UTF-8 at byte 11"), "{error}");
    let unknown_twice = read(r#"{"x":1,"x":2,"hyps":[{"text":"a","x":1,"x":1}]}"#);
    assert!(unknown_twice.is_ok());
}

#[test]
fn clashes_are_reported_outside_our_own_output() {
    let clash = |scores: &str| {
        let foreign = format!(r#"{{"hyps":[{{"text":"a","scores":{scores}}}]}}"#);
        let own = format!(r#"{{"hyps":[{{"text":"a","scores":{scores}}}],"secondpass":{{"status":"ok"}}}}"#);
        let own = read(&own).unwrap();
        assert_eq!(own.clash, None);
        (read(&foreign).unwrap().clash.unwrap_or_default(), features(&own, 0))
    };
    assert_eq!(clash(r#"{"rnnlm":-1,"am":2}"#), ("rnnlm".into(), "am=2".into()));
    assert_eq!(clash(r#"{"ngram.oov":1}"#), ("ngram.oov".into(), String::new()));
    // Of a model that is not here.
    assert_eq!(clash(r#"{"x.oov":1}"#), (String::new(), "x.oov=1".into()));
    assert_eq!(clash(r#"{"words":null,"mix":1}"#), ("words".into(), String::new()));
    assert_eq!(clash(r#"{"total":1}"#), (String::new(), String::new()));
    assert_eq!(clash(r#"{"total":1,"score":2}"#), ("total".into(), "score=2".into()));
    assert_eq!(read(r#"{"hyps":[{"text":"a","rnnlm":1,"words":[]}]}"#).unwrap().clash, None);
    let lm = Reader::new(OwnNames::new(["lm"])).read(br#"{"hyps":[{"text":"a","lm_score":1}]}"#);
    assert_eq!(lm.unwrap().clash.as_deref(), Some("lm"));
}

#[test]
fn nothing_is_rewritten_that_does_not_change() {
    let line = concat!(
        r#" { "x" : [1.0, 1e0, "\u00e9", {}] , "hyps" : [ {"text":"a", "t":[0.10 ] , "rank":"A","scores": { "am" : -1.50 } } ,"#,
        r#"  "b\u0062" ]  , "z":0.0 } "#
    );
    let want = concat!(
        r#" { "x" : [1.0, 1e0, "\u00e9", {}] , "hyps" : [ {"text":"b\u0062","scores":{RN},"rank":2} ,"#,
        r#"  {"text":"a", "t":[0.10 ] ,"scores": { "am" : -1.50,RA },"rank":1 } ]  , "z":0.0,"secondpass":{"status":"ok"} } "#
    );
    let want = want
        .replace("RN", r#""rnnlm":-123.28571428571429,"words":3,"rnnlm.oov":0,"total":-890.0"#)
        .replace("RA", r#""rnnlm":-44.857142857142854,"words":4,"rnnlm.oov":0,"total":-314.0"#);
    let got = rescored(line, &[1, 0]);
    assert_eq!(got, want);
    assert_eq!(rescored(&got, &[1, 0]), got);
}

#[test]
fn a_first_pass_total_is_kept_as_score() {
    let line = r#"{"hyps":[{"text":"a","scores":{ "total" : -7.0}},{"text":"b","scores":-2.50}]}"#;
    let got = rescored(line, &[1, 0]);
    assert!(got.contains(r#"{ "score" : -7.0,"rnnlm":"#), "{got}");
    assert!(got.contains(r#"{"score":-2.50,"rnnlm":"#), "{got}");
    let again = read(&got).unwrap();
    assert_eq!((features(&again, 0), features(&again, 1)), ("score=-7".into(), "score=-2.5".into()));
    assert_eq!(rescored(&got, &[1, 0]), got);
}

#[test]
fn parallel_lists_move_together() {
    let line =
        r#"{"text":["a","b","c"],"lm_score":[-1, -2.0 ,null],"word_offsets":[[0],[1],[2]],"n":3,"s":[1,2]}"#;
    let got = rescored(line, &[2, 0]);
    let start = r#"{"text":["c","a"],"lm_score":[null, -1],"word_offsets":[[2],[0]],"n":3,"s":[1,2],"scores":[{"rnnlm":"#;
    assert!(got.starts_with(start), "{got}");
    assert!(got.ends_with(r#"],"rank":[3,1],"secondpass":{"status":"ok"}}"#), "{got}");
    let again = read(&got).unwrap();
    assert_eq!(texts(&again), ["a", "c"]);
    assert_eq!(again.utterance.hypotheses[1].rank, 3);
    assert_eq!(features(&again, 0), "lm=-1");
    assert_eq!(rescored(&got, &[1, 0]), got);
    let with_scores = r#"{"hyps":["a","b"],"scores":[-1,{"am":-2}]}"#;
    let got = rescored(with_scores, &[1, 0]);
    assert!(got.contains(r#""scores":[{"am":-2,"rnnlm""#) && got.contains(r#"{"score":-1,"rnnlm""#), "{got}");
    assert_eq!(rescored(&got, &[1, 0]), got);
}

#[test]
fn passed_records_come_as_they_were() {
    let status = r#""secondpass":{"status":"passed","reason":"no \"lm\""}"#;
    let pass = |line: &str| {
        let mut out = Vec::new();
        passed(line.as_bytes(), "no \"lm\"", &mut out);
        String::from_utf8(out).unwrap()
    };
    for (line, want) in [
        ("{}", format!("{{{status}}}")),
        (r#" {"a" : 1.0 } "#, format!(r#" {{"a" : 1.0,{status} }} "#)),
        ("[1]", "[1]".to_owned()),
        ("{\"a\"", "{\"a\"".to_owned()),
        ("", String::new()),
    ] {
        assert_eq!(pass(line), want);
        assert_eq!(pass(&want), want, "again");
    }
    let mut out = Vec::new();
    passed(b"{\"\xff\":1}", "x", &mut out);
    assert_eq!(out, b"{\"\xff\":1}");
    out.clear();
    over(5, 3, &mut out);
    let want = r#"{"secondpass":{"status":"passed","reason":"line of 5 bytes is over the limit of 3"}}"#;
    assert_eq!(std::str::from_utf8(&out).unwrap(), want);
}

#[test]
fn our_own_output_passes_as_it_first_came() {
    let line = r#"{"hyps":[{"text":"a","scores":{"total":-1}},{"text":"b","scores":{"total":-2.0}}]}"#;
    let own = rescored(line, &[1, 0]);
    let mut record = read(&own).unwrap();
    record.utterance.status = Status::Passed("x".to_owned());
    let got = written(&record, &own, &[]);
    let want = r#"{"hyps":[{"text":"a","scores":{"score":-1}},{"text":"b","scores":{"score":-2.0}}],"secondpass":{"status":"passed","reason":"x"}}"#;
    assert_eq!(got, want);
    // Nothing of ours is left, so it reads as foreign, and can be rescored or passed again.
    let mut again = read(&got).unwrap();
    assert_eq!(again.clash, None);
    again.utterance.status = Status::Passed("x".to_owned());
    assert_eq!(written(&again, &got, &[]), want);
    assert_eq!(rescored(&got, &[1, 0]), own.replace("total\":-1", "score\":-1"));
}

#[test]
fn strangers_are_refused() {
    let line = r#"{"hyps":["a","b"]}"#;
    let record = read(line).unwrap();
    let mut out = b"x".to_vec();
    for (line, order) in [(line, &[2][..]), (line, &[0, 0, 1]), ("{}", &[0]), (r#"{"hyps":[#a","b"]}"#, &[0])]
    {
        let gained = Gained { order, features: &[], explain: Some("1"), ..Gained::default() };
        let _ = write(&record, line.as_bytes(), &gained, &mut out);
        if line.len() < 3 || order.len() > 1 || order == [2] {
            assert_eq!(out, b"x", "{line}");
        }
        out.truncate(1);
    }
}

#[test]
fn depth_is_not_a_danger() {
    let deep = 200_000;
    let line = format!(r#"{{"x":{}{},"hyps":["a"]}}"#, "[".repeat(deep), "]".repeat(deep));
    let got = rescored(&line, &[0]);
    assert_eq!(got.len(), rescored(&got, &[0]).len());
}

#[test]
fn r_s12_any_byte_anywhere() {
    let seed = concat!(
        r#"{"id":"u\u00e9","hyps":[{"text":"a\ud83d\ude00","scores":{"am":-1.5e1,"total":null},"rank":2},"b",{"hyp":"c","#,
        r#""feat":{"d":[1,2]},"confidence":0.5,"rank":1}],"text":["x","y"],"logit_score":[1,2],"secondpass":{"status":"ok"}}"#
    );
    let mut reader = reader();
    let mut read_well = 0;
    for seed in [seed.to_owned(), seed.replace("secondpass", "other")] {
        for at in 0..seed.len() {
            for byte in 0..=255 {
                let mut line = seed.clone().into_bytes();
                line[at] = byte;
                survives(&mut reader, &line, &mut read_well);
            }
            survives(&mut reader, &seed.as_bytes()[..at], &mut read_well);
        }
    }
    assert!(read_well > 1000, "{read_well}");
}

/// Reads, writes and passes on; nothing panics and nothing is lost.
fn survives(reader: &mut Reader, line: &[u8], read_well: &mut usize) {
    let mut out = Vec::new();
    match reader.read(line) {
        Ok(mut record) => {
            *read_well += 1;
            let order: Vec<_> = (0..record.utterance.hypotheses.len()).rev().collect();
            write(
                &record,
                line,
                &Gained { order: &order, features: &[], explain: None, ..Gained::default() },
                &mut out,
            )
            .unwrap();
            reader.read(&out).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&out)));
            out.clear();
            record.utterance.status = Status::Passed("x".to_owned());
            write(
                &record,
                line,
                &Gained { order: &[], features: &[], explain: None, ..Gained::default() },
                &mut out,
            )
            .unwrap();
            serde_json::from_slice::<serde::de::IgnoredAny>(&out).unwrap();
        }
        Err(crate::Error::Record { .. }) => {}
        Err(e) => panic!("{e}: {}", String::from_utf8_lossy(line)),
    }
    out.clear();
    passed(line, "x", &mut out);
    let start: &[u8] = line.trim_ascii_end().strip_suffix(b"}").unwrap_or(line).trim_ascii_end();
    assert!(out.starts_with(start) || memchr::memmem::find(line, b"secondpass").is_some());
}

/// A value written with arbitrary white space and number spellings.
fn spelt(value: &Value, spaces: &mut impl Iterator<Item = u8>) -> String {
    let mut space =
        || [" ", "", "\t", "", "  ", "", "", "\r"][usize::from(spaces.next().unwrap() % 8)].to_owned();
    let (before, after) = (space(), space());
    let inner = match value {
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| spelt(item, spaces)).collect();
            format!("[{}]", if items.is_empty() { before.clone() } else { items.join(",") })
        }
        Value::Object(members) => {
            let members = members.iter().map(|(key, item)| {
                let key = spelt(&Value::String(key.clone()), spaces);
                format!("{key}:{}", spelt(item, spaces))
            });
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
        other => other.to_string(),
    };
    before + &inner + &after
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-9i64..9).prop_map(Value::from),
        "[a-c\"\\\\é\u{1}]{0,4}".prop_map(Value::from),
    ];
    let key = prop_oneof![
        prop::sample::select(vec![
            "id",
            "hyps",
            "text",
            "scores",
            "total",
            "rank",
            "am",
            "lm_score",
            "score",
            "secondpass",
            "feat",
            "status",
            "rnnlm",
            "confidence",
            "nbest",
            "ref"
        ])
        .prop_map(str::to_owned),
        "[a-b]{0,2}",
    ];
    leaf.prop_recursive(5, 60, 6, move |inner| {
        let members = prop::collection::vec((key.clone(), inner.clone()), 0..6);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
            members.prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// A hypothesis of any of the shapes; unknown members hold anything.
fn any_hypothesis() -> impl Strategy<Value = Value> {
    let object =
        ("[a-d \"é]{0,6}", prop::option::of(-50f64..0.0), prop::option::of(-50f64..0.0), any_json(), 0u8..4);
    object.prop_map(|(text, am, total, other, shape)| match shape {
        0 => Value::from(text),
        1 => serde_json::json!({"text": text, "am": am, "x": other}),
        2 => serde_json::json!({"y": other, "scores": {"am": am, "total": total}, "hyp": text, "rank": 3}),
        _ => serde_json::json!({"transcript": text, "scores": null, "feat": {"d": [am, total]}}),
    })
}

proptest! {
    #[test]
    fn any_value_survives(value in any_json(), spaces in prop::collection::vec(any::<u8>(), 8)) {
        let line = spelt(&value, &mut spaces.into_iter().cycle());
        survives(&mut reader(), line.as_bytes(), &mut 0);
    }

    #[test]
    fn mutations_survive(
        list in prop::collection::vec(any_hypothesis(), 0..4),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..4),
    ) {
        let mut line = serde_json::json!({"id": "u", "hyps": list}).to_string().into_bytes();
        for (at, byte, insert) in edits {
            let at = at.index(line.len());
            if insert { line.insert(at, byte) } else { line[at] = byte }
        }
        survives(&mut reader(), &line, &mut 0);
    }

    #[test]
    fn r_s13_our_own_output_gives_itself(
        list in prop::collection::vec(any_hypothesis(), 1..6),
        parallel in any::<bool>(),
        extra in any_json(),
        spaces in prop::collection::vec(any::<u8>(), 8),
        order in any::<prop::sample::Index>(),
        cut in 1usize..6,
    ) {
        let n = list.len();
        let record = if parallel {
            let texts: Vec<_> = (0..n).map(|i| format!("t{i}")).collect();
            let scores: Vec<_> = list.iter().map(|h| h["am"].clone()).collect();
            serde_json::json!({"text": texts, "lm_score": scores, "x": list, "e": extra})
        } else {
            serde_json::json!({"x": extra, "hyps": list, "id": 7})
        };
        let line = spelt(&record, &mut spaces.into_iter().cycle());
        let mut order: Vec<_> = {
            let by = order.index(n);
            (0..n).map(|i| (i + by) % n).rev().collect()
        };
        order.truncate(cut);
        let first = rescored(&line, &order);
        // A cut list has new places, but the same ranks.
        let mut places = order.clone();
        places.sort_unstable();
        let order: Vec<_> = order.iter().map(|h| places.binary_search(h).unwrap()).collect();
        let second = rescored(&first, &order);
        prop_assert_eq!(&first, &second);
        if places.len() == n {
            let (mut a, b) = (read(&line).unwrap(), read(&first).unwrap());
            a.layout.own = true;
            prop_assert_eq!(texts(&a), texts(&b));
            for i in 0..n {
                prop_assert_eq!(features(&a, i), features(&b, i));
            }
        }
    }
}

/// Token ids under the names of other toolkits, and what is none.
#[test]
fn token_ids_come_along() {
    let ids = |member: &str| {
        let line = format!("{{\"hyps\":[{{\"text\":\"a\",{member}}}]}}");
        let record = Reader::new(OwnNames::default()).read(line.as_bytes()).unwrap();
        record.utterance.hypotheses[0].ids.as_deref().map(<[u32]>::to_vec)
    };
    assert_eq!(ids(r#""token_ids":[3, 4,5]"#), Some(vec![3, 4, 5]));
    assert_eq!(ids(r#""tokens":[7]"#), Some(vec![7]));
    assert_eq!(ids(r#""tokens":["\u2581A","B"],"token_ids":[1,2]"#), Some(vec![1, 2]));
    assert_eq!(ids(r#""tokens":[9],"token_ids":[1,2]"#), Some(vec![1, 2]));
    assert_eq!(ids(r#""rec_token":"A B","rec_tokenid":"12 3""#), Some(vec![12, 3]));
    assert_eq!(ids(r#""token_ids":[]"#), Some(vec![]));
    assert_eq!(
        ids(r#""token_ids":[1,-2,3.5,4294967296,null]"#),
        Some([1].into_iter().chain([u32::MAX; 4]).collect())
    );
    for none in [r#""tokens":["A","B"]"#, r#""tokens":"A B""#, r#""tokens":null"#, r#""ids":{"a":1}"#] {
        assert_eq!(ids(none), None, "{none}");
    }
    let mut reader = Reader::new(OwnNames::default());
    let parallel = r#"{"text":["a","b"],"lm_score":[-1,-2],"token_ids":[[1,2],[3]],"vocab_hash":"00000000000000ffabcd"}"#;
    let record = reader.read(parallel.as_bytes()).unwrap();
    assert_eq!(record.utterance.hypotheses[1].ids.as_deref(), Some(&[3][..]));
    assert_eq!(record.utterance.vocabulary, Some(255));
    let error = reader.read(br#"{"hyps":["a"],"vocab_hash":"xyz"}"#).unwrap_err().to_string();
    assert!(error.contains("hexadecimal"), "{error}");
}
