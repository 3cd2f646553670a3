//! One job of the whole-sentence scorer: which token sequences must be fed, and where their scores go.

use std::collections::HashMap;

use super::super::scores::Row;
use super::super::session::Outputs;
use super::super::signature::{Kind, Layout, Signature};
use crate::lm::{Job, Scores};
use crate::trie::{ROOT, Trie};

/// One job under way.
pub(super) struct Flight {
    pub job: Job,
    /// Sequences to feed, by falling length.
    pub paths: Vec<Path>,
    /// Numbers of the paths that are not done; the longest comes last.
    pub pending: Vec<usize>,
    /// Paths whose scores are not here yet.
    pub left: usize,
    pub failed: Option<String>,
    pub taken: bool,
    answer: Answer,
}

/// A sequence that is fed.
pub(super) struct Path {
    /// The last node of it; for whole sentences, the end that it scores.
    node: u32,
    /// Tokens fed.
    pub length: usize,
}

/// Where a path lies in a batch.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub row: usize,
    /// Positions `from..from + count` of it.
    pub from: usize,
    pub count: usize,
}

enum Answer {
    Nodes {
        ln: Vec<f32>,
        boundary: Vec<f32>,
        seen: Vec<bool>,
        children: Children,
    },
    /// Scores of targets, which are the nodes of a path.
    Targets {
        ln: Vec<f32>,
        boundary: Vec<f32>,
    },
    /// By the number of each end's path.
    Sentences {
        totals: Vec<f64>,
        path_of: Vec<usize>,
    },
}

/// The children of every node.
struct Children {
    first: Vec<u32>,
    nodes: Vec<u32>,
}

impl Flight {
    /// Lays out the work of a job.
    ///
    /// # Errors
    /// If the model cannot score such sequences: why.
    pub fn new(job: Job, signature: &Signature) -> Result<Self, String> {
        let trie = &job.trie;
        if let Some(token) = trie.token.iter().find(|&&token| token as usize >= signature.vocab_size) {
            return Err(match *token {
                u32::MAX => "it cannot score without <s>; drop --no-bos".to_owned(),
                token => format!("token {token} is outside the vocabulary of {}", signature.vocab_size),
            });
        }
        let (paths, answer) = match signature.layout {
            Layout::Sentence => sentences(trie, signature)?,
            Layout::Targets { .. } => {
                let (paths, _) = sentences(trie, signature)?;
                let mut ln = vec![f32::NAN; trie.len()];
                ln.iter_mut().take(1).for_each(|root| *root = 0.0);
                let boundary = if job.boundaries { vec![0.0; trie.len()] } else { Vec::new() };
                (paths, Answer::Targets { ln, boundary })
            }
            _ => nodes(trie, job.boundaries),
        };
        let mut pending: Vec<usize> = (0..paths.len()).collect();
        pending.sort_by_key(|&path| paths[path].length);
        Ok(Self { left: pending.len(), job, paths, pending, failed: None, taken: false, answer })
    }

    /// Appends what is fed for a path, and, for a model that wants targets, those.
    pub fn push(&self, path: usize, signature: &Signature, ids: &mut Vec<i64>, targets: &mut Vec<i64>) {
        let Path { node, length } = self.paths[path];
        let trie = &self.job.trie;
        let token = |node: u32| i64::from(trie.token[node as usize]);
        let start = ids.len();
        if matches!(signature.layout, Layout::Sentence | Layout::Targets { .. }) {
            let tokens: Vec<i64> = trie.path(node).map(token).collect();
            if signature.adds_ends {
                ids.extend(tokens.iter().skip(1).rev());
            } else {
                ids.push(token(ROOT));
                ids.extend(tokens.iter().rev());
                ids.truncate(start + length);
                targets.extend(tokens.iter().rev());
            }
            return;
        }
        ids.extend(trie.path(node).map(token));
        ids.push(token(ROOT));
        ids[start..].reverse();
    }

