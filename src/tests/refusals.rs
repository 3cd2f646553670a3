//! What cannot be done as asked is refused, with what to do instead.

use crate::data::{read, records};
use crate::harness::Dir;

#[test]
fn an_output_is_not_completed_with_the_answers_to_another_input() {
    let dir = Dir::ngram();
    let resume = |input: &str| {
        let arguments = format!("rescore --ngram lm.arpa --resume --output out {input}");
        dir.secondpass(arguments.split(' ')).run()
    };
    let all = records(20, 3);
    let half: Vec<u8> = all.split_inclusive(|&byte| byte == b'\n').take(10).flatten().copied().collect();
    dir.write("half", &half);
    dir.write("all", &all);
    dir.write(
        "other",
        String::from_utf8(all.clone()).expect("UTF-8").replace("\"id\":\"", "\"id\":\"other-"),
    );
    resume("half").code(0);
    let first = dir.read("out");
    let refused = resume("other").code(2);
    assert!(refused.stderr.contains("line 1 of the output to complete answers"), "{}", refused.stderr);
    assert!(dir.read("out") == first, "nothing is written");
    resume("all").code(0);
    let whole = dir.rescore().stdin(all).run().code(0);
    assert!(dir.read("out") == whole.stdout);
}

#[test]
fn score_has_no_use_for_weights() {
    let dir = Dir::ngram();
    for flag in ["--weight=ngram=2", "--weights=tuned.toml"] {
        dir.write("tuned.toml", "[weights]\nngram = 2.0\n");
        let refused = dir.secondpass(["score", "--ngram", "lm.arpa", flag]).stdin("a cat\n").run().code(2);
        assert!(refused.stderr.contains("no weight changes"), "{}", refused.stderr);
    }
}

#[test]
fn a_folder_is_no_file() {
    let dir = Dir::ngram();
    std::fs::create_dir(dir.path("folder")).expect("a folder");
    dir.write("lists", read("speech/nbest.jsonl"));
    for arguments in ["score --ngram lm.arpa folder", "rescore --ngram lm.arpa lists --output folder"] {
        let refused = dir.secondpass(arguments.split(' ')).run().code(2);
        assert!(refused.stderr.contains("folder: is a folder; name a file in it"), "{}", refused.stderr);
    }
}
