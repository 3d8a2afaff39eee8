//! Child processes that cannot be forgotten: a failed one says what it wrote, a daemon ends with its owner.

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    ffi::OsStr,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

/// How often a condition of the outside world is looked at.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
/// Lines of a log that an error quotes.
const TAIL: usize = 20;

/// Runs `program` to its end without input; its standard output. A failure quotes the end of what it wrote.
pub fn run<S: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments);
    output(&mut command)
}

/// As [`run`], for a command with an environment or a folder of its own.
pub fn output(command: &mut Command) -> Result<String> {
    let shown = words(command);
    let done = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{shown}: cannot be started; is its package installed?"))?;
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    if !done.status.success() {
        let errors = String::from_utf8_lossy(&done.stderr);
        bail!("{shown}: {}\n{}", done.status, tail(&format!("{text}{errors}")));
    }
    Ok(text)
}

/// The command as a person would type it.
pub fn words(command: &Command) -> String {
    let all = std::iter::once(command.get_program()).chain(command.get_args());
    all.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// The last lines of `text`.
pub fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL);
    lines.get(from..).unwrap_or_default().join("\n")
}

/// Looks until `look` gives something, at most for `limit`.
pub fn until<T>(limit: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<Option<T>> {
    let began = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(Some(found));
        }
        if began.elapsed() > limit {
            return Ok(None);
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
}

/// A process that runs until its owner drops it. What it writes goes to a file.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
    has_workers: bool,
}

/// For a process that ends its workers.
const WORKERS_WITHIN: Duration = Duration::from_secs(5);

impl Daemon {
    /// Starts `command`; its output and errors go to `log`, made anew.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("{}: cannot be made", log.display()))?;
        let errors = file.try_clone().context("log file")?;
        let shown = words(command);
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("{shown}: cannot be started; is its package installed?"))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned(), has_workers: false })
    }

    /// It has workers that only itself can end: it is asked to (SIGTERM) before it is killed.
    #[must_use]
    pub fn with_workers(mut self) -> Self {
        self.has_workers = true;
        self
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How it ended, where it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("{}: waiting", self.name))
    }

    /// An error with the end of its log when it has ended.
    pub fn must_run(&mut self) -> Result<()> {
        if let Some(status) = self.ended()? {
            let text = std::fs::read(&self.log).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            bail!("{} has ended ({status}); {}:\n{}", self.name, self.log.display(), tail(&text));
        }
        Ok(())
    }

    /// Returns when `ready` holds; an error when the process ends before, or after `limit`.
    pub fn wait_ready(&mut self, limit: Duration, ready: impl Fn() -> bool) -> Result<()> {
        let came = until(limit, || {
            self.must_run()?;
            Ok(ready().then_some(()))
        })?;
        came.with_context(|| {
            format!("{} does not answer after {} s; see {}", self.name, limit.as_secs(), self.log.display())
        })
    }

    /// SIGKILL: what a power cut is to a VM and a crash to a server.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().with_context(|| format!("{}: kill", self.name))?;
        self.child.wait().with_context(|| format!("{}: wait", self.name))?;
        Ok(())
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        until(limit, || self.child.try_wait().context("wait"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.has_workers
            && let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
            && kill_process(pid, Signal::TERM).is_ok()
        {
            let _ = self.wait(WORKERS_WITHIN);
        }
        // It may have ended by itself; either way it is gone after this.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_quotes_what_was_written() {
        let error = run("sh", ["-c", "echo to-out; echo to-err >&2; exit 3"]).unwrap_err().to_string();
        for part in ["sh -c", "exit status: 3", "to-out", "to-err"] {
            assert!(error.contains(part), "{error}");
        }
        assert!(run("/nowhere/program", ["x"]).unwrap_err().to_string().contains("cannot be started"));
    }

    #[test]
    fn a_daemon_ends_with_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let daemon = Daemon::start("sleep", Command::new("sleep").arg("600"), &log).unwrap();
        let stat = format!("/proc/{}/stat", daemon.id());
        assert!(Path::new(&stat).exists());
        drop(daemon);
        assert!(!Path::new(&stat).exists());
    }

    #[test]
    fn a_daemon_with_workers_may_end_them() {
        let folder = tempfile::tempdir().unwrap();
        let (log, told) = (folder.path().join("log"), folder.path().join("told"));
        let script =
            format!("trap 'touch {}; exit' TERM; echo up; while :; do sleep 0.05; done", told.display());
        let mut daemon =
            Daemon::start("master", Command::new("sh").args(["-c", &script]), &log).unwrap().with_workers();
        let up = || std::fs::read_to_string(&log).is_ok_and(|said| said.contains("up"));
        daemon.wait_ready(Duration::from_secs(20), up).unwrap();
        drop(daemon);
        assert!(told.exists());
    }

    #[test]
    fn a_daemon_that_dies_is_told_with_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut daemon =
            Daemon::start("thing", Command::new("sh").args(["-c", "echo why; exit 7"]), &log).unwrap();
        let error = daemon.wait_ready(Duration::from_secs(20), || false).unwrap_err().to_string();
        assert!(error.contains("thing has ended") && error.contains("why"), "{error}");
    }
}
