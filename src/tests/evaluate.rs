//! `eval` and `tune` as people run them, against the field's own tools where they are installed.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::process::Command;

use serde_json::{Value, json};

use crate::data::{Random, count, read, records};
use crate::harness::{Dir, Output};

/// References and hypotheses: random ones of few words, and the demo's real lists.
fn pairs() -> Vec<(String, String)> {
    let mut random = Random::new(11);
    let text = |random: &mut Random| {
        let words = ["a", "b", "c", "d"];
        let of = 2 + random.below(3);
        (0..1 + random.below(12)).map(|_| words[random.below(of)]).collect::<Vec<_>>().join(" ")
    };
    let mut pairs: Vec<(String, String)> =
        (0..count(1500, 50_000)).map(|_| (text(&mut random), text(&mut random))).collect();
    for record in lists() {
        let reference = record["ref"].as_str().expect("a reference");
        let hypotheses = record["hyps"].as_array().expect("a list").iter().take(8);
        let texts = hypotheses.map(|h| h["text"].as_str().expect("a text").to_owned());
        pairs.extend(texts.filter(|text| !text.is_empty()).map(|text| (reference.to_owned(), text)));
    }
    assert!(pairs.len() >= 2000);
    pairs
}

fn lists() -> Vec<Value> {
    let bytes = read("speech/nbest.jsonl");
    let lines = bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).expect("JSON")).collect()
}

fn jsonl(pairs: &[(String, String)]) -> String {
    let line = |(at, (reference, text)): (usize, &(String, String))| {
        json!({"id": format!("u{at}"), "ref": reference, "hyps": [{"text": text}]}).to_string() + "\n"
    };
    pairs.iter().enumerate().map(line).collect()
}

/// Substitutions, deletions, insertions and words of the first pass.
fn counts(output: &Output) -> [u64; 4] {
    let object = &output.json()[0]["before"];
    ["substitutions", "deletions", "insertions", "reference"]
        .map(|name| object[name].as_u64().expect("a count"))
}

#[test]
fn eval_counts_as_sclite_does() {
    if Command::new("sctk").arg("help").output().is_err() {
        crate::skip!("eval_counts_as_sclite_does", "sctk is not installed");
    }
    let (dir, pairs) = (Dir::new(), pairs());
    let (mut reference, mut hypothesis) = (String::new(), String::new());
    for (at, (said, heard)) in pairs.iter().enumerate() {
        let _ = writeln!(reference, "{said} (s-{at})");
        let _ = writeln!(hypothesis, "{heard} (s-{at})");
    }
    dir.write("ref", reference);
    dir.write("hyp", hypothesis);
    let mut sclite = Command::new("sctk");
    sclite.args("sclite -s -i rm -r ref trn -h hyp trn -o pra stdout".split(' '));
    let text = dir.other(sclite).run().code(0).text();
    let mut theirs = [0; 3];
    let mut utterances = 0;
    for line in text.lines().filter_map(|line| line.strip_prefix("Scores: (#C #S #D #I) ")) {
        let numbers: Vec<u64> = line.split_whitespace().map(|n| n.parse().expect("a count")).collect();
        theirs.iter_mut().zip(&numbers[1..]).for_each(|(sum, n)| *sum += n);
        utterances += 1;
    }
    assert_eq!(utterances, pairs.len());
    let eval =
        dir.secondpass("eval --alignment sclite --resamples 0 --json".split(' ')).stdin(jsonl(&pairs)).run();
    assert_eq!(counts(&eval.code(0))[..3], theirs);
}

