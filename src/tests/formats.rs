//! Every format through the program, with the promises that JSON Lines has.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use crate::data::{read, records};
use crate::harness::{Dir, signal};

const GOLDENS: [(&str, &[&str]); 12] = [
    ("kaldi.txt", &[]),
    ("srilm.txt", &[]),
    ("nbest1.txt", &[]),
    ("nbest2.txt", &[]),
    ("moses.txt", &[]),
    ("nemo.tsv", &["--beam-size", "3"]),
    ("wenet.txt", &[]),
    ("cued.txt", &[]),
    ("pocketsphinx.hyp", &[]),
    ("espnet1.json", &[]),
    ("mlm.json", &[]),
    ("hypo2trans.json", &[]),
];

fn golden(name: &str) -> Vec<u8> {
    read(&format!("cases/formats/{name}"))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

/// With weight 0 the first pass stands, so that every byte does.
#[test]
fn every_format_goes_through_as_it_came() {
    let dir = Dir::ngram();
    for (name, flags) in GOLDENS {
        let text = golden(name);
        // One list of mlm.json has no scores: then ranks count, and nothing is replaced either.
        for input in [text.clone(), gzip(&text)] {
            let file = dir.write(name, &input);
            let run = dir.rescore().args(["--weight", "ngram=0"]).args(flags).arg(&file).run().code(0);
            assert_eq!(run.text(), String::from_utf8_lossy(&text), "{name}");
        }
        let run = dir.rescore().args(["--weight", "ngram=0"]).args(flags).stdin(text.clone()).pieces(&[1, 7]);
        assert_eq!(run.run().code(0).text(), String::from_utf8_lossy(&text), "{name}");
        let file = dir.write(name, &text);
        let run =
            dir.rescore().args(["--weight", "ngram=0", "-oout.gz"]).args(flags).arg(&file).run().code(0);
        assert_eq!(run.text(), "");
        let mut out = Vec::new();
        MultiGzDecoder::new(&dir.read("out.gz")[..]).read_to_end(&mut out).expect("whole");
        assert_eq!(out, text, "{name}");
    }
}

#[test]
fn the_other_commands_read_every_format() {
    let dir = Dir::ngram();
    for (name, flags) in GOLDENS {
        let file = dir.write(name, golden(name));
        let best =
            dir.rescore().args(["--weight", "ngram=0", "--output-format", "ref"]).args(flags).arg(&file);
        let best = best.run().code(0).stdout;
        dir.write("refs", &best);
        // What the first pass chose is the reference: no error, whatever the format.
        let eval =
            dir.secondpass(["eval", "--references", "refs", "--resamples", "0"]).args(flags).arg(&file);
        let text = eval.run().code(0).text();
        let own = ["espnet1.json", "mlm.json", "hypo2trans.json"].contains(&name);
        assert!(own || text.starts_with("first pass\n%WER 0.00"), "{name}: {text}");
        let bench = ["bench", "--ngram", "lm.arpa", "--json"];
        let text = dir.secondpass(bench).args(flags).arg(&file).run().code(0).text();
        assert!(text.contains("hypotheses_per_s"), "{name}");
        let tune = ["tune", "--ngram", "lm.arpa", "--references", "refs"];
        let run = dir.secondpass(tune).args(flags).arg(&file).run();
        assert!(!run.stderr.contains("left out"), "{name}: {}", run.stderr);
    }
}

#[test]
fn a_list_is_reranked_and_its_score_is_our_total() {
    let dir = Dir::ngram();
    // The model knows "a" better than anything else.
    let lists = b"7 ||| zz zz ||| AM0= -1 ||| -1 ||| 0-0\n7 ||| a ||| AM0= -2 ||| -1.5 ||| 0-1\n";
    let run = dir.rescore().args(["--weight", "ngram=1"]).stdin(lists.to_vec()).run().code(0);
    let json = dir.rescore().args(["--weight", "ngram=1", "--output-format", "jsonl"]).stdin(lists.to_vec());
    let json = json.run().code(0).json();
    assert_eq!(json[0]["id"], "7");
    let best = &json[0]["hyps"][0];
    assert_eq!((&best["text"], &best["rank"]), (&"a".into(), &2.into()));
    let first = run.text().lines().next().expect("a line").to_owned();
    assert!(first.starts_with("7 ||| a ||| AM0= -2 ||| ") && first.ends_with(" ||| 0-1"), "{first}");
    let total: f64 = first.split(" ||| ").nth(3).and_then(|total| total.parse().ok()).expect("a number");
    assert!((total - best["scores"]["total"].as_f64().expect("a total")).abs() < 1e-6, "{first}");
    let kept =
        dir.rescore().args(["--weight", "ngram=1", "--keep-scores", "--nbest", "1"]).stdin(lists.to_vec());
    assert_eq!(kept.run().code(0).text(), "7 ||| a ||| AM0= -2 ||| -1.5 ||| 0-1\n");
}

#[test]
fn bad_records_are_said_and_pass_through() {
    let dir = Dir::ngram();
    let text = "0 ||| a ||| F0= -1 ||| -1\n1 ||| b ||| F0= x ||| -1\n1 ||| b ||| F0= -1 ||| -2\n2 ||| a ||| ||| -1\n";
    let run = dir.rescore().args(["--weight", "ngram=0"]).stdin(text).run().code(1);
    assert_eq!(run.text(), text);
    let said: Vec<_> = run.stderr.lines().filter(|line| line.contains("passed through")).collect();
    assert!(said.len() == 1 && said[0].contains("line 2 "), "{said:?}");
    dir.rescore().args(["--weight", "ngram=0", "--strict"]).stdin(text).run().code(2);
    // One record out for each, in other formats too.
    let run = dir.rescore().args(["--output-format", "jsonl"]).stdin(text).run().code(1);
    let status: Vec<_> =
        run.json().iter().map(|r| r["secondpass"]["status"].as_str().expect("one").to_owned()).collect();
    assert_eq!(status, ["ok", "passed", "ok"]);
    let run = dir.rescore().args(["--output-format", "trn"]).stdin(text).run().code(1);
    assert_eq!(run.text(), "a (0)\n(2)\na (2)\n");
}

#[test]
fn a_list_is_answered_when_the_next_one_begins() {
    let dir = Dir::ngram();
    let mut running = dir.rescore().args(["--weight", "ngram=0"]).start();
    running.write(b"u-1 a\nu-2 b\n");
    running.write(b"v-1 a\n");
    assert_eq!((running.line(), running.line()), (b"u-1 a\n".to_vec(), b"u-2 b\n".to_vec()));
    // The last one waits for more; a signal makes it whole.
    signal(&running.child, "TERM");
    assert_eq!(running.line(), b"v-1 a\n");
    assert_eq!(running.end().code(), Some(143));
}

#[test]
fn an_interrupted_output_is_completed() {
    let dir = Dir::ngram();
    for (name, flags) in [("moses.txt", &[][..]), ("kaldi.txt", &[]), ("nemo.tsv", &["--beam-size", "3"])] {
        let lists = [golden(name), golden(name)].concat();
        let lists =
            if name == "moses.txt" { [&lists[..], b"9 ||| a ||| F0= -1 ||| -1\n"].concat() } else { lists };
        dir.write("in", &lists);
        let to = |out: &str| dir.rescore().args(flags).args(["in", "-o", out]);
        to("want").run().code(0);
        let want = dir.read("want");
        for cut in [0, want.len() / 4, want.len() / 2, want.len() - 3, want.len()] {
            dir.write("got", &want[..cut]);
            to("got").arg("--resume").run().code(0);
            assert_eq!(
                String::from_utf8_lossy(&dir.read("got")),
                String::from_utf8_lossy(&want),
                "{name} {cut}"
            );
        }
    }
    dir.write("in", golden("mlm.json"));
    let run = dir.rescore().args(["in", "-o", "got", "--resume"]).run().code(2);
    assert!(run.stderr.contains("whole or not at all"), "{}", run.stderr);
}

#[test]
fn folders_become_folders() {
    let dir = Dir::ngram();
    let copy = |name: &str| {
        let from = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/cases/formats").join(name);
        let run = std::process::Command::new("cp").arg("-r").arg(from).arg(dir.path(name)).status();
        assert!(run.expect("cp").success());
    };
    ["kaldi", "espnet", "srilm"].into_iter().for_each(copy);
    for name in ["kaldi", "espnet", "srilm"] {
        let run = dir.rescore().args(["--weight", "ngram=0", name, "-o", "out"]).run().code(0);
        assert!(run.stdout.is_empty());
        let files: &[&str] = match name {
            "kaldi" => &["words"],
            "espnet" => &["1best_recog/text", "1best_recog/score", "1best_recog/token_int"],
            _ => &["call-01.score"],
        };
        for file in files {
            let (got, want) = (dir.read(&format!("out/{file}")), dir.read(&format!("{name}/{file}")));
            assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(&want), "{name}/{file}");
        }
    }
    let mut text = String::new();
    let gz = dir.read("out/call-02.score.gz");
    MultiGzDecoder::new(&gz[..]).read_to_string(&mut text).expect("gzip");
    assert_eq!(text, "-1 -2 1 stop\n");
    assert_eq!(
        String::from_utf8(dir.read("out/2best_recog/text")).expect("text"),
        "uttA the cat sad\nuttC lost\n"
    );
    let run = dir.rescore().args(["kaldi", "--output-format", "trn"]).run().code(0);
    assert_eq!(run.lines().len(), 2);
    assert!(run.stderr.contains("keys belong to no list"), "{}", run.stderr);
    let run = dir.rescore().arg("kaldi").run().code(2);
    assert!(run.stderr.contains("--output"), "{}", run.stderr);
}

