use super::*;
use crate::rescorer::Tail;
use clap::Parser;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    models: ModelArgs,
    input: Option<String>,
}

fn parse(flags: &[&str]) -> Command {
    Command::try_parse_from(std::iter::once(&"test").chain(flags)).unwrap()
}

#[test]
fn a_switch_does_not_take_the_input_for_its_value() {
    let command = parse(&["--ngram", "a.arpa", "--strip-punctuation", "lists.jsonl"]);
    assert_eq!(command.input.as_deref(), Some("lists.jsonl"));
    assert_eq!(command.models.config().unwrap().lm[0].strip_punctuation, Some(true));
    let models = parse(&["--ngram", "a.arpa", "--ngram", "b.arpa", "--strip-punctuation=ngram2"]).models;
    let strip: Vec<_> = models.config().unwrap().lm.iter().map(|lm| lm.strip_punctuation).collect();
    assert_eq!(strip, [None, Some(true)]);
}

#[test]
fn precision_is_of_all_neural_models_or_of_one() {
    let precisions = |flags: &[&str]| {
        let models = ["--rnnlm", "a=a.onnx", "--rnnlm", "b=b.onnx", "--ngram", "c=c.arpa"];
        let config = parse(&[&models[..], flags].concat()).models.config();
        config.map(|config| config.lm.into_iter().map(|lm| lm.precision).collect::<Vec<_>>())
    };
    let int8 = || Some("int8".to_owned());
    assert_eq!(precisions(&[]).unwrap(), [None, None, None]);
    assert_eq!(precisions(&["--precision", "int8"]).unwrap(), [int8(), int8(), None]);
    assert_eq!(precisions(&["--precision", "b=int8"]).unwrap(), [None, int8(), None]);
    for wrong in ["int4", "x=int8", "b=8", "c=int8"] {
        assert!(precisions(&["--precision", wrong]).unwrap_err().to_string().contains(wrong));
    }
}

#[test]
fn precision_without_neural_models_is_refused() {
    let error = parse(&["--ngram", "a.arpa", "--precision", "int8"]).models.config().unwrap_err();
    assert!(error.to_string().contains("--precision int8: there is no neural model"), "{error}");
}

