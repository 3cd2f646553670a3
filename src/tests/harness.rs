//! A scratch folder and the program run in it, so that nothing can hang.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Long enough for anything here on a busy machine; a test that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(600);

/// A folder that goes with the test.
pub struct Dir(tempfile::TempDir);

/// The program with its arguments.
pub struct TestCommand {
    pub command: Command,
    stdin: Vec<u8>,
    /// Sizes of the pieces in which the input is written, in turn; empty: at once.
    pieces: Vec<usize>,
}

/// What a run left.
pub struct Output {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: String,
    pub took: Duration,
}

/// A program that runs.
pub struct Running {
    pub child: Child,
    pub stdin: Option<ChildStdin>,
    /// Lines of standard output as they come.
    pub lines: Receiver<Vec<u8>>,
}

impl Dir {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a scratch folder"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).expect("a file in the scratch folder");
        path
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).expect("a file in the scratch folder")
    }

    /// The program with these arguments.
    pub fn secondpass<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> TestCommand {
        let mut command = Command::new(env!("CARGO_BIN_EXE_secondpass"));
        command.args(arguments);
        self.other(command)
    }

    /// Another program.
    pub fn other(&self, mut command: Command) -> TestCommand {
        command.current_dir(self.0.path());
        for name in ["SECONDPASS_LOG", "SECONDPASS_MODELS", "FAILPOINTS"] {
            command.env_remove(name);
        }
        TestCommand { command, stdin: Vec::new(), pieces: Vec::new() }
    }

    /// `rescore` with the n-gram model that [`Dir::ngram`] wrote.
    pub fn rescore(&self) -> TestCommand {
        self.secondpass(["rescore", "--ngram", "lm.arpa"])
    }

    /// A folder with a small n-gram model, `lm.arpa`.
    pub fn ngram() -> Self {
        let dir = Self::new();
        dir.write("lm.arpa", crate::data::arpa());
        dir
    }
}

impl TestCommand {
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.command.args(arguments);
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// With this ONNX Runtime.
    pub fn ort(self, library: &Path) -> Self {
        self.env("ORT_DYLIB_PATH", library)
    }

    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Writes the input in pieces of these sizes, in turn.
    pub fn pieces(mut self, sizes: &[usize]) -> Self {
        self.pieces = sizes.to_vec();
        self
    }

    /// Runs to the end.
    pub fn run(mut self) -> Output {
        let started = Instant::now();
        let mut child = self.spawn();
        let mut stdin = child.stdin.take().expect("piped");
        let (bytes, pieces) = (self.stdin, self.pieces);
        let fed = thread::spawn(move || feed(&mut stdin, &bytes, &pieces));
        let stdout = gather(child.stdout.take().expect("piped"));
        let stderr = gather(child.stderr.take().expect("piped"));
        let status = wait(&mut child);
        let took = started.elapsed();
        fed.join().expect("the feeder");
        let stderr = String::from_utf8_lossy(&stderr.join().expect("standard error")).into_owned();
        Output { status, stdout: stdout.join().expect("standard output"), stderr, took }
    }

    /// Starts it; the test feeds and reads.
    pub fn start(mut self) -> Running {
        let mut child = self.spawn();
        let (sender, lines) = channel();
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        thread::spawn(move || {
            let mut line = Vec::new();
            while stdout.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                if sender.send(std::mem::take(&mut line)).is_err() {
                    break;
                }
            }
        });
        // Drained, so that it never waits for us to listen.
        child.stderr.take().map(gather);
        Running { stdin: child.stdin.take(), child, lines }
    }

    /// Starts it; nothing is read or written by itself.
    pub fn spawn(&mut self) -> Child {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.command.spawn().expect("the program starts")
    }
}

impl Running {
    pub fn write(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("still open");
        stdin.write_all(bytes).and_then(|()| stdin.flush()).expect("the program reads");
    }

    /// The next line of output.
    pub fn line(&self) -> Vec<u8> {
        self.lines.recv_timeout(LIMIT).expect("a line of output")
    }

    /// Waits for the end; the rest of the output is left in `lines`.
    pub fn end(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Output {
    /// Fails unless this was the exit code.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{} {}", self.status, self.stderr);
        self
    }

    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// Lines of standard output, with their endings.
    pub fn lines(&self) -> Vec<&[u8]> {
        self.stdout.split_inclusive(|&byte| byte == b'\n').collect()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Every line as JSON.
    pub fn json(&self) -> Vec<Value> {
        self.lines().iter().map(|line| serde_json::from_slice(line).expect("a JSON line")).collect()
    }
}

/// Sends a signal by its name.
pub fn signal(child: &Child, name: &str) {
    let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", child.id())).status();
    assert!(sent.expect("sh").success());
}

/// Waits for the end, and ends it by force when that takes too long.
#[track_caller]
pub fn wait(child: &mut Child) -> ExitStatus {
    let started = Instant::now();
    while started.elapsed() < LIMIT {
        if let Some(status) = child.try_wait().expect("a child") {
            return status;
        }
        thread::sleep(Duration::from_millis(2));
    }
    let _ = child.kill();
    let _ = child.wait();
    panic!("it hangs");
}

fn feed(stdin: &mut ChildStdin, bytes: &[u8], pieces: &[usize]) {
    let mut sizes = pieces.iter().copied().cycle();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(sizes.next().unwrap_or(rest.len()).clamp(1, rest.len()));
        // Who ends early does not read on.
        if stdin.write_all(piece).is_err() {
            return;
        }
        rest = after;
    }
}

fn gather(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}