#[test]
fn a_document_that_fails_leaves_what_was_there() {
    let dir = Dir::ngram();
    dir.write("out.json", "before");
    let damaged = &golden("mlm.json")[..300];
    dir.write("in.json", damaged);
    dir.rescore().args(["in.json", "-o", "out.json"]).run().code(2);
    dir.write("in.json", golden("mlm.json"));
    let run = dir.rescore().args(["in.json", "-o", "out.json", "--strict", "--missing", "x=min"]).run();
    assert_ne!(run.status.code(), Some(0));
    assert_eq!(dir.read("out.json"), b"before");
    let names: Vec<_> = std::fs::read_dir(dir.path(".")).expect("a folder").collect();
    assert_eq!(names.len(), 3, "{names:?}");
    let run = dir.rescore().args(["in.json", "--max-document-bytes", "100"]).run().code(2);
    assert!(run.stderr.contains("over the limit of 100") && run.stderr.contains("in.json"), "{}", run.stderr);
}

/// Beams that name their utterances need no size, from a file or a pipe, said or seen.
#[test]
fn beams_with_ids_need_no_size() {
    let dir = Dir::ngram();
    let lists = "u1\tzz zz\t-1\nu1\ta\t-1.5\nu2\ta\t-1\n";
    dir.write("beams.tsv", lists);
    for flags in [&[][..], &["--format", "nemo"]] {
        let rescore = || dir.rescore().args(["--weight", "ngram=1", "--keep-scores"]).args(flags);
        let want = "u1\ta\t-1.5\nu1\tzz zz\t-1\nu2\ta\t-1\n";
        assert_eq!(rescore().arg("beams.tsv").run().code(0).text(), want);
        assert_eq!(rescore().stdin(lists).pieces(&[1, 7]).run().code(0).text(), want);
    }
    dir.write("bare.tsv", "a\t-1\n");
    let run = dir.rescore().args(["--format", "nemo", "bare.tsv"]).run().code(2);
    assert!(run.stderr.contains("--beam-size"), "{}", run.stderr);
}