#[test]
fn eval_counts_as_jiwer_does() {
    let script = "import sys, json, jiwer\n\
        for f in (jiwer.process_words, jiwer.process_characters):\n\
        \x20pairs = [json.loads(line) for line in open('pairs')]\n\
        \x20o = f([p['ref'] for p in pairs], [p['hyps'][0]['text'] for p in pairs])\n\
        \x20print(o.substitutions + o.deletions + o.insertions, o.hits + o.substitutions + o.deletions)\n";
    let python = std::env::var("SECONDPASS_PYTHON").unwrap_or_else(|_| "python3".into());
    let known = Command::new(&python).args(["-c", "import jiwer"]).output();
    if !known.is_ok_and(|output| output.status.success()) {
        crate::skip!("eval_counts_as_jiwer_does", "no Python with jiwer (SECONDPASS_PYTHON names one)");
    }
    let (dir, pairs) = (Dir::new(), pairs());
    dir.write("pairs", jsonl(&pairs));
    let mut jiwer = Command::new(python);
    jiwer.args(["-c", script]);
    let text = dir.other(jiwer).run().code(0).text();
    let theirs: Vec<u64> = text.split_whitespace().map(|n| n.parse().expect("a count")).collect();
    for (flags, theirs) in [("", &theirs[..2]), (" --cer --cer-spaces", &theirs[2..])] {
        let arguments = format!("eval --resamples 0 --json{flags} pairs");
        let [s, d, i, words] = counts(&dir.secondpass(arguments.split(' ')).run().code(0));
        assert_eq!([s + d + i, words], theirs, "{flags}");
    }
}

#[test]
fn accents_count_once_however_they_are_encoded() {
    let record =
        |reference: &str, text: &str| json!({"ref": reference, "hyps": [{"text": text}]}).to_string();
    let dir = Dir::new();
    let run = |reference: &str, text: &str, flags: &str| {
        let arguments = format!("eval --resamples 0 --json --cer {flags}");
        counts(&dir.secondpass(arguments.split_whitespace()).stdin(record(reference, text)).run().code(0))
    };
    let (composed, decomposed) = ("caf\u{e9} \u{d55c}", "cafe\u{301} \u{1112}\u{1161}\u{11ab}");
    for text in ["cafe", "", composed, decomposed] {
        assert_eq!(run(composed, text, ""), run(decomposed, text, ""), "{text}");
    }
    assert_eq!(run(composed, decomposed, ""), [0, 0, 0, 5]);
    assert_ne!(run(composed, decomposed, "--score-no-nfc"), [0, 0, 0, 5]);
}

