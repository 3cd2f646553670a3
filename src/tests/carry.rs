//! States carried over the utterances of a session.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::data::{count, fixture, lines, records};
use crate::harness::{Dir, TestCommand};

fn command(dir: &Dir, library: &std::path::Path, carry: bool) -> TestCommand {
    let model = fixture("models/tiny-lstm/model.onnx");
    let command =
        dir.secondpass(["rescore", "--deterministic", "-q", "--weight", "rnnlm=1", "--rnnlm"]).arg(model);
    (if carry { command.arg("--carry-over") } else { command }).ort(library)
}

#[test]
fn sessions_beside_each_other_are_as_each_alone() {
    let library = crate::runtime!("sessions_beside_each_other_are_as_each_alone");
    let dir = Dir::new();
    let input = records(count(250, 5_000), 71);
    let mut sessions: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for line in lines(&input) {
        let record: Value = serde_json::from_slice(line).expect("JSON");
        sessions.entry(record["session"].to_string()).or_default().extend_from_slice(line);
    }
    assert_eq!(sessions.len(), 5);
    let together = command(&dir, library, true).arg("-j4").stdin(input.clone()).run().code(0);
    let mut answers: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for line in together.lines() {
        let record: Value = serde_json::from_slice(line).expect("JSON");
        answers.entry(record["session"].to_string()).or_default().extend_from_slice(line);
    }
    for (session, lists) in &sessions {
        let alone = command(&dir, library, true).arg("-j1").stdin(lists.clone()).run().code(0);
        assert!(alone.stdout == answers[session], "session {session}");
    }
    let one = command(&dir, library, true).arg("-j1").stdin(input.clone()).run().code(0);
    assert!(one.stdout == together.stdout, "-j4 is not -j1");
    let without = command(&dir, library, false).stdin(input).run().code(0);
    assert!(without.stdout != together.stdout, "nothing was carried over");
}

#[test]
fn the_first_of_a_session_starts_afresh_and_the_next_does_not() {
    let library = crate::runtime!("the_first_of_a_session_starts_afresh_and_the_next_does_not");
    let dir = Dir::new();
    let line = |session: &str| {
        let session = if session.is_empty() { String::new() } else { format!("\"session\":\"{session}\",") };
        format!("{{{session}\"hyps\":[{{\"text\":\"the cat sat\",\"score\":-1}}]}}\n")
    };
    let input = ["a", "a", "b", "", ""].map(line).concat();
    let output = command(&dir, library, true).arg("-j2").stdin(input).run().code(0);
    let scores: Vec<f64> = output
        .json()
        .iter()
        .map(|record| record["hyps"][0]["scores"]["rnnlm"].as_f64().expect("a score"))
        .collect();
    assert!(scores[1] != scores[0], "the second of session a starts afresh: {scores:?}");
    for other in 2..5 {
        assert_eq!(scores[other], scores[0], "record {other}");
    }
}

#[test]
fn a_state_is_forgotten_when_there_are_too_many_sessions() {
    let library = crate::runtime!("a_state_is_forgotten_when_there_are_too_many_sessions");
    let dir = Dir::new();
    let line = |session: &str| {
        format!("{{\"session\":\"{session}\",\"hyps\":[{{\"text\":\"a dog ran\",\"score\":-1}}]}}\n")
    };
    let input = ["a", "b", "a"].map(line).concat();
    let run = |most: &str| {
        let run =
            command(&dir, library, true).args(["-j1", "--max-sessions", most]).stdin(input.clone()).run();
        run.code(0)
            .json()
            .iter()
            .map(|record| record["hyps"][0]["scores"]["rnnlm"].as_f64())
            .collect::<Vec<_>>()
    };
    let (one, two) = (run("1"), run("2"));
    assert_eq!(one[2], one[0], "kept: {one:?}");
    assert_ne!(two[2], two[0], "dropped: {two:?}");
}

#[test]
fn which_sessions_are_forgotten_does_not_depend_on_the_workers() {
    let library = crate::runtime!("which_sessions_are_forgotten_does_not_depend_on_the_workers");
    let dir = Dir::new();
    // A dozen sessions in turn, in a memory for seven: some are met again in time, some are not.
    let line = |at: usize| {
        let (session, words) =
            (at * at % 41 % 13, ["the cat sat", "a dog ran", "a cat ran on the mat"][at % 3]);
        format!("{{\"session\":\"{session}\",\"hyps\":[{{\"text\":\"{words}\",\"score\":-1}}]}}\n")
    };
    let input = (0..count(400, 4_000)).map(line).collect::<String>();
    let run = |jobs: &str| {
        let command = command(&dir, library, true).args([jobs, "--max-sessions", "7"]);
        command.stdin(input.clone()).run().code(0).stdout
    };
    let one = run("-j1");
    for jobs in ["-j2", "-j4"] {
        assert!(run(jobs) == one, "{jobs} is not -j1");
    }
}

#[test]
fn carrying_over_without_a_state_is_said() {
    let dir = Dir::ngram();
    let output = dir.rescore().arg("--carry-over").stdin(records(3, 72)).run().code(0);
    assert!(output.stderr.contains("--carry-over changes nothing"), "{}", output.stderr);
}
