//! The jars of a release, from Maven Central, kept in one folder a version.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::failure::{Failure, Result, broken};
use crate::version::Version;

/// How many lines of Maven's words are shown when it fails.
const SHOWN_LINES: usize = 15;

/// The root of this repository, as it was built.
pub(crate) fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Where the jars are kept: `WEIR_KAFKA_DIR`, or `target/kafka`.
fn home() -> PathBuf {
    std::env::var_os("WEIR_KAFKA_DIR").map_or_else(|| root().join("target/kafka"), PathBuf::from)
}

/// The folder with the jars of this version and nothing else, fetched if it is not there: whole or not at all.
/// A second caller waits for the first.
///
/// # Errors
///
/// [`Failure::NotHere`] if there is no Java, no Maven, or Maven cannot get them.
pub fn fetch(version: &Version) -> Result<PathBuf> {
    let home = home();
    let dir = home.join(version.to_string());
    if dir.is_dir() {
        return Ok(dir);
    }
    let maven = need("mvn")?;
    need("java")?;
    fs::create_dir_all(&home).map_err(broken(home.display()))?;
    let lock = File::create(home.join(format!(".lock-{version}"))).map_err(broken("the lock of the jars"))?;
    lock.lock().map_err(broken("the lock of the jars"))?;
    if !dir.is_dir() {
        let part = home.join(format!(".part-{version}.{}", std::process::id()));
        let got = get(version, &maven, &part, &dir);
        drop(fs::remove_dir_all(&part));
        got?;
    }
    Ok(dir)
}

/// Fetches into a folder beside, and moves it to its place.
fn get(version: &Version, maven: &Path, part: &Path, dir: &Path) -> Result<()> {
    drop(fs::remove_dir_all(part));
    fs::create_dir_all(part).map_err(broken(part.display()))?;
    let pom = part.join("pom.xml");
    fs::write(&pom, pom_of(version)).map_err(broken(pom.display()))?;
    eprintln!("kafka: fetching {version}");
    let jars = part.join("jars");
    let output = Command::new(maven)
        .args(["-B", "-q", "-f"])
        .arg(&pom)
        .args(["dependency:copy-dependencies", "-DincludeScope=runtime"])
        .arg(format!("-DoutputDirectory={}", jars.display()))
        .stdin(Stdio::null())
        .output()
        .map_err(broken(maven.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout);
        let said: Vec<&str> = said.lines().collect();
        for line in said.iter().skip(said.len().saturating_sub(SHOWN_LINES)) {
            eprintln!("{line}");
        }
        return Err(Failure::NotHere(format!("Maven could not get {version}")));
    }
    fs::rename(&jars, dir).map_err(broken(dir.display()))
}

fn pom_of(version: &Version) -> String {
    let mut pom = String::from(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\n\
         <groupId>weir</groupId><artifactId>broker</artifactId><version>1</version><dependencies>\n",
    );
    for artifact in version.artifacts() {
        let mut parts = artifact.split(':');
        let mut next = || parts.next().unwrap_or_default();
        let (group, name, version) = (next(), next(), next());
        let _ = writeln!(
            pom,
            "<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId><version>{version}</version></dependency>"
        );
    }
    pom.push_str("</dependencies></project>\n");
    pom
}

/// A program from the search path, or the reason why a test must skip.
pub(crate) fn need(program: &str) -> Result<PathBuf> {
    find(program).ok_or_else(|| Failure::NotHere(format!("no {program}")))
}

/// Where a program is. System programs such as a KDC lie where an ordinary user's search path does not lead.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pom_names_every_artifact() {
        let pom = pom_of(&"0.11.0.3".parse().unwrap());
        assert_eq!(pom.matches("<dependency>").count(), 3);
        assert!(pom.contains("<artifactId>kafka_2.12</artifactId><version>0.11.0.3</version>"), "{pom}");
    }

    #[test]
    fn a_program_that_is_not_there_is_a_skip() {
        assert_eq!(need("no-such-program-here"), Err(Failure::NotHere("no no-such-program-here".to_owned())));
        assert!(need("sh").is_ok());
    }
}
