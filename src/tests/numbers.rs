//! Numbers that are none, ties, and deadlines (N1, N2, N7).

use serde_json::Value;

use crate::data::{Random, WORDS, count, fixture, lines, records};
use crate::harness::Dir;

fn scored(scores: &[&str]) -> String {
    let text = |at: usize| WORDS[at % WORDS.len()];
    let one = |(at, score): (usize, &&str)| match *score {
        "" => format!("{{\"text\":\"{}\"}}", text(at)),
        _ => format!("{{\"text\":\"{}\",\"score\":{score}}}", text(at)),
    };
    let list: Vec<String> = scores.iter().enumerate().map(one).collect();
    format!("{{\"id\":\"n\",\"hyps\":[{}]}}\n", list.join(","))
}

#[test]
fn n1_a_hypothesis_never_wins_by_failing() {
    let dir = Dir::ngram();
    for odd in ["null", "1e999", "-1e999", "", "true", "\"-1\""] {
        for place in 0..3 {
            let mut scores = ["-3", "-2", "-1"];
            scores[place] = odd;
            let output = dir.rescore().stdin(scored(&scores)).run().code(1);
            // serde_json wants numbers finite.
            let finite =
                |text: &str| -> Value { serde_json::from_str(&text.replace("e999", "e99")).expect("JSON") };
            let (record, sent) = (finite(&output.text()), finite(&scored(&scores)));
            assert_eq!(record["secondpass"]["status"], "passed", "{odd}");
            assert!(
                record["secondpass"]["reason"].as_str().is_some_and(|why| why.contains("score")),
                "{record}"
            );
            assert_eq!(record["hyps"], sent["hyps"], "not as it came");
            if matches!(odd, "true" | "\"-1\"") {
                continue; // not missing but a mistake
            }
            let output = dir.rescore().args(["--missing", "score=min"]).stdin(scored(&scores)).run();
            let texts = |list: &Value| -> Vec<String> {
                list["hyps"].as_array().expect("a list").iter().map(|h| h["text"].to_string()).collect()
            };
            let record = finite(&output.code(0).text());
            assert_eq!(record["secondpass"]["status"], "ok");
            let (mut got, mut sent) = (texts(&record), texts(&sent));
            got.sort();
            sent.sort();
            assert_eq!(got, sent);
        }
    }
}

/// Specials in any place: one line out for each, always JSON, and the order is that of `total`.
#[test]
fn n2_the_order_is_total_and_stable() {
    let dir = Dir::ngram();
    let odd = ["null", "1e999", "-1e999", "", "0", "-0.0", "-1", "1e308", "-1e308", "5e-324", "-1.5"];
    let usual = ["0", "-0.0", "-1", "-1.5", "0.0", "-1e0", "3"];
    let mut random = Random::new(61);
    let input: String = (0..count(2_000, 1_000_000))
        .map(|_| {
            let from = if random.below(4) == 0 { &odd[..] } else { &usual };
            let list: Vec<&str> = (0..random.below(9) + 1).map(|_| from[random.below(from.len())]).collect();
            scored(&list)
        })
        .collect();
    let input = scored(&["-1", "-2"]) + &input;
    let output = dir.rescore().args(["-j2", "--weight", "ngram=0.5"]).stdin(input.clone()).run().code(1);
    assert_eq!(output.lines().len(), lines(input.as_bytes()).len());
    let mut passed = 0;
    for line in output.lines() {
        let text = String::from_utf8_lossy(line);
        let Ok(record) = serde_json::from_slice::<Value>(line) else {
            assert!(text.contains("1e999"), "{text}"); // as it came; serde_json wants it finite
            passed += 1;
            continue;
        };
        if record["secondpass"]["status"] == "passed" {
            passed += 1;
            continue;
        }
        let key = |hypothesis: &Value| {
            let total = hypothesis["scores"]["total"].as_f64().unwrap_or_else(|| panic!("no total: {text}"));
            (total, hypothesis["rank"].as_u64().expect("a rank"))
        };
        let keys: Vec<(f64, u64)> = record["hyps"].as_array().expect("a list").iter().map(key).collect();
        for pair in keys.windows(2) {
            assert!(pair[0].0 > pair[1].0 || pair[0].0 == pair[1].0 && pair[0].1 < pair[1].1, "{text}");
        }
    }
    assert!(passed > 100, "{passed}");
}