#[test]
fn an_output_rank_is_of_all_neural_models_or_of_one() {
    let ranks = |flags: &[&str]| {
        let models = ["--rnnlm", "a=a.onnx", "--rnnlm", "b=b.onnx", "--ngram", "c=c.arpa"];
        let config = parse(&[&models[..], flags].concat()).models.config();
        config.map(|config| config.lm.into_iter().map(|lm| lm.output_rank).collect::<Vec<_>>())
    };
    assert_eq!(ranks(&[]).unwrap(), [None, None, None]);
    assert_eq!(ranks(&["--output-rank", "64"]).unwrap(), [Some(64), Some(64), None]);
    assert_eq!(ranks(&["--output-rank", "64", "--output-rank", "b=32"]).unwrap(), [Some(64), Some(32), None]);
    for wrong in ["many", "x=64", "b=-1", "c=64"] {
        assert!(ranks(&["--output-rank", wrong]).unwrap_err().to_string().contains(wrong));
    }
    let error = parse(&["--ngram", "a.arpa", "--output-rank", "8"]).models.config().unwrap_err();
    assert!(error.to_string().contains("--output-rank 8: there is no neural model"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tuned.toml");
    parse(&["--rnnlm", "a.onnx", "--output-rank", "64"]).models.config().unwrap().save(&path).unwrap();
    let again = parse(&["--config", path.to_str().unwrap()]).models.config().unwrap();
    assert_eq!(again.lm[0].output_rank, Some(64));
}

#[test]
fn a_configuration_carries_what_is_no_word_and_what_may_be_missing() {
    let flags = ["--ngram", "a.arpa", "--marker", "uh", "--no-markers", "--missing", "lm=min"];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tuned.toml");
    parse(&flags).models.config().unwrap().save(&path).unwrap();
    let again = parse(&["--config", path.to_str().unwrap(), "--marker", "er"]).models.config().unwrap();
    assert_eq!(again.markers, ["uh", "er"]);
    assert_eq!(again.missing["lm"], Missing::Min);
    let markers = again.all_markers();
    assert_eq!(markers.words(b"<s> uh a er cat"), [&b"<s>"[..], b"a", b"cat"]);
}

#[test]
fn margins_go_with_what_was_tuned() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let tail = Some(Tail { margins: vec![[1.0, 0.01]], ..Tail::default() });
    let mut tuned = parse(&["--ngram", "a.arpa", "--marker", "uh", "--no-markers"]).models.config().unwrap();
    tuned.weights.insert("ngram".into(), 0.5);
    tuned.missing.insert("am".into(), Missing::Min);
    tuned.tail = tail.clone();
    tuned.save(path("tuned.toml").as_ref()).unwrap();
    let file = path("tuned.toml");
    let margins = |flags: &[&str]| {
        let config = parse(&[&["--config", &file], flags].concat()).models.config().unwrap();
        config.tail.map(|tail| tail.margins.len())
    };
    assert_eq!(margins(&[]), Some(1));
    assert_eq!(margins(&["--weight", "ngram=0.5"]), Some(1));
    for flags in [
        &["--weight", "ngram=0.6"][..],
        &["--ngram", "b.arpa"],
        &["--interpolate", "linear", "--lambda", "ngram=1"],
        &["--no-eos"],
    ] {
        assert_eq!(margins(flags), Some(0), "{flags:?}");
    }
    let weighted = parse(&["--ngram", "a.arpa", "--weights", &file]).models.config().unwrap();
    assert_eq!((weighted.tail, weighted.known_markers), (tail, Some(false)));
    assert_eq!((&*weighted.markers, weighted.missing["am"]), (&["uh".to_owned()][..], Missing::Min));
    std::fs::write(path("bare.toml"), "[weights]\nngram = 0.4\n").unwrap();
    assert_eq!(margins(&["--weights", &path("bare.toml")]), None);
}

#[test]
fn two_models_of_one_name_are_refused() {
    let error = |flags: &[&str]| parse(flags).models.config().unwrap_err().to_string();
    assert!(error(&["--ngram", "x=a.arpa", "--ngram", "x=b.arpa"]).contains("two models are called `x`"));
    assert!(error(&["--rnnlm", "x=a.onnx", "--ngram", "x=b.arpa"]).contains("two models are called `x`"));
}

#[test]
fn mixing_forgets_the_weights_that_members_had_in_a_sum() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tuned.toml");
    let tuned = "[[lm]]\nname = \"rnnlm\"\npath = \"a.onnx\"\nweight = 3.0\n[[lm]]\nname = \"ngram\"\n\
                 path = \"b.arpa\"\n[weights]\nngram = 2.0\nscore = 1.0\nwords = 0.5\n";
    std::fs::write(&path, tuned).unwrap();
    let path = path.to_str().unwrap();
    let weights = |flags: &[&str]| {
        let config = parse(&[&["--config", path], flags].concat()).models.config()?;
        Ok::<_, Error>(config.all_weights().values.into_keys().collect::<Vec<_>>())
    };
    assert_eq!(weights(&[]).unwrap(), ["ngram", "rnnlm", "score", "words"]);
    assert_eq!(weights(&["--interpolate", "linear", "--lambda", "0.3"]).unwrap(), ["score", "words"]);
    let named = ["--interpolate", "linear", "--lambda", "0.3", "--weight", "mix=2", "--weight", "ngram=1"];
    assert_eq!(weights(&named).unwrap(), ["mix", "ngram", "score", "words"]);
    let mixing = format!("interpolate = \"linear\"\n{tuned}mix = 2.0\n");
    std::fs::write(path, mixing).unwrap();
    assert_eq!(weights(&["--interpolate", "log-linear"]).unwrap(), ["ngram", "rnnlm", "score", "words"]);
    std::fs::write(path, tuned).unwrap();
    for flags in [&["--lambda", "0.3"][..], &["--fast-mix"]] {
        let error = weights(flags).unwrap_err().to_string();
        assert!(error.contains("--interpolate linear"), "{error}");
    }
}

#[test]
fn a_margin_holds_for_the_bits_that_it_was_learnt_with() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tuned.toml");
    let path = path.to_str().unwrap();
    let models = |bits: &str| {
        let file = format!(
            "confirm = 1.0\n[[lm]]\nname = \"a\"\npath = \"a.onnx\"\n{bits}[[lm]]\nname = \"b\"\npath = \"b.onnx\"\n"
        );
        std::fs::write(path, file).unwrap();
    };
    let stale = |flags: &[&str]| {
        let config = parse(&[&["--config", path], flags].concat()).models.config().unwrap();
        assert_eq!(config.confirm, Some(1.0));
        config.confirm_is_stale
    };
    models("precision = \"int8\"\n");
    for same in [&[][..], &["--precision", "a=int8"], &["--precision", "a=f32"], &["--precision", "f32"]] {
        assert!(!stale(same), "{same:?}");
    }
    // The other model's scores were exact ones.
    for other in ["a=bf16", "b=int8", "int8"] {
        assert!(stale(&["--precision", other]), "{other}");
    }
    assert!(stale(&["--output-rank", "a=64"]) && stale(&["--output-rank", "b=64"]));
    let with_weights = |flags: &[&str]| {
        let given = ["--rnnlm", "a=a.onnx", "--rnnlm", "c=c.onnx", "--weights", path];
        parse(&[&given[..], flags].concat()).models.config().unwrap().confirm_is_stale
    };
    assert!(!with_weights(&["--precision", "a=int8"]) && with_weights(&["--precision", "int8"]));
    // Fewer directions in f32 may be off by less than all in int8.
    models("precision = \"int8\"\noutput_rank = 64\n");
    assert!(!with_weights(&["--precision", "a=int8", "--output-rank", "a=64"]));
    assert!(with_weights(&["--precision", "a=int8"]) && with_weights(&["--output-rank", "a=64"]));
    assert!(!with_weights(&[]));
    // Who writes a margin by hand knows what for.
    models("");
    assert!(!stale(&["--precision", "int8"]));
}