/// Lists that were only made into another format can be rescored and judged; rescored ones only judged.
#[test]
fn lists_in_another_format_are_lists() {
    let dir = Dir::ngram();
    let lists = records(5, 3);
    dir.write("lists.jsonl", &lists);
    let made: String = (0..5).map(|at| format!("{} a cat\n", id_of(&lists, at))).collect();
    dir.write("refs", made);
    let first = dir.secondpass("eval --references refs --resamples 0 lists.jsonl".split(' ')).run().code(0);
    for (name, flags) in [("moses", ""), ("wenet", ""), ("cued", ""), ("mlm", ""), ("espnet1", "")] {
        let run = |arguments: String| dir.secondpass(arguments.split_whitespace()).run();
        run(format!("rescore --no-models lists.jsonl --output-format {name} -o in.{name}")).code(0);
        run(format!("rescore --ngram lm.arpa --weight ngram=1 {flags} in.{name} -o out.{name}")).code(0);
        let before = run(format!("eval --references refs --resamples 0 in.{name}")).code(0).text();
        assert_eq!(before, first.text(), "{name}");
        run(format!("eval --references refs --resamples 0 out.{name}")).code(0);
    }
    let rescored =
        "rescore --ngram lm.arpa --weight ngram=1 lists.jsonl --output-format moses -o twice.moses";
    dir.secondpass(rescored.split(' ')).run().code(0);
    dir.secondpass("eval --references refs --resamples 0 twice.moses".split(' ')).run().code(0);
    let run = dir.rescore().arg("twice.moses").run().code(2);
    assert!(run.stderr.contains("a feature `ngram` of their own"), "{}", run.stderr);
    // Names are written so that they can be read again.
    let odd = r#"{"id":"a","hyps":[{"text":"x","scores":{"b|||c":-1,"e f":-3,"score":-4}}]}"#;
    let to_moses = "rescore --no-models --output-format moses -o odd.moses".split(' ');
    dir.secondpass(to_moses).stdin(odd).run().code(0);
    let run = dir.secondpass("rescore --no-models --weight b_c=1 --weight e_f=1 odd.moses".split(' ')).run();
    assert_eq!(run.code(0).text(), "a ||| x ||| b_c= -1 e_f= -3 ||| -4\n");
    // Where nothing is computed, they and their counts are features.
    let run =
        dir.secondpass("rescore --no-models --weight ngram=1 --weight ngram.oov=0 twice.moses".split(' '));
    assert!(run.run().code(0).stderr.contains("total = ngram + 0 ngram.oov"));
}

/// The id of a record.
fn id_of(lists: &[u8], at: usize) -> String {
    let line = lists.split(|&byte| byte == b'\n').nth(at).expect("a record");
    let record: serde_json::Value = serde_json::from_slice(line).expect("JSON");
    record["id"].as_str().expect("an id").to_owned()
}
