//! Child processes: each with a log, and with its number in the folder's `pids/` for the guard.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::failure::{Failure, Result, broken};

/// A build slot's lock, a test's pipes: whatever we were given must not live as long as a broker. What Rust
/// opened closes by itself; shells leave theirs open below ten.
const CLOSE_AND_BECOME: &str = r#"exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-; exec "$@""#;

/// How many lines of a log are shown when something fails: of those that tell of trouble, and of the last.
const SHOWN_LINES: usize = 20;

/// A running child. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    child: Option<Child>,
    pid_file: PathBuf,
}

impl Process {
    /// Starts `command` in `dir`, its output added to `NAME.log` there.
    pub(crate) fn spawn(dir: &Path, name: &str, command: &Command) -> Result<Self> {
        let mut shell = in_shell(command);
        let log = log_of(dir, name)?;
        shell.current_dir(dir).stdin(Stdio::null());
        shell.stdout(log.try_clone().map_err(broken("a log"))?).stderr(log);
        // What is typed at our terminal is meant for us.
        let child = shell.process_group(0).spawn().map_err(broken(name))?;
        let pid_file = dir.join("pids").join(child.id().to_string());
        let process = Self { child: Some(child), pid_file };
        fs::write(&process.pid_file, name).map_err(broken(process.pid_file.display()))?;
        Ok(process)
    }

    /// The process's number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Sends a signal, if there is still somebody to get it.
    pub(crate) fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.is_alive()
            && let Some(pid) = Pid::from_raw(self.pid() as i32)
        {
            kill_process(pid, signal).map_err(broken("a signal"))?;
        }
        Ok(())
    }

    /// Waits for the end, at most so long. Returns whether it has ended.
    pub(crate) fn ends_within(&mut self, patience: Duration) -> bool {
        let deadline = std::time::Instant::now() + patience;
        while self.is_alive() {
            if std::time::Instant::now() >= deadline {
                return false;
            }
            wait_a_little();
        }
        true
    }

    /// Lets go of it without ending it.
    #[cfg(test)]
    pub(crate) fn leak(mut self) -> Child {
        self.child.take().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
            // Only now is the number free for others.
            let _ = fs::remove_file(&self.pid_file);
        }
    }
}

/// Runs a command to its end, its output in `NAME.log`; the log's end is the error's text if it fails.
pub(crate) fn run(dir: &Path, name: &str, command: &Command) -> Result<()> {
    let mut process = Process::spawn(dir, name, command)?;
    let status = match process.child.as_mut() {
        Some(child) => child.wait().map_err(broken(name))?,
        None => return Ok(()),
    };
    if status.success() { Ok(()) } else { Err(broken(format!("{name}: {status}"))(tail(dir, name))) }
}

fn in_shell(command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", CLOSE_AND_BECOME, "sh"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

fn log_of(dir: &Path, name: &str) -> Result<File> {
    let path = dir.join(format!("{name}.log"));
    File::options().create(true).append(true).open(&path).map_err(broken(path.display()))
}

/// The lines of a log that tell of trouble, and its last ones.
pub(crate) fn tail(dir: &Path, name: &str) -> String {
    let text = fs::read(dir.join(format!("{name}.log"))).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let (before, last) = lines.split_at(lines.len().saturating_sub(SHOWN_LINES));
    let trouble = before.iter().filter(|line| {
        !line.trim_start().starts_with("at ")
            && ["ERROR", "FATAL", "Exception", "Caused by"].iter().any(|word| line.contains(word))
    });
    trouble.take(SHOWN_LINES).chain(last).fold(String::new(), |all, line| all + line + "\n")
}

/// Whether any of these words are in a log.
pub(crate) fn log_has(dir: &Path, name: &str, words: &[&str]) -> bool {
    let text = fs::read(dir.join(format!("{name}.log"))).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    words.iter().any(|words| text.contains(words))
}

/// Whether a failure, or a log, tells that somebody else had the port.
pub(crate) fn lost_its_port(failure: &Failure, dir: &Path) -> bool {
    if failure.to_string().contains("Address already in use") {
        return true;
    }
    let files = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name());
    files
        .filter_map(|file| file.to_str().and_then(|name| name.strip_suffix(".log")).map(str::to_owned))
        .any(|name| log_has(dir, &name, &["BindException", "Address already in use"]))
}

/// The pause between two questions to somebody who tells nothing by himself.
#[allow(clippy::disallowed_methods, reason = "a process of others has no event to wait for")]
pub fn wait_a_little() {
    std::thread::sleep(Duration::from_millis(50));
}
