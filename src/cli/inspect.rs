//! `secondpass inspect`: what is this model, and what will be run?

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::End;
use super::messages::Messages;
use crate::lm::LanguageModel;
use crate::lm::ngram::Ngram;
use crate::lm::onnx::graph::{Dim, Graph, Value};
use crate::lm::onnx::{Device, OnnxLm, OnnxOptions};
use crate::{Error, Result};

/// Show what a model file is: signature, cell, sizes, vocabulary, what will be run
#[derive(clap::Args, Debug)]
pub struct Args {
    /// An ONNX or ARPA file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The ONNX Runtime library to use
    #[arg(long, value_name = "FILE", help_heading = "Models")]
    onnxruntime: Option<PathBuf>,
}

/// Inspects a file.
pub fn run(arguments: &Args, messages: &Messages) -> Result<End> {
    let path = &arguments.file;
    let mut out = String::new();
    let result =
        if is_ngram(path)? { ngram(path, &mut out) } else { neural(path, arguments, messages, &mut out) };
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(out.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|source| Error::Io { what: "output".into(), source })?;
    result.map(|()| End::Done)
}

fn neural(path: &Path, arguments: &Args, messages: &Messages, out: &mut String) -> Result<()> {
    let graph = Graph::read(path)?;
    *out += &format!("file         {}, {:.1} MB\n", path.display(), graph.bytes as f64 / 1e6);
    let producer = if graph.producer.is_empty() { "unknown" } else { &graph.producer };
    let opsets: Vec<String> = graph
        .opsets
        .iter()
        .map(
            |(domain, version)| {
                if domain.is_empty() { version.to_string() } else { format!("{domain} {version}") }
            },
        )
        .collect();
    *out +=
        &format!("format       ONNX IR {}, opset {}, by {producer}\n", graph.ir_version, opsets.join(", "));
    for (what, values) in [("input", &graph.inputs), ("output", &graph.outputs)] {
        for value in values {
            *out += &format!("{what:<12} {}\n", shape(value));
        }
    }
    let ops: Vec<String> = graph.ops.iter().map(|(op, count)| format!("{op} {count}")).collect();
    *out += &format!("operators    {}\n", ops.join(", "));
    *out += &format!("parameters   {:.2} million\n", graph.parameters() as f64 / 1e6);
    for (key, value) in &graph.metadata {
        *out += &format!("metadata     {key} = {value}\n");
    }
    let options =
        OnnxOptions { device: Device::Cpu, runtime: arguments.onnxruntime.clone(), ..OnnxOptions::default() };
    // Everything above needs no runtime; what follows tries the model for real.
    let model = OnnxLm::open(path, "model", &options)?;
    let signature = model.signature();
    *out += &format!("cell         {}\n", signature.cell.as_deref().unwrap_or("not said"));
    *out += &format!(
        "vocabulary   {} tokens ({}); <s> {}, </s> {}, <unk> {}\n",
        signature.vocab_size,
        signature.tokenizer,
        signature.bos,
        signature.eos,
        signature.unk.map_or("none".into(), |unk| unk.to_string())
    );
    *out += &format!("vocab_hash   {:016x}\n", model.spec().vocab.hash());
    *out += &format!("state        {} bytes for each history\n", signature.state_bytes());
    *out +=
        "runs as      one step for each distinct history, histories of all utterances in flight batched\n";
    *out += "tried        output is finite and sums to 1; a step at a time agrees with the whole sequence\n";
    for warning in &model.spec().warnings {
        messages.say(&format!("warning: {warning}"));
    }
    Ok(())
}

fn ngram(path: &Path, out: &mut String) -> Result<()> {
    let model = Ngram::open(path, &Default::default())?;
    let bytes = std::fs::metadata(path).map_err(|error| Error::io(path, error))?.len();
    *out += &format!("file         {}, {:.1} MB\n", path.display(), bytes as f64 / 1e6);
    *out += &format!("format       ARPA, order {}\n", model.order());
    for (count, order) in model.counts().iter().zip(1..) {
        *out += &format!("{order}-grams      {count}\n");
    }
    *out += &format!("vocabulary   {} words\n", model.spec().vocab.size());
    for warning in &model.spec().warnings {
        *out += &format!("warning      {warning}\n");
    }
    *out += "runs as      backoff search in memory, each context of a list looked up once\n";
    Ok(())
}

/// Whether the file is an n-gram model by its first bytes: ARPA text, or something compressed.
fn is_ngram(path: &Path) -> Result<bool> {
    let mut start = Vec::new();
    let file = File::open(path).map_err(|error| Error::io(path, error))?;
    file.take(512).read_to_end(&mut start).map_err(|error| Error::io(path, error))?;
    let compressed = start.starts_with(&[0x1f, 0x8b]) || start.starts_with(b"BZh");
    let arpa = start.windows(6).any(|window| window == b"\\data\\");
    let named = path.to_string_lossy().contains(".arpa");
    Ok(compressed || arpa || named || start.starts_with(b"mmap lm "))
}

fn shape(value: &Value) -> String {
    let dims = value.dims.as_ref().map(|dims| {
        let names: Vec<String> = dims
            .iter()
            .map(|dim| match dim {
                Dim::Fixed(size) => size.to_string(),
                Dim::Symbol(name) => name.clone(),
                Dim::Unknown => "?".into(),
            })
            .collect();
        names.join(", ")
    });
    format!("{} {} [{}]", value.name, value.dtype, dims.unwrap_or("any shape".into()))
}
