//! A folder that disappears with its owner, and takes along what runs in it.
//!
//! Each child writes its number into `pids/`. A guard, which is a shell that waits for the end of its standard
//! input, stands by: when the owner ends, in whatever way, the pipe closes, and the guard kills the numbers that
//! are left and removes the folder. Should the guard be killed too, the folder's lock is free, and the next
//! owner who comes by sweeps it up.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::failure::{Failure, Result, broken};
use crate::jars::root;
use crate::process::wait_a_little;

/// Waits for the end of its input. A dying broker may still write, so removing is tried more than once.
const GUARD: &str = r#"trap '' INT TERM HUP
exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-
cat >/dev/null
for attempt in 1 2 3 4 5 6 7 8 9 10; do
  for file in "$1"/pids/*; do
    if [ -e "$file" ]; then kill -KILL "${file##*/}" 2>/dev/null; fi
  done
  rm -rf "$1" 2>/dev/null && exit 0
  sleep 0.2
done"#;

/// How long [`stop`] waits for the owner's end.
const STOP_SECONDS: u64 = 20;

/// A folder, locked and guarded: it goes when this is dropped, or when this process ends in whatever way.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    /// Held for as long as the folder is ours.
    _lock: File,
    guard: Child,
}

/// Where the folders are.
fn home() -> PathBuf {
    root().join("target/kafka-run")
}

/// Makes an empty folder with a name of its own.
///
/// # Errors
///
/// [`Failure::Broken`] if it cannot be made.
pub fn new_dir(label: &str) -> Result<PathBuf> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let home = home();
    fs::create_dir_all(&home).map_err(broken(home.display()))?;
    loop {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = home.join(format!("{label}.{}-{number}", std::process::id()));
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            // Left behind by an earlier process of our number.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(broken(path.display())(error)),
        }
    }
}

impl RunDir {
    /// Takes the folder: locks it and sets the guard.
    ///
    /// # Errors
    ///
    /// [`Failure::Broken`] if another process has it, or it cannot be written to.
    pub fn take(path: PathBuf) -> Result<Self> {
        sweep();
        fs::create_dir_all(path.join("pids")).map_err(broken(path.display()))?;
        // Locked before it has its name, so that nobody who sweeps finds it free.
        let (part, name) = (path.join("lock.part"), path.join("lock"));
        if name.exists() {
            return Err(Failure::Broken(format!("another cluster lives in {}", path.display())));
        }
        let lock = File::create(&part).map_err(broken(part.display()))?;
        lock.lock().map_err(broken(part.display()))?;
        fs::rename(&part, &name).map_err(broken(name.display()))?;
        fs::write(path.join("pid"), format!("{}\n", std::process::id())).map_err(broken("the pid file"))?;
        let guard = Command::new("sh")
            .args(["-c", GUARD, "guard"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Not in our group, so that what is sent to the group leaves somebody to clean up.
            .process_group(0)
            .spawn()
            .map_err(broken("sh"))?;
        Ok(Self { path, _lock: lock, guard })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        // The same way as when we are killed: the guard does it.
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// Removes the folders whose owners are gone, and ends what still runs in them.
fn sweep() {
    let Ok(entries) = fs::read_dir(home()) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if let Ok(lock) = File::open(path.join("lock"))
            && lock.try_lock().is_ok()
        {
            remove(&path);
        }
    }
}

/// Ends the processes that a dead owner left, and removes the folder.
fn remove(path: &Path) {
    for entry in fs::read_dir(path.join("pids")).into_iter().flatten().flatten() {
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        // The number may be another process's by now; ours have the folder on their command line.
        if let Some(pid) = number.and_then(Pid::from_raw)
            && fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero()))
                .is_ok_and(|line| mentions(&line, path))
        {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    drop(fs::remove_dir_all(path));
}

fn mentions(line: &[u8], path: &Path) -> bool {
    let path = path.as_os_str().as_encoded_bytes();
    line.windows(path.len()).any(|part| part == path)
}

/// Ends the owner of a folder, waits until it is gone, and removes what is left.
///
/// # Errors
///
/// [`Failure::Broken`] if that is no such folder, or its owner does not end within 20 seconds.
pub fn stop(path: &Path) -> Result<()> {
    let pid = fs::read_to_string(path.join("pid")).ok().and_then(|text| text.trim().parse().ok());
    let (Ok(lock), Some(pid)) = (File::open(path.join("lock")), pid.and_then(Pid::from_raw)) else {
        return Err(Failure::Broken(format!("no broker in {}", path.display())));
    };
    // The lock tells whether the process that wrote its number there still lives.
    if lock.try_lock().is_err() {
        kill_process(pid, Signal::TERM).map_err(broken("the owner"))?;
        let deadline = Instant::now() + Duration::from_secs(STOP_SECONDS);
        while lock.try_lock().is_err() {
            if Instant::now() > deadline {
                return Err(Failure::Broken(format!("the broker in {} does not stop", path.display())));
            }
            wait_a_little();
        }
    }
    remove(path);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Process;

    #[test]
    fn the_folder_goes_with_its_owner_and_takes_its_processes_along() {
        let dir = RunDir::take(new_dir("test").unwrap()).unwrap();
        let path = dir.path().to_owned();
        // Left alone on purpose, as by an owner who was killed.
        let mut child = Process::spawn(&path, "sleep", Command::new("sleep").arg("600")).unwrap().leak();
        assert!(path.join("pids").join(child.id().to_string()).exists());
        drop(dir);
        assert!(!path.exists());
        assert!(!child.wait().unwrap().success(), "it was killed");
    }

    #[test]
    fn a_folder_is_taken_once() {
        let dir = RunDir::take(new_dir("test").unwrap()).unwrap();
        assert!(RunDir::take(dir.path().to_owned()).is_err());
        sweep();
        assert!(dir.path().join("pids").is_dir(), "a sweep leaves what has an owner");
    }

    #[test]
    fn a_folder_without_an_owner_is_swept() {
        let path = new_dir("test").unwrap();
        fs::write(path.join("lock"), "").unwrap();
        sweep();
        assert!(!path.exists());
    }

    #[test]
    fn nothing_is_stopped_where_nothing_runs() {
        let failure = stop(Path::new("no/such/folder")).unwrap_err();
        assert_eq!(failure, Failure::Broken("no broker in no/such/folder".to_owned()));
    }
}
