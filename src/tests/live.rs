//! The guide's pocketsphinx commands with the programs themselves: speech in, reranked text out.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::guide;
use crate::harness::Dir;

/// What is said, by which voice.
const SAID: [(&str, &str); 4] = [
    ("slt", "the weather was so poor that we could not tell whether the boat would sail"),
    ("rms", "the male bird brings home the food while the mail is still on the road"),
    ("slt", "there was a sale of old sails down at the harbour this morning"),
    ("awb", "two of the boys were too tired to walk back to the farm"),
];

#[test]
fn speech_becomes_reranked_text_as_it_is_spoken() {
    const NAME: &str = "speech_becomes_reranked_text_as_it_is_spoken";
    let library = crate::runtime!(NAME);
    if !speech() {
        crate::skip!(NAME, "pocketsphinx, its models, Debian's module for it or flite is not installed");
    }
    let dir = Dir::new();
    dir.write("listen.py", guide::block("```python", "import Decoder"));
    let speech: Vec<Vec<u8>> =
        (0..).zip(SAID).map(|(at, (voice, text))| say(&dir, at, voice, text)).collect();

    let line =
        guide::commands().into_iter().find(|line| line.starts_with("arecord ")).expect("a live command");
    let (_, listens) = line.split_once(" | ").expect("a pipeline");
    let mut shell = Command::new("sh");
    shell.args(["-c", listens]);
    let path = programs(
        &dir,
        &[("python3", "/usr/bin/python3".into()), ("secondpass", env!("CARGO_BIN_EXE_secondpass").into())],
    );
    let mut running = dir.other(shell).ort(library).env("PATH", path).start();
    let mut texts = Vec::new();
    for speech in speech {
        // The text is there before the next word is spoken, the microphone still open.
        running.write(&speech);
        running.write(&[0; 2 * RATE]);
        texts.push(String::from_utf8(running.line()).expect("UTF-8"));
    }
    drop(running.stdin.take());
    assert!(running.end().success());
    assert!(running.lines.try_recv().is_err(), "more lines than utterances");

    let heard = String::from_utf8(dir.read("heard.jsonl")).expect("UTF-8");
    let heard: Vec<Value> = heard.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(heard.len(), SAID.len());
    let (mut before, mut after) = (0, 0);
    for ((record, line), (_, said)) in heard.iter().zip(&texts).zip(SAID) {
        let (id, text) = line.trim_end().split_once(' ').expect("an id and words");
        assert_eq!(record["id"], id);
        let hypotheses: Vec<&str> =
            record["hyps"].as_array().expect("a list").iter().filter_map(|h| h["text"].as_str()).collect();
        assert!(hypotheses.len() > 10 && hypotheses.contains(&text), "{line}");
        before += errors(said, hypotheses[0]);
        after += errors(said, text);
    }
    assert!(after < before, "{before} errors became {after}: {texts:?}");
}

/// The folder of lists that `pocketsphinx_batch` writes.
#[test]
fn lists_of_pocketsphinx_batch_are_rescored() {
    const NAME: &str = "lists_of_pocketsphinx_batch_are_rescored";
    if !speech() {
        crate::skip!(NAME, "pocketsphinx, its models, Debian's module for it or flite is not installed");
    }
    let dir = Dir::ngram();
    std::fs::create_dir(dir.path("hyps")).expect("a folder");
    say(&dir, 0, SAID[0].0, SAID[0].1);
    dir.write("files.ctl", "speech0\n");
    let all = guide::commands();
    let line = all.iter().find(|line| line.starts_with("pocketsphinx_batch ")).expect("a command");
    let mut shell = Command::new("sh");
    shell.args(["-c", line.as_str()]);
    dir.other(shell).run().code(0);
    let lists = String::from_utf8(dir.read("hyps/speech0.hyp")).expect("UTF-8");
    assert!(lists.lines().count() > 10, "{lists}");
    let rescored = dir.rescore().args(["hyps", "--output", "rescored"]).run().code(0);
    assert!(rescored.stderr.contains("base 1.0001"), "{}", rescored.stderr);
    let texts = |lists: &str| -> Vec<String> {
        let mut texts: Vec<_> =
            lists.lines().filter_map(|line| Some(line.rsplit_once(' ')?.0.into())).collect();
        texts.sort();
        texts
    };
    assert_eq!(texts(&String::from_utf8(dir.read("rescored/speech0.hyp")).expect("UTF-8")), texts(&lists));
}

/// Raw samples of a sentence, which also lie in `speechAT.wav`.
fn say(dir: &Dir, at: usize, voice: &str, text: &str) -> Vec<u8> {
    let name = format!("speech{at}.wav");
    let mut flite = Command::new("flite");
    flite.args(["-voice", voice, "-t", text, "-o", &name]);
    dir.other(flite).run().code(0);
    let wave = dir.read(&name);
    assert_eq!(wave[24..28], (RATE as u32).to_le_bytes(), "samples a second");
    wave[44..].to_vec()
}

/// A search path with these programs in front.
fn programs(dir: &Dir, programs: &[(&str, PathBuf)]) -> String {
    std::fs::create_dir(dir.path("bin")).expect("a folder");
    for (name, file) in programs {
        std::os::unix::fs::symlink(file, dir.path("bin").join(name)).expect("a link");
    }
    format!("{}:{}", dir.path("bin").display(), std::env::var("PATH").unwrap_or_default())
}

/// Whether all is there that the guide's live section needs: the condition of `speech` in `.ci/run`. Only
/// Debian's Python module finds the ends of utterances itself.
fn speech() -> bool {
    const ASKS: &str = "command -v flite && command -v pocketsphinx_batch \
                        && test -d /usr/share/pocketsphinx/model/en-us/en-us \
                        && /usr/bin/python3 -c 'import pocketsphinx; pocketsphinx.Decoder.get_in_speech'";
    Command::new("sh").args(["-c", ASKS]).output().is_ok_and(|output| output.status.success())
}

/// Word errors, counted as everybody does.
fn errors(said: &str, heard: &str) -> usize {
    let (said, heard): (Vec<_>, Vec<_>) = (said.split(' ').collect(), heard.split_whitespace().collect());
    let mut row: Vec<usize> = (0..=heard.len()).collect();
    for (at, word) in said.iter().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], at + 1);
        for (to, other) in heard.iter().enumerate() {
            let least = (row[to] + 1).min(row[to + 1] + 1).min(corner + usize::from(word != other));
            corner = std::mem::replace(&mut row[to + 1], least);
        }
    }
    row[heard.len()]
}

/// Samples a second.
const RATE: usize = 16_000;