    /// Takes the scores of the positions of a path that `outputs` has.
    pub fn receive(
        &mut self,
        path: usize,
        signature: &Signature,
        outputs: &Outputs<'_>,
        place: Place,
        starts: &[u32],
    ) {
        let Place { row, from, count } = place;
        let Path { node, length } = self.paths[path];
        let trie = &self.job.trie;
        match &mut self.answer {
            Answer::Sentences { totals, .. } => {
                // A batch that failed half way is run again.
                if from == 0 {
                    totals[path] = 0.0;
                }
                if from == 0 || from < length {
                    let value = f64::from(outputs.row(row, 0)[0]);
                    totals[path] += if signature.kind == Kind::NegativeLog { -value } else { value };
                }
            }
            Answer::Targets { ln, .. } => {
                let mut targets: Vec<u32> = trie.path(node).collect();
                targets.reverse();
                for (at, &node) in targets.iter().enumerate().skip(from).take(signature.positions(count)) {
                    ln[node as usize] = Row::new(signature.kind, outputs.row(row, at - from)).ln(0);
                }
            }
            Answer::Nodes { ln, boundary, seen, children } => {
                let mut fed: Vec<u32> = trie.path(node).collect();
                fed.push(ROOT);
                fed.reverse();
                for (at, &node) in fed.iter().enumerate().take(length.min(from + count)).skip(from) {
                    let node = node as usize;
                    if std::mem::replace(&mut seen[node], true) {
                        continue;
                    }
                    let scores = Row::new(signature.kind, outputs.row(row, at - from));
                    let mut ends = false;
                    for &child in children.of(node) {
                        ln[child as usize] = scores.ln(trie.token[child as usize]);
                        ends |= node == 0 || trie.word[child as usize] != trie.word[node];
                    }
                    if ends && !boundary.is_empty() {
                        boundary[node] = scores.mass(starts);
                    }
                }
            }
        }
    }

    /// The answer, when all paths are done.
    pub fn scores(&mut self) -> Scores {
        match &mut self.answer {
            Answer::Nodes { ln, boundary, .. } | Answer::Targets { ln, boundary } => Scores::Nodes {
                ln: std::mem::take(ln),
                boundary: std::mem::take(boundary),
                order: Vec::new(),
            },
            Answer::Sentences { totals, path_of } => {
                Scores::Sentences(path_of.iter().map(|&path| totals[path]).collect())
            }
        }
    }

    /// Gives up.
    pub fn fail(&mut self, what: &str) {
        self.failed.get_or_insert_with(|| what.to_owned());
        self.left = 0;
        self.pending.clear();
    }
}

/// The longest histories that have continuations: all others are beginnings of them.
fn nodes(trie: &Trie, boundaries: bool) -> (Vec<Path>, Answer) {
    let count = trie.len();
    let children = Children::new(trie);
    let depths = depths(trie);
    let inner = |&node: &u32| !children.of(node as usize).is_empty();
    let last = |node: &u32| inner(node) && !children.of(*node as usize).iter().any(inner);
    let path = |node: u32| Path { node, length: depths[node as usize] + 1 };
    let paths = (0..count as u32).filter(last).map(path).collect();
    let mut ln = vec![f32::NAN; count];
    if let Some(root) = ln.first_mut() {
        *root = 0.0;
    }
    let boundary = if boundaries { vec![0.0; count] } else { Vec::new() };
    (paths, Answer::Nodes { ln, boundary, seen: vec![false; count], children })
}

/// Each distinct sequence.
fn sentences(trie: &Trie, signature: &Signature) -> Result<(Vec<Path>, Answer), String> {
    let depths = depths(trie);
    let mut paths: Vec<Path> = Vec::new();
    let mut numbers: HashMap<u32, usize> = HashMap::new();
    let mut path_of = Vec::with_capacity(trie.ends.len());
    for &end in &trie.ends {
        if end == ROOT || (signature.adds_ends && trie.token[end as usize] != signature.eos) {
            return Err("it scores whole sentences only, and this one does not end in </s>".to_owned());
        }
        let tokens = depths[end as usize];
        let length = match (signature.adds_ends, &signature.targets) {
            (true, _) => tokens - 1,
            (false, Some(_)) => tokens,
            (false, None) => tokens + 1,
        };
        path_of.push(*numbers.entry(end).or_insert_with(|| {
            paths.push(Path { node: end, length });
            paths.len() - 1
        }));
    }
    let totals = vec![0.0; paths.len()];
    Ok((paths, Answer::Sentences { totals, path_of }))
}

/// How many tokens lead to each node.
fn depths(trie: &Trie) -> Vec<usize> {
    let mut depths = vec![0usize; trie.len()];
    for node in 1..trie.len() {
        depths[node] = depths[trie.parent[node] as usize] + 1;
    }
    depths
}

impl Children {
    fn new(trie: &Trie) -> Self {
        let mut first = vec![0u32; trie.len() + 1];
        (1..trie.len()).for_each(|node| first[trie.parent[node] as usize + 1] += 1);
        (1..first.len()).for_each(|node| first[node] += first[node - 1]);
        let mut fill = first.clone();
        let mut nodes = vec![0; trie.len().saturating_sub(1)];
        for node in 1..trie.len() {
            let at = &mut fill[trie.parent[node] as usize];
            nodes[*at as usize] = node as u32;
            *at += 1;
        }
        Self { first, nodes }
    }

    fn of(&self, node: usize) -> &[u32] {
        &self.nodes[self.first[node] as usize..self.first[node + 1] as usize]
    }
}