#[test]
fn systems_are_compared_by_id() {
    let dir = Dir::new();
    let line = |id: &str, reference: &str, text: &str| {
        json!({"id": id, "session": &id[..1], "ref": reference, "hyps": [{"text": text}]}).to_string() + "\n"
    };
    dir.write(
        "ours",
        [line("a1", "a cat sat", "a cat sat"), line("b1", "a dog", "a dock"), line("c1", "x", "x")].concat(),
    );
    // Another order, one missing, one more.
    dir.write(
        "theirs",
        [line("b1", "", "a dog"), line("d1", "", "z"), line("a1", "", "the cat sad")].concat(),
    );
    let output =
        dir.secondpass("eval ours --against theirs --per-speaker --changes 3".split(' ')).run().code(0);
    let text = output.text();
    for part in [
        "theirs\n%WER 40.00 [ 2 / 5, 0 ins, 0 del, 2 sub ]",
        "second pass\n%WER 20.00 [ 1 / 5, 0 ins, 0 del, 1 sub ]",
        "1 utterances better, 1 worse, 0 others",
        "2 words corrected, 1 broken",
        "corrected     1 x  said `sat`, heard `sad`",
        "broken     1 x  said `dog`, heard `dock`",
    ] {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
    let row = text.lines().find(|line| line.starts_with("a ")).expect("a speaker");
    assert_eq!(row.split_whitespace().collect::<Vec<_>>(), ["a", "1", "3", "66.67", "0.00", "-66.67"]);
    assert!(output.stderr.contains("1 utterances are only in the lists, 1 only in the system compared with"));
    // No joining by line number.
    dir.write("nameless", "{\"ref\":\"a\",\"hyps\":[\"a\"]}\n");
    for arguments in ["eval nameless --against theirs", "eval ours --against nameless"] {
        let output = dir.secondpass(arguments.split(' ')).run().code(2);
        assert!(output.stderr.contains("by id"), "{}", output.stderr);
    }
}

#[test]
fn what_cannot_be_read_is_told_by_the_exit_code() {
    let dir = Dir::ngram();
    let good = records(30, 3);
    let referenced =
        |bytes: &[u8]| String::from_utf8_lossy(bytes).replace("\"hyps\"", "\"ref\":\"a cat\",\"hyps\"");
    dir.write("good", referenced(&good));
    dir.write("bad", referenced(&good) + "no record\n{}\n");
    for command in ["eval --resamples 10", "tune --ngram lm.arpa --restarts 1 --folds 2"] {
        for (file, code) in [("good", 0), ("bad", 1)] {
            let output = dir.secondpass(command.split(' ')).arg(file).run().code(code);
            assert_eq!(output.stderr.contains("left out"), code == 1, "{}", output.stderr);
        }
    }
}

/// Consensus and confidences go out, come in again, and mean something.
#[test]
fn confidences_are_written_and_judged() {
    let dir = Dir::ngram();
    let input = read("speech/nbest.jsonl");
    let tune = "tune --ngram lm.arpa --restarts 2 --folds 2 --force --write tuned.toml -";
    dir.secondpass(tune.split(' ')).stdin(input.clone()).run().code(0);
    let config = String::from_utf8(dir.read("tuned.toml")).expect("UTF-8");
    for part in ["[confidence]", "temperature = ", "[confidence.word]", "held_out_wer_interval = ["] {
        assert!(config.contains(part), "no {part} in\n{config}");
    }
    let rescore = |flags: &str, input: &[u8]| {
        let arguments = format!("rescore --config tuned.toml {flags}");
        dir.secondpass(arguments.split_whitespace()).stdin(input).run().code(0)
    };
    let plain = rescore("", &input);
    let mbr = rescore("--consensus mbr --confidence", &input);
    let rover = rescore("--consensus rover --confidence --timings", &input);
    let mut moved = 0;
    for ((plain, mbr), rover) in plain.json().iter().zip(mbr.json()).zip(rover.json()) {
        let texts = |record: &Value| -> BTreeSet<String> {
            record["hyps"].as_array().expect("a list").iter().map(|h| h["text"].to_string()).collect()
        };
        assert_eq!(texts(plain), texts(&mbr));
        assert_eq!(plain["hyps"], rover["hyps"]);
        moved += usize::from(plain["hyps"][0] != mbr["hyps"][0]);
        let own = &mbr["secondpass"];
        let words: Vec<&str> = own["words"]
            .as_array()
            .expect("words")
            .iter()
            .map(|w| w["word"].as_str().expect("a word"))
            .collect();
        assert_eq!(words.join(" "), mbr["hyps"][0]["text"].as_str().expect("a text"));
        let posteriors = own["posteriors"].as_array().expect("a list").iter();
        let sum: f64 = posteriors.map(|p| p.as_f64().expect("a number")).sum();
        assert!((sum - 1.0).abs() < 1e-3, "{sum}");
        let own = &rover["secondpass"];
        assert!(own["text"].is_string() && own["took_ms"].as_f64().is_some_and(|ms| ms > 0.0));
        assert!((0.0..=1.0).contains(&own["confidence"].as_f64().expect("a number")));
    }
    assert!(moved > 0, "MBR never decides otherwise");
    // Rescoring what was decided so comes to the same.
    assert!(rescore("--consensus mbr --confidence", &mbr.stdout).stdout == mbr.stdout);
    assert!(rescore("", &mbr.stdout).stdout == plain.stdout);
    let eval =
        dir.secondpass("eval --resamples 0 --json".split(' ')).stdin(rover.stdout).run().code(0).json();
    let words = &eval[0]["confidence"]["words"];
    assert!(words["nce"].as_f64().is_some_and(|nce| nce > 0.0), "{words}");
    assert!(words["ece"].as_f64().is_some_and(|ece| ece < 0.05), "{words}");
    assert!(eval[0]["latency_ms"]["p50"].as_f64().is_some());
    let warned = dir.rescore().args(["--confidence"]).stdin(input).run().code(0).stderr;
    assert!(warned.contains("uncalibrated"), "{warned}");
}

#[test]
fn a_model_that_knows_nothing_is_given_no_weight() {
    let dir = Dir::ngram();
    let lists: String = (0..60)
        .map(|at| {
            let hypotheses = [json!({"text": "a cat", "score": -1}), json!({"text": "a mat", "score": -9})];
            json!({"id": at.to_string(), "ref": "a cat", "hyps": hypotheses}).to_string() + "\n"
        })
        .collect();
    dir.write("lists", &lists);
    let output = dir.secondpass("tune --ngram lm.arpa --write tuned.toml lists".split(' ')).run().code(0);
    assert!(output.stderr.contains("the first pass's weights are kept"), "{}", output.stderr);
    let config = String::from_utf8(dir.read("tuned.toml")).expect("UTF-8");
    assert!(config.contains("ngram = 0.0") && config.contains("used = false"), "{config}");
    let rescored = dir.secondpass("rescore --config tuned.toml lists".split(' ')).run().code(0);
    assert!(rescored.json().iter().all(|record| record["hyps"][0]["rank"] == 1));
    assert!(!rescored.stderr.contains("untuned"), "{}", rescored.stderr);
}

/// MBR decides only where lists that nothing was learnt on are better for it, unless it is asked for.
#[test]
fn mbr_is_used_where_it_helps_and_nowhere_else() {
    let dir = Dir::new();
    let lists = |reference: &str| -> String {
        let list = |at: usize| {
            // One text by itself, and three that agree on most words.
            let texts = [("b b b", -1.0), ("a cat sat", -1.1), ("a cat sad", -1.15), ("a cat hat", -1.2)];
            let hypotheses = texts.map(|(text, score)| json!({"text": text, "score": score}));
            json!({"id": at.to_string(), "ref": reference, "hyps": hypotheses}).to_string() + "\n"
        };
        (0..60).map(list).collect()
    };
    for (reference, decision, says, rank) in [
        ("a cat sat", "mbr", "better: rescore will use it", 2),
        ("b b b", "best", "the greatest total decides", 1),
    ] {
        dir.write("lists", lists(reference));
        let output =
            dir.secondpass("tune --no-models --no-words --write t.toml lists".split(' ')).run().code(0);
        assert!(output.stderr.contains("MBR") && output.stderr.contains(says), "{}", output.stderr);
        let table: toml::Table = String::from_utf8(dir.read("t.toml")).expect("UTF-8").parse().expect("TOML");
        assert_eq!(table["consensus"].as_str(), Some(decision));
        assert_eq!(table["tuned"]["mbr_significant"].as_bool(), Some(decision == "mbr"));
        let ranks = |flags: &str| {
            let rescore = format!("rescore --no-models --weights t.toml lists{flags}");
            let output = dir.secondpass(rescore.split(' ')).run().code(0);
            assert!(
                output
                    .json()
                    .iter()
                    .all(|record| record["hyps"][0]["rank"] == output.json()[0]["hyps"][0]["rank"])
            );
            (output.json()[0]["hyps"][0]["rank"].as_u64(), output.stderr)
        };
        assert_eq!(ranks("").0, Some(rank));
        assert_eq!(ranks(" --consensus best").0, Some(1));
        // Asked for, it is done, and said.
        let warned = ranks(" --consensus mbr").1.contains("found it no better");
        assert_eq!(warned, decision == "best");
    }
}

/// Features computed once serve many runs.
#[test]
fn tuning_on_rescored_lists_needs_no_models() {
    let dir = Dir::ngram();
    let input = read("speech/nbest.jsonl");
    let tune = |flags: &str, from: &str, to: &str| {
        let arguments = format!("tune {from} {flags} --restarts 2 --folds 2 --force --write {to}");
        dir.secondpass(arguments.split_whitespace()).run().code(0)
    };
    dir.write("lists", &input);
    dir.write("features", dir.rescore().stdin(input).run().code(0).stdout);
    tune("--ngram lm.arpa", "lists", "a.toml");
    tune("--no-models --features score,ngram", "features", "b.toml");
    let weights = |name: &str| {
        let table: toml::Table = String::from_utf8(dir.read(name)).expect("UTF-8").parse().expect("TOML");
        table["weights"].as_table().expect("weights").clone()
    };
    let (a, b) = (weights("a.toml"), weights("b.toml"));
    assert_eq!(b["score"].as_float(), Some(1.0));
    assert!(a.contains_key("ngram") && b.contains_key("ngram"));
    // And rescoring with them needs none either.
    let best = |output: Output| -> Vec<Value> {
        output.json().iter().map(|record| record["hyps"][0]["text"].clone()).collect()
    };
    let with = dir.secondpass("rescore lists --ngram lm.arpa --weights b.toml".split(' ')).run().code(0);
    let without = dir.secondpass("rescore features --no-models --weights b.toml".split(' ')).run().code(0);
    assert_eq!(best(with), best(without));
}

#[test]
fn bleu_can_be_tuned_for() {
    let dir = Dir::ngram();
    let tune = "tune --ngram lm.arpa --measure bleu --restarts 2 --folds 2 --force --write tuned.toml -";
    let output = dir.secondpass(tune.split(' ')).stdin(read("speech/nbest.jsonl")).run().code(0);
    let line = |label: &str| -> f64 {
        let line = output.stderr.lines().find(|line| line.contains(label)).expect("a line");
        line.split("BLEU ")
            .nth(1)
            .and_then(|rest| rest.split([' ', ',']).next())
            .expect("a score")
            .parse()
            .expect("a score")
    };
    assert!(line("first pass") > 50.0 && line("tuned on") >= line("first pass"), "{}", output.stderr);
    assert!(String::from_utf8_lossy(&dir.read("tuned.toml")).contains("held_out_bleu"));
}

#[test]
fn shares_of_a_mix_are_learnt_from_the_references() {
    let dir = Dir::ngram();
    // The second model gives every word the same probability: it deserves little.
    let words = crate::data::WORDS[..23].iter().map(|word| format!("-1.4\t{word}\n")).collect::<String>();
    dir.write(
        "flat.arpa",
        format!("\\data\\\nngram 1=26\n\n\\1-grams:\n-99\t<s>\n-1.4\t</s>\n-3\t<unk>\n{words}\n\\end\\\n"),
    );
    let lists: String = records(80, 9)
        .split_inclusive(|&b| b == b'\n')
        .map(|line| {
            let mut record: Value = serde_json::from_slice(line).expect("JSON");
            record["ref"] = record["hyps"][0]["text"].clone();
            record.to_string() + "\n"
        })
        .collect();
    dir.write("lists", lists);
    let tune = "tune lists --ngram lm.arpa --ngram flat=flat.arpa --interpolate linear --restarts 1 --folds 2 --force --write tuned.toml";
    let output = dir.secondpass(tune.split(' ')).run().code(0);
    assert!(output.stderr.contains("shares of the mix"), "{}", output.stderr);
    let table: toml::Table = String::from_utf8(dir.read("tuned.toml")).expect("UTF-8").parse().expect("TOML");
    let shares: Vec<f64> = table["lm"]
        .as_array()
        .expect("models")
        .iter()
        .map(|lm| lm["lambda"].as_float().expect("a share"))
        .collect();
    assert!(
        (shares.iter().sum::<f64>() - 1.0).abs() < 1e-9 && shares.iter().all(|share| *share > 0.0),
        "{shares:?}"
    );
    // The likeliest shares: others make the references less likely.
    let perplexity = |share: f64| -> f64 {
        dir.write("text", table_references(&dir));
        let arguments = format!(
            "score text --ngram lm.arpa --ngram flat=flat.arpa --interpolate linear --lambda ngram={share} --lambda flat={}",
            1.0 - share
        );
        let output = dir.secondpass(arguments.split(' ')).run().code(0);
        let line =
            output.stderr.lines().find(|line| line.contains("mix: perplexity")).expect("a line").to_owned();
        line.split("ln p ")
            .nth(1)
            .and_then(|rest| rest.split([',', ' ']).next())
            .expect("a number")
            .parse()
            .expect("a number")
    };
    let best = perplexity(shares[0]);
    for other in [shares[0] - 0.05, shares[0] + 0.05] {
        assert!(perplexity(other.clamp(0.001, 0.999)) <= best, "{other} beats {shares:?}");
    }
}

fn table_references(dir: &Dir) -> String {
    let bytes = dir.read("lists");
    let lines = bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let text = |line: &[u8]| {
        let record: Value = serde_json::from_slice(line).expect("JSON");
        record["ref"].as_str().expect("a reference").to_owned() + "\n"
    };
    lines.map(text).collect()
}

const HOSTILE: &str = "</script><script>document.title='owned'</script><img/src=x>";

/// A page about lists whose every text tries to be more than text.
fn hostile_page(dir: &Dir) -> String {
    let lists: String = (0..40)
        .map(|at| {
            let hypotheses = [
                json!({"text": format!("a mat {HOSTILE}"), "score": -1}),
                json!({"text": format!("a cat {HOSTILE}"), "score": -1.5 - f64::from(at % 3)}),
            ];
            let (id, session) = (format!("{HOSTILE}{at}"), format!("{HOSTILE}{}", at % 7));
            let reference = format!("a cat {HOSTILE}");
            json!({"id": id, "session": session, "ref": reference, "hyps": hypotheses}).to_string() + "\n"
        })
        .collect();
    let flags = ["--weight", "ngram=1", "--confidence", "--timings"];
    dir.write("rescored", dir.rescore().args(flags).stdin(lists).run().code(0).stdout);
    let eval =
        dir.secondpass(["eval", "rescored", "--report", "page.html", "--title", HOSTILE]).run().code(0);
    assert!(eval.text().contains("second pass"));
    String::from_utf8(dir.read("page.html")).expect("UTF-8")
}

#[test]
fn the_report_is_one_safe_page() {
    let page = hostile_page(&Dir::ngram());
    assert!(page.starts_with("<!DOCTYPE html>") && page.trim_end().ends_with("</html>"));
    for bad in ["<script", "<img", "http:", "https:", "NaN", ">inf"] {
        assert!(!page.contains(bad), "{bad}");
    }
    for part in ["Best of n", "Calibration", "Latency", "Error over the main weights", "Examples", "Speakers"]
    {
        assert!(page.contains(part), "{part}");
    }
    assert!(page.contains("&lt;/script&gt;&lt;script&gt;document.title=&#39;owned&#39;"));
}

/// What a browser makes of it, scripts on: the same elements, and nothing that ran.
#[test]
fn a_browser_sees_what_was_meant() {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let known = |name: &&str| Command::new(name).arg("--version").output().is_ok_and(|o| o.status.success());
    let Some(browser) = names.iter().find(|name| known(name)) else {
        crate::skip!("a_browser_sees_what_was_meant", "no Chromium is installed");
    };
    let dir = Dir::ngram();
    let page = hostile_page(&dir);
    let mut command = Command::new(browser);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom"]);
    command.arg(format!("--user-data-dir={}", dir.path("profile").display()));
    command.arg(format!("file://{}", dir.path("page.html").display()));
    let seen = dir.other(command).run();
    if seen.status.code() != Some(0) || !seen.text().contains("</html>") {
        crate::skip!("a_browser_sees_what_was_meant", "Chromium does not start here");
    }
    let seen = seen.text();
    for element in ["<svg", "<figure", "<article", "<table", "<rect", "<circle", "<script", "<img"] {
        assert_eq!(seen.matches(element).count(), page.matches(element).count(), "{element}");
    }
    assert!(!seen.contains("<title>owned"));
}

/// What mixing wrote into the lists is a feature like others where nothing is mixed.
#[test]
fn a_mix_that_was_computed_before_can_be_weighed() {
    let dir = Dir::ngram();
    let input = read("speech/nbest.jsonl");
    let mix = "rescore --ngram a=lm.arpa --ngram b=lm.arpa --interpolate linear --lambda a=0.5 --lambda b=0.5 \
               --weight mix=3 --quiet";
    let mixed = dir.secondpass(mix.split_whitespace()).stdin(input).run().code(0);
    dir.write("mixed.jsonl", &mixed.stdout);
    let tune = "tune --no-models --features score,mix --no-words --restarts 2 --folds 2 --force --write tuned.toml mixed.jsonl";
    let tuned = dir.secondpass(tune.split(' ')).run().code(0);
    assert!(tuned.stderr.contains("weighing score, mix"), "{}", tuned.stderr);
    let rescored =
        dir.secondpass("rescore --no-models --weights tuned.toml mixed.jsonl".split(' ')).run().code(0);
    assert!(rescored.stderr.contains(" mix"), "{}", rescored.stderr);
    let config = String::from_utf8(dir.read("tuned.toml")).expect("UTF-8");
    let weight = config.lines().find_map(|line| line.strip_prefix("mix = ")).expect("a weight");
    let weight: f64 = weight.parse().expect("a number");
    let totals = |record: &Value| {
        let hyps = record["hyps"].as_array().expect("a list").iter();
        hyps.map(|h| h["scores"]["total"].as_f64().expect("a total")).collect::<Vec<_>>()
    };
    for record in rescored.json() {
        for (hypothesis, total) in record["hyps"].as_array().expect("a list").iter().zip(totals(&record)) {
            let (score, mix) = (&hypothesis["score"], &hypothesis["scores"]["mix"]);
            let want = score.as_f64().expect("a score") + weight * mix.as_f64().expect("a mix");
            assert!((total - want).abs() < 1e-6, "{record}");
        }
    }
    // With the weights it was mixed with, the order is what mixing made of it.
    let again = "rescore --no-models --weight score=1 --weight mix=3 mixed.jsonl";
    let again = dir.secondpass(again.split(' ')).run().code(0);
    assert_eq!(
        again.json().iter().map(|r| r["hyps"][0]["text"].clone()).collect::<Vec<_>>(),
        mixed.json().iter().map(|r| r["hyps"][0]["text"].clone()).collect::<Vec<_>>(),
    );
    // Without a name it is left out: what it was made of stands beside it.
    let all = dir.secondpass("tune --no-models --restarts 0 --folds 2 mixed.jsonl".split(' ')).run().code(0);
    assert!(all.stderr.contains("weighing score, a, b, words"), "{}", all.stderr);
    // Beside it the score counts in the file only if it is named there, with models too.
    let few: Vec<&[u8]> = mixed.stdout.split_inclusive(|&byte| byte == b'\n').take(20).collect();
    dir.write("few.jsonl", few.concat());
    let beside = "tune --ngram c=lm.arpa --features score,mix --restarts 0 --folds 2 --force --write beside.toml \
                  few.jsonl";
    dir.secondpass(beside.split_whitespace()).run().code(0);
    let both = dir.secondpass("rescore --config beside.toml few.jsonl".split(' ')).run().code(0);
    let formula = both.stderr.lines().find(|line| line.contains("total = ")).expect("a formula");
    assert!(formula.contains(" score") && !both.stderr.contains("does not count here"), "{}", both.stderr);
    let ranks = "tune --ngram c=lm.arpa --features rank --restarts 0 --folds 2 --force --write ranks.toml \
                 few.jsonl";
    dir.secondpass(ranks.split_whitespace()).run().code(0);
    let both = dir.secondpass("rescore --config ranks.toml few.jsonl".split(' ')).run().code(0);
    assert!(both.stderr.contains(" rank") && !both.stderr.contains("does not count here"), "{}", both.stderr);
    // Where it is computed, it is no feature of the lists.
    let refused = "tune --ngram a=lm.arpa --ngram b=lm.arpa --interpolate linear --lambda a=0.5 --lambda b=0.5 \
                   --features score,mix mixed.jsonl";
    let refused = dir.secondpass(refused.split_whitespace()).run().code(2);
    assert!(refused.stderr.contains("no first-pass feature"), "{}", refused.stderr);
}
