//! The commands of the guide, run as they stand there.

use std::path::Path;

use crate::data::read;
use crate::harness::Dir;

#[test]
fn every_command_of_the_guide_works() {
    let dir = Dir::ngram();
    let golden = |name: &str| read(&format!("cases/formats/{name}"));
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/cases/formats");
    for folder in ["hyps", "exp/asr/decode", "exp/asr/decode_lm", "data/test"] {
        std::fs::create_dir_all(dir.path(folder)).expect("a folder");
    }
    for (name, to) in [("kaldi", "nbest"), ("espnet", "exp/asr/decode/test")] {
        let run = std::process::Command::new("cp").arg("-r").arg(from.join(name)).arg(dir.path(to)).status();
        assert!(run.expect("cp").success());
    }
    dir.write("data/test/text", "uttA the cat sat\nuttB no\nuttC last\n");
    dir.write("data.json", golden("espnet1.json"));
    let vosk = golden("jsonl.jsonl");
    dir.write("vosk.jsonl", vosk.split(|&byte| byte == b'\n').nth(1).expect("Vosk's line"));
    dir.write(
        "whisper.jsonl",
        "{\"id\":\"w\",\"hyps\":[{\"text\":\"A.\",\"score\":-0.25},{\"text\":\"Ah.\",\"score\":-0.5}]}\n",
    );
    let beams =
        |utterance: usize| (0..16).map(|at| format!("a {utterance} {at}\t-{at}.5\n")).collect::<String>();
    dir.write("preds_out_width16_alpha0_beta0.tsv", beams(0) + &beams(1));
    dir.write(
        "test.json",
        "{\"audio_filepath\":\"x.wav\",\"text\":\"a 0 1\"}\n{\"audio_filepath\":\"y.wav\",\"text\":\"a 1 0\"}\n",
    );
    dir.write("hyps/one.hyp", golden("pocketsphinx.hyp"));
    dir.write("nbest.txt", golden("moses.txt"));

    let mut run_here = 0;
    for line in &commands() {
        let (command, stdin) = match line.strip_prefix("recognizer | ") {
            Some(piped) => (piped.split(" | ").next().unwrap_or(piped), vosk.clone()),
            None => (line.split(" > ").next().unwrap_or(line), Vec::new()),
        };
        let Some(arguments) = command.strip_prefix("secondpass ") else { continue };
        let run = dir.secondpass(arguments.split_whitespace()).stdin(stdin).run();
        assert_eq!(run.status.code(), Some(0), "{line}: {}", run.stderr);
        assert!(!run.stdout.is_empty() || arguments.contains("--output "), "{line}");
        run_here += 1;
    }
    assert!(run_here >= 10, "{run_here} commands");
}

/// The commands of the guide, continued lines joined.
pub fn commands() -> Vec<String> {
    let guide = text().replace("\\\n", " ");
    guide.lines().filter_map(|line| Some(line.strip_prefix("$ ")?.to_owned())).collect()
}

/// The guide's block of code that is fenced with `fence` and has `with` in it.
pub fn block(fence: &str, with: &str) -> String {
    let guide = text();
    let mut blocks = guide.split(fence).skip(1).filter_map(|rest| rest.split("```").next());
    blocks.find(|block| block.contains(with)).expect("a block of code").trim_start().to_owned()
}

fn text() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/guide.md")).expect("the guide")
}