#[test]
fn n7_an_answer_in_time_is_partial_and_no_failure() {
    let library = crate::runtime!("n7_an_answer_in_time_is_partial_and_no_failure");
    let dir = Dir::ngram();
    let input = records(count(400, 20_000), 62);
    let run = |milliseconds: &str| {
        let model = fixture("models/tiny-lstm/model.onnx");
        let run =
            dir.rescore().args(["-j2", "--deadline-ms", milliseconds, "--rnnlm"]).arg(model).ort(library);
        run.stdin(input.clone()).run().code(0)
    };
    let statuses = |output: &crate::harness::Output| -> Vec<String> {
        output
            .json()
            .iter()
            .map(|record| record["secondpass"]["status"].as_str().unwrap_or("none").to_owned())
            .collect()
    };
    let hurried = run("0.001");
    let got = statuses(&hurried);
    assert_eq!(got.len(), lines(&input).len());
    assert!(got.iter().all(|status| status == "ok" || status == "partial"), "{got:?}");
    assert!(got.iter().any(|status| status == "partial"), "a microsecond was enough");
    for record in hurried.json() {
        if record["secondpass"]["status"] == "partial" {
            assert!(
                record["secondpass"].to_string().contains("rnnlm")
                    || record["secondpass"].to_string().contains("ngram"),
                "{record}"
            );
        }
    }
    assert!(statuses(&run("600000")).iter().all(|status| status == "ok"));
}

#[test]
fn n5_scores_do_not_depend_on_batch_mates() {
    let library = crate::runtime!("n5_scores_do_not_depend_on_batch_mates");
    let dir = Dir::new();
    let input = records(count(100, 2_000), 63);
    for model in ["tiny-lstm", "tiny-bpe"] {
        let run = |arguments: &[&str]| {
            let path = fixture(&format!("models/{model}/model.onnx"));
            let run = dir.secondpass(["rescore", "--rnnlm"]).arg(path).args(arguments).ort(library);
            run.stdin(input.clone()).run().code(0).json()
        };
        let want = run(&["-j1", "--deterministic", "--batch-rows", "1"]);
        for arguments in [&["-j4"][..], &["-j1", "--batch-rows", "7"], &["-j2", "--batch-rows", "1000"]] {
            for (want, got) in want.iter().zip(run(arguments)) {
                let by_rank = |record: &Value| {
                    let value =
                        |h: &Value| (h["rank"].as_u64(), h["scores"]["rnnlm"].as_f64().expect("a number"));
                    let mut scores: Vec<_> =
                        record["hyps"].as_array().expect("a list").iter().map(value).collect();
                    scores.sort_by_key(|(rank, _)| *rank);
                    scores
                };
                for (want, got) in by_rank(want).into_iter().zip(by_rank(&got)) {
                    assert_eq!(want.0, got.0);
                    // 1e-6 for each of its tokens, of which there are up to 60.
                    assert!((want.1 - got.1).abs() <= 6e-5, "{model} {arguments:?}: {want:?} {got:?}");
                }
            }
        }
    }
}

#[test]
fn only_the_winner_is_the_winner_of_all() {
    let library = crate::runtime!("only_the_winner_is_the_winner_of_all");
    let dir = Dir::ngram();
    let input = records(count(100, 2_000), 64);
    let path = fixture("models/tiny-bpe/model.onnx");
    let run = |arguments: &[&str]| {
        let run = dir.rescore().arg("--rnnlm").arg(&path).args(arguments).ort(library);
        run.stdin(input.clone()).run()
    };
    let mixed = ["--interpolate", "linear", "--lambda", "0.4"];
    let mut left = 0;
    for how in [&[][..], &["--weight", "rnnlm=0.05"], &mixed, &[&mixed[..], &["--fast-mix", "-j1"]].concat()]
    {
        let all = run(how).code(0).json();
        // Lists this short would be run side by side.
        let best = run(&[how, &["--best-only", "--width", "2"]].concat()).code(0).json();
        for (all, best) in all.iter().zip(&best) {
            assert_eq!(all["hyps"][0]["rank"], best["hyps"][0]["rank"], "{how:?}");
            let scored = best["hyps"].as_array().expect("a list").iter();
            let scored = scored.filter(|h| h["scores"]["total"].is_number()).count();
            let said = best["secondpass"]["best_only"].as_u64();
            let whole = scored == best["hyps"].as_array().expect("a list").len();
            assert_eq!(said, (!whole).then_some(scored as u64), "{best}");
            left += usize::from(!whole);
        }
    }
    assert!(left > 20, "{left} lists were not scored to the end");
    for wrong in
        [&["--confidence"][..], &["--consensus", "mbr"], &["--risk", "2"], &["--output-format", "kaldi"]]
    {
        let refused = run(&[&["--best-only"], wrong].concat()).code(2);
        assert!(
            refused.stderr.contains("--best-only") || refused.stderr.contains("risk"),
            "{}",
            refused.stderr
        );
    }
}

/// The format is known at the first record only.
#[test]
fn what_has_no_place_is_refused_when_the_format_is_known() {
    let dir = Dir::ngram();
    let lists = std::fs::read(fixture("cases/formats/wenet.txt")).expect("lists");
    for flags in [&["--best-only"][..], &["--consensus", "rover"]] {
        let refused = dir.rescore().args(flags).stdin(lists.clone()).run().code(2);
        assert!(refused.stderr.contains("`wenet` has no place"), "{}", refused.stderr);
        assert_eq!(refused.text(), "");
    }
    let alone = dir.rescore().args(["--best-only", "--nbest", "1", "--explain"]).stdin(lists.clone()).run();
    assert_eq!(alone.stderr.matches("--explain changes nothing").count(), 1, "{}", alone.stderr);
}
