//! `secondpass ngram prune`: a smaller n-gram model.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::cli::End;
use crate::cli::files;
use crate::cli::messages::Messages;
use crate::lm::ngram::prune::{Keep, Pruner};
use crate::{Error, Result};

/// Make an n-gram model smaller
///
/// n-grams go where the perplexity rises least (Stolcke 1998); probabilities that stay are not
/// touched, backoffs are computed anew. Give the training text as --history-text: the lower
/// orders of Kneser-Ney models do not say how often contexts occur, and without that the wrong
/// n-grams go.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The model, ARPA text, plain or compressed; - for standard input
    #[arg(value_name = "ARPA")]
    model: PathBuf,
    /// The smaller model, ARPA text, compressed if it ends in .gz; - for standard output
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Keep at most NUM n-grams, words among them
    #[arg(long, value_name = "NUM", required_unless_present_any = ["threshold", "vocabulary"], help_heading = "Model")]
    ngrams: Option<u64>,
    /// Keep what raises the perplexity by NUM (a part, like 1e-8) or more
    #[arg(long, value_name = "NUM", conflicts_with = "ngrams", help_heading = "Model")]
    threshold: Option<f64>,
    /// First drop all but the NUM most frequent words, <s>, </s> and <unk> among them
    #[arg(long, value_name = "NUM", help_heading = "Model")]
    vocabulary: Option<usize>,
    /// Texts to count contexts and words in, plain or packed (gzip, bzip2, xz, zstd)
    #[arg(long, value_name = "TEXT", num_args = 1.., help_heading = "Input")]
    history_text: Vec<PathBuf>,
    /// Decimals of the numbers written
    #[arg(long, value_name = "NUM", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=9), help_heading = "Output")]
    decimals: u8,
}

/// Prunes.
pub fn run(arguments: &Args, messages: &Messages) -> Result<End> {
    super::packable(&arguments.output)?;
    if let Some(text) = arguments.history_text.iter().find(|text| files::same(text, &arguments.output)) {
        return Err(Error::config(format!("{}: is both a text and the output", text.display())));
    }
    let mut pruner = match arguments.model == Path::new("-") {
        true => Pruner::from_reader("standard input", std::io::stdin())?,
        false => Pruner::open(&arguments.model)?,
    };
    messages.say(&format!("read {}", listed(&pruner)));
    for text in &arguments.history_text {
        pruner.count(&text.to_string_lossy(), files::input(text)?)?;
    }
    if let Some(words) = arguments.vocabulary {
        let moved = pruner.limit_vocabulary(words);
        messages.say(&format!(
            "{} with {words} words; {moved:.5} of probability moved to <unk>",
            listed(&pruner)
        ));
    }
    let keep = arguments.threshold.map(Keep::Threshold).or(arguments.ngrams.map(Keep::Most));
    if let Some(keep) = keep {
        if arguments.history_text.is_empty() {
            messages.say("warning: without --history-text contexts weigh by the model's own probabilities, which suits no Kneser-Ney model");
        }
        let threshold = pruner.prune(keep)?;
        messages.say(&format!("n-grams that raise the perplexity by less than {threshold:.3e} went"));
    }
    let decimals = usize::from(arguments.decimals);
    super::whole(&arguments.output, |out| {
        let failed = |source| Error::io(&arguments.output, source);
        let mut buffered = BufWriter::with_capacity(1 << 16, out);
        if arguments.output.extension().is_some_and(|extension| extension == "gz") {
            let mut packed = GzEncoder::new(buffered, Compression::best());
            pruner.write(&mut packed, decimals)?;
            return packed.finish().and_then(|mut buffered| buffered.flush()).map_err(failed);
        }
        pruner.write(&mut buffered, decimals)
    })?;
    messages.say(&format!("wrote {}: {}", arguments.output.display(), listed(&pruner)));
    Ok(End::Done)
}

fn listed(pruner: &Pruner) -> String {
    let counts: Vec<String> = pruner.counts().iter().map(u64::to_string).collect();
    format!("{} n-grams", counts.join(" / "))
}
